//! Where a route leads: `via`, `dev` and `onlink`, or several of them under `next-hops`.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::{Range, RangeInclusive};

use lockstep_routes::NextHop;

use crate::problem::Problem;
use crate::reader::{Table, Value};
use crate::schema::NEXT_HOP;
use crate::words;

/// How many next hops `next-hops` has. The kernel takes more, but cannot list a route that does not
/// fit into one message, and what cannot be listed cannot be compared.
const SEVERAL: RangeInclusive<usize> = 2..=64;
/// The share of one of several next hops; the kernel keeps it in a byte, less one.
const WEIGHTS: RangeInclusive<u16> = 1..=256;

/// A next hop that was understood.
#[derive(Clone, Debug)]
pub(crate) struct ReadNextHop {
    pub hop: NextHop,
    /// Where its `via` stands, or else the whole of it.
    pub place: Range<usize>,
}

/// The next hops of a route, none of what it leads to being required; `None` when one is wrong.
pub(crate) fn read(route: &Table<'_>) -> Option<Vec<ReadNextHop>> {
    let Some(value) = route.get("next-hops") else {
        let hop = one(route, Some(1))?;
        let leads = hop.hop.via.is_some() || hop.hop.dev.is_some();
        return Some(if leads { vec![hop] } else { Vec::new() });
    };
    for (key, beside) in ["via", "dev", "onlink"].map(|key| (key, route.get(key))) {
        let Some(beside) = beside else { continue };
        let problem = Problem::error(format!("`{key}` beside `next-hops`"))
            .label("which next hop is meant?")
            .help(format!("write `{key}` in one of `next-hops`, or leave `next-hops` out"));
        route.report().push(problem.at(beside.span()).context(value.span(), "the next hops"));
    }
    let mut whole = true;
    let hops = value.list("the next hops", |element| {
        let hop = element.table(&NEXT_HOP, "this next hop").and_then(|table| {
            check(&table, "write `via = \"10.1.1.254\"`, `dev = \"eth0\"` or both");
            let weight = table.or("weight", 1, |value| value.integer(WEIGHTS));
            one(&table, weight)
        });
        whole &= hop.is_some();
        hop
    })?;
    if !whole {
        return None;
    }
    check_several(&value, &hops).then_some(hops)
}

/// The next hop that `table` describes, a route or an element of `next-hops`.
fn one(table: &Table<'_>, weight: Option<u16>) -> Option<ReadNextHop> {
    let via = table.optional("via", |value| value.parse(next_router));
    let dev = table.optional("dev", |value| value.parse(words::interface));
    let onlink = table.or("onlink", false, Value::boolean);
    Some(ReadNextHop {
        hop: NextHop { via: via?, dev: dev?, weight: weight?, onlink: onlink? },
        place: table.get("via").map_or(table.span(), |value| value.span()),
    })
}

fn next_router(text: &str) -> Result<IpAddr, Problem> {
    let address = words::ip_address(text)?;
    if address.is_unspecified()
        || address.is_multicast()
        || address.is_loopback()
        || address == Ipv4Addr::BROADCAST
    {
        return Err(Problem::error(format!("{text} cannot be a next hop"))
            .label("is the address of no router"));
    }
    Ok(address)
}

/// Reports what a next hop lacks; `help` for one that leads nowhere.
pub(crate) fn check(table: &Table<'_>, help: &str) {
    let report = table.report();
    let (via, dev) = (table.get("via"), table.get("dev"));
    if via.is_none() && dev.is_none() {
        let message = format!("{} has neither `via` nor `dev`", table.title());
        let problem = Problem::absence(message).label("leads nowhere");
        report.push(problem.help(help).at(table.span()));
    }
    let address = via.as_ref().and_then(Value::as_string).and_then(|text| text.parse().ok());
    let link_local =
        matches!(address, Some(IpAddr::V6(address)) if address.is_unicast_link_local());
    if let (true, None, Some(value)) = (link_local, &dev, &via) {
        let problem =
            Problem::absence("a link-local next hop without `dev`").label("is there on every link");
        report.push(problem.help("write `dev = \"eth0\"`").at(value.span()));
    }
    if let Some(value) = table.get("onlink")
        && value.as_boolean() == Some(true)
        && !(via.is_some() && dev.is_some())
    {
        let problem = Problem::absence("`onlink` needs `via` and `dev`");
        report.push(problem.label("says that `via` is on the link of `dev`").at(value.span()));
    }
}

/// Whether they are as many as there can be, and none is there twice.
fn check_several(value: &Value<'_>, hops: &[ReadNextHop]) -> bool {
    if !SEVERAL.contains(&hops.len()) {
        let count = hops.len();
        let problem = Problem::error(format!("`next-hops` of {count}")).label(format!(
            "must be {} to {}",
            SEVERAL.start(),
            SEVERAL.end()
        ));
        let problem = if count < *SEVERAL.start() {
            problem.help("write `via` and `dev` of a single next hop into the route itself")
        } else {
            problem
        };
        return value.reject::<()>(problem).is_some();
    }
    let mut distinct = true;
    for (index, ReadNextHop { hop, place }) in hops.iter().enumerate() {
        let same = |other: &&ReadNextHop| other.hop.via == hop.via && other.hop.dev == hop.dev;
        if let Some(earlier) = hops[..index].iter().find(same) {
            let problem = Problem::error("this next hop is there twice").label("again here");
            let problem = problem.help("write it once, with a higher `weight`").at(place.clone());
            problem.context(earlier.place.clone(), "first here").push(value.report());
            distinct = false;
        }
    }
    distinct
}
