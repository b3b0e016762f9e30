//! Who has a turn when several have something for the thread at once.

use std::net::UdpSocket;

use lockstep_lab::Node;
use lockstep_replicator::{LinkState, Origin};
use tokio::time::timeout;

use super::super::links::DATAGRAMS_IN_A_ROW;
use super::super::*;
use super::flows::{flow, make};
use super::router::{LINK, config, node, pair};
use crate::messages::QUEUE;

/// A sign of life in the peer's protocol.
const ALIVE: [u8; 8] = [0x1a, 0x30, 0, 8, 0, 0, 0, 1];
/// A machine that does much else is slow.
const LIMIT: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// Runs `work` with an actor that does only what it is told, in the network namespace of `node`.
fn with_actor<T: Send>(node: &Node, work: impl AsyncFnOnce(&mut Actor) -> T + Send) -> T {
    node.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_requests, queue) = mpsc::channel(QUEUE);
            let (core, _events) = mpsc::channel(QUEUE);
            let mut actor = Actor::start(config(), queue, core, Pulse::default()).unwrap();
            actor.redump_at = None;
            actor.housekeeping_at = Instant::now() + HOUR;
            work(&mut actor).await
        })
    })
    .unwrap()
}

#[test]
fn what_is_left_in_line_is_sent_although_nothing_happens() {
    let Some(node) = node() else { return };
    with_actor(&node, async |actor| {
        // A peer that has not answered the greeting is demanded to, and no clock runs out soon.
        let later = Instant::now() + HOUR;
        let peer = "10.99.0.2".parse().unwrap();
        actor.replicator.handle_datagram(Origin::group(0, peer), &ALIVE, later);
        actor.replicator.handle_timeout(later + Duration::from_millis(100));
        let up = LinkState::Up { max_datagram: 20 };
        actor.replicator.link_changed(0, up, Instant::now());
        let mut turns = 0;
        loop {
            actor.transmit();
            if !actor.more_to_send {
                break;
            }
            timeout(LIMIT, actor.wait()).await.expect("a turn for what is left in line");
            turns += 1;
        }
        assert!(turns > 0, "more than is sent in one turn");
        assert!(actor.replicator.counters().messages_sent > 300);
    });
}

#[test]
fn however_much_comes_from_the_peer_the_kernel_is_heard() {
    let Some((_lan, [node, peer])) = pair() else { return };
    with_actor(&node, async |actor| {
        peer.run(|| {
            let socket = UdpSocket::bind("10.99.0.2:0").unwrap();
            for _ in 0..4 * DATAGRAMS_IN_A_ROW {
                socket.send_to(&ALIVE, "225.0.0.50:3780").unwrap();
            }
        })
        .unwrap();
        let heard = |actor: &Actor| actor.replicator.counters().datagrams_received;
        let deadline = Instant::now() + LIMIT;
        while heard(actor) == 0 {
            assert!(Instant::now() < deadline, "nothing comes over {LINK}");
            actor.wait().await;
        }
        let before = heard(actor);
        assert_eq!(make((0..10).map(flow)), 0);
        actor.wait().await;
        assert!(heard(actor) > before, "the link has to have more");
        assert_eq!(actor.replicator.internal_len(), 10);
    });
}

#[test]
fn an_event_socket_that_fails_is_replaced_once_and_then_given_up() {
    let Some(node) = node() else { return };
    with_actor(&node, async |actor| {
        let failure = || std::io::Error::from_raw_os_error(nix::libc::ENOMEM);
        actor.reopen_events(failure());
        assert!(actor.hopeless.is_none());
        assert!(actor.redump_at.is_some(), "what happened meanwhile is read from the table");
        assert_eq!(make((0..10).map(flow)), 0);
        actor.listen();
        assert_eq!(actor.replicator.internal_len(), 10);
        actor.reopen_events(failure());
        let error = actor.hopeless.take().unwrap();
        assert!(format!("{error:#}").starts_with("the kernel's events cannot be heard: "));
    });
}

#[test]
fn every_step_is_answered_by_a_thread_that_ends() {
    let Some(node) = node() else { return };
    node.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (requests, queue) = mpsc::channel(QUEUE);
            let (core, mut events) = mpsc::channel(QUEUE);
            let mut actor = Actor::start(config(), queue, core, Pulse::default()).unwrap();
            actor.hopeless = Some(anyhow::anyhow!("no more sockets"));
            actor.waiting.push_back((StepId(1), Step::ReplicateBackup));
            actor.waiting.push_back((StepId(2), Step::CommitFlows));
            let steps = [3, 4].map(|id| (StepId(id), Step::CommitFlows)).to_vec();
            requests.send(ReplicatorRequest::Steps(steps)).await.unwrap();
            assert_eq!(Box::pin(actor.run()).await.unwrap_err().to_string(), "no more sockets");
            let mut answers = Vec::new();
            while let Some(event) = events.recv().await {
                if let CoreEvent::Stepped(ended) = event {
                    let done = |outcome| matches!(outcome, Outcome::Done(_));
                    answers.extend(ended.into_iter().map(|(id, outcome)| (id.0, done(outcome))));
                }
            }
            assert_eq!(answers, [(1, true), (2, false), (3, false), (4, false)]);
        });
    })
    .unwrap();
}

#[test]
fn a_core_that_has_ended_does_not_end_the_replicator() {
    let Some(node) = node() else { return };
    with_actor(&node, async |actor| {
        let (core, events) = mpsc::channel(QUEUE);
        actor.core = core;
        drop(events);
        actor.waiting.push_back((StepId(1), Step::ReplicateActive));
        actor.work().await.expect("whoever waits for the core sees to its end");
        assert!(!actor.stop, "it is stopped in its turn");
    });
}
