//! Random cases: what is there, what is wanted, and what happens meanwhile. The same seed gives
//! the same case.

use std::sync::Arc;

use fastrand::Rng;
use ipnet::IpNet;
use lockstep_routes::{
    Actual, Address, Change, Condition, Declared, Fwmark, Kind, Link, NextHop, Owned,
    PROTOCOL_LOCKSTEP, Phases, PortRange, Route, RouteKind, Rule, RuleAction, RuleKey, Scope, Side,
    TableId, When,
};

use super::kernel::Kernel;
use super::objects::{everything, link, there};

/// A protocol number of somebody else's.
pub(crate) const FOREIGN: u8 = 18;
/// A protocol number that somebody else's routes bear, and some of ours.
pub(crate) const STATIC: u8 = 4;
/// The group that objects follow.
pub(crate) const GROUP: &str = "gateway";
/// Every link that a case may have; `lo` is up, `eth0` too and never switched, each with a peer
/// that is up. No link makes itself a link-local address, none detects duplicates.
pub(crate) const LINKS: [&str; 4] = ["lo", "eth0", "eth1", "eth2"];
/// The tables that routes are in.
pub(crate) const TABLES: [TableId; 3] = [TableId::MAIN, TableId(2), TableId(300)];

/// The addresses that a link has from the beginning, of nobody's protocol number. Those of IPv6
/// only when it is up.
pub(crate) fn addresses_of(link: &str) -> &'static [&'static str] {
    match link {
        "eth0" => &["10.0.0.2/24", "2001:db8::2/64"],
        "eth1" => &["10.1.0.2/24", "2001:db8:1::2/64"],
        "eth2" => &["10.2.0.2/24", "2001:db8:2::2/64"],
        _ => &[],
    }
}

/// One case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The links that are there, and whether they are up.
    pub(crate) links: Vec<(&'static str, bool)>,
    /// What an earlier run, and others, have left. Some of it cannot be made: then it is not there.
    left_addresses: Vec<Address>,
    left_routes: Vec<Arc<Route>>,
    left_rules: Vec<Rule>,
    /// All that is declared.
    pub(crate) declared: Declared,
    /// What of that which bears [`STATIC`] was made by an earlier run.
    pub(crate) owned: Owned,
    /// What happens, in order.
    pub(crate) steps: Vec<Step>,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The group moves; afterwards everything is to be as wanted.
    Settle(Phases),
    /// A link goes down or up.
    Switch(&'static str, bool),
    /// A link's first address of a family goes.
    LoseAddress(&'static str, bool),
    /// Somebody removes the route of this number, modulo how many bear our protocol number.
    LoseRoute(usize),
}

impl Case {
    /// The case of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        Generator(Rng::with_seed(seed)).case()
    }

    /// The model with the links and addresses of the beginning.
    pub(crate) fn kernel(&self) -> Kernel {
        let mut kernel = Kernel::default();
        for (number, (name, up)) in self.links.iter().enumerate() {
            let index = number as u32 + 1;
            kernel.link(link(index, name, *up));
            for address in addresses_of(name) {
                // One of IPv6 is not taken while the link is down.
                let _ = kernel.address(there(index, address));
            }
        }
        kernel
    }

    /// What makes the rest of the beginning, in order; some of it is refused.
    pub(crate) fn begin(&self, actual: &Actual) -> Vec<Change> {
        // The kernel takes an IPv6 address on a link that is down, and drops it with the next down.
        let addresses = self.left_addresses.iter().filter_map(|address| {
            let link = actual.link(&address.interface)?;
            let index = Some(link.index).filter(|_| link.up || address.address.addr().is_ipv4())?;
            Some(Change::AddAddress { index, address: address.clone(), metric: None })
        });
        // The kernel takes an address of its own as an IPv4 next hop, and nobody wants that.
        let own = Some("10.0.0.9".parse().unwrap());
        let there = |hop: &NextHop| {
            hop.via != own && hop.dev.as_ref().is_none_or(|dev| actual.link(dev).is_some())
        };
        let routes = self.left_routes.iter().filter(|route| route.next_hops.iter().all(there));
        let routes = routes.map(|route| added(route, actual));
        let rules = self.left_rules.iter().map(|rule| Change::AddRule { rule: rule.clone() });
        addresses.chain(routes).chain(rules).collect()
    }
}

impl Step {
    /// What happens in a kernel that is as `actual` says.
    pub(crate) fn changes(&self, actual: &Actual) -> Vec<Change> {
        let change = match self {
            Self::Settle(_) => None,
            Self::Switch(name, up) => actual.link(name).map(|link| Change::SetLink {
                index: link.index,
                name: link.name.clone(),
                up: *up,
            }),
            Self::LoseAddress(name, ipv6) => actual.link(name).and_then(|link| {
                let mut on_link = actual.addresses.iter().filter(|there| {
                    there.index == link.index && there.address.addr().is_ipv6() == *ipv6
                });
                // The kernel lists IPv6 addresses in an order of its own.
                let there =
                    if *ipv6 { on_link.min_by_key(|there| there.address) } else { on_link.next() }?;
                let (index, name) = (link.index, link.name.clone());
                Some(Change::RemoveAddress { index, name, address: there.address })
            }),
            Self::LoseRoute(number) => {
                let mut ours: Vec<_> = actual
                    .routes
                    .iter()
                    .filter(|route| route.protocol == PROTOCOL_LOCKSTEP)
                    .collect();
                ours.sort_by_key(|route| route.key());
                let which = number % ours.len().max(1);
                ours.get(which).map(|route| Change::RemoveRoute { route: (*route).clone() })
            }
        };
        change.into_iter().collect()
    }
}

/// The addition of a route with the links it declares.
fn added(route: &Arc<Route>, actual: &Actual) -> Change {
    let index = |name: &String| actual.link(name).map(|link| link.index);
    let devs = route.next_hops.iter().map(|hop| hop.dev.as_ref().and_then(index)).collect();
    Change::AddRoute { route: Arc::clone(route), devs }
}

/// Whether two objects of one place can both be wanted.
fn overlap(one: &Condition, other: &Condition) -> bool {
    !matches!((one.when, other.when), (When::Master, When::Backup) | (When::Backup, When::Master))
}

/// Adds what does not stand in the way of what is there.
fn push<T, K: PartialEq>(
    all: &mut Vec<T>,
    new: T,
    key: impl Fn(&T) -> K,
    condition: impl Fn(&T) -> &Condition,
) {
    let in_the_way =
        |there: &T| key(there) == key(&new) && overlap(condition(there), condition(&new));
    if !all.iter().any(in_the_way) {
        all.push(new);
    }
}

struct Generator(Rng);

impl Generator {
    fn case(&mut self) -> Case {
        let mut links = vec![("lo", true), ("eth0", true)];
        for name in ["eth1", "eth2"] {
            if self.0.u8(..10) < 9 {
                links.push((name, self.0.u8(..10) < 7));
            }
        }
        let declared = self.declared();
        let left_routes = self.left_routes(&declared);
        let left_rules = self.left_rules(&declared);
        let mut owned = Owned::default();
        for route in left_routes.iter().filter(|route| route.protocol == STATIC) {
            if self.0.bool() {
                let devs = vec![None; route.next_hops.len()];
                owned.note(&Change::AddRoute { route: Arc::clone(route), devs });
            }
        }
        for rule in left_rules.iter().filter(|rule| rule.protocol == STATIC) {
            if self.0.bool() {
                owned.note(&Change::AddRule { rule: rule.clone() });
            }
        }
        let mut steps = vec![Step::Settle(self.phases())];
        for _ in 0..self.0.usize(1..4) {
            for _ in 0..self.0.usize(..3) {
                steps.push(self.disturbance());
            }
            steps.push(Step::Settle(self.phases()));
        }
        let left_addresses = (0..self.0.usize(..3)).map(|_| self.address()).collect();
        Case { links, left_addresses, left_routes, left_rules, declared, owned, steps }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.0.usize(..from.len())]
    }

    /// True once in so many times.
    fn once_in(&mut self, times: u32) -> bool {
        self.0.u32(..times) == 0
    }

    fn condition(&mut self) -> Condition {
        let when = self.pick(&[When::Always, When::Master, When::Backup]);
        Condition { when, group: Some(GROUP.to_owned()) }
    }

    fn phases(&mut self) -> Phases {
        let mut phases = Phases::default();
        for kind in [Kind::Links, Kind::Addresses, Kind::Routes] {
            let side = self.pick(&[Side::Unsettled, Side::Backup, Side::Master, Side::Master]);
            phases.settle(GROUP, kind, side);
        }
        phases
    }

    fn disturbance(&mut self) -> Step {
        let link = self.pick(&["eth1", "eth2"]);
        match self.0.u8(..5) {
            0 => Step::LoseAddress(link, self.0.bool()),
            1 => Step::LoseRoute(self.0.usize(..8)),
            _ => Step::Switch(link, self.0.bool()),
        }
    }

    fn declared(&mut self) -> Declared {
        let mut declared = Declared::default();
        for name in ["eth1", "eth2"] {
            if self.once_in(3) {
                declared.links.push(Link { interface: name.to_owned(), up: self.condition() });
            }
        }
        for _ in 0..self.0.usize(..6) {
            let address = self.address();
            let place = |one: &Address| (one.interface.clone(), one.address);
            push(&mut declared.addresses, address, place, |one| &one.condition);
        }
        for _ in 0..self.0.usize(..14) {
            let route = Arc::new(self.route());
            push(&mut declared.routes, route, |one| one.key(), |one| &one.condition);
        }
        // Tables in which nothing is declared are not looked at.
        for table in TABLES {
            let to = "192.0.2.0/24".parse().unwrap();
            let condition = Condition::ALWAYS;
            let kind = RouteKind::Throw;
            let in_table =
                Route { kind, to, table, condition, next_hops: Vec::new(), ..self.route() };
            declared.routes.push(Arc::new(Route {
                source: None,
                metric: None,
                mtu: None,
                scope: None,
                protocol: PROTOCOL_LOCKSTEP,
                ..in_table
            }));
        }
        for _ in 0..self.0.usize(..5) {
            let rule = self.rule();
            push(&mut declared.rules, rule, Rule::key, |one| &one.condition);
        }
        declared
    }

    fn address(&mut self) -> Address {
        let (interface, address) = self.pick(&[
            ("eth0", "10.0.0.1/24"),
            ("eth0", "10.0.0.9/32"),
            ("eth0", "2001:db8::1/64"),
            ("eth0", "2001:db8::9/128"),
            ("eth1", "10.1.0.1/24"),
            ("eth1", "10.7.0.1/24"),
            ("eth1", "2001:db8:1::1/64"),
            ("eth1", "2001:db8:7::1/64"),
            ("eth2", "10.2.0.1/24"),
            ("eth9", "10.9.0.1/24"),
        ]);
        let address: IpNet = address.parse().unwrap();
        let labelled = address.addr().is_ipv4() && self.once_in(3);
        Address {
            interface: interface.to_owned(),
            address,
            broadcast: None,
            label: labelled.then(|| format!("{interface}:v")),
            scope: Scope::Global,
            condition: self.condition(),
        }
    }

    fn route(&mut self) -> Route {
        let ipv6 = self.once_in(3);
        let kind = match self.0.u8(..12) {
            0 => RouteKind::Throw,
            1 => RouteKind::Blackhole,
            2 => RouteKind::Unreachable,
            3 => RouteKind::Prohibit,
            4 => RouteKind::Local,
            _ => RouteKind::Unicast,
        };
        let unicast = kind == RouteKind::Unicast;
        let next_hops = self.next_hops(kind, ipv6);
        let on_link = unicast && next_hops.iter().all(|hop| hop.via.is_none());
        let to = self.destination(kind, on_link, ipv6);
        let source = match (unicast && self.once_in(6), ipv6) {
            (false, _) => None,
            (true, false) => Some(self.pick(&["10.0.0.9", "10.0.0.2", "10.2.0.2"])),
            (true, true) => Some(self.pick(&["2001:db8::1", "2001:db8:1::2"])),
        };
        Route {
            kind,
            to,
            next_hops,
            source: source.map(|source| source.parse().unwrap()),
            table: self.pick(&TABLES),
            metric: self.pick(&[None, None, None, Some(10), Some(2000)]),
            mtu: Some(1400).filter(|_| unicast && self.once_in(6)),
            scope: Some(Scope::Global).filter(|_| on_link && self.once_in(8)),
            protocol: self.pick(&[PROTOCOL_LOCKSTEP, PROTOCOL_LOCKSTEP, STATIC]),
            condition: self.condition(),
        }
    }

    /// A network that next hops are on for a route that is on the link, another one otherwise.
    fn destination(&mut self, kind: RouteKind, on_link: bool, ipv6: bool) -> IpNet {
        let to: &[&str] = match (kind, on_link, ipv6) {
            (RouteKind::Local, _, false) => &["10.53.0.0/24"],
            (RouteKind::Local, _, true) => &["2001:db8:53::/64"],
            (_, true, false) => &["10.60.0.0/24", "10.61.0.0/16"],
            (_, true, true) => &["2001:db8:60::/64"],
            (_, false, false) => &["0.0.0.0/0", "10.50.0.0/16", "10.50.7.0/24", "10.51.0.1/32"],
            (_, false, true) => &["::/0", "2001:db8:50::/48", "2001:db8:50:7::/64"],
        };
        self.pick(to).parse().unwrap()
    }

    fn next_hops(&mut self, kind: RouteKind, ipv6: bool) -> Vec<NextHop> {
        let dev = |name: &str| Some(name.to_owned());
        match kind {
            RouteKind::Unicast => {}
            RouteKind::Local => {
                return vec![NextHop { via: None, dev: dev("lo"), weight: 1, onlink: false }];
            }
            _ => return Vec::new(),
        }
        if self.once_in(5) {
            let name = self.pick(&["eth0", "eth1", "eth2", "eth9"]);
            return vec![NextHop { via: None, dev: dev(name), weight: 1, onlink: false }];
        }
        let number = if self.once_in(4) { self.0.usize(2..4) } else { 1 };
        let mut hops: Vec<NextHop> = Vec::new();
        while hops.len() < number {
            let hop = self.next_hop(ipv6, number > 1);
            if hops.iter().all(|other| other.via != hop.via) {
                hops.push(hop);
            }
        }
        hops
    }

    fn next_hop(&mut self, ipv6: bool, among_others: bool) -> NextHop {
        let of_ipv6 = ipv6 || self.once_in(8);
        let network = self.pick(&[0, 1, 1, 2, 2, 7, 60]);
        let onlink = self.once_in(10);
        let via = match (onlink, of_ipv6, self.pick(&[254, 253, 9])) {
            (true, false, host) => format!("203.0.113.{host}"),
            (true, true, host) => format!("2001:db8:99::{host}"),
            (false, false, host) => format!("10.{network}.0.{host}"),
            (false, true, host) => format!("2001:db8:{network}::{host}"),
        };
        let near = ["eth0", "eth1", "eth2"].get(network).copied();
        let dev = match self.0.u8(..8) {
            _ if onlink => Some(self.pick(&["eth0", "eth1", "eth2"])),
            0..4 => None,
            4 => Some(self.pick(&["eth0", "eth1", "eth9"])),
            _ => near,
        };
        NextHop {
            via: Some(via.parse().unwrap()),
            dev: dev.map(str::to_owned),
            weight: if among_others { self.0.u16(1..5) } else { 1 },
            onlink,
        }
    }

    /// Almost each has a selector that what the router itself looks up has not: the way to a next
    /// hop is looked up by the rules too.
    fn rule(&mut self) -> Rule {
        if self.once_in(8) {
            return self.way_to_next_hops();
        }
        let ipv6 = self.once_in(3);
        let net = |ipv4: &str, six: &str| (if ipv6 { six } else { ipv4 }).parse().unwrap();
        let action = match self.0.u8(..8) {
            0 => RuleAction::Blackhole,
            1 => RuleAction::Unreachable,
            2 => RuleAction::Prohibit,
            _ => RuleAction::Lookup(self.pick(&TABLES)),
        };
        let priority = self.0.u32(100..104);
        let mut key = RuleKey { ipv6, action, ..everything(priority, TableId::MAIN) };
        match self.0.u8(..4) {
            0 => key.from = Some(net("10.50.0.0/16", "2001:db8:50::/48")),
            1 => key.iif = Some("eth1".to_owned()),
            2 => {
                let mask = self.pick(&[u32::MAX, 0xff]);
                key.fwmark = Some(Fwmark { value: self.0.u32(1..4), mask });
            }
            _ => key.ip_protocol = Some(self.pick(&[6, 17])),
        }
        if self.once_in(4) {
            key.to = Some(net("10.51.0.0/16", "2001:db8:51::/48"));
        }
        if self.once_in(4) {
            key.oif = Some("eth2".to_owned());
        }
        if self.once_in(4) {
            key.tos = 0x10;
        }
        if key.ip_protocol.is_some() && self.0.bool() {
            key.destination_port = Some(PortRange { first: 80, last: self.pick(&[80, 90]) });
            key.source_port = Some(PortRange::single(1024)).filter(|_| self.once_in(2));
        }
        if matches!(action, RuleAction::Lookup(_)) && self.once_in(4) {
            key.suppress_prefix_length = Some(self.pick(&[0, 16]));
        }
        Rule {
            key,
            protocol: self.pick(&[PROTOCOL_LOCKSTEP, PROTOCOL_LOCKSTEP, STATIC]),
            condition: self.condition(),
        }
    }

    /// By which the kernel finds next hops in another table. None of IPv6, where a gateway's route
    /// in that table would hide the networks of the next.
    fn way_to_next_hops(&mut self) -> Rule {
        let action = RuleAction::Lookup(self.pick(&TABLES));
        let mut key = RuleKey { action, ..everything(self.0.u32(100..104), TableId::MAIN) };
        match self.0.u8(..3) {
            0 => key.iif = Some("lo".to_owned()),
            1 => key.to = Some("10.60.0.0/15".parse().unwrap()),
            _ => {}
        }
        let protocol = self.pick(&[PROTOCOL_LOCKSTEP, STATIC]);
        Rule { key, protocol, condition: self.condition() }
    }

    /// What is declared and what is not, of an earlier run and of others. Routes of others lead
    /// over the link that is never switched.
    fn left_routes(&mut self, declared: &Declared) -> Vec<Arc<Route>> {
        (0..self.0.usize(..8))
            .map(|_| {
                let known = Some(self.0.usize(..declared.routes.len().max(1)))
                    .filter(|_| !self.once_in(3))
                    .and_then(|which| declared.routes.get(which));
                let mut route = known.map_or_else(|| self.route(), |route| (**route).clone());
                if route.protocol != PROTOCOL_LOCKSTEP || self.once_in(4) {
                    route.protocol = self.pick(&[STATIC, FOREIGN]);
                    lead_over_eth0(&mut route);
                } else if self.once_in(3) {
                    // Declared otherwise than it was made.
                    let ipv6 = route.to.addr().is_ipv6();
                    route.next_hops = self.next_hops(route.kind, ipv6);
                    if route.next_hops.iter().any(|hop| hop.via.is_some()) {
                        route.scope = None;
                    }
                }
                Arc::new(route)
            })
            .collect()
    }

    fn left_rules(&mut self, declared: &Declared) -> Vec<Rule> {
        (0..self.0.usize(..4))
            .map(|_| {
                let known = Some(self.0.usize(..declared.rules.len().max(1)))
                    .filter(|_| self.0.bool())
                    .and_then(|which| declared.rules.get(which));
                let rule = known.cloned().unwrap_or_else(|| self.rule());
                Rule { protocol: self.pick(&[PROTOCOL_LOCKSTEP, STATIC, FOREIGN]), ..rule }
            })
            .collect()
    }
}

fn lead_over_eth0(route: &mut Route) {
    if route.kind != RouteKind::Unicast {
        return;
    }
    let ipv6 = route.to.addr().is_ipv6();
    let via = if ipv6 { "2001:db8::77" } else { "10.0.0.77" };
    let via = Some(via.parse().unwrap()).filter(|_| route.next_hops[0].via.is_some());
    let dev = Some("eth0".to_owned());
    route.next_hops = vec![NextHop { via, dev, weight: 1, onlink: false }];
    route.source = None;
}
