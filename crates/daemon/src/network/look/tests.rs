//! What a long dump must not hold up, on the real kernel.

use lockstep_failover::{Step, StepId};
use lockstep_lab::Node;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::super::requests::Order;
use super::super::schedule::{COALESCE, DEAR, LONGEST_INTERVAL, Schedule};
use super::super::tests::{declared, node, settings, shown};
use super::*;
use crate::messages::{CoreEvent, GroupStep, NetworkRequest, QUEUE};

const LIMIT: Duration = Duration::from_secs(10);
/// Longer than any test.
const LONG: Duration = Duration::from_hours(1);

/// Runs `test` inside the host, with what the thread would have.
fn with_actor(node: &Node, test: impl AsyncFnOnce(Actor, mpsc::Receiver<CoreEvent>) + Send) {
    node.run(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let (core, events) = mpsc::channel(QUEUE);
            let mut actor = Actor::start(settings(declared()), core).await.unwrap();
            actor.tell_interfaces().await;
            actor.settle(None).await;
            test(actor, events).await;
        });
    })
    .unwrap();
}

fn ask(requests: &mpsc::Sender<NetworkRequest>) -> oneshot::Receiver<Snapshot> {
    let (asker, answer) = oneshot::channel();
    requests.try_send(NetworkRequest::Look(asker)).unwrap();
    answer
}

/// Waits until the core is told that `eth0` has no carrier.
async fn lost_carrier(events: &mut mpsc::Receiver<CoreEvent>) {
    loop {
        match events.recv().await.unwrap() {
            CoreEvent::Interface(state)
                if state.link.as_ref().is_some_and(|link| !link.carrier) =>
            {
                return;
            }
            _ => {}
        }
    }
}

#[test]
fn a_step_ends_a_dump_and_the_next_dump_answers_all_who_waited() {
    let Some((node, _lan)) = node() else { return };
    with_actor(&node, async |mut actor, _events| {
        let (sender, inbox) = mpsc::channel(QUEUE);
        let mut requests = Requests::new(inbox);
        let mut answers = [ask(&sender), ask(&sender)];
        requests.asked().await;
        let step = Step::AddressesUp;
        let steps = vec![GroupStep { id: StepId(1), group: "gateway".to_owned(), step }];
        sender.try_send(NetworkRequest::Steps(steps.clone())).unwrap();
        actor.look(&mut requests).await;
        for answer in &mut answers {
            assert_eq!(answer.try_recv().err(), Some(oneshot::error::TryRecvError::Empty));
        }
        assert_eq!(requests.next_order(), Some(Order::Steps(steps)));
        actor.look(&mut requests).await;
        for mut answer in answers {
            assert_eq!(shown(&answer.try_recv().unwrap()).rules[0].standing.state, "installed");
        }
    });
}

#[test]
fn a_dump_made_for_an_asker_is_acted_upon() {
    let Some((node, _lan)) = node() else { return };
    with_actor(&node, async |mut actor, _events| {
        let actual = Arc::make_mut(&mut actor.actual);
        actual.rules.clear();
        actual.routes.clear();
        let (sender, inbox) = mpsc::channel(QUEUE);
        let mut requests = Requests::new(inbox);
        let mut answer = ask(&sender);
        requests.asked().await;
        actor.look(&mut requests).await;
        assert!(answer.try_recv().is_ok());
        assert!(plan(actor.desired(), &actor.actual).is_empty(), "{:?}", actor.actual);
    });
}

#[test]
fn a_lost_cable_is_told_while_routes_are_read() {
    let Some((node, _lan)) = node() else { return };
    let host = &node;
    with_actor(host, async |mut actor, mut events| {
        let (_sender, inbox) = mpsc::channel(QUEUE);
        let mut requests = Requests::new(inbox);
        let (release, released) = oneshot::channel();
        let reading = async { released.await.map_err(io::Error::other) };
        host.unplug("eth0").unwrap();
        let told = async {
            lost_carrier(&mut events).await;
            release.send("read").unwrap();
        };
        let both = async { tokio::join!(actor.read(reading, Turn::Orders(&mut requests)), told) };
        let (read, ()) = timeout(LIMIT, both).await.expect("told in time");
        assert_eq!(read.unwrap(), Some("read"));
    });
}

#[test]
fn a_lost_cable_is_told_while_large_tables_rest() {
    let Some((node, _lan)) = node() else { return };
    let host = &node;
    with_actor(host, async |mut actor, mut events| {
        actor.schedule.rest_until = Instant::now() + LONG;
        actor.schedule.latest = Instant::now() + LONG;
        let (sender, inbox) = mpsc::channel(QUEUE);
        host.unplug("eth0").unwrap();
        let told = async {
            lost_carrier(&mut events).await;
            sender.send(NetworkRequest::Stop).await.unwrap();
        };
        let both = async { tokio::join!(actor.run(inbox), told) };
        timeout(LIMIT, both).await.expect("told in time").0.unwrap();
    });
}

#[test]
fn a_long_dump_puts_off_routes_and_not_links() {
    let now = Instant::now();
    let mut schedule = Schedule::new(now);
    schedule.latest = now + LONG;
    schedule.rest_until = now + Duration::from_secs(4);
    assert_eq!((schedule.look_at(), schedule.links_at()), (now + LONG, None));
    schedule.routes_changed(now);
    assert_eq!(schedule.look_at(), now + Duration::from_secs(4));
    assert_eq!(schedule.links_at(), None);
    schedule.links_changed(now);
    assert_eq!(schedule.links_at(), Some(now + COALESCE));
    schedule.links_changed(now + COALESCE);
    assert_eq!(schedule.links_at(), Some(now + COALESCE), "more of them put nothing off");
}

#[test]
fn after_a_long_dump_a_link_is_looked_after_sooner_than_somebodys_restless_table() {
    let now = Instant::now();
    let mut schedule = Schedule::new(now);
    schedule.latest = now + LONG;
    schedule.rests(now, Duration::from_secs(1));
    schedule.routes_changed(now);
    assert_eq!(schedule.look_at(), now + Duration::from_secs(4));
    schedule.is_urgent = true;
    assert_eq!(schedule.look_at(), now + Duration::from_secs(1));
    schedule.looks();
    assert_eq!(schedule.look_at(), now + LONG);
    schedule.routes_changed(now);
    assert_eq!(schedule.look_at(), now + Duration::from_secs(4));
}

#[test]
fn the_longer_a_look_takes_the_longer_an_idle_router_rests() {
    let now = Instant::now();
    let mut schedule = Schedule::new(now);
    for (cost, latest) in [
        (Duration::from_millis(1), INTERVAL),
        (Duration::from_millis(100), Duration::from_secs(40)),
        (Duration::from_mins(1), LONGEST_INTERVAL),
    ] {
        schedule.cost = cost;
        schedule.looked(now, None);
        assert_eq!(schedule.look_at(), now + latest);
        let is_longer = latest > INTERVAL;
        assert_eq!(schedule.glance_at(), is_longer.then_some(now + INTERVAL), "{cost:?}");
        schedule.links_changed(now);
        assert_eq!(schedule.look_at(), now + COALESCE, "what is announced is looked after at once");
        schedule.changed = None;
        schedule.links_changed = None;
    }
}

#[test]
fn a_refused_change_is_tried_again_when_it_is_due_and_the_look_for_it_does_not_take_all_the_time() {
    let now = Instant::now();
    let mut schedule = Schedule::new(now);
    let retry = now + Duration::from_millis(100);
    schedule.cost = Duration::from_millis(1);
    schedule.looked(now, Some(retry));
    assert_eq!(schedule.look_at(), retry);
    schedule.cost = Duration::from_millis(200);
    schedule.looked(now, Some(retry));
    assert_eq!(schedule.look_at(), now + schedule.cost * REST);
}

#[test]
fn who_is_content_with_what_is_known_is_answered_at_once_while_nothing_is_announced() {
    let Some((node, _lan)) = node() else { return };
    with_actor(&node, async |mut actor, _events| {
        let (sender, inbox) = mpsc::channel(QUEUE);
        let mut requests = Requests::new(inbox);
        let status = || {
            let (asker, answer) = oneshot::channel();
            sender.try_send(NetworkRequest::Status(asker)).unwrap();
            answer
        };
        actor.schedule.changed = None;
        actor.schedule.links_changed = None;
        for (cost, is_announced, is_answered) in
            [(Duration::ZERO, false, false), (2 * DEAR, true, false), (2 * DEAR, false, true)]
        {
            actor.schedule.cost = cost;
            actor.schedule.changed = is_announced.then(Instant::now);
            let mut answer = status();
            requests.asked().await;
            actor.answer_from_memory(&mut requests);
            assert_eq!(answer.try_recv().is_ok(), is_answered, "{cost:?} {is_announced}");
        }
    });
}

#[test]
fn a_glance_finds_what_nobody_has_announced() {
    let Some((node, _lan)) = node() else { return };
    let host = &node;
    with_actor(host, async |mut actor, _events| {
        let (sender, inbox) = mpsc::channel(QUEUE);
        let mut requests = Requests::new(inbox);
        let _open = sender;
        actor.look(&mut requests).await;
        actor.schedule.links_changed = None;
        actor.glance().await;
        assert_eq!(actor.schedule.links_at(), None, "nothing is other than it was");
        host.set_link("eth2", false).unwrap();
        actor.glance().await;
        assert!(actor.schedule.links_at().is_some());
        actor.look(&mut requests).await;
        actor.schedule.links_changed = None;
        Arc::make_mut(&mut actor.actual).rules.clear();
        actor.glance().await;
        assert!(actor.schedule.links_at().is_some(), "rules are looked at too");
    });
}
