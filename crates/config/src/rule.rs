//! `[[rule]]`.

use std::ops::{Range, RangeInclusive};

use ipnet::IpNet;
use lockstep_routes::{Fwmark, PROTOCOL_LOCKSTEP, PortRange, Rule, RuleAction, RuleKey};

use crate::group::Names;
use crate::network::table_id;
use crate::places::Places;
use crate::problem::Problem;
use crate::reader::{Table, Value};
use crate::route::protocol;
use crate::rt_tables::{TableNames, table_number};
use crate::schema::RULE;
use crate::words;

/// The words for what is done with a packet that is not looked up.
const ACTIONS: &[(&str, RuleAction)] = &[
    ("blackhole", RuleAction::Blackhole),
    ("unreachable", RuleAction::Unreachable),
    ("prohibit", RuleAction::Prohibit),
];

/// The bits of the type of service that the kernel compares, for IPv4 and IPv6. The lowest two are
/// ECN's.
const TOS_MASKS: (u8, u8) = (0x1c, 0xfc);
/// The ports that the kernel takes in a rule.
const PORTS: RangeInclusive<u16> = 1..=65_534;

/// A rule that was understood.
#[derive(Clone, Debug)]
pub(crate) struct ReadRule {
    pub rule: Rule,
    /// Where its table stands.
    pub table: Option<Range<usize>>,
}

/// Every rule, none twice.
pub(crate) fn rules(root: &Table<'_>, tables: &TableNames, groups: &Names) -> Vec<ReadRule> {
    let mut rules = Vec::new();
    let mut places = Places::new();
    for table in root.elements("rule", "rule", &RULE) {
        let Some(rule) = rule(&table, tables, groups) else { continue };
        if let Some(earlier) = places.take(rule.key(), &rule.condition, table.span()) {
            let problem = Problem::error("this rule is there twice")
                .label("same priority, selectors and action");
            root.report().push(problem.at(table.span()).context(earlier, "first here"));
        }
        rules.push(ReadRule { rule, table: table.get("table").map(|value| value.span()) });
    }
    rules
}

fn rule(table: &Table<'_>, tables: &TableNames, groups: &Names) -> Option<Rule> {
    let priority = table
        .require(
            "priority",
            "write `priority = 1000`: rules are asked in this order, before main at 32766",
        )
        .and_then(|value| value.integer(0..=u32::MAX));
    let action = action(table, tables);
    let from = table.optional("from", |value| value.parse(selector));
    let to = table.optional("to", |value| value.parse(selector));
    let fwmark = table.optional("fwmark", fwmark);
    let iif = table.optional("iif", |value| value.parse(words::interface));
    let oif = table.optional("oif", |value| value.parse(words::interface));
    let ip_protocol = table.optional("ipproto", ip_protocol);
    let source_port = table.optional("sport", ports);
    let destination_port = table.optional("dport", ports);
    let families = [("ipv4", false), ("ipv6", true)];
    let family = table.optional("family", |value| value.word("family", &families));
    let protocol = table.or("protocol", PROTOCOL_LOCKSTEP, protocol);
    let condition = groups.condition(table, "when");

    let from_family = from.flatten().flatten().map(|prefix| prefix.addr().is_ipv6());
    let to_family = to.flatten().flatten().map(|prefix| prefix.addr().is_ipv6());
    let said = [("family", family.flatten()), ("from", from_family), ("to", to_family)];
    let ipv6 = rule_family(table, said);
    let tos = table.or("tos", 0, |value| tos(value, ipv6));
    let longest: u8 = if ipv6 { 128 } else { 32 };
    let suppressed = table.optional("suppress-prefixlength", |value| value.integer(0..=longest));
    let key = RuleKey {
        ipv6,
        priority: priority?,
        from: from?.flatten(),
        to: to?.flatten(),
        fwmark: fwmark?,
        iif: iif?,
        oif: oif?,
        tos: tos?,
        ip_protocol: ip_protocol?,
        source_port: source_port?,
        destination_port: destination_port?,
        suppress_prefix_length: suppressed?,
        action: action?,
    };
    Some(Rule { key, protocol: protocol?, condition: condition? })
}

/// The table that is looked up, or what is done instead.
fn action(table: &Table<'_>, tables: &TableNames) -> Option<RuleAction> {
    let Some(word) = table.get("action") else {
        let help = "write `table = \"main\"`, a name of `[tables]`, or a number; or `action = \"prohibit\"`";
        let lookup = table.require("table", help)?;
        return table_id(&lookup, tables).map(RuleAction::Lookup);
    };
    let action = word.word("action", ACTIONS);
    let others = [("table", "a table to look up"), ("suppress-prefixlength", "what to look up")];
    let mut alone = true;
    for (key, label) in others {
        let Some(other) = table.get(key) else { continue };
        let problem = Problem::error(format!("`{key}` beside `action`"))
            .label(label)
            .help("leave one of the two out")
            .at(other.span());
        table.report().push(problem.context(word.span(), "looks nothing up"));
        alone = false;
    }
    action.filter(|_| alone)
}

fn tos(value: &Value<'_>, ipv6: bool) -> Option<u8> {
    if value.as_integer().is_none() {
        return value.refuse("an integer", "write 0x10");
    }
    let mask = if ipv6 { TOS_MASKS.1 } else { TOS_MASKS.0 };
    let tos = value.integer(0..=mask)?;
    if tos & !mask != 0 {
        let problem = Problem::error(format!("a type of service of {tos:#x}"));
        return value.reject(problem.label(format!("has bits outside {mask:#x}")));
    }
    Some(tos)
}

fn ip_protocol(value: &Value<'_>) -> Option<u8> {
    if value.as_integer().is_some() {
        return value.integer(1..=255);
    }
    value.word("IP protocol", words::IP_PROTOCOLS)
}

/// A port, or `"FIRST-LAST"`.
fn ports(value: &Value<'_>) -> Option<PortRange> {
    if value.as_integer().is_some() {
        return value.integer(PORTS).map(|port| PortRange { first: port, last: port });
    }
    if !value.is_string() {
        return value.refuse("a port or a range of them", "write 53 or \"1000-2000\"");
    }
    value.parse(|text| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().filter(|port| PORTS.contains(port))
        };
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => Ok(PortRange { first, last }),
            (Some(_), Some(_)) => {
                let problem = Problem::error(format!("the ports {text} are none"));
                Err(problem.label("the first is above the last"))
            }
            _ => Err(Problem::error(format!("\"{text}\" is no range of ports"))
                .label(format!("not PORT or FIRST-LAST of {} to {}", PORTS.start(), PORTS.end()))
                .help("write 53 or \"1000-2000\"")),
        }
    })
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
        if mask == 0 {
            let problem = Problem::error("a mask of 0 compares nothing");
            return Err(problem.label("selects every packet").help("leave `fwmark` out"));
        }
        if value & !mask != 0 {
            let problem = Problem::error(format!("the mark {mark} has bits outside its mask"));
            return Err(problem.label("no packet can match"));
        }
        Ok(Fwmark { value, mask })
    })
}
