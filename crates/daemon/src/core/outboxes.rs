//! The ways from the core to the other threads.

use std::collections::BTreeSet;

use lockstep_failover::{Group, Outcome, Step, StepId};
use tokio::sync::{mpsc, watch};

use super::outbox::Outbox;
use crate::journal::News;
use crate::messages::{ControlRequest, GroupStep, HookRequest, NetworkRequest, ReplicatorRequest};

/// The other threads.
pub(crate) struct Actors {
    /// Links, addresses, routes, rules.
    pub network: mpsc::Sender<NetworkRequest>,
    /// Flow replication, when configured.
    pub replicator: Option<mpsc::Sender<ReplicatorRequest>>,
    /// Hooks.
    pub control: mpsc::Sender<ControlRequest>,
    /// Whoever writes the journal down.
    pub journal: watch::Sender<News>,
}

/// What waits for each of the other threads.
pub(super) struct Outboxes {
    network: Outbox<GroupStep, NetworkRequest>,
    replicator: Option<Outbox<GroupStep, ReplicatorRequest>>,
    control: Outbox<HookRequest, ControlRequest>,
    /// The virtual routers whose addresses are to follow their groups.
    admitted: Vec<String>,
    pub(super) journal: watch::Sender<News>,
    /// The groups of which somebody wants to be told.
    hooked: BTreeSet<String>,
}

impl Outboxes {
    pub(super) fn new(actors: Actors, config: &lockstep_config::Config) -> Self {
        let Actors { network, replicator, control, journal } = actors;
        Self {
            network: Outbox::new(network, NetworkRequest::Steps),
            replicator: replicator.map(|to| Outbox::new(to, ReplicatorRequest::Steps)),
            control: Outbox::new(control, ControlRequest::Hooks),
            admitted: Vec::new(),
            journal,
            hooked: hooked(config),
        }
    }

    /// Takes another configuration's hooks.
    pub(super) fn configure(&mut self, config: &lockstep_config::Config) {
        self.hooked = hooked(config);
    }

    /// A step of links, addresses, routes and rules.
    pub(super) fn network(&mut self, step: GroupStep) {
        self.network.put(step.group.clone(), step.step, step);
    }

    /// The addresses of a virtual router follow its group from now on.
    pub(super) fn admit(&mut self, virtual_router: String) {
        self.admitted.push(virtual_router);
    }

    /// A step of the replicator's; its outcome when there is no replicator.
    pub(super) fn replicator(&mut self, id: StepId, group: String, step: Step) -> Option<Outcome> {
        let Some(replicator) = &mut self.replicator else {
            return Some(Outcome::Done("no replication configured".to_owned()));
        };
        replicator.put(group.clone(), step, GroupStep { id, group, step });
        None
    }

    /// The hook of a new state; its outcome when the group has no hooks at all.
    pub(super) fn hook(&mut self, hook: HookRequest) -> Option<Outcome> {
        if !self.hooked.contains(&hook.group) {
            return Some(Outcome::Done("none configured".to_owned()));
        }
        self.control.put(hook.group.clone(), Step::Hooks, hook);
        None
    }

    /// Sends what waits and finds room; returns the steps whose thread has ended.
    pub(super) fn send(&mut self) -> Vec<StepId> {
        if !self.admitted.is_empty() && self.network.tell(NetworkRequest::Admit, &self.admitted) {
            self.admitted.clear();
        }
        let network = self.network.send().into_iter().map(|step| step.id);
        let replicator = self.replicator.as_mut().map(Outbox::send).unwrap_or_default();
        let control = self.control.send().into_iter().map(|hook| hook.id);
        network.chain(replicator.into_iter().map(|step| step.id)).chain(control).collect()
    }

    /// Waits until [`Outboxes::send`] can do something; for ever when nothing waits.
    pub(super) async fn ready(&self) {
        let replicator = async {
            match &self.replicator {
                Some(replicator) => replicator.ready(false).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.network.ready(!self.admitted.is_empty()) => {}
            () = replicator => {}
            () = self.control.ready(false) => {}
        }
    }
}

/// The groups of which somebody is told: hooks of theirs, or whoever reads the pipe.
fn hooked(config: &lockstep_config::Config) -> BTreeSet<String> {
    let all = config.notify_fifo.is_some();
    let hooked = config.failover.groups.iter().filter(|group| all || has_hooks(group));
    hooked.map(|group| group.name.clone()).collect()
}

fn has_hooks(group: &Group) -> bool {
    let members = group.virtual_routers.iter().map(|member| &member.notify);
    members.chain([&group.notify]).any(|notify| !notify.is_empty())
}
