//! Two routers that do not agree: who hears whom, who becomes master, and what our `status` says about it.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use lockstep_tests::inject::{VrrpBytes, VrrpSender};
use lockstep_tests::router::Role;
use lockstep_tests::segment::ipv4;
use lockstep_tests::setting::{Authentication, PASSWORD};

/// Two settings that routers refuse from each other, and the words with which our `status` names what `b` hears from `a`, and
/// `a` from `b`.
struct Mismatch {
    a: Setting,
    b: Setting,
    named_by_b: &'static [&'static str],
    named_by_a: &'static [&'static str],
}

impl Mismatch {
    /// Both become master, and ours says why. keepalived may even fall silent then: each advertisement that it refuses puts
    /// its own next one off.
    fn two_masters(&self, scenario: &str) {
        each_pair(scenario, |programs| {
            let mut seen = Observation::default();
            let mut segment = Segment::new(programs);
            segment.start_master(0, &self.a.priority(150));
            segment.start_master(1, &self.b);
            seen.note("holders", segment.holders());
            for (index, lockstep) in segment.locksteps() {
                let words = if index == 0 { self.named_by_a } else { self.named_by_b };
                wait_until_named(lockstep, ipv4(1 - index), words);
            }
            if let Some((_, second)) = segment.locksteps().find(|(index, _)| *index == 1) {
                let named = format!("; {} is heard and sends ", ipv4(0));
                wait::until("the journal names the first in the reason for the takeover", || {
                    second.log().contains(&named)
                });
            }
            seen
        });
    }

    /// With `when-misunderstood = "stay-backup"` ours stays backup while the other is heard, and takes over when it is not.
    fn stays_backup(&self) {
        each_beside_ours(|programs| {
            let mut segment = Segment::new(programs);
            segment.start_master(0, &self.a.priority(150));
            segment.start_backup(1, &self.b.ours("when-misunderstood = \"stay-backup\""));
            let heard = segment.advertisements(0).len();
            wait::until("longer than a master down interval", || {
                segment.advertisements(0).len() > heard + 6
            });
            assert_eq!((segment.masters().as_str(), segment.role(1)), ("a", Role::Backup));
            assert!(segment.has_none(1));
            let (_, ours) = segment.locksteps().last().expect("ours runs");
            wait_until_named(ours, ipv4(0), self.named_by_b);

            segment.kill(0);
            segment.wait_for_master(1);
            segment.wait_for_masters("ab");
        });
    }
}

fn passwords() -> Mismatch {
    Mismatch {
        a: authenticated(Authentication::Pass(PASSWORD)),
        b: authenticated(Authentication::Pass("another1")),
        named_by_a: &["password"],
        named_by_b: &["password"],
    }
}

fn authentication_types() -> Mismatch {
    Mismatch {
        a: authenticated(Authentication::Pass(PASSWORD)),
        b: authenticated(Authentication::None),
        named_by_a: &["authentication", "0", "1"],
        named_by_b: &["authentication", "0", "1"],
    }
}

fn header_and_password() -> Mismatch {
    Mismatch {
        a: authenticated(Authentication::Header(PASSWORD)),
        b: authenticated(Authentication::Pass(PASSWORD)),
        named_by_a: &["authentication", "1", "2"],
        named_by_b: &["authentication", "1", "2"],
    }
}

fn header_and_nothing() -> Mismatch {
    Mismatch {
        a: authenticated(Authentication::Header(PASSWORD)),
        b: authenticated(Authentication::None),
        named_by_a: &["authentication", "0", "2"],
        named_by_b: &["authentication", "0", "2"],
    }
}

fn header_keys() -> Mismatch {
    Mismatch {
        a: authenticated(Authentication::Header(PASSWORD)),
        b: authenticated(Authentication::Header("another1")),
        named_by_a: &["authentication"],
        named_by_b: &["authentication"],
    }
}

fn versions() -> Mismatch {
    let slow = Duration::from_secs(1);
    Mismatch {
        a: Setting::version_2(),
        b: Setting { interval: slow, ..Setting::version_3() },
        named_by_a: &["version", "2", "3"],
        named_by_b: &["version", "2", "3"],
    }
}

fn intervals() -> Mismatch {
    Mismatch {
        a: Setting::version_2(),
        b: Setting { interval: Duration::from_secs(2), ..Setting::version_2() },
        named_by_a: &["interval", "1s", "2s"],
        named_by_b: &["interval", "1s", "2s"],
    }
}

macro_rules! refused {
    ($($name:ident: $mismatch:expr;)*) => {
        $(
            #[test]
            fn $name() {
                std::thread::scope(|scope| {
                    scope.spawn(|| $mismatch.two_masters(stringify!($name)));
                    scope.spawn(|| $mismatch.stays_backup());
                });
            }
        )*
    };
}

// Two masters each, unless ours is told to stay backup while it hears somebody.
refused! {
    another_password_is_refused_and_named: passwords();
    another_authentication_type_is_refused_and_named: authentication_types();
    a_header_instead_of_a_password_is_refused_and_named: header_and_password();
    a_header_instead_of_nothing_is_refused_and_named: header_and_nothing();
    another_key_of_the_header_is_refused_and_named: header_keys();
    another_version_is_refused_and_named: versions();
    another_interval_in_version_2_is_refused_and_named: intervals();
}

#[test]
fn secrets_are_never_shown() {
    let mut segment = Segment::new(&[Program::Keepalived, Program::Lockstep]);
    let Mismatch { a, b, .. } = passwords();
    segment.start_master(0, &a.priority(150));
    segment.start_backup(1, &b);
    let (_, lockstep) = segment.locksteps().next().expect("it runs Lockstep");
    wait::until("the refused advertisements are counted", || {
        counter(lockstep, "authentication-failures") >= 2
    });
    let shown = String::from_utf8(lockstep.command(&["status"]).stdout).expect("text");
    assert!(shown.contains("password"), "the text form names it: {shown}");
    for secret in [PASSWORD, "another1"] {
        assert!(!shown.contains(secret) && !lockstep.log().contains(secret), "a secret is shown");
    }
}

#[test]
fn another_interval_in_version_3_is_learned() {
    each_pair("another_interval_in_version_3_is_learned", |programs| {
        let slow = Setting { interval: Duration::from_millis(500), ..Setting::version_3() };
        let quick = Setting::version_3();
        let mut seen = Observation::default();
        let mut segment = Segment::new(programs);
        segment.start_master(0, &slow.priority(150));
        segment.start_backup(1, &quick);
        let heard = segment.advertisements(0).len();
        wait::until("some intervals pass", || segment.advertisements(0).len() > heard + 2);
        segment.wait_for_masters("a");

        segment.kill(0);
        segment.wait_for_only_master(1);
        let frames = segment.capture.frames().clone();
        let times = |index| {
            let own = move |address| address == ipv4(index);
            frames
                .iter()
                .filter(move |frame| frame.advertisement().is_some_and(|seen| own(seen.source)))
        };
        let last = times(0).next_back().expect("the first was master").at;
        let claim = times(1).next().expect("the second is master").at;
        let waited = claim.saturating_sub(last);
        assert!(waited >= slow.interval * 3, "{waited:?} after the last word");
        seen.note("story", segment.story());
        seen.note("words of the second", segment.words(1));
        seen
    });
}

#[test]
fn an_address_list_that_differs_never_makes_ours_a_second_master() {
    // keepalived 2.2.7 refuses another list: two of it are both master, and so is the one beside ours. Ours listens.
    each_pair("an_address_list_that_differs", |programs| {
        let mut seen = Observation::default();
        let setting = Setting::version_3();
        let longer = setting.addresses(&["10.51.0.1/24", "10.51.0.2/24"]);
        let mut segment = Segment::new(programs);
        segment.start_master(0, &longer.priority(150));
        segment.start(1, &setting);
        match segment.program(1) {
            Program::Keepalived => segment.wait_for_master(1),
            Program::Lockstep => {
                segment.wait_for(1, Role::Backup);
                let heard = segment.advertisements(0).len();
                wait::until("longer than a master down interval", || {
                    segment.advertisements(0).len() > heard + 6
                });
                assert_eq!((segment.masters().as_str(), segment.role(1)), ("a", Role::Backup));
            }
        }
        for (index, lockstep) in segment.locksteps() {
            if index == 1 || segment.program(1) == Program::Keepalived {
                wait_until_named(lockstep, ipv4(1 - index), &["10.51.0.2"]);
            }
        }
        seen.note("holders", segment.holders());
        seen
    });
}

#[test]
fn a_checksum_of_the_other_reading_is_heeded_by_ours_and_refused_by_keepalived() {
    let setting = Setting::version_3();
    let other = setting.ours("checksum = \"rfc9568\"");
    let play = |programs: [Program; 2]| {
        let mut segment = Segment::new(&programs);
        segment.start_master(0, &other.priority(150));
        if programs[1] == Program::Keepalived {
            // Two masters, and the better one, ours, stays what it is.
            segment.start_master(1, &setting);
            assert_eq!(segment.role(0), Role::Master);
            wait::until("ours hears the other one", || {
                let (_, ours) = segment.locksteps().next().expect("it runs Lockstep");
                counter(ours, "advertisement-rcvd") > 2
            });
            assert_eq!(segment.holders(), ["a", "b"]);
            let (_, ours) = segment.locksteps().next().expect("it runs Lockstep");
            wait_until_named(ours, ipv4(1), &["checksum", "RFC 9568"]);
        } else {
            segment.start_backup(1, &setting);
            let heard = segment.advertisements(0).len();
            wait::until("longer than a master down interval", || {
                segment.advertisements(0).len() > heard + 6
            });
            assert_eq!((segment.masters().as_str(), segment.role(1)), ("a", Role::Backup));
        }
        let sums = segment.words(0).advertisements;
        assert!(sums.iter().all(|seen| seen.contains("sum Message")), "{sums:?}");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| play([Program::Lockstep, Program::Keepalived]));
        scope.spawn(|| play([Program::Lockstep, Program::Lockstep]));
    });
}

/// A master goes on after what is no proper advertisement of a better router, and gives way to one that is.
#[test]
fn what_is_no_proper_advertisement_is_not_heeded() {
    let scenario = "what_is_no_proper_advertisement_is_not_heeded";
    let whole = better().summed();
    let cases = [
        ("ip-ttl-errors", whole.clone(), 254),
        ("packet-length-errors", whole[..whole.len() - 9].to_vec(), 255),
        ("packet-length-errors", better().with(3, 9).summed(), 255),
        ("checksum-errors", better().with(6, 0xba).with(7, 0xad).0, 255),
    ];
    compare::compare(scenario, &["KK", "LK"], DIFFERENCES, |programs| {
        let mut seen = Observation::default();
        let mut segment = Segment::new(programs);
        segment.start_master(0, &Setting::version_2());
        let IpAddr::V4(stranger) = ipv4(1) else { unreachable!("it is an IPv4 address") };
        let sender = VrrpSender::new(segment.node(1), stranger);
        let counters = |segment: &Segment, name| -> Vec<u64> {
            segment.locksteps().map(|(_, lockstep)| counter(lockstep, name)).collect()
        };
        for (name, packet, ttl) in &cases {
            let before = counters(&segment, name);
            sender.send(packet, *ttl);
            let counted: Vec<u64> = before.iter().map(|count| count + 1).collect();
            wait::until(&format!("{name} counts it"), || counters(&segment, name) == counted);
        }
        let heard = segment.advertisements(0).len();
        wait::until("it goes on", || segment.advertisements(0).len() > heard + 1);
        assert_eq!(segment.role(0), Role::Master);
        seen.note("holders after them", segment.holders());

        sender.send(&whole, 255);
        segment.wait_for(0, Role::Backup);
        wait::until("it gives the address up", || segment.has_none(0));
        seen
    });
}

/// What a better router would send.
fn better() -> VrrpBytes {
    VrrpBytes::new(51, 200, Ipv4Addr::new(10, 51, 0, 1), "\0\0\0\0\0\0\0\0").with(4, 0)
}

fn authenticated(authentication: Authentication) -> Setting {
    Setting { authentication, ..Setting::version_2() }
}

/// Plays with ours as the second router beside each program, at the same time.
fn each_beside_ours(play: impl Fn(&[Program]) + Sync) {
    std::thread::scope(|scope| {
        for first in [Program::Keepalived, Program::Lockstep] {
            let play = &play;
            scope.spawn(move || play(&[first, Program::Lockstep]));
        }
    });
}
