//! What people ask for, and the ways in which flows come over.

use lockstep_ctnetlink::Flow;
use lockstep_failover::{Outcome, Step};
use lockstep_lab::{Interface, Lan};
use lockstep_replicator::{Config, Link, Standby, Transport, is_parked};

use super::delete_link;
use super::flows::{expect, expected, expecting, flow, make, remove, session, table};
use super::router::{LINK, Router, config, node, pair};
use crate::control::protocol::{Cache, Caches, What};
use crate::messages::Command;

const SECOND_LINK: &str = "eth2";

/// An active router with `count` flows, and a backup that has them.
fn serving(settings: [Config; 2], count: u32) -> Option<(Lan, Router, Router)> {
    let (lan, [node, peer]) = pair()?;
    let [here, there] = settings;
    let mut active = Router::start(node, here);
    let standby = Router::start(peer, there);
    active.become_active();
    active.node.run(|| assert_eq!(make((0..count).map(flow)), 0)).unwrap();
    let count = u64::from(count);
    standby.until("all flows", |status| status.external == count && status.in_sync);
    Some((lan, active, standby))
}

#[test]
fn a_command_is_answered_when_it_has_been_done() {
    let Some((_lan, active, standby)) = serving([config(), config()], 500) else { return };
    let done = standby.command(Command::Commit(What::All)).unwrap();
    assert_eq!((done.counts["committed"], done.counts["refused"]), (500, 0), "{}", done.summary);
    assert_eq!(table(&standby.node).len(), 500);
    let commit = standby.status().last_commit.unwrap();
    assert!(commit.complete && commit.counts["created"] == 500, "{commit:?}");
    assert_eq!(standby.command(Command::Reread(What::All)).unwrap().counts["flows"], 500);
    let done = standby.command(Command::KernelFlush(What::All)).unwrap();
    assert_eq!(done.counts["removed"], 500);
    assert!(table(&standby.node).is_empty());
    assert_eq!(standby.command(Command::Flush(Caches::External)).unwrap().counts["external"], 500);
    assert_eq!(standby.status().external, 0);
    standby.command(Command::Resync).unwrap();
    standby.until("all flows again", |status| status.external == 500 && status.in_sync);
    assert_eq!(active.command(Command::Bulk).unwrap().counts["flows"], 500);
    assert_eq!(table(&active.node).len(), 500, "what the backup did is no concern of its peer");
}

#[test]
fn the_named_part_is_committed_read_and_removed_and_nothing_else() {
    let Some((_lan, active, standby)) = serving([config(), config()], 0) else { return };
    active.node.run(|| assert_eq!(make((0..3).map(session)), 0)).unwrap();
    active.node.run(|| expect(&expected(1))).unwrap();
    standby.until("all of it", |it| (it.external, it.external_expectations) == (3, 1));
    let done = standby.command(Command::Commit(What::Flows)).unwrap();
    assert_eq!((done.counts["committed"], done.counts["expectations"]), (3, 0));
    assert_eq!((table(&standby.node).len(), expecting(&standby.node)), (3, vec![]));
    let done = standby.command(Command::Commit(What::Expectations)).unwrap();
    assert_eq!((done.counts["committed"], done.counts["expectations"]), (0, 1));
    assert_eq!(expecting(&standby.node), [session(1).orig]);
    assert_eq!(standby.command(Command::Reread(What::Flows)).unwrap().counts["flows"], 3);
    let done = standby.command(Command::Reread(What::Expectations)).unwrap();
    assert_eq!((done.counts["flows"], done.counts["expectations"]), (3, 1));
    let done = standby.command(Command::KernelFlush(What::Expectations)).unwrap();
    assert_eq!((done.counts["removed"], expecting(&standby.node)), (1, vec![]));
    assert_eq!(table(&standby.node).len(), 3, "the flows stay");
    assert_eq!(expecting(&active.node), [session(1).orig], "and the peer's is its own");
}

#[test]
fn flows_of_an_address_that_comes_are_left_out_and_told_when_it_goes() {
    let Some((_lan, active, standby)) = serving([config(), config()], 100) else { return };
    active.node.run(|| assert_eq!(make((50_000..50_100).map(flow)), 0)).unwrap();
    standby.until("all flows", |status| status.external == 200);
    let address = format!("{}/32", flow(0).orig.source).parse().unwrap();
    active.node.add_address(LINK, address).unwrap();
    active.until("the others", |status| status.internal == 100);
    standby.until("the others", |status| status.external == 100);
    active.node.remove_address(LINK, address).unwrap();
    standby.until("all flows again", |status| status.external == 200);
}

#[test]
fn a_command_that_cannot_be_done_says_why() {
    let Some(node) = node() else { return };
    let mut router = Router::start(node, config());
    for command in [Command::Resync, Command::Bulk] {
        assert_eq!(router.command(command).unwrap_err(), "no peer is there");
    }
    router.become_active();
    let refused = router.command(Command::Purge).unwrap_err();
    assert_eq!(refused, "this router serves with these flows; they leave with its role");
}

#[test]
fn a_cache_is_shown_in_parts_that_make_it_whole() {
    let Some((_lan, active, standby)) = serving([config(), config()], 500) else { return };
    let real: Vec<_> = table(&active.node).iter().map(Flow::key).collect();
    for (router, cache) in [(&active, Cache::Internal), (&standby, Cache::External)] {
        let shown: Vec<_> = router.cached(cache, 64).iter().map(Flow::key).collect();
        assert_eq!(shown, real);
    }
}

#[test]
fn flows_come_over_every_transport() {
    let addresses = ["10.99.0.1", "10.99.0.2"].map(|address| address.parse().unwrap());
    for stream in [false, true] {
        let settings = [0, 1].map(|side| {
            let (local, peers) = (addresses[side], vec![addresses[1 - side]]);
            let transport = if stream {
                Transport::Tcp { local, peers }
            } else {
                Transport::Udp { local, peers }
            };
            Config { links: vec![Link::new(LINK, transport)], ..config() }
        });
        let Some((_lan, active, standby)) = serving(settings, 5_000) else { return };
        active.node.run(|| assert_eq!(remove((0..1_000).map(flow)), 0)).unwrap();
        standby.until("their end", |status| status.external == 4_000);
        let expected = if stream { "tcp" } else { "udp" };
        assert_eq!(standby.status().links[0].transport, expected);
    }
}

#[test]
fn flows_go_over_the_other_link_when_one_is_lost() {
    let Some((_lan, nodes)) = pair() else { return };
    let second = Lan::new().unwrap();
    for (node, address) in nodes.iter().zip(["10.98.0.1/24", "10.98.0.2/24"]) {
        let interface = Interface::new(SECOND_LINK).address(address.parse().unwrap());
        node.attach(&second, &interface).unwrap();
    }
    let mut settings = config();
    settings.links.push(Link { interface: SECOND_LINK.to_owned(), ..settings.links[0].clone() });
    let [node, peer] = nodes;
    let mut active = Router::start(node, settings.clone());
    let standby = Router::start(peer, settings);
    active.become_active();
    active.node.run(|| assert_eq!(make((0..100).map(flow)), 0)).unwrap();
    standby.until("all flows", |status| status.external == 100 && status.in_sync);
    delete_link(&active);
    active.node.run(|| assert_eq!(make((100..200).map(flow)), 0)).unwrap();
    standby.until("all flows", |status| status.external == 200 && status.in_sync);
    let links = active.status().links;
    let states: Vec<_> = links.iter().map(|link| link.state.as_str()).collect();
    assert_eq!(states, ["down", "active"], "{links:?}");
    assert!(links[0].reason.as_ref().is_some_and(|reason| reason.contains(LINK)), "{links:?}");
}

#[test]
fn a_backup_that_stands_by_in_its_kernel_has_nothing_to_commit() {
    let settings = Config { standby: Standby::Kernel, ..config() };
    let Some((_lan, active, mut standby)) = serving([settings.clone(), settings], 1_000) else {
        return;
    };
    active.node.run(|| assert_eq!(remove((0..100).map(flow)), 0)).unwrap();
    standby.until("the flows in the kernel", |status| {
        let injection = status.injection.as_ref().unwrap();
        (injection.in_kernel, injection.waiting) == (900, 0)
    });
    let flows = table(&standby.node);
    assert_eq!(flows.len(), 900);
    assert!(flows.iter().all(|flow| flow.timeout_s.is_some_and(is_parked)));
    // What somebody else removes there is put back, and counted.
    standby.node.run(|| assert_eq!(remove((100..110).map(flow)), 0)).unwrap();
    standby.until("the flows put back", |status| {
        let injection = status.injection.as_ref().unwrap();
        (injection.in_kernel, injection.counts["put-back"]) == (900, 10)
    });
    assert!(matches!(standby.step(Step::CommitFlows), Outcome::Done(_)));
    assert_eq!(standby.status().last_commit.unwrap().counts["committed"], 0);
    standby.become_active();
    standby.until("timeouts of their own", |status| {
        status.internal == 900 && status.jobs.is_empty() && table(&standby.node).iter().all(own)
    });
}

fn own(flow: &Flow) -> bool {
    !flow.timeout_s.is_some_and(is_parked)
}
