//! The command line: what can be called, and the exit status.

use std::io::Write as _;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::logging::Patience;
use crate::{conntrack, logging};

pub(crate) mod output;

mod check;
mod explain;
mod journal;
mod reload;
mod replication;
mod routes;
mod status;
mod switchover;

pub(crate) use check::{BadConfiguration, default_state_directory, load, meaning, reread};
pub(crate) use replication::{dump, parts as dump_parts};

/// Where the daemon listens unless it is told otherwise.
pub(crate) const SOCKET: &str = "/run/lockstep/lockstep.sock";

/// Where the configuration is unless it is told otherwise.
const CONFIGURATION: &str = "/etc/lockstep/lockstep.toml";

/// The configuration is bad (`EX_CONFIG`): starting again does not help.
const EXIT_BAD_CONFIGURATION: u8 = 78;

/// Makes two or more Linux routers behave as one.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version, disable_help_subcommand = true)]
struct Arguments {
    /// What is logged to standard error: error, warn, info, debug, trace, or a list of filters; or
    /// set the variable `LOCKSTEP_LOG`
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    Run {
        /// The configuration
        #[arg(long, value_name = "FILE", default_value = CONFIGURATION)]
        config: PathBuf,
        #[command(flatten)]
        socket: Socket,
        /// Run without the guard that starts the daemon again when it is killed
        #[arg(long)]
        unsupervised: bool,
        /// This is the daemon of a guard, whose record it has inherited under this number
        #[arg(long, hide = true, value_name = "NUMBER", conflicts_with = "unsupervised")]
        guarded: Option<RawFd>,
    },
    /// Take away what a daemon has left that was killed; refuses while one is at work
    Release {
        /// The configuration, which says what follows a master and what stays
        #[arg(long, value_name = "FILE", default_value = CONFIGURATION)]
        config: PathBuf,
        #[command(flatten)]
        socket: Socket,
        /// Everything that is lockstep's, also what is wanted always
        #[arg(long)]
        all: bool,
    },
    /// Show every problem of a configuration; exit status 78 when there is one
    Check {
        /// The configuration
        file: PathBuf,
        /// Show what it would change about the running daemon, and what of that needs a restart
        #[arg(long)]
        diff: bool,
        #[command(flatten)]
        socket: Socket,
    },
    /// Have the daemon read its configuration again; all of it comes into force, or nothing does
    Reload(Ask),
    /// Let a router fail under live connections, in networks of its own, and see what becomes of them
    Demo(crate::demo::Options),
    /// Show groups, virtual routers, replication, routes, checks and hooks, and why each is as it is
    Status {
        /// Only this group or virtual router
        name: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Tell why this router is master or not, now, and what would change that
    Explain {
        /// Only this group
        group: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Show the last transitions: when, why, and how long each step took
    Journal {
        /// Go on and show each transition as it happens
        #[arg(long)]
        follow: bool,
        #[command(flatten)]
        ask: Ask,
    },
    /// Hand the mastership of a group over to a router that holds every flow
    Switchover(switchover::Options),
    /// Keep groups from being master while somebody works on this router
    Maintenance(switchover::MaintenanceOptions),
    /// Show every declared link, address, route and rule, and why what is missing is missing
    Routes(routes::Options),
    /// Show the replication of flows, or have something done about it
    #[command(subcommand)]
    Replication(replication::Command),
    /// Show groups, virtual routers, what is declared and replication as metrics, for Prometheus
    Metrics(Socket),
    /// Show what the kernel tracks; needs no daemon
    #[command(subcommand)]
    Conntrack(Box<conntrack::Command>),
}

/// Where the daemon listens.
#[derive(Args, Debug)]
pub(crate) struct Socket {
    /// The daemon's control socket
    #[arg(long, value_name = "SOCKET", default_value = SOCKET)]
    socket: PathBuf,
}

/// Options of a command that asks the daemon.
#[derive(Args, Debug)]
pub(crate) struct Ask {
    #[command(flatten)]
    socket: Socket,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Ends the process with this status; whatever there was to say has been said.
#[derive(Debug)]
pub(crate) struct Ended(pub(crate) u8);

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit status {}", self.0)
    }
}

impl std::error::Error for Ended {}

/// Parses the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Command::Conntrack(command) = &arguments.command
        && let Some(mistake) = command.contradiction()
    {
        Arguments::command().error(ErrorKind::ArgumentConflict, mistake).exit();
    }
    let patience = match arguments.command {
        Command::Run { .. } => Patience::NeverWaits,
        _ => Patience::Waits,
    };
    // The log of a daemon is written by a thread, which must not take what is meant for the guard.
    let kept = match arguments.command {
        Command::Run { guarded: None, unsupervised: false, .. } => crate::guard::keep_signals(),
        _ => Ok(()),
    };
    let log = kept.and_then(|()| logging::start(arguments.log.as_deref(), patience));
    let result = log.and_then(|log| {
        let result = perform(arguments.command);
        // Before the complaint, which is the last line and does not pass through the log.
        drop(log);
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<output::ReaderGone>() => ExitCode::SUCCESS,
        Err(error) if error.is::<Ended>() => {
            ExitCode::from(error.downcast_ref::<Ended>().map_or(1, |ended| ended.0))
        }
        Err(error) => {
            let bad_configuration = error.is::<BadConfiguration>();
            complain(&error, bad_configuration);
            if bad_configuration {
                ExitCode::from(EXIT_BAD_CONFIGURATION)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// One clear line, or the diagnostics as they are. When standard error is gone nobody is there to
/// complain to.
fn complain(error: &anyhow::Error, as_it_is: bool) {
    let mut stderr = std::io::stderr().lock();
    let _ = if as_it_is {
        writeln!(stderr, "{error}")
    } else {
        writeln!(stderr, "lockstep: {error:#}")
    };
}

fn perform(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run { config, socket, unsupervised, guarded } => {
            if guarded.is_some() || unsupervised {
                crate::run::run(&config, &socket.socket, guarded)
            } else {
                crate::guard::run(&config, &socket.socket)
            }
        }
        Command::Release { config, socket, all } => {
            crate::release::command(&config, &socket.socket, all)
        }
        Command::Demo(options) => crate::demo::demo(&options),
        Command::Check { file, diff: false, .. } => check::check(&file),
        Command::Check { file, diff: true, socket } => reload::compare(&file, &socket),
        Command::Reload(ask) => reload::reload(&ask),
        Command::Status { name, ask } => status::show(name.as_deref(), &ask),
        Command::Explain { group, ask } => explain::show(group.as_deref(), &ask),
        Command::Journal { follow, ask } => journal::show(follow, &ask),
        Command::Switchover(options) => switchover::switchover(&options),
        Command::Maintenance(options) => switchover::maintenance(&options),
        Command::Routes(options) => routes::perform(&options),
        Command::Replication(command) => replication::perform(&command),
        Command::Metrics(socket) => replication::metrics(&socket),
        Command::Conntrack(command) => conntrack::perform(&command),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_state_that_does_not_exist_is_a_usage_error_that_names_those_that_do() {
        let error = Arguments::try_parse_from(["lockstep", "routes", "--state", "absent"])
            .expect_err("no such state");
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        for state in ["installed", "pending", "conflicting", "failed"] {
            assert!(text.contains(state), "{text}");
        }
    }

    #[test]
    fn routes_are_filtered_by_several_words_and_diff_takes_none() {
        for call in [
            "lockstep routes",
            "lockstep routes --state pending --state failed --table 2 --interface eth2 --json",
            "lockstep routes diff --json --socket /tmp/s",
        ] {
            assert!(Arguments::try_parse_from(call.split(' ')).is_ok(), "{call}");
        }
        let call = "lockstep routes --state failed diff";
        assert!(Arguments::try_parse_from(call.split(' ')).is_err(), "{call}");
    }

    #[test]
    fn the_reference_names_every_command_and_option() {
        let reference = include_str!("../../../docs/reference/commands.md");
        let mut missing = Vec::new();
        for (call, command) in calls("lockstep", &Arguments::command()) {
            if !reference.contains(&format!("### `{call}")) {
                missing.push(call);
            }
            let options = command.get_arguments().filter(|option| !option.is_hide_set());
            for option in options.filter_map(clap::Arg::get_long) {
                if !reference.contains(&format!("--{option}")) {
                    missing.push(format!("--{option}"));
                }
            }
        }
        assert!(missing.is_empty(), "docs/reference/commands.md does not name {missing:?}");
    }

    /// The commands that do something, with the words that call them.
    fn calls(words: &str, command: &clap::Command) -> Vec<(String, clap::Command)> {
        let alone = (words.to_owned(), command.clone());
        if !command.has_subcommands() {
            return vec![alone];
        }
        let itself =
            (words != "lockstep" && !command.is_subcommand_required_set()).then_some(alone);
        let visible = command.get_subcommands().filter(|inner| !inner.is_hide_set());
        let inner =
            visible.flat_map(|inner| calls(&format!("{words} {}", inner.get_name()), inner));
        itself.into_iter().chain(inner).collect()
    }
}
