//! The world: time, what is on its way, the traffic, and what goes wrong.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use lockstep_ctnetlink::{Flow, Tuple};
use lockstep_replicator::{LinkState, Origin, Role, Standby, Start, Transmit, is_parked};

use super::merging::{Act, Split};
use super::model::Said;
use super::node::{Node, Sent};
use super::plan::{PATIENCE, Plan, SETTLED, SUCCESSION, address, node_at};
use crate::Violation;
use crate::agenda::Agenda;
use crate::lan::{Cut, Lan};

/// Time between two looks at whether all is in order, once all is calm.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// When, after that, flows of which no packet comes any more have expired.
const EXPIRES_AFTER: Duration = Duration::from_mins(1);
/// A node that has started again says of no flow that is younger than this that it has not ended.
pub(super) const ENDS_KNOWN: Duration = Duration::from_secs(30);
/// Steps at one moment after which it counts as stuck.
const STANDING: u32 = 1_000_000;
/// Mean time between two changes while two nodes serve and all else is calm.
const SELDOM: Duration = Duration::from_millis(5);
/// Numbers of flows in use at a time.
const FLOWS: u32 = 600;

/// Two or three nodes, their links, and everything that goes wrong.
pub struct Replication {
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) rng: Rng,
    pub(super) plan: Plan,
    /// One for each link.
    pub(super) lans: Vec<Lan>,
    pub(super) nodes: Vec<Node>,
    pub(super) serving: usize,
    /// What the kernel of the node that serves has to hold: what it had at the takeover, and the
    /// traffic since.
    pub(super) served: BTreeMap<Tuple, Said>,
    pub(super) split: Option<Split>,
    pub(super) act: Act,
    /// First number of the flows in use; grows, so that old ones end for good.
    pub(super) oldest: u32,
    agenda: Agenda<What>,
    calm: bool,
    /// When everything was put right, or the takeover after that took place.
    pub(super) calm_since: Instant,
    starts: u32,
    standing: u32,
    pub(super) outcome: ReplicationOutcome,
    trace: Option<Vec<String>>,
}

/// What a run has seen, so that a test can tell that it saw something.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReplicationOutcome {
    /// Changes of a serving kernel's table.
    pub changes: u64,
    /// Times another node took over.
    pub takeovers: u64,
    /// Things that went wrong.
    pub faults: u64,
    /// Datagrams that did not arrive.
    pub lost: u64,
    /// Datagrams that arrived.
    pub arrived: u64,
    /// Flows that were the same everywhere in the end.
    pub flows: u64,
    /// Flows that were left to a node that serves, and put into its kernel.
    pub taken_up: u64,
    /// Times two nodes served at once.
    pub splits: u64,
    /// Steps.
    pub steps: u64,
    /// Most messages that ever waited for a peer, sent or not.
    pub most_waiting: u64,
}

impl ReplicationOutcome {
    /// Adds what another run has seen.
    pub fn add(&mut self, other: &Self) {
        self.changes += other.changes;
        self.takeovers += other.takeovers;
        self.faults += other.faults;
        self.lost += other.lost;
        self.arrived += other.arrived;
        self.flows += other.flows;
        self.taken_up += other.taken_up;
        self.splits += other.splits;
        self.steps += other.steps;
        self.most_waiting = self.most_waiting.max(other.most_waiting);
    }
}

/// Something on the agenda.
pub(super) enum What {
    Deliver {
        to: usize,
        origin: Origin,
        bytes: Rc<[u8]>,
    },
    Traffic,
    Fault,
    Join {
        link: usize,
        cut: Cut,
    },
    LinkUp {
        node: usize,
        link: usize,
    },
    /// A node that has started again takes up the role that it had.
    Serve {
        node: usize,
    },
    /// Two nodes serve no longer.
    Heal,
    Calm,
    Expire,
    Look,
}

impl Replication {
    /// The run of a seed; `trace` keeps a line of everything that happens.
    pub fn new(seed: u64, start: Instant, trace: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let plan = Plan::draw(&mut rng);
        let lan = Lan {
            loss: plan.loss,
            duplication: plan.duplication,
            delay: plan.delay,
            cut: Cut::default(),
        };
        let mut world = Self {
            start,
            now: start,
            rng,
            lans: vec![lan; plan.links],
            nodes: Vec::new(),
            serving: 0,
            served: BTreeMap::new(),
            split: None,
            act: Act::Rough,
            oldest: 1,
            agenda: Agenda::new(),
            calm: false,
            calm_since: start,
            starts: 0,
            standing: 0,
            outcome: ReplicationOutcome::default(),
            trace: trace.then(Vec::new),
            plan,
        };
        world.note(|world| format!("{:#?}", world.plan));
        for number in 0..world.plan.nodes {
            let start = world.next_start();
            let limits = (world.plan.event_queue, world.plan.socket);
            let node = Node::new(world.plan.config(number), start, limits, world.now);
            world.nodes.push(node);
            world.links_up(number);
        }
        world.serve(0);
        world.later(Duration::from_millis(1), What::Traffic);
        world.plan_fault();
        world.later(world.plan.rough, What::Calm);
        world
    }

    /// What happened, when that was asked for.
    pub fn trace(&self) -> &[String] {
        self.trace.as_deref().unwrap_or_default()
    }

    /// Runs until all is in order again.
    ///
    /// # Errors
    /// What did not hold.
    pub fn run(&mut self) -> Result<ReplicationOutcome, Violation> {
        loop {
            self.work()?;
            let deadline = self.nodes.iter().filter_map(Node::next_deadline).min();
            let next = self.agenda.next_at().into_iter().chain(deadline).min();
            let next = next.ok_or_else(|| self.violation("nothing is ever to happen again"))?;
            self.outcome.steps += 1;
            self.standing = if next > self.now { 0 } else { self.standing + 1 };
            if self.standing > STANDING {
                return Err(self.violation("time stands still"));
            }
            self.now = self.now.max(next);
            while self.agenda.next_at().is_some_and(|at| at <= self.now) {
                let Some((_, what)) = self.agenda.pop() else { break };
                if self.happen(what)? {
                    return Ok(self.outcome.clone());
                }
            }
        }
    }

    fn work(&mut self) -> Result<(), Violation> {
        let mut sent = Sent::new();
        for number in 0..self.nodes.len() {
            self.nodes[number].work(self.now, &mut sent);
            for (transmit, bytes) in sent.drain(..) {
                self.send(number, transmit, &bytes)?;
            }
            self.check_taken_up(number)?;
            self.check_bounds(number)?;
        }
        Ok(())
    }

    fn check_bounds(&mut self, number: usize) -> Result<(), Violation> {
        let config = self.plan.config(number);
        for peer in self.nodes[number].replicator.peers(self.now) {
            let unacknowledged = peer.unacknowledged;
            if unacknowledged > config.resend_queue {
                let what = format!("{unacknowledged} messages are kept for {}", peer.address);
                return Err(self.violation(&what));
            }
            let waiting = (unacknowledged + peer.waiting) as u64;
            self.outcome.most_waiting = self.outcome.most_waiting.max(waiting);
            // A flow waits once, however often it changes.
            let most = 3 * config.cache_limit as u64;
            if waiting > most {
                return Err(
                    self.violation(&format!("{waiting} messages wait for {}", peer.address))
                );
            }
        }
        Ok(())
    }

    fn send(&mut self, from: usize, transmit: Transmit, bytes: &Rc<[u8]>) -> Result<(), Violation> {
        let Transmit { link, to, .. } = transmit;
        if bytes.len() > self.plan.datagram {
            return Err(self.violation(&format!("a datagram of {} bytes", bytes.len())));
        }
        let all: Vec<usize> = match to {
            None => (0..self.nodes.len()).filter(|node| *node != from).collect(),
            Some(address) => vec![node_at(address)],
        };
        let origin = Origin { link, source: address(from, link), to_group: to.is_none() };
        for to in all {
            let ways: Vec<_> = self.lans[link].carry(from, to, &mut self.rng).collect();
            if ways.is_empty() {
                self.outcome.lost += 1;
            }
            for way in ways {
                let bytes = Rc::clone(bytes);
                self.later(way, What::Deliver { to, origin, bytes });
            }
        }
        Ok(())
    }

    fn happen(&mut self, what: What) -> Result<bool, Violation> {
        match what {
            What::Deliver { to, origin, bytes } => {
                if self.nodes[to].arrive(origin, bytes) {
                    self.outcome.arrived += 1;
                } else {
                    self.outcome.lost += 1;
                }
            }
            What::Traffic => {
                self.traffic();
                if !self.calm || self.split.is_some() {
                    let mean = self.change_every().as_secs_f64();
                    let wait = -mean * (1.0 - self.rng.f64()).ln();
                    self.later(Duration::from_secs_f64(wait), What::Traffic);
                }
            }
            What::Fault if self.calm => {}
            What::Fault => {
                self.outcome.faults += 1;
                self.fault();
                self.plan_fault();
            }
            What::Join { link, cut } => self.lans[link].join(&cut),
            What::LinkUp { node, link } => self.link_up(node, link),
            What::Serve { node } => self.serve_again(node),
            What::Heal => self.heal(),
            What::Calm => self.calm_down(),
            What::Expire => self.expire(),
            What::Look => return self.look(),
        }
        Ok(false)
    }

    /// The serving kernel's table changes.
    fn traffic(&mut self) {
        let burst = if !self.calm && self.rng.u8(..40) == 0 { self.rng.u32(1..150) } else { 1 };
        for _ in 0..burst {
            self.outcome.changes += 1;
            let number = self.oldest + self.rng.u32(..FLOWS);
            if self.split.is_some() && self.rng.bool() {
                self.traffic_beside(number);
                continue;
            }
            match self.rng.u8(..10) {
                0..2 => self.end(number),
                2 => {
                    self.end(self.oldest);
                    self.oldest += 1;
                }
                _ => {
                    let (state, mark) = (self.rng.u8(1..9), self.rng.u32(..3));
                    let flow =
                        self.nodes[self.serving].traffic(number, state, mark, self.outcome.changes);
                    self.served.insert(flow.orig, Said::of(&flow));
                }
            }
        }
    }

    fn end(&mut self, number: u32) {
        let gone = self.nodes[self.serving].table.expire(number, self.outcome.changes);
        gone.and_then(|flow| self.served.remove(&flow.orig));
    }

    fn plan_fault(&mut self) {
        let mean = self.plan.fault_every;
        let wait = mean.mul_f64(0.1 + 1.8 * self.rng.f64());
        self.later(wait, What::Fault);
    }

    fn fault(&mut self) {
        let node = self.rng.usize(..self.nodes.len());
        // Only where flows are left to another node are there two that serve at once.
        let kinds = if self.plan.inherits() { 13 } else { 11 };
        match self.rng.u8(..kinds) {
            0 | 1 => self.stall(node),
            2 | 3 => self.restart(node, false),
            4 => self.restart(node, true),
            5 | 6 => self.part(),
            7 => self.link_down(node),
            8 => self.lose_copies(node),
            11 | 12 => self.split(),
            _ => self.hand_over(),
        }
    }

    fn stall(&mut self, node: usize) {
        let time = Duration::from_millis(self.rng.u64(5..8_000));
        self.note(|_| format!("node {node} stands still for {time:?}"));
        self.nodes[node].stalled_until = Some(self.now + time);
    }

    /// The process starts again, after its machine if `cold`.
    fn restart(&mut self, node: usize, cold: bool) {
        self.heal();
        self.note(|_| format!("node {node} starts again, cold: {cold}"));
        let start = self.next_start();
        let config = self.plan.config(node);
        let served = self.nodes[node].serves;
        self.nodes[node].restart(config, start, self.now);
        self.links_up(node);
        if cold {
            self.nodes[node].table.forget();
        }
        if served && cold {
            self.hand_over();
        } else if served && self.rng.bool() {
            self.serve(node);
        } else if served {
            // It stands by first, as a router does that finds nobody else serving.
            let wait = Duration::from_millis(self.rng.u64(5..4_000));
            self.later(wait, What::Serve { node });
        }
    }

    fn serve(&mut self, node: usize) {
        self.serving = node;
        self.nodes[node].take_over(self.now);
        self.served = said(self.nodes[node].table.flows().cloned());
    }

    fn serve_again(&mut self, node: usize) {
        if self.serving == node && !self.nodes[node].serves {
            self.note(|_| format!("node {node} serves again"));
            self.serve(node);
        }
    }

    /// Passive copies vanish from a kernel that does not serve.
    fn lose_copies(&mut self, node: usize) {
        if self.nodes[node].serves || node == self.serving {
            return;
        }
        self.note(|_| format!("node {node} loses flows that it keeps"));
        for _ in 0..self.rng.usize(1..50) {
            let nth = self.rng.usize(..FLOWS as usize);
            self.nodes[node].table.lose(nth);
        }
    }

    /// Another node serves.
    pub(super) fn hand_over(&mut self) {
        self.heal();
        let after = self.rng.usize(1..self.nodes.len());
        let next = (self.serving + after) % self.nodes.len();
        self.note(|world| format!("node {next} takes over from {}", world.serving));
        self.outcome.takeovers += 1;
        if self.nodes[self.serving].serves {
            self.nodes[self.serving].step_down(self.now);
        }
        self.serve(next);
    }

    /// Some directions of a link do not work for a while.
    fn part(&mut self) {
        let link = self.rng.usize(..self.lans.len());
        let mut cut = Cut::default();
        for (from, to) in (0..self.nodes.len()).flat_map(|a| (0..3).map(move |b| (a, b))) {
            cut[from][to] = self.rng.bool();
        }
        let time = Duration::from_millis(self.rng.u64(20..9_000));
        self.note(|_| format!("link {link} is cut for {time:?}: {cut:?}"));
        self.lans[link].part(&cut);
        self.later(time, What::Join { link, cut });
    }

    fn link_down(&mut self, node: usize) {
        let link = self.rng.usize(..self.lans.len());
        let time = Duration::from_millis(self.rng.u64(20..9_000));
        self.note(|_| format!("link {link} of node {node} is down for {time:?}"));
        for other in 0..self.nodes.len() {
            self.lans[link].cut[node][other] = true;
            self.lans[link].cut[other][node] = true;
        }
        let state = LinkState::Down { reason: "no carrier".to_owned() };
        self.nodes[node].link(link, state, self.now);
        self.later(time, What::LinkUp { node, link });
    }

    fn link_up(&mut self, node: usize, link: usize) {
        for other in 0..self.nodes.len() {
            self.lans[link].cut[node][other] = false;
            self.lans[link].cut[other][node] = false;
        }
        let state = LinkState::Up { max_datagram: self.plan.datagram };
        self.nodes[node].link(link, state, self.now);
    }

    fn links_up(&mut self, node: usize) {
        for link in 0..self.plan.links {
            let state = LinkState::Up { max_datagram: self.plan.datagram };
            self.nodes[node].link(link, state, self.now);
        }
    }

    fn calm_down(&mut self) {
        self.heal();
        self.note(|_| "all is calm".to_owned());
        self.calm = true;
        self.calm_since = self.now;
        for lan in &mut self.lans {
            *lan = Lan::calm();
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].stalled_until = None;
            self.links_up(node);
        }
        self.serve_again(self.serving);
        self.later(EXPIRES_AFTER, What::Expire);
        self.later(LOOK_EVERY, What::Look);
    }

    /// On a router that started again while it did not serve nobody knows of its own flows any
    /// more; they live until their time is over.
    fn expire(&mut self) {
        if !matches!(self.act, Act::Rough | Act::Succeeded) {
            return;
        }
        for node in self.nodes.iter_mut().filter(|node| !node.serves) {
            node.table.expire_unrenewed();
        }
    }

    /// Whether all is in order; not yet is an error only after the time for it.
    fn look(&mut self) -> Result<bool, Violation> {
        if self.split.is_some() {
            self.later(LOOK_EVERY, What::Look);
            return Ok(false);
        }
        let late = self.now >= self.calm_since + self.patience();
        match self.disorder() {
            None if self.act == Act::Succeeded
                && self.plan.inherits()
                && self.now < self.calm_since + ENDS_KNOWN =>
            {
                self.later(LOOK_EVERY, What::Look);
                Ok(false)
            }
            None if self.act == Act::Succeeded && self.plan.inherits() => {
                self.split_in_order();
                Ok(false)
            }
            None if self.act != Act::Rough => {
                self.outcome.flows += self.nodes[self.serving].table.len() as u64;
                Ok(true)
            }
            // What was left to nobody yet may come back with who left it.
            None if self.now < self.calm_since + SETTLED || (self.leaves_something() && !late) => {
                self.later(LOOK_EVERY, What::Look);
                Ok(false)
            }
            None => self.succeed().map(|()| false),
            Some(what) if late => {
                for number in 0..self.nodes.len() {
                    self.note(|world| world.describe(number));
                }
                Err(self.violation(&what))
            }
            Some(_) => {
                self.later(LOOK_EVERY, What::Look);
                Ok(false)
            }
        }
    }

    /// Whether a node that stands by keeps flows that it has not told the one that serves.
    fn leaves_something(&self) -> bool {
        self.nodes.iter().any(|node| node.replicator.purge_put_off().is_some())
    }

    fn patience(&self) -> Duration {
        if self.act == Act::Rough { PATIENCE } else { SUCCESSION }
    }

    /// All are in sync, so a takeover neither loses a flow nor brings one back.
    fn succeed(&mut self) -> Result<(), Violation> {
        let before = self.served.clone();
        self.hand_over();
        self.act = Act::Succeeded;
        self.calm_since = self.now;
        // A flow that began or changed under a daemon that stood by may be one of asymmetric routing,
        // which the other router does not see: the guide promises to leave it alone. Its daemon had
        // started again while traffic went on, and did not serve before another one took over.
        let passed = &self.nodes[self.serving].passed;
        let mut brought = self.served.clone();
        brought.retain(|key, _| before.contains_key(key) || !passed.contains(key));
        if let Some(what) = difference(&before, &brought) {
            return Err(self.violation(&format!("the takeover in order: {what}")));
        }
        self.later(EXPIRES_AFTER, What::Expire);
        self.later(LOOK_EVERY, What::Look);
        Ok(())
    }

    /// What is not in order.
    fn disorder(&self) -> Option<String> {
        let truth = said(self.nodes[self.serving].table.flows().cloned());
        if let Some(what) = difference(&self.served, &truth) {
            return Some(format!("the kernel that serves: {what}"));
        }
        if self.nodes[self.serving].table.flows().any(|flow| flow.timeout_s.is_some_and(is_parked))
        {
            return Some("a flow that is served is parked".to_owned());
        }
        if let Some(orig) = self.not_merged() {
            return Some(format!("{orig:?} of the node that gave way is missing"));
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let sync = node.replicator.sync_state();
            if !sync.in_sync {
                return Some(format!("node {number} is not in sync: {}", sync.reason));
            }
            if number == self.serving {
                if node.role() != Role::Active {
                    return Some(format!("node {number} does not serve"));
                }
                if said(node.replicator.internal_flows()) != truth {
                    return Some(format!("node {number} does not know its own kernel"));
                }
                continue;
            }
            if let Some(what) = difference(&truth, &said(node.replicator.external_flows())) {
                return Some(format!("the cache of node {number}: {what}"));
            }
            if self.plan.standby[number] == Standby::Kernel
                && let Some(what) = difference(&truth, &said(node.table.flows().cloned()))
            {
                return Some(format!("the kernel of node {number}: {what}"));
            }
        }
        None
    }

    /// A node's counters and peers, for whoever looks for the reason of a failure.
    fn describe(&self, number: usize) -> String {
        let replicator = &self.nodes[number].replicator;
        let mut counters = replicator.statistics();
        counters.retain(|_, count| *count > 0);
        let purge = replicator.purge_put_off();
        format!("node {number}: {:?} {counters:?} {purge:?}", replicator.peers(self.now))
    }

    fn next_start(&mut self) -> Start {
        self.starts += 1;
        let since = self.now.duration_since(self.start).as_secs() as u32;
        Start {
            // As a real one, by the clock in seconds: near the end of the numbers at times.
            first_sequence: 0xffff_ff00_u32.wrapping_add(since).wrapping_add(self.starts),
            secret: self.rng.u64(..),
            max_datagram: self.plan.datagram,
        }
    }

    pub(super) fn later(&mut self, after: Duration, what: What) {
        self.agenda.enter(self.now + after, what);
    }

    /// Mean time between two changes.
    fn change_every(&self) -> Duration {
        if self.calm { self.plan.change_every.max(SELDOM) } else { self.plan.change_every }
    }

    pub(super) fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let at = self.now.duration_since(self.start);
            let line = format!("{at:?} {}", line(self));
            self.trace.get_or_insert_default().push(line);
        }
    }

    pub(super) fn violation(&self, what: &str) -> Violation {
        Violation { at: self.now.duration_since(self.start), what: what.to_owned() }
    }
}

pub(super) fn said(flows: impl Iterator<Item = Flow>) -> BTreeMap<Tuple, Said> {
    flows.map(|flow| (flow.orig, Said::of(&flow))).collect()
}

/// What one has and the other has not.
fn difference(truth: &BTreeMap<Tuple, Said>, held: &BTreeMap<Tuple, Said>) -> Option<String> {
    if truth == held {
        return None;
    }
    let missing = truth.keys().filter(|key| !held.contains_key(key)).count();
    let stale = held.keys().filter(|key| !truth.contains_key(key)).count();
    let other = truth.iter().filter(|(key, said)| held.get(key).is_some_and(|h| h != *said));
    let other: Vec<_> = other.collect();
    let example = other.first().map(|(key, said)| format!("{key:?} {said:?} {:?}", held.get(key)));
    let count = truth.len();
    Some(format!(
        "of {count} flows {missing} are missing, {} are other, and {stale} are stale {example:?}",
        other.len()
    ))
}
