//! An address on an interface, as virtual routers and `[[address]]` write it.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use ipnet::IpNet;
use lockstep_routes::Scope;

use crate::problem::Problem;
use crate::reader::{Table, Value};
use crate::schema::VIRTUAL_ADDRESS;
use crate::words;

/// Longest label of an address in bytes (`IFNAMSIZ` without the closing zero).
const LABEL_LENGTH: usize = 15;

/// The words for [`Scope`].
pub(crate) const SCOPES: &[(&str, Scope)] =
    &[("global", Scope::Global), ("link", Scope::Link), ("host", Scope::Host)];

/// An address that was understood.
#[derive(Clone, Debug)]
pub(crate) struct ReadAddress {
    pub span: Range<usize>,
    pub address: IpNet,
    pub broadcast: Option<Ipv4Addr>,
    /// The interface, when the address names one itself.
    pub interface: Option<String>,
    pub label: Option<String>,
    pub scope: Scope,
}

/// An element of a virtual router's `addresses`: a string, or a table.
pub(crate) fn element(value: &Value<'_>) -> Option<ReadAddress> {
    if value.is_table() {
        return table(&value.table(&VIRTUAL_ADDRESS, "this address")?);
    }
    if !value.is_string() {
        return value
            .refuse("an address", "write \"10.1.1.1/24\" or { address = \"10.1.1.1/24\", … }");
    }
    let address = value.parse(words::interface_address)?;
    Some(ReadAddress {
        span: value.span(),
        address,
        broadcast: None,
        interface: None,
        label: None,
        scope: Scope::default(),
    })
}

/// The keys that both kinds of table share.
pub(crate) fn table(table: &Table<'_>) -> Option<ReadAddress> {
    let value = table.require("address", "write `address = \"10.1.1.1/24\"`");
    let address = value.as_ref().and_then(|value| value.parse(words::interface_address));
    let broadcast = table.optional("broadcast", |value| value.parse(broadcast));
    let interface = table.optional("interface", |value| value.parse(words::interface));
    let label = table.optional("label", |value| value.parse(label));
    let scope = table.or("scope", Scope::default(), |value| value.word("scope", SCOPES));

    if address.is_some_and(|address| address.addr().is_ipv6()) {
        for key in ["broadcast", "label"] {
            if let Some(value) = table.get(key) {
                let problem = Problem::error(format!("an IPv6 address has no {key}"));
                table.report().push(problem.label("is of IPv4 only").at(value.span()));
            }
        }
        if let Some(value) = table.get("scope") {
            let problem = Problem::warning("the scope of an IPv6 address follows from the address");
            table.report().push(problem.label("has no effect").at(value.span()));
        }
    }
    Some(ReadAddress {
        span: value?.span(),
        address: address?,
        broadcast: broadcast?,
        interface: interface?,
        label: label?,
        scope: scope?,
    })
}

fn broadcast(text: &str) -> Result<Ipv4Addr, Problem> {
    match words::ip_address(text)? {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => {
            Err(Problem::error(format!("{text} is not an IPv4 address"))
                .label("IPv6 has no broadcast"))
        }
    }
}

fn label(text: &str) -> Result<String, Problem> {
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if text.is_empty() || text.len() > LABEL_LENGTH || text.contains(odd) {
        return Err(Problem::error(format!("\"{text}\" cannot be a label"))
            .label(format!("must be 1 to {LABEL_LENGTH} bytes without blanks")));
    }
    Ok(text.to_owned())
}
