//! The barrier of a hand-over: a peer has acknowledged every change that it was told until now.

use std::time::{Duration, Instant};

use lockstep_failover::{Outcome, StepId};
use lockstep_replicator::{Mode, PeerState, Role};

use super::Actor;
use crate::messages::CoreEvent;

/// How long a peer may take. One that is well acknowledges within a second.
const LIMIT: Duration = Duration::from_secs(5);

/// A barrier that has not been reached.
#[derive(Debug)]
pub(super) struct Barrier {
    pub(super) id: StepId,
    began: Instant,
    /// From when on nothing of the time before waits to be sent.
    told_at: Option<Instant>,
}

impl Actor {
    /// What has happened until now is told first.
    pub(super) fn begin_barrier(&mut self, id: StepId) {
        self.listen_to_all();
        let now = Instant::now();
        self.barrier = Some(Barrier { id, began: now, told_at: None });
    }

    pub(super) fn barrier_deadline(&self) -> Option<Instant> {
        self.barrier.as_ref().map(|barrier| barrier.began + LIMIT)
    }

    /// Answers the barrier when it is reached, or cannot be.
    pub(super) async fn look_at_barrier(&mut self) {
        let Some(mut barrier) = self.barrier.take() else { return };
        match self.judge_barrier(&mut barrier) {
            Some(outcome) => {
                self.tell(CoreEvent::Stepped(vec![(barrier.id, outcome)])).await;
            }
            None => self.barrier = Some(barrier),
        }
    }

    fn judge_barrier(&self, barrier: &mut Barrier) -> Option<Outcome> {
        let now = Instant::now();
        if self.replicator.role() != Role::Active {
            return Some(Outcome::Failed("this router is not the active one".to_owned()));
        }
        let peers = self.replicator.peers(now);
        let present = || peers.iter().filter(|peer| peer.ever_heard && !peer.silent);
        if present().next().is_none() {
            return Some(Outcome::Failed(self.replicator.sync_state().reason));
        }
        let told = present().any(is_told);
        if barrier.told_at.is_none() && told && self.replicator.knows_its_kernel() {
            barrier.told_at = Some(now);
        }
        let holds = |peer: &&PeerState| {
            let since = barrier.told_at.map(|at| now.saturating_duration_since(at));
            is_told(peer)
                && since
                    .is_some_and(|since| peer.unacknowledged == 0 || peer.peer_behind.time < since)
        };
        let took = now.saturating_duration_since(barrier.began);
        if let Some(peer) = present().find(holds) {
            let flows = self.replicator.internal_len();
            let word = match self.config.mode {
                Mode::Ftfw => "has acknowledged everything",
                Mode::Notrack | Mode::Alarm => {
                    "was told everything (its mode acknowledges nothing)"
                }
            };
            return Some(Outcome::Done(format!("{} {word}: {flows} flows", peer.address)));
        }
        if took < LIMIT {
            return None;
        }
        let reason = self.replicator.sync_state().reason;
        Some(Outcome::Failed(format!(
            "no peer holds every flow within {} s: {reason}",
            LIMIT.as_secs()
        )))
    }
}

/// Whether a peer knows us, and nothing waits to be sent to it: neither a change nor a copy of all.
fn is_told(peer: &PeerState) -> bool {
    let copying = peer.peer_behind.messages > peer.unacknowledged as u64;
    peer.established && peer.waiting == 0 && !copying
}
