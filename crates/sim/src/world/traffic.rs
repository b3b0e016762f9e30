//! Connections through the routers, and of the routers themselves.

use std::time::Duration;

use lockstep_ctnetlink::Flow;
use lockstep_replicator::Change;

use super::{What, World};
use crate::invariants::Violation;
use crate::kernel::{KernelChange, flow, own_flow};

/// Most flows at once; more would only take longer.
const MAX_FLOWS: usize = 120;
/// Most of a router itself.
const MAX_OWN: usize = 4;

impl World {
    /// Connections come, change and go wherever the address is.
    pub(super) fn traffic(&mut self) -> Result<(), Violation> {
        let untouched = self.invariants.check_own_flows(&self.routers);
        self.judge(untouched)?;
        for number in 0..2 {
            if self.routers[number].kernel.serves() {
                self.pass_through(number);
            }
            if self.rng.u8(..20) == 0 {
                self.log_in_or_out(number);
            }
        }
        let pause = Duration::from_millis(self.rng.u64(1..60));
        self.later(pause, What::Traffic);
        Ok(())
    }

    fn pass_through(&mut self, number: usize) {
        let own = |key: &_| self.invariants.own_flows(number).any(|own| own == key);
        let keys = self.routers[number].kernel.flows.keys();
        let keys: Vec<_> = keys.filter(|key| !own(key)).copied().collect();
        let choice = self.rng.u8(..10);
        let known = (!keys.is_empty()).then(|| keys[self.rng.usize(..keys.len())]);
        let (change, flow) = match (choice, known) {
            (0..=4, _) if keys.len() < MAX_FLOWS => {
                self.flows_made += 1;
                self.outcome.flows += 1;
                (Change::New, flow(self.flows_made, 1))
            }
            (0..=7, Some(key)) => {
                let mut flow = self.routers[number].kernel.flows[&key].clone();
                flow.mark = Some(self.rng.u32(..8));
                (Change::Update, flow)
            }
            (_, Some(key)) => (Change::Delete, self.routers[number].kernel.flows[&key].clone()),
            (_, None) => return,
        };
        if change == Change::Delete {
            self.invariants.forget_flow(&flow.orig);
        }
        self.change(number, change, flow);
    }

    /// An operator's connection to the router, which nobody else is told of.
    fn log_in_or_out(&mut self, number: usize) {
        let own: Vec<_> = self.invariants.own_flows(number).copied().collect();
        let (change, flow) = if own.len() < MAX_OWN && self.rng.bool() {
            self.logins += 1;
            (Change::New, own_flow(number, self.logins))
        } else if let Some(key) = own.first() {
            (Change::Delete, self.routers[number].kernel.flows[key].clone())
        } else {
            return;
        };
        self.invariants.own_flow(number, flow.orig, change == Change::New);
        self.change(number, change, flow);
    }

    fn change(&mut self, number: usize, change: Change, flow: Flow) {
        let kernel = &mut self.routers[number].kernel;
        if change == Change::Delete {
            kernel.remove(&flow.orig);
        } else {
            kernel.put(flow.clone());
        }
        self.tell_kernel_event(number, Box::new(KernelChange { change, flow, own: false }));
    }
}
