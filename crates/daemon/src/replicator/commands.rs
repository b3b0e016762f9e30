//! What people ask for.

use std::time::Instant;

use lockstep_failover::Outcome;

use super::Actor;
use crate::control::protocol::{Cache, Caches, Done, Stored, What};
use crate::messages::{Asked, Command, Entries};

impl Actor {
    /// Does what is asked; the answer says what has happened, or why nothing has.
    pub(super) fn command(&mut self, command: Command) -> Result<Done, String> {
        let now = Instant::now();
        match command {
            Command::Commit(What::Flows | What::All) => match self.commit() {
                Outcome::Done(summary) => {
                    Ok(done(summary, [("flows", self.replicator.last_committed())]))
                }
                Outcome::Pending(reason) | Outcome::Failed(reason) => Err(reason),
            },
            Command::Commit(What::Expectations) => Err("there are no expectations".to_owned()),
            Command::Flush(which) => Ok(self.flush(which)),
            Command::Resync => {
                self.need_peer()?;
                self.replicator.request_resync(now);
                Ok(done("the peer is asked for its flows", []))
            }
            Command::Bulk => {
                self.need_peer()?;
                self.replicator.send_everything();
                let flows = self.replicator.internal_len() as u64;
                Ok(done(format!("{flows} flows are told to the peer"), [("flows", flows)]))
            }
            Command::Reread => {
                let read = self.read_table();
                read.map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
                let flows = self.replicator.internal_len() as u64;
                Ok(done(format!("{flows} flows read"), [("flows", flows)]))
            }
            Command::Purge | Command::KernelFlush(_) => {
                Err("flows leave the kernel only after a transition".to_owned())
            }
        }
    }

    fn need_peer(&self) -> Result<(), String> {
        let peer = self.replicator.peer(Instant::now());
        match peer.filter(|peer| !peer.silent) {
            Some(_) => Ok(()),
            None => Err("no peer is there".to_owned()),
        }
    }

    fn flush(&mut self, which: Caches) -> Done {
        let internal = self.replicator.internal_len() as u64;
        let external = self.replicator.external_len() as u64;
        if which != Caches::External {
            self.replicator.flush_internal();
            self.redump();
        }
        if which != Caches::Internal {
            self.replicator.flush_external();
        }
        let counts = match which {
            Caches::Internal => vec![("internal", internal)],
            Caches::External => vec![("external", external)],
            Caches::Both => vec![("internal", internal), ("external", external)],
        };
        done("forgotten; the internal cache is read again from the kernel", counts)
    }

    /// A part of a cache.
    pub(super) fn entries(&self, asked: Asked) -> Entries {
        let after = asked.after.unwrap_or(0) as usize;
        let mut flows: Vec<_> = match (asked.kind, asked.cache) {
            (Stored::Expectations, _) => return Entries::default(),
            (Stored::Flows, Cache::Internal) => {
                self.replicator.internal_flows().skip(after).take(asked.limit + 1).collect()
            }
            (Stored::Flows, Cache::External) => {
                self.replicator.external_flows().skip(after).take(asked.limit + 1).collect()
            }
        };
        let more = flows.len() > asked.limit;
        flows.truncate(asked.limit);
        let next = more.then_some((after + flows.len()) as u64);
        Entries {
            flows: flows.into_iter().map(|flow| (flow, 0)).collect(),
            next,
            ..Entries::default()
        }
    }
}

fn done<'a>(summary: impl Into<String>, counts: impl IntoIterator<Item = (&'a str, u64)>) -> Done {
    let counts = counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    Done { summary: summary.into(), counts }
}
