//! What a long dump must not hold up, on the real kernel.

use lockstep_failover::{Step, StepId};
use lockstep_lab::Node;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::super::requests::Order;
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
