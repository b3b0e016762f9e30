//! A whole status page, and narrowing it to one name.

use std::time::Duration;

use super::*;
use crate::status::{Address, Network, Standing};

fn status() -> Status {
    let router = |name: &str, group: &str| VirtualRouter {
        name: name.to_owned(),
        group: group.to_owned(),
        interface: "eth0".to_owned(),
        vrid: 51,
        version: 2,
        family: "ipv4".to_owned(),
        state: "backup".to_owned(),
        priority: 100,
        effective_priority: 100,
        master_address: Some("10.1.1.3".to_owned()),
        master_interval_ms: Some(1000),
        new_master_reason: None,
        last_event: None,
        waiting: None,
        other_master: None,
        withheld: None,
        statistics: [
            ("adverts-rcvd".to_owned(), 12),
            ("authentication-failures".to_owned(), u64::from(name == "inside")),
        ]
        .into(),
        rejected: vec!["10.1.1.7 uses another password".to_owned()],
        differs: vec!["10.1.1.3 has another address list".to_owned()],
        sending: (name == "outside").then(|| "network is down".to_owned()),
    };
    let group = |name: &str, state: &str, step: Option<&str>| Group {
        name: name.to_owned(),
        state: state.to_owned(),
        since: "2026-03-01T12:00:00.000Z".to_owned(),
        reason: "a reason".to_owned(),
        step: step.map(str::to_owned),
        waiting: (state == "backup").then(|| "flows are missing".to_owned()),
        maintenance: None,
        tracked: Vec::new(),
    };
    Status {
        router: "r-17-VM".to_owned(),
        groups: vec![group("gateway", "backup", Some("links down")), group("other", "fault", None)],
        virtual_routers: vec![router("inside", "gateway"), router("outside", "other")],
        replication: None,
        routes: Vec::new(),
        network: Network {
            addresses: vec![Address {
                object: "10.1.1.1/32 dev eth0".to_owned(),
                standing: Standing {
                    state: "pending".to_owned(),
                    reason: Some("group gateway is backup".to_owned()),
                    next_try_ms: None,
                },
                ..Address::default()
            }],
            ..Network::default()
        },
        checks: vec![Check {
            name: "heartbeat".to_owned(),
            state: "good".to_owned(),
            detail: "exit status 0".to_owned(),
        }],
        notify_fifo: None,
        hooks: vec![Hook {
            group: "gateway".to_owned(),
            virtual_router: None,
            state: "backup".to_owned(),
            result: "exit status 1: no such service".to_owned(),
            command: "/opt/hook --backup".to_owned(),
            started: Some("2026-03-01T12:00:00.000Z".to_owned()),
            took_ms: Some(1_204),
            output: vec!["no such service".to_owned()],
        }],
        scheduling: Some(Scheduling {
            worst_late_us: 12_345,
            worst_late_last_minute_us: 250,
            shortest_interval_us: Some(1_000_000),
            overslept: 0,
            receive_drops: 0,
        }),
        no_answer: vec!["replicator".to_owned()],
    }
}

fn at(seconds: u64) -> SystemTime {
    let noon = humantime::parse_rfc3339("2026-03-01T12:00:00Z").unwrap();
    noon + Duration::from_secs(seconds)
}

#[test]
fn a_status_page_says_how_everything_is_and_why() {
    let mut page = Page::plain();
    describe(&mut page, &status(), at(192));
    let expected = "\
router r-17-VM
no answer from the replicator thread; what it knows is missing here
worst lateness 0.2 ms in the last minute, 12.3 ms since the start

GROUP    STATE   FOR     WHY
gateway  backup  3m 12s  a reason (under way: links down); flows are missing
other    fault   3m 12s  a reason

VIRTUAL ROUTER  GROUP    INTERFACE  VRID  VERSION  STATE   PRIORITY  MASTER
inside          gateway  eth0       51    2 ipv4   backup  100       10.1.1.3
outside         other    eth0       51    2 ipv4   backup  100       10.1.1.3
counted on eth0 for inside: 1 authentication-failures
rejected on eth0 for inside: 10.1.1.7 uses another password
differs on eth0 for inside: 10.1.1.3 has another address list
not sent on eth0 for outside: network is down
rejected on eth0 for outside: 10.1.1.7 uses another password
differs on eth0 for outside: 10.1.1.3 has another address list

ADDRESS               STATE    WHY
10.1.1.1/32 dev eth0  pending  group gateway is backup

CHECK      STATE  LAST RUN
heartbeat  good   exit status 0

HOOK OF  FOR     STARTED                   TOOK     RESULT
gateway  backup  2026-03-01T12:00:00.000Z  1204 ms  exit status 1: no such service
";
    assert_eq!(page.text(), expected);
}

#[test]
fn what_is_tracked_is_shown_with_its_weight_and_effect() {
    let one = |object: &str, state: &str, weight, effect| Tracked {
        object: object.to_owned(),
        virtual_router: (object == "interface wan1").then(|| "inside".to_owned()),
        state: state.to_owned(),
        detail: if state == "unknown" { String::new() } else { "as seen".to_owned() },
        weight,
        effect,
    };
    let mut status = status();
    status.groups[0].tracked = vec![
        one("check heartbeat", "good", None, 0),
        one("check dns", "bad", Some(-30), -30),
        one("interface wan0", "good", Some(20), 20),
        one("interface wan1", "bad", None, 0),
        one("file /run/drain", "good", Some(-1), 0),
        one("process named", "unknown", None, 0),
    ];
    let mut page = Page::plain();
    tracked(&mut page, &status.groups);
    let expected = "\
TRACKED          FOR      STATE    WEIGHT  EFFECT      SEEN
check dns        gateway  bad      -30     -30         as seen
interface wan0   gateway  good     20      +20         as seen
interface wan1   inside   bad      fault   fault       as seen
file /run/drain  gateway  good     -1      -           as seen
process named    gateway  unknown  fault   waited for  -
";
    assert_eq!(page.text().trim_start_matches('\n'), expected);
}

#[test]
fn a_named_group_is_shown_with_counters_and_the_words_of_its_hooks() {
    let mut status = status();
    narrow(&mut status, "gateway").unwrap();
    let mut page = Page::plain();
    describe_more(&mut page, &status);
    let expected = "\
counters of inside
COUNTER                  VALUE
adverts-rcvd             12
authentication-failures  1

output of /opt/hook --backup
  no such service
";
    assert_eq!(page.text(), expected);
}

#[test]
fn a_name_of_a_group_keeps_its_virtual_routers_and_hooks() {
    let mut status = status();
    narrow(&mut status, "other").unwrap();
    assert_eq!(status.groups.len(), 1);
    assert_eq!(status.virtual_routers.len(), 1);
    assert_eq!(status.virtual_routers[0].name, "outside");
    assert!(status.hooks.is_empty());
}

#[test]
fn a_name_of_a_virtual_router_keeps_its_group() {
    let mut status = status();
    narrow(&mut status, "inside").unwrap();
    assert_eq!(status.groups[0].name, "gateway");
    assert_eq!(status.virtual_routers.len(), 1);
}

#[test]
fn an_unknown_name_is_an_error_that_says_whether_it_may_exist() {
    let mut status = status();
    let error = narrow(&mut status, "nobody").unwrap_err().to_string();
    assert_eq!(error, "no answer from the replicator thread");
    status.no_answer.clear();
    let error = narrow(&mut status, "nobody").unwrap_err().to_string();
    assert_eq!(error, "there is no group or virtual router nobody");
}

#[test]
fn ages_are_told_in_two_units() {
    let age = |seconds| age("2026-03-01T12:00:00.000Z", at(seconds));
    assert_eq!(age(0), "0s");
    assert_eq!(age(59), "59s");
    assert_eq!(age(3_599), "59m 59s");
    assert_eq!(age(7_260), "2h 1m");
    assert_eq!(age(90_000), "1d 1h");
}

#[test]
fn a_moment_in_the_future_or_unreadable_does_not_panic() {
    assert_eq!(age("2026-03-01T13:00:00.000Z", at(0)), "0s");
    assert_eq!(age("soon", at(0)), "soon");
}
