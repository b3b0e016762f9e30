//! The start-up gate: who hears nothing waits, who hears anything does not.

use super::*;
use lockstep_tests::setting::{Authentication, PASSWORD};

const LIMIT: Duration = Duration::from_secs(3);
/// Longer than any test waits.
const FOR_EVER: Duration = Duration::from_hours(1);

#[test]
fn a_router_that_hears_nothing_waits_for_the_limit() {
    let mut segment = alone();
    let before = since_1970();
    segment.start_master(OURS, &Setting { startup_limit: LIMIT, ..Setting::version_3() });
    let waited = advertised_at(&segment, OURS)[0].saturating_sub(before);
    assert!(waited >= LIMIT, "it waited {waited:?} only");
}

#[test]
fn a_link_that_comes_back_is_waited_for_anew() {
    let mut segment = alone();
    segment.start_master(OURS, &Setting { startup_limit: LIMIT, ..Setting::version_3() });
    segment.node(OURS).unplug("eth0").expect("the cable can be pulled");
    segment.wait_for(OURS, Role::Fault);
    let sent = advertised_at(&segment, OURS).len();

    let plugged = since_1970();
    segment.node(OURS).plug("eth0").expect("the cable can be put back");
    segment.wait_for_master(OURS);
    wait::until("it advertises", || advertised_at(&segment, OURS).len() > sent);
    let waited = advertised_at(&segment, OURS)[sent].saturating_sub(plugged);
    assert!(waited >= LIMIT, "it waited {waited:?} only");
}

#[test]
fn a_router_that_has_heard_a_master_replaces_it_without_the_limit() {
    let mut segment = beside_keepalived();
    let setting = Setting::version_3();
    segment.start_master(OTHER, &setting.priority(150));
    segment.start_backup(OURS, &Setting { startup_limit: FOR_EVER, ..setting });
    wait_for_advertisements(&segment, OTHER, 2);
    segment.kill(OTHER);
    segment.wait_for_master(OURS);
    segment.wait_for_masters("ba");
}

#[test]
fn what_is_heard_and_not_understood_ends_the_wait_too() {
    let with = |password| Setting {
        authentication: Authentication::Pass(password),
        startup_limit: FOR_EVER,
        ..Setting::version_2()
    };
    let mut segment = beside_keepalived();
    segment.start_master(OTHER, &with("another1").priority(150));
    segment.start_master(OURS, &with(PASSWORD));
}

#[test]
fn an_owner_does_not_wait() {
    let mut segment = alone();
    segment.start_master(OURS, &Setting::version_3().priority(255).ours("startup-limit = \"1h\""));
}
