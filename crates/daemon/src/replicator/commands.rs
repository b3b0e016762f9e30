//! What people ask for on the control socket.

use std::time::Instant;

use lockstep_ctnetlink::Expectation;
use lockstep_replicator::{CommitPart, Expectations, Role};

use super::removal::Cause;
use super::{Actor, Person};
use crate::control::protocol::{Cache, Caches, Done, Stored, What};
use crate::messages::{Asked, Command, Entries};

/// Most people who wait for the end of one job; the control socket has no more connections, but
/// who gives up and asks again counts twice.
const MOST_PEOPLE: usize = 64;

const BUSY: &str = "too many wait for this already";
const COMMITTING: &str = "a commit is under way";

impl Actor {
    /// Does what is asked, or begins it; the answer comes at its end and says what has happened, or
    /// why nothing has.
    pub(super) fn command(&mut self, command: Command, person: Person) {
        let answer = match command {
            Command::Commit(what) => return self.commit_for(what, person),
            Command::Reread(What::Expectations)
                if self.config.expectations == Expectations::Off =>
            {
                Err("expectations are not replicated".to_owned())
            }
            Command::Reread(what) => return self.read_for(what, person),
            Command::KernelFlush(what) => return self.flush_kernel_for(what, person),
            Command::Flush(_) if self.commit.is_some() => Err(COMMITTING.to_owned()),
            Command::Flush(which) => Ok(self.flush(which)),
            Command::Resync => self.ask_peers(),
            Command::Bulk => self.tell_everything(),
            Command::Purge => self.purge_later(),
        };
        // Whoever asked may have given up.
        drop(person.send(answer));
    }

    fn commit_for(&mut self, what: What, person: Person) {
        let part = match what {
            What::All => CommitPart::All,
            What::Flows => CommitPart::Flows,
            What::Expectations => CommitPart::Expectations,
        };
        match &mut self.commit {
            None => self.begin_commit(part, Vec::new(), vec![person]),
            Some(commit) if !commit.includes(part) => refuse(person, COMMITTING),
            Some(commit) if commit.people.len() < MOST_PEOPLE => commit.people.push(person),
            Some(_) => refuse(person, BUSY),
        }
    }

    /// A reading under way may be past what has changed since, so another one follows it.
    pub(super) fn read_for(&mut self, what: What, person: Person) {
        if self.readers.len() >= MOST_PEOPLE {
            return refuse(person, BUSY);
        }
        let nothing_else = self.redump_at.is_none() || self.wished == Some(what);
        self.wished = nothing_else.then_some(what);
        self.readers.push(person);
        self.redump_at = Some(Instant::now());
    }

    fn flush_kernel_for(&mut self, what: What, person: Person) {
        if self.commit.is_some() {
            return refuse(person, COMMITTING);
        }
        if self.removal.is_some() {
            return refuse(person, "flows are being removed from the kernel already");
        }
        if what == What::Expectations {
            // Flows take what they expect along.
            let expected = self.replicator.internal_expectations().cloned().collect();
            return self.begin_expectation_removal(expected, person);
        }
        let everything = self.replicator.begin_kernel_flush();
        self.begin_removal(everything, Cause::Person(person));
    }

    fn flush(&mut self, which: Caches) -> Done {
        let internal = self.replicator.internal_len() as u64;
        let external = self.replicator.external_len() as u64;
        let mut counts = Vec::new();
        if which != Caches::External {
            self.replicator.flush_internal();
            // What is in the kernel is replicated, flushed or not.
            self.read_anew();
            counts.push(("internal", internal));
        }
        if which != Caches::Internal {
            self.replicator.flush_external();
            counts.push(("external", external));
        }
        let summary = match which {
            Caches::Internal => format!("{internal} internal flows forgotten; they are read again"),
            Caches::External => format!("{external} external flows forgotten"),
            Caches::Both => format!(
                "{internal} internal and {external} external flows forgotten; \
                 the kernel's are read again"
            ),
        };
        done(summary, counts)
    }

    fn ask_peers(&mut self) -> Result<Done, String> {
        self.need_peer()?;
        self.replicator.request_resync(Instant::now());
        Ok(done("the peer is asked for its flows", []))
    }

    fn tell_everything(&mut self) -> Result<Done, String> {
        self.need_peer()?;
        if self.replicator.role() == Role::Backup {
            return Err(
                "this router stands by and tells no flows; the one that serves does".to_owned()
            );
        }
        self.replicator.send_everything();
        let flows = self.replicator.internal_len() as u64;
        Ok(done(format!("{flows} flows are told to the peer"), [("flows", flows)]))
    }

    fn purge_later(&mut self) -> Result<Done, String> {
        if self.replicator.role() == Role::Active {
            return Err("this router serves with these flows; they leave with its role".to_owned());
        }
        let summary = if self.replicator.request_purge(Instant::now()) {
            "the flows leave the kernel when the purge timeout has passed"
        } else {
            "a purge waits already: the flows leave the kernel when the purge timeout has passed \
             and a peer is known to serve"
        };
        Ok(done(summary, []))
    }

    fn need_peer(&self) -> Result<(), String> {
        let peers = self.replicator.peers(Instant::now());
        let present = peers.iter().any(|peer| peer.ever_heard && !peer.silent);
        present.then_some(()).ok_or_else(|| "no peer is there".to_owned())
    }

    /// A part of a cache.
    pub(super) fn entries(&self, asked: Asked) -> Entries {
        let Asked { cache, kind, after, limit } = asked;
        let now = Instant::now();
        let from = after.unwrap_or(0) as usize;
        let (flows, next) = match (kind, cache) {
            (Stored::Expectations, Cache::Internal) => {
                return expectations(self.replicator.internal_expectations(), from, limit);
            }
            (Stored::Expectations, Cache::External) => {
                return expectations(self.replicator.external_expectations(), from, limit);
            }
            (Stored::Flows, Cache::Internal) => self.replicator.internal_part(from, limit, now),
            (Stored::Flows, Cache::External) => self.replicator.external_part(from, limit, now),
        };
        Entries { flows, next: next.map(|next| next as u64), ..Entries::default() }
    }
}

/// There are few of them, and nobody notes when they change.
fn expectations<'a>(
    all: impl Iterator<Item = &'a Expectation>,
    from: usize,
    limit: usize,
) -> Entries {
    let mut rest = all.skip(from);
    let part = rest.by_ref().take(limit).cloned().collect();
    let next = rest.next().map(|_| (from + limit) as u64);
    Entries { expectations: part, next, ..Entries::default() }
}

fn refuse(person: Person, reason: &str) {
    // Whoever asked may have given up.
    drop(person.send(Err(reason.to_owned())));
}

/// The answer to what has been done.
pub(super) fn done<'a>(
    summary: impl Into<String>,
    counts: impl IntoIterator<Item = (&'a str, u64)>,
) -> Done {
    let counts = counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    Done { summary: summary.into(), counts }
}
