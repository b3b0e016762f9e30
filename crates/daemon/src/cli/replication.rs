//! `lockstep replication`: the state, the counters and the caches of flow replication, and what a
//! person can have it do.

use clap::{Args, Subcommand, ValueEnum};

use super::output::{Page, print, print_json};
use super::{Ask, Socket};
use crate::control::client::Client;
use crate::control::protocol::{Cache, Caches, Done, Form, Request, Stored, What};
use crate::status::Replication;

mod dump;
mod show;
mod statistics;

pub(crate) use dump::{dump, parts};
pub(super) use show::describe;

/// What can be asked of replication.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show role, peers, links and caches, and whether everything has arrived
    Status(Ask),
    /// Show every counter, by what it counts (conntrackd -s)
    Statistics(Ask),
    /// Put what the peers have told into the kernel (conntrackd -c)
    Commit {
        /// Flows or expectations only; flows, then expectations, without it
        part: Option<Part>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Empty the caches; the internal one is read again from the kernel (conntrackd -f)
    Flush {
        /// One of them only
        cache: Option<Which>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Ask the peers for everything they have (conntrackd -n)
    Resync(Ask),
    /// Tell the peers everything this router has (conntrackd -B)
    Bulk(Ask),
    /// Read the kernel's tables into the internal cache (conntrackd -R)
    Reread {
        /// Flows or expectations only; both without it
        part: Option<Part>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Remove what is replicated from the kernel when the purge timeout has passed (conntrackd -t)
    Purge(Ask),
    /// Show what the kernel has told (conntrackd -i)
    Internal(Content),
    /// Show what the peers have told (conntrackd -e)
    External(Content),
}

/// A part of what is replicated.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Part {
    Flows,
    Expectations,
}

/// A cache.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Which {
    Internal,
    External,
}

/// What of a cache is shown.
#[derive(Args, Debug)]
pub(super) struct Content {
    /// Expectations instead of flows
    #[arg(long)]
    expectations: bool,
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn perform(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Status(ask) => {
            let replication = state(ask)?;
            if ask.json {
                return print_json(&replication);
            }
            let mut page = Page::new();
            show::describe(&mut page, &replication);
            page.print()
        }
        Command::Statistics(ask) => {
            let replication = state(ask)?;
            if ask.json {
                return print_json(&statistics::value(&replication)?);
            }
            let mut page = Page::new();
            statistics::describe(&mut page, &replication);
            page.print()
        }
        Command::Commit { part, ask } => {
            order(ask, &Request::ReplicationCommit { what: what(*part) })
        }
        Command::Flush { cache, ask } => {
            let which = match cache {
                None => Caches::Both,
                Some(Which::Internal) => Caches::Internal,
                Some(Which::External) => Caches::External,
            };
            order(ask, &Request::ReplicationFlush { which })
        }
        Command::Resync(ask) => order(ask, &Request::ReplicationResync {}),
        Command::Bulk(ask) => order(ask, &Request::ReplicationBulk {}),
        Command::Reread { part, ask } => {
            order(ask, &Request::ReplicationReread { what: what(*part) })
        }
        Command::Purge(ask) => order(ask, &Request::ReplicationPurge {}),
        Command::Internal(content) => content.show(Cache::Internal),
        Command::External(content) => content.show(Cache::External),
    }
}

fn what(part: Option<Part>) -> What {
    match part {
        None => What::All,
        Some(Part::Flows) => What::Flows,
        Some(Part::Expectations) => What::Expectations,
    }
}

impl Content {
    fn show(&self, cache: Cache) -> anyhow::Result<()> {
        let kind = if self.expectations { Stored::Expectations } else { Stored::Flows };
        let form = if self.ask.json { Form::Json } else { Form::Text };
        dump(&mut self.ask.socket.client()?, cache, kind, form)
    }
}

fn state(ask: &Ask) -> anyhow::Result<Replication> {
    ask.socket.client()?.ask(&Request::Replication {})
}

/// Has the daemon do something, and tells what has happened.
fn order(ask: &Ask, request: &Request) -> anyhow::Result<()> {
    let done: Done = ask.socket.client()?.ask(request)?;
    if ask.json { print_json(&done) } else { print(&format!("{}\n", done.summary)) }
}

/// Shows everything as metrics.
pub(super) fn metrics(socket: &Socket) -> anyhow::Result<()> {
    print(&crate::metrics::text(&socket.client()?.ask(&Request::Status {})?)?)
}

impl Socket {
    fn client(&self) -> anyhow::Result<Client> {
        Client::connect(&self.socket)
    }
}
