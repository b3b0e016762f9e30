//! A router with the thread under test.

use std::fs;

use lockstep_ctnetlink::Flow;
use lockstep_failover::StepId;
use lockstep_lab::{Interface, Lan, Node};
use lockstep_replicator::Link;
use tokio::sync::oneshot;

use super::super::*;
use crate::control::protocol::{Cache, Stored};
use crate::messages::{Asked, Command, QUEUE};

/// The dedicated link of every router.
pub(super) const LINK: &str = "eth1";
/// A machine that does much else is slow.
const LIMIT: Duration = Duration::from_mins(1);
const PORT: u16 = 3780;

pub(super) struct Router {
    pub(super) node: Node,
    requests: mpsc::Sender<ReplicatorRequest>,
    core: mpsc::Sender<CoreEvent>,
    events: mpsc::Receiver<CoreEvent>,
    /// The room in the thread's way to the core, taken so that it has to wait.
    room: Vec<mpsc::OwnedPermit<CoreEvent>>,
    thread: Option<JoinHandle<()>>,
    asked: u64,
    answered: u64,
}

impl Drop for Router {
    fn drop(&mut self) {
        self.room.clear();
        self.events.close();
        drop(self.requests.blocking_send(ReplicatorRequest::Stop));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Router {
    pub(super) fn start(node: Node, config: Config) -> Self {
        let (requests, queue) = mpsc::channel(QUEUE);
        let (core, events) = mpsc::channel(QUEUE);
        let sender = core.clone();
        let thread =
            Some(node.run(|| spawn(config, queue, sender, Pulse::default())).unwrap().unwrap());
        Self { node, requests, core, events, room: Vec::new(), thread, asked: 0, answered: 0 }
    }

    /// Starts a second one in the same place.
    pub(super) fn another(&self, config: Config) -> anyhow::Result<JoinHandle<()>> {
        let (_requests, queue) = mpsc::channel(QUEUE);
        self.node.run(|| spawn(config, queue, self.core.clone(), Pulse::default())).unwrap()
    }

    pub(super) fn become_active(&mut self) {
        assert!(matches!(self.step(Step::ReplicateActive), Outcome::Done(_)));
    }

    pub(super) fn become_backup(&mut self) {
        assert!(matches!(self.step(Step::ReplicateBackup), Outcome::Done(_)));
    }

    pub(super) fn step(&mut self, step: Step) -> Outcome {
        self.ask(step);
        self.answered()
    }

    pub(super) fn ask(&mut self, step: Step) {
        self.ask_of("gateway", step);
    }

    /// Asks for a step of one of several groups.
    pub(super) fn ask_of(&mut self, group: &str, step: Step) {
        self.asked += 1;
        let step = GroupStep { group: group.to_owned(), ..group_step(self.asked, step) };
        self.requests.blocking_send(ReplicatorRequest::Steps(vec![step])).unwrap();
    }

    /// Waits until every step has been answered, in order; the answer to the last.
    pub(super) fn answered(&mut self) -> Outcome {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.events.try_recv() {
                Ok(CoreEvent::Stepped(answers)) => {
                    for (id, outcome) in answers {
                        self.answered += 1;
                        assert_eq!(id, StepId(self.answered), "one answer to each step, in order");
                        if self.answered == self.asked {
                            return outcome;
                        }
                    }
                }
                Ok(CoreEvent::InSync { .. }) => {}
                Ok(other) => panic!("unexpected {other:?}"),
                Err(_) => pause(deadline, || "no answer to a step".to_owned()),
            }
        }
    }

    /// Keeps the thread from doing anything until [`Router::release`].
    pub(super) fn hold(&mut self) {
        // What it has to tell of its last step is told then.
        self.attend();
        while let Ok(event) = self.events.try_recv() {
            assert!(matches!(event, CoreEvent::InSync { .. }), "{event:?}");
        }
        while let Ok(permit) = self.core.clone().try_reserve_owned() {
            self.room.push(permit);
        }
        // Its answer to this has no room; from taking it on the thread does nothing else.
        self.ask(Step::Hooks);
        let deadline = Instant::now() + LIMIT;
        while self.requests.capacity() < QUEUE {
            // Something else that it tells may wait for room: who waits is served, nobody else is.
            drop(self.room.pop());
            while let Ok(permit) = self.core.clone().try_reserve_owned() {
                self.room.push(permit);
            }
            pause(deadline, || "the request is not taken".to_owned());
        }
    }

    pub(super) fn release(&mut self) {
        self.room.clear();
    }

    /// Has it do what a person asks; how that went.
    pub(super) fn command(&self, command: Command) -> Result<Done, String> {
        self.order(command).blocking_recv().unwrap()
    }

    /// The same, without waiting for the answer.
    pub(super) fn order(&self, command: Command) -> oneshot::Receiver<Result<Done, String>> {
        let (sender, answer) = oneshot::channel();
        self.requests.blocking_send(ReplicatorRequest::Command(command, sender)).unwrap();
        answer
    }

    /// Every flow of a cache, asked for in parts.
    pub(super) fn cached(&self, cache: Cache, limit: usize) -> Vec<Flow> {
        let mut flows = Vec::new();
        let mut after = None;
        loop {
            let (sender, answer) = oneshot::channel();
            let asked = Asked { cache, kind: Stored::Flows, after, limit };
            self.requests.blocking_send(ReplicatorRequest::Dump(asked, sender)).unwrap();
            let part = answer.blocking_recv().unwrap();
            assert!(part.flows.len() <= limit);
            flows.extend(part.flows.into_iter().map(|(flow, _)| flow));
            after = part.next;
            if after.is_none() {
                flows.sort_by_key(Flow::key);
                return flows;
            }
        }
    }

    pub(super) fn status(&self) -> status::Replication {
        let (sender, answer) = oneshot::channel();
        self.requests.blocking_send(ReplicatorRequest::Status(sender)).unwrap();
        answer.blocking_recv().unwrap()
    }

    /// Returns when everything that was due has been done.
    pub(super) fn attend(&self) {
        // Questions go before work, so the work is done between two of them.
        for _ in 0..2 {
            self.status();
        }
    }

    /// Asks again until the status is as it must become.
    pub(super) fn until(&self, what: &str, met: impl Fn(&status::Replication) -> bool) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let status = self.status();
            if met(&status) {
                return;
            }
            pause(deadline, || format!("{what}: {status:#?}"));
        }
    }

    /// Events that the kernel threw away because the queue was full.
    pub(super) fn lost_events(&self) -> u64 {
        self.event_socket(8)
    }

    /// Bytes of events that wait.
    pub(super) fn waiting_events(&self) -> u64 {
        self.event_socket(4)
    }

    /// A column of the table of netlink sockets, of the one that listens to conntrack's events.
    fn event_socket(&self, column: usize) -> u64 {
        const NETFILTER: &str = "12";
        const EVENTS: &str = "0000003f";
        let table = self.node.run(|| fs::read_to_string("/proc/thread-self/net/netlink"));
        let table = table.unwrap().unwrap();
        let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row[1] == NETFILTER && row[3] == EVENTS).unwrap();
        row[column].parse().unwrap()
    }

    /// Whether the thread has opened its sockets on the link.
    pub(super) fn has_link_socket(&self) -> bool {
        let table = self.node.run(|| fs::read_to_string("/proc/thread-self/net/udp"));
        table.unwrap().unwrap().contains(&format!(":{PORT:04X} "))
    }
}

/// A step of the only group.
pub(super) fn group_step(id: u64, step: Step) -> GroupStep {
    GroupStep { id: StepId(id), group: "gateway".to_owned(), step }
}

/// A host, unless none can be made here.
pub(super) fn node() -> Option<Node> {
    if let Err(error) = lockstep_lab::available() {
        eprintln!("skipped: no network namespace can be made: {error}");
        return None;
    }
    Some(Node::new("router").unwrap())
}

/// Two hosts with a dedicated link.
pub(super) fn pair() -> Option<(Lan, [Node; 2])> {
    let nodes = [node()?, node()?];
    let lan = Lan::new().unwrap();
    for (side, node) in nodes.iter().enumerate() {
        node.attach(&lan, &interface(side)).unwrap();
    }
    Some((lan, nodes))
}

/// The end of the dedicated link on one side.
pub(super) fn interface(side: usize) -> Interface {
    let address = ["10.99.0.1/24", "10.99.0.2/24"][side];
    Interface::new(LINK).address(address.parse().unwrap())
}

pub(super) fn config() -> Config {
    let mut link = Link::multicast(LINK, "225.0.0.50".parse().unwrap());
    link.port = PORT;
    let mut config = Config::new("gateway", vec![link]);
    config.cache_limit = 1 << 20;
    config
}

/// Lets others work before one looks again.
fn pause(deadline: Instant, what: impl FnOnce() -> String) {
    assert!(Instant::now() < deadline, "{}", what());
    thread::sleep(Duration::from_millis(2));
}
