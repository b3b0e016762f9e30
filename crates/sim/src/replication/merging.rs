//! Two nodes that serve at once, and what becomes of the flows of the one that gives way.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lockstep_ctnetlink::Tuple;

use super::model::Said;
use super::node::Node;
use super::world::{ENDS_KNOWN, Replication, What, said};
use crate::Violation;
use crate::lan::{Cut, MAX_ROUTERS};

/// Flows that only one of two nodes has ever seen have numbers from here on.
const APART: u32 = 1_000_000;
/// And there are as many of them.
const FLOWS_APART: u32 = 300;

/// How far a run is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Act {
    /// Things go wrong, or have just been put right.
    Rough,
    /// The takeover after everything was put right is over.
    Succeeded,
    /// Two nodes have served since then with everything else in order. Flows of the one that gave way.
    Merged(Instant, BTreeSet<Tuple>),
}

/// Two nodes serve.
pub(super) struct Split {
    /// The one that will give way.
    loser: usize,
    /// Nothing else goes wrong.
    in_order: bool,
    began: Instant,
}

impl Replication {
    /// The other node serves as well, for a while.
    pub(super) fn split(&mut self) {
        let time = Duration::from_millis(self.rng.u64(20..9_000));
        if self.split.is_some() || !self.nodes[self.serving].serves {
            return;
        }
        self.begin_split(time, false);
    }

    /// The same with everything in order but, perhaps, what they tell each other.
    pub(super) fn split_in_order(&mut self) {
        self.act = Act::Merged(self.now, BTreeSet::new());
        let time = Duration::from_millis(self.rng.u64(500..15_000));
        if self.rng.bool() {
            let cut: Cut = [[true; MAX_ROUTERS]; MAX_ROUTERS];
            for lan in &mut self.lans {
                lan.part(&cut);
            }
            for link in 0..self.lans.len() {
                let after = time.mul_f64(0.5 + self.rng.f64());
                self.later(after, What::Join { link, cut });
            }
        }
        self.begin_split(time, true);
        self.later(Duration::ZERO, What::Traffic);
        self.later(Duration::from_secs(1), What::Look);
    }

    fn begin_split(&mut self, time: Duration, in_order: bool) {
        let (old, new) = (self.serving, 1 - self.serving);
        let loser = if self.rng.bool() { old } else { new };
        self.note(|_| format!("node {new} serves beside {old} for {time:?}; {loser} gives way"));
        self.outcome.splits += 1;
        self.nodes[new].take_over(self.now);
        self.serving = 1 - loser;
        self.served = said(self.nodes[self.serving].table.flows().cloned());
        self.split = Some(Split { loser, in_order, began: self.now });
        self.later(time, What::Heal);
    }

    /// Traffic at the node that will give way. Some of it the other one sees as well.
    pub(super) fn traffic_beside(&mut self, number: u32) {
        let Some(Split { loser, in_order, .. }) = self.split else { return };
        let apart = in_order && self.rng.bool();
        let number = if apart { APART + self.rng.u32(..FLOWS_APART) } else { number };
        if self.rng.u8(..10) < 2 {
            self.nodes[loser].table.expire(number, self.outcome.changes);
        } else {
            let (state, mark) = (self.rng.u8(1..9), self.rng.u32(..3));
            self.nodes[loser].traffic(number, state, mark, self.outcome.changes);
        }
    }

    /// One of them gives way, if two serve.
    pub(super) fn heal(&mut self) {
        let Some(Split { loser, in_order, began }) = self.split.take() else { return };
        self.note(|_| format!("node {loser} gives way"));
        if in_order {
            self.calm_since = self.now;
            let apart = |number: u32| crate::kernel::flow(APART + number, 0).orig;
            let table = &self.nodes[loser].table;
            let left = (0..FLOWS_APART).map(apart).filter(|orig| table.get(orig).is_some());
            self.act = Act::Merged(began, left.collect());
        }
        self.nodes[loser].step_down(self.now);
    }

    /// A flow of the node that gave way that the other one does not have.
    pub(super) fn not_merged(&self) -> Option<Tuple> {
        let Act::Merged(began, left) = &self.act else { return None };
        // Of a kernel that has told too little nobody knows which flows are young, or have ended.
        let known = |node: &Node| node.lost_events_at.is_none_or(|at| at + ENDS_KNOWN < *began);
        if !self.nodes.iter().all(known) {
            return None;
        }
        left.iter().find(|orig| !self.served.contains_key(orig)).copied()
    }

    /// What goes into a serving kernel beside its own flows is a flow that lives: another kernel made
    /// it, it has not ended since in either, and it comes as it is.
    pub(super) fn check_taken_up(&mut self, number: usize) -> Result<(), Violation> {
        for orig in std::mem::take(&mut self.nodes[number].taken_up) {
            let Some(flow) = self.nodes[number].table.get(&orig) else { continue };
            let (said, here) = (Said::of(flow), self.nodes[number].table.history(&orig));
            let lives = |node: &Node| {
                let there = node.table.history(&orig);
                there.made_at.is_some()
                    && there.made_at > there.ended_at
                    && there.made_at > here.ended_at
                    && node.table.get(&orig).is_none_or(|flow| Said::of(flow) == said)
            };
            let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != number);
            if !others.map(|(_, node)| node).any(lives) {
                let lived =
                    |node: &Node| (node.table.history(&orig), node.table.get(&orig).map(Said::of));
                let lived: Vec<_> = self.nodes.iter().map(lived).collect();
                return Err(self.violation(&format!("node {number} takes up {said:?}: {lived:?}")));
            }
            self.outcome.taken_up += 1;
            if number == self.serving {
                self.served.insert(orig, said);
            }
        }
        Ok(())
    }
}
