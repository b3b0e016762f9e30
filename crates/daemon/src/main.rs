//! The binary `lockstep`: the command line, and the wiring of the daemon's threads.

fn main() {}
