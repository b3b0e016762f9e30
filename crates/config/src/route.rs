//! `[[route]]` and `[[rule]]`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lockstep_routes::{
    Condition, Fwmark, NextHop, PROTOCOL_LOCKSTEP, Route, RouteKind, Rule, RuleAction, RuleKey,
    TableId, When,
};

use crate::address::SCOPES;
use crate::group::Names;
use crate::network::table_id;
use crate::problem::{Problem, Report};
use crate::reader::{Table, Value};
use crate::rt_tables::{TableNames, table_number};
use crate::schema::{ROUTE, RULE};
use crate::words;

/// The words for [`RouteKind`].
const KINDS: &[(&str, RouteKind)] = &[
    ("unicast", RouteKind::Unicast),
    ("throw", RouteKind::Throw),
    ("blackhole", RouteKind::Blackhole),
    ("unreachable", RouteKind::Unreachable),
    ("prohibit", RouteKind::Prohibit),
];

/// The metric that the kernel gives an IPv6 route without one (`IP6_RT_PRIO_USER`).
const IPV6_METRIC: u32 = 1024;

/// Every route, none in the place of another.
pub(crate) fn routes(root: &Table<'_>, tables: &TableNames, groups: &Names) -> Vec<Arc<Route>> {
    let mut routes: Vec<(Route, Range<usize>)> = Vec::new();
    for table in root.elements("route", "route", &ROUTE) {
        let Some(route) = route(&table, tables, groups) else { continue };
        let place = |route: &Route| (route.table, route.to, metric(route));
        let earlier = routes.iter().find(|(earlier, _)| {
            place(earlier) == place(&route) && overlap(&earlier.condition, &route.condition)
        });
        if let Some((_, span)) = earlier {
            let problem = Problem::error(format!("the route to {} is there twice", route.to))
                .label("same table, destination and metric")
                .help("the kernel keeps one of them: give the other a `metric`, or another `when`")
                .at(table.span())
                .context(span.clone(), "first here");
            root.report().push(problem);
        }
        routes.push((route, table.span()));
    }
    routes.into_iter().map(|(route, _)| Arc::new(route)).collect()
}

fn metric(route: &Route) -> u32 {
    match route.metric {
        None | Some(0) if route.to.addr().is_ipv6() => IPV6_METRIC,
        metric => metric.unwrap_or(0),
    }
}

/// Whether both can be wanted at the same time.
fn overlap(a: &Condition, b: &Condition) -> bool {
    let opposite =
        matches!((a.when, b.when), (When::Master, When::Backup) | (When::Backup, When::Master));
    !(opposite && a.group == b.group)
}

fn route(table: &Table<'_>, tables: &TableNames, groups: &Names) -> Option<Route> {
    let kind = table.or("type", RouteKind::Unicast, |value| value.word("type of route", KINDS));
    let via = table.optional("via", |value| value.parse(next_hop));
    let source = table.optional("src", |value| value.parse(words::ip_address));
    // `default` is of the family of what else is said.
    let ipv6 = via.flatten().or(source.flatten()).is_some_and(|address| address.is_ipv6());
    let to = table
        .require("to", "write `to = \"10.1.2.0/24\"` or `to = \"default\"`")
        .and_then(|value| value.parse(|text| destination(text, ipv6)));
    let dev = table.optional("dev", |value| value.parse(words::interface));
    let table_id = table.or("table", TableId::MAIN, |value| table_id(value, tables));
    let metric = table.optional("metric", |value| value.integer(0..=u32::MAX));
    let scope = table.optional("scope", |value| value.word("scope", SCOPES));
    let onlink = table.or("onlink", false, Value::boolean);
    let protocol = table.or("protocol", PROTOCOL_LOCKSTEP, protocol);
    let condition = groups.condition(table, "when");

    if let Some(kind) = kind {
        check_next_hop(table, kind, via.flatten(), onlink == Some(true));
    }
    if let Some(to) = to {
        for (key, address) in [("via", via.flatten()), ("src", source.flatten())] {
            check_family(table, key, address, to);
        }
    }
    let kind = kind?;
    let hop = NextHop { via: via?, dev: dev?, weight: 1, onlink: onlink? };
    let leads = kind == RouteKind::Unicast || hop.dev.is_some();
    Some(Route {
        kind,
        to: to?,
        next_hops: if leads { vec![hop] } else { Vec::new() },
        source: source?,
        table: table_id?,
        metric: metric?,
        mtu: None,
        scope: scope?,
        protocol: protocol?,
        condition: condition?,
    })
}

fn next_hop(text: &str) -> Result<IpAddr, Problem> {
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

fn destination(text: &str, ipv6: bool) -> Result<IpNet, Problem> {
    match text {
        "default" if ipv6 => Ok(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0).into()),
        "default" => Ok(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0).into()),
        _ => words::network(text),
    }
}

/// What a route of this type must and must not say of its next hop.
fn check_next_hop(table: &Table<'_>, kind: RouteKind, via: Option<IpAddr>, onlink: bool) {
    let report = table.report();
    let has = |key: &str| table.get(key).is_some();
    if kind != RouteKind::Unicast {
        let word = KINDS.iter().find(|(_, known)| *known == kind).map_or("such", |(word, _)| *word);
        for value in ["via", "dev", "src", "onlink"].iter().filter_map(|key| table.get(key)) {
            let problem = Problem::error(format!("a route of type {word} leads nowhere"));
            report.push(problem.label("has no next hop, interface or source").at(value.span()));
        }
        return;
    }
    if !has("via") && !has("dev") {
        let problem = Problem::absence("this route has neither `via` nor `dev`");
        let help = "write `via = \"10.1.1.254\"`, `dev = \"eth0\"` or both; or a `type` such as \"blackhole\"";
        report.push(problem.label("leads nowhere").help(help).at(table.span()));
    }
    let link_local = matches!(via, Some(IpAddr::V6(address)) if address.is_unicast_link_local());
    if let (true, false, Some(value)) = (link_local, has("dev"), table.get("via")) {
        let problem =
            Problem::absence("a link-local next hop without `dev`").label("is there on every link");
        report.push(problem.help("write `dev = \"eth0\"`").at(value.span()));
    }
    if let (true, Some(value)) = (onlink && !(has("via") && has("dev")), table.get("onlink")) {
        let problem = Problem::absence("`onlink` needs `via` and `dev`");
        report.push(problem.label("says that `via` is on the link of `dev`").at(value.span()));
    }
}

fn check_family(table: &Table<'_>, key: &str, address: Option<IpAddr>, to: IpNet) {
    let (Some(address), Some(value)) = (address, table.get(key)) else { return };
    if address.is_ipv6() != to.addr().is_ipv6() {
        let name = |ipv6| if ipv6 { "IPv6" } else { "IPv4" };
        let mut problem = Problem::error(format!("`{key}` is not of the family of `to`"))
            .label(format!("is {}", name(address.is_ipv6())))
            .at(value.span());
        if let Some(to_value) = table.get("to") {
            problem = problem.context(to_value.span(), format!("is {}", name(to.addr().is_ipv6())));
        }
        table.report().push(problem);
    }
}

fn protocol(value: &Value<'_>) -> Option<u8> {
    if value.as_integer().is_some() {
        value.integer(1..=255)
    } else {
        value.word("routing protocol", words::ROUTING_PROTOCOLS)
    }
}

/// Every rule, none twice.
pub(crate) fn rules(root: &Table<'_>, tables: &TableNames, groups: &Names) -> Vec<Rule> {
    let mut rules: Vec<(Rule, Range<usize>)> = Vec::new();
    for table in root.elements("rule", "rule", &RULE) {
        let Some(rule) = rule(&table, tables, groups) else { continue };
        report_same_rule(root.report(), &rules, &rule, table.span());
        rules.push((rule, table.span()));
    }
    rules.into_iter().map(|(rule, _)| rule).collect()
}

fn report_same_rule(
    report: &Report,
    rules: &[(Rule, Range<usize>)],
    rule: &Rule,
    span: Range<usize>,
) {
    let plain = |rule: &Rule| Rule { protocol: 0, condition: Condition::ALWAYS, ..rule.clone() };
    let same = |(earlier, _): &&(Rule, Range<usize>)| {
        plain(earlier) == plain(rule) && overlap(&earlier.condition, &rule.condition)
    };
    if let Some((_, earlier)) = rules.iter().find(same) {
        let problem =
            Problem::error("this rule is there twice").label("same priority, selectors and table");
        report.push(problem.at(span).context(earlier.clone(), "first here"));
    }
}

fn rule(table: &Table<'_>, tables: &TableNames, groups: &Names) -> Option<Rule> {
    let priority = table
        .require(
            "priority",
            "write `priority = 1000`: rules are asked in this order, before main at 32766",
        )
        .and_then(|value| value.integer(0..=u32::MAX));
    let table_id = table
        .require("table", "write `table = \"main\"`, a name of `[tables]`, or a number")
        .and_then(|value| table_id(&value, tables));
    let from = table.optional("from", |value| value.parse(selector));
    let to = table.optional("to", |value| value.parse(selector));
    let fwmark = table.optional("fwmark", fwmark);
    let iif = table.optional("iif", |value| value.parse(words::interface));
    let oif = table.optional("oif", |value| value.parse(words::interface));
    let families = [("ipv4", false), ("ipv6", true)];
    let family = table.optional("family", |value| value.word("family", &families));
    let protocol = table.or("protocol", PROTOCOL_LOCKSTEP, protocol);
    let condition = groups.condition(table, "when");

    let from_family = from.flatten().flatten().map(|prefix| prefix.addr().is_ipv6());
    let to_family = to.flatten().flatten().map(|prefix| prefix.addr().is_ipv6());
    let said = [("family", family.flatten()), ("from", from_family), ("to", to_family)];
    let ipv6 = rule_family(table, said);
    let key = RuleKey {
        ipv6,
        priority: priority?,
        from: from?.flatten(),
        to: to?.flatten(),
        fwmark: fwmark?,
        iif: iif?,
        oif: oif?,
        tos: 0,
        ip_protocol: None,
        source_port: None,
        destination_port: None,
        suppress_prefix_length: None,
        action: RuleAction::Lookup(table_id?),
    };
    Some(Rule { key, protocol: protocol?, condition: condition? })
}

/// The family that all of `said` agree on; IPv4 when nothing says one.
fn rule_family(table: &Table<'_>, said: [(&str, Option<bool>); 3]) -> bool {
    let mut said = said.into_iter().filter_map(|(key, ipv6)| Some((key, ipv6?)));
    let Some((first, ipv6)) = said.next() else { return false };
    for (key, other) in said.filter(|(_, other)| *other != ipv6) {
        let name = |ipv6| if ipv6 { "IPv6" } else { "IPv4" };
        let (Some(here), Some(there)) = (table.get(key), table.get(first)) else { continue };
        table.report().push(
            Problem::error("a rule is of one family")
                .label(format!("is {}", name(other)))
                .at(here.span())
                .context(there.span(), format!("is {}", name(ipv6))),
        );
    }
    ipv6
}

/// A prefix, or `all` as iproute2 says it.
fn selector(text: &str) -> Result<Option<IpNet>, Problem> {
    if text == "all" { Ok(None) } else { words::network(text).map(Some) }
}

/// A mark, or `"MARK/MASK"`; each decimal or hexadecimal.
fn fwmark(value: &Value<'_>) -> Option<Fwmark> {
    if value.as_integer().is_some() {
        return value.integer(0..=u32::MAX).map(|mark| Fwmark { value: mark, mask: u32::MAX });
    }
    if !value.is_string() {
        return value.refuse("a mark", "write 2 or \"0x2/0xff\"");
    }
    value.parse(|text| {
        let (mark, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
        let (Some(value), Some(mask)) = (table_number(mark), table_number(mask)) else {
            let problem = Problem::error(format!("\"{text}\" is not a mark"));
            return Err(problem.label("not MARK or MARK/MASK").help("write 2 or \"0x2/0xff\""));
        };
        if value & !mask != 0 {
            let problem = Problem::error(format!("the mark {mark} has bits outside its mask"));
            return Err(problem.label("no packet can match"));
        }
        Ok(Fwmark { value, mask })
    })
}
