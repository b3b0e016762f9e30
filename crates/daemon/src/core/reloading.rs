//! Another configuration: what goes leaves first, what comes listens first.

use std::time::{Duration, Instant};

use lockstep_config::{Config, Leaving};
use lockstep_failover::State;
use lockstep_failover::group::Group;
use tokio::sync::oneshot;
use tracing::warn;

use super::Core;
use crate::network;

/// How long a reload waits for the hooks of a group that goes, while others run.
const HOOK_PATIENCE: Duration = Duration::from_secs(10);

impl Core {
    /// Has everything leave that another configuration does not have; `answer` hears when it has.
    pub(super) fn leave(&mut self, leaving: Leaving, answer: oneshot::Sender<()>) {
        let Leaving { groups, virtual_routers } = leaving;
        let actions = self.failover.leave(&groups, &virtual_routers, Instant::now());
        self.carry_out(actions);
        self.leaving = Some((answer, None));
    }

    /// Says when everything has left. A hook of somebody else that hangs is not waited for long.
    pub(super) fn let_go(&mut self) {
        let now = Instant::now();
        let Some((_, hooks_until)) = &mut self.leaving else { return };
        if !self.failover.has_let_go() {
            return;
        }
        let hooks_wait = !self.failover.has_left();
        if hooks_wait && now < *hooks_until.get_or_insert(now + HOOK_PATIENCE) {
            return;
        }
        if hooks_wait {
            warn!("a hook of a group that is left is not run: another one runs for too long");
        }
        if let Some((asker, _)) = self.leaving.take() {
            // An asker that no longer waits is no concern of the core.
            let _ = asker.send(());
        }
    }

    /// Takes other settings. The elections learn their own first: what tracking does to a priority is
    /// told anew.
    pub(super) fn configure(&mut self, config: &Config, arriving: Vec<String>) {
        // It is told by places, which are others afterwards.
        self.send();
        let now = Instant::now();
        self.outboxes.configure(config);
        self.memory.configure(config);
        self.elections.configure(&config.virtual_routers, now);
        let actions = self.failover.configure(&config.failover, now);
        self.carry_out(actions);
        self.arriving.extend(arriving);
        self.arriving.retain(|name| self.failover.group_of(name).is_some());
        self.announcing.leave_out(&self.arriving);
        self.keep_out();
        // Whoever is concerned only now has not heard of them.
        let concerned = network::interfaces_of(config);
        self.interfaces.retain(|name, _| concerned.contains(name));
        self.announcing.retain(&concerned);
        for state in self.interfaces.clone().into_values() {
            self.interface(&state);
        }
        // Of who has come from another group everything is known already.
        for (virtual_router, usable) in self.elections.all_usable() {
            self.usable(virtual_router, usable);
        }
        let failover = &self.failover;
        let serves =
            |group: &str| failover.group(group).is_some_and(|group| group.state() == State::Master);
        self.announcing.configure(config, serves, now);
    }

    /// Lets the addresses of those that have come follow their groups: of who is master, and in a group
    /// that has none up.
    pub(super) fn admit(&mut self) {
        if self.arriving.is_empty() {
            return;
        }
        let (failover, elections) = (&self.failover, &self.elections);
        let is_served = |group: &Group| group.state() == State::Master || !group.is_settled();
        let waits = |name: &String| {
            failover.group_of(name).is_some_and(is_served) && !elections.is_master(name)
        };
        for name in self.arriving.extract_if(.., |name| !waits(name)) {
            self.outboxes.admit(name);
        }
        self.announcing.leave_out(&self.arriving);
    }
}
