//! `[vrrp.NAME]`: virtual routers, each by itself and against each other.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use lockstep_vrrp::{Authentication, Config, Family, Password, Priority, Version, Vrid};
use toml::Spanned;

use crate::address::{self, ReadAddress};
use crate::problem::{Problem, Report};
use crate::reader::{Table, Value};
use crate::schema::{AUTHENTICATION, VRRP};
use crate::surroundings::Surroundings;
use crate::{defaults, words};

/// Most addresses in an advertisement (RFC 9568 §5.2.5).
const MAX_ADDRESSES: usize = 255;
/// Bytes of a password that are used (RFC 2338 §5.3.10).
const PASSWORD_LENGTH: usize = 8;

/// Shortest and longest interval of version 3, and its unit (RFC 9568 §5.2.7).
const V3_INTERVAL: (Duration, Duration) =
    (Duration::from_millis(10), Duration::from_millis(40_950));
/// Shortest and longest interval of version 2, in whole seconds (RFC 3768 §5.3.7).
const V2_INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(255));

/// What was understood of a virtual router.
#[derive(Clone, Debug)]
pub(crate) struct ReadVirtualRouter {
    pub name: Spanned<String>,
    pub interface: Option<Spanned<String>>,
    /// Its addresses, in the order of the file.
    pub addresses: Vec<ReadAddress>,
    /// The names of its checks, not looked up yet.
    pub checks: Vec<Spanned<String>>,
    vrid: Option<Spanned<Vrid>>,
    family: Option<Family>,
    /// Its election, when nothing of it is wrong.
    pub vrrp: Option<Config>,
}

pub(crate) fn read(root: &Table<'_>, surroundings: &Surroundings) -> Vec<ReadVirtualRouter> {
    let routers: Vec<_> = root
        .named("vrrp", "virtual router", &VRRP)
        .into_iter()
        .map(|(name, table)| read_one(name, &table, surroundings))
        .collect();
    report_same_identity(root.report(), &routers);
    routers
}

fn read_one(
    name: Spanned<String>,
    table: &Table<'_>,
    surroundings: &Surroundings,
) -> ReadVirtualRouter {
    let interface = table
        .require("interface", "write `interface = \"eth0\"`: where it advertises")
        .and_then(|value| value.parse_at(advertising_interface));
    let vrid = table
        .require("vrid", "write `vrid = 51`, the same number on every router of the pair, 1 to 255")
        .and_then(|value| Some(Spanned::new(value.span(), Vrid::new(value.integer(1..=255_u8)?)?)));
    let addresses = addresses(table);
    let family = addresses.iter().flatten().map(ReadAddress::family).next();
    let checks = table
        .or("checks", Vec::new(), |value| value.list("the names", |name| name.text()))
        .unwrap_or_default();

    let version = table.or("version", defaults::VERSION, |value| {
        value.integer(2..=3_u8).map(|number| if number == 2 { Version::V2 } else { Version::V3 })
    });
    let interval = table.or("advertisement-interval", defaults::ADVERTISEMENT_INTERVAL, interval);
    let authentication = authentication(table, surroundings);
    let priority = table.or("priority", defaults::PRIORITY, priority);
    let preempt = table.or("preempt", defaults::PREEMPT, Value::boolean);
    if let (Some(version), Some(family)) = (version, family) {
        check_version(table, version, family, interval, authentication.as_ref());
    }
    if let (Some(Priority::OWNER), Some(false), Some(value)) =
        (priority, preempt, table.get("preempt"))
    {
        let problem = Problem::warning("the owner of the addresses always takes over");
        let label = "has no effect with priority 255 (RFC 9568 §6.1)";
        table.report().push(problem.label(label).at(value.span()));
    }

    let vrrp = (|| {
        Some(Config {
            priority: priority?,
            preempt: preempt?,
            advertisement_interval: interval?,
            authentication: authentication?,
            addresses: addresses.as_ref()?.iter().map(|address| address.address.addr()).collect(),
            ..Config::new(*vrid.as_ref()?.get_ref(), version?, family?)
        })
    })();
    ReadVirtualRouter {
        name,
        interface,
        addresses: addresses.unwrap_or_default(),
        checks,
        vrid,
        family,
        vrrp,
    }
}

impl ReadAddress {
    fn family(&self) -> Family {
        if self.address.addr().is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }
}

fn advertising_interface(text: &str) -> Result<String, Problem> {
    if text == "lo" {
        return Err(Problem::error("a virtual router cannot advertise on lo")
            .label("no other router is there"));
    }
    words::interface(text)
}

fn priority(value: &Value<'_>) -> Option<Priority> {
    if value.as_integer() == Some(0) {
        return value.reject(
            Problem::error("priority 0 is reserved")
                .label("means \"the master has stopped\" (RFC 9568 §5.2.4)")
                .help("use 1 to 254, or leave it out for 100"),
        );
    }
    Priority::new(value.integer(1..=255_u8)?)
}

fn interval(value: &Value<'_>) -> Option<Duration> {
    value.duration(V3_INTERVAL.0..=V2_INTERVAL.1)
}

/// What depends on the version: interval, family, authentication.
fn check_version(
    table: &Table<'_>,
    version: Version,
    family: Family,
    interval: Option<Duration>,
    authentication: Option<&Authentication>,
) {
    let place = |key: &str| table.get(key).map_or(table.span(), |value| value.span());
    if version == Version::V2 && family == Family::Ipv6 {
        table.report().push(
            Problem::error("VRRP version 2 has no IPv6")
                .label("IPv6 needs version 3 (RFC 9568 §1)")
                .help("leave `version` out, or write `version = 3`")
                .at(place("version"))
                .context(place("addresses"), "IPv6 addresses"),
        );
    }
    if let Some(problem) = interval.and_then(|interval| interval_problem(version, interval)) {
        table.report().push(problem.at(place("advertisement-interval")));
    }
    if let (Version::V3, Some(Authentication::Pass(_))) = (version, authentication) {
        table.report().push(
            Problem::error("VRRP version 3 has no authentication")
                .label("belongs to version 2 (RFC 9568 §9)")
                .help("write `version = 2`, or leave `authentication` out")
                .at(place("authentication")),
        );
    }
}

fn interval_problem(version: Version, interval: Duration) -> Option<Problem> {
    let shown = words::show_duration(interval);
    let whole_seconds = interval.subsec_nanos() == 0;
    match version {
        Version::V2 if !whole_seconds => Some(
            Problem::error(format!("VRRP version 2 cannot advertise every {shown}"))
                .label("must be whole seconds, 1s to 255s (RFC 3768 §5.3.7)")
                .help("use version 3 on every router of the pair for shorter intervals"),
        ),
        Version::V2 => None,
        Version::V3 if interval > V3_INTERVAL.1 => Some(
            Problem::error(format!("VRRP version 3 cannot advertise every {shown}"))
                .label("must be 10ms to 40950ms (RFC 9568 §5.2.7)"),
        ),
        Version::V3 if !interval.as_millis().is_multiple_of(10) => Some(
            Problem::error(format!("VRRP version 3 cannot advertise every {shown}"))
                .label("must be a multiple of 10ms (RFC 9568 §5.2.7)"),
        ),
        Version::V3 => None,
    }
}

/// The addresses, all of one family, none twice.
fn addresses(table: &Table<'_>) -> Option<Vec<ReadAddress>> {
    let value = table
        .require("addresses", "write `addresses = [\"10.1.1.1/24\"]`: what moves to the master")?;
    let mut elements = 0;
    let read = value.list("the addresses", |element| {
        elements += 1;
        address::element(&element)
    })?;
    let report = table.report();
    if elements == 0 || elements > MAX_ADDRESSES {
        let label = format!("must be 1 to {MAX_ADDRESSES} (RFC 9568 §5.2.5)");
        let problem = Problem::error(format!("{} has {elements} addresses", table.title()));
        report.push(problem.label(label).at(value.span()));
        return None;
    }
    let first = read.first()?;
    for (index, address) in read.iter().enumerate() {
        let earlier =
            read[..index].iter().find(|earlier| earlier.address.addr() == address.address.addr());
        if address.family() != first.family() {
            report.push(
                Problem::error(format!("{} mixes IPv4 and IPv6", table.title()))
                    .label("is of the other family")
                    .help("make a virtual router of each family and name both in one group")
                    .at(address.span.clone())
                    .context(first.span.clone(), "the first address decides"),
            );
        } else if let Some(earlier) = earlier {
            report.push(
                Problem::error(format!("address {} is there twice", address.address.addr()))
                    .label("again here")
                    .at(address.span.clone())
                    .context(earlier.span.clone(), "first here"),
            );
        }
    }
    if let std::net::IpAddr::V6(address) = first.address.addr()
        && !address.is_unicast_link_local()
    {
        report.push(
            Problem::warning("the first IPv6 address is not link-local")
                .label("should be fe80::… (RFC 9568 §5.2.9)")
                .help("put a link-local address that both routers share first; hosts learn it as their gateway")
                .at(first.span.clone()),
        );
    }
    (read.len() == elements).then_some(read)
}

/// How advertisements are authenticated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum AuthenticationType {
    None,
    Pass,
}

fn authentication(table: &Table<'_>, surroundings: &Surroundings) -> Option<Authentication> {
    let Some(value) = table.get("authentication") else { return Some(Authentication::None) };
    let table = value.table(&AUTHENTICATION, "the authentication")?;
    let choices = [("none", AuthenticationType::None), ("pass", AuthenticationType::Pass)];
    let kind = table.require("type", "write `type = \"pass\"`").and_then(|value| {
        match value.as_string() {
            Some("ah" | "AH") => value.reject(
                Problem::error("authentication type AH is not spoken")
                    .label("known: \"none\", \"pass\"")
                    .help("use \"pass\" on every router, or version 3 without authentication"),
            ),
            _ => value.word("authentication type", &choices),
        }
    });
    let password = password(&table, kind, surroundings);
    match kind? {
        AuthenticationType::None => Some(Authentication::None),
        AuthenticationType::Pass => password.map(Authentication::Pass),
    }
}

/// The password, from the text or from a file. The value itself stands in no message.
fn password(
    table: &Table<'_>,
    kind: Option<AuthenticationType>,
    surroundings: &Surroundings,
) -> Option<Password> {
    let report = table.report();
    let (inline, file) = (table.get("password"), table.get("password-file"));
    if let (Some(AuthenticationType::None), Some(value)) = (kind, inline.as_ref().or(file.as_ref()))
    {
        report.push(
            Problem::warning("a password without authentication")
                .label("has no effect")
                .at(value.span()),
        );
    }
    match (inline, file) {
        (Some(inline), Some(file)) => {
            let problem =
                Problem::error("two passwords").label("and here").help("keep one of them");
            report.push(problem.at(file.span()).context(inline.span(), "one here"));
            None
        }
        (Some(value), None) => checked_password(report, value.string()?, value.span()),
        (None, Some(value)) => {
            let path = PathBuf::from(value.string()?);
            if !path.is_absolute() {
                let problem = Problem::error("the path of a password file is relative");
                return value.reject(problem.label("must begin with `/`"));
            }
            match surroundings.files.get(&path) {
                Some(Ok(secret)) => checked_password(report, secret.text(), value.span()),
                Some(Err(why)) => {
                    value.reject(Problem::error("the password file cannot be used").label(why))
                }
                None => value.reject(
                    Problem::error("the password file was not read")
                        .label("its contents are not known"),
                ),
            }
        }
        (None, None) => {
            if kind == Some(AuthenticationType::Pass) {
                table
                    .require("password", "write `password = \"…\"` or `password-file = \"/path\"`");
            }
            None
        }
    }
}

fn checked_password(report: &Report, text: &str, span: Range<usize>) -> Option<Password> {
    if text.contains(['\n', '\0']) {
        report.push(
            Problem::error("the password is more than one line of text")
                .label("holds a newline or zero")
                .at(span),
        );
        return None;
    }
    if text.len() > PASSWORD_LENGTH {
        report.push(
            Problem::warning(format!(
                "only the first {PASSWORD_LENGTH} bytes of the password are used"
            ))
            .label("is longer (RFC 2338 §5.3.10)")
            .help("keepalived cuts it too, so both ends agree; shorten it to say what is used")
            .at(span.clone()),
        );
    }
    let password = Password::new(text);
    if let Err(error) = &password {
        report.push(Problem::error(error.to_string()).label("must be 1 to 8 bytes").at(span));
    }
    password.ok()
}

/// Two virtual routers that no other router could tell apart.
fn report_same_identity(report: &Report, routers: &[ReadVirtualRouter]) {
    for (index, router) in routers.iter().enumerate() {
        let (Some(vrid), Some(interface), Some(family)) =
            (&router.vrid, &router.interface, router.family)
        else {
            continue;
        };
        let same = |other: &&ReadVirtualRouter| {
            other.vrid.as_ref() == Some(vrid)
                && other.interface.as_ref() == Some(interface)
                && other.family == Some(family)
        };
        let Some(earlier) = routers[..index].iter().find(same) else { continue };
        let mut problem = Problem::error(format!(
            "virtual router `{}` has the VRID and interface of `{}`",
            router.name.get_ref(),
            earlier.name.get_ref()
        ))
        .label(format!("VRID {} is taken on {}", vrid.get_ref(), interface.get_ref()))
        .help("VRIDs are 1 to 255; each is used once on an interface and family")
        .at(vrid.span());
        if let Some(vrid) = &earlier.vrid {
            problem = problem.context(vrid.span(), "taken here");
        }
        report.push(problem);
    }
}
