//! Who has a turn when several have something for the thread at once.

use std::net::UdpSocket;

use lockstep_lab::Node;
use lockstep_replicator::{LinkState, Origin};
use tokio::time::timeout;

use super::super::links::DATAGRAMS_IN_A_ROW;
use super::super::*;
use super::flows::{flow, make, table};
use super::router::{LINK, config, group_step, node, pair};
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
        let speak = || {
            peer.run(|| {
                let socket = UdpSocket::bind("10.99.0.2:0").unwrap();
                for _ in 0..4 * DATAGRAMS_IN_A_ROW {
                    socket.send_to(&ALIVE, "225.0.0.50:3780").unwrap();
                }
            })
            .unwrap();
        };
        let heard = |actor: &Actor| actor.replicator.counters().datagrams_received;
        let deadline = Instant::now() + LIMIT;
        while heard(actor) == 0 {
            assert!(Instant::now() < deadline, "nothing comes over {LINK}");
            // The link has perhaps not been up when the last ones came.
            speak();
            drop(timeout(Duration::from_millis(500), actor.wait()).await);
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
            actor.waiting.push_back(group_step(1, Step::ReplicateBackup));
            actor.waiting.push_back(group_step(2, Step::CommitFlows));
            let steps = [3, 4].map(|id| group_step(id, Step::CommitFlows)).to_vec();
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
        actor.waiting.push_back(group_step(1, Step::ReplicateActive));
        actor.work().await.expect("whoever waits for the core sees to its end");
        assert!(!actor.stop, "it is stopped in its turn");
    });
}

/// Has a peer tell the actor's replicator of flows, without a network.
fn tell(actor: &mut Actor, flows: u32) {
    let now = Instant::now();
    let mut peer = Replicator::new(config(), start(), now);
    peer.activate(now);
    peer.begin_dump();
    (0..flows).for_each(|number| peer.dumped(&flow(number), now));
    assert!(peer.end_dump(now));
    let [here, there] = ["10.99.0.1", "10.99.0.2"].map(|address| address.parse().unwrap());
    let up = LinkState::Up { max_datagram: USUAL_DATAGRAM };
    let mut buffer = Vec::new();
    for replicator in [&mut peer, &mut actor.replicator] {
        replicator.link_changed(0, up.clone(), now);
    }
    for later in 0.. {
        let now = now + Duration::from_millis(10 * later);
        assert!(later < 1_000, "the flows do not arrive");
        if actor.replicator.external_len() == flows as usize {
            return;
        }
        while peer.poll_transmit(now, &mut buffer).is_some() {
            actor.replicator.handle_datagram(Origin::group(0, there), &buffer, now);
        }
        while actor.replicator.poll_transmit(now, &mut buffer).is_some() {
            peer.handle_datagram(Origin::group(0, here), &buffer, now);
        }
        peer.handle_timeout(now);
        actor.replicator.handle_timeout(now);
    }
}

/// Lets the actor work until so many steps are answered; by number, whether each was done.
async fn answers(
    actor: &mut Actor,
    events: &mut mpsc::Receiver<CoreEvent>,
    steps: usize,
) -> Vec<(u64, bool)> {
    let deadline = Instant::now() + LIMIT;
    let mut answers = Vec::new();
    while answers.len() < steps {
        assert!(Instant::now() < deadline, "answered so far: {answers:?}");
        actor.work().await.unwrap();
        while let Ok(event) = events.try_recv() {
            if let CoreEvent::Stepped(ended) = event {
                let done = |outcome| matches!(outcome, Outcome::Done(_));
                answers.extend(ended.into_iter().map(|(id, outcome)| (id.0, done(outcome))));
            }
        }
    }
    answers
}

#[test]
fn the_active_role_waits_for_a_commit_that_was_too_slow_to_hold_it_back() {
    const FLOWS: u32 = 20_000;
    let Some(node) = node() else { return };
    with_actor(&node, async |actor| {
        let (core, mut events) = mpsc::channel(QUEUE);
        actor.core = core;
        tell(actor, FLOWS);
        actor.waiting.push_back(group_step(1, Step::CommitFlows));
        actor.work().await.unwrap();
        assert!(actor.commit.is_some(), "one piece puts them all into the kernel");
        actor.waiting.push_back(group_step(2, Step::ReplicateActive));
        assert_eq!(answers(actor, &mut events, 2).await, [(1, true), (2, true)]);
    });
    assert_eq!(table(&node).len(), FLOWS as usize);
}

#[test]
fn who_was_held_up_does_not_take_a_role_that_was_left_since_and_keeps_the_flows_for_the_next() {
    const FLOWS: u32 = 1_000;
    let Some(node) = node() else { return };
    with_actor(&node, async |actor| {
        let (core, mut events) = mpsc::channel(QUEUE);
        actor.core = core;
        tell(actor, FLOWS);
        let steps = [
            Step::CommitFlows,
            Step::ReplicateActive,
            Step::ReplicateBackup,
            Step::CommitFlows,
            Step::ReplicateActive,
        ];
        actor.waiting.extend((1..).zip(steps).map(|(id, step)| group_step(id, step)));
        let answers = answers(actor, &mut events, steps.len()).await;
        assert_eq!(answers, [(1, false), (2, false), (3, true), (4, true), (5, true)]);
    });
    assert_eq!(table(&node).len(), FLOWS as usize);
}
