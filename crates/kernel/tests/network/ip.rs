//! iproute2's `ip`, and what it says in JSON as the model's objects.

use std::collections::BTreeMap;
use std::process::Command;

use ipnet::IpNet;
use lockstep_routes::{
    ActualLink, ActualNextHop, ActualRoute, ActualRule, Fwmark, PortRange, RouteKind, RuleAction,
    RuleKey, TableId,
};
use serde_json::Value;

/// Runs `ip` with these words, which it must take, and returns what it prints.
pub(crate) fn ip(words: &str) -> String {
    try_ip(words).unwrap_or_else(|refusal| panic!("ip {words}: {refusal}"))
}

/// Runs `ip` with these words.
pub(crate) fn try_ip(words: &str) -> Result<String, String> {
    let output = Command::new("ip").args(words.split_whitespace()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn json(words: &str) -> Vec<Value> {
    let text = ip(&format!("-N -d -j {words}"));
    if text.trim().is_empty() { Vec::new() } else { serde_json::from_str(&text).unwrap() }
}

/// What `ip route show` says of one table.
pub(crate) fn routes(
    ipv6: bool,
    table: TableId,
    links: &BTreeMap<u32, ActualLink>,
) -> Vec<ActualRoute> {
    let family = if ipv6 { "-6" } else { "-4" };
    let shown = json(&format!("{family} route show table {}", table.0));
    shown.iter().map(|route| read_route(route, ipv6, table, links)).collect()
}

fn read_route(
    shown: &Value,
    ipv6: bool,
    table: TableId,
    links: &BTreeMap<u32, ActualLink>,
) -> ActualRoute {
    let kind = match word(shown, "type").parse().unwrap() {
        libc::RTN_UNICAST => Some(RouteKind::Unicast),
        libc::RTN_LOCAL => Some(RouteKind::Local),
        libc::RTN_BLACKHOLE => Some(RouteKind::Blackhole),
        libc::RTN_UNREACHABLE => Some(RouteKind::Unreachable),
        libc::RTN_PROHIBIT => Some(RouteKind::Prohibit),
        libc::RTN_THROW => Some(RouteKind::Throw),
        _ => None,
    };
    let leads = matches!(kind, Some(RouteKind::Unicast | RouteKind::Local) | None);
    let next_hops: Vec<_> = match shown["nexthops"].as_array() {
        Some(several) => several.iter().map(|hop| read_next_hop(hop, links)).collect(),
        None if leads => vec![read_next_hop(shown, links)],
        None => Vec::new(),
    };
    ActualRoute {
        table,
        kind,
        to: net(word(shown, "dst"), ipv6),
        next_hops: next_hops.into(),
        source: shown["prefsrc"].as_str().map(|source| source.parse().unwrap()),
        metric: shown["metric"].as_u64().unwrap_or(0).try_into().unwrap(),
        mtu: shown["metrics"][0]["mtu"].as_u64().map(|mtu| mtu.try_into().unwrap()),
        scope: shown["scope"].as_str().map_or(0, |scope| scope.parse().unwrap()),
        protocol: word(shown, "protocol").parse().unwrap(),
        special: false,
    }
}

fn read_next_hop(shown: &Value, links: &BTreeMap<u32, ActualLink>) -> ActualNextHop {
    let gateway = shown["gateway"].as_str().or(shown["via"]["host"].as_str());
    let flags = shown["flags"].as_array().unwrap();
    ActualNextHop {
        via: gateway.map(|gateway| gateway.parse().unwrap()),
        dev: shown["dev"].as_str().map(|name| {
            links.values().find(|link| link.name == name).expect("the link is there").index
        }),
        weight: shown["weight"].as_u64().unwrap_or(1).try_into().unwrap(),
        onlink: flags.iter().any(|flag| flag == "onlink"),
        dead: flags.iter().any(|flag| flag == "dead"),
    }
}

/// What `ip rule show` says.
pub(crate) fn rules(ipv6: bool) -> Vec<ActualRule> {
    let family = if ipv6 { "-6" } else { "-4" };
    json(&format!("{family} rule show")).iter().map(|rule| read_rule(rule, ipv6)).collect()
}

fn read_rule(shown: &Value, ipv6: bool) -> ActualRule {
    let prefix = |address: &str, length: &str| {
        let address = shown[address].as_str().filter(|address| *address != "all")?;
        Some(match shown[length].as_u64() {
            Some(length) => net(&format!("{address}/{length}"), ipv6),
            None => net(address, ipv6),
        })
    };
    let hexadecimal = |field: &str| {
        let digits = shown[field].as_str()?.trim_start_matches("0x");
        Some(u32::from_str_radix(digits, 16).unwrap())
    };
    let number = |field: &str| shown[field].as_u64();
    let ports = |field: &str| {
        let end = |end: &str| number(&format!("{field}{end}")).map(|port| port.try_into().unwrap());
        let single = end("").map(PortRange::single);
        single.or_else(|| Some(PortRange { first: end("_start")?, last: end("_end")? }))
    };
    let name = |field: &str| shown[field].as_str().map(str::to_owned);
    ActualRule {
        key: RuleKey {
            ipv6,
            priority: number("priority").unwrap().try_into().unwrap(),
            from: prefix("src", "srclen"),
            to: prefix("dst", "dstlen"),
            fwmark: hexadecimal("fwmark")
                .map(|value| Fwmark { value, mask: hexadecimal("fwmask").unwrap_or(u32::MAX) }),
            iif: name("iif"),
            oif: name("oif"),
            tos: hexadecimal("tos").unwrap_or(0).try_into().unwrap(),
            ip_protocol: shown["ipproto"]
                .as_str()
                .map(|text| text.trim_start_matches("ipproto-").parse().unwrap()),
            source_port: ports("sport"),
            destination_port: ports("dport"),
            suppress_prefix_length: number("suppress_prefixlen").map(|l| l.try_into().unwrap()),
            action: match shown["action"].as_str() {
                None => RuleAction::Lookup(TableId(word(shown, "table").parse().unwrap())),
                Some("6") => RuleAction::Blackhole,
                Some("7") => RuleAction::Unreachable,
                Some("8") => RuleAction::Prohibit,
                Some(other) => panic!("{other} cannot be declared"),
            },
        },
        protocol: word(shown, "protocol").parse().unwrap(),
        special: false,
    }
}

fn word<'a>(shown: &'a Value, field: &str) -> &'a str {
    shown[field].as_str().unwrap_or_else(|| panic!("no {field} in {shown}"))
}

/// A prefix as `ip` shortens it.
fn net(shown: &str, ipv6: bool) -> IpNet {
    match shown {
        "default" if ipv6 => "::/0".parse().unwrap(),
        "default" => "0.0.0.0/0".parse().unwrap(),
        prefix if prefix.contains('/') => prefix.parse().unwrap(),
        host => IpNet::from(host.parse::<std::net::IpAddr>().unwrap()),
    }
}
