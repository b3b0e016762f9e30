//! What an operator has a running daemon do.

use std::time::Instant;

use lockstep_vrrp as vrrp;

use super::settings::Settings;
use super::{Daemon, Effect, GROUP, Router};
use crate::faults::Actor;

impl Router {
    /// Puts another configuration file in force; whether that was possible now. An operator tries
    /// again as long as it is not. [`Router::settle`] has to follow.
    pub(crate) fn reload(
        &mut self,
        settings: Settings,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let hangs = self.hangs_until[Actor::Network as usize].is_some();
        if self.daemon.is_some() && (hangs || self.stalled_until.is_some()) {
            return false;
        }
        self.settings = settings;
        let (settings, refuses) = (&self.settings, self.refuses_until.is_some());
        if let Some(daemon) = &mut self.daemon {
            // The network comes first, so that an address is there before anybody hears of it.
            daemon.declared.clone_from(&settings.addresses);
            if !refuses && daemon.network.is_empty() {
                daemon.put_right(&mut self.kernel, effects);
            }
            daemon.configure(self.number, settings, now, effects);
        }
        true
    }

    /// Has its group be handed over; whether that has begun.
    pub(crate) fn switch_over(
        &mut self,
        force: bool,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let (number, stalls) = (self.number, self.stalled_until.is_some());
        let Some(daemon) = self.daemon.as_mut().filter(|_| !stalls) else { return false };
        let begun = daemon.failover.switchover(GROUP, force, now);
        let has_begun = begun.is_ok();
        daemon.perform_all(number, &begun.unwrap_or_default(), now, effects);
        self.settle(now, effects);
        has_begun
    }

    /// Keeps it from being master from now on, or no more.
    pub(crate) fn maintain(
        &mut self,
        since: Option<String>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.maintenance.clone_from(&since);
        if let Some(daemon) = &mut self.daemon {
            daemon.maintain(self.number, since, now, effects);
        }
        self.settle(now, effects);
    }
}

impl Daemon {
    fn configure(
        &mut self,
        number: usize,
        settings: &Settings,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let event = vrrp::Event::Configure(Box::new(settings.election()));
        let actions = self.election.handle(event, now);
        self.carry_out(number, actions, now, effects);
        let actions = self.failover.configure(&settings.failover(), now);
        self.perform_all(number, &actions, now, effects);
        let limit = settings.limits.commit;
        let before = std::mem::replace(&mut self.commit_limit, limit);
        let began = self.commit_until.and_then(|until| until.checked_sub(before));
        self.commit_until = began.map(|began| began + limit);
    }

    pub(super) fn maintain(
        &mut self,
        number: usize,
        since: Option<String>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let actions = self.failover.maintain(GROUP, since, now);
        self.perform_all(number, &actions.expect("it is there"), now, effects);
    }
}
