//! Flows into the kernel and out of it again: where a commit and a purge begin and end.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use lockstep_ctnetlink::Flow;

use super::Replicator;
use super::peer::Peer;
use crate::commit::{Commit, CommitPart, CommitReport, Purge};
use crate::config::{Config, Standby};
use crate::event::{Event, Role};
use crate::internal::{Local, Past};
use crate::key::Key;
use crate::resync::Resync;
use crate::table::Slot;
use crate::wire::{self, Change, Flags};

/// Time before a purge that was not finished goes on.
const PURGE_AGAIN: Duration = Duration::from_secs(1);

impl Replicator {
    /// Begins to put the external flows into the kernel; a purge that waits or is due is called off.
    pub fn begin_commit(&mut self) -> Commit {
        self.begin_commit_of(CommitPart::All)
    }

    /// [`Replicator::begin_commit`] of a part only. Expectations alone are no step towards the
    /// active role: nothing else follows from their commit.
    pub fn begin_commit_of(&mut self, part: CommitPart) -> Commit {
        if part == CommitPart::Expectations {
            return Commit::of(part);
        }
        self.call_off_purge();
        if self.late_flows() > 0 {
            self.external.begin_late_commit();
            return Commit::of(part);
        }
        self.committing = true;
        if self.config.shares() {
            self.uptake.open();
        }
        self.tells_removals = false;
        if self.external.injection.enabled() {
            self.finish_sweeps();
            self.external.injection.begin_commit();
            self.external.expectations.begin_noting();
        } else {
            self.external.begin_commit();
        }
        Commit::of(part)
    }

    /// A commit has ended, or was cut short.
    pub fn end_commit(&mut self, report: &CommitReport) {
        if report.part == CommitPart::Expectations {
            self.counters.commit_refused += report.refused();
            return;
        }
        if self.external.commits_late() {
            self.external.forget_late();
            self.external.clear();
            self.last_committed += report.committed();
            // The kernel tells this router's own doing to nobody.
            self.send_everything();
        } else {
            self.external.end_commit();
            self.uptake.commit_ends();
            if self.role == Role::Active {
                // Nothing is late for who has the role.
                self.external.forget_late();
            }
            self.external.injection.end_commit();
            self.forget_left_overs(&report.removed);
            self.counters.committed_deleted += report.left_over;
            self.last_committed = report.committed();
        }
        self.counters.committed_deleted += report.deleted;
        self.counters.committed += report.committed();
        self.counters.committed_updated += report.updated;
        self.counters.committed_replaced += report.replaced;
        self.counters.commit_unchanged += report.unchanged;
        self.counters.commit_refused += report.refused();
    }

    /// Flows and expectations of which the peers spoke between the end of the last commit and the active role, when
    /// this router stands by in its cache: they are kept for another commit, which is to be begun
    /// now. 0 when there is nothing to do.
    pub fn late_flows(&self) -> usize {
        if self.role == Role::Active { self.external.late() } else { 0 }
    }

    /// Forgets what a commit under way has removed so far, so that its end need not forget all of it
    /// at once.
    pub fn follow_commit(&mut self, commit: &mut Commit) {
        let removed = commit.take_removed();
        self.forget_left_overs(&removed);
    }

    /// What the commit has removed is told to nobody, least of all as new.
    fn forget_left_overs(&mut self, removed: &[(Slot, Key)]) {
        for (slot, key) in removed {
            let is_it = |entry: &Local| {
                entry.stage.is_alive() && entry.past.is_untouched() && entry.stored.is(key)
            };
            if self.internal.table.get(*slot).is_some_and(is_it) {
                let learned = self.internal.bury(*slot, true, &mut self.counters);
                self.tell(learned);
            }
        }
    }

    /// Whether a flow that the peers have not told can be taken to have ended: this router stands
    /// by, and who serves, or served until it fell silent, has told everything it has. A peer that
    /// has told nothing knows nothing.
    pub(crate) fn knows_what_lives(&self) -> bool {
        let matters = |peer: &&Peer| peer.present() || self.external.has_told(peer.index);
        let mut matter = self.peers.iter().filter(matters);
        let lacks = |peer: &Peer| self.external.lacks(peer.index);
        let serves = |peer: &Peer| !peer.unproven && self.external.confirmed(peer.index) > 0;
        self.role == Role::Backup
            && !self.external.table.is_refusing()
            && matter.clone().all(|peer| {
                peer.has_told_everything() && !self.begins_to_tell(peer) && !lacks(peer)
            })
            && matter.any(serves)
    }

    /// Whether who serves has had the time to tell what lives of this. A new active router reads
    /// its kernel's table first.
    pub(crate) fn outlived(&self, past: Past) -> bool {
        past.is_untouched() && (past == Past::Found || self.just_left_until.is_none())
    }

    /// Whether what a commit puts into the kernel comes beside flows that this router serves.
    pub(crate) fn spares_own(&self) -> bool {
        self.role == Role::Active && !self.external.commits_late()
    }

    /// Whether a router that served would have told this flow: not one of this router's own, nor
    /// one that the wire has no words for.
    pub(crate) fn would_be_told(&self, flow: &Flow) -> bool {
        let told =
            || wire::encode_flow_message(Change::New, Flags::default(), 0, flow, &mut Vec::new());
        self.selection.takes(flow) && !self.selection.is_local(flow) && told().is_ok()
    }

    /// Whether what was ours is to be removed from the kernel now: true from [`crate::Event::PurgeDue`]
    /// until the purge begins or this router is about to serve again.
    pub fn purge_wanted(&self) -> bool {
        self.purge_wanted
    }

    /// Begins to remove what was ours from the kernel; `None` when that is not wanted (any more).
    pub fn begin_purge(&mut self) -> Option<Purge> {
        let wanted = std::mem::take(&mut self.purge_wanted);
        self.committing &= !wanted;
        if wanted {
            // What they would be told leaves.
            self.peers.iter_mut().for_each(|peer| peer.heir = false);
        }
        wanted.then(Purge::default)
    }

    /// A purge has removed this many flows, and all it had to.
    pub fn end_purge(&mut self, removed: u64) {
        self.purge_asked = false;
        self.counters.purged += removed;
    }

    /// A purge has removed this many flows and could not go on: it is wanted again a little later.
    pub fn put_off_purge(&mut self, removed: u64, now: Instant) {
        self.counters.purged += removed;
        if self.role == Role::Backup {
            self.purge_at = Some(now + PURGE_AGAIN);
        }
    }

    /// The settings.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Why the flows of the time as active router stay in the kernel although the time of their purge
    /// has come; `None` when no purge is put off.
    pub fn purge_put_off(&self) -> Option<String> {
        if !self.purge_put_off {
            return None;
        }
        Some(match self.successor() {
            Successor::Known => "a peer serves: they are removed now".to_owned(),
            Successor::Absent => "no peer is there, so nobody else is known to serve".to_owned(),
            Successor::Tells(address) => {
                format!("the flows of the peer {} have not all arrived", named(address))
            }
            Successor::Heir(address) => {
                format!("the peer {} has not been told all of them yet", named(address))
            }
            Successor::Silent(address) => format!(
                "the peer {} has told no flows, so nobody else is known to serve",
                named(address)
            ),
        })
    }

    /// Who serves in this router's place, as far as that is known.
    fn successor(&self) -> Successor {
        let present = || self.peers.iter().filter(|peer| peer.present());
        let tells = |peer: &&Peer| peer.resync != Resync::Complete || self.begins_to_tell(peer);
        if let Some(peer) = present().find(tells) {
            return Successor::Tells(peer.address());
        }
        let inherits = |peer: &&Peer| peer.conversation.bequeaths();
        if let Some(peer) = present().find(inherits) {
            return Successor::Heir(peer.address());
        }
        let serves = |peer: &Peer| !peer.unproven && self.external.confirmed(peer.index) > 0;
        if present().any(serves) {
            return Successor::Known;
        }
        present().next().map_or(Successor::Absent, |peer| Successor::Silent(peer.address()))
    }

    /// What was this router's own stays in its kernel until a peer has told what lives on with it:
    /// where nobody serves, these are the only ones there are.
    pub(super) fn purge_is_due(&mut self, now: Instant) {
        self.purge_put_off = !self.purge_asked && self.successor() != Successor::Known;
        if self.purge_put_off {
            self.purge_at = Some(now + PURGE_AGAIN);
            return;
        }
        self.purge_at = None;
        self.purge_wanted = true;
        self.push(Event::PurgeDue);
    }

    /// What an earlier life of this router has left parked in the kernel goes as well.
    pub(super) fn purge_left_overs(&mut self, now: Instant) {
        if self.config.standby == Standby::Kernel
            && self.role == Role::Backup
            && self.purge_at.is_none()
            && !self.purge_wanted
        {
            self.purge_at = Some(now + self.config.purge_timeout);
        }
    }

    pub(super) fn call_off_purge(&mut self) {
        self.purge_at = None;
        self.purge_wanted = false;
        self.purge_asked = false;
        self.purge_put_off = false;
    }
}

/// Who serves when this router does not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Successor {
    /// One of the peers, all of which have told what they have.
    Known,
    /// No peer is there.
    Absent,
    /// This peer serves, and has not been told everything that this router had served.
    Heir(Option<IpAddr>),
    /// This peer has not told everything yet.
    Tells(Option<IpAddr>),
    /// This peer has told everything, and that was nothing: it stands by, too, as far as is known.
    Silent(Option<IpAddr>),
}

fn named(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "?".to_owned(), |address| address.to_string())
}
