//! `[[replication.link]]`: the dedicated links and how the peers are reached over them.

use std::net::IpAddr;
use std::ops::Range;

use lockstep_replicator::{Link, Transport};

use super::buffer;
use crate::problem::Problem;
use crate::reader::{Table, Value};
use crate::schema::REPLICATION_LINK;
use crate::words;

/// Most links: conntrackd takes as many.
const MAX_LINKS: usize = 4;
/// Most peers of one link: the replicator has a conversation with so many at most.
const MAX_PEERS: usize = 8;

const WAYS: &str = "write `multicast = \"225.0.0.50\"` for the group that all routers join, or \
                    `local = \"192.168.100.2\"` and `peers = [\"192.168.100.3\"]`";

/// A transport's kind, which all links share.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Multicast,
    Udp,
    Tcp,
}

impl Kind {
    fn of(transport: &Transport) -> Self {
        match transport {
            Transport::Multicast { .. } => Self::Multicast,
            Transport::Udp { .. } => Self::Udp,
            Transport::Tcp { .. } => Self::Tcp,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Multicast => "multicast",
            Self::Udp => "UDP to peers",
            Self::Tcp => "TCP",
        }
    }
}

pub(super) fn read(table: &Table<'_>) -> Option<Vec<Link>> {
    let value = table.require(
        "link",
        "write `[[replication.link]]` with `interface`, and `multicast` or `local` and `peers`",
    )?;
    let tables = table.elements("link", "link", &REPLICATION_LINK);
    if tables.is_empty() {
        let problem = Problem::absence("replication has no link").label("must be at least one");
        return value.reject(problem);
    }
    if let Some(excess) = tables.get(MAX_LINKS) {
        let problem = Problem::error(format!("{} links", tables.len()))
            .label(format!("there can be {MAX_LINKS} at most"));
        table.report().push(problem.at(excess.span()));
    }
    let links: Vec<_> = tables.iter().map(link).collect();
    let agree = compare(&tables, &links);
    let links: Option<Vec<Link>> = links.into_iter().collect();
    links.filter(|links| agree && links.len() <= MAX_LINKS)
}

/// Reports links that do not go together: they take each other's place.
fn compare(tables: &[Table<'_>], links: &[Option<Link>]) -> bool {
    let known: Vec<(&Table<'_>, &Link)> = tables
        .iter()
        .zip(links)
        .filter_map(|(table, link)| Some((table, link.as_ref()?)))
        .collect();
    let mut agree = true;
    for (index, (table, link)) in known.iter().enumerate() {
        let (first_table, first) = known[0];
        let twin = known[..index].iter().find(|(_, earlier)| same_place(earlier, link));
        let problem = if let Some((earlier, _)) = twin {
            Problem::error(format!("two links on {} with the same port", link.interface))
                .label("again here")
                .context(earlier.span(), "first here")
        } else if Kind::of(&link.transport) != Kind::of(&first.transport) {
            let (own, other) =
                (Kind::of(&link.transport).word(), Kind::of(&first.transport).word());
            Problem::error("links of different transports")
                .label(format!("{own} here"))
                .help("every link takes the place of another: all have the same transport")
                .context(first_table.span(), format!("{other} here"))
        } else if peers(link) != peers(first) {
            Problem::error("links to different numbers of peers")
                .label(format!("{} here", peers(link)))
                .help("name every other router on each link, in the same order")
                .context(first_table.span(), format!("{} here", peers(first)))
        } else {
            continue;
        };
        table.report().push(problem.at(table.span()));
        agree = false;
    }
    agree
}

fn same_place(one: &Link, other: &Link) -> bool {
    one.interface == other.interface && one.port == other.port
}

fn peers(link: &Link) -> usize {
    match &link.transport {
        Transport::Multicast { .. } => 0,
        Transport::Udp { peers, .. } | Transport::Tcp { peers, .. } => peers.len(),
    }
}

fn link(table: &Table<'_>) -> Option<Link> {
    let interface = table
        .require("interface", "write `interface = \"eth0\"`: the link to the peer")
        .and_then(|value| value.parse(words::interface));
    let transport = transport(table);
    let port = table.or("port", Link::PORT, |value| value.integer(1..=u16::MAX));
    let checksum = table.or("checksum", true, Value::boolean);
    let send_buffer = table.optional("send-buffer", buffer);
    let receive_buffer = table.optional("receive-buffer", buffer);
    if let (Some(Transport::Tcp { .. }), Some(false), Some(value)) =
        (&transport, checksum, table.get("checksum"))
    {
        let problem =
            Problem::warning("TCP always has a checksum").label("has no effect on a TCP link");
        table.report().push(problem.at(value.span()));
    }
    let mut link = Link::new(interface?, transport?);
    link.port = port?;
    link.checksum = checksum?;
    link.send_buffer = send_buffer?;
    link.receive_buffer = receive_buffer?;
    Some(link)
}

fn transport(table: &Table<'_>) -> Option<Transport> {
    let word = table.optional("transport", |value| {
        value.word("transport", &[("udp", Kind::Udp), ("tcp", Kind::Tcp)])
    });
    if let Some(value) = table.get("multicast") {
        return group(table, &value);
    }
    if table.get("local").is_none() && table.get("peers").is_none() && word == Some(None) {
        let problem = Problem::absence(format!("{} reaches no peer", table.title()))
            .label("`multicast`, or `local` and `peers`, is required")
            .help(WAYS);
        table.report().push(problem.at(table.span()));
        return None;
    }
    let local = table
        .require("local", "write `local = \"192.168.100.2\"`: this router's address on the link")
        .and_then(|value| value.parse_at(host));
    let own = local.as_ref().map(|local| (*local.get_ref(), local.span()));
    let peers = table
        .require("peers", "write `peers = [\"192.168.100.3\"]`: the other routers on the link")
        .and_then(|value| others(&value, own.as_ref()));
    let (local, peers) = (local?.into_inner(), peers?);
    Some(match word?.unwrap_or(Kind::Udp) {
        Kind::Tcp => Transport::Tcp { local, peers },
        Kind::Udp | Kind::Multicast => Transport::Udp { local, peers },
    })
}

/// The group of a link that has one, and nothing of the other ways.
fn group(table: &Table<'_>, value: &Value<'_>) -> Option<Transport> {
    let group = value.parse(multicast);
    let mut alone = true;
    for key in ["local", "peers", "transport"] {
        if let Some(other) = table.get(key) {
            let problem = Problem::error(format!("`{key}` on a multicast link"))
                .label("is for a link from address to address")
                .help("leave it out, or leave `multicast` out")
                .context(value.span(), "a group here");
            table.report().push(problem.at(other.span()));
            alone = false;
        }
    }
    group.filter(|_| alone).map(|group| Transport::Multicast { group })
}

fn multicast(text: &str) -> Result<IpAddr, Problem> {
    let address = words::ip_address(text)?;
    if address.is_multicast() {
        return Ok(address);
    }
    Err(Problem::error(format!("{text} is not a multicast group"))
        .label("must be in 224.0.0.0/4 or ff00::/8")
        .help("conntrackd's usual group is 225.0.0.50; a router's own address is `local`"))
}

fn host(text: &str) -> Result<IpAddr, Problem> {
    let address = words::ip_address(text)?;
    let message = if address.is_multicast() {
        return Err(Problem::error(format!("{text} is a multicast group"))
            .label("must be the address of one router")
            .help(format!("write `multicast = \"{text}\"` instead")));
    } else if address.is_unspecified() || address == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
        format!("{text} is no router")
    } else if address.is_loopback() {
        format!("{text} is this host everywhere")
    } else {
        return Ok(address);
    };
    Err(Problem::error(message).label("must be the address of one router"))
}

fn others(list: &Value<'_>, own: Option<&(IpAddr, Range<usize>)>) -> Option<Vec<IpAddr>> {
    let mut elements = 0;
    let mut peers: Vec<(IpAddr, Range<usize>)> = Vec::new();
    list.list("the peers", |element| {
        elements += 1;
        let peer = element.parse(host)?;
        let earlier = peers.iter().find(|(earlier, _)| *earlier == peer);
        let problem = match (own, earlier) {
            (Some((local, place)), _) if *local == peer => {
                Problem::error("a router that is its own peer")
                    .label("is `local`")
                    .context(place.clone(), "here")
            }
            (Some((local, place)), _) if local.is_ipv4() != peer.is_ipv4() => {
                Problem::error(format!("{peer} is of the other family"))
                    .label("must be of the family of `local`")
                    .context(place.clone(), "here")
            }
            (_, Some((_, earlier))) => Problem::error(format!("peer {peer} is there twice"))
                .label("again here")
                .context(earlier.clone(), "first here"),
            _ => {
                peers.push((peer, element.span()));
                return Some(());
            }
        };
        element.reject(problem)
    })?;
    if elements == 0 || elements > MAX_PEERS {
        let problem = Problem::error(format!("a link to {elements} peers"))
            .label(format!("must be 1 to {MAX_PEERS}"))
            .help("write `peers = [\"192.168.100.3\"]`: the other routers on the link");
        return list.reject(problem);
    }
    let whole = peers.len() == elements;
    whole.then(|| peers.into_iter().map(|(peer, _)| peer).collect())
}
