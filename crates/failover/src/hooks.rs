//! What hooks are told, and which of them runs next: one at a time in the whole daemon, in the order
//! of the transitions, and at the end one for the real state.
//!
//! Two hooks of one router at the same time undo each other's work, and a slow hook of an old state
//! that ends after the hook of the newest leaves the router arranged for the wrong state. So a hook
//! that is due while another runs waits, a newer one of the same place in the configuration takes
//! its place, and one for the state whose hook has just succeeded there is not run again.

mod notice;
mod queue;

use std::time::Duration;

pub use notice::{Member, Notice, Transition, notices};
pub use queue::{Form, Hook, HookQueue, Undeclared};

/// How long a hook may run when the configuration does not say.
///
/// Hooks that restart services take tens of seconds; one that never returns holds up all others.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(2);
