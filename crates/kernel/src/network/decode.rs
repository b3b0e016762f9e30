//! Dumped messages as the model's objects. A message that cannot be understood is left out.

mod route;

use ipnet::IpNet;
use lockstep_routes::{
    ActualAddress, ActualLink, ActualRule, Fwmark, Macvlan, PortRange, RuleKey, TableId,
};
use netlink_packet_core::{DefaultNla, Nla, NlasIterator, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{LinkFlags, LinkHeader};
use netlink_packet_route::rule::{
    RuleAction, RuleAttribute, RuleFlags, RuleMessage, RulePortRange,
};

pub(super) use route::route;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWRULE: u16 = 32;

/// Length of a link message's fixed part.
const LINK_HEADER: usize = 16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_GROUP: u16 = 27;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_MACVLAN_MODE: u16 = 1;
const MACVLAN_MODE_BRIDGE: u32 = 4;

/// Only the attributes that are needed: the many others must not be able to spoil a link.
pub(super) fn link(kind: u16, payload: &[u8]) -> Option<ActualLink> {
    let header = LinkHeader::parse(payload).ok().filter(|_| kind == RTM_NEWLINK)?;
    let mut link = ActualLink {
        index: header.index,
        name: String::new(),
        up: header.flags.contains(LinkFlags::Up),
        carrier: header.flags.contains(LinkFlags::LowerUp),
        mtu: 0,
        mac: [0; 6],
        macvlan: None,
        alias: String::new(),
    };
    let (mut parent, mut bridge) = (0, None);
    for attribute in NlasIterator::new(payload.get(LINK_HEADER..)?).map_while(Result::ok) {
        let value = attribute.value();
        match attribute.kind() {
            IFLA_ADDRESS => link.mac = value.try_into().unwrap_or_default(),
            IFLA_IFNAME => {
                link.name = text(value);
            }
            IFLA_MTU => link.mtu = number(value),
            IFLA_LINK => parent = number(value),
            IFLA_LINKINFO => bridge = bridge_macvlan(value),
            IFLA_IFALIAS => link.alias = text(value),
            _ => {}
        }
    }
    link.macvlan = bridge.map(|bridge| Macvlan { parent, bridge });
    (!link.name.is_empty()).then_some(link)
}

/// The group that a link is in; 0 where nobody has put it into one.
pub(super) fn link_group(kind: u16, payload: &[u8]) -> Option<u32> {
    let attributes = payload.get(LINK_HEADER..).filter(|_| kind == RTM_NEWLINK)?;
    NlasIterator::new(attributes)
        .map_while(Result::ok)
        .find(|attribute| attribute.kind() == IFLA_GROUP)
        .map(|attribute| number(attribute.value()))
}

/// Whether a macvlan is in bridge mode; `None` for another kind of link.
fn bridge_macvlan(information: &[u8]) -> Option<bool> {
    let mut is_macvlan = false;
    let mut mode = 0;
    for attribute in NlasIterator::new(information).map_while(Result::ok) {
        match attribute.kind() {
            IFLA_INFO_KIND => is_macvlan = text(attribute.value()) == "macvlan",
            IFLA_INFO_DATA => {
                mode = NlasIterator::new(attribute.value())
                    .map_while(Result::ok)
                    .find(|data| data.kind() == IFLA_MACVLAN_MODE)
                    .map_or(0, |data| number(data.value()));
            }
            _ => {}
        }
    }
    is_macvlan.then_some(mode == MACVLAN_MODE_BRIDGE)
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

fn number(value: &[u8]) -> u32 {
    value.try_into().map_or(0, u32::from_ne_bytes)
}

pub(super) fn address(kind: u16, payload: &[u8]) -> Option<ActualAddress> {
    let message = understood(kind == RTM_NEWADDR, || AddressMessage::parse(payload))?;
    let mut local = None;
    let mut either = None;
    let (mut broadcast, mut label) = (None, None);
    let mut protocol = 0;
    let mut flags = u32::from(message.header.flags.bits());
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(address),
            AddressAttribute::Address(address) => either = Some(address),
            AddressAttribute::Broadcast(address) => broadcast = Some(address),
            AddressAttribute::Label(text) => label = Some(text),
            AddressAttribute::Protocol(number) => protocol = u8::from(number),
            AddressAttribute::Flags(all) => flags = all.bits(),
            _ => {}
        }
    }
    let address = local.or(either)?;
    let flags = AddressFlags::from_bits_retain(flags);
    Some(ActualAddress {
        index: message.header.index,
        address: IpNet::new(address, message.header.prefix_len).ok()?,
        protocol,
        broadcast,
        label,
        scope: u8::from(message.header.scope),
        secondary: address.is_ipv4() && flags.contains(AddressFlags::Secondary),
        tentative: flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
        duplicate: flags.contains(AddressFlags::Dadfailed),
    })
}

pub(super) fn rule(kind: u16, payload: &[u8]) -> Option<ActualRule> {
    let message = understood(kind == RTM_NEWRULE, || RuleMessage::parse(payload))?;
    let header = message.header;
    let mut key = RuleKey {
        ipv6: header.family == AddressFamily::Inet6,
        priority: 0,
        from: None,
        to: None,
        fwmark: None,
        iif: None,
        oif: None,
        tos: header.tos,
        ip_protocol: None,
        source_port: None,
        destination_port: None,
        suppress_prefix_length: None,
        action: lockstep_routes::RuleAction::Lookup(TableId(header.table.into())),
    };
    let mut protocol = 0;
    let mut special = header.flags.contains(RuleFlags::Invert);
    match header.action {
        RuleAction::ToTable => {}
        RuleAction::Blackhole => key.action = lockstep_routes::RuleAction::Blackhole,
        RuleAction::Unreachable => key.action = lockstep_routes::RuleAction::Unreachable,
        RuleAction::Prohibit => key.action = lockstep_routes::RuleAction::Prohibit,
        _ => special = true,
    }
    let (mut mark, mut mask) = (0, None);
    for attribute in message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => key.priority = priority,
            RuleAttribute::Table(table) => {
                if let lockstep_routes::RuleAction::Lookup(lookup) = &mut key.action {
                    *lookup = TableId(table);
                }
            }
            RuleAttribute::Protocol(number) => protocol = number.into(),
            RuleAttribute::Source(from) => key.from = IpNet::new(from, header.src_len).ok(),
            RuleAttribute::Destination(to) => key.to = IpNet::new(to, header.dst_len).ok(),
            RuleAttribute::FwMark(value) => mark = value,
            RuleAttribute::FwMask(bits) => mask = Some(bits),
            RuleAttribute::Iifname(name) => key.iif = Some(name),
            RuleAttribute::Oifname(name) => key.oif = Some(name),
            RuleAttribute::SuppressPrefixLen(u32::MAX)
            | RuleAttribute::SuppressIfGroup(u32::MAX) => {}
            RuleAttribute::SuppressPrefixLen(length) => {
                key.suppress_prefix_length = u8::try_from(length).ok();
                special |= key.suppress_prefix_length.is_none();
            }
            RuleAttribute::IpProtocol(number) => {
                key.ip_protocol = u8::try_from(i32::from(number)).ok();
                special |= key.ip_protocol.is_none();
            }
            RuleAttribute::SourcePortRange(range) => key.source_port = Some(ports(range)),
            RuleAttribute::DestinationPortRange(range) => {
                key.destination_port = Some(ports(range));
            }
            RuleAttribute::Other(other) if says_nothing(&other) => {}
            _ => special = true,
        }
    }
    key.fwmark = mask.map(|mask| Fwmark { value: mark, mask });
    Some(ActualRule { key, protocol, special })
}

fn ports(range: RulePortRange) -> PortRange {
    PortRange { first: range.start, last: range.end }
}

/// Alignment, and masks that leave a single port as it is (since Linux 6.15).
fn says_nothing(attribute: &DefaultNla) -> bool {
    const FRA_PAD: u16 = 18;
    const FRA_SPORT_MASK: u16 = 28;
    const FRA_DPORT_MASK: u16 = 29;
    match attribute.kind() {
        FRA_PAD => true,
        FRA_SPORT_MASK | FRA_DPORT_MASK if attribute.value_len() == 2 => {
            let mut mask = [0; 2];
            attribute.emit_value(&mut mask);
            mask == [0xff; 2]
        }
        _ => false,
    }
}

fn understood<T, E: std::fmt::Display>(
    expected: bool,
    parse: impl FnOnce() -> Result<T, E>,
) -> Option<T> {
    if !expected {
        return None;
    }
    parse().inspect_err(|error| tracing::debug!(%error, "a dumped message makes no sense")).ok()
}

#[cfg(test)]
mod tests {
    use lockstep_routes::Interest;

    use super::*;

    #[test]
    fn no_bytes_make_a_decoder_panic() {
        let interest = Interest::of(&lockstep_routes::Declared::default());
        let mut noise: u32 = 0x9e37_79b9;
        for round in 0..4_000usize {
            let payload: Vec<u8> = (0..round % 97)
                .map(|_| {
                    noise ^= noise << 13;
                    noise ^= noise >> 17;
                    noise ^= noise << 5;
                    // Small numbers make plausible lengths and types.
                    (noise % 40) as u8
                })
                .collect();
            let _ = link(RTM_NEWLINK, &payload);
            let _ = link_group(RTM_NEWLINK, &payload);
            let _ = address(RTM_NEWADDR, &payload);
            let _ = route(24, &payload, &interest);
            let _ = rule(RTM_NEWRULE, &payload);
        }
        assert_eq!(link(RTM_NEWADDR, &[0; 64]), None, "another type is no link");
    }
}
