//! The world of an election: time, what is on its way, and one step after the other.

use std::rc::Rc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::faults::{Common, Fault, Kind, Plan, address};
use super::frame::Frame;
use super::invariants::{Invariants, settled};
use super::router::{Daemon, Output, Router};
use crate::Violation;
use crate::agenda::Agenda;
use crate::lan::{Cut, Lan};

/// Two to five routers, the LAN between them, and everything that goes wrong.
pub struct Elections {
    start: Instant,
    pub(super) now: Instant,
    rng: Rng,
    plan: Plan,
    common: Common,
    pub(super) lan: Lan,
    pub(super) routers: Vec<Router>,
    deadlines: Vec<Option<Instant>>,
    agenda: Agenda<What>,
    invariants: Invariants,
    out: Output,
    calm_since: Option<Instant>,
    outcome: ElectionsOutcome,
    /// Steps since the clock last moved.
    standing: u32,
}

/// What a run has seen, so that a test can tell that it saw something.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ElectionsOutcome {
    /// Times a router became master.
    pub takeovers: u64,
    /// Things that went wrong.
    pub faults: u64,
    /// Packets that did not arrive.
    pub lost: u64,
    /// Packets that routers heard.
    pub heard: u64,
    /// Steps.
    pub steps: u64,
    /// Most changes of one router to or from master.
    pub transitions: u64,
    /// What the changes are bounded by.
    pub causes: u64,
}

impl ElectionsOutcome {
    /// Adds what another run has seen.
    pub fn add(&mut self, other: &Self) {
        self.takeovers += other.takeovers;
        self.faults += other.faults;
        self.lost += other.lost;
        self.heard += other.heard;
        self.steps += other.steps;
        self.transitions += other.transitions;
        self.causes += other.causes;
    }
}

/// Something on the agenda.
enum What {
    Deliver {
        to: usize,
        frame: Rc<Frame>,
    },
    Fault(Fault),
    Start(usize),
    LinkUp(usize),
    Speak(usize),
    Uplink(usize),
    Join(Cut),
    Reload {
        router: usize,
        common: Common,
    },
    Calm,
    /// Nothing: time is stopped here.
    Mark,
}

impl Elections {
    /// The election of a seed; `trace` keeps a line of everything that happens.
    pub fn new(seed: u64, start: Instant, trace: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let plan = Plan::draw(&mut rng);
        let mut world = Self::of_plan(plan, rng, start, trace);
        world.note(|world| format!("{:#?}", world.plan));
        let latest = world.plan.common.interval * 5;
        for number in 0..world.routers.len() {
            let after = latest.mul_f64(world.rng.f64());
            world.later(after, What::Start(number));
        }
        world.plan_fault();
        world.later(world.plan.rough, What::Calm);
        world
    }

    /// A world in which nothing goes wrong but what is told to it.
    pub(super) fn of_plan(plan: Plan, mut rng: Rng, start: Instant, trace: bool) -> Self {
        let count = plan.routers.len();
        let routers = plan.routers.iter().enumerate().map(|(number, own)| {
            let settings = plan.common.settings(*own, number, count);
            let address = address(plan.common.family, number);
            // A fifth of a second apart, as without good time servers.
            let utc = Duration::from_secs(1_700_000_000) + Duration::from_millis(rng.u64(..200));
            Router::new(number, address, settings, own.weight, (start, utc), rng.fork())
        });
        Self {
            start,
            now: start,
            routers: routers.collect(),
            deadlines: vec![None; count],
            common: plan.common.clone(),
            lan: plan.lan.clone(),
            plan,
            rng,
            agenda: Agenda::new(),
            invariants: Invariants::default(),
            out: Output { lines: trace.then(Vec::new), ..Output::default() },
            calm_since: None,
            outcome: ElectionsOutcome::default(),
            standing: 0,
        }
    }

    /// Runs to the end: through the rough time, until everything has settled, and a while longer.
    ///
    /// # Errors
    /// The first thing that must never happen.
    pub fn run(&mut self) -> Result<ElectionsOutcome, Violation> {
        while self.calm_since.is_none() {
            self.step()?;
        }
        self.settle()?;
        self.stay()?;
        for router in &self.routers {
            self.judge(router.check_statistics())?;
            self.outcome.heard += router.heard;
            self.outcome.transitions = self.outcome.transitions.max(router.transitions);
        }
        self.outcome.causes = self.invariants.causes;
        Ok(self.outcome.clone())
    }

    /// What happened, line by line, if it was to be kept.
    pub fn trace(&self) -> &[String] {
        self.out.lines.as_deref().unwrap_or_default()
    }

    /// Until one master is left, whom nobody wants to replace, for as long as a packet may be on
    /// its way and a master unheard.
    fn settle(&mut self) -> Result<(), Violation> {
        let limit = self.now + self.settling_time();
        // A neighbour that counts its authentication headers anew is believed after a master down
        // interval, when a backup has taken it for dead already.
        let intervals = if self.common.authentication == Kind::Header { 5 } else { 1 };
        let silence = intervals * self.longest_interval();
        let hold = silence + self.plan.lan.delay + Duration::from_millis(1);
        let mut held_since = None;
        loop {
            match settled(&self.routers) {
                Ok(()) => {
                    let since = *held_since.get_or_insert(self.now);
                    if self.now - since > hold {
                        return Ok(());
                    }
                }
                Err(what) => {
                    held_since = None;
                    let late = self.now > limit;
                    self.judge(if late { Err(what.to_owned()) } else { Ok(()) })?;
                }
            }
            self.step()?;
        }
    }

    /// Calm weather changes nobody.
    fn stay(&mut self) -> Result<(), Violation> {
        let transitions =
            |world: &Self| -> u64 { world.routers.iter().map(|router| router.transitions).sum() };
        let (before, end) = (transitions(self), self.now + 10 * self.longest_interval());
        while self.now < end {
            self.step()?;
            let changed = transitions(self) != before;
            let still = || Err("a state changes although nothing happens".to_owned());
            self.judge(if changed { still() } else { Ok(()) })?;
        }
        Ok(())
    }

    /// The longest that everything together may take after the last fault: the minute that a group
    /// which could not send stays in fault at most, the start-up gate, the preempt delay, and master
    /// down intervals for the elections after each of them.
    fn settling_time(&self) -> Duration {
        let delays = self.routers.iter().map(|router| router.settings.preempt_delay);
        let gate = self.common.startup_limit;
        LONGEST_HOLD
            + gate
            + 2 * delays.max().unwrap_or_default()
            + 20 * self.longest_interval()
            + Duration::from_secs(1)
    }

    fn longest_interval(&self) -> Duration {
        let own = self.routers.iter().map(|router| router.settings.advertisement_interval);
        own.max().unwrap_or_default()
    }

    /// Goes on to the next thing that happens, and checks what must always hold.
    ///
    /// # Errors
    /// What does not hold.
    pub fn step(&mut self) -> Result<(), Violation> {
        self.outcome.steps += 1;
        let before = self.now;
        let timers = self.deadlines.iter().enumerate();
        let timer = timers.filter_map(|(number, at)| Some(((*at)?, number))).min();
        match (timer, self.agenda.next_at()) {
            (Some((at, number)), entry) if entry.is_none_or(|entry| at < entry) => {
                self.now = self.now.max(at);
                self.with(number, Router::turn)?;
            }
            _ => {
                let next = self.agenda.pop().ok_or("nothing is left to happen");
                let next = next.map_err(|what| self.violation(None, what))?;
                self.now = self.now.max(next.0);
                self.happen(next.1)?;
            }
        }
        self.standing = if self.now > before { 0 } else { self.standing + 1 };
        if self.standing > MAX_STANDING {
            return Err(self.violation(None, "the clock stands still"));
        }
        if self.outcome.steps > MAX_STEPS {
            return Err(self.violation(None, "it never ends"));
        }
        for router in &self.routers {
            if let Some(daemon) = &router.daemon
                && router.stalled_until.is_none()
            {
                let held = daemon.check(self.now);
                held.map_err(|what| self.violation(Some(router.number), &what))?;
            }
        }
        let held = self.invariants.check_masters(&self.routers, &self.lan, self.now);
        self.judge(held)
    }

    fn happen(&mut self, what: What) -> Result<(), Violation> {
        match what {
            What::Deliver { to, frame } => {
                self.with(to, |router, now, out| router.deliver(&frame, now, out))
            }
            What::Fault(fault) => {
                self.plan_fault();
                self.strike(fault)
            }
            What::Start(number) => self.start(number),
            What::LinkUp(number) => {
                self.cause();
                self.with(number, |router, now, out| router.set_link(true, now, out))
            }
            What::Speak(number) => {
                self.cause();
                self.routers[number].mute = false;
                Ok(())
            }
            What::Uplink(number) => {
                self.cause();
                self.with(number, |router, now, out| router.track(false, now, out))
            }
            What::Join(directions) => {
                self.cause();
                self.note(|_| "packets arrive again".to_owned());
                self.lan.join(&directions);
                Ok(())
            }
            What::Reload { router, common } => self.reload(router, &common),
            What::Calm => self.calm(),
            What::Mark => Ok(()),
        }
    }

    /// Goes on to exactly this moment.
    pub(super) fn run_to(&mut self, time: Instant) -> Result<(), Violation> {
        self.agenda.enter(time, What::Mark);
        while self.now < time {
            self.step()?;
        }
        Ok(())
    }

    pub(super) fn start(&mut self, number: usize) -> Result<(), Violation> {
        let router = &self.routers[number];
        if router.daemon.as_ref().is_some_and(Daemon::is_stopping) {
            self.later(Duration::from_millis(10), What::Start(number));
            return Ok(());
        }
        if router.daemon.is_some() {
            return Ok(());
        }
        self.cause();
        self.with(number, Router::start)
    }

    /// Everything is put right, and all routers have the same settings.
    fn calm(&mut self) -> Result<(), Violation> {
        let stalls = self.routers.iter().filter_map(|router| router.stalled_until);
        if let Some(until) = stalls.max() {
            self.later(until - self.now + Duration::from_millis(1), What::Calm);
            return Ok(());
        }
        self.note(|_| "the faults stop".to_owned());
        self.agenda.retain(|what| matches!(what, What::Deliver { .. }));
        self.lan = Lan::calm();
        self.calm_since = Some(self.now);
        for number in 0..self.routers.len() {
            self.cause();
            self.routers[number].mute = false;
            self.with(number, |router, now, out| router.set_link(true, now, out))?;
            self.with(number, |router, now, out| router.track(false, now, out))?;
            let common = self.common.clone();
            self.reload(number, &common)?;
            self.start(number)?;
        }
        Ok(())
    }

    fn reload(&mut self, number: usize, common: &Common) -> Result<(), Violation> {
        let settings = common.settings(self.plan.routers[number], number, self.routers.len());
        if settings == self.routers[number].settings {
            return Ok(());
        }
        self.cause();
        self.routers[number].settings = settings;
        self.with(number, Router::reload)
    }

    pub(super) fn strike(&mut self, fault: Fault) -> Result<(), Violation> {
        self.outcome.faults += 1;
        self.cause();
        self.note(|_| format!("fault: {fault:?}"));
        match fault {
            Fault::Kill(number, time) => {
                self.later(time, What::Start(number));
                self.with(number, |router, _, _| router.kill())
            }
            Fault::Stop(number, time) => {
                self.later(time, What::Start(number));
                self.with(number, Router::stop)
            }
            Fault::Stall(number, time) => {
                let until = self.now + time;
                let router = &mut self.routers[number];
                if router.daemon.is_some() && router.stalled_until.is_none() {
                    router.stalled_until = Some(until);
                    self.deadlines[number] = Some(until);
                }
                Ok(())
            }
            Fault::Part(directions, time) => {
                self.lan.part(&directions);
                self.later(time, What::Join(directions));
                Ok(())
            }
            Fault::LinkDown(number, time) => {
                self.later(time, What::LinkUp(number));
                self.with(number, |router, now, out| router.set_link(false, now, out))
            }
            Fault::Mute(number, time) => {
                self.later(time, What::Speak(number));
                self.routers[number].mute = true;
                Ok(())
            }
            Fault::Uplink(number, time) => {
                self.later(time, What::Uplink(number));
                self.with(number, |router, now, out| router.track(true, now, out))
            }
            Fault::Change(common, between) => {
                let first = self.rng.usize(..self.routers.len());
                for turn in 0..self.routers.len() {
                    let router = (first + turn) % self.routers.len();
                    let after = between * turn as u32;
                    self.later(after, What::Reload { router, common: common.clone() });
                }
                self.common = common;
                Ok(())
            }
            Fault::Own(number, own) => {
                self.plan.routers[number] = own;
                let common = self.common.clone();
                self.reload(number, &common)
            }
        }
    }

    /// Lets a router act, and carries what it sends.
    fn with(
        &mut self,
        number: usize,
        act: impl FnOnce(&mut Router, Instant, &mut Output) -> Result<(), String>,
    ) -> Result<(), Violation> {
        let router = &mut self.routers[number];
        let marks = self.out.lines.as_ref().map(Vec::len);
        let held = act(router, self.now, &mut self.out).and_then(|()| router.reap());
        self.deadlines[number] = router.next_deadline();
        if let (Some(mark), Some(lines)) = (marks, &mut self.out.lines) {
            let at = (self.now - self.start).as_secs_f64();
            for line in &mut lines[mark..] {
                *line = format!("{at:11.6} {line}");
            }
        }
        held.map_err(|what| self.violation(Some(number), &what))?;
        if std::mem::take(&mut self.out.elected) {
            self.outcome.takeovers += 1;
            let held = self.invariants.check_flapping(&self.routers[number]);
            self.judge(held)?;
        }
        if !self.out.frames.is_empty() {
            let mut frames = std::mem::take(&mut self.out.frames);
            for frame in frames.drain(..) {
                self.carry(number, &frame);
            }
            self.out.frames = frames;
        }
        Ok(())
    }

    fn carry(&mut self, from: usize, frame: &Rc<Frame>) {
        for to in 0..self.routers.len() {
            let meant =
                frame.destination.is_multicast() || frame.destination == self.routers[to].address;
            if to == from || !meant {
                continue;
            }
            let mut arrives = false;
            for delay in self.lan.carry(from, to, &mut self.rng) {
                arrives = true;
                self.agenda.enter(self.now + delay, What::Deliver { to, frame: Rc::clone(frame) });
            }
            self.outcome.lost += u64::from(!arrives);
            let interval = self.common.interval;
            self.invariants.note_carried(from, to, arrives, &self.lan, interval, self.now);
        }
    }

    fn plan_fault(&mut self) {
        let (after, fault) = self.plan.next_fault(&self.common, &mut self.rng);
        self.later(after, What::Fault(fault));
    }

    fn cause(&mut self) {
        self.invariants.causes += 1;
    }

    fn later(&mut self, after: Duration, what: What) {
        self.agenda.enter(self.now + after, what);
    }

    fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.out.lines.is_some() {
            let at = (self.now - self.start).as_secs_f64();
            let line = format!("{at:11.6} {}", line(self));
            self.out.note(|| line);
        }
    }

    fn judge(&self, held: Result<(), String>) -> Result<(), Violation> {
        held.map_err(|what| self.violation(None, &what))
    }

    fn violation(&self, router: Option<usize>, what: &str) -> Violation {
        let what = match router {
            Some(number) => format!("router {number}: {what}"),
            None => what.to_owned(),
        };
        Violation { at: self.now - self.start, what }
    }
}

/// Most steps at one moment: a machine whose deadline does not move is a busy loop.
const MAX_STANDING: u32 = 1_000;
/// Most steps of a run, far more than any that ends.
const MAX_STEPS: u64 = 3_000_000;
/// The longest that a group which could not send stays in fault.
const LONGEST_HOLD: Duration = Duration::from_mins(1);
