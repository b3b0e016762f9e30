//! What routes, rules and addresses say of each other that is odd, and not wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use lockstep_routes::{Declared, NextHop, Route, RouteKind, RuleAction, TableId};

use crate::problem::{Problem, Report};
use crate::route::ReadRoute;
use crate::rule::ReadRule;

/// Tables that the kernel or the host itself fills.
const FILLED: [TableId; 3] = [TableId::MAIN, TableId::LOCAL, TableId(253)];

/// Warns of next hops and rules that lead to nothing the file has. `host` are the names of tables
/// from outside.
pub(crate) fn report(
    report: &Report,
    declared: &Declared,
    host: &[(String, TableId)],
    routes: &[ReadRoute],
    rules: &[ReadRule],
) {
    next_hops(report, declared, routes);
    empty_tables(report, declared, host, rules);
}

/// Warns of a next hop in no declared network, where the file has networks that it could be in.
/// Without any, the networks are the host's own, and nobody here knows them.
fn next_hops(report: &Report, declared: &Declared, routes: &[ReadRoute]) {
    let networks = Networks::of(declared);
    let mut told = BTreeSet::new();
    for ReadRoute { route, next_hops } in routes {
        for (hop, place) in route.next_hops.iter().zip(next_hops) {
            let Some(via) = hop.via else { continue };
            if !networks.lacks(route.table, hop, via) || !told.insert((via, hop.dev.as_deref())) {
                continue;
            }
            let message = format!("no declared network holds {via}: the host must have one");
            let problem = Problem::warning(message).at(place.clone());
            problem.label("waits until there is one").help(remedy(hop)).push(report);
        }
    }
}

fn remedy(hop: &NextHop) -> String {
    match &hop.dev {
        None => "write `dev` too when the host has the network itself".to_owned(),
        Some(dev) => format!("write `onlink = true` when it is on the link of {dev} all the same"),
    }
}

/// The networks that the file says are connected.
#[derive(Debug, Default)]
struct Networks {
    /// By interface, those of addresses.
    of_interfaces: BTreeMap<String, Prefixes>,
    /// Those of addresses on any interface.
    anywhere: Prefixes,
    /// By table and interface, destinations on the link.
    on_link: BTreeMap<(TableId, Option<String>), Prefixes>,
}

impl Networks {
    fn of(declared: &Declared) -> Self {
        let mut networks = Self::default();
        for address in &declared.addresses {
            let net = address.address;
            if net.prefix_len() < net.max_prefix_len() {
                let of_interface = networks.of_interfaces.entry(address.interface.clone());
                of_interface.or_default().insert(net);
                networks.anywhere.insert(net);
            }
        }
        for route in declared.routes.iter().filter(|route| route.kind == RouteKind::Unicast) {
            networks.connect(route);
        }
        networks
    }

    fn connect(&mut self, route: &Route) {
        let [NextHop { via: None, dev: Some(dev), .. }] = route.next_hops.as_slice() else {
            return;
        };
        for dev in [None, Some(dev.clone())] {
            self.on_link.entry((route.table, dev)).or_default().insert(route.to);
        }
    }

    /// Whether `via` should be in a network of the file and is in none.
    fn lacks(&self, table: TableId, hop: &NextHop, via: IpAddr) -> bool {
        let link_local = matches!(via, IpAddr::V6(via) if via.is_unicast_link_local());
        if link_local || hop.onlink {
            return false;
        }
        let declared = match &hop.dev {
            Some(dev) => self.of_interfaces.get(dev),
            None => Some(&self.anywhere),
        };
        let Some(declared) = declared.filter(|declared| declared.has_family_of(via)) else {
            return false;
        };
        let on_link = |table| {
            let on_link = self.on_link.get(&(table, hop.dev.clone()));
            on_link.is_some_and(|on_link| on_link.hold(via))
        };
        !declared.hold(via) && !on_link(table) && !on_link(TableId::MAIN)
    }
}

/// Networks in which an address is found by one look for each length of prefix.
#[derive(Debug, Default)]
struct Prefixes {
    networks: BTreeSet<IpNet>,
    /// Whether IPv6, and the length.
    lengths: BTreeSet<(bool, u8)>,
}

impl Prefixes {
    fn insert(&mut self, network: IpNet) {
        self.networks.insert(network.trunc());
        self.lengths.insert((network.addr().is_ipv6(), network.prefix_len()));
    }

    fn has_family_of(&self, address: IpAddr) -> bool {
        self.lengths.iter().any(|(ipv6, _)| *ipv6 == address.is_ipv6())
    }

    fn hold(&self, address: IpAddr) -> bool {
        let lengths = self.lengths.iter().filter(|(ipv6, _)| *ipv6 == address.is_ipv6());
        let mut around = lengths.filter_map(|(_, length)| IpNet::new(address, *length).ok());
        around.any(|network| self.networks.contains(&network.trunc()))
    }
}

/// Warns of the first rule that looks up a table in which no declared route is. What another program
/// fills is named by the host.
fn empty_tables(
    report: &Report,
    declared: &Declared,
    host: &[(String, TableId)],
    rules: &[ReadRule],
) {
    let mut filled: BTreeSet<TableId> = declared.routes.iter().map(|route| route.table).collect();
    filled.extend(FILLED);
    filled.extend(host.iter().map(|(_, id)| *id));
    for ReadRule { rule, table } in rules {
        let (RuleAction::Lookup(id), Some(place)) = (rule.key.action, table) else { continue };
        if filled.insert(id) {
            let name = declared.table_name(id);
            let problem = Problem::warning(format!("no declared route is in table {name}"))
                .label("is looked up here")
                .help("name the table in /etc/iproute2/rt_tables when another program fills it");
            report.push(problem.at(place.clone()));
        }
    }
}
