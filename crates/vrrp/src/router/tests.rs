//! The election: every state with every event, and the rules in their own words.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::VirtualRouter;
use crate::{
    Action, Advertisement, Authentication, AuthenticationData, Config, Datagram, Encoder,
    Endpoints, Event, Family, Format, PROTOCOL, Password, Priority, Rejection, State, StateName,
    Version, Vrid,
};

mod answers;
mod late;
mod neighbours;
mod preemption;
mod replay;
mod retiring;
mod settings;
mod standing;
mod withheld;

/// Priority 100, interval 1 s: skew 0.609375 s, master down interval 3.609375 s.
const DOWN: Duration = Duration::from_micros(3_609_375);
const SKEW: Duration = Duration::from_micros(609_375);
const SECOND: Duration = Duration::from_secs(1);

/// In these tables, the clock stands at 1 s after the state was entered unless the event says so.
#[test]
fn every_state_answers_every_event_as_the_rfc_says() {
    let table: &[(&str, Situation, Happening, &str)] = &[
        ("startup begins to listen", Initialize, Startup, "initialize→backup | backup +3.609"),
        ("startup is for once", Backup, Startup, " | backup +2.609"),
        ("startup is for once", Elected, Startup, " | elected +2.609"),
        ("startup is for once", Master, Startup, " | master +0.000"),
        ("nothing to stop", Initialize, Shutdown, " | initialize"),
        ("a backup leaves in silence", Backup, Shutdown, "backup→initialize | initialize"),
        ("an election ends with it", Elected, Shutdown, "backup→initialize | initialize"),
        ("a master says 0", Master, Shutdown, "send 0, master→initialize | initialize"),
        ("not taking part", Initialize, Claim, " | initialize"),
        ("claimed for the group", Backup, Claim, "send 100, backup→master | master +1.000"),
        ("the answer to elected", Elected, Claim, "send 100, backup→master | master +1.000"),
        ("asked again: nobody may have heard", Master, Claim, "send 100 | master +1.000"),
        ("not taking part", Initialize, Relinquish, " | initialize"),
        ("nothing to give up", Backup, Relinquish, " | backup +2.609"),
        ("the group says no", Elected, Relinquish, " | backup +2.609"),
        ("nothing on the wire", Master, Relinquish, "master→backup | backup +3.609"),
        ("nothing to hand over", Initialize, Retire, " | initialize"),
        ("nothing to hand over", Backup, Retire, " | backup +2.609"),
        ("nothing to hand over", Elected, Retire, " | elected +2.609"),
        ("the others hurry", Master, Retire, "send 0, master→backup | backup +2.000"),
        ("noted", Initialize, MayReturn, " | initialize"),
        ("noted", Backup, MayReturn, " | backup +2.609"),
        ("noted", Elected, MayReturn, " | elected +2.609"),
        ("noted", Master, MayReturn, " | master +0.000"),
        ("spurious", Initialize, Timeout, " | initialize"),
        ("too early", Backup, Timeout, " | backup +2.609"),
        ("too early", Elected, Timeout, " | elected +2.609"),
        ("due", Master, Timeout, "send 100 | master +1.000"),
        ("silence elects", Backup, TimeoutWhenDue, "elected | elected +3.609"),
        ("and says so again", Elected, TimeoutWhenDue, "elected | elected +3.609"),
        ("not taking part", Initialize, Hear(0, HIGH), " | initialize"),
        ("0 leaves the skew time", Backup, Hear(0, HIGH), " | backup +0.609"),
        ("0 does not void an election", Elected, Hear(0, HIGH), " | elected +0.609"),
        (
            "0 is answered at once",
            Master,
            Hear(0, HIGH),
            "send 100, conflict with 10.0.0.3 | master +1.000",
        ),
        ("not taking part", Initialize, Hear(99, HIGH), " | initialize"),
        ("lower does not count", Backup, Hear(99, HIGH), " | backup +2.609"),
        ("lower does not count", Elected, Hear(99, HIGH), " | elected +2.609"),
        (
            "lower is answered at once",
            Master,
            Hear(99, HIGH),
            "send 100, conflict with 10.0.0.3 | master +1.000",
        ),
        ("not taking part", Initialize, Hear(100, LOW), " | initialize"),
        ("an equal master stays", Backup, Hear(100, LOW), " | backup +3.609"),
        ("and ends an election", Elected, Hear(100, LOW), "deferred | backup +3.609"),
        (
            "the higher address stays",
            Master,
            Hear(100, LOW),
            "send 100, conflict with 10.0.0.1 | master +1.000",
        ),
        ("not taking part", Initialize, Hear(100, HIGH), " | initialize"),
        ("an equal master stays", Backup, Hear(100, HIGH), " | backup +3.609"),
        ("and ends an election", Elected, Hear(100, HIGH), "deferred | backup +3.609"),
        (
            "the lower address yields",
            Master,
            Hear(100, HIGH),
            "send 100, master→backup, superseded by 10.0.0.3 (100) | backup +3.609",
        ),
        ("not taking part", Initialize, Hear(101, LOW), " | initialize"),
        ("a better master is heeded", Backup, Hear(101, LOW), " | backup +3.609"),
        ("and ends an election", Elected, Hear(101, LOW), "deferred | backup +3.609"),
        (
            "a better master wins",
            Master,
            Hear(101, LOW),
            "send 100, master→backup, superseded by 10.0.0.1 (101) | backup +3.609",
        ),
        ("our own echo", Initialize, Hear(200, OWN), " | initialize"),
        ("our own echo", Backup, Hear(200, OWN), " | backup +2.609"),
        ("our own echo", Elected, Hear(200, OWN), " | elected +2.609"),
        ("our own echo", Master, Hear(200, OWN), " | master +0.000"),
        ("noted", Initialize, Preempt(false), " | initialize"),
        ("noted", Backup, Preempt(false), " | backup +2.609"),
        ("noted", Elected, Preempt(false), " | elected +2.609"),
        ("noted", Master, Preempt(false), " | master +0.000"),
        ("noted", Initialize, Preempt(true), " | initialize"),
        ("noted", Backup, Preempt(true), " | backup +2.609"),
        ("noted", Elected, Preempt(true), " | elected +2.609"),
        ("noted", Master, Preempt(true), " | master +0.000"),
        ("noted", Initialize, Track(50), " | initialize"),
        ("a lower priority waits longer", Backup, Track(50), " | backup +2.804"),
        ("a lower priority waits longer", Elected, Track(50), " | elected +2.804"),
        ("a lower priority is told at once", Master, Track(50), "send 50 | master +1.000"),
        ("noted", Initialize, Track(150), " | initialize"),
        ("a higher priority waits less", Backup, Track(150), " | backup +2.414"),
        ("a higher priority waits less", Elected, Track(150), " | elected +2.414"),
        ("a higher priority is told in time", Master, Track(150), " | master +0.000"),
        ("noted", Initialize, Readdress, " | initialize"),
        ("nothing to tell", Backup, Readdress, " | backup +2.609"),
        ("nothing to tell", Elected, Readdress, " | elected +2.609"),
        ("another list is told at once", Master, Readdress, "send 100 | master +1.000"),
        ("noted", Initialize, Renumber, " | initialize"),
        ("noted", Backup, Renumber, " | backup +2.609"),
        ("noted", Elected, Renumber, " | elected +2.609"),
        ("noted", Master, Renumber, " | master +0.000"),
    ];
    for (why, situation, happening, expected) in table {
        let begin = start_of_time();
        let mut router = situated(*situation, begin);
        let now = match happening {
            TimeoutWhenDue => begin + DOWN,
            _ => begin + SECOND,
        };
        let actions = router.handle(happening.event(), now);
        let got = format!("{} | {}", told(&actions), stands(&router, now));
        assert_eq!(got, *expected, "{why}: {situation:?} with {happening:?}");
    }
}

use Happening::{
    Claim, Hear, MayReturn, Preempt, Readdress, Relinquish, Renumber, Retire, Shutdown, Startup,
    Timeout, TimeoutWhenDue, Track,
};
use Situation::{Backup, Elected, Initialize, Master};

#[derive(Clone, Copy, Debug)]
enum Situation {
    Initialize,
    Backup,
    Elected,
    Master,
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    Startup,
    Shutdown,
    Claim,
    Relinquish,
    Retire,
    MayReturn,
    Timeout,
    TimeoutWhenDue,
    Hear(u8, &'static str),
    Preempt(bool),
    Renumber,
    Track(u8),
    Readdress,
}

impl Happening {
    fn event(self) -> Event {
        match self {
            Startup => Event::Startup { primary: address(OWN) },
            Shutdown => Event::Shutdown,
            Claim => Event::Claim,
            Relinquish => Event::Relinquish,
            Retire => Event::Retire,
            MayReturn => Event::MayReturn,
            Timeout | TimeoutWhenDue => Event::Timeout,
            Hear(priority, source) => heard(&config(), priority, source),
            Preempt(allowed) => Event::PreemptAllowed(allowed),
            Renumber => Event::PrimaryAddress(address("10.0.0.9")),
            Track(priority) => Event::Priority(Priority::new(priority).unwrap()),
            Readdress => Event::Configure(Box::new(Config {
                addresses: vec![address("10.0.0.101")],
                ..config()
            })),
        }
    }
}

const LOW: &str = "10.0.0.1";
const OWN: &str = "10.0.0.2";
const HIGH: &str = "10.0.0.3";

/// A router that has been in `situation` since `begin`.
fn situated(situation: Situation, begin: Instant) -> VirtualRouter {
    let mut router = VirtualRouter::new(config());
    match situation {
        Initialize => (),
        Backup => drop(router.handle(startup(), begin)),
        Elected => {
            drop(router.handle(startup(), begin.checked_sub(DOWN).unwrap()));
            let actions = router.handle(Event::Timeout, begin);
            assert!(matches!(actions[..], [Action::Elected { .. }]));
        }
        Master => {
            drop(router.handle(startup(), begin));
            drop(router.handle(Event::Claim, begin));
        }
    }
    router
}

#[test]
fn silence_of_a_master_is_told_with_its_length_and_last_priority() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    drop(router.handle(heard(&config(), 100, HIGH), begin + SECOND));
    let actions = router.handle(Event::Timeout, begin + SECOND + DOWN);
    let reason = "no advertisement from 10.0.0.3 for 3.61 s; last priority 100";
    assert_eq!(actions, [Action::Elected { reason: reason.to_owned() }]);
    assert_eq!(router.master_address(), None);
}

#[test]
fn silence_from_the_start_is_told() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    let actions = router.handle(Event::Timeout, begin + DOWN);
    let reason = "no advertisement heard for 3.61 s since it began to listen";
    assert_eq!(actions, [Action::Elected { reason: reason.to_owned() }]);
}

#[test]
fn what_was_heard_before_an_own_mastership_is_no_reason_after_it() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    drop(router.handle(heard(&config(), 100, HIGH), begin));
    drop(router.handle(Event::Claim, begin + DOWN));
    drop(router.handle(Event::Relinquish, begin + DOWN));
    assert_eq!(router.master_address(), None);
    let actions = router.handle(Event::Timeout, begin + 2 * DOWN);
    let reason = "no advertisement heard for 3.61 s since it began to listen";
    assert_eq!(actions, [Action::Elected { reason: reason.to_owned() }]);
}

#[test]
fn a_master_that_stops_is_replaced_after_the_skew_time() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    drop(router.handle(heard(&config(), 150, HIGH), begin + SECOND));
    drop(router.handle(heard(&config(), 0, HIGH), begin + SECOND));
    assert_eq!(router.next_deadline(), Some(begin + SECOND + SKEW));
    assert_eq!(router.master_address(), None);
    let actions = router.handle(Event::Timeout, begin + SECOND + SKEW);
    let reason = "10.0.0.3 stopped (priority 0)";
    assert_eq!(actions, [Action::Elected { reason: reason.to_owned() }]);
}

#[test]
fn saying_zero_twice_does_not_put_off_the_takeover() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    drop(router.handle(heard(&config(), 150, HIGH), begin));
    drop(router.handle(heard(&config(), 0, HIGH), begin));
    drop(router.handle(heard(&config(), 0, HIGH), begin + SKEW / 2));
    assert_eq!(router.next_deadline(), Some(begin + SKEW));
}

#[test]
fn a_master_of_lower_priority_is_preempted() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    for second in 1..4 {
        drop(router.handle(heard(&config(), 90, HIGH), begin + second * SECOND));
    }
    assert_eq!(router.master_address(), Some(address(HIGH)), "for now it is the master");
    let actions = router.handle(Event::Timeout, begin + DOWN);
    let reason = "10.0.0.3 is master with priority 90, lower than our 100";
    assert_eq!(actions, [Action::Elected { reason: reason.to_owned() }]);
}

#[test]
fn without_preempt_a_master_of_lower_priority_stays() {
    let config = Config { preempt: false, ..config() };
    let begin = start_of_time();
    let mut router = started(config.clone(), begin);
    drop(router.handle(heard(&config, 1, HIGH), begin + SECOND));
    assert_eq!(router.next_deadline(), Some(begin + SECOND + DOWN));
    let actions = router.handle(Event::Timeout, begin + SECOND + DOWN);
    assert!(matches!(actions[..], [Action::Elected { .. }]), "but a silent one is replaced");
}

#[test]
fn preemption_waits_until_it_is_allowed() {
    let begin = start_of_time();
    let mut router = VirtualRouter::new(config());
    drop(router.handle(Event::PreemptAllowed(false), begin));
    drop(router.handle(startup(), begin));
    drop(router.handle(heard(&config(), 90, HIGH), begin + SECOND));
    assert_eq!(router.next_deadline(), Some(begin + SECOND + DOWN));
    drop(router.handle(Event::PreemptAllowed(true), begin + 2 * SECOND));
    drop(router.handle(heard(&config(), 90, HIGH), begin + 2 * SECOND));
    assert_eq!(router.next_deadline(), Some(begin + SECOND + DOWN), "now it does not count");
}

#[test]
fn forbidding_preemption_gives_a_working_master_its_full_time() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    drop(router.handle(heard(&config(), 90, HIGH), begin + 3 * SECOND));
    drop(router.handle(Event::PreemptAllowed(false), begin + 3 * SECOND));
    assert_eq!(router.next_deadline(), Some(begin + 3 * SECOND + DOWN));
}

#[test]
fn an_address_owner_is_elected_at_once() {
    let config = Config { priority: Priority::OWNER, ..config() };
    let mut router = VirtualRouter::new(config);
    let actions = router.handle(startup(), start_of_time());
    assert_eq!(told(&actions), "initialize→backup, elected");
}

#[test]
fn an_address_owner_preempts_although_preempt_is_off() {
    let config = Config { priority: Priority::OWNER, preempt: false, ..config() };
    let begin = start_of_time();
    let mut router = started(config.clone(), begin);
    let due = router.next_deadline();
    drop(router.handle(heard(&config, 254, HIGH), begin + SECOND));
    assert_eq!(router.next_deadline(), due);
}

#[test]
fn even_an_address_owner_waits_until_preemption_is_allowed() {
    let config = Config { priority: Priority::OWNER, ..config() };
    let begin = start_of_time();
    let mut router = VirtualRouter::new(config);
    drop(router.handle(Event::PreemptAllowed(false), begin));
    assert_eq!(told(&router.handle(startup(), begin)), "initialize→backup");
}

#[test]
fn version_3_learns_the_interval_of_the_master() {
    let config = version_3();
    let slow = Config { advertisement_interval: Duration::from_secs(4), ..config.clone() };
    let begin = start_of_time();
    let mut router = started(config, begin);
    drop(router.handle(heard(&slow, 200, HIGH), begin));
    let skew = Duration::from_secs(4) * 156 / 256;
    assert_eq!(router.next_deadline(), Some(begin + 12 * SECOND + skew));
    drop(router.handle(Event::Claim, begin));
    assert_eq!(router.next_deadline(), Some(begin + SECOND), "as master it uses its own");
    assert_eq!(router.statistics().interval_differences, 1);
}

#[test]
fn a_master_that_yields_in_version_3_learns_the_interval() {
    let slow = Config { advertisement_interval: Duration::from_secs(4), ..version_3() };
    let begin = start_of_time();
    let mut router = started(version_3(), begin);
    drop(router.handle(Event::Claim, begin));
    drop(router.handle(heard(&slow, 200, HIGH), begin));
    let skew = Duration::from_secs(4) * 156 / 256;
    assert_eq!(router.next_deadline(), Some(begin + 12 * SECOND + skew));
}

#[test]
fn a_master_keeps_its_rhythm_when_it_is_called_late_and_does_not_catch_up() {
    let begin = start_of_time();
    let mut router = situated(Master, begin);
    let late = Duration::from_millis(50);
    drop(router.handle(Event::Timeout, begin + SECOND + late));
    assert_eq!(router.next_deadline(), Some(begin + 2 * SECOND));
    let actions = router.handle(Event::Timeout, begin + 4 * SECOND + late);
    assert_eq!(told(&actions), "send 100");
    assert_eq!(router.next_deadline(), Some(begin + 5 * SECOND + late));
}

#[test]
fn superiority_is_told_in_words() {
    for (priority, reason) in [
        (150, "10.0.0.3 advertises priority 150, higher than our 100"),
        (100, "10.0.0.3 advertises our priority 100 too and has the higher address"),
    ] {
        let begin = start_of_time();
        let actions = situated(Master, begin).handle(heard(&config(), priority, HIGH), begin);
        let [_, _, Action::Superseded { reason: told, .. }] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert_eq!(told, reason);
    }
}

#[test]
fn addresses_are_compared_as_unsigned_numbers() {
    let begin = start_of_time();
    let mut router = situated(Master, begin);
    let actions = router.handle(heard(&config(), 100, "192.168.0.1"), begin);
    assert_eq!(told(&actions), "send 100, master→backup, superseded by 192.168.0.1 (100)");
}

#[test]
fn another_list_of_addresses_is_told_and_heeded() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    let other = Config { addresses: vec![address("10.0.0.101")], ..config() };
    drop(router.receive(&packet(&other, 150, HIGH), begin + SECOND));
    assert_eq!(router.next_deadline(), Some(begin + SECOND + DOWN), "it counts");
    assert_eq!(router.statistics().address_list_errors, 1);
    assert_eq!(
        router.differences()[0].to_string(),
        "10.0.0.3 is heeded, but sends other virtual addresses, without 10.0.0.100, also 10.0.0.101"
    );
    drop(router.receive(&packet(&config(), 150, HIGH), begin + SECOND));
    assert_eq!(router.differences(), []);
}

#[test]
fn the_order_of_the_addresses_is_no_difference() {
    let two = |list: [&str; 2]| Config { addresses: list.map(address).to_vec(), ..config() };
    let begin = start_of_time();
    let mut router = started(two(["10.0.0.100", "10.0.0.101"]), begin);
    drop(router.receive(&packet(&two(["10.0.0.101", "10.0.0.100"]), 150, HIGH), begin));
    assert_eq!(router.differences(), []);
    assert_eq!(router.statistics().address_list_errors, 0);
}

#[test]
fn each_refusal_names_the_field_and_both_values_and_has_its_counter() {
    let good = || packet(&config(), 150, HIGH);
    let with = |change: &dyn Fn(&mut Datagram)| {
        let mut datagram = good();
        change(&mut datagram);
        datagram
    };
    let none = Config { authentication: Authentication::None, ..config() };
    let other = Config { authentication: password("secret-2"), ..config() };
    let slow = Config { advertisement_interval: 2 * SECOND, ..config() };
    let stranger = Config { vrid: Vrid::new(7).unwrap(), ..config() };
    let group = Endpoints::to_group(address(HIGH));
    let elsewhere = match group {
        Endpoints::Ipv4 { source, .. } => {
            Endpoints::Ipv4 { source, destination: "10.0.0.2".parse().unwrap() }
        }
        Endpoints::Ipv6 { .. } => panic!("an IPv4 packet"),
    };
    let table: &[(&str, Datagram, &str)] = &[
        ("version-errors", packet(&version_3(), 150, HIGH), "version 3, ours is 2"),
        ("version-errors", with(&|datagram| datagram.payload[0] = 0x51), "version 5, ours is 2"),
        (
            "authentication-type-errors",
            packet(&none, 150, HIGH),
            "authentication type 0 (none), ours is 1 (password)",
        ),
        (
            "authentication-type-errors",
            with(&|datagram| datagram.protocol = 51),
            "an authentication header (type 2, AH), ours is 1 (password)",
        ),
        ("authentication-failures", packet(&other, 150, HIGH), "a password that differs from ours"),
        (
            "interval-errors",
            packet(&slow, 150, HIGH),
            "an advertisement interval of 2s, ours is 1s",
        ),
        ("ip-ttl-errors", with(&|datagram| datagram.ttl = 64), "TTL 64, it must be 255"),
        (
            "checksum-errors",
            with(&|datagram| datagram.payload[6..8].fill(0x11)),
            "checksum 0x1111, it should be 0xc7cc",
        ),
        (
            "packet-length-errors",
            with(&|datagram| datagram.payload.truncate(12)),
            "12 bytes, an address count of 1 needs 20",
        ),
        (
            "invalid-type-pkts-rcvd",
            with(&|datagram| datagram.payload[0] = 0x22),
            "type 2, only 1 (advertisement) is defined",
        ),
        ("vrid-errors", packet(&stranger, 150, HIGH), "VRID 7, ours is 51"),
        (
            "address-errors",
            with(&|datagram| datagram.endpoints = elsewhere),
            "to 10.0.0.2 (unicast), ours is 224.0.0.18 (multicast)",
        ),
        ("address-errors", with(&|datagram| datagram.protocol = 17), "IP protocol 17, VRRP is 112"),
        ("address-errors", packet(&config(), 150, OWN), "with our own address as its source"),
    ];
    for (counter, datagram, text) in table {
        let begin = start_of_time();
        let mut router = started(config(), begin);
        let due = router.next_deadline();
        let actions = router.receive(datagram, begin + SECOND);
        let source = datagram.endpoints.source();
        let [Action::Rejected { rejection, .. }] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(rejection.to_string(), *text);
        assert_eq!(router.misunderstood()[0].to_string(), format!("{source} sends {text}"));
        assert_eq!(router.next_deadline(), due, "{text}: as if it had not been received");
        let counted: Vec<_> =
            router.statistics().named().into_iter().filter(|(_, n)| *n > 0).collect();
        assert_eq!(counted, [(*counter, 1)]);
    }
}

#[test]
fn passwords_are_in_no_text() {
    let other = Config { authentication: password("hunter22"), ..config() };
    let begin = start_of_time();
    let mut router = started(config(), begin);
    let actions = router.receive(&packet(&other, 150, HIGH), begin);
    let format = Advertisement::of(&other, 150);
    for text in [format!("{actions:?}"), format!("{router:?}"), format!("{format:?}")] {
        assert!(!text.contains("hunter22") && !text.contains("9YasrrhZ"), "{text}");
        assert!(!text.contains("104, 117"), "nor as bytes: {text}");
    }
}

#[test]
fn a_neighbour_that_is_understood_again_is_no_longer_held_against() {
    let wrong = Config { authentication: password("wrong"), ..config() };
    let begin = start_of_time();
    let mut router = started(config(), begin);
    for second in 0..5 {
        drop(router.receive(&packet(&wrong, 150, HIGH), begin + second * SECOND));
    }
    let entry = router.misunderstood()[0];
    assert_eq!((entry.count, entry.since, entry.last), (5, begin, begin + 4 * SECOND));
    drop(router.receive(&packet(&config(), 150, HIGH), begin + 5 * SECOND));
    assert_eq!(router.misunderstood(), []);
}

#[test]
fn an_operator_hears_of_refusals_at_most_once_a_second() {
    let wrong = Config { authentication: password("wrong"), ..config() };
    let begin = start_of_time();
    let mut router = started(config(), begin);
    let mut told = Vec::new();
    for number in 0..100_u8 {
        let source = format!("10.0.1.{}", number % 10);
        let now = begin + u32::from(number) * SECOND / 10;
        told.extend(router.receive(&packet(&wrong, 150, &source), now));
    }
    assert_eq!(told.len(), 10, "each of the ten neighbours once, in ten seconds");
    let expected = Action::Rejected { source: address("10.0.1.0"), rejection: Rejection::Password };
    assert_eq!(told[0], expected);
}

#[test]
fn sent_and_received_are_counted() {
    let begin = start_of_time();
    let mut router = situated(Master, begin);
    drop(router.handle(Event::Timeout, begin + SECOND));
    drop(router.handle(heard(&config(), 0, HIGH), begin + SECOND));
    drop(router.handle(Event::Shutdown, begin + 2 * SECOND));
    let statistics = *router.statistics();
    assert_eq!(statistics.master_transitions, 1);
    assert_eq!(statistics.advertisements_sent, 4);
    assert_eq!(statistics.priority_zero_sent, 1);
    assert_eq!(statistics.advertisements_received, 1);
    assert_eq!(statistics.priority_zero_received, 1);
}

#[test]
fn the_data_of_authentication_type_0_is_ignored() {
    let none = Config { authentication: Authentication::None, ..config() };
    let mut odd = Advertisement::of(&none, 150);
    odd.format = Format::V2(AuthenticationData { kind: 0, data: [7; 8], sequence: 0 });
    let datagram = wrapped(&odd, HIGH);
    assert!(crate::judge(&none, &datagram).is_ok());
}

#[test]
fn ipv6_is_elected_like_ipv4() {
    let config = Config {
        family: Family::Ipv6,
        addresses: vec![address("fe80::51:1"), address("2001:db8::1")],
        ..version_3()
    };
    let begin = start_of_time();
    let mut router = VirtualRouter::new(config.clone());
    drop(router.handle(Event::Startup { primary: address("fe80::a") }, begin));
    drop(router.handle(Event::Claim, begin));
    let endpoints = Endpoints::to_group(address("fe80::b"));
    let payload = Advertisement::of(&config, 100).encode(&endpoints);
    let datagram = Datagram {
        endpoints,
        ttl: 255,
        identification: 0,
        protocol: PROTOCOL,
        payload,
        received: Duration::ZERO,
    };
    let actions = router.receive(&datagram, begin);
    assert_eq!(told(&actions), "send 100, master→backup, superseded by fe80::b (100)");
}

fn told(actions: &[Action]) -> String {
    let words: Vec<_> = actions
        .iter()
        .map(|action| match action {
            Action::Send(advertisement) => format!("send {}", advertisement.priority),
            Action::Elected { .. } => "elected".to_owned(),
            Action::Deferred => "deferred".to_owned(),
            Action::StateChanged { from, to } => format!("{}→{}", from.as_str(), to.as_str()),
            Action::Superseded { by, priority, .. } => format!("superseded by {by} ({priority})"),
            Action::Succeeded { by, priority } => format!("succeeded by {by} ({priority})"),
            Action::Rejected { source, rejection } => format!("{source} sends {rejection}"),
            Action::Differs { source, differing } => format!("{source} differs: {differing}"),
            Action::Withheld { .. } => "withheld".to_owned(),
            Action::Conflict { with } => format!("conflict with {with}"),
            Action::Overslept { late } => format!("overslept {late:?}"),
        })
        .collect();
    words.join(", ")
}

/// The state, and the time left until its deadline.
fn stands(router: &VirtualRouter, now: Instant) -> String {
    let Some(deadline) = router.next_deadline() else {
        assert_eq!(router.state().name(), StateName::Initialize);
        return "initialize".to_owned();
    };
    let left = deadline.saturating_duration_since(now).as_millis();
    let name = match router.state() {
        State::Backup { elected: true, .. } => "elected",
        state => state.name().as_str(),
    };
    format!("{name} +{}.{:03}", left / 1000, left % 1000)
}

fn started(config: Config, now: Instant) -> VirtualRouter {
    let mut router = VirtualRouter::new(config);
    drop(router.handle(startup(), now));
    router
}

fn startup() -> Event {
    Event::Startup { primary: address(OWN) }
}

fn heard(config: &Config, priority: u8, source: &str) -> Event {
    Event::Received { advertisement: Advertisement::of(config, priority), source: address(source) }
}

fn packet(config: &Config, priority: u8, source: &str) -> Datagram {
    wrapped(&Advertisement::of(config, priority), source)
}

fn wrapped(advertisement: &Advertisement, source: &str) -> Datagram {
    let packet =
        Encoder::new(&config()).packets(advertisement, address(source), Duration::ZERO).remove(0);
    Datagram::from_ipv4(&packet.bytes, Duration::ZERO).unwrap()
}

fn config() -> Config {
    Config {
        authentication: password("9YasrrhZ"),
        addresses: vec![address("10.0.0.100")],
        ..Config::new(Vrid::new(51).unwrap(), Version::V2, Family::Ipv4)
    }
}

fn version_3() -> Config {
    Config { version: Version::V3, authentication: Authentication::None, ..config() }
}

fn password(text: &str) -> Authentication {
    Authentication::Pass(Password::new(text).unwrap())
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[expect(
    clippy::disallowed_methods,
    reason = "any instant will do; it is not compared with the clock"
)]
fn start_of_time() -> Instant {
    Instant::now() + Duration::from_hours(1)
}
