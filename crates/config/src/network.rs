//! `[tables]`, `[interface.NAME]`, `[[address]]`, and the addresses of virtual routers.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use lockstep_routes::{Address, Condition, Link, TableId, When};

use crate::address::{self, ReadAddress};
use crate::group::Names;
use crate::problem::Problem;
use crate::reader::{Table, Value};
use crate::rt_tables::{TableNames, table_number};
use crate::schema::{ADDRESS, INTERFACE, TABLES, nearest};
use crate::virtual_router::ReadVirtualRouter;
use crate::words;

/// The names of tables: the file's own beside the host's.
pub(crate) fn tables(root: &Table<'_>, host: &[(String, TableId)]) -> TableNames {
    let mut names = TableNames::new(host);
    let report = root.report();
    for (name, value) in root.get("tables").map(|value| value.entries(&TABLES)).unwrap_or_default()
    {
        let Some(id) = value.integer(1..=u32::MAX).map(TableId) else { continue };
        if table_number(name.get_ref()).is_some() || words::name(name.get_ref()).is_err() {
            let problem =
                Problem::error(format!("\"{}\" cannot be the name of a table", name.get_ref()));
            report.push(
                problem.label("is a number, empty, too long, or holds a blank").at(name.span()),
            );
            continue;
        }
        match names.find(name.get_ref()) {
            Some(known) if known != id && TableNames::is_built_in(name.get_ref()) => {
                let problem =
                    Problem::error(format!("table `{}` is {} everywhere", name.get_ref(), known.0));
                report.push(problem.label("cannot be another").at(value.span()));
                continue;
            }
            Some(known) if known != id => {
                let message = format!(
                    "table `{}` is {} for other programs of this host",
                    name.get_ref(),
                    known.0
                );
                let label = format!("{} is used here", id.0);
                let help = "the host's name is in /etc/iproute2/rt_tables or rt_tables.d";
                report.push(Problem::warning(message).label(label).help(help).at(value.span()));
            }
            Some(_) | None => {}
        }
        names.set(&name, id);
    }
    names
}

/// A table by name or number.
pub(crate) fn table_id(value: &Value<'_>, tables: &TableNames) -> Option<TableId> {
    if value.as_integer().is_some() {
        return value.integer(1..=u32::MAX).map(TableId);
    }
    if !value.is_string() {
        return value.refuse("the name or number of a table", "write \"main\" or 254");
    }
    value.parse(|text| {
        let known = tables.find(text).map(|id| id.0).or_else(|| table_number(text));
        if let Some(number) = known {
            let unusable =
                || Problem::error("table 0 is no table").label("must be 1 to 4294967295");
            return if number == 0 { Err(unusable()) } else { Ok(TableId(number)) };
        }
        let problem = Problem::absence(format!("unknown table \"{text}\""))
            .label("neither in `[tables]` nor in /etc/iproute2/rt_tables or rt_tables.d");
        Err(match nearest(text, &tables.words()) {
            Some(near) => problem.help(format!("did you mean \"{near}\"?")),
            None => problem.help(format!("write `{text} = NUMBER` under `[tables]`")),
        })
    })
}

/// Longest least time between two announcements.
const MAX_ANNOUNCEMENT_INTERVAL: Duration = Duration::from_secs(10);

/// The interfaces whose state is ours, and the least time between announcements on each that has
/// one.
pub(crate) fn interfaces(
    root: &Table<'_>,
    groups: &Names,
) -> (Vec<Link>, BTreeMap<String, Duration>) {
    let mut links = Vec::new();
    let mut intervals = BTreeMap::new();
    for (name, table) in root.named("interface", "interface", &INTERFACE) {
        if let Err(problem) = words::interface(name.get_ref()) {
            root.report().push(problem.at(name.span()));
        }
        let paced = table.get("announcement-interval");
        let interval = paced
            .as_ref()
            .and_then(|value| value.duration(Duration::from_millis(1)..=MAX_ANNOUNCEMENT_INTERVAL));
        intervals.extend(interval.map(|interval| (name.get_ref().clone(), interval)));
        let help = "write `up-when = \"master\"`, \"backup\" or \"always\"";
        let followed = table.get("up-when").is_some() || table.get("group").is_some();
        if (paced.is_some() && !followed) || table.require("up-when", help).is_none() {
            continue;
        }
        if let Some(up) = groups.condition(&table, "up-when") {
            links.push(Link { interface: name.into_inner(), up });
        }
    }
    (links, intervals)
}

/// The virtual routers' addresses, then those of `[[address]]`.
pub(crate) fn addresses(
    root: &Table<'_>,
    routers: &[ReadVirtualRouter],
    groups: &Names,
) -> Vec<Address> {
    let mut addresses = Addresses::default();
    for router in routers {
        let Some(home) = router.home() else { continue };
        // A virtual router without a group has been reported.
        let group = groups.of(router.name.get_ref());
        let condition = Condition { when: When::Master, group };
        for (index, read) in router.addresses.iter().enumerate() {
            // Twice in one virtual router has been reported there.
            if router.addresses[..index]
                .iter()
                .any(|earlier| earlier.address.addr() == read.address.addr())
            {
                continue;
            }
            addresses.add(root, read.clone(), home, condition.clone());
        }
    }
    for table in root.elements("address", "address", &ADDRESS) {
        table.require("interface", "write `interface = \"eth0\"`");
        let condition = groups.condition(&table, "when");
        let read = address::table(&table);
        if let (Some(read), Some(condition)) = (read, condition)
            && let Some(interface) = read.interface.clone()
        {
            addresses.add(root, read, &interface, condition);
        }
    }
    addresses.addresses
}

/// Addresses, each once on its interface.
#[derive(Debug, Default)]
struct Addresses {
    addresses: Vec<Address>,
    /// Where each stands.
    places: BTreeMap<(String, IpAddr), Range<usize>>,
}

impl Addresses {
    /// Adds an address, unless its interface, `home` when it does not name one, has it already.
    fn add(&mut self, root: &Table<'_>, read: ReadAddress, home: &str, condition: Condition) {
        let interface = read.interface.unwrap_or_else(|| home.to_owned());
        let address = read.address.addr();
        match self.places.entry((interface.clone(), address)) {
            Entry::Occupied(first) => {
                let problem = Problem::error(format!("address {address} is on {interface} twice"))
                    .label("again here")
                    .at(read.span)
                    .context(first.get().clone(), "first here");
                root.report().push(problem);
                return;
            }
            Entry::Vacant(place) => place.insert(read.span),
        };
        self.addresses.push(Address {
            interface,
            address: read.address,
            broadcast: read.broadcast,
            label: read.label,
            scope: read.scope,
            condition,
        });
    }
}
