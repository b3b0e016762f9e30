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

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::address_list::AddressListDifference;
use crate::advertisement::{Advertisement, Format};
use crate::config::{Config, Priority, Version};
use crate::event::{Action, Event, Heard, State};
use crate::neighbours::{Misunderstood, Neighbours};
use crate::packet::Datagram;
use crate::statistics::Statistics;
use crate::verdict::{Judged, Rejection, judge};

/// One virtual router: a VRID and an address family on one interface (RFC 9568 §6).
///
/// Sans-IO: the caller brings time and events and carries out the actions, in order.
#[derive(Clone, Debug)]
pub struct VirtualRouter {
    config: Config,
    state: State,
    primary: Option<IpAddr>,
    preempt_allowed: bool,
    heard: Option<Heard>,
    statistics: Statistics,
    neighbours: Neighbours,
    address_list: Option<AddressListDifference>,
}

impl VirtualRouter {
    /// A router in Initialize.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            state: State::Initialize,
            primary: None,
            preempt_allowed: true,
            heard: None,
            statistics: Statistics::default(),
            neighbours: Neighbours::default(),
            address_list: None,
        }
    }

    /// Judges a received packet, counts it, and feeds it when it is heeded.
    #[must_use = "actions must be carried out"]
    pub fn receive(&mut self, datagram: &Datagram, now: Instant) -> Vec<Action> {
        let source = datagram.endpoints.source();
        let verdict = if self.primary == Some(source) {
            Err(Rejection::OwnAddress)
        } else {
            judge(&self.config, datagram)
        };
        match verdict {
            Ok(Judged { advertisement, .. }) => {
                self.handle(Event::Received { advertisement, source }, now)
            }
            Err(rejection) => {
                self.statistics.count(&rejection);
                if self.neighbours.remember(source, rejection, now) {
                    vec![Action::Rejected { source, rejection }]
                } else {
                    Vec::new()
                }
            }
        }
    }

    /// Feeds one event; returns what to do about it, in order. Spurious events are harmless.
    #[must_use = "actions must be carried out"]
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match (self.state, event) {
            (State::Initialize, Event::Startup { primary }) => self.start(primary, now),
            (State::Backup { .. } | State::Master { .. }, Event::Startup { primary })
            | (
                State::Initialize | State::Backup { .. } | State::Master { .. },
                Event::PrimaryAddress(primary),
            ) => {
                self.primary = Some(primary);
                Vec::new()
            }

            (State::Initialize, Event::Shutdown) => Vec::new(),
            (State::Backup { .. }, Event::Shutdown) => self.enter(State::Initialize),
            (State::Master { .. }, Event::Shutdown) => self.resign(),

            (State::Backup { .. }, Event::Claim) => self.claim(now),
            // Asked again because the first advertisement could not be sent.
            (State::Master { .. }, Event::Claim) => self.advertise_now(now),
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

            (State::Backup { master_down_at, .. }, Event::Timeout) if now >= master_down_at => {
                self.elect(now)
            }
            (State::Master { adver_at }, Event::Timeout) if now >= adver_at => {
                self.advertise_on_schedule(adver_at, now)
            }
            (State::Initialize | State::Backup { .. } | State::Master { .. }, Event::Timeout) => {
                Vec::new()
            }

            (
                State::Initialize | State::Backup { .. } | State::Master { .. },
                Event::Received { source, .. },
            ) if self.primary == Some(source) => Vec::new(),
            (State::Initialize, Event::Received { advertisement, source }) => {
                self.note(&advertisement, source, now);
                Vec::new()
            }
            (State::Backup { .. }, Event::Received { advertisement, source }) => {
                self.heed_as_backup(&advertisement, source, now)
            }
            (State::Master { .. }, Event::Received { advertisement, source }) => {
                self.heed_as_master(&advertisement, source, now)
            }

            (
                State::Initialize | State::Backup { .. } | State::Master { .. },
                Event::PreemptAllowed(allowed),
            ) => {
                self.allow_preemption(allowed);
                Vec::new()
            }
            (_, Event::Priority(_) | Event::Configure(_)) => Vec::new(),
        }
    }

    /// When to send [`Event::Timeout`]; valid until the next call that changes the router.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Initialize => None,
            State::Backup { master_down_at, .. } => Some(master_down_at),
            State::Master { adver_at } => Some(adver_at),
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

    /// The counters.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Neighbours whose advertisements are refused, the one heard last at the end; at most
    /// [`crate::MAX_NEIGHBOURS`].
    pub fn misunderstood(&self) -> Vec<Misunderstood> {
        self.neighbours.newest_last()
    }

    /// How the last heeded list of addresses differs from ours.
    pub fn address_list_difference(&self) -> Option<&AddressListDifference> {
        self.address_list.as_ref()
    }

    fn start(&mut self, primary: IpAddr, now: Instant) -> Vec<Action> {
        self.primary = Some(primary);
        self.heard = None;
        let backup = self.listening(self.config.advertisement_interval, now);
        let mut actions = self.enter(backup);
        if self.config.priority == Priority::OWNER && self.preempt_allowed {
            self.set_elected(true);
            let reason = "it owns the addresses (priority 255)".to_owned();
            actions.push(Action::Elected { reason });
        }
        actions
    }

    /// The advertisement leaves first: the old master has to drop the addresses before they are
    /// announced here.
    fn claim(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = vec![self.advertise(self.config.priority.value())];
        self.statistics.master_transitions += 1;
        self.heard = None;
        let adver_at = now + self.config.advertisement_interval;
        actions.extend(self.enter(State::Master { adver_at }));
        actions
    }

    fn resign(&mut self) -> Vec<Action> {
        let mut actions = vec![self.advertise(0)];
        actions.extend(self.enter(State::Initialize));
        actions
    }

    fn elect(&mut self, now: Instant) -> Vec<Action> {
        let State::Backup { master_adver_interval, since, .. } = self.state else {
            return Vec::new();
        };
        let reason = self.reason_for_election(since, master_adver_interval, now);
        let master_down_at = now + self.master_down_interval(master_adver_interval);
        self.state = State::Backup { master_down_at, master_adver_interval, since, elected: true };
        vec![Action::Elected { reason }]
    }

    fn reason_for_election(&self, since: Instant, interval: Duration, now: Instant) -> String {
        let Some(heard) = self.heard else {
            let silence = seconds(now.saturating_duration_since(since));
            return format!("no advertisement heard for {silence} s since it began to listen");
        };
        let Heard { address, priority, at, resigned, .. } = heard;
        let silence = now.saturating_duration_since(at);
        if resigned {
            format!("{address} stopped (priority 0)")
        } else if priority < self.config.priority.value()
            && silence < self.master_down_interval(interval)
        {
            let ours = self.config.priority;
            format!("{address} is master with priority {priority}, lower than our {ours}")
        } else {
            let silence = seconds(silence);
            format!("no advertisement from {address} for {silence} s; last priority {priority}")
        }
    }

    /// Keeps the rhythm when the call comes a little late, and does not catch up on what a long
    /// stall has missed.
    fn advertise_on_schedule(&mut self, due: Instant, now: Instant) -> Vec<Action> {
        let next = due + self.config.advertisement_interval;
        let adver_at = if next > now { next } else { now + self.config.advertisement_interval };
        self.state = State::Master { adver_at };
        vec![self.advertise(self.config.priority.value())]
    }

    fn advertise_now(&mut self, now: Instant) -> Vec<Action> {
        self.state = State::Master { adver_at: now + self.config.advertisement_interval };
        vec![self.advertise(self.config.priority.value())]
    }

    /// RFC 9568 §6.4.2.
    fn heed_as_backup(
        &mut self,
        advertisement: &Advertisement,
        source: IpAddr,
        now: Instant,
    ) -> Vec<Action> {
        let State::Backup { master_down_at, master_adver_interval, since, elected } = self.state
        else {
            return Vec::new();
        };
        let said_before = self.heard.is_some_and(|h| h.resigned && h.address == source);
        self.note(advertisement, source, now);
        if advertisement.priority == 0 {
            let skewed = now + self.skew_time(master_adver_interval);
            // keepalived says it twice on a fault; the second must not put off the takeover.
            let master_down_at = if said_before { skewed.min(master_down_at) } else { skewed };
            self.state = State::Backup { master_down_at, master_adver_interval, since, elected };
            return Vec::new();
        }
        if self.preempts() && advertisement.priority < self.config.priority.value() {
            return Vec::new();
        }
        let interval = self.interval_of(advertisement);
        self.state = State::Backup {
            master_down_at: now + self.master_down_interval(interval),
            master_adver_interval: interval,
            since,
            elected: false,
        };
        if elected { vec![Action::Deferred] } else { Vec::new() }
    }

    /// RFC 9568 §6.4.3. Not conformant to §7.1 in one point, on purpose: an address owner that
    /// hears another owner is subject to the tie-break too, instead of ignoring it for ever.
    fn heed_as_master(
        &mut self,
        advertisement: &Advertisement,
        source: IpAddr,
        now: Instant,
    ) -> Vec<Action> {
        self.note(advertisement, source, now);
        let (theirs, ours) = (advertisement.priority, self.config.priority.value());
        let wins_tie = theirs == ours && self.primary.is_none_or(|primary| source > primary);
        if theirs < ours || theirs == ours && !wins_tie {
            return self.advertise_now(now);
        }
        let backup = self.listening(self.interval_of(advertisement), now);
        let mut actions = self.enter(backup);
        let reason = if wins_tie {
            format!("{source} advertises our priority {ours} too and has the higher address")
        } else {
            format!("{source} advertises priority {theirs}, higher than our {ours}")
        };
        actions.push(Action::Superseded { by: source, priority: theirs, reason });
        actions
    }

    /// What every heeded advertisement tells, in any state.
    fn note(&mut self, advertisement: &Advertisement, source: IpAddr, now: Instant) {
        self.statistics.advertisements_received += 1;
        self.neighbours.forget(source);
        self.address_list =
            AddressListDifference::between(&self.config.addresses, advertisement, source);
        if self.address_list.is_some() {
            self.statistics.address_list_errors += 1;
        }
        if advertisement.interval != self.config.advertisement_interval {
            self.statistics.interval_differences += 1;
        }
        let Advertisement { priority, interval, .. } = *advertisement;
        if priority != 0 {
            self.heard =
                Some(Heard { address: source, priority, interval, at: now, resigned: false });
            return;
        }
        self.statistics.priority_zero_received += 1;
        let heard = self.heard.get_or_insert(Heard {
            address: source,
            priority,
            interval,
            at: now,
            resigned: true,
        });
        if heard.address == source {
            heard.at = now;
            heard.resigned = true;
        }
    }

    /// A working master that was about to be replaced gets its full time again when replacing it
    /// is forbidden: its advertisements had not been counting.
    fn allow_preemption(&mut self, allowed: bool) {
        self.preempt_allowed = allowed;
        let Some(heard) = self.heard.filter(|heard| !allowed && !heard.resigned) else { return };
        let granted = heard.at + self.master_down_interval(heard.interval);
        if let State::Backup { master_down_at, .. } = &mut self.state {
            *master_down_at = granted.max(*master_down_at);
        }
    }

    fn set_elected(&mut self, value: bool) {
        if let State::Backup { elected, .. } = &mut self.state {
            *elected = value;
        }
    }

    fn enter(&mut self, state: State) -> Vec<Action> {
        let from = self.state.name();
        self.state = state;
        vec![Action::StateChanged { from, to: state.name() }]
    }

    fn listening(&self, master_adver_interval: Duration, now: Instant) -> State {
        State::Backup {
            master_down_at: now + self.master_down_interval(master_adver_interval),
            master_adver_interval,
            since: now,
            elected: false,
        }
    }

    fn advertise(&mut self, priority: u8) -> Action {
        self.statistics.advertisements_sent += 1;
        if priority == 0 {
            self.statistics.priority_zero_sent += 1;
        }
        Action::Send(Advertisement::of(&self.config, priority))
    }

    /// An address owner preempts whatever its configuration says (RFC 9568 §6.1).
    fn preempts(&self) -> bool {
        self.preempt_allowed && (self.config.preempt || self.config.priority == Priority::OWNER)
    }

    /// Version 3 learns the master's interval; in version 2 it is ours, or the advertisement
    /// would have been refused.
    fn interval_of(&self, advertisement: &Advertisement) -> Duration {
        match advertisement.format {
            Format::V3 => advertisement.interval,
            Format::V2(_) => self.config.advertisement_interval,
        }
    }

    /// RFC 9568 §6.1, and RFC 3768 §6.1 for version 2, whose skew does not follow the interval.
    fn skew_time(&self, master_adver_interval: Duration) -> Duration {
        let base = match self.config.version {
            Version::V2 => Duration::from_secs(1),
            Version::V3 => master_adver_interval,
        };
        base * (256 - u32::from(self.config.priority.value())) / 256
    }

    fn master_down_interval(&self, master_adver_interval: Duration) -> Duration {
        3 * master_adver_interval + self.skew_time(master_adver_interval)
    }
}

/// For people: two decimals.
fn seconds(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64())
}

#[cfg(test)]
mod tests;
