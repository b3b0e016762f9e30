//! The binary `lockstep`: the command line, and the wiring of the daemon's threads.

use std::process::ExitCode;

mod checks;
mod cli;
mod conntrack;
mod control;
mod core;
mod demo;
mod hooks;
mod logging;
mod messages;
mod network;
mod process;
mod replicator;
mod run;
mod status;
mod tracking;

fn main() -> ExitCode {
    cli::main()
}
