//! A model of the kernel, and random cases for it from a seed.
//!
//! The tests of the kernel's side include this with
//! `#[path = "../../routes/tests/model/mod.rs"] mod model;` and carry the same cases out in a
//! namespace: make the links of [`cases::Case::links`] there, give each its
//! [`cases::addresses_of`] as a person would, then do the changes of [`cases::Case::begin`] and of
//! each [`cases::Step`] on both sides and compare [`essence`].

#![allow(dead_code, reason = "each test that includes this uses a part of it")]

pub(crate) mod cases;
pub(crate) mod kernel;
#[path = "../objects/mod.rs"]
mod objects;

use lockstep_routes::{Actual, ActualRoute, PROTOCOL_LOCKSTEP};

/// What of two states has to be the same when one is the model's and the other the kernel's: all
/// but link numbers, MAC addresses, and what no case is about.
pub(crate) fn essence(actual: &Actual) -> Vec<String> {
    let name = |index| actual.link_name(index);
    let ours = |index: &u32| {
        actual.links.get(index).is_some_and(|link| cases::LINKS.contains(&link.name.as_str()))
    };
    let mut lines = Vec::new();
    for link in actual.links.values().filter(|link| ours(&link.index)) {
        lines.push(format!("link {} up {}", link.name, link.up));
    }
    for there in actual.addresses.iter().filter(|there| ours(&there.index)) {
        let address = there.address;
        let (dev, protocol) = (name(there.index), there.protocol);
        // How the others of the beginning were made is no matter.
        let ours = protocol == PROTOCOL_LOCKSTEP;
        let label = there.label.as_ref().filter(|label| ours && **label != dev);
        let broadcast = there.broadcast.filter(|_| ours);
        lines.push(format!(
            "address {address} dev {dev} protocol {protocol} label {label:?} broadcast {broadcast:?}"
        ));
    }
    let routes = actual.routes.iter().filter(|route| !is_link_local(route));
    lines.extend(routes.map(|route| essence_of_route(route, actual)));
    for rule in actual.rules.iter().filter(|rule| rule.protocol != 2) {
        lines.push(format!("rule {} protocol {}", rule.key, rule.protocol));
    }
    lines.sort();
    lines
}

/// The kernel's own networks of link-local and multicast addresses.
fn is_link_local(route: &ActualRoute) -> bool {
    let to = route.to.to_string();
    route.protocol == 2 && (to.starts_with("fe80:") || to.starts_with("ff00:"))
}

fn essence_of_route(route: &ActualRoute, actual: &Actual) -> String {
    let mut hops: Vec<String> = route
        .next_hops
        .iter()
        .map(|hop| {
            let dev = hop.dev.map(|index| actual.link_name(index));
            format!("{:?} {dev:?} weight {}", hop.via, hop.weight)
        })
        .collect();
    hops.sort();
    let source = route.source.filter(|_| route.protocol != 2);
    format!(
        "route {:?} {} table {} metric {} by {hops:?} source {source:?} mtu {:?} protocol {}",
        route.kind, route.to, route.table.0, route.metric, route.mtu, route.protocol
    )
}
