//! Replicated flows leave the kernel: after leaving mastership, or because a person wants it.

use std::time::Instant;

use lockstep_ctnetlink::{Batch, Expectation};
use lockstep_kernel::conntrack::TableError;
use lockstep_replicator::Purge;
use tracing::{info, warn};

use super::commands::done;
use super::{Actor, PIECE, Person};

/// A removal under way.
pub(super) struct Removal {
    what: Removed,
    batch: Batch,
    pub(super) removed: u64,
    /// Flows there were when it began.
    pub(super) total: u64,
    pub(super) cause: Cause,
}

/// What is removed.
enum Removed {
    /// The flows that this gives out.
    Flows(Purge),
    /// The rest of these.
    Expectations(std::vec::IntoIter<Expectation>),
}

/// Why something is removed.
pub(super) enum Cause {
    /// This router serves no more.
    Purge,
    /// A person wants it, and waits.
    Person(Person),
}

impl Actor {
    /// Begins to remove what was ours when we left the active role, if its time has come.
    pub(super) fn begin_purge(&mut self) {
        if self.removal.is_none()
            && let Some(purge) = self.replicator.begin_purge()
        {
            self.begin_removal(purge, Cause::Purge);
        }
    }

    /// Begins to remove these flows from the kernel.
    pub(super) fn begin_removal(&mut self, purge: Purge, cause: Cause) {
        let total = self.replicator.internal_len() as u64;
        let what = Removed::Flows(purge);
        self.removal = Some(Removal { what, batch: Batch::new(), removed: 0, total, cause });
    }

    /// Begins to remove what the kernel expects, and leaves the flows.
    pub(super) fn begin_expectation_removal(&mut self, all: Vec<Expectation>, person: Person) {
        let (total, cause) = (all.len() as u64, Cause::Person(person));
        let what = Removed::Expectations(all.into_iter());
        self.removal = Some(Removal { what, batch: Batch::new(), removed: 0, total, cause });
    }

    /// This router is about to serve: its flows stay.
    pub(super) fn call_off_purge(&mut self) {
        if let Some(removal) = self.removal.take_if(|removal| matches!(removal.cause, Cause::Purge))
        {
            self.replicator.put_off_purge(removal.removed, Instant::now());
        }
    }

    /// A piece of the removal under way.
    pub(super) fn do_removal(&mut self) {
        let Some(mut removal) = self.removal.take() else { return };
        let until = Instant::now() + PIECE;
        loop {
            match self.remove_batch(&mut removal) {
                Ok(false) => return self.end_removal(removal),
                Ok(true) if Instant::now() >= until => break,
                Ok(true) => {}
                Err(error) => return self.fail_removal(removal, error),
            }
        }
        self.removal = Some(removal);
    }

    /// Removes some, or looks at many that stay; `false` when none is left.
    fn remove_batch(&mut self, removal: &mut Removal) -> Result<bool, TableError> {
        let Removal { what, batch, removed, .. } = removal;
        batch.clear();
        while !batch.is_full() {
            let added = match what {
                Removed::Flows(purge) => {
                    let Some(flow) = purge.step(&self.replicator) else { break };
                    batch.delete(&flow.key(), flow.id)
                }
                Removed::Expectations(rest) => {
                    let Some(it) = rest.next() else { break };
                    batch.delete_expectation(&it.key(), it.id)
                }
            };
            debug_assert!(added, "the batch was not full");
        }
        if batch.is_empty() {
            return Ok(matches!(what, Removed::Flows(purge) if purge.has_more()));
        }
        // One that is gone already has ended by itself.
        let failures = self.table.execute(batch)?;
        *removed += (batch.len() - failures.len()) as u64;
        Ok(true)
    }

    fn end_removal(&mut self, removal: Removal) {
        let removed = removal.removed;
        let flows = matches!(removal.what, Removed::Flows(_));
        match removal.cause {
            Cause::Purge => info!(removed, "flows of the time as master removed from the kernel"),
            Cause::Person(person) => {
                let named = if flows { "flows" } else { "expectations" };
                info!(removed, "replicated {named} removed from the kernel, as asked for");
                let answer = done(format!("{removed} {named} removed"), [("removed", removed)]);
                // Whoever asked may have given up.
                drop(person.send(Ok(answer)));
            }
        }
        if flows {
            self.replicator.end_purge(removed);
        }
    }

    fn fail_removal(&mut self, removal: Removal, error: TableError) {
        let error = anyhow::Error::new(error);
        warn!("flows cannot be removed from the kernel: {error:#}");
        self.reopen_table();
        match removal.cause {
            Cause::Purge => self.replicator.put_off_purge(removal.removed, Instant::now()),
            Cause::Person(person) => {
                if matches!(removal.what, Removed::Flows(_)) {
                    self.replicator.end_purge(removal.removed);
                }
                let answer = format!("{} removed; then {error:#}", removal.removed);
                drop(person.send(Err(answer)));
            }
        }
    }
}
