//! Requests in rtnetlink's messages.

use std::net::IpAddr;

use ipnet::IpNet;
use lockstep_routes::{
    ActualRoute, ActualRule, Address, Change, PROTOCOL_LOCKSTEP, PortRange, Route, RouteKind,
    RuleKey, Scope, TableId,
};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RouteProtocol, RouteScope, RouteType, RouteVia,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::LinkUnspec;

use super::{short_table, virtual_link};

/// For ever valid, and the last choice as the source of a connection of the router's own.
fn never_preferred() -> CacheInfo {
    let mut lifetimes = CacheInfo::default();
    lifetimes.ifa_valid = u32::MAX;
    lifetimes
}

/// All links, without their statistics.
pub(super) fn links() -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(message)
}

/// All addresses of both families.
pub(super) fn addresses() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetAddress(AddressMessage::default())
}

/// The routes of one table.
pub(super) fn routes_of(family: AddressFamily, table: TableId) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = short_table(table);
    message.attributes.push(RouteAttribute::Table(table.0));
    RouteNetlinkMessage::GetRoute(message)
}

/// The routes of all tables that bear our protocol number.
pub(super) fn own_routes_of(family: AddressFamily) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.protocol = RouteProtocol::from(PROTOCOL_LOCKSTEP);
    RouteNetlinkMessage::GetRoute(message)
}

/// The rules of one family.
pub(super) fn rules_of(family: AddressFamily) -> RouteNetlinkMessage {
    let mut message = RuleMessage::default();
    message.header.family = family;
    RouteNetlinkMessage::GetRule(message)
}

/// Puts a link into a group of links.
pub(super) fn into_group(index: u32, group: u32) -> (RouteNetlinkMessage, u16) {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::Group(group));
    (RouteNetlinkMessage::SetLink(message), 0)
}

/// Removes every link of a group.
pub(super) fn group_removal(group: u32) -> (RouteNetlinkMessage, u16) {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Group(group));
    (RouteNetlinkMessage::DelLink(message), 0)
}

/// A change, with the flags that make it refuse to touch what it does not mean.
pub(super) fn change(change: &Change) -> (RouteNetlinkMessage, u16) {
    match change {
        Change::SetLink { index, up, .. } => {
            let link = LinkUnspec::new_with_index(*index);
            let link = if *up { link.up() } else { link.down() };
            (RouteNetlinkMessage::SetLink(link.build()), 0)
        }
        Change::AddVirtualLink { link, parent } => virtual_link::creation(link, *parent),
        Change::RemoveLink { index, .. } => {
            let mut message = LinkMessage::default();
            message.header.index = *index;
            (RouteNetlinkMessage::DelLink(message), 0)
        }
        Change::AddAddress { index, address, metric } => (
            RouteNetlinkMessage::NewAddress(new_address(*index, address, *metric)),
            NLM_F_CREATE | NLM_F_EXCL,
        ),
        Change::RemoveAddress { index, address, .. } => {
            (RouteNetlinkMessage::DelAddress(plain_address(*index, *address)), 0)
        }
        Change::AddRoute { route, devs } => {
            (RouteNetlinkMessage::NewRoute(new_route(route, devs)), NLM_F_CREATE | NLM_F_EXCL)
        }
        Change::ReplaceRoute { route, devs } => {
            (RouteNetlinkMessage::NewRoute(new_route(route, devs)), NLM_F_CREATE | NLM_F_REPLACE)
        }
        Change::RemoveRoute { route } => (RouteNetlinkMessage::DelRoute(old_route(route)), 0),
        Change::AddRule { rule } => (
            RouteNetlinkMessage::NewRule(rule_message(&rule.key(), rule.protocol)),
            NLM_F_CREATE | NLM_F_EXCL,
        ),
        Change::RemoveRule { rule } => {
            (RouteNetlinkMessage::DelRule(rule_message(&rule.key, rule.protocol)), 0)
        }
    }
}

/// Adds a rule although an equal one is there, behind it.
pub(super) fn another(rule: &ActualRule) -> (RouteNetlinkMessage, u16) {
    (RouteNetlinkMessage::NewRule(rule_message(&rule.key, rule.protocol)), NLM_F_CREATE)
}

fn family_of(net: IpNet) -> AddressFamily {
    if net.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn plain_address(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family_of(address);
    message.header.prefix_len = address.prefix_len();
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(address.addr()));
    message.attributes.push(AddressAttribute::Address(address.addr()));
    message
}

fn new_address(index: u32, address: &Address, metric: Option<u32>) -> AddressMessage {
    let mut message = plain_address(index, address.address);
    message.header.scope = match address.scope {
        Scope::Global => AddressScope::Universe,
        Scope::Link => AddressScope::Link,
        Scope::Host => AddressScope::Host,
    };
    let attributes = &mut message.attributes;
    attributes.push(AddressAttribute::Protocol(AddressProtocol::from(PROTOCOL_LOCKSTEP)));
    if address.address.addr().is_ipv6() {
        // The election has decided who has it; duplicate detection would only delay it.
        attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        if address.is_visitor() {
            attributes.push(AddressAttribute::CacheInfo(never_preferred()));
        }
    } else {
        attributes.extend(address.broadcast.map(AddressAttribute::Broadcast));
        attributes.extend(address.label.clone().map(AddressAttribute::Label));
    }
    attributes.extend(metric.map(AddressAttribute::RoutePriority));
    message
}

fn route_message(table: TableId, to: IpNet) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family_of(to);
    message.header.destination_prefix_length = to.prefix_len();
    message.header.table = short_table(table);
    message.attributes.push(RouteAttribute::Table(table.0));
    if to.prefix_len() > 0 {
        let network = RouteAddress::from(to.network());
        message.attributes.push(RouteAttribute::Destination(network));
    }
    message
}

fn new_route(route: &Route, devs: &[Option<u32>]) -> RouteMessage {
    let mut message = route_message(route.table, route.to);
    message.header.protocol = RouteProtocol::from(route.protocol);
    message.header.scope = RouteScope::from(route.scope_number());
    message.header.kind = route_type(Some(route.kind));
    let attributes = &mut message.attributes;
    match route.next_hops.as_slice() {
        [] => {}
        [hop] => {
            if hop.onlink {
                message.header.flags = RouteFlags::Onlink;
            }
            attributes.extend(hop.via.map(|via| gateway(route.to, via)));
            attributes.extend(devs.first().copied().flatten().map(RouteAttribute::Oif));
        }
        several => {
            let hops = several
                .iter()
                .zip(devs)
                .map(|(hop, dev)| next_hop(route.to, hop.via, *dev, hop.weight, hop.onlink));
            attributes.push(RouteAttribute::MultiPath(hops.collect()));
        }
    }
    attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    attributes.extend(route.metric.map(RouteAttribute::Priority));
    attributes.extend(route.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
    message
}

/// Names a dumped route as exactly as it was dumped, so that no other one is removed.
fn old_route(route: &ActualRoute) -> RouteMessage {
    let mut message = route_message(route.table, route.to);
    message.header.protocol = RouteProtocol::from(route.protocol);
    message.header.scope = RouteScope::NoWhere;
    message.header.kind = route_type(route.kind);
    let attributes = &mut message.attributes;
    match &*route.next_hops {
        _ if route.kind != Some(RouteKind::Unicast) => {}
        [] => {}
        [hop] => {
            attributes.extend(hop.via.map(|via| gateway(route.to, via)));
            attributes.extend(hop.dev.map(RouteAttribute::Oif));
        }
        several => {
            let hops = several
                .iter()
                .map(|hop| next_hop(route.to, hop.via, hop.dev, hop.weight, hop.onlink));
            attributes.push(RouteAttribute::MultiPath(hops.collect()));
        }
    }
    if route.metric != 0 {
        attributes.push(RouteAttribute::Priority(route.metric));
    }
    message
}

fn next_hop(
    to: IpNet,
    via: Option<IpAddr>,
    dev: Option<u32>,
    weight: u16,
    onlink: bool,
) -> RouteNextHop {
    let mut hop = RouteNextHop::default();
    if onlink {
        hop.flags = RouteNextHopFlags::Onlink;
    }
    // The kernel counts from 0, `ip` from 1.
    hop.hops = u8::try_from(weight.saturating_sub(1)).unwrap_or(u8::MAX);
    hop.interface_index = dev.unwrap_or(0);
    hop.attributes.extend(via.map(|via| gateway(to, via)));
    hop
}

fn gateway(to: IpNet, via: IpAddr) -> RouteAttribute {
    if to.addr().is_ipv4() == via.is_ipv4() {
        RouteAttribute::Gateway(via.into())
    } else {
        RouteAttribute::Via(RouteVia::from(via))
    }
}

fn route_type(kind: Option<RouteKind>) -> RouteType {
    match kind {
        Some(RouteKind::Unicast) => RouteType::Unicast,
        Some(RouteKind::Local) => RouteType::Local,
        Some(RouteKind::Throw) => RouteType::Throw,
        Some(RouteKind::Blackhole) => RouteType::BlackHole,
        Some(RouteKind::Unreachable) => RouteType::Unreachable,
        Some(RouteKind::Prohibit) => RouteType::Prohibit,
        None => RouteType::Unspec,
    }
}

fn rule_message(rule: &RuleKey, protocol: u8) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = if rule.ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    message.header.tos = rule.tos;
    let attributes = &mut message.attributes;
    message.header.action = match rule.action {
        lockstep_routes::RuleAction::Lookup(table) => {
            message.header.table = short_table(table);
            attributes.push(RuleAttribute::Table(table.0));
            RuleAction::ToTable
        }
        lockstep_routes::RuleAction::Blackhole => RuleAction::Blackhole,
        lockstep_routes::RuleAction::Unreachable => RuleAction::Unreachable,
        lockstep_routes::RuleAction::Prohibit => RuleAction::Prohibit,
    };
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.push(RuleAttribute::Protocol(RouteProtocol::from(protocol)));
    if let Some(from) = rule.from {
        message.header.src_len = from.prefix_len();
        attributes.push(RuleAttribute::Source(from.addr()));
    }
    if let Some(to) = rule.to {
        message.header.dst_len = to.prefix_len();
        attributes.push(RuleAttribute::Destination(to.addr()));
    }
    if let Some(fwmark) = rule.fwmark {
        attributes.push(RuleAttribute::FwMark(fwmark.value));
        attributes.push(RuleAttribute::FwMask(fwmark.mask));
    }
    attributes.extend(rule.iif.clone().map(RuleAttribute::Iifname));
    attributes.extend(rule.oif.clone().map(RuleAttribute::Oifname));
    attributes
        .extend(rule.ip_protocol.map(|number| RuleAttribute::IpProtocol(i32::from(number).into())));
    let ports = |ports: PortRange| RulePortRange { start: ports.first, end: ports.last };
    attributes.extend(rule.source_port.map(|range| RuleAttribute::SourcePortRange(ports(range))));
    attributes.extend(
        rule.destination_port.map(|range| RuleAttribute::DestinationPortRange(ports(range))),
    );
    attributes.extend(
        rule.suppress_prefix_length.map(|length| RuleAttribute::SuppressPrefixLen(length.into())),
    );
    message
}
