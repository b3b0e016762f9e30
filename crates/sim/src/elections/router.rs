//! One router of an election: its sockets, its link and, while it runs, a daemon made of the real
//! election and the real failover group.
//!
//! The daemon here does what the core thread of `lockstep-daemon` does, in its order: before an
//! overdue timer is acted on, what waits in the sockets is heard.

mod acting;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use lockstep_failover::tracking::Seen;
use lockstep_failover::{self as failover, Failover, Outcome, Step, StepId, VirtualRouterEvent};
use lockstep_vrrp::{
    self as vrrp, Config, Encoder, Priority, State, StateName, VirtualRouter, WhenMisunderstood,
};

use super::counted::Counted;
use super::expectation::{Expectation, Terms};
use super::frame::{Frame, is_numbered, understands};
use super::group::{NAME, group, uplink};

/// Most packets heard before an overdue timer is acted on, as in the daemon.
const LISTEN_LIMIT: usize = 64;
/// Packets that wait in a socket at most: what the usual receive buffer of 208 KiB holds of small
/// ones. The kernel drops those that come after.
const SOCKET_LIMIT: usize = 256;
/// Most turns at one moment: a machine whose deadline does not move is a busy loop.
const MAX_STANDING: u32 = 1_000;

/// A router.
pub(super) struct Router {
    pub(super) number: usize,
    pub(super) address: IpAddr,
    /// What its configuration file says.
    pub(super) settings: Rc<Config>,
    pub(super) daemon: Option<Daemon>,
    /// Not scheduled until then.
    pub(super) stalled_until: Option<Instant>,
    pub(super) link: bool,
    /// The kernel refuses to send.
    pub(super) mute: bool,
    /// What is taken from the priority while the uplink is bad; 0 when it is not tracked.
    weight: u8,
    uplink_is_bad: bool,
    /// Whether its kernel has the virtual addresses.
    pub(super) has_address: bool,
    /// Changes of the election to or from master.
    pub(super) transitions: u64,
    /// Claims that could not be sent, and times that sending failed for too long.
    pub(super) failures: u64,
    /// Advertisements that were refused or heeded, for the outcome.
    pub(super) heard: u64,
    /// The time of day at a moment.
    clock: (Instant, Duration),
    /// How long the network thread takes for a step.
    steps: fastrand::Rng,
    socket: VecDeque<Rc<Frame>>,
    inbox: VecDeque<News>,
}

/// What the other threads tell the core.
enum News {
    Stepped(StepId),
    Interface(bool),
    Reload,
    Tracked,
    Stop,
}

/// A running daemon.
pub(super) struct Daemon {
    pub(super) election: VirtualRouter,
    pub(super) failover: Failover,
    encoder: Encoder,
    /// The settings in force.
    pub(super) settings: Rc<Config>,
    /// The priority in force.
    pub(super) priority: u8,
    pub(super) expectation: Expectation,
    /// Until then a neighbour that it refuses may keep it backup.
    withheld_until: Option<Instant>,
    network: VecDeque<Pending>,
    /// Since when nothing could be sent.
    unsent_since: Option<Instant>,
    stopped: bool,
    counted: Counted,
}

/// A step given to the network thread.
struct Pending {
    id: StepId,
    step: Step,
    due: Instant,
}

/// What comes out of a turn.
#[derive(Default)]
pub(super) struct Output {
    /// Packets that leave.
    pub(super) frames: Vec<Rc<Frame>>,
    /// What happened, if it is to be kept.
    pub(super) lines: Option<Vec<String>>,
    /// The router became master in this turn.
    pub(super) elected: bool,
}

impl Output {
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(line());
        }
    }
}

impl Router {
    pub(super) fn new(
        number: usize,
        address: IpAddr,
        settings: Rc<Config>,
        weight: u8,
        clock: (Instant, Duration),
        steps: fastrand::Rng,
    ) -> Self {
        Self {
            number,
            address,
            settings,
            daemon: None,
            stalled_until: None,
            link: true,
            mute: false,
            weight,
            uplink_is_bad: false,
            clock,
            has_address: false,
            transitions: 0,
            failures: 0,
            heard: 0,
            steps,
            socket: VecDeque::new(),
            inbox: VecDeque::new(),
        }
    }

    fn utc(&self, now: Instant) -> Duration {
        self.clock.1 + (now - self.clock.0)
    }

    pub(super) fn is_master(&self) -> bool {
        self.daemon.as_ref().is_some_and(|daemon| daemon.state() == StateName::Master)
    }

    /// Whether what it says now reaches the LAN.
    pub(super) fn can_speak(&self) -> bool {
        self.daemon.is_some() && self.stalled_until.is_none() && self.link && !self.mute
    }

    pub(super) fn start(&mut self, now: Instant, out: &mut Output) -> Result<(), String> {
        let settings = Rc::clone(&self.settings);
        self.has_address = false;
        self.socket.clear();
        self.inbox.clear();
        self.stalled_until = None;
        let mut daemon = Daemon {
            election: VirtualRouter::new((*settings).clone()),
            failover: Failover::new(&group(&settings, self.weight), now),
            encoder: Encoder::new(&settings),
            priority: settings.priority.value(),
            settings,
            expectation: Expectation::Nothing,
            withheld_until: None,
            network: VecDeque::new(),
            unsent_since: None,
            stopped: false,
            counted: Counted::default(),
        };
        out.note(|| format!("router {} starts", self.number));
        let actions = daemon.failover.handle(failover::Event::Start, now);
        self.daemon = Some(daemon);
        self.perform(actions, now, out)?;
        self.take(&News::Tracked, now, out)?;
        self.take(&News::Interface(self.link), now, out)?;
        self.turn(now, out)
    }

    /// The daemon is gone from one moment to the next; its kernel stays as it is.
    pub(super) fn kill(&mut self) -> Result<(), String> {
        let held = self.check_statistics();
        self.transitions += u64::from(self.is_master());
        self.daemon = None;
        self.stalled_until = None;
        held
    }

    pub(super) fn stop(&mut self, now: Instant, out: &mut Output) -> Result<(), String> {
        self.tell(News::Stop, now, out)
    }

    pub(super) fn reload(&mut self, now: Instant, out: &mut Output) -> Result<(), String> {
        self.tell(News::Reload, now, out)
    }

    pub(super) fn track(
        &mut self,
        bad: bool,
        now: Instant,
        out: &mut Output,
    ) -> Result<(), String> {
        self.uplink_is_bad = bad;
        self.tell(News::Tracked, now, out)
    }

    pub(super) fn set_link(
        &mut self,
        up: bool,
        now: Instant,
        out: &mut Output,
    ) -> Result<(), String> {
        self.link = up;
        self.tell(News::Interface(up), now, out)
    }

    fn tell(&mut self, news: News, now: Instant, out: &mut Output) -> Result<(), String> {
        if self.daemon.is_none() {
            return Ok(());
        }
        self.inbox.push_back(news);
        self.turn(now, out)
    }

    /// A packet arrives at the interface.
    pub(super) fn deliver(
        &mut self,
        frame: &Rc<Frame>,
        now: Instant,
        out: &mut Output,
    ) -> Result<(), String> {
        if self.daemon.is_none() || !self.link || self.socket.len() == SOCKET_LIMIT {
            return Ok(());
        }
        self.socket.push_back(Rc::clone(frame));
        self.turn(now, out)
    }

    /// When this router has something to do although nothing arrives.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let daemon = self.daemon.as_ref()?;
        self.stalled_until.or_else(|| {
            daemon.deadline().into_iter().chain(daemon.network.front().map(|step| step.due)).min()
        })
    }

    /// Everything that can be done now, in the order of the core thread's loop.
    pub(super) fn turn(&mut self, now: Instant, out: &mut Output) -> Result<(), String> {
        if let Some(until) = self.stalled_until {
            if now < until {
                return Ok(());
            }
            self.stalled_until = None;
            self.wake(now, out);
        }
        for _ in 0..MAX_STANDING {
            self.answer_steps(now);
            if self.is_due(now) {
                for _ in 0..LISTEN_LIMIT {
                    let Some(frame) = self.socket.pop_front() else { break };
                    self.hear(&frame, now, out)?;
                }
                self.timeout(now, out)?;
            }
            if let Some(news) = self.inbox.pop_front() {
                self.take(&news, now, out)?;
            } else if let Some(frame) = self.socket.pop_front() {
                self.hear(&frame, now, out)?;
            } else if !self.is_due(now) {
                return Ok(());
            }
        }
        Err("its clock stands still".to_owned())
    }

    fn is_due(&self, now: Instant) -> bool {
        self.daemon.as_ref().and_then(Daemon::deadline).is_some_and(|due| due <= now)
    }

    fn wake(&mut self, now: Instant, out: &mut Output) {
        let Some(daemon) = &mut self.daemon else { return };
        let due = daemon.election.next_deadline();
        let terms = Terms { config: &daemon.settings, priority: daemon.priority };
        daemon.expectation.woke(terms, due, now);
        out.note(|| {
            let late = due.map(|due| now.saturating_duration_since(due));
            format!("router {} runs again, {late:?} late", self.number)
        });
    }

    /// The network thread ran while the core did, or not at all.
    fn answer_steps(&mut self, now: Instant) {
        let Some(daemon) = &mut self.daemon else { return };
        while let Some(done) = daemon.network.pop_front_if(|step| step.due <= now) {
            match done.step {
                Step::AddressesUp => self.has_address = true,
                Step::AddressesDown => self.has_address = false,
                _ => {}
            }
            self.inbox.push_back(News::Stepped(done.id));
        }
    }

    fn timeout(&mut self, now: Instant, out: &mut Output) -> Result<(), String> {
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        if daemon.election.next_deadline().is_some_and(|due| due <= now) {
            self.drive(vrrp::Event::Timeout, now, out)?;
        }
        self.feed(failover::Event::Timeout, now, out)
    }

    fn take(&mut self, news: &News, now: Instant, out: &mut Output) -> Result<(), String> {
        match *news {
            News::Stepped(id) => {
                let outcome = Outcome::Done(String::new());
                self.feed(failover::Event::Stepped { id, outcome }, now, out)
            }
            News::Interface(up) => {
                let usable = if up { Ok(()) } else { Err("eth0 is down".to_owned()) };
                let virtual_router = NAME.to_owned();
                self.feed(failover::Event::Interface { virtual_router, usable }, now, out)
            }
            News::Reload => self.configure(now, out),
            News::Tracked => {
                let seen = if self.uplink_is_bad { Seen::Bad } else { Seen::Good };
                let event =
                    failover::Event::Tracked { subject: uplink(), seen, detail: String::new() };
                self.feed(event, now, out)
            }
            News::Stop => self.feed(failover::Event::Stop, now, out),
        }
    }

    /// A priority is changed by a reload only where nothing weighs on it, so that the settings say
    /// the priority in force.
    fn configure(&mut self, now: Instant, out: &mut Output) -> Result<(), String> {
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let before = std::mem::replace(&mut daemon.settings, Rc::clone(&self.settings));
        let earlier = Terms { config: &before, priority: daemon.priority };
        if self.weight == 0 {
            daemon.priority = self.settings.priority.value();
        }
        let later = Terms { config: &daemon.settings, priority: daemon.priority };
        daemon.expectation.retuned(earlier, later, now);
        let interval = before.advertisement_interval.max(daemon.settings.advertisement_interval);
        daemon.withheld_until = daemon.withheld_until.map(|until| until + later.down(interval));
        daemon.encoder.configure(&daemon.settings);
        let event = vrrp::Event::Configure(Box::new((*daemon.settings).clone()));
        let priority = Priority::new(daemon.priority).ok_or("priority 0")?;
        out.note(|| format!("router {} has {:?}", self.number, self.settings));
        self.drive(event, now, out)?;
        self.drive(vrrp::Event::Priority(priority), now, out)
    }

    fn prioritise(&mut self, priority: u8, now: Instant, out: &mut Output) -> Result<(), String> {
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let earlier = Terms { config: &daemon.settings, priority: daemon.priority };
        let later = Terms { config: &daemon.settings, priority };
        daemon.expectation.retuned(earlier, later, now);
        daemon.priority = priority;
        out.note(|| format!("router {} has priority {priority}", self.number));
        let priority = Priority::new(priority).ok_or("priority 0")?;
        self.drive(vrrp::Event::Priority(priority), now, out)
    }

    fn hear(&mut self, frame: &Frame, now: Instant, out: &mut Output) -> Result<(), String> {
        let utc = self.utc(now);
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let Some(datagram) = frame.datagram(utc) else { return Err("no IP packet".to_owned()) };
        let heeded = daemon.election.statistics().advertisements_received;
        let was_master = daemon.state() == StateName::Master;
        let actions = daemon.election.receive(&datagram, now);
        let heeded = daemon.election.statistics().advertisements_received > heeded;
        daemon.counted.note_heard(heeded, frame.priority);
        self.heard += 1;
        out.note(|| {
            let Frame { from, priority, .. } = frame;
            let verb = if heeded { "heeds" } else { "refuses" };
            format!("router {} {verb} router {from}, priority {priority}", self.number)
        });
        let understood = understands(&daemon.settings, &frame.sender);
        let numbered = is_numbered(&daemon.settings);
        if heeded != understood && !(understood && numbered) {
            let verb = if heeded { "heeds" } else { "refuses" };
            return Err(format!("it {verb} what router {} says", frame.from));
        }
        let terms = Terms { config: &daemon.settings, priority: daemon.priority };
        let overslept = daemon.expectation.overslept(now);
        if !heeded {
            daemon.expectation.refused(terms, frame.priority, frame.interval, now);
            if daemon.settings.misunderstood == WhenMisunderstood::StayBackup {
                let interval = frame.interval.max(daemon.interval());
                daemon.withheld_until = Some(now + 2 * daemon.terms().down(interval));
            }
        } else if was_master {
            if frame.priority == 0 {
                daemon.expectation.other_resigned();
            }
        } else {
            daemon.expectation.heeded(terms, frame.priority, frame.interval, now);
        }
        let better = (frame.priority, frame.source) > (daemon.priority, self.address);
        let yields = heeded && was_master && frame.priority > 0 && (better || overslept);
        self.carry_out(actions, Some(frame.interval), now, out)?;
        if yields && self.is_master() {
            return Err(format!("it is still master after it heard router {}", frame.from));
        }
        Ok(())
    }

    /// What the machine has counted is what the world has seen.
    pub(super) fn check_statistics(&self) -> Result<(), String> {
        self.daemon.as_ref().map_or(Ok(()), |daemon| daemon.counted.check(&daemon.election))
    }

    /// Ends the process of a daemon that has handed everything over.
    pub(super) fn reap(&mut self) -> Result<(), String> {
        if self.daemon.as_ref().is_some_and(|daemon| daemon.stopped) {
            return self.kill();
        }
        Ok(())
    }
}

impl Daemon {
    /// A master that was not heard for a master down interval has no reason to go on serving.
    fn not_sent(&mut self, now: Instant) -> Option<VirtualRouterEvent> {
        let since = *self.unsent_since.get_or_insert(now);
        let limit = 3 * self.settings.advertisement_interval;
        let failing = self.state() == StateName::Master && now - since >= limit;
        failing.then(|| VirtualRouterEvent::Failing { reason: "sending fails".to_owned() })
    }

    pub(super) fn state(&self) -> StateName {
        self.election.state().name()
    }

    pub(super) fn terms(&self) -> Terms<'_> {
        Terms { config: &self.settings, priority: self.priority }
    }

    /// Whether it has missed what it had to do by now.
    pub(super) fn check(&self, now: Instant) -> Result<(), String> {
        self.expectation.check(self.withheld_until, now)
    }

    /// Whether it was told to stop, and is about to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.failover.groups()[0].state() == failover::State::Stopped
    }

    fn deadline(&self) -> Option<Instant> {
        self.election.next_deadline().into_iter().chain(self.failover.next_deadline()).min()
    }

    /// The interval it counts with now.
    pub(super) fn interval(&self) -> Duration {
        match self.election.state() {
            State::Backup { master_adver_interval, .. } => master_adver_interval,
            State::Initialize | State::Master { .. } => self.settings.advertisement_interval,
        }
    }
}
