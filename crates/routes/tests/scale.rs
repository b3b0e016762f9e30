//! Tens of thousands of routes in 256 tables: whatever would look at all of them for each of them
//! does not come to an end here.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod objects;

use std::net::Ipv4Addr;
use std::sync::Arc;

use lockstep_routes::{
    Actual, Change, Declared, Desired, NextHop, Owned, Phases, Reason, Refusals, Route, State,
    TableId, assess, plan,
};

const ROUTES: u32 = 30_000 / LINKS * LINKS;
const TABLES: u32 = 256;
const LINKS: u32 = 8;

fn router() -> Actual {
    let mut actual = Actual::default();
    for index in 0..LINKS {
        let link = objects::link(index, &format!("eth{index}"), true);
        actual.links.insert(index, link);
    }
    actual
}

/// Every second one names its interface.
fn declared() -> Declared {
    let address = |index| objects::address(&format!("eth{index}"), &format!("10.{index}.0.1/24"));
    let route = |number: u32| {
        let link = number % LINKS;
        let hop = NextHop {
            via: Some(Ipv4Addr::from(0x0a00_0000 | link << 16 | (2 + number % 200)).into()),
            dev: (number / LINKS).is_multiple_of(2).then(|| format!("eth{link}")),
            weight: 1,
            onlink: false,
        };
        Arc::new(Route {
            next_hops: vec![hop],
            table: TableId(1_000 + number % TABLES),
            ..objects::route(&format!("{}/24", Ipv4Addr::from(0x1400_0000 + (number << 8))))
        })
    };
    Declared {
        addresses: (0..LINKS).map(address).collect(),
        routes: (0..ROUTES).map(route).collect(),
        ..Declared::default()
    }
}

#[test]
fn tens_of_thousands_of_routes_are_planned_recorded_assessed_and_put_back() {
    let (declared, phases, owned) = (declared(), Phases::default(), Owned::default());
    let desired = Desired { declared: &declared, phases: &phases, owned: &owned };
    let count = |states: &[State], wanted: &State| {
        states.iter().filter(|state| *state == wanted).count() as u32
    };
    let mut actual = router();
    let changes = plan(desired, &actual);
    assert_eq!(changes.len() as u32, LINKS + ROUTES);
    actual.record_all(&changes);
    assert_eq!(plan(desired, &actual), []);
    let states = assess(desired, &actual, &Refusals::default()).routes;
    assert_eq!(count(&states, &State::Installed), ROUTES);

    let switch = |up| Change::SetLink { index: 3, name: "eth3".to_owned(), up };
    actual.record(&switch(false));
    assert_eq!(plan(desired, &actual), []);
    let states = assess(desired, &actual, &Refusals::default()).routes;
    let down = State::Pending(Reason::LinkDown("eth3".to_owned()));
    assert_eq!(count(&states, &down), ROUTES / LINKS);

    actual.record(&switch(true));
    let changes = plan(desired, &actual);
    assert_eq!(changes.len() as u32, ROUTES / LINKS);
    actual.record_all(&changes);

    let nothing = Declared::default();
    let changes = plan(Desired { declared: &nothing, ..desired }, &actual);
    assert_eq!(changes.len() as u32, ROUTES + LINKS);
    actual.record_all(&changes);
    assert_eq!((actual.routes.len(), actual.addresses.len()), (0, 0));
}
