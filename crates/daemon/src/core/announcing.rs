//! Announcements: telling the link where the virtual addresses are.
//!
//! `lockstep-vrrp` says which address is announced when; here are the frames and the sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use lockstep_config::Announce;
use lockstep_kernel::sysctl;
use lockstep_kernel::vrrp::Announcer;
use lockstep_routes::When;
use lockstep_vrrp::{AnnouncementTarget, AnnouncementTimes, Announcements};
use tracing::{debug, warn};

use crate::messages::{InterfaceState, LinkState};

/// What each group announces as master, and the way to the links.
pub(super) struct Announcing {
    schedule: Announcements,
    groups: BTreeMap<String, Vec<Part>>,
    /// The group of each virtual router.
    group_of: BTreeMap<String, String>,
    /// The interface below each one with a virtual MAC address.
    below: BTreeMap<String, Arc<str>>,
    /// The virtual routers whose addresses are not there, whatever their group is.
    absent: BTreeSet<String>,
    links: BTreeMap<String, LinkState>,
    announcers: BTreeMap<u32, Announcer>,
    /// The interfaces on which the last attempt failed; said once.
    failing: BTreeSet<String>,
}

/// Addresses of a group that are announced at the same times: those of one virtual router, or those
/// that none advertises.
#[derive(PartialEq)]
struct Part {
    key: String,
    /// Who advertises the addresses.
    virtual_router: Option<String>,
    times: AnnouncementTimes,
    targets: Vec<AnnouncementTarget>,
}

impl Announcing {
    pub(super) fn new(config: &lockstep_config::Config) -> Self {
        let mut schedule = Announcements::new();
        for (interface, interval) in &config.announcement_intervals {
            schedule.pace(interface, *interval);
        }
        Self {
            schedule,
            groups: parts(config),
            group_of: groups_of(config),
            below: links_below(config),
            absent: BTreeSet::new(),
            links: BTreeMap::new(),
            announcers: BTreeMap::new(),
            failing: BTreeSet::new(),
        }
    }

    /// Takes other addresses and times. Those of a group that `serves` are announced anew where they
    /// are other ones; the rest goes on.
    pub(super) fn configure(
        &mut self,
        config: &lockstep_config::Config,
        serves: impl Fn(&str) -> bool,
        now: Instant,
    ) {
        self.group_of = groups_of(config);
        self.below = links_below(config);
        let before = std::mem::replace(&mut self.groups, parts(config));
        for (group, parts) in &self.groups {
            let old = before.get(group).map_or(&[][..], Vec::as_slice);
            let is_new = |part: &&Part| serves(group) && !old.contains(part);
            for part in parts.iter().filter(is_new).filter(|part| is_there(part, &self.absent)) {
                let targets = part.targets.iter().cloned();
                self.schedule.start(&part.key, targets, part.times.clone(), now);
            }
        }
        for (group, parts) in before {
            let new = self.groups.get(&group).map_or(&[][..], Vec::as_slice);
            for part in parts.iter().filter(|part| new.iter().all(|other| other.key != part.key)) {
                self.schedule.stop(&part.key);
            }
        }
    }

    /// Announces nothing of these virtual routers.
    pub(super) fn leave_out(&mut self, virtual_routers: &BTreeSet<String>) {
        if self.absent != *virtual_routers {
            self.absent.clone_from(virtual_routers);
        }
    }

    /// Knows nothing more of other interfaces than these, of which it will hear no more.
    pub(super) fn retain(&mut self, interfaces: &BTreeSet<String>) {
        self.links.retain(|name, _| interfaces.contains(name));
        self.failing.retain(|name| interfaces.contains(name));
        let links = &self.links;
        self.announcers.retain(|index, _| links.values().any(|link| link.index == *index));
    }

    /// Begins the announcements of a group that is master; how many addresses, and what keeps some
    /// of them from being announced now.
    pub(super) fn start(&mut self, group: &str, now: Instant) -> (usize, Vec<String>) {
        let (mut count, mut obstacles) = (0, Vec::new());
        for part in parts_of(&self.groups, &self.absent, group) {
            for target in &part.targets {
                match self.links.get(&*target.interface) {
                    Some(_) => count += 1,
                    None => obstacles
                        .push(format!("{}: {} does not exist", target.address, target.interface)),
                }
            }
            self.schedule.start(&part.key, part.targets.iter().cloned(), part.times.clone(), now);
        }
        (count, obstacles)
    }

    /// Goes on for a group whose addresses an earlier run has announced.
    pub(super) fn resume(&mut self, group: &str, now: Instant) {
        for part in parts_of(&self.groups, &self.absent, group) {
            let targets = part.targets.iter().cloned();
            self.schedule.resume(&part.key, targets, part.times.clone(), now);
        }
    }

    /// The group is master no more.
    pub(super) fn stop(&mut self, group: &str) {
        for part in self.groups.get(group).into_iter().flatten() {
            self.schedule.stop(&part.key);
        }
    }

    /// What is heard when another router announces a group's addresses, with the kernel's numbers of
    /// the interfaces that are there. A link with a virtual MAC address takes frames from there for its
    /// own and hears none: the one below hears them.
    pub(super) fn heard(&self, group: &str) -> Vec<(u32, AnnouncementTarget)> {
        let parts = parts_of(&self.groups, &self.absent, group);
        let with_index = |target: &AnnouncementTarget| {
            let interface = self.below.get(&*target.interface).unwrap_or(&target.interface);
            let target = AnnouncementTarget { interface: interface.clone(), ..target.clone() };
            Some((self.links.get(&**interface)?.index, target))
        };
        parts.flat_map(|part| &part.targets).filter_map(with_index).collect()
    }

    /// The addresses of a master were gone and are back.
    pub(super) fn restart(&mut self, group: &str, now: Instant) {
        for part in self.groups.get(group).into_iter().flatten() {
            self.schedule.restart(&part.key, now);
        }
    }

    /// Another master was heard that has to give way: its links may look in the wrong place. The members
    /// of its group give way with it, and only one of them is heard.
    pub(super) fn conflict(&mut self, virtual_router: &str, now: Instant) {
        let Some(group) = self.group_of.get(virtual_router) else { return };
        for part in self.groups.get(group).into_iter().flatten() {
            self.schedule.conflict(&part.key, now);
        }
    }

    /// Takes what an interface is now. One that is new to its neighbours, or has another address
    /// there, is announced on again.
    pub(super) fn interface(&mut self, state: &InterfaceState, now: Instant) {
        let before = match &state.link {
            Some(link) => self.links.insert(state.name.clone(), link.clone()),
            None => self.links.remove(&state.name),
        };
        if let Some(before) = &before
            && state.link.as_ref().is_none_or(|link| link.index != before.index)
        {
            self.announcers.remove(&before.index);
        }
        if !is_new_to_neighbours(before.as_ref(), state.link.as_ref()) {
            return;
        }
        let is_there = |target: &AnnouncementTarget| *target.interface == *state.name;
        for part in self.groups.values().flatten().filter(|part| part.targets.iter().any(is_there))
        {
            self.schedule.restart(&part.key, now);
        }
    }

    /// When [`Announcing::send`] has something to do; it may be past.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.schedule.next_deadline()
    }

    /// Sends what is due, one call for each interface.
    pub(super) fn send(&mut self, now: Instant) {
        let due = self.schedule.due(now);
        let mut by_interface: BTreeMap<&str, Vec<IpAddr>> = BTreeMap::new();
        for target in &due {
            by_interface.entry(&target.interface).or_default().push(target.address);
        }
        let forwards = due.iter().any(|target| target.address.is_ipv6()) && forwards_ipv6();
        for (interface, addresses) in by_interface {
            match self.send_on(interface, &addresses, forwards) {
                Ok(()) => {
                    self.failing.remove(interface);
                }
                Err(failure) => {
                    if self.failing.insert(interface.to_owned()) {
                        warn!(interface, failure, "announcement not sent");
                    }
                }
            }
        }
        if !due.is_empty() {
            debug!(addresses = due.len(), took = ?now.elapsed(), "announced");
        }
    }

    fn send_on(
        &mut self,
        interface: &str,
        addresses: &[IpAddr],
        forwards: bool,
    ) -> Result<(), String> {
        let link = self.links.get(interface).ok_or("the interface does not exist")?;
        let frames: Vec<Vec<u8>> = addresses
            .iter()
            .map(|address| lockstep_vrrp::announcement(*address, link.mac, forwards))
            .collect();
        let mut announcer = match self.announcers.remove(&link.index) {
            Some(announcer) => announcer,
            None => Announcer::open(link.index).map_err(|error| error.to_string())?,
        };
        let failures = announcer.send_all(&frames);
        match failures.last() {
            None => {
                self.announcers.insert(link.index, announcer);
                Ok(())
            }
            // It is opened anew next time: the interface may have been made again.
            Some(failure) => {
                Err(format!("{} of {}: {}", failures.len(), frames.len(), failure.error))
            }
        }
    }
}

fn groups_of(config: &lockstep_config::Config) -> BTreeMap<String, String> {
    let routers = config.virtual_routers.iter();
    routers.map(|router| (router.name.clone(), router.group.clone())).collect()
}

/// What a group announces, but for what is not there.
fn parts_of<'a>(
    groups: &'a BTreeMap<String, Vec<Part>>,
    absent: &BTreeSet<String>,
    group: &str,
) -> impl Iterator<Item = &'a Part> {
    let parts = groups.get(group).into_iter().flatten();
    parts.filter(move |part| is_there(part, absent))
}

fn is_there(part: &Part, absent: &BTreeSet<String>) -> bool {
    part.virtual_router.as_ref().is_none_or(|name| !absent.contains(name))
}

fn links_below(config: &lockstep_config::Config) -> BTreeMap<String, Arc<str>> {
    let links = config.declared.virtual_links.iter();
    links.map(|link| (link.name.clone(), link.parent.as_str().into())).collect()
}

/// What each group announces as master, by who announces it.
fn parts(config: &lockstep_config::Config) -> BTreeMap<String, Vec<Part>> {
    let mut advertised = BTreeMap::new();
    let mut advertised_on = BTreeMap::new();
    let mut times_of_group: BTreeMap<&str, &Announce> = BTreeMap::new();
    for router in &config.virtual_routers {
        let group = router.group.as_str();
        times_of_group.entry(group).or_insert(&router.announce);
        let interface = router.virtual_link.as_ref().unwrap_or(&router.interface).as_str();
        for address in &router.vrrp.addresses {
            advertised.entry((group, *address)).or_insert(router);
            advertised_on.entry((group, *address, interface)).or_insert(router);
        }
    }
    let mut by_key: BTreeMap<(String, String), Part> = BTreeMap::new();
    for address in &config.declared.addresses {
        let (When::Master, Some(group)) = (address.condition.when, &address.condition.group) else {
            continue;
        };
        // The same link-local address may be on several interfaces.
        let ip = address.address.addr();
        let router = advertised_on
            .get(&(group.as_str(), ip, address.interface.as_str()))
            .or_else(|| advertised.get(&(group.as_str(), ip)));
        let usual = Announce::default();
        let (key, announce) = if let Some(router) = router {
            (format!("virtual router {}", router.name), &router.announce)
        } else {
            let announce = times_of_group.get(group.as_str()).copied();
            (format!("group {group}"), announce.unwrap_or(&usual))
        };
        let part = by_key.entry((group.clone(), key.clone())).or_insert_with(|| Part {
            key,
            virtual_router: router.map(|router| router.name.clone()),
            times: AnnouncementTimes { after: announce.after.clone(), refresh: announce.refresh },
            targets: Vec::new(),
        });
        part.targets
            .push(AnnouncementTarget { interface: address.interface.as_str().into(), address: ip });
    }
    let mut groups: BTreeMap<String, Vec<Part>> = BTreeMap::new();
    for ((group, _), part) in by_key {
        groups.entry(group).or_default().push(part);
    }
    groups
}

/// Whether a link is there that was not, or is another than before.
fn is_new_to_neighbours(before: Option<&LinkState>, after: Option<&LinkState>) -> bool {
    let place = |link: &LinkState| (link.index, link.mac, link.up && link.carrier);
    after.is_some_and(|after| after.up && after.carrier) && before.map(place) != after.map(place)
}

fn forwards_ipv6() -> bool {
    sysctl::read("net/ipv6/conf/all/forwarding").is_ok_and(|on| on != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, carrier: bool) -> LinkState {
        LinkState { index, up: true, carrier, ..LinkState::default() }
    }

    const CONFIG: &str = r#"
        [vrrp.inside]
        interface = "eth0"
        vrid = 51
        addresses = ["10.1.1.1/24", { address = "10.9.9.9/24", interface = "eth1" }]

        [vrrp.outside]
        interface = "eth2"
        vrid = 52
        addresses = ["192.0.2.1/24"]

        [group.gateway]
        virtual-routers = ["inside", "outside"]
    "#;

    fn announcing() -> Announcing {
        let surroundings = lockstep_config::Surroundings::default();
        let checked = lockstep_config::parse("test.toml", CONFIG, &surroundings).unwrap();
        Announcing::new(&checked.config)
    }

    #[test]
    fn every_address_of_a_group_is_announced_where_it_is() {
        let mut announcing = announcing();
        let now = Instant::now();
        for (name, index) in [("eth0", 1), ("eth2", 3)] {
            let state = InterfaceState { name: name.to_owned(), link: Some(link(index, true)) };
            announcing.interface(&state, now);
        }
        let (count, obstacles) = announcing.start("gateway", now);
        assert_eq!(count, 2);
        assert_eq!(obstacles, ["10.9.9.9: eth1 does not exist"]);
        let due = announcing.schedule.due(now).into_iter();
        let due: BTreeSet<String> =
            due.map(|target| format!("{} {}", target.interface, target.address)).collect();
        let expected = ["eth0 10.1.1.1", "eth1 10.9.9.9", "eth2 192.0.2.1"].map(str::to_owned);
        assert_eq!(due, expected.into());
    }

    #[test]
    fn a_link_that_comes_back_is_announced_on_again_by_a_master_only() {
        let mut announcing = announcing();
        let now = Instant::now();
        let told =
            |carrier| InterfaceState { name: "eth0".to_owned(), link: Some(link(1, carrier)) };
        announcing.interface(&told(true), now);
        assert_eq!(announcing.next_deadline(), None, "it is no master");
        announcing.start("gateway", now);
        drop(announcing.schedule.due(now));
        announcing.interface(&told(false), now);
        assert_ne!(announcing.next_deadline(), Some(now));
        announcing.interface(&told(true), now);
        assert_eq!(announcing.next_deadline(), Some(now));
        announcing.stop("gateway");
        assert_eq!(announcing.next_deadline(), None);
    }

    #[test]
    fn a_conflict_of_one_member_is_one_of_its_whole_group() {
        let mut announcing = announcing();
        let now = Instant::now();
        announcing.start("gateway", now);
        drop(announcing.schedule.due(now));
        announcing.conflict("outside", now);
        let due = announcing.schedule.due(now).into_iter();
        let due: BTreeSet<String> = due.map(|target| target.address.to_string()).collect();
        assert_eq!(due, ["10.1.1.1", "10.9.9.9", "192.0.2.1"].map(str::to_owned).into());
    }
}
