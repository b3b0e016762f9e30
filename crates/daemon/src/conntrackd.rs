//! The name `conntrackd`: scripts that call conntrackd's command line reach this daemon.
//!
//! The same executable under another name. It takes conntrackd's options, asks the Lockstep daemon
//! and prints in conntrackd's own form. Unlike conntrackd it says by its exit status whether what
//! was asked for has been done.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;

use crate::cli::output::{ReaderGone, print};
use crate::cli::{dump, dump_parts};
use crate::control::client::Client;
use crate::control::protocol::{Caches, Done, Form, Request, Stored, What};
use crate::status::Replication;

mod options;
mod socket;
mod statistics;
mod xml;

use options::{Action, Call, USAGE};

/// What the program is called to be this one.
pub(crate) const NAME: &str = "conntrackd";

/// The call was not understood.
const EXIT_USAGE: u8 = 2;

/// Whether the program was called by this name.
pub(crate) fn is_meant() -> bool {
    let name = std::env::args_os().next();
    name.as_deref().and_then(|name| Path::new(name).file_name()).is_some_and(|name| name == NAME)
}

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let call = match options::parse(&words) {
        Ok(call) => call,
        Err(problem) => {
            complain(&problem);
            complain_plainly(USAGE);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match perform(&call) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<ReaderGone>() => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn perform(call: &Call) -> anyhow::Result<()> {
    match call.action {
        Action::Help => return print(&format!("{}\n{USAGE}", version())),
        Action::Version => return print(&format!("{}\n", version())),
        _ => {}
    }
    let found = socket::find(&call.configuration)?;
    match call.action {
        Action::Help | Action::Version => Ok(()),
        Action::Daemon => match found.client() {
            Ok(_) => print("lockstep runs already\n"),
            Err(error) => Err(error.context(
                "conntrackd is part of lockstep here, which the service manager starts \
                 (systemctl start lockstep)",
            )),
        },
        Action::Kill => bail!(
            "lockstep does more than conntrackd did, and only the service manager stops it \
             (systemctl stop lockstep)"
        ),
        Action::Commit(what) => order(&mut found.client()?, &Request::ReplicationCommit { what }),
        Action::Flush(which) => order(&mut found.client()?, &Request::ReplicationFlush { which }),
        Action::FlushKernel(what) => {
            order(&mut found.client()?, &Request::ReplicationKernelFlush { what })
        }
        Action::Reread(what) => order(&mut found.client()?, &Request::ReplicationReread { what }),
        Action::Bulk => order(&mut found.client()?, &Request::ReplicationBulk {}),
        Action::Resync => order(&mut found.client()?, &Request::ReplicationResync {}),
        Action::Purge => order(&mut found.client()?, &Request::ReplicationPurge {}),
        Action::Statistics(what) => {
            let replication: Replication = found.client()?.ask(&Request::Replication {})?;
            print(&statistics::text(&replication, what))
        }
        Action::Dump { cache, kind } => {
            let mut client = found.client()?;
            if call.xml {
                let mut lines = crate::cli::output::Lines::new();
                dump_parts(&mut client, cache, kind, Form::Json, |entry| {
                    lines.write(&match kind {
                        Stored::Flows => xml::flow(entry),
                        Stored::Expectations => xml::expectation(entry),
                    })
                })?;
                return lines.flush();
            }
            dump(&mut client, cache, kind, Form::Text)
        }
    }
}

/// Has the daemon do something. As with conntrackd nothing is printed when it is done.
fn order(client: &mut Client, request: &Request) -> anyhow::Result<()> {
    client.ask::<Done>(request).map(drop)
}

fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "Connection tracking userspace daemon (lockstep {version}, in place of conntrackd 1.4.7)"
    )
}

/// One line on standard error, and nowhere when that is gone.
fn complain(problem: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{NAME}: {problem}");
}

fn complain_plainly(text: &str) {
    let _ = write!(std::io::stderr().lock(), "{text}");
}

impl From<options::Table> for What {
    fn from(table: options::Table) -> Self {
        match table {
            options::Table::Both => Self::All,
            options::Table::Flows => Self::Flows,
            options::Table::Expectations => Self::Expectations,
        }
    }
}

impl From<options::CacheName> for Caches {
    fn from(cache: options::CacheName) -> Self {
        match cache {
            options::CacheName::Both => Self::Both,
            options::CacheName::Internal => Self::Internal,
            options::CacheName::External => Self::External,
        }
    }
}
