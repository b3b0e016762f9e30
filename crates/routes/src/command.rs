//! Changes as the commands of iproute2 that a person would type.

use std::fmt::Write;

use ipnet::IpNet;

use crate::text::write_next_hop;
use crate::{
    Actual, ActualRoute, Address, Change, PROTOCOL_LOCKSTEP, Route, RouteKind, RuleKey, Scope,
    TableId, VirtualLink, When, protocol_name,
};

impl Change {
    /// The `ip` command that does the same. What iproute2 may have no name for is a number in it:
    /// tables but the kernel's own, and our routing protocol. Links bear their names in `actual`.
    ///
    /// It cannot say everything: an address is not marked as ours by it, nor is a virtual link.
    pub fn command(&self, actual: &Actual) -> String {
        match self {
            Self::AddVirtualLink { link, .. } => add_link(link),
            Self::RemoveLink { name, .. } => format!("ip link del dev {name}"),
            Self::SetLink { name, up, .. } => {
                format!("ip link set dev {name} {}", if *up { "up" } else { "down" })
            }
            Self::AddAddress { address, metric, .. } => add_address(address, *metric),
            Self::RemoveAddress { name, address, .. } => {
                format!("{} addr del {address} dev {name}", ip(address.addr().is_ipv6()))
            }
            Self::AddRoute { route, .. } => put_route("add", route),
            Self::ReplaceRoute { route, .. } => put_route("replace", route),
            Self::RemoveRoute { route } => remove_route(route, actual),
            Self::AddRule { rule } => of_rule("add", &rule.key(), rule.protocol),
            Self::RemoveRule { rule } => of_rule("del", &rule.key, rule.protocol),
        }
    }
}

fn ip(ipv6: bool) -> &'static str {
    if ipv6 { "ip -6" } else { "ip" }
}

fn add_link(link: &VirtualLink) -> String {
    let mac = link.mac.map(|byte| format!("{byte:02x}")).join(":");
    let VirtualLink { name, parent, .. } = link;
    format!("ip link add link {parent} name {name} address {mac} type macvlan mode bridge")
}

fn add_address(address: &Address, metric: Option<u32>) -> String {
    let ipv6 = address.address.addr().is_ipv6();
    let mut text = format!("{} addr add {}", ip(ipv6), address.address);
    if let Some(broadcast) = address.broadcast.filter(|_| !ipv6) {
        add(&mut text, "brd", broadcast);
    }
    add(&mut text, "dev", &address.interface);
    if let Some(label) = address.label.as_ref().filter(|_| !ipv6) {
        add(&mut text, "label", label);
    }
    if address.scope != Scope::Global && !ipv6 {
        add(&mut text, "scope", address.scope.as_str());
    }
    if let Some(metric) = metric {
        add(&mut text, "metric", metric);
    }
    if ipv6 {
        text.push_str(" nodad");
    }
    if address.is_visitor() {
        text.push_str(" preferred_lft 0");
    }
    text
}

impl Address {
    /// Whether an IPv6 address is here only while this router is master, beside another of its
    /// network: then what the router begins itself had better not come from it (RFC 6724 §5,
    /// rule 3). Where the virtual address brings the network along, it may be the only one.
    pub fn is_visitor(&self) -> bool {
        self.address.addr().is_ipv6()
            && self.condition.when == When::Master
            && self.address.prefix_len() == self.address.max_prefix_len()
    }
}

fn put_route(verb: &str, route: &Route) -> String {
    let mut text = begin_route(verb, Some(route.kind), route.to);
    let several = route.next_hops.len() > 1;
    if !several {
        write_next_hops(&mut text, route);
    }
    end_route(&mut text, Some(route.kind), route.table, route.protocol);
    if let Some(source) = route.source {
        add(&mut text, "src", source);
    }
    if let Some(metric) = route.metric {
        add(&mut text, "metric", metric);
    }
    if let Some(mtu) = route.mtu {
        add(&mut text, "mtu", mtu);
    }
    if let Some(scope) = route.scope.filter(|_| route.to.addr().is_ipv4()) {
        add(&mut text, "scope", scope.as_str());
    }
    // What follows `nexthop` belongs to it.
    if several {
        write_next_hops(&mut text, route);
    }
    text
}

fn write_next_hops(text: &mut String, route: &Route) {
    let several = route.next_hops.len() > 1;
    for hop in &route.next_hops {
        let weight = several.then_some(hop.weight);
        // A string takes everything.
        let _ = write_next_hop(text, weight, route.to, hop.via, hop.dev.as_deref());
        if hop.onlink {
            text.push_str(" onlink");
        }
    }
}

fn remove_route(route: &ActualRoute, actual: &Actual) -> String {
    let mut text = begin_route("del", route.kind, route.to);
    let several = route.next_hops.len() > 1;
    let write_hops = |text: &mut String| {
        for hop in &route.next_hops {
            let dev = hop.dev.map(|index| actual.link_name(index));
            let weight = several.then_some(hop.weight);
            // A string takes everything.
            let _ = write_next_hop(text, weight, route.to, hop.via, dev.as_deref());
        }
    };
    if !several {
        write_hops(&mut text);
    }
    end_route(&mut text, route.kind, route.table, route.protocol);
    if route.metric != 0 {
        add(&mut text, "metric", route.metric);
    }
    if several {
        write_hops(&mut text);
    }
    text
}

fn begin_route(verb: &str, kind: Option<RouteKind>, to: IpNet) -> String {
    let mut text = format!("{} route {verb} ", ip(to.addr().is_ipv6()));
    if let Some(kind) = kind.filter(|kind| *kind != RouteKind::Unicast) {
        text.push_str(kind.as_str());
        text.push(' ');
    }
    text.push_str(&crate::text::destination(to));
    text
}

fn end_route(text: &mut String, kind: Option<RouteKind>, table: TableId, protocol: u8) {
    // Without a table `ip` takes the main one, but for a local route the local one.
    if table != TableId::MAIN || kind == Some(RouteKind::Local) {
        add(text, "table", table);
    }
    add(text, "proto", protocol_word(protocol));
}

fn protocol_word(protocol: u8) -> String {
    if protocol == PROTOCOL_LOCKSTEP { protocol.to_string() } else { protocol_name(protocol) }
}

fn of_rule(verb: &str, key: &RuleKey, protocol: u8) -> String {
    let protocol = protocol_word(protocol);
    format!("{} rule {verb} {key} protocol {protocol}", ip(key.ipv6))
}

fn add(text: &mut String, word: &str, value: impl std::fmt::Display) {
    // A string takes everything.
    let _ = write!(text, " {word} {value}");
}
