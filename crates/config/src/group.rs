//! `[check.NAME]` and `[group.NAME]`, and what names them elsewhere.

use std::ops::Range;
use std::time::Duration;

use lockstep_failover::{Check, Config, Group, HAND_OVER_LIMIT, Subject, Track, VirtualRouter};
use lockstep_routes::{Condition, When};
use lockstep_vrrp::Priority;
use toml::Spanned;

use crate::defaults;
use crate::problem::{Problem, Report};
use crate::reader::Table;
use crate::schema::{CHECK, GROUP, nearest};
use crate::script;
use crate::surroundings::Surroundings;
use crate::track;
use crate::virtual_router::ReadVirtualRouter;

/// Shortest and longest time that a successor has to serve.
const HAND_OVER_TIME: (Duration, Duration) = (Duration::from_millis(10), Duration::from_mins(10));
/// Most results in a row that can be asked for.
const MAX_RESULTS: u32 = 1_000_000;

/// Groups in the order of the file, then the virtual routers that are groups of their own.
pub(crate) fn read(
    root: &Table<'_>,
    routers: &[ReadVirtualRouter],
    surroundings: &Surroundings,
) -> Config {
    let report = root.report();
    let (check_names, checks) = checks(root, surroundings);
    let tables = root.named("group", "group", &GROUP);

    let mut members: Vec<(Spanned<String>, usize)> = Vec::new();
    let mut used_checks: Vec<String> = Vec::new();
    let mut groups: Vec<Group> = Vec::new();
    let members_tracks: Vec<Vec<Track>> =
        routers.iter().map(|router| track::of_router(report, &check_names, router)).collect();
    let member = |router: &ReadVirtualRouter| member(router, routers, &members_tracks);
    for (index, (name, table)) in tables.iter().enumerate() {
        let named = members_of(table, routers, &members);
        let own = names(table, "checks");
        let track = track::known(report, &check_names, &own, &track::read(table));
        let routers: Vec<_> =
            named.iter().filter_map(|name| find(routers, name.get_ref())).collect();
        warn_of_unlike(report, name.get_ref(), &named, &routers);
        members.extend(named.into_iter().map(|name| (name, index)));
        let checks = known_checks(
            report,
            &check_names,
            own.iter().chain(routers.iter().flat_map(|r| &r.checks)),
        );
        used_checks.extend(checks.iter().cloned());
        used_checks.extend(track.iter().filter_map(checked));
        groups.push(Group {
            name: name.get_ref().clone(),
            virtual_routers: routers.into_iter().filter_map(member).collect(),
            checks,
            track,
            notify: script::of_group(table, surroundings),
            hand_over_limit: table
                .or("hand-over-limit", HAND_OVER_LIMIT, |value| {
                    value.duration(HAND_OVER_TIME.0..=HAND_OVER_TIME.1)
                })
                .unwrap_or(HAND_OVER_LIMIT),
            ..Group::default()
        });
    }
    for router in routers {
        let name = router.name.get_ref();
        if members.iter().any(|(member, _)| member.get_ref() == name) {
            continue;
        }
        if let Some((group, _)) = tables.iter().find(|(group, _)| group.get_ref() == name) {
            report.push(
                Problem::absence(format!(
                    "virtual router `{name}` is in no group, and a group has its name"
                ))
                .label("would be a group of its own")
                .help("name it in `virtual-routers` of its group, or rename one of the two")
                .at(router.name.span())
                .context(group.span(), "the group"),
            );
            continue;
        }
        let checks = known_checks(report, &check_names, router.checks.iter());
        used_checks.extend(checks.iter().cloned());
        groups.push(Group {
            name: name.clone(),
            virtual_routers: member(router).into_iter().collect(),
            checks,
            alone: true,
            ..Group::default()
        });
    }
    used_checks.extend(members_tracks.iter().flatten().filter_map(checked));
    for name in check_names.iter().filter(|name| !used_checks.contains(name.get_ref())) {
        report.push(
            Problem::warning(format!(
                "check `{}` is used by no virtual router and no group",
                name.get_ref()
            ))
            .label("is run for nothing")
            .help(format!("write `checks = [\"{}\"]` where its failure is a fault", name.get_ref()))
            .at(name.span()),
        );
    }
    Config { groups, checks }
}

/// Warns where members of a group want to be master otherwise than the others: they move as one. The
/// owner of its addresses does as it does, whatever it is told.
fn warn_of_unlike(
    report: &Report,
    group: &str,
    named: &[Spanned<String>],
    routers: &[&ReadVirtualRouter],
) {
    let settings = |router: &&ReadVirtualRouter| {
        let vrrp = router.vrrp.as_ref().filter(|vrrp| vrrp.priority != Priority::OWNER)?;
        Some((router.name.get_ref().clone(), vrrp.priority, vrrp.preempt))
    };
    let members: Vec<_> = routers.iter().filter_map(settings).collect();
    let place = |name: &str| named.iter().find(|one| one.get_ref() == name).map(Spanned::span);
    let tell = |name: &str, message: String, label: String, help: &str| {
        if let Some(place) = place(name) {
            report.push(Problem::warning(message).label(label).help(help).at(place));
        }
    };
    let lowest = members.iter().map(|(_, priority, _)| *priority).min();
    let higher = members.iter().find(|(_, priority, _)| Some(*priority) != lowest);
    if let (Some((name, priority, _)), Some(lowest)) = (higher, lowest) {
        tell(
            name,
            format!(
                "virtual router `{name}` has priority {priority}, others of its group a lower one"
            ),
            format!("advertises {lowest}, the lowest of `{group}`"),
            "give every member of a group the same priority",
        );
    }
    let eager = members.iter().find(|(_, _, preempt)| *preempt);
    let patient = members.iter().find(|(_, _, preempt)| !*preempt);
    if let (Some((name, ..)), Some((other, ..))) = (eager, patient) {
        tell(
            name,
            format!("virtual router `{name}` preempts, and `{other}` of its group does not"),
            format!("`{group}` takes over from no master that works"),
            "give every member of a group the same `preempt`",
        );
    }
}

fn find<'r>(routers: &'r [ReadVirtualRouter], name: &str) -> Option<&'r ReadVirtualRouter> {
    routers.iter().find(|router| router.name.get_ref() == name)
}

/// The check that is tracked.
fn checked(track: &Track) -> Option<String> {
    match &track.subject {
        Subject::Check(name) => Some(name.clone()),
        Subject::Interface(_) | Subject::File(_) | Subject::Process(_) => None,
    }
}

/// A member with its part of `tracks`, which are in the order of `routers`.
fn member(
    router: &ReadVirtualRouter,
    routers: &[ReadVirtualRouter],
    tracks: &[Vec<Track>],
) -> Option<VirtualRouter> {
    let track = routers
        .iter()
        .zip(tracks)
        .find(|(other, _)| other.name == router.name)
        .map(|(_, track)| track.clone())
        .unwrap_or_default();
    let interface = router.interface.as_ref()?.get_ref().clone();
    let priority = router.vrrp.as_ref().map_or(defaults::PRIORITY, |vrrp| vrrp.priority);
    Some(VirtualRouter {
        priority: priority.value(),
        track,
        notify: router.notify.clone(),
        ..VirtualRouter::new(router.name.get_ref().clone(), interface)
    })
}

/// The list of names under `key`, each with its place.
fn names(table: &Table<'_>, key: &str) -> Vec<Spanned<String>> {
    table
        .or(key, Vec::new(), |value| value.list("the names", |name| name.text()))
        .unwrap_or_default()
}

/// The names of a group's members that exist and are in no other group.
fn members_of(
    table: &Table<'_>,
    routers: &[ReadVirtualRouter],
    taken: &[(Spanned<String>, usize)],
) -> Vec<Spanned<String>> {
    let report = table.report();
    let Some(value) = table
        .require("virtual-routers", "write `virtual-routers = [\"NAME\"]`: what moves together")
    else {
        return Vec::new();
    };
    let Some(named) = value.list("the names", |name| name.text()) else { return Vec::new() };
    if named.is_empty() {
        let problem = Problem::error(format!("{} has no virtual router", table.title()));
        report.push(problem.label("must name at least one").at(value.span()));
    }
    let mut members: Vec<Spanned<String>> = Vec::new();
    for name in named {
        let known: Vec<&str> =
            routers.iter().map(|router| router.name.get_ref().as_str()).collect();
        let earlier = members
            .iter()
            .chain(taken.iter().map(|(member, _)| member))
            .find(|member| **member == name);
        if !known.contains(&name.get_ref().as_str()) {
            report.push(unknown("virtual router", "vrrp", &name, &known));
        } else if let Some(earlier) = earlier {
            let problem = Problem::error(format!(
                "virtual router `{}` is in a group already",
                name.get_ref()
            ))
            .label("can be in one group only, once")
            .at(name.span())
            .context(earlier.span(), "named here");
            report.push(problem);
        } else {
            members.push(name);
        }
    }
    members
}

/// What to say of a name that nothing has.
pub(crate) fn unknown(
    what: &str,
    section: &str,
    name: &Spanned<String>,
    known: &[&str],
) -> Problem {
    let text = name.get_ref();
    let problem = Problem::absence(format!("unknown {what} \"{text}\"")).at(name.span());
    match nearest(text, known) {
        Some(near) => problem
            .label(format!("there is no `[{section}.{text}]`"))
            .help(format!("did you mean \"{near}\"?")),
        None if known.is_empty() => problem.label(format!("the file has no `[{section}.NAME]`")),
        None => problem
            .label(format!("there is no `[{section}.{text}]`"))
            .help(format!("known: {}", known.join(", "))),
    }
}

/// Those of `named` that exist, each once.
fn known_checks<'n>(
    report: &Report,
    known: &[Spanned<String>],
    named: impl Iterator<Item = &'n Spanned<String>>,
) -> Vec<String> {
    let known: Vec<&str> = known.iter().map(|name| name.get_ref().as_str()).collect();
    let mut checks: Vec<String> = Vec::new();
    for name in named {
        if !known.contains(&name.get_ref().as_str()) {
            report.push(unknown("check", "check", name, &known));
        } else if !checks.contains(name.get_ref()) {
            checks.push(name.get_ref().clone());
        }
    }
    checks
}

/// The names of all checks, and the checks that were understood.
fn checks(root: &Table<'_>, surroundings: &Surroundings) -> (Vec<Spanned<String>>, Vec<Check>) {
    let tables = root.named("check", "check", &CHECK);
    let understood =
        tables.iter().filter_map(|(name, table)| check(name.get_ref(), table, surroundings));
    let checks = understood.collect();
    (tables.into_iter().map(|(name, _)| name).collect(), checks)
}

fn check(name: &str, table: &Table<'_>, surroundings: &Surroundings) -> Option<Check> {
    let user = script::run_as(table, "user", "group");
    let command = table
        .require("command", "write `command = [\"/path/of/program\", \"argument\"]`")
        .and_then(|_| script::command(table, "command", user.as_ref()?.as_ref(), surroundings));
    let interval = table.or("interval", defaults::CHECK_INTERVAL, script::time);
    let timeout = table.optional("timeout", script::time);
    let rise = table.or("rise", defaults::RISE, |value| value.integer(1..=MAX_RESULTS));
    let fall = table.or("fall", defaults::FALL, |value| value.integer(1..=MAX_RESULTS));
    Some(Check {
        name: name.to_owned(),
        command: command?,
        user: user?,
        interval: interval?,
        timeout: timeout?.or(interval)?,
        rise: rise?,
        fall: fall?,
    })
}

/// The groups that others can follow.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// Each group's name and its members'.
    groups: Vec<(String, Vec<String>)>,
}

impl Names {
    pub(crate) fn new(config: &Config) -> Self {
        let members = |group: &Group| {
            group.virtual_routers.iter().map(|router| router.name.clone()).collect()
        };
        Self {
            groups: config
                .groups
                .iter()
                .map(|group| (group.name.clone(), members(group)))
                .collect(),
        }
    }

    /// The group of a virtual router.
    pub(crate) fn of(&self, router: &str) -> Option<String> {
        let holds = |members: &[String]| members.iter().any(|member| member == router);
        self.groups.iter().find(|(_, members)| holds(members)).map(|(name, _)| name.clone())
    }

    /// The group that `key` of `table` names. Without the key it is the only group there is; when
    /// that is not clear, `why` at `place` says what needs one.
    pub(crate) fn named_by(
        &self,
        table: &Table<'_>,
        place: Range<usize>,
        why: &str,
    ) -> Option<String> {
        let known: Vec<&str> = self.groups.iter().map(|(name, _)| name.as_str()).collect();
        if let Some(value) = table.get("group") {
            let name = value.text()?;
            if known.contains(&name.get_ref().as_str()) {
                return Some(name.into_inner());
            }
            return value.reject(unknown("group", "group", &name, &known));
        }
        if let [only] = known.as_slice() {
            return Some((*only).to_owned());
        }
        let problem = match known.len() {
            0 => Problem::absence(format!("{why}, and there is none")).label("follows a group").help(
                "add a virtual router `[vrrp.NAME]`; it is a group of its own when it is named in none",
            ),
            _ => Problem::absence(format!("{why}, and there are {}", known.len()))
                .label("follows which one?")
                .help(format!("write `group = \"NAME\"` with one of: {}", known.join(", "))),
        };
        table.report().push(problem.at(place));
        None
    }

    /// The groups that `groups` of `table` names, or the one that [`Names::named_by`] finds; each
    /// once, and at least one.
    pub(crate) fn all_named_by(&self, table: &Table<'_>, why: &str) -> Option<Vec<String>> {
        let Some(value) = table.get("groups") else {
            return self.named_by(table, table.span(), why).map(|only| vec![only]);
        };
        if let Some(group) = table.get("group") {
            let problem = Problem::error("`group` and `groups`")
                .label("one of the two is enough")
                .help("write all of them in `groups`");
            table.report().push(problem.at(group.span()));
            return None;
        }
        let known: Vec<&str> = self.groups.iter().map(|(name, _)| name.as_str()).collect();
        let mut whole = true;
        let mut named: Vec<String> = Vec::new();
        value.list("the groups", |element| {
            let name = element.text().filter(|name| {
                if !known.contains(&name.get_ref().as_str()) {
                    return element.reject::<()>(unknown("group", "group", name, &known)).is_some();
                }
                let again = named.contains(name.get_ref());
                if again {
                    let problem = Problem::error(format!("\"{}\" is named twice", name.get_ref()));
                    table.report().push(problem.at(name.span()));
                }
                !again
            });
            whole &= name.is_some();
            named.extend(name.map(Spanned::into_inner));
            Some(())
        })?;
        if whole && named.is_empty() {
            let problem = Problem::error("no group").label(why.to_owned());
            return value.reject(problem);
        }
        whole.then_some(named)
    }

    /// What `key` (`when`, `up-when`) and `group` of `table` say; `always` when there is neither.
    pub(crate) fn condition(&self, table: &Table<'_>, key: &str) -> Option<Condition> {
        let choices =
            [("always", When::Always), ("master", When::Master), ("backup", When::Backup)];
        let value = table.get(key);
        let when = match &value {
            Some(value) => value.word("moment", &choices)?,
            None => When::Always,
        };
        if when == When::Always {
            if let Some(group) = table.get("group") {
                let problem = Problem::warning("a group that is not followed")
                    .label("has no effect in every state")
                    .help(format!("write `{key} = \"master\"`, or leave `group` out"));
                table.report().push(problem.at(group.span()));
            }
            return Some(Condition::ALWAYS);
        }
        let place = value.map_or(table.span(), |value| value.span());
        let group = self.named_by(table, place, &format!("`{key}` needs a group"))?;
        Some(Condition { when, group: Some(group) })
    }
}
