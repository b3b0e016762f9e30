//! The world: time, what is on its way, and one step after the other.

mod strike;
mod traffic;

use std::time::{Duration, Instant};

use fastrand::Rng;
use lockstep_failover::State;

use crate::agenda::Agenda;
use crate::faults::{Fault, Weather};
use crate::invariants::{Invariants, SETTLE, SETTLE_AT_LEAST, Violation};
use crate::kernel::KernelChange;
use crate::lan::{Cut, Lan};
use crate::router::settings::Change as Setting;
use crate::router::{Effect, Packet, RESUMED, Router, address};

/// How long things go wrong.
const ROUGH: Duration = Duration::from_mins(1);
/// How often it is looked whether both routers have settled.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Most steps at one moment: a machine whose deadline does not move is a busy loop.
const MAX_STANDING: u32 = 10_000;

/// Two routers, the LAN between them, and everything that goes wrong.
pub struct World {
    start: Instant,
    now: Instant,
    rng: Rng,
    weather: Weather,
    lan: Lan,
    routers: [Router; 2],
    agenda: Agenda<What>,
    invariants: Invariants,
    flows_made: u32,
    /// Connections to the routers themselves that were made.
    logins: u16,
    /// Steps since the clock last moved.
    standing: u32,
    outcome: Outcome,
    trace: Option<Vec<String>>,
}

/// What a run has seen, so that a test can tell that it saw something.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Outcome {
    /// Times a router became master.
    pub takeovers: u64,
    /// Things that went wrong.
    pub faults: u64,
    /// Packets that did not arrive.
    pub lost: u64,
    /// Flows the routers' traffic has made.
    pub flows: u64,
    /// Daemons that went on as master where one before them was killed.
    pub resumed: u64,
    /// Planned hand-overs that were begun.
    pub handovers: u64,
    /// Configurations that were put in force in a running daemon.
    pub reloads: u64,
    /// Steps.
    pub steps: u64,
}

impl Outcome {
    /// Adds what another run has seen.
    pub fn add(&mut self, other: &Self) {
        self.takeovers += other.takeovers;
        self.faults += other.faults;
        self.lost += other.lost;
        self.flows += other.flows;
        self.resumed += other.resumed;
        self.handovers += other.handovers;
        self.reloads += other.reloads;
        self.steps += other.steps;
    }
}

/// Something on the agenda.
enum What {
    Deliver { to: usize, packet: Packet },
    Kernel { to: usize, change: Box<KernelChange> },
    Traffic,
    Fault(Fault),
    Restart(usize),
    InterfaceUp(usize),
    CheckPasses(usize),
    Hear(Cut),
    Reload { router: usize, change: Setting },
    MaintenanceEnds(usize),
    Calm,
}

impl World {
    /// The world of a seed; `trace` keeps a line of everything that happens.
    pub fn new(seed: u64, start: Instant, trace: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let weather = Weather::draw(&mut rng);
        let mut world = Self {
            start,
            now: start,
            lan: weather.lan(),
            routers: [0, 1].map(|number| Router::new(number, &weather)),
            weather,
            rng,
            agenda: Agenda::new(),
            invariants: Invariants::default(),
            flows_made: 0,
            logins: 0,
            standing: 0,
            outcome: Outcome::default(),
            trace: trace.then(Vec::new),
        };
        for number in 0..2 {
            let after = Duration::from_millis(world.rng.u64(..500));
            world.later(after, What::Restart(number));
        }
        world.later(Duration::ZERO, What::Traffic);
        world.plan_fault();
        world.later(ROUGH, What::Calm);
        world
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// The first thing that must never happen.
    pub fn run(&mut self) -> Result<Outcome, Violation> {
        let end = self.start + ROUGH + SETTLE;
        let mut looks_at = self.start + ROUGH + SETTLE_AT_LEAST;
        let mut held = Ok(());
        while self.now < end && held.is_ok() {
            held = self.step();
            if self.now >= looks_at {
                if Invariants::check_settled(&self.routers).is_ok() {
                    break;
                }
                looks_at = self.now + LOOK_EVERY;
            }
        }
        for number in 0..2 {
            let standing = self.routers[number].standing();
            self.note(|| format!("router {number} in the end: {standing}"));
        }
        held?;
        self.judge(Invariants::check_settled(&self.routers))?;
        Ok(self.outcome.clone())
    }

    /// What happened, line by line, if it was to be kept.
    pub fn trace(&self) -> &[String] {
        self.trace.as_deref().unwrap_or_default()
    }

    /// Goes on to the next thing that happens, and checks what must always hold.
    ///
    /// # Errors
    /// What does not hold.
    pub fn step(&mut self) -> Result<(), Violation> {
        self.outcome.steps += 1;
        let before = self.now;
        let timer =
            (0..2).filter_map(|number| Some((self.routers[number].next_deadline()?, number))).min();
        let entry = self.agenda.next_at();
        match (timer, entry) {
            (Some((at, number)), entry) if entry.is_none_or(|entry| at < entry) => {
                self.now = self.now.max(at);
                let mut effects = Vec::new();
                self.routers[number].timeout(self.now, &mut effects);
                self.follow(number, effects)?;
            }
            _ => {
                let Some((at, what)) = self.agenda.pop() else {
                    self.now = self.start + ROUGH + SETTLE;
                    return Ok(());
                };
                self.now = self.now.max(at);
                self.happen(what)?;
            }
        }
        let held = self.invariants.check_masters(&self.routers, &self.lan, self.now);
        self.judge(held)?;
        let held = self.invariants.check_addresses(&self.routers, self.now);
        self.judge(held)?;
        let held = self.invariants.check_hollow(&self.routers, self.now);
        self.judge(held)?;
        let held = self.invariants.check_overstay(&self.routers, self.now);
        self.judge(held)?;
        let held = self.invariants.check_maintenance(&self.routers, self.now);
        self.judge(held)?;
        let held = self.invariants.check_commit(&self.routers, self.now);
        self.judge(held)?;
        let held = self.invariants.check_preemption(&self.routers, self.now);
        self.judge(held)?;
        self.standing = if self.now > before { 0 } else { self.standing + 1 };
        let still = self.standing > MAX_STANDING;
        self.judge(if still { Err(format!("the clock stands still: {timer:?}")) } else { Ok(()) })
    }

    fn happen(&mut self, what: What) -> Result<(), Violation> {
        match what {
            What::Deliver { to, packet } => return self.deliver(to, packet),
            What::Kernel { to, change } => {
                let mut effects = Vec::new();
                self.routers[to].kernel_event(&change, self.now, &mut effects);
                return self.follow(to, effects);
            }
            What::Traffic => return self.traffic(),
            What::Fault(fault) => {
                self.outcome.faults += 1;
                self.note(|| format!("fault: {fault:?}"));
                self.plan_fault();
                return self.strike(fault);
            }
            What::Reload { router, change } => return self.reload(router, change),
            What::MaintenanceEnds(number) => return self.maintain(number, None),
            What::Restart(number) => {
                if self.routers[number].is_stopping() {
                    self.later(Duration::from_millis(500), What::Restart(number));
                } else if self.routers[number].daemon.is_none() {
                    self.note(|| format!("router {number} starts"));
                    self.invariants.forget_told(1 - number);
                    let mut effects = Vec::new();
                    self.routers[number].start(&mut self.rng, self.now, &mut effects);
                    return self.follow(number, effects);
                }
            }
            What::InterfaceUp(number) => {
                let mut effects = Vec::new();
                self.routers[number].usable(Ok(()), self.now, &mut effects);
                return self.follow(number, effects);
            }
            What::CheckPasses(number) => {
                let mut effects = Vec::new();
                self.routers[number].check(true, self.now, &mut effects);
                return self.follow(number, effects);
            }
            What::Hear(cut) => {
                self.lan.join(&cut);
                self.note(|| format!("packets arrive again: {:?}", [cut[0][1], cut[1][0]]));
            }
            What::Calm => {
                self.note(|| "the faults stop".to_owned());
                self.agenda.retain(|what| !matches!(what, What::Fault(_) | What::Traffic));
                self.lan = Lan::calm();
                for number in 0..2 {
                    self.routers[number].calm();
                    self.later(Duration::from_millis(100), What::Restart(number));
                    self.later(Duration::from_millis(200), What::MaintenanceEnds(number));
                }
            }
        }
        Ok(())
    }

    fn deliver(&mut self, to: usize, packet: Packet) -> Result<(), Violation> {
        let replication = matches!(packet, Packet::Replication(_));
        let heard = match &packet {
            Packet::Vrrp(bytes) => bytes.get(22).copied(),
            Packet::Replication(_) | Packet::Announcement => None,
        };
        let mut effects = Vec::new();
        let before = self.routers[to].mastership();
        self.routers[to].receive(packet, self.now, &mut effects);
        if replication {
            self.invariants.note_told(&self.routers, self.now);
        }
        if let Some(priority) = heard {
            let heard = (priority, address(1 - to));
            let held = Invariants::check_superseded(before, heard, &self.routers[to]);
            self.judge(held)?;
        }
        self.follow(to, effects)
    }

    fn follow(&mut self, number: usize, effects: Vec<Effect>) -> Result<(), Violation> {
        for effect in effects {
            match effect {
                Effect::Send(packet) => self.send(number, &packet),
                Effect::Kernel(change) => self.tell_kernel_event(number, change),
                Effect::AddressUp { committed } => {
                    self.note(|| format!("router {number} has the address"));
                    let held = self.invariants.check_address_up(&self.routers, number, committed);
                    self.judge(held)?;
                }
                Effect::Entered { state, reason } => {
                    self.note(|| format!("router {number} is {}: {reason}", state.as_str()));
                    if state == State::Master {
                        self.outcome.takeovers += 1;
                        self.outcome.resumed += u64::from(reason == RESUMED);
                        self.invariants.forget_told(number);
                    }
                }
                Effect::Committed => self.invariants.committed(number),
                Effect::Activated => {
                    let held = self.invariants.check_told(&self.routers, number);
                    self.judge(held)?;
                }
                Effect::Purged => self.invariants.forget_told(number),
                Effect::Died(guarded) => {
                    self.note(|| format!("router {number} is killed between two steps"));
                    self.kill(number, guarded);
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, from: usize, packet: &Packet) {
        let to = 1 - from;
        let mut lost = true;
        for delay in self.lan.carry(from, to, &mut self.rng) {
            lost = false;
            self.later(delay, What::Deliver { to, packet: packet.clone() });
        }
        self.outcome.lost += u64::from(lost);
    }

    /// Kernel events arrive in order: the agenda keeps the order of equal delays.
    fn tell_kernel_event(&mut self, number: usize, change: Box<KernelChange>) {
        if !self.routers[number].listens() {
            return;
        }
        self.later(Duration::from_micros(100), What::Kernel { to: number, change });
    }

    fn plan_fault(&mut self) {
        let (after, fault) = self.weather.next_fault(&mut self.rng);
        self.later(after, What::Fault(fault));
    }

    fn later(&mut self, after: Duration, what: What) {
        self.agenda.enter(self.now + after, what);
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let at = (self.now - self.start).as_secs_f64();
            trace.push(format!("{at:10.6} {}", line()));
        }
    }

    fn judge(&self, held: Result<(), String>) -> Result<(), Violation> {
        held.map_err(|what| Violation { at: self.now - self.start, what })
    }
}
