//! `[vrrp.NAME]`: virtual routers, each by itself and against each other.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use lockstep_failover::Notify;
use lockstep_routes::VirtualLink;
use lockstep_vrrp::{
    ChecksumDialect, Config, Family, Priority, Transport, Version, Vrid, WhenMisunderstood,
};
use toml::Spanned;

use crate::address::{self, ReadAddress};
use crate::authentication::{self, ReadAuthentication};
use crate::problem::{Problem, Report};
use crate::reader::{Table, Value};
use crate::schema::VRRP;
use crate::surroundings::Surroundings;
use crate::track::ReadTrack;
use crate::{
    AdvertiseFrom, Announce, announce, defaults, script, track, transport, virtual_mac, words,
};

/// Most addresses in an advertisement (RFC 9568 §5.2.5).
const MAX_ADDRESSES: usize = 255;
/// Longest delay before a working master is replaced, as keepalived has it.
const MAX_PREEMPT_DELAY: Duration = Duration::from_secs(1_000);
/// Longest wait of a router that has heard nothing since its start.
const MAX_STARTUP_LIMIT: Duration = Duration::from_hours(1);
/// The MTU that nearly every Ethernet has.
const USUAL_MTU: usize = 1_500;

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
    /// What else is tracked for it.
    pub track: Vec<ReadTrack>,
    /// Its own hooks.
    pub notify: Notify,
    /// The address to advertise from, when it is not the interface's.
    pub source: Option<IpAddr>,
    /// The interface with its virtual MAC address, when it has one.
    pub virtual_link: Option<Spanned<VirtualLink>>,
    /// Which of its interfaces advertises.
    pub advertise_from: AdvertiseFrom,
    /// Whether packets to its addresses are let in.
    pub accept: bool,
    /// How its addresses are announced.
    pub announce: Announce,
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
    virtual_mac::report_taken_names(root.report(), &routers);
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

    let track = track::read(table);
    let notify = script::of_virtual_router(table, surroundings);
    let version = table.or("version", defaults::VERSION, |value| {
        value.integer(2..=3_u8).map(|number| if number == 2 { Version::V2 } else { Version::V3 })
    });
    let interval = table.or("advertisement-interval", defaults::ADVERTISEMENT_INTERVAL, |value| {
        interval(value, version)
    });
    let authentication = authentication::read(table, surroundings);
    let priority = table.or("priority", defaults::PRIORITY, priority);
    let preempt = table.or("preempt", defaults::PREEMPT, Value::boolean);
    let preempt_delay = table.or("preempt-delay", Duration::ZERO, |value| {
        value.duration(Duration::ZERO..=MAX_PREEMPT_DELAY)
    });
    let startup_limit = table.or("startup-limit", defaults::STARTUP_LIMIT, |value| {
        value.duration(Duration::ZERO..=MAX_STARTUP_LIMIT)
    });
    let misunderstood =
        table.or("when-misunderstood", defaults::WHEN_MISUNDERSTOOD, when_misunderstood);
    let checksum = table.or("checksum", defaults::VRRP_CHECKSUM, checksum);
    let accept = table.or("accept", defaults::ACCEPT, Value::boolean);
    let advertise_from = table.or("advertise-from", AdvertiseFrom::default(), advertise_from);
    let announce = announce::read(table);
    let transport = transport::read(table, family, addresses.as_deref().unwrap_or_default());
    let source = transport::source(table, family, addresses.as_deref(), priority);
    let virtual_link = virtual_mac::read(table, interface.as_ref(), vrid.as_ref(), family);
    if let (Some(version), Some(family)) = (version, family) {
        check_version(table, version, family, authentication.as_ref());
        check_size(table, version, family, addresses.as_deref(), authentication.as_ref());
    }
    check_preemption(table, priority, preempt);
    if priority == Some(Priority::OWNER) {
        check_owner(table, accept);
    }

    let vrrp = (|| {
        let authentication = authentication?;
        Some(Config {
            priority: priority?,
            preempt: preempt?,
            preempt_delay: preempt_delay?,
            advertisement_interval: interval?,
            authentication: authentication.authentication,
            trailer: authentication.trailer,
            checksum: checksum?,
            transport: transport?,
            misunderstood: misunderstood?,
            startup_limit: startup_limit?,
            addresses: addresses.as_ref()?.iter().map(|address| address.address.addr()).collect(),
            ..Config::new(*vrid.as_ref()?.get_ref(), version?, family?)
        })
    })();
    if let (Some(vrrp), Some(_)) = (&vrrp, &virtual_link) {
        check_learned(table, &vrrp.transport, advertise_from, announce.as_ref());
    }
    check_advertise_from(table);
    ReadVirtualRouter {
        name,
        interface,
        addresses: addresses.unwrap_or_default(),
        checks,
        track,
        notify,
        source: source.flatten(),
        virtual_link,
        advertise_from: advertise_from.unwrap_or_default(),
        accept: accept.unwrap_or(defaults::ACCEPT),
        announce: announce.unwrap_or_default(),
        vrid,
        family,
        vrrp,
    }
}

impl ReadVirtualRouter {
    /// Where its addresses are put unless they name an interface themselves.
    pub(crate) fn home(&self) -> Option<&str> {
        let interface = self.interface.as_ref()?.get_ref();
        Some(self.virtual_link.as_ref().map_or(interface, |link| &link.get_ref().name))
    }

    /// The interfaces that its addresses name, but for its own.
    pub(crate) fn carriers(&self) -> Vec<String> {
        let own = [self.interface.as_ref().map(|own| own.get_ref().as_str()), self.home()];
        let named = self.addresses.iter().filter_map(|address| address.interface.as_deref());
        let others: BTreeSet<&str> = named.filter(|name| !own.contains(&Some(name))).collect();
        others.into_iter().map(str::to_owned).collect()
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

/// What is good depends on the version, when that was understood.
fn interval(value: &Value<'_>, version: Option<Version>) -> Option<Duration> {
    let interval = value.duration(Duration::ZERO..=Duration::MAX)?;
    match version.and_then(|version| interval_problem(version, interval)) {
        Some(problem) => value.reject(problem),
        None => Some(interval),
    }
}

fn when_misunderstood(value: &Value<'_>) -> Option<WhenMisunderstood> {
    let choices = [
        ("take-over", WhenMisunderstood::TakeOver),
        ("stay-backup", WhenMisunderstood::StayBackup),
    ];
    value.word("behaviour", &choices)
}

fn advertise_from(value: &Value<'_>) -> Option<AdvertiseFrom> {
    let choices =
        [("virtual-mac", AdvertiseFrom::VirtualMac), ("interface", AdvertiseFrom::Interface)];
    value.word("way", &choices)
}

fn checksum(value: &Value<'_>) -> Option<ChecksumDialect> {
    let choices =
        [("rfc5798", ChecksumDialect::PseudoHeader), ("rfc9568", ChecksumDialect::MessageAlone)];
    value.word("checksum", &choices)
}

/// What depends on the version: family, authentication, checksum.
fn check_version(
    table: &Table<'_>,
    version: Version,
    family: Family,
    authentication: Option<&ReadAuthentication>,
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
    if let Some(authentication) = authentication {
        authentication::check_version(table, version, authentication);
    }
    if let Some(value) = table.get("checksum")
        && (version, family) != (Version::V3, Family::Ipv4)
    {
        let key = if version == Version::V2 { "version" } else { "addresses" };
        table.report().push(
            Problem::warning("a checksum that is not to be chosen")
                .label("only version 3 over IPv4 has two readings of it")
                .at(value.span())
                .context(place(key), "leaves one"),
        );
    }
}

/// An advertisement that does not fit the usual link is cut into fragments, which no receiver of
/// VRRP has to put together.
fn check_size(
    table: &Table<'_>,
    version: Version,
    family: Family,
    addresses: Option<&[ReadAddress]>,
    authentication: Option<&ReadAuthentication>,
) {
    let (Some(count), Some(value)) = (addresses.map(<[_]>::len), table.get("addresses")) else {
        return;
    };
    let (ip_header, address) = match family {
        Family::Ipv4 => (20, 4),
        Family::Ipv6 => (40, 16),
    };
    let message = if version == Version::V2 { 16 } else { 8 };
    let around =
        ip_header + message + authentication.map_or(0, ReadAuthentication::additional_length);
    let fitting = (USUAL_MTU - around) / address;
    if count > fitting {
        table.report().push(
            Problem::warning(format!(
                "an advertisement of {count} addresses has {} bytes",
                around + count * address
            ))
            .label(format!("{fitting} addresses fit an MTU of {USUAL_MTU}"))
            .help("give the rest as `[[address]]` with `when = \"master\"`: they move too and are not advertised")
            .at(value.span()),
        );
    }
}

fn check_preemption(table: &Table<'_>, priority: Option<Priority>, preempt: Option<bool>) {
    let report = table.report();
    let (Some(false), Some(value)) = (preempt, table.get("preempt")) else { return };
    if priority == Some(Priority::OWNER) {
        let problem = Problem::warning("the owner of the addresses always takes over");
        let label = "has no effect with priority 255 (RFC 9568 §6.1)";
        report.push(problem.label(label).at(value.span()));
    }
    if let Some(delay) = table.get("preempt-delay") {
        report.push(
            Problem::warning("a delay of what never happens")
                .label("has no effect without preemption")
                .help("leave one of the two out")
                .at(delay.span())
                .context(value.span(), "a working master is never replaced"),
        );
    }
}

/// What the owner of the addresses does whatever it is told.
fn check_owner(table: &Table<'_>, accept: Option<bool>) {
    let place = |key: &str| table.get(key).map(|value| value.span());
    let Some(priority) = place("priority") else { return };
    let without_effect = |key: &str, message: &str, label: &str| {
        if let Some(place) = place(key) {
            table.report().push(
                Problem::warning(message)
                    .label(label)
                    .at(place)
                    .context(priority.clone(), "the owner's"),
            );
        }
    };
    if accept == Some(false) {
        without_effect(
            "accept",
            "the owner of the addresses always accepts",
            "has no effect with priority 255 (RFC 9568 §6.1)",
        );
    }
    without_effect(
        "startup-limit",
        "the owner of the addresses does not wait",
        "has no effect with priority 255 (RFC 9568 §6.4.1)",
    );
}

/// Where switches learn the virtual MAC address from.
fn check_learned(
    table: &Table<'_>,
    transport: &Transport,
    advertise_from: Option<AdvertiseFrom>,
    announce: Option<&Announce>,
) {
    let (cause, why) = match (transport, advertise_from) {
        (Transport::Unicast { .. }, _) => {
            ("unicast", "advertisements to peers leave with the interface's own")
        }
        (Transport::Multicast, Some(AdvertiseFrom::Interface)) => {
            ("advertise-from", "advertisements leave with the interface's own")
        }
        (Transport::Multicast, _) => return,
    };
    let (Some(cause), Some(virtual_mac)) = (table.get(cause), table.get("virtual-mac")) else {
        return;
    };
    let refreshed = announce.is_none_or(|announce| announce.refresh.is_some());
    if !refreshed {
        table.report().push(
            Problem::warning("switches may forget the virtual MAC address")
                .label("nothing is sent from it but announcements")
                .help("write `announce = { refresh = \"60s\" }`, or leave one of the two out")
                .at(virtual_mac.span())
                .context(cause.span(), why),
        );
    }
}

/// Where there is nothing to choose.
fn check_advertise_from(table: &Table<'_>) {
    let Some(value) = table.get("advertise-from") else { return };
    let problem = Problem::warning("advertisements leave by one way only").at(value.span());
    if let Some(unicast) = table.get("unicast") {
        let label = "has no effect with `unicast`";
        let why = "they follow the routes to the peers";
        table.report().push(problem.label(label).context(unicast.span(), why));
    } else if table.get("virtual-mac").is_none() {
        table.report().push(problem.label("has no effect without `virtual-mac`"));
    }
}

fn interval_problem(version: Version, interval: Duration) -> Option<Problem> {
    let shown = words::show_duration(interval);
    let whole_seconds = interval.subsec_nanos() == 0;
    match version {
        Version::V2 if interval > V2_INTERVAL.1 => Some(
            Problem::error(format!("VRRP version 2 cannot advertise every {shown}"))
                .label("must be 1s to 255s (RFC 3768 §5.3.7)"),
        ),
        Version::V2 if !whole_seconds || interval < V2_INTERVAL.0 => Some(
            Problem::error(format!("VRRP version 2 cannot advertise every {shown}"))
                .label("must be whole seconds, 1s to 255s (RFC 3768 §5.3.7)")
                .help("use version 3 on every router of the pair for shorter intervals"),
        ),
        Version::V2 => None,
        Version::V3 if !(V3_INTERVAL.0..=V3_INTERVAL.1).contains(&interval) => Some(
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
        let mut problem = Problem::error(format!("{} has {elements} addresses", table.title()));
        if elements > MAX_ADDRESSES {
            problem = problem.help(
                "give the rest as `[[address]]` with `when = \"master\"`: they move too and are not advertised",
            );
        }
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
        .help(
            "VRIDs are 1 to 255; each is used once on an interface and family, also with `unicast`",
        )
        .at(vrid.span());
        if let Some(vrid) = &earlier.vrid {
            problem = problem.context(vrid.span(), "taken here");
        }
        report.push(problem);
    }
}
