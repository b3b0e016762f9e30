//! The elections of all virtual routers: what they hear, what they say, and when.
//!
//! ```text
//!   lans ──packets──▶ ┐                      ┌ news ──▶ the core, which feeds the groups
//!                     ├─▶ router by router ──┤
//!   timers ───due───▶ ┘                      └ ways ──▶ one call for each sending interface
//! ```
//!
//! A turn of the core drives whatever has something to do; nothing looks at the others. What the
//! elections have to say is kept until the end of the turn and leaves together.

mod arranging;
mod lans;
mod router;
mod sending;
mod timers;
mod ways;

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lockstep_failover::VirtualRouterEvent;
use lockstep_vrrp::{Action, Advertisement, Event, Priority, Standing, StateName, VirtualRouter};
use nix::errno::Errno;
use tracing::{debug, info, warn};

use crate::guard::record::since_boot;
use crate::messages::{InterfaceState, LinkState};
use crate::status;
use lans::Lans;
pub(super) use lans::Which;
use router::{Router, way_of};
use sending::Trouble;
use timers::Timers;
use ways::Ways;

/// From a socket that could not be opened to the next attempt.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A master's timer that is served within this time is in time: nobody has given it up.
const IN_TIME: Duration = Duration::from_millis(5);
/// Most warnings a second about what neighbours send: strangers do not fill the log.
const WARNINGS: u32 = 20;

/// All virtual routers of this router.
pub(super) struct Elections {
    lans: Lans,
    machines: Machines,
    places: HashMap<String, usize>,
    /// The places of the virtual routers that an interface concerns.
    concerned: HashMap<String, Vec<usize>>,
    /// What the interfaces are, `None` for one that is missing; the others are not known yet.
    links: HashMap<String, Option<LinkState>>,
    /// When a socket that could not be opened is tried again.
    retry_at: Option<Instant>,
}

/// The virtual routers, by their places.
struct Machines {
    routers: Vec<Router>,
    timers: Timers,
    ways: Ways,
    news: Vec<News>,
    /// The masters whose advertisements have left since it was asked last, and when.
    left: Vec<Left>,
    overslept: u64,
    warnings: Warnings,
}

/// A master's advertisement has left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    /// The virtual router's place in the configuration.
    pub(super) place: usize,
    /// When at the earliest, by [`since_boot`].
    pub(super) at: Duration,
    /// Its number, where advertisements are numbered.
    pub(super) sequence: u32,
}

/// What an election has brought.
#[derive(Debug)]
pub(super) enum News {
    /// For the group.
    Group {
        /// The virtual router's name.
        name: String,
        /// What it says.
        event: VirtualRouterEvent,
    },
    /// Another master was heard that has to give way.
    Conflict {
        /// The virtual router's name.
        name: String,
    },
}

/// How many warnings were written in this second.
struct Warnings {
    since: Instant,
    written: u32,
}

impl Elections {
    pub(super) fn new(virtual_routers: &[lockstep_config::VirtualRouter]) -> Self {
        let (mut lans, mut ways) = (Lans::new(), Ways::new());
        let mut routers = Vec::new();
        for (place, router) in virtual_routers.iter().enumerate() {
            lans.add(&router.interface, router.vrrp.family, router.vrrp.vrid, place);
            routers.push(Router::new(router, ways.add(way_of(router))));
        }
        let names = virtual_routers.iter().map(|router| router.name.clone());
        Self {
            lans,
            places: names.zip(0..).collect(),
            concerned: concerned(virtual_routers),
            links: HashMap::new(),
            retry_at: None,
            machines: Machines {
                timers: Timers::new(routers.len()),
                routers,
                ways,
                news: Vec::new(),
                left: Vec::new(),
                overslept: 0,
                warnings: Warnings { since: Instant::now(), written: 0 },
            },
        }
    }

    /// Waits until something can be heard. May be given up half way.
    pub(super) async fn readable(&mut self) {
        self.lans.readable().await;
    }

    /// Hears what waits, up to a bound.
    pub(super) fn hear(&mut self, which: Which) {
        let machines = &mut self.machines;
        self.lans.hear(which, |place, datagram, now| {
            machines.drive(place, now, |machine| machine.receive(datagram, now));
        });
    }

    /// When to look at the timers again; it may be past, and no timer may be due then.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.machines.timers.next()
    }

    /// When the first timer fell due, if one has.
    pub(super) fn due_since(&mut self, now: Instant) -> Option<Instant> {
        self.machines.timers.due_since(now)
    }

    /// When sockets that could not be opened are tried again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Serves the timers that are due. What waits in the sockets is older than they are: whoever
    /// would give up a master, or is late, hears it first.
    pub(super) fn timeout(&mut self, now: Instant) {
        let late = self.due_since(now).is_some_and(|first| now.duration_since(first) > IN_TIME);
        let mut due = self.machines.timers.take_due(now);
        let hears_first = |place: &usize| !self.machines.routers[*place].is_master();
        if late || due.iter().any(hears_first) {
            self.machines.timers.put_back(&due);
            self.hear(Which::All);
            due = self.machines.timers.take_due(now);
        }
        for place in due {
            self.machines.drive(place, now, |machine| machine.handle(Event::Timeout, now));
        }
    }

    /// Lets a virtual router listen, from the address its interface has now.
    pub(super) fn startup(&mut self, name: &str, now: Instant) {
        let Some(place) = self.place(name) else { return };
        if let Some(primary) = self.machines.routers[place].primary {
            self.machines.event(place, Event::Startup { primary }, now);
        }
    }

    pub(super) fn preempt_allowed(&mut self, name: &str, allowed: bool, now: Instant) {
        self.event(name, Event::PreemptAllowed(allowed), now);
    }

    /// Sets the priority in force.
    pub(super) fn prioritise(&mut self, name: &str, priority: u8, now: Instant) {
        if let Some(priority) = Priority::new(priority) {
            self.event(name, Event::Priority(priority), now);
        }
    }

    /// Makes a virtual router master. It advertises at the end of the turn: whether that has left
    /// is told by [`Elections::trouble`] then.
    pub(super) fn claim(&mut self, name: &str, now: Instant) {
        self.event(name, Event::Claim, now);
    }

    /// Makes the members of a group master; returns whether all of them were asked to be.
    ///
    /// Those whose last advertisement has not left go first, and the others only when that leaves
    /// now: a master elsewhere gives way to a group that can serve, not to a part of one.
    pub(super) fn claim_together(&mut self, members: &[String], now: Instant) -> bool {
        let (doubtful, others): (Vec<&String>, Vec<&String>) =
            members.iter().partition(|member| self.is_doubtful(member));
        for member in &doubtful {
            self.claim(member, now);
        }
        if !doubtful.is_empty() && !others.is_empty() {
            self.send(now);
            if doubtful.iter().any(|member| self.is_doubtful(member)) {
                return false;
            }
        }
        for member in others {
            self.claim(member, now);
        }
        true
    }

    fn is_doubtful(&self, name: &str) -> bool {
        self.place(name).is_some_and(|place| self.machines.routers[place].sending.is_doubtful())
    }

    /// Gives mastership up without a word on the wire.
    pub(super) fn relinquish(&mut self, name: &str, now: Instant) {
        self.event(name, Event::Relinquish, now);
    }

    /// Has the others hurry to claim, and gives mastership up.
    pub(super) fn retire(&mut self, name: &str, now: Instant) {
        self.event(name, Event::Retire, now);
    }

    /// Ends the yielding of one that has retired.
    pub(super) fn may_return(&mut self, name: &str, now: Instant) {
        self.event(name, Event::MayReturn, now);
    }

    /// Ends the election, with priority 0 from a master; whether it was one.
    pub(super) fn shut_down(&mut self, name: &str, now: Instant) -> bool {
        let Some(place) = self.place(name) else { return false };
        let was_master = self.machines.routers[place].is_master();
        self.machines.event(place, Event::Shutdown, now);
        was_master
    }

    /// Why the last advertisement of a virtual router has not left; `None` when it has.
    pub(super) fn trouble(&self, name: &str) -> Option<&str> {
        self.machines.routers[self.place(name)?].sending.trouble()
    }

    /// Why a virtual router is what it is.
    pub(super) fn standing(&self, name: &str, now: Instant) -> Standing {
        let place = self.place(name);
        place.map(|place| self.machines.routers[place].machine.standing(now)).unwrap_or_default()
    }

    /// What a virtual router has heard last of others, in a sentence; `None` when that is nothing.
    pub(super) fn last_heard(&self, name: &str, now: Instant) -> Option<String> {
        let machine = &self.machines.routers[self.place(name)?].machine;
        let heard = machine.heard()?;
        let ago = now.saturating_duration_since(heard.at).as_secs_f64();
        let (address, priority) = (heard.address, heard.priority);
        Some(if heard.resigned {
            format!("{name}: {address} stopped {ago:.2} s before, priority {priority} until then")
        } else {
            format!("{name}: {address} with priority {priority} was heard {ago:.2} s before")
        })
    }

    /// Sends what the turn has to say. Returns whether there was anything.
    pub(super) fn send(&mut self, now: Instant) -> bool {
        self.machines.send(now)
    }

    /// Which masters have been sent since the last call.
    pub(super) fn take_left(&mut self) -> Vec<Left> {
        std::mem::take(&mut self.machines.left)
    }

    /// Whether a virtual router's interfaces can be used; `None` while that is not known.
    pub(super) fn usable(&self, name: &str) -> Option<&Result<(), String>> {
        self.machines.routers[self.place(name)?].usable.as_ref()
    }

    /// The same of every virtual router of which it is known.
    pub(super) fn all_usable(&self) -> Vec<(String, Result<(), String>)> {
        let routers = self.machines.routers.iter();
        routers.filter_map(|one| Some((one.name.clone(), one.usable.clone()?))).collect()
    }

    /// Whether a virtual router is master in its election.
    pub(super) fn is_master(&self, name: &str) -> bool {
        self.place(name).is_some_and(|place| self.machines.routers[place].is_master())
    }

    /// Lets a virtual router listen that goes on from the last number it has sent.
    pub(super) fn listen_again(&mut self, name: &str, sequence: u32, now: Instant) {
        let Some(place) = self.place(name) else { return };
        self.machines.routers[place].machine.go_on_from_sequence(sequence);
        self.startup(name, now);
    }

    /// The master that a virtual router has heard since it listens.
    pub(super) fn master_heard(&self, name: &str) -> Option<IpAddr> {
        let machine = &self.machines.routers[self.place(name)?].machine;
        machine.heard().map(|heard| heard.address)
    }

    /// Whether [`Elections::take_news`] would bring something.
    pub(super) fn has_news(&self) -> bool {
        !self.machines.news.is_empty()
    }

    /// What the elections have brought since the last call.
    pub(super) fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.machines.news)
    }

    /// Takes what an interface is now; says of its virtual routers whether they can use it, where
    /// that is new. Nothing is said of one before all its interfaces are known.
    pub(super) fn interface(
        &mut self,
        state: &InterfaceState,
        now: Instant,
    ) -> Vec<(String, Result<(), String>)> {
        let name = &state.name;
        self.links.insert(name.clone(), state.link.clone());
        self.machines.ways.interface(name, state.link.as_ref());
        if self.lans.interface(name, state.link.as_ref()) {
            self.retry_at.get_or_insert(now + RETRY_AFTER);
        }
        let mut news = Vec::new();
        for &place in self.concerned.get(name).map_or(&[][..], Vec::as_slice) {
            let router = &mut self.machines.routers[place];
            let known = |name: &String| self.links.get(name).map(Option::as_ref);
            // One that is not known yet is waited for.
            let Some(base) = known(&router.interface) else { continue };
            let Some(virtual_link) = router.virtual_link.as_ref().map_or(Some(None), known) else {
                continue;
            };
            let carriers = router.carriers.iter().map(|name| Some((name, known(name)?)));
            let Some(carriers) = carriers.collect::<Option<Vec<_>>>() else { continue };
            let missing = carriers.into_iter().find(|(_, link)| link.is_none());
            if let Some(link) = virtual_link.or(base) {
                router.encoder.set_mtu(link.mtu as usize);
            }
            let usable = match self.lans.trouble(&router.interface, router.family()) {
                Some(why) => Err(why.to_owned()),
                None => router.usable_address(base, virtual_link),
            };
            let primary = usable.as_ref().ok().copied();
            router.mute = usable.as_ref().err().cloned();
            let usable = usable.and_then(|primary| match missing {
                Some((name, _)) => Err(format!("{name} does not exist, which has addresses of it")),
                None => Ok(primary),
            });
            let moved = router.primary != primary;
            router.primary = primary.or(router.primary);
            let usable = usable.map(|_| ());
            if router.usable.as_ref() != Some(&usable) {
                router.usable = Some(usable.clone());
                news.push((router.name.clone(), usable));
            }
            if let (true, Some(primary)) = (moved, primary) {
                self.machines.event(place, Event::PrimaryAddress(primary), now);
            }
        }
        news
    }

    /// Whether the interfaces are to be looked at again, because a socket could not be opened.
    pub(super) fn retry_is_due(&mut self, now: Instant) -> bool {
        self.retry_at.take_if(|at| *at <= now).is_some()
    }

    /// How often a master was not scheduled for so long that another may have taken over.
    pub(super) fn overslept(&self) -> u64 {
        self.machines.overslept
    }

    /// Packets for our VRIDs that were not read in time and are lost.
    pub(super) fn missed(&self) -> u64 {
        self.lans.missed()
    }

    /// The shortest advertisement interval; `None` without virtual routers.
    pub(super) fn shortest_interval(&self) -> Option<Duration> {
        let intervals = self.machines.routers.iter().map(|router| router.machine.config());
        intervals.map(|config| config.advertisement_interval).min()
    }

    /// Each virtual router for `status`.
    pub(super) fn status(&self, now: Instant) -> Vec<status::VirtualRouter> {
        self.machines.routers.iter().map(|router| router.status(now)).collect()
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    fn event(&mut self, name: &str, event: Event, now: Instant) {
        if let Some(place) = self.place(name) {
            self.machines.event(place, event, now);
        }
    }
}

/// The places of the virtual routers that each interface concerns.
fn concerned(virtual_routers: &[lockstep_config::VirtualRouter]) -> HashMap<String, Vec<usize>> {
    let mut concerned: HashMap<String, Vec<usize>> = HashMap::new();
    for (place, router) in virtual_routers.iter().enumerate() {
        let own = [&router.interface].into_iter().chain(&router.virtual_link);
        for interface in own.chain(&router.carriers) {
            concerned.entry(interface.clone()).or_default().push(place);
        }
    }
    concerned
}

impl Machines {
    fn event(&mut self, place: usize, event: Event, now: Instant) {
        self.drive(place, now, |machine| machine.handle(event, now));
    }

    fn drive(
        &mut self,
        place: usize,
        now: Instant,
        step: impl FnOnce(&mut VirtualRouter) -> Vec<Action>,
    ) {
        let Some(router) = self.routers.get_mut(place) else { return };
        let actions = step(&mut router.machine);
        self.timers.set(place, router.machine.next_deadline());
        for action in actions {
            self.perform(place, action, now);
        }
    }

    fn perform(&mut self, place: usize, action: Action, now: Instant) {
        let router = &mut self.routers[place];
        let name = &router.name;
        let event = match action {
            Action::Send(advertisement) => return self.say(place, &advertisement, now),
            Action::StateChanged { from, to } => {
                debug!(name, from = from.as_str(), to = to.as_str(), "election");
                if to == StateName::Backup {
                    router.sending.begin_anew();
                }
                return;
            }
            Action::Rejected { source, rejection } => {
                if self.warnings.may_write(now) {
                    warn!(name, "{source} sends {rejection}");
                }
                return;
            }
            Action::Differs { source, differing } => {
                if self.warnings.may_write(now) {
                    warn!(name, "{source} is heeded, but sends {differing}");
                }
                return;
            }
            Action::Withheld { reason } => {
                if self.warnings.may_write(now) {
                    warn!(name, reason, "does not take over");
                }
                router.withheld = Some(reason);
                return;
            }
            Action::Overslept { late } => {
                self.overslept += 1;
                if self.warnings.may_write(now) {
                    warn!(name, ?late, "was not scheduled in time and listens first");
                }
                return;
            }
            Action::Conflict { with } => {
                router.tell_other_master(with, &mut self.warnings, now);
                let name = router.name.clone();
                return self.news.push(News::Conflict { name });
            }
            Action::Elected { reason } => VirtualRouterEvent::Elected { reason },
            Action::Deferred => VirtualRouterEvent::Deferred,
            Action::Succeeded { by, .. } => VirtualRouterEvent::Succeeded { by },
            Action::Superseded { reason, .. } => VirtualRouterEvent::Superseded { reason },
        };
        self.news.push(News::Group { name: name.clone(), event });
    }

    fn say(&mut self, place: usize, advertisement: &Advertisement, now: Instant) {
        let router = &mut self.routers[place];
        match router.packets(advertisement) {
            Ok(packets) => self.ways.put(router.way, place, packets),
            Err(why) => self.sent(place, Err(Trouble::new(why, Errno::ENETDOWN)), now),
        }
    }

    fn send(&mut self, now: Instant) -> bool {
        if !self.ways.is_busy() {
            return false;
        }
        let at = since_boot();
        for (place, outcome) in self.ways.send() {
            let router = &self.routers[place];
            if outcome.is_ok() && router.is_master() {
                self.left.push(Left { place, at, sequence: router.machine.sequence() });
            }
            self.sent(place, outcome, now);
        }
        true
    }

    /// Takes what became of an advertisement. A master that nobody hears any more is none.
    fn sent(&mut self, place: usize, outcome: Result<(), Trouble>, now: Instant) {
        let router = &mut self.routers[place];
        let name = &router.name;
        match outcome {
            Ok(()) => {
                if router.sending.left() {
                    info!(name, "advertisements leave again");
                }
            }
            Err(trouble) => {
                let failure = trouble.words.clone();
                if router.sending.failed(trouble, now) && self.warnings.may_write(now) {
                    warn!(name, failure, "advertisement not sent");
                }
            }
        }
        let limit = router.silence_limit();
        if router.is_master()
            && let Some(why) = router.sending.is_lost(limit, now)
        {
            let reason = format!("no advertisement could be sent for {limit:?}: {why}");
            let event = VirtualRouterEvent::Failing { reason };
            self.news.push(News::Group { name: name.clone(), event });
        }
    }
}

impl Warnings {
    fn may_write(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            if self.written > WARNINGS {
                warn!(count = self.written - WARNINGS, "more warnings about elections");
            }
            (self.since, self.written) = (now, 0);
        }
        self.written = self.written.saturating_add(1);
        self.written <= WARNINGS
    }
}

#[cfg(test)]
mod tests;
