//! The core thread: VRRP elections and the failover state machine.
//!
//! Owns the advertisement sockets and the timers, so that an advertisement is never late because
//! flows are committed, tables dumped or hooks run: those are other threads' work, asked for with
//! messages that never wait. `vrrp` and `failover` decide; only when announcements are made again is
//! decided here.

mod election;
mod outbox;
mod outboxes;
mod report;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::Context;
use lockstep_failover::{Action, Event, Failover, Outcome, State, Step, VirtualRouterEvent};
use lockstep_routes::{Address, When};
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use crate::messages::{CoreEvent, GroupStep, HookRequest, InterfaceState, LinkState};
use crate::tracking;
use election::Elections;
pub(crate) use outboxes::Actors;
use outboxes::Outboxes;

/// Announcements after the first, counted from the `announce` step: a neighbour may have lost one.
const ANNOUNCE_AGAIN: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(5)];
/// Most packets heard before an overdue timer is acted on, so that a flood cannot silence a master.
const LISTEN_LIMIT: usize = 64;
/// A shutdown takes no longer, whatever an actor does.
const STOP_LIMIT: Duration = Duration::from_secs(8);

/// The core at work.
pub(crate) struct Core {
    failover: Failover,
    elections: Elections,
    /// The addresses each group serves as master, to be announced.
    addresses: BTreeMap<String, Vec<Address>>,
    interfaces: BTreeMap<String, InterfaceState>,
    announcements: Vec<Announcement>,
    stopped: Vec<String>,
    outboxes: Outboxes,
}

/// An announcement to be repeated.
struct Announcement {
    group: String,
    began: Instant,
    /// How many of [`ANNOUNCE_AGAIN`] are out.
    repeated: usize,
}

impl Core {
    /// Everything in `init`; nothing is sent before [`Core::run`].
    pub(crate) fn new(config: &lockstep_config::Config, actors: Actors) -> Self {
        let now = Instant::now();
        let mut addresses: BTreeMap<String, Vec<Address>> = BTreeMap::new();
        for address in &config.declared.addresses {
            let condition = &address.condition;
            if let (When::Master, Some(group)) = (condition.when, &condition.group) {
                addresses.entry(group.clone()).or_default().push(address.clone());
            }
        }
        Self {
            failover: Failover::new(&config.failover, now),
            elections: Elections::new(&config.virtual_routers),
            addresses,
            interfaces: BTreeMap::new(),
            announcements: Vec::new(),
            stopped: Vec::new(),
            outboxes: Outboxes::new(actors, &config.failover),
        }
    }

    /// Runs until every group has handed over after [`CoreEvent::Stop`].
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<CoreEvent>) -> anyhow::Result<()> {
        self.feed(Event::Start);
        let mut stop_by: Option<Instant> = None;
        loop {
            let deadline = self.next_deadline().into_iter().chain(stop_by).min();
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.timeout();
            }
            self.give_out();
            let deadline = self.next_deadline().into_iter().chain(stop_by).min();
            tokio::select! {
                biased;
                event = inbox.recv() => {
                    let event = event.context("every other thread has ended")?;
                    if matches!(event, CoreEvent::Stop) {
                        stop_by.get_or_insert(Instant::now() + STOP_LIMIT);
                    }
                    self.take(event);
                }
                () = self.outboxes.ready() => {}
                heard = self.elections.receive() => self.hear(&heard),
                () = sleep_until(deadline) => {}
            }
            if self.stopped.len() == self.failover.groups().len() && stop_by.is_some() {
                return Ok(());
            }
            if stop_by.is_some_and(|limit| Instant::now() >= limit) {
                anyhow::bail!("not everything could be handed over within {STOP_LIMIT:?}");
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let announcements = self.announcements.iter().filter_map(Announcement::due);
        self.failover
            .next_deadline()
            .into_iter()
            .chain(self.elections.next_deadline())
            .chain(announcements)
            .min()
    }

    /// What waits in the sockets is older than the timer: a late thread listens before it acts.
    fn timeout(&mut self) {
        for _ in 0..LISTEN_LIMIT {
            let Some(heard) = self.elections.try_receive() else { break };
            self.hear(&heard);
        }
        let now = Instant::now();
        let observed = self.elections.timeout(now);
        self.observe(observed);
        self.feed(Event::Timeout);
        self.repeat_announcements(now);
        if self.elections.retry_is_due(now) {
            for state in self.interfaces.clone().into_values() {
                self.interface(&state);
            }
        }
    }

    fn hear(&mut self, heard: &election::Heard) {
        let observed = self.elections.hear(heard, Instant::now());
        self.observe(observed);
    }

    fn observe(&mut self, observed: Vec<(String, VirtualRouterEvent)>) {
        for (name, event) in observed {
            self.feed(Event::VirtualRouter { name, event });
        }
    }

    fn take(&mut self, event: CoreEvent) {
        match event {
            CoreEvent::Stepped(answers) => {
                for (id, outcome) in answers {
                    self.feed(Event::Stepped { id, outcome });
                }
            }
            CoreEvent::Interface(state) => self.interface(&state),
            CoreEvent::Check { name, success, detail } => {
                self.feed(Event::Check { name, success, detail });
            }
            CoreEvent::Tracked { subject, seen, detail } => {
                info!(%subject, detail, "tracked");
                self.feed(Event::Tracked { subject, seen, detail });
            }
            CoreEvent::InSync { in_sync, reason } => {
                info!(in_sync, reason, "replication");
                self.feed(Event::InSync(in_sync));
            }
            CoreEvent::Restored { group } => {
                warn!(group, "an address was gone and has been put back");
                self.announce_again(&group);
            }
            CoreEvent::HookEnded { group, result } => debug!(group, ?result, "hook ended"),
            // An asker that no longer waits is no concern of the core.
            CoreEvent::Status(answer) => drop(answer.send(self.status())),
            CoreEvent::Journal(answer) => drop(answer.send(self.journal())),
            CoreEvent::Stop => self.feed(Event::Stop),
        }
    }

    fn interface(&mut self, state: &InterfaceState) {
        let now = Instant::now();
        for (virtual_router, usable) in self.elections.interface(state, now) {
            self.feed(Event::Interface { virtual_router, usable });
        }
        self.feed(tracking::interface(state));
        let before = self.interfaces.insert(state.name.clone(), state.clone());
        if is_new_to_neighbours(before.and_then(|state| state.link).as_ref(), state.link.as_ref()) {
            let served = |addresses: &Vec<Address>| {
                addresses.iter().any(|address| address.interface == state.name)
            };
            let groups = self.addresses.iter().filter(|(_, addresses)| served(addresses));
            let groups: Vec<String> = groups.map(|(group, _)| group.clone()).collect();
            for group in groups {
                self.announce_again(&group);
            }
        }
    }

    /// Announces what a settled master serves: the neighbours may look for it in the wrong place.
    fn announce_again(&mut self, group: &str) {
        let settled = self
            .failover
            .group(group)
            .is_some_and(|group| group.state() == State::Master && group.is_settled());
        if settled {
            self.announce_first(group);
        }
    }

    /// Feeds the state machine and carries out what it asks, until nothing is left to do at once.
    fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.failover.handle(event, Instant::now()) {
                self.perform(action, &mut events);
            }
        }
    }

    /// Sends what the turn has given out. A thread that has ended fails its steps; what the state
    /// machine makes of that is given out too.
    fn give_out(&mut self) {
        loop {
            let lost = self.outboxes.send();
            if lost.is_empty() {
                return;
            }
            error!(steps = lost.len(), "steps could not be given out: the thread has ended");
            for id in lost {
                let outcome = Outcome::Failed("the thread has ended".to_owned());
                self.feed(Event::Stepped { id, outcome });
            }
        }
    }

    fn perform(&mut self, action: Action, events: &mut VecDeque<Event>) {
        match action {
            Action::Startup { virtual_router } => {
                let observed = self.elections.startup(&virtual_router, Instant::now());
                events.extend(
                    observed.into_iter().map(|(name, event)| Event::VirtualRouter { name, event }),
                );
            }
            Action::PreemptAllowed { virtual_router, allowed } => {
                self.elections.preempt_allowed(&virtual_router, allowed, Instant::now());
            }
            Action::Priority { virtual_router, priority } => {
                self.elections.prioritise(&virtual_router, priority, Instant::now());
            }
            Action::Stopped { group } => self.stopped.push(group),
            Action::Step { id, group, step, from, to, reason } => {
                if step == Step::StopClaiming || step == Step::Claim {
                    let (from, to) = (from.as_str(), to.as_str());
                    if to == State::Fault.as_str() {
                        warn!(group, from, to, reason, "state changed");
                    } else {
                        info!(group, from, to, reason, "state changed");
                    }
                }
                let outcome = match step {
                    Step::Claim => Some(self.claim(&group)),
                    Step::StopClaiming => Some(self.stop_claiming(&group, to)),
                    Step::Announce => Some(self.announce_first(&group)),
                    Step::LinksUp
                    | Step::AddressesUp
                    | Step::RoutesUp
                    | Step::AddressesDown
                    | Step::RoutesDown
                    | Step::LinksDown => {
                        self.outboxes.network(GroupStep { id, group, step });
                        None
                    }
                    Step::CommitFlows | Step::ReplicateActive | Step::ReplicateBackup => {
                        self.outboxes.replicator(id, group, step)
                    }
                    Step::Hooks => {
                        let priority = self.elections.priority(self.failover.members(&group));
                        self.outboxes.hook(HookRequest { id, group, from, to, reason, priority })
                    }
                };
                events.extend(outcome.map(|outcome| Event::Stepped { id, outcome }));
            }
        }
    }

    fn claim(&mut self, group: &str) -> Outcome {
        let members: Vec<String> = self.failover.members(group).map(str::to_owned).collect();
        let now = Instant::now();
        let mut failures = Vec::new();
        for member in &members {
            if let Err(error) = self.elections.claim(member, now) {
                failures.push(format!("{member}: {error:#}"));
            }
        }
        if failures.is_empty() {
            Outcome::Done(counted(members.len(), "advertisement"))
        } else {
            Outcome::Failed(failures.join("; "))
        }
    }

    fn stop_claiming(&mut self, group: &str, to: State) -> Outcome {
        self.announcements.retain(|announcement| announcement.group != group);
        let members: Vec<String> = self.failover.members(group).map(str::to_owned).collect();
        let now = Instant::now();
        if to == State::Backup {
            for member in &members {
                self.elections.relinquish(member, now);
            }
            return Outcome::Done(format!(
                "{} as backup",
                counted(members.len(), "virtual router")
            ));
        }
        let told = members.iter().filter(|member| self.elections.shut_down(member, now)).count();
        Outcome::Done(match told {
            0 => "no mastership to give up".to_owned(),
            told => format!("priority 0 from {}", counted(told, "virtual router")),
        })
    }

    fn announce_first(&mut self, group: &str) -> Outcome {
        let began = Instant::now();
        self.announcements.retain(|announcement| announcement.group != group);
        self.announcements.push(Announcement { group: group.to_owned(), began, repeated: 0 });
        let (sent, failures) = self.announce(group);
        if failures.is_empty() {
            Outcome::Done(counted(sent, "announcement"))
        } else {
            Outcome::Pending(format!("{}; {}", counted(sent, "announcement"), failures.join("; ")))
        }
    }

    fn announce(&mut self, group: &str) -> (usize, Vec<String>) {
        let mut sent = 0;
        let mut failures = Vec::new();
        for address in self.addresses.get(group).into_iter().flatten() {
            let link =
                self.interfaces.get(&address.interface).and_then(|state| state.link.as_ref());
            let result = match link {
                Some(link) => self.elections.announce(link, address.address.addr()),
                None => Err(anyhow::anyhow!("{} does not exist", address.interface)),
            };
            match result {
                Ok(()) => sent += 1,
                Err(error) => failures.push(format!("{}: {error:#}", address.address.addr())),
            }
        }
        (sent, failures)
    }

    fn repeat_announcements(&mut self, now: Instant) {
        let due: Vec<String> = self
            .announcements
            .iter_mut()
            .filter(|announcement| announcement.due().is_some_and(|due| due <= now))
            .map(|announcement| {
                announcement.repeated += 1;
                announcement.group.clone()
            })
            .collect();
        for group in due {
            let (_, failures) = self.announce(&group);
            for failure in failures {
                warn!(group, failure, "announcement not sent");
            }
        }
        self.announcements.retain(|announcement| announcement.due().is_some());
    }
}

impl Announcement {
    fn due(&self) -> Option<Instant> {
        ANNOUNCE_AGAIN.get(self.repeated).map(|after| self.began + *after)
    }
}

/// Whether a link is there that was not, or is another than before.
fn is_new_to_neighbours(before: Option<&LinkState>, after: Option<&LinkState>) -> bool {
    let place = |link: &LinkState| (link.index, link.mac, link.up && link.carrier);
    after.is_some_and(|after| after.up && after.carrier)
        && before.is_some()
        && before.map(place) != after.map(place)
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
