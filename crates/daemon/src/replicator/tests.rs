//! The thread on the real kernel, each router in a network namespace of its own.

mod flows;
mod requests;
mod router;
mod serving;
mod turns;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;

use flows::{change, flow, make, remove, table};
use lockstep_ctnetlink::{Flow, Status};
use lockstep_failover::{Outcome, Step};
use lockstep_lab::{Interface, Lan, Node};
use lockstep_replicator::{Link, Transport};
use router::{LINK, Router, config, interface, node, pair};

use super::*;

/// The kernel raises it to the least it knows: room for some two events.
const TINY: usize = 1;

// ---- lost events ----

#[test]
fn after_lost_events_both_routers_have_what_the_kernel_has() {
    let Some((lan, [node, peer])) = pair() else { return };
    let mut settings = config();
    settings.event_buffer = TINY;
    let mut active = Router::start(node, settings.clone());
    let mut standby = Router::start(peer, settings);
    active.become_active();
    standby.until("the empty copy", |status| status.in_sync);
    for round in 0..2 {
        active.node.run(|| flood(round)).unwrap();
        let real = table(&active.node);
        assert!(active.lost_events() > 0, "the test has to make the kernel lose events");
        let here = real.len() as u64;
        let settled = |status: &status::Replication| status.jobs.is_empty();
        active.until("the kernel's count", |status| status.internal == here && settled(status));
        active.until("the peer knows", |status| status.peers.iter().all(|peer| peer.behind == 0));
        standby.until("the same at the peer", |status| status.external == here && status.in_sync);
    }
    let real = table(&active.node);
    assert!(real.iter().any(|flow| flow.zone == ZONE) && real.iter().any(|flow| flow.zone == 0));
    assert_eq!(standby.status().external, real.len() as u64, "in sync means all of them");
    assert!(matches!(standby.step(Step::CommitFlows), Outcome::Done(_)));
    let taken_over = table(&standby.node);
    assert_eq!(taken_over.len(), real.len());
    for (theirs, ours) in taken_over.iter().zip(&real) {
        let compared = |flow: &Flow| (flow.key(), flow.reply, flow.mark);
        assert_eq!(compared(theirs), compared(ours));
    }
    drop(lan);
}

const FLOOD: u32 = 30_000;
const ZONE: u16 = 7;

/// More than 60 000 flows are made, in two zones; then every third goes, every fifth gets a mark,
/// and every ninth comes back with another translation.
fn flood(round: u32) {
    let numbers = || (round * FLOOD..(round + 1) * FLOOD).flat_map(|n| [flow(n), in_zone(n)]);
    let every = |nth| numbers().step_by(nth);
    assert_eq!(make(numbers()), 0);
    assert_eq!(remove(every(3)), 0);
    change(every(5).map(|flow| Flow { mark: Some(round + 1), ..flow }));
    assert_eq!(make(every(9).map(translated)), 0);
}

fn in_zone(number: u32) -> Flow {
    Flow { zone: ZONE, ..flow(number) }
}

fn translated(mut flow: Flow) -> Flow {
    flow.reply.destination = "203.0.113.1".parse().unwrap();
    flow.status = Status(Status::SEEN_REPLY | Status::ASSURED | Status::SRC_NAT);
    flow
}

#[test]
fn events_older_than_a_reading_are_not_taken_for_news_after_it() {
    const MANY: u32 = 130_000;
    let Some(node) = node() else { return };
    let mut settings = config();
    // Room for more events than are taken in a row, and less than for all.
    settings.event_buffer = 64 << 20;
    settings.cache_limit = 1 << 20;
    let mut router = Router::start(node, settings);
    router.become_active();
    router.hold();
    router.node.run(|| assert_eq!(make((0..MANY).map(flow)), 0)).unwrap();
    assert!(router.lost_events() > 0, "the test has to make the kernel lose events");
    router.node.run(|| assert_eq!(remove((0..MANY).map(flow)), 0)).unwrap();
    router.release();
    // The queue holds some 100 000 creations and not one removal.
    router.until("the events taken", |status| status.statistics["internal-created"] > 64_000);
    router.until("an empty queue", |_| router.waiting_events() == 0);
    router.until("an empty cache, as the kernel's", |status| status.internal == 0);
}

// ---- purge ----

#[test]
fn what_was_ours_leaves_the_kernel_and_what_came_later_stays() {
    let Some((_lan, [node, peer])) = pair() else { return };
    let mut settings = config();
    settings.purge_timeout = Duration::from_secs(2);
    let _other = serving(peer, settings.clone());
    let mut router = Router::start(node, settings);
    router.node.run(|| assert_eq!(make((0..1000).map(flow)), 0)).unwrap();
    router.become_active();
    router.node.run(|| assert_eq!(make((1000..2000).map(flow)), 0)).unwrap();
    router.until("all of them", |status| status.internal == 2000);
    router.become_backup();
    // Number 7 ends, and somebody else makes another of the same tuple.
    let made_later = || (7..8).chain(2000..2010).map(flow);
    router.node.run(|| assert_eq!((remove([flow(7)]), make(made_later())), (0, 0))).unwrap();
    router.until("the purge", |status| status.statistics["purged"] > 0 && status.internal == 11);
    let left: Vec<_> = table(&router.node).iter().map(Flow::key).collect();
    assert_eq!(left, made_later().map(|flow| flow.key()).collect::<Vec<_>>());
    assert_eq!(router.status().statistics["purged"], 1999);
}

/// A router that serves with a flow of its own.
fn serving(node: Node, settings: Config) -> Router {
    node.run(|| assert_eq!(make([flow(9_000)]), 0)).unwrap();
    let mut router = Router::start(node, settings);
    router.become_active();
    router
}

#[test]
fn a_flow_made_anew_while_events_were_lost_is_not_purged() {
    let Some((_lan, [node, peer])) = pair() else { return };
    let mut settings = config();
    settings.event_buffer = TINY;
    settings.purge_timeout = Duration::from_secs(4);
    let mut ordinary = settings.clone();
    ordinary.event_buffer = config().event_buffer;
    let _other = serving(peer, ordinary);
    let mut router = Router::start(node, settings);
    router.node.run(|| assert_eq!(make((0..20).map(flow)), 0)).unwrap();
    router.become_active();
    router.become_backup();
    router.hold();
    let others = || (100..200).map(flow);
    router.node.run(|| assert_eq!((make(others()), remove(others())), (0, 0))).unwrap();
    assert!(router.lost_events() > 0, "the test has to make the kernel lose events");
    router.node.run(|| assert_eq!((remove([flow(7)]), make([flow(7)])), (0, 0))).unwrap();
    router.release();
    router.until("the purge", |status| status.statistics["purged"] > 0 && status.internal <= 1);
    let left: Vec<_> = table(&router.node).iter().map(Flow::key).collect();
    assert_eq!(left, [flow(7).key()]);
}

#[test]
fn a_commit_before_the_time_is_up_calls_the_purge_off() {
    let (Some(node), Some(control)) = (node(), node()) else { return };
    let mut settings = config();
    settings.purge_timeout = Duration::from_secs(1);
    let [mut router, control] = [node, control].map(|node| {
        node.run(|| assert_eq!(make((0..100).map(flow)), 0)).unwrap();
        let router = Router::start(node, settings.clone());
        router.until("all of them", |status| status.internal == 100);
        assert!(router.command(crate::messages::Command::Purge).is_ok());
        router
    });
    assert!(matches!(router.step(Step::CommitFlows), Outcome::Done(_)));
    // The other one, which was asked later, shows that the time is up.
    control.until("the purge", |status| status.statistics["purged"] == 100);
    router.attend();
    assert_eq!(table(&router.node).len(), 100);
    assert_eq!(router.status().statistics["purged"], 0);
}

#[test]
fn a_purge_that_is_due_is_called_off_by_a_step_that_comes_first() {
    let mut settings = config();
    settings.purge_timeout = Duration::ZERO;
    for step in [Step::CommitFlows, Step::ReplicateActive] {
        let Some(node) = node() else { return };
        node.run(|| assert_eq!(make((0..100).map(flow)), 0)).unwrap();
        let mut router = Router::start(node, settings.clone());
        router.until("all of them", |status| status.internal == 100);
        // With no time between them, the purge is due when the step's turn comes.
        router.hold();
        let purge = router.order(crate::messages::Command::Purge);
        router.ask(step);
        router.release();
        router.answered();
        assert!(purge.blocking_recv().unwrap().is_ok());
        router.attend();
        assert_eq!(table(&router.node).len(), 100, "{step:?}: the router is about to serve");
        assert_eq!(router.status().statistics["purged"], 0);
    }
}

// ---- the link ----

#[test]
fn replication_goes_on_when_the_link_has_gone_and_come_back() {
    let Some((lan, [node, peer])) = pair() else { return };
    let mut active = Router::start(node, config());
    let standby = Router::start(peer, config());
    active.become_active();
    active.node.run(|| assert_eq!(make((0..100).map(flow)), 0)).unwrap();
    standby.until("the first flows", |status| status.external == 100 && status.in_sync);
    // Away for long on one side, for long on the other, and made anew at once.
    for (number, (gone, long)) in [(0, true), (1, true), (0, false)].into_iter().enumerate() {
        let loser = if gone == 0 { &active } else { &standby };
        delete_link(loser);
        if long {
            let named = "; no flows pass: there is no interface eth1";
            loser.until("the link's name", |status| status.reason.ends_with(named));
            standby.until("the truth", |status| !status.in_sync && !status.reason.is_empty());
        }
        let from = 100 * (number as u32 + 1);
        active.node.run(|| assert_eq!(make((from..from + 100).map(flow)), 0)).unwrap();
        loser.node.attach(&lan, &interface(gone)).unwrap();
        let count = u64::from(from) + 100;
        standby.until("all flows", |status| status.external == count && status.in_sync);
    }
}

#[test]
fn a_link_that_is_missing_at_the_start_is_named_and_used_when_it_comes() {
    let (Some(node), Some(peer)) = (node(), node()) else { return };
    let mut active = Router::start(node, config());
    let standby = Router::start(peer, config());
    active.become_active();
    active.node.run(|| assert_eq!(make((0..100).map(flow)), 0)).unwrap();
    active.until("its own flows", |status| status.internal == 100);
    for router in [&active, &standby] {
        let reason = router.status().reason;
        assert!(reason.ends_with("; no flows pass: there is no interface eth1"), "{reason}");
    }
    assert!(!standby.status().in_sync);
    let lan = Lan::new().unwrap();
    for (side, router) in [&active, &standby].into_iter().enumerate() {
        router.node.attach(&lan, &interface(side)).unwrap();
    }
    standby.until("all flows", |status| status.external == 100 && status.in_sync);
}

#[test]
fn a_link_whose_address_comes_late_is_used() {
    let (Some(node), Some(peer)) = (node(), node()) else { return };
    let lan = Lan::new().unwrap();
    let mut active = Router::start(node, config());
    peer.attach(&lan, &interface(1)).unwrap();
    let standby = Router::start(peer, config());
    active.become_active();
    active.node.run(|| assert_eq!(make((0..100).map(flow)), 0)).unwrap();
    active.node.attach(&lan, &Interface::new(LINK)).unwrap();
    active.until("sockets on the link", |_| active.has_link_socket());
    active.node.add_address(LINK, "10.99.0.1/24".parse().unwrap()).unwrap();
    standby.until("all flows", |status| status.external == 100 && status.in_sync);
}

#[test]
fn a_stream_that_makes_no_sense_costs_its_own_connection_only() {
    let Some((lan, [node, peer])) = pair() else { return };
    let Some(stranger) = self::node() else { return };
    let third = Interface::new(LINK).address("10.99.0.3/24".parse().unwrap());
    stranger.attach(&lan, &third).unwrap();
    let mut active = Router::start(node, over_tcp("10.99.0.1", &["10.99.0.2", "10.99.0.3"]));
    let standby = Router::start(peer, over_tcp("10.99.0.2", &["10.99.0.1"]));
    active.become_active();
    active.node.run(|| assert_eq!(make((0..100).map(flow)), 0)).unwrap();
    standby.until("the first flows", |status| status.external == 100 && status.in_sync);
    let ended = |status: &status::Replication| status.links[0].statistics["connections-ended"];
    assert_eq!((ended(&active.status()), ended(&standby.status())), (0, 0));
    for round in 1..=3 {
        let senseless = || {
            let mut stream = TcpStream::connect(("10.99.0.1", 3780)).unwrap();
            stream.write_all(&[0; 64]).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            matches!(
                stream.read(&mut [0]).map_err(|error| error.kind()),
                Ok(0) | Err(ErrorKind::ConnectionReset)
            )
        };
        assert!(stranger.run(senseless).unwrap(), "it is closed");
        active.until("the end", |status| ended(status) == round);
    }
    active.node.run(|| assert_eq!(make((100..200).map(flow)), 0)).unwrap();
    standby.until("the others", |status| status.external == 200 && status.in_sync);
    assert_eq!(ended(&standby.status()), 0, "between the two nothing has ended");
}

fn over_tcp(local: &str, peers: &[&str]) -> Config {
    let peers = peers.iter().map(|peer| peer.parse().unwrap()).collect();
    let transport = Transport::Tcp { local: local.parse().unwrap(), peers };
    Config { links: vec![Link::new(LINK, transport)], ..config() }
}

#[test]
fn a_port_in_use_is_one_clear_error() {
    let Some((lan, [node, _peer])) = pair() else { return };
    let first = Router::start(node, config());
    let error = first.another(config()).unwrap_err();
    assert_eq!(format!("{error:#}"), "port 3780 on eth1 is in use");
    drop(lan);
}

fn delete_link(router: &Router) {
    let mut ip = Command::new("ip");
    ip.args(["link", "delete", LINK]);
    assert!(router.node.output(ip).unwrap().status.success());
}
