//! Many routes hold up nobody's addresses.

use super::*;

/// More than are carried out at once.
const ROUTES: u32 = 8 * 512;

fn many() -> Declared {
    let declared = declared();
    let throw = |number: u32| {
        let to = std::net::Ipv4Addr::from(0x0a80_0000 + (number << 8));
        Arc::new(Route {
            kind: RouteKind::Throw,
            condition: master_only(),
            ..route(&format!("{to}/24"))
        })
    };
    let addresses = [
        declared.addresses[0].clone(),
        Address {
            address: "10.1.1.21/32".parse().unwrap(),
            condition: Condition { when: When::Master, group: Some("other".to_owned()) },
            ..declared.addresses[0].clone()
        },
    ];
    Declared {
        routes: (0..ROUTES).map(throw).collect(),
        rules: Vec::new(),
        addresses: addresses.into(),
        ..declared
    }
}

/// The numbers of the steps in the order of their answers, with the outcomes.
fn answers(router: &mut Router, count: usize) -> Vec<(u64, Outcome)> {
    let mut answers = Vec::new();
    while answers.len() < count {
        match router.events.blocking_recv().unwrap() {
            CoreEvent::Stepped(more) => {
                answers.extend(more.into_iter().map(|(id, outcome)| (id.0, outcome)));
            }
            other => router.hear(other),
        }
    }
    answers
}

fn steps_of(steps: &[(u64, &str, Step)]) -> NetworkRequest {
    let step = |(id, group, step): &(u64, &str, Step)| GroupStep {
        id: StepId(*id),
        group: (*group).to_owned(),
        step: *step,
    };
    NetworkRequest::Steps(steps.iter().map(step).collect())
}

#[test]
fn another_groups_address_comes_before_the_end_of_many_routes() {
    let Some((node, lan)) = node() else { return };
    let mut router = Router::start(&many(), node, lan);
    router.status();
    let steps = steps_of(&[
        (1, GROUP, Step::RoutesUp),
        (2, GROUP, Step::AddressesUp),
        (3, "other", Step::AddressesUp),
        (4, "other", Step::AddressesDown),
    ]);
    router.requests.blocking_send(steps).unwrap();
    let answers = answers(&mut router, 4);
    let order: Vec<u64> = answers.iter().map(|(id, _)| *id).collect();
    assert_eq!(order, [3, 4, 1, 2], "{answers:?}");
    assert_eq!(answers[2].1, Outcome::Done(format!("{ROUTES} routes and rules")));
    let there = router.ip(&["route", "show", "table", "100"]).lines().count();
    assert_eq!(there, ROUTES as usize);

    let steps = steps_of(&[(5, GROUP, Step::RoutesDown), (6, "other", Step::AddressesUp)]);
    router.requests.blocking_send(steps).unwrap();
    let order: Vec<u64> = self::answers(&mut router, 2).iter().map(|(id, _)| *id).collect();
    assert_eq!(order, [6, 5]);
    assert_eq!(router.ip(&["route", "show", "table", "100"]).lines().count(), 0);
}

#[test]
fn an_address_that_must_go_does_not_wait_for_routes_that_are_put_back() {
    let Some((node, lan)) = node() else { return };
    let mut router = Router::start(&many(), node, lan);
    router.become_master();
    router.step_of(&["other"], Step::AddressesUp);
    for _ in 0..5 {
        router.ip(&["route", "flush", "table", "100"]);
        router.step_of(&["other"], Step::AddressesDown);
        assert!(!router.has("eth0", "10.1.1.21/32"));
        router.until("every route", |status| {
            status.routes.iter().all(|route| route.standing.state == "installed")
        });
        assert!(!router.has("eth0", "10.1.1.21/32"), "it is not put back");
        router.step_of(&["other"], Step::AddressesUp);
    }
}
