//! The binary `lockstep`: the command line, and the wiring of the daemon's threads. Called by the
//! name `conntrackd` it understands that program's command line.

use std::process::ExitCode;

mod checks;
mod cli;
mod conntrack;
mod conntrackd;
mod control;
mod core;
mod demo;
mod guard;
mod hooks;
mod journal;
mod logging;
mod maintenance;
mod messages;
mod metrics;
mod network;
mod process;
mod release;
mod reload;
mod replicator;
mod run;
mod service;
mod status;
mod tracking;

fn main() -> ExitCode {
    if conntrackd::is_meant() {
        return conntrackd::main();
    }
    cli::main()
}
