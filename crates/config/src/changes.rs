//! What another configuration changes about the one in force, by the sections and keys of the file,
//! and whether a running daemon can take it.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_failover as failover;
use lockstep_replicator as replicator;
use lockstep_routes as routes;
use lockstep_vrrp as vrrp;

use crate::{Config, VirtualRouter};

/// What differs between two configurations, in the words of the file and each once: `route`,
/// `vrrp.inside`, `replication.filter`. What is only written otherwise and means the same is no
/// difference.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// What a running daemon can take.
    pub live: Vec<String>,
    /// What takes effect with a restart only.
    pub restart: Vec<String>,
    /// What has to leave before a running daemon takes it.
    pub leaving: Leaving,
    /// The virtual routers that come to a group which goes on: others may be master of them, whatever
    /// the group is here.
    pub arriving: Vec<String>,
}

/// What another configuration lets go of.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Leaving {
    /// The groups that stop, by their names: those that are gone, those none of whose virtual routers
    /// is left, and those with one that its neighbours know by other things now (its interface, its
    /// VRID and the like). Those that are not gone begin anew.
    pub groups: Vec<String>,
    /// The virtual routers that leave groups which go on.
    pub virtual_routers: Vec<String>,
}

impl Leaving {
    /// Whether nothing leaves.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.virtual_routers.is_empty()
    }

    /// What leaves by this or by `other`, each once.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        let pairs = [
            (&mut self.groups, &other.groups),
            (&mut self.virtual_routers, &other.virtual_routers),
        ];
        for (names, others) in pairs {
            names.extend(others.iter().cloned());
            names.sort_unstable();
            names.dedup();
        }
        self
    }
}

impl Changes {
    /// What `wanted` changes about `running`.
    pub fn between(running: &Config, wanted: &Config) -> Self {
        let mut changes = Self::default();
        let Config {
            router_id,
            virtual_routers: _,
            failover,
            replication,
            declared,
            scheduling,
            announcement_intervals,
            state_directory,
            notify_fifo,
            allow_insecure_scripts,
        } = running;
        changes.restart_if(*router_id != wanted.router_id, "router.id");
        changes.restart_if(scheduling.real_time != wanted.scheduling.real_time, "router.real-time");
        changes.restart_if(
            scheduling.lock_memory != wanted.scheduling.lock_memory,
            "router.lock-memory",
        );
        changes.restart_if(*state_directory != wanted.state_directory, "router.state-directory");
        changes.live_if(*notify_fifo != wanted.notify_fifo, "router.notify-fifo");
        changes.live_if(
            *allow_insecure_scripts != wanted.allow_insecure_scripts,
            "router.allow-insecure-scripts",
        );
        let key = |check: &failover::Check| check.name.clone();
        let checks =
            differing(by(&failover.checks, key), &by(&wanted.failover.checks, key), PartialEq::eq);
        changes.live(checks.iter().map(|name| format!("check.{name}")));
        changes.routers(running, wanted);
        changes.groups(failover, &wanted.failover);
        changes.replication(replication.as_ref(), wanted.replication.as_ref());
        changes.limits(failover, &wanted.failover);

        let of_interface = |link: &routes::Link| link.interface.clone();
        let interfaces = differing(
            by(&declared.links, of_interface),
            &by(&wanted.declared.links, of_interface),
            PartialEq::eq,
        );
        changes.live(interfaces.iter().map(|name| format!("interface.{name}")));
        let intervals = announcement_intervals.iter().collect();
        let wanted_intervals = wanted.announcement_intervals.iter().collect();
        let interfaces = differing(intervals, &wanted_intervals, PartialEq::eq);
        let key = |name: &&String| format!("interface.{name}.announcement-interval");
        changes.restart(interfaces.iter().map(key));
        let own = |config: &Config| own_addresses(config, None);
        changes.live_if(own(running) != own(wanted), "address");
        changes.live_if(names_in_use(declared) != names_in_use(&wanted.declared), "tables");
        changes.live_if(declared.routes != wanted.declared.routes, "route");
        changes.live_if(declared.rules != wanted.declared.rules, "rule");
        changes
    }

    /// What a running election takes, by its key; another virtual router as a whole.
    fn routers(&mut self, running: &Config, wanted: &Config) {
        let (before, after) = (whole(running), whole(wanted));
        for name in differing(before.iter().collect(), &after.iter().collect(), PartialEq::eq) {
            let section = format!("vrrp.{name}");
            match (before.get(name), after.get(name)) {
                (Some(before), Some(after)) if before.fixed() == after.fixed() => {
                    self.live(before.live_keys(after).map(|key| format!("{section}.{key}")));
                }
                (Some(before), Some(after)) => {
                    self.live([section]);
                    // One that changes its group as well leaves by that.
                    if before.group == after.group {
                        self.leaves(&before.group);
                    }
                }
                _ => self.live([section]),
            }
        }
    }

    /// What a running group takes, by its key; another group as a whole.
    fn groups(&mut self, running: &failover::Config, wanted: &failover::Config) {
        let key = |group: &failover::Group| group.name.clone();
        let (running, wanted) = (by(&running.groups, key), by(&wanted.groups, key));
        let same = |before: &failover::Group, after: &failover::Group| {
            own_settings(before) == own_settings(after)
        };
        for name in differing(running.clone(), &wanted, same) {
            let (before, after) = (running.get(&name), wanted.get(&name));
            let alone = before.into_iter().chain(after).all(|group| group.alone);
            let section = format!("{}.{name}", if alone { "vrrp" } else { "group" });
            match (before, after) {
                (Some(before), Some(after)) if fixed(before) == fixed(after) => {
                    self.live(group_keys(before, after).map(|key| format!("{section}.{key}")));
                }
                (before, _) => {
                    self.live([section]);
                    if let Some(before) = before {
                        self.leaves(&before.name);
                    }
                }
            }
        }
        for (name, before) in &running {
            let Some(after) = wanted.get(name) else { continue };
            if self.leaving.groups.contains(name) {
                continue;
            }
            let stays = |member: &failover::VirtualRouter| {
                after.virtual_routers.iter().any(|one| one.name == member.name)
            };
            if !before.virtual_routers.iter().any(stays) {
                // Whatever it is now, it is by others.
                self.leaves(name);
                continue;
            }
            let gone = before.virtual_routers.iter().filter(|member| !stays(member));
            self.leaving.virtual_routers.extend(gone.map(|member| member.name.clone()));
            let was = |member: &failover::VirtualRouter| {
                before.virtual_routers.iter().any(|one| one.name == member.name)
            };
            let new = after.virtual_routers.iter().filter(|member| !was(member));
            self.arriving.extend(new.map(|member| member.name.clone()));
        }
    }

    fn leaves(&mut self, group: &str) {
        if self.leaving.groups.iter().all(|other| other != group) {
            self.leaving.groups.push(group.to_owned());
        }
    }

    fn live_if(&mut self, differs: bool, name: &str) {
        self.live(differs.then(|| name.to_owned()));
    }

    fn live(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            if !self.live.contains(&name) {
                self.live.push(name);
            }
        }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.restart.is_empty()
    }

    fn restart_if(&mut self, differs: bool, name: &str) {
        self.restart(differs.then(|| name.to_owned()));
    }

    fn restart(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            if !self.restart.contains(&name) {
                self.restart.push(name);
            }
        }
    }

    /// How long the groups that both replicate wait, and what they hold back meanwhile.
    fn limits(&mut self, running: &failover::Config, wanted: &failover::Config) {
        let of = |config: &failover::Config| {
            let replicated = config.groups.iter().find(|group| group.replicated)?;
            Some((replicated.limits, replicated.holds_forwarding))
        };
        let (Some((running, held)), Some((wanted, hold))) = (of(running), of(wanted)) else {
            return;
        };
        self.restart_if(held != hold, "replication.hold-forwarding");
        let failover::Limits { commit, preempt_without_flows } = running;
        self.live_if(commit != wanted.commit, "replication.commit-limit");
        self.live_if(
            preempt_without_flows != wanted.preempt_without_flows,
            "replication.preempt-limit",
        );
    }

    /// Key by key. Every key is named here, so that a new one is not forgotten.
    fn replication(
        &mut self,
        running: Option<&replicator::Config>,
        wanted: Option<&replicator::Config>,
    ) {
        let (running, wanted) = match (running, wanted) {
            (None, None) => return,
            (Some(running), Some(wanted)) => (running, wanted),
            (Some(_), None) | (None, Some(_)) => return self.restart_if(true, "replication"),
        };
        let replicator::Config {
            groups,
            protocol,
            mode,
            standby,
            links,
            filter,
            expectations,
            ack_window,
            resend_queue,
            cache_limit,
            purge_timeout,
            commit_timeout,
            refresh_interval,
            cache_timeout,
            event_buffer,
            event_buffer_limit,
        } = running;
        let several = groups.len() > 1 || wanted.groups.len() > 1;
        let fixed = [
            (if several { "groups" } else { "group" }, *groups != wanted.groups),
            ("protocol", *protocol != wanted.protocol),
            ("mode", *mode != wanted.mode),
            ("standby", *standby != wanted.standby),
            ("link", *links != wanted.links),
        ];
        let live = [
            ("filter", *filter != wanted.filter),
            ("expectations", *expectations != wanted.expectations),
            ("ack-window", *ack_window != wanted.ack_window),
            ("resend-queue", *resend_queue != wanted.resend_queue),
            ("cache-limit", *cache_limit != wanted.cache_limit),
            ("purge-timeout", *purge_timeout != wanted.purge_timeout),
            ("commit-timeout", *commit_timeout != wanted.commit_timeout),
            ("refresh-interval", *refresh_interval != wanted.refresh_interval),
            ("cache-timeout", *cache_timeout != wanted.cache_timeout),
            ("event-buffer", *event_buffer != wanted.event_buffer),
            ("event-buffer-limit", *event_buffer_limit != wanted.event_buffer_limit),
        ];
        let name = |key: &str| format!("replication.{key}");
        self.restart(fixed.iter().filter(|(_, differs)| *differs).map(|(key, _)| name(key)));
        self.live(live.iter().filter(|(_, differs)| *differs).map(|(key, _)| name(key)));
    }
}

fn by<T, K: Ord>(all: &[T], key: impl Fn(&T) -> K) -> BTreeMap<K, &T> {
    all.iter().map(|one| (key(one), one)).collect()
}

/// The keys of what is in one only or not the same in both, in their order.
fn differing<K: Ord + Clone, T>(
    running: BTreeMap<K, &T>,
    wanted: &BTreeMap<K, &T>,
    same: impl Fn(&T, &T) -> bool,
) -> BTreeSet<K> {
    let added: Vec<K> = wanted.keys().filter(|key| !running.contains_key(key)).cloned().collect();
    let kept = |(key, before): &(K, &T)| wanted.get(key).is_some_and(|after| same(before, after));
    running.into_iter().filter(|one| !kept(one)).map(|(key, _)| key).chain(added).collect()
}

fn whole(config: &Config) -> BTreeMap<String, Whole> {
    let routers = config.virtual_routers.iter();
    routers.map(|one| (one.name.clone(), Whole::of(one, config))).collect()
}

/// Everything that a virtual router's section says.
#[derive(Clone, PartialEq)]
struct Whole {
    router: VirtualRouter,
    link: Option<routes::VirtualLink>,
    member: Option<failover::VirtualRouter>,
    addresses: Vec<routes::Address>,
    /// Whether its authentication is a header around every advertisement.
    has_header: bool,
    /// Its group, which says itself whom it has.
    group: String,
}

impl Whole {
    /// The same with everything as usual that a running election takes.
    fn fixed(&self) -> Self {
        let mut fixed = self.clone();
        let vrrp = &mut fixed.router.vrrp;
        let usual = vrrp::Config::new(vrrp.vrid, vrrp.version, vrrp.family);
        // The first address may say from where it advertises, and what is refused follows the list.
        vrrp.addresses.clone_from(&usual.addresses);
        (vrrp.priority, vrrp.preempt) = (usual.priority, usual.preempt);
        (vrrp.preempt_delay, vrrp.startup_limit) = (usual.preempt_delay, usual.startup_limit);
        vrrp.misunderstood = usual.misunderstood;
        vrrp.advertisement_interval = usual.advertisement_interval;
        vrrp.checksum = usual.checksum;
        // The authentication header has packets, and rules of the firewall, of its own.
        vrrp.trailer = None;
        vrrp.authentication = vrrp::Authentication::None;
        fixed.router.announce = crate::Announce::default();
        (fixed.router.accept, fixed.group) = (true, String::new());
        fixed.addresses.clear();
        fixed.router.carriers.clear();
        if let Some(member) = &mut fixed.member {
            member.priority = usual.priority.value();
            member.notify = failover::Notify::default();
            member.track = Vec::new();
        }
        fixed
    }

    /// The keys in which they differ, of those that a running election takes.
    fn live_keys(&self, other: &Self) -> impl Iterator<Item = &'static str> {
        let (before, after) = (&self.router.vrrp, &other.router.vrrp);
        let notify = |one: &Self| one.member.as_ref().map(|member| member.notify.clone());
        let authentication = |one: &vrrp::Config| (one.authentication.clone(), one.trailer.clone());
        let track = |one: &Self| one.member.as_ref().map(|member| member.track.clone());
        let keys = [
            ("priority", before.priority != after.priority),
            ("preempt", before.preempt != after.preempt),
            ("preempt-delay", before.preempt_delay != after.preempt_delay),
            ("startup-limit", before.startup_limit != after.startup_limit),
            ("when-misunderstood", before.misunderstood != after.misunderstood),
            (
                "advertisement-interval",
                before.advertisement_interval != after.advertisement_interval,
            ),
            ("authentication", authentication(before) != authentication(after)),
            ("checksum", before.checksum != after.checksum),
            ("accept", self.router.accept != other.router.accept),
            ("announce", self.router.announce != other.router.announce),
            ("addresses", self.addresses != other.addresses),
            ("notify", notify(self) != notify(other)),
            ("track", track(self) != track(other)),
        ];
        keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key)
    }

    fn of(router: &VirtualRouter, config: &Config) -> Self {
        let links = &config.declared.virtual_links;
        let link = links.iter().find(|link| Some(&link.name) == router.virtual_link.as_ref());
        let mut members = config.failover.groups.iter().flat_map(|group| &group.virtual_routers);
        let mut addresses = own_addresses(config, Some(router));
        for address in &mut addresses {
            address.condition.group = None;
        }
        Self {
            router: VirtualRouter { group: String::new(), ..router.clone() },
            link: link.cloned(),
            member: members.find(|member| member.name == router.name).cloned(),
            addresses,
            has_header: matches!(router.vrrp.authentication, vrrp::Authentication::Header(_)),
            group: router.group.clone(),
        }
    }
}

/// The addresses of each virtual router, by its name.
pub fn addresses_of_routers(config: &Config) -> BTreeMap<String, Vec<routes::Address>> {
    let routers = config.virtual_routers.iter();
    routers.map(|router| (router.name.clone(), own_addresses(config, Some(router)))).collect()
}

/// The addresses of this virtual router; without one, those that are no virtual router's.
fn own_addresses(config: &Config, router: Option<&VirtualRouter>) -> Vec<routes::Address> {
    let belongs = |address: &routes::Address, router: &VirtualRouter| {
        address.condition.when == routes::When::Master
            && address.condition.group.as_ref() == Some(&router.group)
            && router.vrrp.addresses.contains(&address.address.addr())
    };
    let addresses = config.declared.addresses.iter();
    let owned = addresses.filter(|address| match router {
        Some(router) => belongs(address, router),
        None => !config.virtual_routers.iter().any(|router| belongs(address, router)),
    });
    owned.cloned().collect()
}

/// What a group's section says: neither how its members are, nor whether flows are replicated.
fn own_settings(group: &failover::Group) -> failover::Group {
    let name = |member: &failover::VirtualRouter| failover::VirtualRouter::new(&member.name, "");
    failover::Group {
        virtual_routers: group.virtual_routers.iter().map(name).collect(),
        replicated: false,
        holds_forwarding: false,
        limits: failover::Limits::default(),
        ..group.clone()
    }
}

/// The same with everything as usual that a running group takes.
fn fixed(group: &failover::Group) -> failover::Group {
    failover::Group {
        virtual_routers: Vec::new(),
        notify: failover::Notify::default(),
        checks: Vec::new(),
        track: Vec::new(),
        hand_over_limit: failover::HAND_OVER_LIMIT,
        ..own_settings(group)
    }
}

/// The keys in which they differ, of those that a running group takes.
fn group_keys(
    before: &failover::Group,
    after: &failover::Group,
) -> impl Iterator<Item = &'static str> {
    let names = |group: &failover::Group| {
        group.virtual_routers.iter().map(|member| member.name.clone()).collect::<Vec<_>>()
    };
    let keys = [
        ("virtual-routers", names(before) != names(after)),
        ("notify", before.notify != after.notify),
        ("checks", before.checks != after.checks),
        ("track", before.track != after.track),
        ("hand-over-limit", before.hand_over_limit != after.hand_over_limit),
    ];
    keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key)
}

/// The names of the tables that something refers to: others are nobody's concern here, and the host
/// has many.
fn names_in_use(declared: &routes::Declared) -> Vec<&(String, routes::TableId)> {
    let of_routes = declared.routes.iter().map(|route| route.table);
    let used: BTreeSet<_> =
        of_routes.chain(declared.rules.iter().filter_map(|rule| rule.key.table())).collect();
    declared.tables.iter().filter(|(_, id)| used.contains(id)).collect()
}
