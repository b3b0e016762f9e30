//! The thread on the real kernel, each test in a network namespace of its own.

mod between;
mod many;
mod ownership;
mod virtual_links;

use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lockstep_failover::{Step, StepId};
use lockstep_lab::{Interface, Lan, Node};
use lockstep_routes::{
    Address, Condition, Fwmark, Link, NextHop, PROTOCOL_LOCKSTEP, Route, RouteKind, Rule,
    RuleAction, RuleKey, Scope, TableId, When,
};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::control::protocol::Selection;
use crate::messages::{GroupStep, LinkState, QUEUE};
use crate::status::{self, Counts};

const LIMIT: Duration = Duration::from_secs(10);
const GROUP: &str = "gateway";

/// A router with `eth0` up, the thread under test, and what it says.
struct Router {
    node: Node,
    lan: Lan,
    requests: mpsc::Sender<NetworkRequest>,
    events: mpsc::Receiver<CoreEvent>,
    thread: Option<JoinHandle<()>>,
    _state_directory: TempDir,
    steps: u64,
    /// How often the group's addresses were put back.
    restored: usize,
    /// The newest state of every interface.
    heard: BTreeMap<String, InterfaceState>,
    /// The first.
    heard_first: BTreeMap<String, InterfaceState>,
}

impl Drop for Router {
    fn drop(&mut self) {
        drop(self.requests.blocking_send(NetworkRequest::Stop));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Router {
    fn start(declared: &Declared, node: Node, lan: Lan) -> Self {
        let state_directory = TempDir::new().unwrap();
        let (requests, request_queue) = mpsc::channel(QUEUE);
        let (core, events) = mpsc::channel(QUEUE);
        let interfaces = BTreeSet::from(["eth0".to_owned(), "eth7".to_owned()]);
        let interfaces = interfaces
            .into_iter()
            .chain(declared.virtual_links.iter().map(|link| link.name.clone()))
            .collect();
        let rules = Rules {
            virtual_links: declared.virtual_links.iter().map(|link| link.name.clone()).collect(),
            ..Rules::default()
        };
        let (begin, begun) = oneshot::channel();
        begin.send(()).unwrap();
        let settings = Settings {
            declared: declared.clone(),
            interfaces,
            rules,
            state_directory: state_directory.path().to_owned(),
            resumed: Vec::new(),
        };
        let thread = node.run(|| spawn(settings, request_queue, core, begun)).unwrap().unwrap();
        let thread = Some(thread);
        Self {
            node,
            lan,
            requests,
            events,
            thread,
            _state_directory: state_directory,
            steps: 0,
            restored: 0,
            heard: BTreeMap::new(),
            heard_first: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: Step) -> Outcome {
        self.step_of(&[GROUP], step).remove(0)
    }

    /// The same step of several groups in one message; the outcomes in that order.
    fn step_of(&mut self, groups: &[&str], step: Step) -> Vec<Outcome> {
        let first = self.steps + 1;
        self.steps += groups.len() as u64;
        let asked: Vec<StepId> = (first..=self.steps).map(StepId).collect();
        let step =
            |(id, group): (&StepId, &&str)| GroupStep { id: *id, group: (*group).to_owned(), step };
        let steps = asked.iter().zip(groups).map(step).collect();
        self.requests.blocking_send(NetworkRequest::Steps(steps)).unwrap();
        loop {
            match self.events.blocking_recv().unwrap() {
                CoreEvent::Stepped(answers) => {
                    let (ids, outcomes): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
                    assert_eq!(ids, asked, "one answer to each step, together");
                    return outcomes;
                }
                other => self.hear(other),
            }
        }
    }

    fn hear(&mut self, event: CoreEvent) {
        match event {
            CoreEvent::Interface(state) => {
                self.heard_first.entry(state.name.clone()).or_insert_with(|| state.clone());
                self.heard.insert(state.name.clone(), state);
            }
            CoreEvent::Restored { group } if group == GROUP => self.restored += 1,
            other => panic!("unexpected {other:?}"),
        }
    }

    /// Waits until the core is told that the group's addresses have been put back so many times.
    fn until_restored(&mut self, times: usize) {
        let deadline = Instant::now() + LIMIT;
        while self.restored < times {
            match self.events.try_recv() {
                Ok(event) => self.hear(event),
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
            assert!(Instant::now() < deadline, "{} of {times}", self.restored);
        }
    }

    fn become_master(&mut self) -> [Outcome; 3] {
        [Step::LinksUp, Step::AddressesUp, Step::RoutesUp].map(|step| self.step(step))
    }

    fn become_backup(&mut self) -> [Outcome; 3] {
        [Step::AddressesDown, Step::RoutesDown, Step::LinksDown].map(|step| self.step(step))
    }

    fn status(&self) -> status::Network {
        let (sender, answer) = oneshot::channel();
        self.requests.blocking_send(NetworkRequest::Look(sender)).unwrap();
        shown(&answer.blocking_recv().unwrap())
    }

    /// Asks again until the status is as it must become.
    fn until(&self, what: &str, met: impl Fn(&status::Network) -> bool) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let status = self.status();
            if met(&status) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {status:#?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until the core is told that an interface is as it must become.
    fn until_told(&mut self, name: &str, met: impl Fn(Option<&LinkState>) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !self.heard.get(name).is_some_and(|state| met(state.link.as_ref())) {
            match self.events.try_recv() {
                Ok(event) => self.hear(event),
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
            assert!(Instant::now() < deadline, "{name}: {:?}", self.heard.get(name));
        }
    }

    fn ip(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("ip");
        command.args(arguments);
        let output = self.node.output(command).unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn has(&self, interface: &str, address: &str) -> bool {
        self.node.addresses(interface).unwrap().contains(&address.parse().unwrap())
    }
}

pub(super) fn node() -> Option<(Node, Lan)> {
    if let Err(error) = lockstep_lab::available() {
        eprintln!("skipped: no network namespace can be made: {error}");
        return None;
    }
    let (lan, node) = (Lan::new().unwrap(), Node::new("router").unwrap());
    for (name, address) in [("eth0", "10.1.1.2/24"), ("eth2", "10.147.48.2/20")] {
        node.attach(&lan, &Interface::new(name).address(address.parse().unwrap())).unwrap();
    }
    Some((node, lan))
}

/// For a run that remembers nothing.
pub(super) fn settings(declared: Declared) -> Settings {
    let (interfaces, rules) = (BTreeSet::from(["eth0".to_owned()]), Rules::default());
    let state_directory = "/proc/nowhere".into();
    Settings { declared, interfaces, rules, state_directory, resumed: Vec::new() }
}

/// All that a snapshot says of what is declared.
pub(super) fn shown(snapshot: &Snapshot) -> status::Network {
    snapshot.assess().part(&Selection::default(), 0, usize::MAX).unwrap()
}

fn master_only() -> Condition {
    Condition { when: When::Master, group: Some(GROUP.to_owned()) }
}

fn route(to: &str) -> Route {
    Route {
        kind: RouteKind::Unicast,
        to: to.parse().unwrap(),
        next_hops: Vec::new(),
        source: None,
        table: TableId(100),
        metric: None,
        mtu: None,
        scope: None,
        protocol: PROTOCOL_LOCKSTEP,
        condition: Condition::ALWAYS,
    }
}

fn by(via: &str, dev: Option<&str>) -> Vec<NextHop> {
    let via = Some(via.parse().unwrap());
    vec![NextHop { via, dev: dev.map(str::to_owned), weight: 1, onlink: false }]
}

fn rule(priority: u32) -> Rule {
    let key = RuleKey {
        ipv6: false,
        priority,
        from: None,
        to: None,
        fwmark: Some(Fwmark { value: 2, mask: u32::MAX }),
        iif: None,
        oif: None,
        tos: 0,
        ip_protocol: None,
        source_port: None,
        destination_port: None,
        suppress_prefix_length: None,
        action: RuleAction::Lookup(TableId(100)),
    };
    Rule { key, protocol: PROTOCOL_LOCKSTEP, condition: Condition::ALWAYS }
}

/// `eth2` is up on the master only, a route of every state and one of the master lead over it.
pub(super) fn declared() -> Declared {
    Declared {
        links: vec![Link { interface: "eth2".to_owned(), up: master_only() }],
        addresses: vec![Address {
            interface: "eth0".to_owned(),
            address: "10.1.1.1/32".parse().unwrap(),
            broadcast: Some("10.1.1.255".parse().unwrap()),
            label: None,
            scope: Scope::Global,
            condition: master_only(),
        }],
        routes: [
            Route { kind: RouteKind::Throw, ..route("10.147.46.0/24") },
            Route { next_hops: by("10.147.52.1", None), ..route("10.147.70.0/24") },
            Route {
                next_hops: by("10.147.48.1", Some("eth2")),
                condition: master_only(),
                ..route("0.0.0.0/0")
            },
        ]
        .map(Arc::new)
        .into(),
        rules: vec![rule(32_000)],
        tables: vec![("static_route".to_owned(), TableId(100))].into(),
        virtual_links: Vec::new(),
    }
}

fn all_installed(status: &status::Network) -> bool {
    let Counts { pending, conflicting, failed, .. } = status.counts;
    pending + conflicting + failed == 0
}

fn states(status: &status::Network) -> Vec<&str> {
    status.routes.iter().map(|route| route.standing.state.as_str()).collect()
}

#[test]
fn what_is_wanted_in_every_state_comes_at_once_and_the_rest_with_the_steps() {
    let Some((node, lan)) = node() else { return };
    let mut router = Router::start(&declared(), node, lan);
    router.until("always", |status| status.rules[0].standing.state == "installed");
    let before = router.status();
    assert_eq!(states(&before), ["installed", "installed", "pending"], "eth2 is left up for now");
    assert_eq!(before.addresses[0].standing.state, "pending");

    let [addresses, routes, links] = router.become_backup();
    assert_eq!(addresses, Outcome::Done("0 addresses changed".to_owned()));
    assert_eq!(routes, Outcome::Done("0 routes and rules changed".to_owned()));
    assert_eq!(links, Outcome::Done("1 link changed".to_owned()));
    let status = router.status();
    assert_eq!(states(&status), ["installed", "pending", "pending"]);
    assert_eq!(status.routes[1].standing.reason.as_deref(), Some("link eth2 is down"));
    assert_eq!(status.routes[2].standing.reason.as_deref(), Some("group gateway is not master"));
    assert_eq!(status.routes[1].table, "static_route");
    assert_eq!(status.links[0].object, "eth2 down");

    let [links, addresses, routes] = router.become_master();
    assert_eq!(links, Outcome::Done("1 link".to_owned()));
    assert_eq!(addresses, Outcome::Done("1 address".to_owned()));
    assert_eq!(routes, Outcome::Done("1 route or rule".to_owned()));
    assert!(router.has("eth0", "10.1.1.1/32"));
    router.until("all of it", all_installed);

    router.become_backup();
    assert!(!router.has("eth0", "10.1.1.1/32"));
    assert!(router.has("eth0", "10.1.1.2/24") && router.has("eth2", "10.147.48.2/20"));
}

#[test]
fn addresses_left_by_a_killed_run_are_gone_before_anything_else() {
    let Some((node, lan)) = node() else { return };
    node.add_address("eth0", "10.1.1.1/32".parse().unwrap()).unwrap();
    let mut router = Router::start(&declared(), node, lan);
    // Whatever is answered comes after the beginning.
    router.status();
    assert!(!router.has("eth0", "10.1.1.1/32"));
    router.until_told("eth0", |link| link.is_some());
    let told = router.heard["eth0"].link.clone().unwrap();
    assert_eq!(told.addresses[0], "10.1.1.2".parse::<IpAddr>().unwrap());
}

#[test]
fn a_virtual_address_that_somebody_removes_comes_back_while_master() {
    let Some((node, lan)) = node() else { return };
    let mut router = Router::start(&declared(), node, lan);
    router.become_master();
    assert_eq!(router.restored, 0, "a step's own work puts nothing back");
    for times in 1..=20 {
        router.node.remove_address("eth0", "10.1.1.1/32".parse().unwrap()).unwrap();
        router.until_restored(times);
        assert!(router.has("eth0", "10.1.1.1/32"));
    }
    router.become_backup();
    assert!(!router.has("eth0", "10.1.1.1/32"));
    assert_eq!(router.restored, 20, "what is not wanted is not put back");
}

#[test]
fn an_ipv6_virtual_address_that_somebody_removes_comes_back_while_master() {
    let Some((node, lan)) = node() else { return };
    let mut declared = declared();
    let address = "2001:db8::1/128".parse().unwrap();
    declared.addresses[0] = Address { address, broadcast: None, ..declared.addresses[0].clone() };
    let mut router = Router::start(&declared, node, lan);
    router.become_master();
    for times in 1..=5 {
        router.node.remove_address("eth0", address).unwrap();
        router.until_restored(times);
        assert!(router.has("eth0", "2001:db8::1/128"));
    }
    router
        .node
        .run(|| std::fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1"))
        .unwrap()
        .unwrap();
    router.until("all are gone", |status| status.addresses[0].standing.state != "installed");
    router
        .node
        .run(|| std::fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "0"))
        .unwrap()
        .unwrap();
    router.until_restored(6);
    assert!(router.has("eth0", "2001:db8::1/128"));
}

#[test]
fn addresses_lost_with_their_link_are_told_when_they_are_back() {
    let Some((node, lan)) = node() else { return };
    let mut declared = declared();
    let address = "2001:db8::1/128".parse().unwrap();
    declared.addresses[0] = Address { address, broadcast: None, ..declared.addresses[0].clone() };
    let mut router = Router::start(&declared, node, lan);
    router.become_master();
    assert!(router.has("eth0", "2001:db8::1/128"));
    // The kernel drops IPv6 addresses when a link goes down.
    router.node.set_link("eth0", false).unwrap();
    router.until_told("eth0", |link| link.is_some_and(|link| !link.up));
    assert!(!router.has("eth0", "2001:db8::1/128"));
    assert_eq!(router.restored, 0);
    router.node.set_link("eth0", true).unwrap();
    router.until_restored(1);
    assert!(router.has("eth0", "2001:db8::1/128"));
}

#[test]
fn restless_askers_do_not_keep_a_route_from_coming_back() {
    let Some((node, lan)) = node() else { return };
    let router = Router::start(&declared(), node, lan);
    router.until("always", |status| status.routes[0].standing.state == "installed");
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut waiting = Vec::new();
            while !enough.load(Ordering::Relaxed) {
                let (asker, answer) = oneshot::channel();
                router.requests.blocking_send(NetworkRequest::Look(asker)).unwrap();
                waiting.push(answer);
            }
        });
        router.ip(&["route", "del", "throw", "10.147.46.0/24", "table", "100"]);
        let deadline = Instant::now() + LIMIT;
        let mut there = false;
        while !there && Instant::now() < deadline {
            there = router.ip(&["route", "show", "table", "100"]).contains("throw 10.147.46.0/24");
        }
        enough.store(true, Ordering::Relaxed);
        assert!(there, "the route comes back");
    });
}

#[test]
fn after_fifty_flaps_of_a_link_its_routes_are_there_again() {
    let Some((node, lan)) = node() else { return };
    let mut declared = declared();
    declared.links.clear();
    let mut router = Router::start(&declared, node, lan);
    router.become_master();
    for _ in 0..50 {
        router.node.set_link("eth2", false).unwrap();
        router.node.set_link("eth2", true).unwrap();
        router.until("every route", all_installed);
    }
    router.node.set_link("eth2", false).unwrap();
    router.until("the reason", |status| {
        status.routes[2].standing.reason.as_deref() == Some("link eth2 is down")
    });
}

#[test]
fn the_core_is_told_what_happens_to_its_interfaces() {
    let Some((node, lan)) = node() else { return };
    let mut router = Router::start(&declared(), node, lan);
    router.until_told("eth7", |link| link.is_none());
    router.until_told("eth0", |link| link.is_some_and(|link| link.up && link.carrier));
    router.become_master();
    let own = router.heard["eth0"].link.clone().unwrap().addresses;
    assert!(!own.contains(&"10.1.1.1".parse().unwrap()), "virtual addresses are left out: {own:?}");

    router.node.unplug("eth0").unwrap();
    router.until_told("eth0", |link| link.is_some_and(|link| link.up && !link.carrier));
    router.node.plug("eth0").unwrap();
    router.until_told("eth0", |link| link.is_some_and(|link| link.carrier));
    router.node.set_link("eth0", false).unwrap();
    router.until_told("eth0", |link| link.is_some_and(|link| !link.up));
    let late = Interface::new("eth7").address("192.0.2.1/24".parse().unwrap());
    router.node.attach(&router.lan, &late).unwrap();
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    router.until_told("eth7", |link| link.is_some_and(|link| link.addresses.contains(&address)));
}

#[test]
fn a_step_whose_interface_is_missing_is_pending_and_done_when_it_comes() {
    let Some((node, lan)) = node() else { return };
    let mut declared = declared();
    declared.addresses[0].interface = "eth7".to_owned();
    let mut router = Router::start(&declared, node, lan);
    let [_, addresses, _] = router.become_master();
    let pending = "0 addresses, 1 pending: eth7 does not exist".to_owned();
    assert_eq!(addresses, Outcome::Pending(pending));
    router.node.attach(&router.lan, &Interface::new("eth7")).unwrap();
    router.until("the address", |status| status.addresses[0].standing.state == "installed");
}

#[test]
fn a_step_of_many_groups_is_answered_for_each_by_what_is_its_own() {
    let Some((node, lan)) = node() else { return };
    let mut declared = declared();
    let address_of = |group: &str, address: &str, interface: &str| Address {
        address: address.parse().unwrap(),
        interface: interface.to_owned(),
        condition: Condition { when: When::Master, group: Some(group.to_owned()) },
        ..declared.addresses[0].clone()
    };
    let others = [
        address_of("b", "10.1.1.21/32", "eth0"),
        address_of("b", "10.1.1.22/32", "eth0"),
        address_of("c", "10.1.1.31/32", "eth7"),
    ];
    declared.addresses.extend(others);
    let mut router = Router::start(&declared, node, lan);
    let groups = [GROUP, "b", "c", "d"];
    let outcomes = router.step_of(&groups, Step::AddressesUp);
    let done = |text: &str| Outcome::Done(text.to_owned());
    let pending = Outcome::Pending("0 addresses, 1 pending: eth7 does not exist".to_owned());
    assert_eq!(outcomes, [done("1 address"), done("2 addresses"), pending, done("none declared")]);
    assert!(router.has("eth0", "10.1.1.1/32") && router.has("eth0", "10.1.1.22/32"));

    let outcomes = router.step_of(&groups, Step::AddressesDown);
    let [one, two, none] = ["1 address", "2 addresses", "0 addresses"]
        .map(|count| Outcome::Done(format!("{count} changed")));
    assert_eq!(outcomes, [one, two, none, done("none declared")]);
    assert!(!router.has("eth0", "10.1.1.1/32") && !router.has("eth0", "10.1.1.22/32"));
}

#[test]
fn a_step_for_which_nothing_is_declared_is_done_and_says_so() {
    let Some((node, lan)) = node() else { return };
    let mut declared = declared();
    declared.links.clear();
    let mut router = Router::start(&declared, node, lan);
    let none = Outcome::Done("none declared".to_owned());
    let [links, addresses, _] = router.become_master();
    assert_eq!((links, addresses), (none.clone(), Outcome::Done("1 address".to_owned())));
    let [_, _, links] = router.become_backup();
    assert_eq!(links, none);
}

#[test]
fn a_refused_route_is_named_with_the_kernels_words() {
    let Some((node, lan)) = node() else { return };
    let mut declared = declared();
    let far = Route {
        next_hops: by("10.147.48.1", Some("eth2")),
        scope: Some(Scope::Host),
        condition: master_only(),
        ..route("10.99.0.0/16")
    };
    declared.routes.push(Arc::new(far));
    let mut router = Router::start(&declared, node, lan);
    let [.., routes] = router.become_master();
    let Outcome::Failed(text) = routes else { panic!("{routes:?}") };
    assert!(text.starts_with("1 route or rule, 1 failed: 10.99.0.0/16 via 10.147.48.1 "), "{text}");
    assert!(text.contains(": Invalid argument: Route with host scope"), "{text}");
    let status = router.status();
    let far = status.routes.last().unwrap();
    assert_eq!(far.standing.state, "failed");
    assert!(far.standing.next_try_ms.is_some_and(|millis| millis <= 30_000), "{far:?}");
}

#[test]
fn what_the_kernel_refuses_is_shown_in_its_words_and_does_not_stop_the_rest() {
    let Some((node, lan)) = node() else { return };
    let mut declared = declared();
    declared.addresses.push(Address {
        label: Some("not-a-label-of-eth0".to_owned()),
        address: "10.1.1.9/32".parse().unwrap(),
        ..declared.addresses[0].clone()
    });
    let mut router = Router::start(&declared, node, lan);
    let [_, addresses, routes] = router.become_master();
    let Outcome::Failed(text) = addresses else { panic!("{addresses:?}") };
    let failed =
        "1 address, 1 failed: 10.1.1.9/32 brd 10.1.1.255 dev eth0 label not-a-label-of-eth0: ";
    assert!(text.starts_with(failed), "{text}");
    assert!(matches!(routes, Outcome::Done(_)), "{routes:?}");
    assert!(router.has("eth0", "10.1.1.1/32"));
    let status = router.status();
    assert_eq!(status.addresses[1].standing.state, "failed");
    assert!(status.addresses[1].standing.reason.is_some());
}
