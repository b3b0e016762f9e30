//! `lockstep status`: how everything is and why.

use std::fmt::Write as _;
use std::time::SystemTime;

use anyhow::bail;

use super::output::{Cell, Page, Style, Table, print_json};
use super::{Ask, replication, routes};
use crate::control::client::Client;
use crate::control::protocol::Request;
use crate::status::{Check, Fifo, Group, Hook, Scheduling, Status, Tracked, VirtualRouter};

pub(super) fn show(name: Option<&str>, ask: &Ask) -> anyhow::Result<()> {
    let mut client = Client::connect(&ask.socket.socket)?;
    let mut status: Status = client.ask(&Request::Status {})?;
    if let Some(name) = name {
        narrow(&mut status, name)?;
    }
    if ask.json {
        return print_json(&status);
    }
    let mut page = Page::new();
    describe(&mut page, &status, SystemTime::now());
    if name.is_some() {
        describe_more(&mut page, &status);
    }
    page.print()
}

/// The style of a group's or virtual router's state.
pub(super) fn state_style(state: &str) -> Style {
    match state {
        "master" => Style::Good,
        "fault" => Style::Bad,
        "init" | "initialize" | "stopped" => Style::Notable,
        _ => Style::Plain,
    }
}

/// Keeps one group with its virtual routers, or one virtual router with its group.
fn narrow(status: &mut Status, name: &str) -> anyhow::Result<()> {
    let is_group = status.groups.iter().any(|group| group.name == name);
    let group = if is_group {
        name.to_owned()
    } else {
        match status.virtual_routers.iter().find(|router| router.name == name) {
            Some(router) => router.group.clone(),
            None if status.no_answer.is_empty() => {
                bail!("there is no group or virtual router {name}")
            }
            None => bail!("no answer from the {} thread", status.no_answer.join(" and ")),
        }
    };
    status.groups.retain(|other| other.name == group);
    status.hooks.retain(|hook| hook.group == group);
    status
        .virtual_routers
        .retain(|router| if is_group { router.group == name } else { router.name == name });
    Ok(())
}

fn describe(page: &mut Page, status: &Status, now: SystemTime) {
    page.line(&format!("router {}", status.router));
    for thread in &status.no_answer {
        page.words(&[
            Cell::styled("no answer", Style::Bad),
            format!("from the {thread} thread; what it knows is missing here").into(),
        ]);
    }
    if let Some(scheduling) = &status.scheduling {
        punctuality(page, scheduling);
    }
    groups(page, &status.groups, now);
    virtual_routers(page, &status.virtual_routers);
    tracked(page, &status.groups);
    if let Some(replication) = &status.replication {
        replication::describe(page, replication);
    }
    routes::describe(page, &status.network);
    checks(page, &status.checks);
    hooks(page, &status.hooks);
    if let Some(fifo) = &status.notify_fifo {
        notify_fifo(page, fifo);
    }
}

/// What is too much for the whole router: every counter, and what the hooks said.
fn describe_more(page: &mut Page, status: &Status) {
    for router in &status.virtual_routers {
        let mut table = Table::new(&["COUNTER", "VALUE"]);
        for (name, value) in &router.statistics {
            table.row([name.into(), value.to_string().into()]);
        }
        page.gap();
        page.line(&format!("counters of {}", router.name));
        page.table(&table);
    }
    for hook in status.hooks.iter().filter(|hook| !hook.output.is_empty()) {
        page.gap();
        page.line(&format!("output of {}", hook.command));
        for line in &hook.output {
            page.line(&format!("  {line}"));
        }
    }
}

/// How late advertisements were, and what that has led to. Another router gives a master up after
/// three intervals.
fn punctuality(page: &mut Page, scheduling: &Scheduling) {
    let late = scheduling.worst_late_last_minute_us;
    let show = |us: u64| format!("{}.{} ms", us / 1000, us % 1000 / 100);
    let (worst, recent) = (show(scheduling.worst_late_us), show(late));
    page.line(&format!("worst lateness {recent} in the last minute, {worst} since the start"));
    let interval = scheduling.shortest_interval_us.unwrap_or(u64::MAX);
    let mut say = |text: String| page.words(&[Cell::styled("late", Style::Bad), text.into()]);
    if late >= interval {
        let (late, interval) = (late / 1000, interval / 1000);
        say(format!(
            "advertisements were up to {late} ms late in the last minute, the shortest interval is {interval} ms"
        ));
    }
    if scheduling.overslept > 0 {
        let count = scheduling.overslept;
        say(format!(
            "not scheduled for so long that another router may have taken over: {count} times"
        ));
    }
    if scheduling.receive_drops > 0 {
        let count = scheduling.receive_drops;
        say(format!("{count} advertisements were lost because they were not read in time"));
    }
}

fn groups(page: &mut Page, groups: &[Group], now: SystemTime) {
    let mut table = Table::new(&["GROUP", "STATE", "FOR", "WHY"]);
    for group in groups {
        let mut why = match &group.step {
            None => group.reason.clone(),
            Some(step) => format!("{} (under way: {step})", group.reason),
        };
        if let Some(waiting) = &group.waiting {
            let _ = write!(why, "; {waiting}");
        }
        table.row([
            (&group.name).into(),
            Cell::styled(&group.state, state_style(&group.state)),
            age(&group.since, now).into(),
            why.into(),
        ]);
    }
    page.gap();
    page.table(&table);
}

fn virtual_routers(page: &mut Page, routers: &[VirtualRouter]) {
    let mut table = Table::new(&[
        "VIRTUAL ROUTER",
        "GROUP",
        "INTERFACE",
        "VRID",
        "VERSION",
        "STATE",
        "PRIORITY",
        "MASTER",
    ]);
    for router in routers {
        let priority = if router.priority == router.effective_priority {
            router.priority.to_string()
        } else {
            format!("{} (configured {})", router.effective_priority, router.priority)
        };
        table.row([
            (&router.name).into(),
            (&router.group).into(),
            (&router.interface).into(),
            router.vrid.to_string().into(),
            format!("{} {}", router.version, router.family).into(),
            Cell::styled(&router.state, state_style(&router.state)),
            priority.into(),
            router.master_address.as_deref().unwrap_or("-").into(),
        ]);
    }
    if !routers.is_empty() {
        page.gap();
    }
    page.table(&table);
    for router in routers {
        let errors: Vec<String> = router
            .statistics
            .iter()
            .filter(|(name, value)| **value > 0 && counts_errors(name))
            .map(|(name, value)| format!("{value} {name}"))
            .collect();
        if !errors.is_empty() {
            page.words(&[
                Cell::styled("counted", Style::Notable),
                format!("on {} for {}: {}", router.interface, router.name, errors.join(", "))
                    .into(),
            ]);
        }
        if let Some(waiting) = &router.waiting {
            page.words(&[
                Cell::styled("waiting", Style::Notable),
                format!("on {} for {}: {waiting}", router.interface, router.name).into(),
            ]);
        }
        if let Some(other) = &router.other_master {
            page.words(&[
                Cell::styled("two masters", Style::Bad),
                format!("on {} for {}: {other}", router.interface, router.name).into(),
            ]);
        }
        if let Some(withheld) = &router.withheld {
            page.words(&[
                Cell::styled("withheld", Style::Bad),
                format!("on {} for {}: {withheld}", router.interface, router.name).into(),
            ]);
        }
        if let Some(why) = &router.sending {
            page.words(&[
                Cell::styled("not sent", Style::Bad),
                format!("on {} for {}: {why}", router.interface, router.name).into(),
            ]);
        }
        let rejected = router.rejected.iter().map(|sentence| ("rejected", sentence));
        let differs = router.differs.iter().map(|sentence| ("differs", sentence));
        for (label, sentence) in rejected.chain(differs) {
            page.words(&[
                Cell::styled(label, Style::Notable),
                format!("on {} for {}: {sentence}", router.interface, router.name).into(),
            ]);
        }
    }
}

/// Whether the counter with this name is 0 on a link where all is well.
fn counts_errors(name: &str) -> bool {
    name.contains("error") || name.contains("failure")
}

/// What is tracked, and what follows from it. Checks that are a fault have a table of their own.
fn tracked(page: &mut Page, groups: &[Group]) {
    let mut table = Table::new(&["TRACKED", "FOR", "STATE", "WEIGHT", "EFFECT", "SEEN"]);
    let mut any = false;
    for group in groups {
        let shown = |one: &&Tracked| one.weight.is_some() || !one.object.starts_with("check ");
        for one in group.tracked.iter().filter(shown) {
            any = true;
            let weight = one.weight.map_or_else(|| "fault".to_owned(), |weight| weight.to_string());
            let effect = match (one.weight, one.state.as_str()) {
                (None, "bad") => Cell::styled("fault", Style::Bad),
                (None, "unknown") => Cell::styled("waited for", Style::Notable),
                (Some(_), _) if one.effect != 0 => format!("{:+}", one.effect).into(),
                (None | Some(_), _) => "-".into(),
            };
            table.row([
                (&one.object).into(),
                one.virtual_router.as_ref().unwrap_or(&group.name).into(),
                Cell::styled(&one.state, verdict_style(&one.state)),
                weight.into(),
                effect,
                (if one.detail.is_empty() { "-" } else { one.detail.as_str() }).into(),
            ]);
        }
    }
    if any {
        page.gap();
        page.table(&table);
    }
}

fn verdict_style(state: &str) -> Style {
    match state {
        "good" => Style::Good,
        "bad" => Style::Bad,
        _ => Style::Notable,
    }
}

fn checks(page: &mut Page, checks: &[Check]) {
    if checks.is_empty() {
        return;
    }
    let mut table = Table::new(&["CHECK", "STATE", "LAST RUN"]);
    for check in checks {
        let style = verdict_style(&check.state);
        table.row([
            (&check.name).into(),
            Cell::styled(&check.state, style),
            (&check.detail).into(),
        ]);
    }
    page.gap();
    page.table(&table);
}

fn notify_fifo(page: &mut Page, fifo: &Fifo) {
    let mut words: Vec<Cell> = vec![
        format!(
            "pipe {}: {} lines written, {} bytes not read",
            fifo.path, fifo.written, fifo.unread_bytes
        )
        .into(),
    ];
    if fifo.lost > 0 {
        words.push(Cell::styled(format!("{} lines lost", fifo.lost), Style::Bad));
    }
    if let Some(error) = &fifo.error {
        words.push(Cell::styled(error, Style::Bad));
    }
    if let Some(reader) = &fifo.reader {
        let style = if reader == "running" { Style::Good } else { Style::Bad };
        words.push("reader".into());
        words.push(Cell::styled(reader, style));
    }
    page.gap();
    page.words(&words);
}

fn hooks(page: &mut Page, hooks: &[Hook]) {
    if hooks.is_empty() {
        return;
    }
    let mut table = Table::new(&["HOOK OF", "FOR", "STARTED", "TOOK", "RESULT"]);
    for hook in hooks {
        let style = match hook.result.as_str() {
            "exit status 0" => Style::Good,
            "running" | "waiting" => Style::Notable,
            _ => Style::Bad,
        };
        let of = hook.virtual_router.as_ref().unwrap_or(&hook.group);
        table.row([
            of.into(),
            (&hook.state).into(),
            hook.started.as_deref().unwrap_or("-").into(),
            hook.took_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms")).into(),
            Cell::styled(&hook.result, style),
        ]);
    }
    page.gap();
    page.table(&table);
}

/// How long ago, in the two largest units; the moment itself when it cannot be read.
fn age(since: &str, now: SystemTime) -> String {
    let Ok(at) = humantime::parse_rfc3339(since) else { return since.to_owned() };
    let seconds = now.duration_since(at).unwrap_or_default().as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

#[cfg(test)]
mod tests;
