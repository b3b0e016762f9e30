//! The form of the file, in JSON.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, bail, ensure};
use ipnet::IpNet;
use lockstep_routes::{
    ActualNextHop, Fwmark, Owned, OwnedRoute, PortRange, RouteKey, RuleAction, RuleKey, TableId,
};
use serde::{Deserialize, Serialize};

use super::Home;

/// Raised when an older daemon would misunderstand the file; what is unknown is not read.
const VERSION: u32 = 1;

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    version: u32,
    boot: String,
    namespace: u64,
    routes: Vec<Route>,
    rules: Vec<Rule>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Route {
    table: u32,
    to: String,
    metric: u32,
    protocol: u8,
    next_hops: Vec<NextHop>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct NextHop {
    via: Option<IpAddr>,
    dev: Option<u32>,
    weight: u16,
    onlink: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Rule {
    protocol: u8,
    ipv6: bool,
    priority: u32,
    from: Option<String>,
    to: Option<String>,
    /// Value and mask.
    fwmark: Option<(u32, u32)>,
    iif: Option<String>,
    oif: Option<String>,
    tos: u8,
    ip_protocol: Option<u8>,
    /// First and last.
    source_port: Option<(u16, u16)>,
    destination_port: Option<(u16, u16)>,
    suppress_prefix_length: Option<u8>,
    action: Action,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Action {
    Lookup(u32),
    Blackhole,
    Unreachable,
    Prohibit,
}

/// The file's contents.
///
/// # Errors
/// Only when they cannot be written as JSON.
pub(super) fn write(home: &Home, owned: &Owned) -> anyhow::Result<Vec<u8>> {
    let routes = owned.routes.iter().flat_map(|(key, made)| {
        made.iter().map(|made| Route {
            table: key.table.0,
            to: key.to.to_string(),
            metric: key.metric,
            protocol: made.protocol,
            next_hops: made.next_hops.iter().map(next_hop).collect(),
        })
    });
    let file = File {
        version: VERSION,
        boot: home.boot.clone(),
        namespace: home.namespace,
        routes: routes.collect(),
        rules: owned.rules.iter().map(|(key, protocol)| rule(key, *protocol)).collect(),
    };
    Ok(serde_json::to_vec(&file)?)
}

/// What the file says is ours.
///
/// # Errors
/// When it is of another boot or network namespace, or not understood.
pub(super) fn read(contents: &[u8], home: &Home) -> anyhow::Result<Owned> {
    let file: File = serde_json::from_slice(contents).context("it is not understood")?;
    if file.version != VERSION {
        bail!("it is of version {}, and {VERSION} is understood", file.version);
    }
    ensure!(file.boot == home.boot, "the kernel has been started since");
    ensure!(file.namespace == home.namespace, "it is of another network namespace");
    let mut routes: BTreeMap<RouteKey, Vec<OwnedRoute>> = BTreeMap::new();
    for route in file.routes {
        let key =
            RouteKey { table: TableId(route.table), to: net(&route.to)?, metric: route.metric };
        let next_hops = route.next_hops.iter().map(actual_next_hop).collect();
        let made = OwnedRoute { protocol: route.protocol, next_hops };
        routes.entry(key).or_default().push(made);
    }
    let rules = file.rules.into_iter().map(|rule| Ok((key(&rule)?, rule.protocol)));
    Ok(Owned { routes, rules: rules.collect::<anyhow::Result<_>>()? })
}

fn next_hop(hop: &ActualNextHop) -> NextHop {
    NextHop { via: hop.via, dev: hop.dev, weight: hop.weight, onlink: hop.onlink }
}

fn actual_next_hop(hop: &NextHop) -> ActualNextHop {
    ActualNextHop {
        via: hop.via,
        dev: hop.dev,
        weight: hop.weight,
        onlink: hop.onlink,
        dead: false,
    }
}

fn rule(key: &RuleKey, protocol: u8) -> Rule {
    let net = |net: Option<IpNet>| net.map(|net| net.to_string());
    let ports = |ports: Option<PortRange>| ports.map(|ports| (ports.first, ports.last));
    Rule {
        protocol,
        ipv6: key.ipv6,
        priority: key.priority,
        from: net(key.from),
        to: net(key.to),
        fwmark: key.fwmark.map(|mark| (mark.value, mark.mask)),
        iif: key.iif.clone(),
        oif: key.oif.clone(),
        tos: key.tos,
        ip_protocol: key.ip_protocol,
        source_port: ports(key.source_port),
        destination_port: ports(key.destination_port),
        suppress_prefix_length: key.suppress_prefix_length,
        action: match key.action {
            RuleAction::Lookup(table) => Action::Lookup(table.0),
            RuleAction::Blackhole => Action::Blackhole,
            RuleAction::Unreachable => Action::Unreachable,
            RuleAction::Prohibit => Action::Prohibit,
        },
    }
}

fn key(rule: &Rule) -> anyhow::Result<RuleKey> {
    let ports = |ports: Option<(u16, u16)>| ports.map(|(first, last)| PortRange { first, last });
    Ok(RuleKey {
        ipv6: rule.ipv6,
        priority: rule.priority,
        from: rule.from.as_deref().map(net).transpose()?,
        to: rule.to.as_deref().map(net).transpose()?,
        fwmark: rule.fwmark.map(|(value, mask)| Fwmark { value, mask }),
        iif: rule.iif.clone(),
        oif: rule.oif.clone(),
        tos: rule.tos,
        ip_protocol: rule.ip_protocol,
        source_port: ports(rule.source_port),
        destination_port: ports(rule.destination_port),
        suppress_prefix_length: rule.suppress_prefix_length,
        action: match rule.action {
            Action::Lookup(table) => RuleAction::Lookup(TableId(table)),
            Action::Blackhole => RuleAction::Blackhole,
            Action::Unreachable => RuleAction::Unreachable,
            Action::Prohibit => RuleAction::Prohibit,
        },
    })
}

fn net(text: &str) -> anyhow::Result<IpNet> {
    text.parse().with_context(|| format!("{text:?} is no network"))
}
