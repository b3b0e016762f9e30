//! The barrier of a hand-over, as the daemon's replicator thread judges it.

use std::time::{Duration, Instant};

use lockstep_failover::{Outcome, StepId};
use lockstep_replicator::{PeerState, Role};

use super::{Daemon, Effect};

/// How long a peer may take.
const LIMIT: Duration = Duration::from_secs(5);

/// A barrier that has not been reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Barrier {
    id: StepId,
    began: Instant,
    /// From when on nothing of the time before waits to be sent.
    told_at: Option<Instant>,
}

impl Barrier {
    pub(super) fn new(id: StepId, now: Instant) -> Self {
        Self { id, began: now, told_at: None }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.began + LIMIT
    }
}

impl Daemon {
    /// Answers the barrier when it is reached, or cannot be.
    pub(super) fn look_at_barrier(
        &mut self,
        number: usize,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Some(mut barrier) = self.barrier.take() else { return };
        match self.judge(&mut barrier, now) {
            Some(outcome) => self.stepped(number, barrier.id, outcome, now, effects),
            None => self.barrier = Some(barrier),
        }
    }

    fn judge(&self, barrier: &mut Barrier, now: Instant) -> Option<Outcome> {
        let failed = |why: &str| Some(Outcome::Failed(why.to_owned()));
        if self.replicator.role() != Role::Active {
            return failed("this router is not the active one");
        }
        let peers = self.replicator.peers(now);
        let Some(peer) = peers.iter().find(|peer| peer.ever_heard && !peer.silent) else {
            return failed("nobody is there");
        };
        let told = is_told(peer);
        if barrier.told_at.is_none() && told && self.replicator.knows_its_kernel() {
            barrier.told_at = Some(now);
        }
        let since = barrier.told_at.map(|at| now.saturating_duration_since(at));
        let holds = |since| told && (peer.unacknowledged == 0 || peer.peer_behind.time < since);
        if since.is_some_and(holds) {
            return Some(Outcome::Done(String::new()));
        }
        if now >= barrier.deadline() { failed("the peer lacks flows") } else { None }
    }
}

fn is_told(peer: &PeerState) -> bool {
    let copying = peer.peer_behind.messages > peer.unacknowledged as u64;
    peer.established && peer.waiting == 0 && !copying
}
