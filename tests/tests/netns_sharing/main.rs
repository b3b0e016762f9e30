//! More than one router that serves, on the real kernel.

mod merging;
mod sharing;
