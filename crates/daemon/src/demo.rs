//! `lockstep demo`: a failover under live connections, in networks of its own.
//!
//! Two routers run the real daemon, a client and a server transfer through them, and then the
//! router in charge fails. Everything is made by this program, in namespaces that end with it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use lockstep_lab::RouterId;

mod daemon;
mod failure;
mod interrupt;
mod options;
mod privilege;
mod report;
mod stage;
mod story;

pub(crate) use options::Options;

use daemon::Since;
use failure::Failure;
use interrupt::Interrupt;
use report::{Change, Event, Report};
use stage::Stage;
use story::Story;

use crate::status::{Replication, Transition};

/// Runs the demo.
///
/// # Errors
/// When it cannot be run to its end, or when not every connection has survived.
pub(crate) fn demo(options: &Options) -> anyhow::Result<()> {
    if let Some(paths) = &options.router {
        return daemon::be_a_router(paths);
    }
    let mut story = Story::new(options.json);
    privilege::obtain(&mut story)?;
    let interrupt = Interrupt::watch()?;
    story.introduce(options)?;
    let mut stage = build(options, &mut story, &interrupt)?;
    let mut report = Report::new(options);

    report.events.push(fail_over(options, &mut stage, &mut story, &interrupt)?);
    if options.failback {
        report.events.push(fail_back(options, &mut stage, &mut story, &interrupt)?);
    }
    story.conclude(&report)?;
    if options.keep {
        story.show_around(&stage)?;
        interrupt.wait();
    }
    if !report.survived() {
        bail!("not every connection has survived");
    }
    Ok(())
}

/// Up to the moment before the failure: router A serves, and router B knows all it knows.
fn build(options: &Options, story: &mut Story, interrupt: &Interrupt) -> anyhow::Result<Stage> {
    let mut stage = Stage::build(options)?;
    story.tell("built the network: a client, two routers, a server, each in a namespace")?;
    for id in RouterId::BOTH {
        stage.start_router(id)?;
    }
    let patience = START_PATIENCE + options.advertisement_interval * 10;
    interrupt.until(patience, "router A to take charge", || {
        Ok((stage.state_of(RouterId::A)? == "master" && stage.state_of(RouterId::B)? == "backup")
            .then_some(()))
    })?;
    story.tell("router A is in charge (master), router B stands by (backup)")?;

    stage.start_traffic(options)?;
    story.tell(&format!(
        "{} connections transfer both ways, every byte is checked; a probe asks every millisecond",
        options.connections
    ))?;
    if options.flows > 0 {
        stage.install_flows(RouterId::A, options.flows)?;
        story.tell(&format!("router A also remembers {} other connections", options.flows))?;
    }
    let copied = wait_until_in_sync(options, &stage, RouterId::B, interrupt)?;
    story.tell(&format!("router A has told router B all of them: it knows {copied}"))?;
    Ok(stage)
}

fn fail_over(
    options: &Options,
    stage: &mut Stage,
    story: &mut Story,
    interrupt: &Interrupt,
) -> anyhow::Result<Event> {
    let (failed, successor) = (RouterId::A, RouterId::B);
    stage.begin_measuring();
    let since = Since::now(stage.daemon(successor)?)?;
    options.failure.apply(stage, failed)?;
    story.alarm(options.failure.sentence())?;
    watch_change(Change::Failover, options, stage, since, successor, story, interrupt)
}

fn fail_back(
    options: &Options,
    stage: &mut Stage,
    story: &mut Story,
    interrupt: &Interrupt,
) -> anyhow::Result<Event> {
    stage.begin_measuring();
    let since = match options.failure {
        Failure::Kill | Failure::Stop => Since::start(),
        Failure::Link | Failure::Check => Since::now(stage.daemon(RouterId::A)?)?,
    };
    options.failure.repair(stage, RouterId::A)?;
    story.tell(options.failure.repair_sentence())?;
    if matches!(options.failure, Failure::Kill | Failure::Stop) {
        story.tell("before it takes its place again it lets router B tell it all connections")?;
    }
    watch_change(Change::Failback, options, stage, since, RouterId::A, story, interrupt)
}

/// Follows a change of mastership until the traffic has settled, and measures it.
fn watch_change(
    change: Change,
    options: &Options,
    stage: &mut Stage,
    since: Since,
    successor: RouterId,
    story: &mut Story,
    interrupt: &Interrupt,
) -> anyhow::Result<Event> {
    let transition = watch_take_over(options, stage, &since, successor, story, interrupt)?;
    let in_charge = Instant::now();
    story.tell(&format!("router {} is in charge", successor.name()))?;

    let traffic = stage.traffic()?;
    // A service that stays away shows in the verdict.
    let resumed = traffic.probe.wait_for_answers(in_charge, ANSWER_PATIENCE).unwrap_or(in_charge);
    let settle = SETTLE_PATIENCE + traffic.probe.longest_outage(since.instant).duration() * 6;
    let deadline = Instant::now() + settle;
    while traffic.connections.verdict(resumed).stalled > 0 && Instant::now() < deadline {
        interrupt.pause(LOOK_EVERY)?;
    }
    // A reset may still be on its way to the end that did not cause it.
    interrupt.pause(AFTERMATH)?;
    let verdict = traffic.connections.verdict(resumed);
    let outage = traffic.probe.longest_outage(since.instant);
    let carried = lockstep_lab::traffic::flows::count(stage.router(successor)?)?;
    let event = Event::new(change, successor, &since, transition, outage, &verdict)
        .with_flows(carried, options.flows);
    story.measure(&event)?;
    Ok(event)
}

/// Waits for the transition that makes a router master, and tells how it comes to it.
fn watch_take_over(
    options: &Options,
    stage: &mut Stage,
    since: &Since,
    successor: RouterId,
    story: &mut Story,
    interrupt: &Interrupt,
) -> anyhow::Result<Transition> {
    let name = successor.name();
    let patience = CHANGE_PATIENCE + options.advertisement_interval * 20 + sync_patience(options);
    let begun = interrupt.until(patience, &format!("router {name} to take over"), || {
        let daemon = stage.daemon_if_ready(successor)?;
        daemon.map_or(Ok(None), |daemon| daemon.mastery(since))
    })?;
    story.tell(&format!("router {name} takes over, because {}", begun.reason))?;
    interrupt.until(patience, &format!("router {name} to have taken over"), || {
        let transition = stage.daemon(successor)?.mastery(since)?;
        Ok(transition
            .filter(|transition| transition.steps.iter().all(|step| step.took_us.is_some())))
    })
}

/// Waits until a standby holds every connection; gives how many that are.
fn wait_until_in_sync(
    options: &Options,
    stage: &Stage,
    standby: RouterId,
    interrupt: &Interrupt,
) -> anyhow::Result<u64> {
    let expected = u64::from(options.flows) + options.connections as u64;
    let name = standby.name();
    let known = |id| -> anyhow::Result<Replication> {
        let replication = stage.daemon(id)?.status()?.replication;
        replication.context("a daemon says nothing about replication")
    };
    let waited = interrupt.until(sync_patience(options), "the connections to be copied", || {
        let standby = known(standby)?;
        let complete = standby.in_sync && standby.external >= expected;
        Ok(complete.then_some(standby.external))
    });
    if waited.is_ok() || interrupt.is_set() {
        return waited;
    }
    let (active, standby) = (known(standby.other())?, known(standby)?);
    waited.with_context(|| {
        format!(
            "of {expected} connections the router in charge knows {}, router {name} {} ({})",
            active.internal, standby.external, standby.reason
        )
    })
}

fn sync_patience(options: &Options) -> Duration {
    Duration::from_secs(30) + Duration::from_secs(u64::from(options.flows) / 4000)
}

const START_PATIENCE: Duration = Duration::from_secs(20);
const CHANGE_PATIENCE: Duration = Duration::from_secs(15);
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
const SETTLE_PATIENCE: Duration = Duration::from_secs(15);
const AFTERMATH: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);
