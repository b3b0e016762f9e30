//! The world: time, what is on its way, and one step after the other.

use std::time::{Duration, Instant};

use fastrand::Rng;
use lockstep_replicator::Change;

use crate::agenda::Agenda;
use crate::faults::{Fault, Weather};
use crate::invariants::{Invariants, SETTLE, Violation};
use crate::kernel::{KernelChange, flow};
use crate::lan::{Cut, Lan};
use crate::router::{Effect, Packet, Router};

/// How long things go wrong.
const ROUGH: Duration = Duration::from_mins(1);
/// Most flows at once; more would only take longer.
const MAX_FLOWS: usize = 120;

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
        while self.now < end {
            self.step()?;
        }
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
            What::Traffic => self.traffic(),
            What::Fault(fault) => {
                self.outcome.faults += 1;
                self.note(|| format!("fault: {fault:?}"));
                self.plan_fault();
                return self.strike(fault);
            }
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
                }
            }
        }
        Ok(())
    }

    fn deliver(&mut self, to: usize, packet: Packet) -> Result<(), Violation> {
        let replication = matches!(packet, Packet::Replication(_));
        let better_claims = matches!(&packet, Packet::Vrrp(bytes) if bytes.get(22).is_some_and(|priority| *priority == 150));
        let mut effects = Vec::new();
        let runs = self.routers[to].daemon.is_some();
        self.routers[to].receive(packet, self.now, &mut effects);
        if replication {
            self.invariants.note_told(&self.routers, self.now);
        }
        let held = Invariants::check_superseded(&self.routers[to], runs && better_claims);
        self.judge(held)?;
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
                    if state == lockstep_failover::State::Master {
                        self.outcome.takeovers += 1;
                        self.invariants.forget_told(number);
                    }
                }
                Effect::Activated => {
                    let held = self.invariants.check_told(&self.routers, number);
                    self.judge(held)?;
                }
                Effect::Purged => self.invariants.forget_told(number),
                Effect::Died => {
                    self.note(|| format!("router {number} is killed between two steps"));
                    let back = Duration::from_millis(self.rng.u64(100..8_000));
                    self.later(back, What::Restart(number));
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

    fn strike(&mut self, fault: Fault) -> Result<(), Violation> {
        let back = Duration::from_millis(self.rng.u64(100..8_000));
        let mut effects = Vec::new();
        match fault {
            Fault::Kill(number) => {
                self.routers[number].kill();
                self.later(back, What::Restart(number));
            }
            Fault::PowerCut(number) => {
                self.routers[number].cut_power();
                self.later(back, What::Restart(number));
            }
            Fault::Stop(number) => {
                self.routers[number].stop(self.now, &mut effects);
                self.later(back, What::Restart(number));
                return self.follow(number, effects);
            }
            Fault::Stall(number, time) => {
                if self.routers[number].daemon.is_some() {
                    self.routers[number].stalled_until = Some(self.now + time);
                }
            }
            Fault::Deaf(number, time) => self.cut(number == 0, number == 1, time),
            Fault::Partition(time) => self.cut(true, true, time),
            Fault::CheckFails(number, time) => {
                self.routers[number].check(false, self.now, &mut effects);
                self.later(time, What::CheckPasses(number));
                return self.follow(number, effects);
            }
            Fault::Refuses(number, time) => {
                self.routers[number].refuses_until = Some(self.now + time);
            }
            Fault::Hangs(number, actor, time) => {
                self.routers[number].hangs_until[actor as usize] = Some(self.now + time);
            }
            Fault::SlowCommit(number, pace, time) => {
                self.routers[number].slow_until = Some((pace, self.now + time));
            }
            Fault::KillAfterSteps(number, steps) => {
                if let Some(daemon) = &mut self.routers[number].daemon {
                    daemon.given = 0;
                    self.routers[number].kill_after = Some(steps);
                }
            }
            Fault::InterfaceDown(number, time) => {
                let down = Err("eth0 is down".to_owned());
                self.routers[number].usable(down, self.now, &mut effects);
                self.later(time, What::InterfaceUp(number));
                return self.follow(number, effects);
            }
        }
        Ok(())
    }

    fn cut(&mut self, first: bool, second: bool, time: Duration) {
        let mut directions = Cut::default();
        directions[0][1] = first;
        directions[1][0] = second;
        self.lan.part(&directions);
        self.later(time, What::Hear(directions));
    }

    /// Connections come, change and go wherever the address is.
    fn traffic(&mut self) {
        for number in 0..2 {
            if !self.routers[number].kernel.address {
                continue;
            }
            let keys: Vec<_> = self.routers[number].kernel.flows.keys().copied().collect();
            let choice = self.rng.u8(..10);
            let known = (!keys.is_empty()).then(|| keys[self.rng.usize(..keys.len())]);
            let change = match (choice, known) {
                (0..=4, _) if keys.len() < MAX_FLOWS => {
                    self.flows_made += 1;
                    self.outcome.flows += 1;
                    Some((Change::New, flow(self.flows_made, 1)))
                }
                (0..=7, Some(key)) => {
                    let mut flow = self.routers[number].kernel.flows[&key].clone();
                    flow.mark = Some(self.rng.u32(..8));
                    Some((Change::Update, flow))
                }
                (_, Some(key)) => {
                    Some((Change::Delete, self.routers[number].kernel.flows[&key].clone()))
                }
                (_, None) => None,
            };
            let Some((change, flow)) = change else { continue };
            if change == Change::Delete {
                self.routers[number].kernel.remove(&flow.orig);
                self.invariants.forget_flow(&flow.orig);
            } else {
                self.routers[number].kernel.put(flow.clone());
            }
            let change = KernelChange { change, flow, own: false };
            self.tell_kernel_event(number, Box::new(change));
        }
        let pause = Duration::from_millis(self.rng.u64(1..60));
        self.later(pause, What::Traffic);
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
