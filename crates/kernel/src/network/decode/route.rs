//! Dumped routes, read in place.
//!
//! Not by way of the library's messages: a table may hold a hundred thousand routes, most of which
//! do not concern us, and an attribute that the library cannot make sense of must not hide a route
//! that is there.

use std::net::IpAddr;

use ipnet::IpNet;
use lockstep_routes::{ActualNextHop, ActualRoute, Interest, NextHops, RouteKind, TableId};
use netlink_packet_core::NlasIterator;

use super::number;

const RTM_NEWROUTE: u16 = 24;

/// Length of `struct rtmsg`.
const HEADER: usize = 12;
/// Length of `struct rtnexthop`.
const NEXT_HOP_HEADER: usize = 8;

const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_FLOW: u16 = 11;
const RTA_CACHEINFO: u16 = 12;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_NEWDST: u16 = 19;
const RTA_PREF: u16 = 20;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
const RTA_TTL_PROPAGATE: u16 = 26;
const RTA_NH_ID: u16 = 30;

const RTAX_MTU: u16 = 2;
/// Place of the lifetime that is left in `struct rta_cacheinfo`, in hundredths of a second.
const EXPIRES: std::ops::Range<usize> = 8..12;

const RTM_F_CLONED: u32 = 0x200;
const RTNH_F_DEAD: u32 = 1;
const RTNH_F_ONLINK: u32 = 4;

const AF_INET: u8 = libc::AF_INET as u8;
const AF_INET6: u8 = libc::AF_INET6 as u8;

/// The route of a dumped message, if it is one that `interest` wants.
pub(in crate::network) fn route(
    kind: u16,
    payload: &[u8],
    interest: &Interest,
) -> Option<ActualRoute> {
    let header: &[u8; HEADER] = payload.first_chunk().filter(|_| kind == RTM_NEWROUTE)?;
    let [family, prefix_length, _, _, _, protocol, scope, ..] = *header;
    let may_be_wanted = interest.may_want(family == AF_INET6, prefix_length, scope, protocol);
    if !may_be_wanted || flags(header) & RTM_F_CLONED != 0 {
        return None;
    }
    whole(header, &payload[HEADER..]).filter(|route| interest.wants(route))
}

fn flags(header: &[u8; HEADER]) -> u32 {
    number(&header[8..])
}

fn whole(header: &[u8; HEADER], attributes: &[u8]) -> Option<ActualRoute> {
    let [family, prefix_length, source_length, tos, table, protocol, scope, kind, ..] = *header;
    let any = match family {
        AF_INET => IpAddr::from([0; 4]),
        AF_INET6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let mut route = ActualRoute {
        table: TableId(table.into()),
        kind: route_kind(kind),
        to: IpNet::new(any, prefix_length).ok()?,
        next_hops: NextHops::NONE,
        source: None,
        metric: 0,
        mtu: None,
        scope,
        protocol,
        special: tos != 0 || source_length != 0,
    };
    let mut only = ActualNextHop {
        via: None,
        dev: None,
        weight: 1,
        onlink: flags(header) & RTNH_F_ONLINK != 0,
        dead: flags(header) & RTNH_F_DEAD != 0,
    };
    for attribute in NlasIterator::new(attributes).map_while(Result::ok) {
        let value = attribute.value();
        match attribute.kind() {
            RTA_TABLE => route.table = TableId(number(value)),
            RTA_DST => route.to = IpNet::new(ip(value)?, prefix_length).ok()?,
            RTA_OIF => only.dev = Some(number(value)),
            RTA_GATEWAY | RTA_VIA => match router(attribute.kind(), value) {
                Some(via) => only.via = Some(via),
                None => route.special = true,
            },
            RTA_PRIORITY => route.metric = number(value),
            RTA_PREFSRC => route.source = ip(value),
            RTA_METRICS => route.special |= !only_mtu(value, &mut route.mtu),
            RTA_MULTIPATH => {
                route.next_hops =
                    next_hops(value).map(|hop| hop.read(&mut route.special)).collect();
            }
            RTA_CACHEINFO if is_expired(value) => return None,
            RTA_PREF => route.special |= value != [0],
            other => route.special |= is_special(other),
        }
    }
    let leads = matches!(route.kind, Some(RouteKind::Unicast | RouteKind::Local) | None);
    if route.next_hops.is_empty() && leads && (only.via.is_some() || only.dev.is_some()) {
        route.next_hops = NextHops::one(only);
    }
    Some(route)
}

/// Whether an attribute, of a route or of one of its next hops, says what cannot be declared.
fn is_special(attribute: u16) -> bool {
    matches!(
        attribute,
        RTA_SRC
            | RTA_FLOW
            | RTA_NEWDST
            | RTA_ENCAP_TYPE
            | RTA_ENCAP
            | RTA_TTL_PROPAGATE
            | RTA_NH_ID
    )
}

/// Reads the MTU out of a route's metrics; whether there is nothing else, such as its lock.
fn only_mtu(metrics: &[u8], mtu: &mut Option<u32>) -> bool {
    let mut only = true;
    for metric in NlasIterator::new(metrics).map_while(Result::ok) {
        if metric.kind() == RTAX_MTU {
            *mtu = Some(number(metric.value()));
        } else {
            only = false;
        }
    }
    only
}

/// IPv6 keeps a route whose lifetime is over until somebody needs its memory.
fn is_expired(cache_information: &[u8]) -> bool {
    let left = cache_information.get(EXPIRES).and_then(|bytes| bytes.try_into().ok());
    left.is_some_and(|left| i32::from_ne_bytes(left) < 0)
}

/// One `struct rtnexthop` with its attributes.
struct RawNextHop<'a> {
    flags: u8,
    weight: u8,
    index: u32,
    attributes: &'a [u8],
}

fn next_hops(mut rest: &[u8]) -> impl Iterator<Item = RawNextHop<'_>> {
    std::iter::from_fn(move || {
        let &[low, high, flags, weight, a, b, c, d] = rest.first_chunk::<NEXT_HOP_HEADER>()?;
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let attributes = rest.get(NEXT_HOP_HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(RawNextHop { flags, weight, index: u32::from_ne_bytes([a, b, c, d]), attributes })
    })
}

impl RawNextHop<'_> {
    fn read(&self, special: &mut bool) -> ActualNextHop {
        let mut via = None;
        for attribute in NlasIterator::new(self.attributes).map_while(Result::ok) {
            match attribute.kind() {
                RTA_GATEWAY | RTA_VIA => {
                    via = router(attribute.kind(), attribute.value());
                    *special |= via.is_none();
                }
                other => *special |= is_special(other),
            }
        }
        ActualNextHop {
            via,
            dev: Some(self.index).filter(|index| *index != 0),
            // The kernel counts from 0, `ip` from 1.
            weight: u16::from(self.weight) + 1,
            onlink: u32::from(self.flags) & RTNH_F_ONLINK != 0,
            dead: u32::from(self.flags) & RTNH_F_DEAD != 0,
        }
    }
}

/// The next router; of another family than IP there are some too.
fn router(attribute: u16, value: &[u8]) -> Option<IpAddr> {
    if attribute == RTA_GATEWAY {
        return ip(value);
    }
    let (family, address) = value.split_first_chunk()?;
    match u16::from_ne_bytes(*family).try_into() {
        Ok(AF_INET | AF_INET6) => ip(address),
        _ => None,
    }
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

fn route_kind(kind: u8) -> Option<RouteKind> {
    match kind {
        libc::RTN_UNICAST => Some(RouteKind::Unicast),
        libc::RTN_LOCAL => Some(RouteKind::Local),
        libc::RTN_THROW => Some(RouteKind::Throw),
        libc::RTN_BLACKHOLE => Some(RouteKind::Blackhole),
        libc::RTN_UNREACHABLE => Some(RouteKind::Unreachable),
        libc::RTN_PROHIBIT => Some(RouteKind::Prohibit),
        _ => None,
    }
}
