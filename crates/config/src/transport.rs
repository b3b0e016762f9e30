//! `unicast` and `source` of a virtual router: to whom it advertises, and from where.

use std::net::IpAddr;
use std::ops::Range;

use lockstep_vrrp::{Family, Priority, Transport};

use crate::address::ReadAddress;
use crate::problem::Problem;
use crate::reader::Table;
use crate::schema::UNICAST;
use crate::{defaults, words};

/// Most peers of one virtual router: each gets a packet of its own at every interval.
const MAX_PEERS: usize = 64;

/// To whom it advertises: the group unless `unicast` is there.
pub(crate) fn read(
    table: &Table<'_>,
    family: Option<Family>,
    addresses: &[ReadAddress],
) -> Option<Transport> {
    let Some(value) = table.get("unicast") else { return Some(Transport::Multicast) };
    let source = table.get("source");
    let unicast = value.table(&UNICAST, "unicast")?;
    let ttl = unicast.or("ttl", defaults::UNICAST_TTL, |value| value.integer(1..=u8::MAX));
    let minimum_ttl = unicast
        .or("minimum-ttl", defaults::UNICAST_MINIMUM_TTL, |value| value.integer(0..=u8::MAX));
    let list = unicast.require("peers", "write `peers = [\"10.0.0.3\"]`: the other routers")?;
    let mut elements = 0;
    let mut peers: Vec<(IpAddr, Range<usize>)> = Vec::new();
    list.list("the peers", |element| {
        elements += 1;
        let peer = element.parse(words::ip_address)?;
        let own = source.as_ref().and_then(|source| {
            (source.as_string()?.parse::<IpAddr>() == Ok(peer)).then(|| source.span())
        });
        let earlier = peers.iter().find(|(earlier, _)| *earlier == peer);
        let served = addresses.iter().find(|address| address.address.addr() == peer);
        let problem = if let Some(problem) = not_a_host(peer, family) {
            problem
        } else if let Some(own) = own {
            Problem::error("a router that is its own peer")
                .label("is `source`")
                .context(own, "here")
        } else if let Some((_, earlier)) = earlier {
            Problem::error(format!("peer {peer} is there twice"))
                .label("again here")
                .context(earlier.clone(), "first here")
        } else if let Some(served) = served {
            Problem::error(format!("peer {peer} is a virtual address"))
                .label("is whoever is master")
                .help("write the address that the other router always has")
                .context(served.span.clone(), "moves to the master")
        } else {
            peers.push((peer, element.span()));
            return Some(());
        };
        element.reject(problem)
    })?;
    if elements == 0 || elements > MAX_PEERS {
        let problem = Problem::error(format!("unicast to {elements} peers"))
            .label(format!("must be 1 to {MAX_PEERS}"))
            .help("leave `unicast` out to advertise to the group on the link");
        return list.reject(problem);
    }
    let peers: Vec<IpAddr> = peers.into_iter().map(|(peer, _)| peer).collect();
    let (ttl, minimum_ttl) = (ttl?, minimum_ttl?);
    (peers.len() == elements).then_some(Transport::Unicast { peers, ttl, minimum_ttl })
}

/// The address that it advertises from, when it is said. The outer `None` is for a wrong one.
#[expect(clippy::option_option, reason = "absent is not the same as wrong")]
pub(crate) fn source(
    table: &Table<'_>,
    family: Option<Family>,
    addresses: Option<&[ReadAddress]>,
    priority: Option<Priority>,
) -> Option<Option<IpAddr>> {
    let Some(value) = table.get("source") else { return Some(None) };
    let source = value.parse(words::ip_address)?;
    if let Some(problem) = not_a_host(source, family) {
        return value.reject(problem);
    }
    let served = addresses.unwrap_or_default().iter().find(|one| one.address.addr() == source);
    if let (Some(served), false) = (served, priority == Some(Priority::OWNER)) {
        return value.reject(
            Problem::error(format!("source {source} is a virtual address"))
                .label("tells the routers of the link apart, and would be the same for all")
                .help("write an address of this router alone; only the owner (priority 255) has it as its own")
                .context(served.span.clone(), "moves to the master"),
        );
    }
    if let (IpAddr::V6(address), None) = (source, table.get("unicast"))
        && !address.is_unicast_link_local()
    {
        return value.reject(
            Problem::error(format!("source {source} is not link-local"))
                .label("advertisements to the group come from fe80::… (RFC 9568 §5.1.2.1)"),
        );
    }
    Some(Some(source))
}

/// Why a packet can be neither from nor to this address alone, in this family.
fn not_a_host(address: IpAddr, family: Option<Family>) -> Option<Problem> {
    let other_family = family.is_some_and(|family| address.is_ipv4() != (family == Family::Ipv4));
    let (message, label) = if address.is_multicast() {
        (format!("{address} is a multicast group"), "must be the address of one router")
    } else if address.is_unspecified() || address == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
        (format!("{address} is no router"), "must be the address of one router")
    } else if address.is_loopback() {
        (format!("{address} is this host everywhere"), "must be the address of one router")
    } else if other_family {
        (format!("{address} is of the other family"), "must be of the family of `addresses`")
    } else {
        return None;
    };
    Some(Problem::error(message).label(label))
}
