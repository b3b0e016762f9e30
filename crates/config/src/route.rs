//! `[[route]]`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lockstep_routes::{PROTOCOL_LOCKSTEP, Route, RouteKind, Scope, TableId};

use crate::address::SCOPES;
use crate::group::Names;
use crate::network::table_id;
use crate::next_hop::{self, ReadNextHop};
use crate::places::Places;
use crate::problem::Problem;
use crate::reader::{Table, Value};
use crate::rt_tables::TableNames;
use crate::schema::ROUTE;
use crate::words;

/// The words for [`RouteKind`].
const KINDS: &[(&str, RouteKind)] = &[
    ("unicast", RouteKind::Unicast),
    ("throw", RouteKind::Throw),
    ("blackhole", RouteKind::Blackhole),
    ("unreachable", RouteKind::Unreachable),
    ("prohibit", RouteKind::Prohibit),
    ("local", RouteKind::Local),
];

/// Smallest largest packet of IPv4 (RFC 791 §3.2) and of IPv6 (RFC 8200 §5).
const SMALLEST_MTU: (u32, u32) = (68, 1280);
/// What the kernel cuts a greater one to, so that it would never be as it is wanted.
const LARGEST_MTU: u32 = 65_520;

/// A route that was understood.
#[derive(Clone, Debug)]
pub(crate) struct ReadRoute {
    pub route: Arc<Route>,
    /// Where each of its next hops stands.
    pub next_hops: Vec<Range<usize>>,
}

/// Every route, none in the place of another.
pub(crate) fn routes(root: &Table<'_>, tables: &TableNames, groups: &Names) -> Vec<ReadRoute> {
    let mut routes = Vec::new();
    let mut places = Places::new();
    for table in root.elements("route", "route", &ROUTE) {
        let Some(read) = route(&table, tables, groups) else { continue };
        let Route { to, condition, .. } = &*read.route;
        if let Some(earlier) = places.take(read.route.key(), condition, table.span()) {
            let problem = Problem::error(format!("the route to {to} is there twice"))
                .label("same table, destination and metric")
                .help("the kernel keeps one of them: give the other a `metric`, or another `when`")
                .at(table.span())
                .context(earlier, "first here");
            root.report().push(problem);
        }
        routes.push(read);
    }
    routes
}

fn route(table: &Table<'_>, tables: &TableNames, groups: &Names) -> Option<ReadRoute> {
    let kind = table.or("type", RouteKind::Unicast, |value| value.word("type of route", KINDS));
    let next_hops = next_hop::read(table);
    let source = table.optional("src", |value| value.parse(words::ip_address));
    let ipv6 = is_ipv6(source.flatten(), next_hops.as_deref().unwrap_or_default());
    let to = table
        .require("to", "write `to = \"10.1.2.0/24\"` or `to = \"default\"`")
        .and_then(|value| value.parse(|text| destination(text, ipv6)));
    let table_id = table.or("table", TableId::MAIN, |value| table_id(value, tables));
    let metric = table.optional("metric", |value| value.integer(0..=u32::MAX));
    let ipv6 = to.map_or(ipv6, |to| to.addr().is_ipv6());
    let mtu = table.optional("mtu", |value| value.integer(smallest_mtu(ipv6)..=LARGEST_MTU));
    let scope = table.optional("scope", |value| value.word("scope", SCOPES));
    let protocol = table.or("protocol", PROTOCOL_LOCKSTEP, protocol);
    let condition = groups.condition(table, "when");

    if let Some(kind) = kind {
        check_kind(table, kind);
    }
    if let (Some(to), Some(next_hops)) = (to, &next_hops) {
        check_families(table, to, source.flatten(), next_hops);
    }
    let (kind, to, next_hops) = (kind?, to?, next_hops?);
    let routed = next_hops.iter().any(|read| read.hop.via.is_some());
    check_scope(table, kind, to, scope.flatten(), routed);
    let (next_hops, places) = next_hops.into_iter().map(|read| (read.hop, read.place)).unzip();
    let route = Route {
        kind,
        to,
        next_hops,
        source: source?,
        table: table_id?,
        metric: metric?,
        mtu: mtu?,
        scope: scope?,
        protocol: protocol?,
        condition: condition?,
    };
    Some(ReadRoute { route: Arc::new(route), next_hops: places })
}

/// Of which family a route to `default` is: of that of its source; without one it is IPv6 when its
/// next routers are, although they may be for IPv4 too.
fn is_ipv6(source: Option<IpAddr>, next_hops: &[ReadNextHop]) -> bool {
    if let Some(source) = source {
        return source.is_ipv6();
    }
    let mut routers = next_hops.iter().filter_map(|read| read.hop.via).peekable();
    routers.peek().is_some() && routers.all(|via| via.is_ipv6())
}

fn destination(text: &str, ipv6: bool) -> Result<IpNet, Problem> {
    match text {
        "default" if ipv6 => Ok(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0).into()),
        "default" => Ok(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0).into()),
        _ => words::network(text),
    }
}

fn smallest_mtu(ipv6: bool) -> u32 {
    if ipv6 { SMALLEST_MTU.1 } else { SMALLEST_MTU.0 }
}

/// What a route of this type must and must not say of where it leads.
fn check_kind(table: &Table<'_>, kind: RouteKind) {
    let (refused, leads, label): (&[&str], _, _) = match kind {
        RouteKind::Unicast => {
            if table.get("next-hops").is_none() {
                let help = "write `via = \"10.1.1.254\"`, `dev = \"eth0\"` or both; or a `type` such as \"blackhole\"";
                next_hop::check(table, help);
            }
            return;
        }
        RouteKind::Local => {
            (&["via", "onlink", "next-hops"], "to this router", "has an interface only")
        }
        RouteKind::Throw | RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit => (
            &["via", "dev", "src", "onlink", "next-hops", "mtu"],
            "nowhere",
            "has no next hop, interface, source or mtu",
        ),
    };
    for value in refused.iter().filter_map(|key| table.get(key)) {
        let message = format!("a route of type {} leads {leads}", kind.as_str());
        table.report().push(Problem::error(message).label(label).at(value.span()));
    }
    if kind == RouteKind::Local && table.get("dev").is_none() {
        let problem = Problem::absence("this route of type local has no `dev`");
        let problem = problem.label("the kernel wants to know its interface");
        table.report().push(problem.help("write `dev = \"lo\"`").at(table.span()));
    }
}

/// The source is of the destination's family; so are next hops, unless they are IPv6 and the
/// destination is not (RFC 5549).
fn check_families(table: &Table<'_>, to: IpNet, source: Option<IpAddr>, next_hops: &[ReadNextHop]) {
    let name = |ipv6| if ipv6 { "IPv6" } else { "IPv4" };
    let ipv6 = to.addr().is_ipv6();
    let odd = |key: &str, place: Range<usize>| {
        let mut problem = Problem::error(format!("`{key}` is not of the family of `to`"))
            .label(format!("is {}", name(!ipv6)))
            .at(place);
        if let Some(value) = table.get("to") {
            problem = problem.context(value.span(), format!("is {}", name(ipv6)));
        }
        table.report().push(problem);
    };
    for read in next_hops {
        if ipv6 && read.hop.via.is_some_and(|via| via.is_ipv4()) {
            odd("via", read.place.clone());
        }
        if ipv6 && next_hops.len() > 1 && read.hop.via.is_none() {
            let problem = Problem::absence("one of several next hops without `via`")
                .label("is refused by the kernel for IPv6")
                .help("write `via`, or a route of its own with a `metric`");
            table.report().push(problem.at(read.place.clone()));
        }
    }
    if let (Some(source), Some(value)) = (source, table.get("src"))
        && source.is_ipv6() != ipv6
    {
        odd("src", value.span());
    }
}

/// `routed` is whether there is a next router.
fn check_scope(table: &Table<'_>, kind: RouteKind, to: IpNet, scope: Option<Scope>, routed: bool) {
    let (Some(scope), Some(value)) = (scope, table.get("scope")) else { return };
    let problem = if to.addr().is_ipv6() {
        Problem::warning("an IPv6 route has no scope").label("has no effect")
    } else if kind == RouteKind::Local && scope != Scope::Host {
        Problem::error("a route of type local is of scope host").label("must be \"host\"")
    } else if kind == RouteKind::Unicast && routed && scope != Scope::Global {
        Problem::error(format!("a route with `via` and scope {}", scope.as_str()))
            .label("says that no router is between")
            .help("leave `scope` or `via` out")
    } else {
        return;
    };
    table.report().push(problem.at(value.span()));
}

/// Who made a route or rule.
pub(crate) fn protocol(value: &Value<'_>) -> Option<u8> {
    if value.as_integer().is_some() {
        value.integer(1..=255)
    } else {
        value.word("routing protocol", words::ROUTING_PROTOCOLS)
    }
}
