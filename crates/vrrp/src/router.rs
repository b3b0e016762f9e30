//! The election: when this router is master (RFC 9568 §6, RFC 3768 §6).
//!
//! ```text
//!                    Startup                      Claim (the group's answer
//!   ┌────────────┐ ───────────▶ ┌────────┐        to Elected)    ┌────────┐
//!   │ Initialize │              │ Backup │ ────────────────────▶ │ Master │
//!   └────────────┘ ◀─────────── └────────┘ ◀──────────────────── └────────┘
//!          ▲         Shutdown                better advertisement,    │
//!          │                                 Relinquish               │
//!          └──────────────────────────────────────────────────────────┘
//!                             Shutdown (priority 0 is sent)
//! ```
//!
//! RFC 9568 calls the Master state Active. One thing differs from its figure: when the master
//! down timer fires, the router says [`Action::Elected`] and waits in Backup for
//! [`Event::Claim`], because claiming mastership is a step of the failover group, which may have
//! to wait for other members. The group normally answers in the same instant.
//!
//! What each state does is in `router/backup.rs` and `router/master.rs`, changed settings and
//! priorities in `router/settings.rs`, what is heard in `router/hearing.rs`, handing over in
//! `router/retiring.rs`.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::advertisement::{Advertisement, Format};
use crate::config::{Authentication, Config, Priority, Version};
use crate::differences::{Difference, Differences};
use crate::event::{Action, Event, Heard, OtherMaster, State};
use crate::neighbours::{Misunderstood, Neighbours};
use crate::reason::{LastEvent, NewMasterReason};
use crate::statistics::Statistics;

use hearing::{ComparedList, Heeded};
use replay::{Sequence, Stamps};
use retiring::Yields;

mod backup;
mod hearing;
mod master;
mod replay;
mod retiring;
mod settings;
mod standing;
mod stated;

pub use standing::Standing;

/// One virtual router: a VRID and an address family on one interface (RFC 9568 §6).
///
/// Sans-IO: the caller brings time and events and carries out the actions, in order.
#[derive(Clone, Debug)]
pub struct VirtualRouter {
    config: Config,
    /// The priority in force.
    priority: Priority,
    state: State,
    primary: Option<IpAddr>,
    preempt_allowed: bool,
    yields: Yields,
    /// Since when it takes part and has heard nothing for its VRID; the start-up limit counts
    /// from there. `None` once something was heard, and where no limit holds.
    unheard_since: Option<Instant>,
    /// Since when only masters of lower priority are heard in Backup.
    lower_since: Option<Instant>,
    /// How many timers in a row were served so late that the router listened instead.
    listened: u8,
    /// Whether [`Action::Withheld`] was said and still holds.
    withheld: bool,
    heard: Option<Heard>,
    /// The living master that it has replaced, and until when that may not have heard of it.
    preempted: Option<(IpAddr, Instant)>,
    /// The master beside it that was heard last.
    other_master: Option<OtherMaster>,
    statistics: Statistics,
    neighbours: Neighbours,
    differences: Differences,
    compared: Option<ComparedList>,
    heeded: Option<Box<Heeded>>,
    /// When neighbours are next looked through for those that are gone.
    age_at: Option<Instant>,
    sequence: Sequence,
    stamps: Stamps,
    last_event: LastEvent,
    new_master_reason: NewMasterReason,
    /// What [`VirtualRouter::new_master_reason`] becomes when the election ends in a claim.
    elected_for: NewMasterReason,
}

impl VirtualRouter {
    /// A router in Initialize.
    pub fn new(config: Config) -> Self {
        Self {
            priority: config.priority,
            config,
            state: State::Initialize,
            primary: None,
            preempt_allowed: true,
            yields: Yields::No,
            unheard_since: None,
            lower_since: None,
            listened: 0,
            withheld: false,
            heard: None,
            preempted: None,
            other_master: None,
            statistics: Statistics::default(),
            neighbours: Neighbours::default(),
            differences: Differences::default(),
            compared: None,
            heeded: None,
            age_at: None,
            sequence: Sequence::default(),
            stamps: Stamps::default(),
            last_event: LastEvent::None,
            new_master_reason: NewMasterReason::NotMaster,
            elected_for: NewMasterReason::NoResponse,
        }
    }

    /// Feeds one event; returns what to do about it, in order. Spurious events are harmless.
    #[must_use = "actions must be carried out"]
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = match event {
            Event::Timeout | Event::Received { .. } | Event::Priority(_) | Event::Configure(_) => {
                self.wake(now)
            }
            Event::Startup { .. }
            | Event::Shutdown
            | Event::Claim
            | Event::Relinquish
            | Event::Retire
            | Event::MayReturn
            | Event::PreemptAllowed(_)
            | Event::PrimaryAddress(_) => Vec::new(),
        };
        let reaction = self.react(event, now);
        if actions.is_empty() {
            return reaction;
        }
        actions.extend(reaction);
        actions
    }

    fn react(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match (self.state, event) {
            (State::Initialize, Event::Startup { primary }) => self.start(primary, now),
            (State::Backup { .. } | State::Master { .. }, Event::Startup { primary })
            | (
                State::Initialize | State::Backup { .. } | State::Master { .. },
                Event::PrimaryAddress(primary),
            ) => {
                if self.primary.replace(primary) != Some(primary) {
                    self.last_event = LastEvent::PrimaryIpAddress;
                }
                Vec::new()
            }

            (State::Initialize, Event::Shutdown) => Vec::new(),
            (State::Backup { .. }, Event::Shutdown) => {
                self.last_event = LastEvent::Shutdown;
                self.enter(State::Initialize)
            }
            (State::Master { .. }, Event::Shutdown) => self.resign(),

            (State::Backup { .. }, Event::Claim) => self.claim(now),
            // Asked again because the first advertisement could not be sent.
            (State::Master { silent_for: None, .. }, Event::Claim) => self.advertise_now(now),
            // It listens first.
            (State::Master { .. }, Event::Claim) => Vec::new(),
            (State::Initialize, Event::Claim) => Vec::new(),

            (State::Master { .. }, Event::Relinquish) => {
                let backup = self.listening(self.config.advertisement_interval, now);
                self.enter(backup)
            }
            (State::Backup { .. }, Event::Relinquish) => {
                self.set_elected(false);
                Vec::new()
            }
            (State::Initialize, Event::Relinquish) => Vec::new(),

            (State::Master { .. }, Event::Retire) => self.retire(now),
            (State::Initialize | State::Backup { .. }, Event::Retire) => Vec::new(),
            (State::Initialize | State::Backup { .. } | State::Master { .. }, Event::MayReturn) => {
                self.yields = Yields::No;
                Vec::new()
            }

            (State::Initialize, Event::Timeout) => Vec::new(),
            (State::Backup { .. }, Event::Timeout) => self.backup_timeout(now),
            (State::Master { adver_at, .. }, Event::Timeout) => {
                if now >= adver_at {
                    self.advertise_on_schedule(now)
                } else {
                    Vec::new()
                }
            }

            (
                State::Initialize | State::Backup { .. } | State::Master { .. },
                Event::Received { advertisement, source },
            ) => self.hear(&advertisement, source, now),

            (
                State::Initialize | State::Backup { .. } | State::Master { .. },
                Event::PreemptAllowed(allowed),
            ) => {
                self.preempt_allowed = allowed;
                if !allowed {
                    self.let_the_master_be();
                }
                Vec::new()
            }
            (
                State::Initialize | State::Backup { .. } | State::Master { .. },
                Event::Priority(priority),
            ) => self.prioritise(priority, now),
            (
                State::Initialize | State::Backup { .. } | State::Master { .. },
                Event::Configure(config),
            ) => self.configure(*config, now),
        }
    }

    /// When to send [`Event::Timeout`]; valid until the next call that changes the router.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Initialize => None,
            State::Backup { master_down_at, .. } => Some(self.election_at(master_down_at)),
            State::Master { adver_at, .. } => Some(adver_at),
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// What it was told.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The priority that it sends and is compared by: the configured one unless
    /// [`Event::Priority`] has said another.
    pub fn effective_priority(&self) -> Priority {
        self.priority
    }

    /// The address its advertisements come from, once known.
    pub fn primary_address(&self) -> Option<IpAddr> {
        self.primary
    }

    /// Who is master as far as this router knows: itself, the router heard last, or nobody.
    pub fn master_address(&self) -> Option<IpAddr> {
        match self.state {
            State::Master { .. } => self.primary,
            State::Backup { elected: true, .. } => None,
            State::Initialize | State::Backup { elected: false, .. } => {
                self.heard.filter(|heard| !heard.resigned).map(|heard| heard.address)
            }
        }
    }

    /// The router heard last as master since this one took part, if any.
    pub fn heard(&self) -> Option<Heard> {
        self.heard
    }

    /// The other master that this one has heard, while it is master and for a minute.
    pub fn other_master(&self, now: Instant) -> Option<OtherMaster> {
        let is_master = matches!(self.state, State::Master { .. });
        let lately = |other: &OtherMaster| now.saturating_duration_since(other.at) < REMEMBERED;
        self.other_master.filter(|other| is_master && lately(other))
    }

    /// Whether it would have elected itself but for a neighbour that it does not understand.
    pub fn is_withheld(&self) -> bool {
        self.withheld
    }

    /// The time by which a master's advertisements are awaited beyond three intervals
    /// (`Skew_Time` of RFC 9568 §6.1), with the interval in force.
    pub fn skew_time(&self) -> Duration {
        self.skew_time_for(self.interval_in_force())
    }

    /// The silence after which a master is taken for dead (`Active_Down_Interval` of
    /// RFC 9568 §6.1), with the interval in force.
    pub fn master_down_interval(&self) -> Duration {
        self.master_down_interval_for(self.interval_in_force())
    }

    /// The newest thing that mattered to its state, in the words of RFC 8347.
    pub fn last_event(&self) -> LastEvent {
        self.last_event
    }

    /// Why it became master the last time, in the words of RFC 8347.
    pub fn new_master_reason(&self) -> NewMasterReason {
        self.new_master_reason
    }

    /// The counters.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Neighbours whose advertisements are refused, the one heard last at the end; at most
    /// [`crate::MAX_NEIGHBOURS`]. Those unheard for ten master down intervals, and at least a
    /// minute, are forgotten.
    pub fn misunderstood(&self) -> Vec<Misunderstood> {
        self.neighbours.newest_last()
    }

    /// In what neighbours that are heeded differ from this router, in the order in which it was
    /// noticed; at most [`crate::MAX_DIFFERENCES`].
    pub fn differences(&self) -> &[Difference] {
        self.differences.list()
    }

    /// The number of the last advertisement with an authentication header that was sent or heeded;
    /// 0 before the first.
    pub fn sequence(&self) -> u32 {
        self.sequence.greatest()
    }

    /// Goes on from a number that an earlier run of this router has sent: its neighbours refuse
    /// every number that is not greater.
    pub fn go_on_from_sequence(&mut self, sequence: u32) {
        self.sequence = Sequence::sent(sequence);
    }

    fn start(&mut self, primary: IpAddr, now: Instant) -> Vec<Action> {
        self.primary = Some(primary);
        self.heard = None;
        self.last_event = LastEvent::Startup;
        let owner = self.priority == Priority::OWNER;
        self.unheard_since = (!owner && !self.config.startup_limit.is_zero()).then_some(now);
        let backup = self.listening(self.config.advertisement_interval, now);
        let mut actions = self.enter(backup);
        if owner && self.preempt_allowed && self.yields == Yields::No {
            self.set_elected(true);
            self.elected_for = NewMasterReason::Priority;
            let reason = "it owns the addresses (priority 255)".to_owned();
            actions.push(Action::Elected { reason });
        }
        actions
    }

    /// The advertisement leaves first: the old master has to drop the addresses before they are
    /// announced here.
    fn claim(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = vec![self.advertise(self.priority.value())];
        self.statistics.master_transitions += 1;
        self.new_master_reason = self.elected_for;
        self.yields = Yields::No;
        self.other_master = None;
        let heard = self.heard.take().filter(|heard| !heard.resigned);
        let lives = |heard: &Heard| now < heard.at + self.master_down_interval_for(heard.interval);
        let adver_at = now + self.config.advertisement_interval;
        self.preempted = heard.filter(lives).map(|heard| (heard.address, adver_at));
        let master =
            State::Master { adver_at, answered_at: None, answering: None, silent_for: None };
        actions.extend(self.enter(master));
        actions
    }

    fn resign(&mut self) -> Vec<Action> {
        self.last_event = LastEvent::Shutdown;
        let mut actions = vec![self.advertise(0)];
        actions.extend(self.enter(State::Initialize));
        actions
    }

    fn set_elected(&mut self, value: bool) {
        if let State::Backup { elected, .. } = &mut self.state {
            *elected = value;
        }
    }

    /// Enters another state; what belonged to the one before is void.
    fn enter(&mut self, state: State) -> Vec<Action> {
        let from = self.state.name();
        if matches!(state, State::Initialize | State::Master { .. }) {
            self.unheard_since = None;
        }
        self.lower_since = None;
        self.listened = 0;
        self.withheld = false;
        self.state = state;
        vec![Action::StateChanged { from, to: state.name() }]
    }

    fn listening(&self, master_adver_interval: Duration, now: Instant) -> State {
        State::Backup {
            master_down_at: now + self.master_down_interval_for(master_adver_interval),
            master_adver_interval,
            since: now,
            elected: false,
        }
    }

    fn advertise(&mut self, priority: u8) -> Action {
        self.advertise_every(self.config.advertisement_interval, priority)
    }

    fn advertise_every(&mut self, interval: Duration, priority: u8) -> Action {
        self.statistics.advertisements_sent += 1;
        if priority == 0 {
            self.statistics.priority_zero_sent += 1;
        }
        let mut advertisement =
            Advertisement { interval, ..Advertisement::of(&self.config, priority) };
        if let Format::V2(authentication) = &mut advertisement.format
            && self.uses_header()
        {
            authentication.sequence = self.sequence.next();
        }
        Action::Send(advertisement)
    }

    /// Whether advertisements carry a number that all routers of the VRID count together.
    fn uses_header(&self) -> bool {
        matches!(self.config.authentication, Authentication::Header(_))
    }

    /// The master's interval in Backup, otherwise its own.
    fn interval_in_force(&self) -> Duration {
        match self.state {
            State::Backup { master_adver_interval, .. } => master_adver_interval,
            State::Initialize | State::Master { .. } => self.config.advertisement_interval,
        }
    }

    /// RFC 9568 §6.1, and RFC 3768 §6.1 for version 2, whose skew does not follow the interval.
    fn skew_time_for(&self, master_adver_interval: Duration) -> Duration {
        let base = match self.config.version {
            Version::V2 => Duration::from_secs(1),
            Version::V3 => master_adver_interval,
        };
        base * (256 - u32::from(self.priority.value())) / 256
    }

    fn master_down_interval_for(&self, master_adver_interval: Duration) -> Duration {
        3 * master_adver_interval + self.skew_time_for(master_adver_interval)
    }
}

/// Most timers in a row at which a router that is late listens instead of acting: one that is
/// always late, because the machine has too much to do, takes over and advertises all the same.
const MOST_LISTENED: u8 = 3;

/// How long another master is spoken of.
const REMEMBERED: Duration = Duration::from_mins(1);

/// For people: two decimals.
fn seconds(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64())
}

#[cfg(test)]
mod tests;
