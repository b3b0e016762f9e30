//! The parts of the daemon that carry out steps: network, replicator, hooks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lockstep_failover::{OVERTAKEN, Outcome, Step, StepId};
use lockstep_replicator::Commit;

use super::barrier::Barrier;
use super::hooks::Hooks;
use super::{
    COMMIT_BATCH, Committed, Committing, Daemon, Effect, LOOK_EVERY, Pending, READ_AFTER, REFUSAL,
};
use crate::kernel::{Kernel, KernelChange};

impl Daemon {
    /// Answers what is not worth beginning any more.
    fn pass_overtaken(
        &mut self,
        number: usize,
        queue: impl Fn(&mut Self) -> &mut VecDeque<Pending>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let steps: Vec<Step> = queue(self).iter().map(|pending| pending.step).collect();
        let (mut place, mut passed) = (0, Vec::new());
        queue(self).retain(|Pending { id, step, .. }| {
            place += 1;
            let keep = !steps[place..].iter().any(|newer| step.is_overtaken_by(*newer));
            passed.extend((!keep).then_some(*id));
            keep
        });
        for id in passed {
            self.stepped(number, id, Outcome::Failed(OVERTAKEN.to_owned()), now, effects);
        }
    }

    pub(super) fn run_network(
        &mut self,
        number: usize,
        kernel: &mut Kernel,
        refuses: bool,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.pass_overtaken(number, |daemon| &mut daemon.network, now, effects);
        while let Some(pending) = self.network.pop_front_if(|pending| pending.due <= now) {
            match pending.step {
                Step::AddressesUp => self.wants_address = Some(pending.committed),
                Step::AddressesDown => self.wants_address = None,
                Step::HoldForwarding => self.wants_to_hold = true,
                Step::PassForwarding => self.wants_to_hold = false,
                _ => {}
            }
            if refuses || self.rng.f64() < REFUSAL {
                let outcome = Outcome::Failed("refused by the kernel".to_owned());
                self.stepped(number, pending.id, outcome, now, effects);
                continue;
            }
            match pending.step {
                Step::AddressesUp => {
                    kernel.addresses.clone_from(&self.declared);
                    effects.push(Effect::AddressUp { committed: pending.committed });
                }
                Step::AddressesDown => kernel.addresses.clear(),
                Step::HoldForwarding => kernel.holds_forwarding = true,
                Step::PassForwarding => kernel.holds_forwarding = false,
                _ => {}
            }
            self.done(number, pending.id, now, effects);
        }
        if self.look_at <= now {
            self.look_at = now + LOOK_EVERY;
            if !refuses && self.network.is_empty() {
                self.put_right(kernel, effects);
            }
        }
    }

    /// Gives the kernel the addresses that it should have, and the packet filter what is wanted of it.
    pub(super) fn put_right(&mut self, kernel: &mut Kernel, effects: &mut Vec<Effect>) {
        let is_new = !kernel.serves();
        kernel.holds_forwarding = self.wants_to_hold;
        match self.wants_address {
            Some(_) => kernel.addresses.clone_from(&self.declared),
            None => kernel.addresses.clear(),
        }
        let up = self.wants_address.filter(|_| is_new);
        effects.extend(up.map(|committed| Effect::AddressUp { committed }));
    }

    pub(super) fn run_control(
        &mut self,
        number: usize,
        hooks: &mut Hooks,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.finish_hooks(number, hooks, now, effects);
        while let Some(pending) = self.control.pop_front_if(|pending| pending.due <= now) {
            self.run_hooks(pending.id, pending.between, hooks, now);
            self.done(number, pending.id, now, effects);
        }
        self.tell_begun(number, now, effects);
    }

    pub(super) fn run_storage(
        &mut self,
        number: usize,
        kernel: &mut Kernel,
        pace: Duration,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.pass_overtaken(number, |daemon| &mut daemon.storage, now, effects);
        let cut = self.storage_due().is_some_and(|at| at <= now);
        if let Some(mut committing) = self.commit.take_if(|it| cut || it.due <= now) {
            if !cut && self.commit_batch(kernel, &mut committing.commit, now) {
                committing.due += pace;
                self.commit = Some(committing);
            } else {
                self.end_commit(number, &committing, cut, now, effects);
            }
        }
        while self.commit.is_none()
            && let Some(pending) = self.storage.pop_front_if(|pending| pending.due <= now)
        {
            self.begin_storage(number, &pending, kernel, now, effects);
        }
        if self.read_due().is_some_and(|at| at <= now) {
            self.read_kernel(kernel, now);
        }
        self.look_at_barrier(number, now, effects);
    }

    /// When a step of the replicator's begins. The active role waits for the end of a commit, as in
    /// the daemon: it forgets what the other has told.
    pub(super) fn storage_due(&self) -> Option<Instant> {
        let front = self.storage.front()?;
        (self.commit.is_none() || front.step != Step::ReplicateActive).then_some(front.due)
    }

    pub(super) fn read_due(&self) -> Option<Instant> {
        self.read_at.filter(|_| self.commit.is_none())
    }

    fn begin_storage(
        &mut self,
        number: usize,
        pending: &Pending,
        kernel: &Kernel,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        match pending.step {
            Step::CommitFlows => return self.begin_commit(Some(pending.id), now),
            Step::Barrier => return self.barrier = Some(Barrier::new(pending.id, now)),
            Step::ReplicateActive => {
                self.replicator.activate(now);
                if self.replicator.late_flows() > 0 {
                    self.begin_commit(None, now);
                } else {
                    self.read_kernel(kernel, now);
                    effects.push(Effect::Activated);
                }
            }
            _ => self.replicator.deactivate(now),
        }
        self.done(number, pending.id, now, effects);
    }

    fn begin_commit(&mut self, step: Option<StepId>, now: Instant) {
        let commit = self.replicator.begin_commit();
        self.commit = Some(Committing { step, commit, due: now });
    }

    fn end_commit(
        &mut self,
        number: usize,
        Committing { step, commit, .. }: &Committing,
        cut: bool,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.replicator.end_commit(commit.report());
        self.read_at = Some(now + READ_AFTER);
        let Some(id) = *step else {
            effects.extend((!cut).then_some(Effect::Activated));
            return;
        };
        self.committed = if cut { Committed::No } else { Committed::Yes };
        effects.extend((!cut).then_some(Effect::Committed));
        let report = commit.report().to_string();
        let outcome = if cut { Outcome::Failed(report) } else { Outcome::Done(report) };
        self.stepped(number, id, outcome, now, effects);
    }

    /// Commits one batch; whether more is left. As in the daemon, nobody listens to the kernel during
    /// a commit, so what it would tell of it is lost.
    fn commit_batch(&mut self, kernel: &mut Kernel, commit: &mut Commit, now: Instant) -> bool {
        for _ in 0..COMMIT_BATCH {
            let planned = commit.next(&self.replicator, now);
            self.replicator.follow_commit(commit);
            let Some(planned) = planned else { return false };
            drop::<Vec<KernelChange>>(kernel.carry_out(commit, planned));
        }
        true
    }

    pub(super) fn purge(&mut self, kernel: &mut Kernel, effects: &mut Vec<Effect>) {
        let Some(mut purge) = self.replicator.begin_purge() else { return };
        let mut removed = 0;
        while let Some(flow) = purge.next(&self.replicator) {
            if let Some(flow) = kernel.remove(&flow.orig) {
                let change = lockstep_replicator::Change::Delete;
                let change = KernelChange { change, flow, own: true };
                effects.push(Effect::Kernel(Box::new(change)));
                removed += 1;
            }
        }
        self.replicator.end_purge(removed);
        effects.push(Effect::Purged);
    }

    pub(super) fn read_kernel(&mut self, kernel: &Kernel, now: Instant) {
        self.read_at = None;
        loop {
            self.replicator.begin_dump();
            for flow in kernel.flows.values() {
                self.replicator.dumped(flow, now);
            }
            if self.replicator.end_dump(now) {
                return;
            }
        }
    }
}
