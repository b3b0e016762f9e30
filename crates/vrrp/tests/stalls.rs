//! Routers that are not scheduled for a while: late is not dead.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use lockstep_vrrp::{
    Action, Advertisement, Config, Event, Family, Priority, StateName, Version, VirtualRouter, Vrid,
};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_backup_with_packets_waiting_in_its_socket_never_elects_itself(
        ours in 1..=254_u8,
        better in 0..=255_u8,
        interval in intervals(),
        phase in 0..1000_u32,
        stall in 0..600_000_u64,
        timer_first in any::<bool>(),
    ) {
        let theirs = ours.saturating_add(better);
        let begin = start_of_time();
        let mut backup = VirtualRouter::new(config(ours, interval));
        drop(backup.handle(Event::Startup { primary: OURS }, begin));
        let master = config(theirs, interval);
        let heard = || Event::Received {
            advertisement: Advertisement::of(&master, theirs),
            source: THEIRS,
        };
        drop(backup.handle(heard(), begin));
        let stalled = begin + interval * phase / 1000;
        let awake = stalled + Duration::from_millis(stall);
        // What the master sent meanwhile waits; the socket holds no more than the newest 50.
        let sent = (awake - begin).as_nanos() / interval.as_nanos();
        let late = backup.next_deadline().is_some_and(|due| awake >= due + interval);
        let mut actions = Vec::new();
        if timer_first && late {
            actions.extend(backup.handle(Event::Timeout, awake));
        }
        for _ in 0..sent.min(50) {
            actions.extend(backup.handle(heard(), awake));
        }
        actions.extend(backup.handle(Event::Timeout, awake));
        // The master goes on.
        for number in 1..=5 {
            let now = awake + interval * number;
            actions.extend(backup.handle(heard(), now));
            actions.extend(backup.handle(Event::Timeout, now));
        }
        let elected = actions.iter().any(|action| matches!(action, Action::Elected { .. }));
        prop_assert!(!elected, "{:?}", actions);
    }

    #[test]
    fn a_master_that_was_replaced_while_it_slept_says_nothing_before_it_yields(
        ours in 1..=255_u8,
        theirs in 1..=255_u8,
        interval in intervals(),
        stall in 0..600_000_u64,
    ) {
        let begin = start_of_time();
        let mut sleeper = VirtualRouter::new(config(ours, interval));
        drop(sleeper.handle(Event::Startup { primary: OURS }, begin));
        drop(sleeper.handle(Event::Claim, begin));
        // The other takes over after a master down interval, and is heard once.
        let awake = begin + 4 * interval + Duration::from_millis(stall);
        let mut actions = sleeper.handle(
            Event::Received {
                advertisement: Advertisement::of(&config(theirs, interval), theirs),
                source: THEIRS,
            },
            awake,
        );
        actions.extend(sleeper.handle(Event::Timeout, awake));
        prop_assert_eq!(sleeper.state().name(), StateName::Backup);
        let spoke = actions.iter().any(|action| matches!(action, Action::Send(_)));
        prop_assert!(!spoke, "{:?}", actions);
    }

    #[test]
    fn two_routers_settle_on_one_master_after_any_stalls(
        priorities in (1..=254_u8, 1..=254_u8),
        preempt in any::<bool>(),
        interval in intervals(),
        stalls in proptest::collection::vec((0..2_usize, 0..40_u32, 0..40_u32), 0..6),
    ) {
        let mut lan = Lan::new([priorities.0, priorities.1], preempt, interval);
        for (number, pause, length) in stalls {
            lan.run(interval * pause / 2);
            lan.stall(number, interval * length / 2);
        }
        let over = lan.stalled_until.into_iter().max().unwrap();
        lan.run(over.saturating_duration_since(lan.now) + 12 * interval);
        let masters = lan.masters();
        prop_assert_eq!(masters.len(), 1, "{:?}", masters);
        let changes = lan.changes;
        lan.run(40 * interval);
        prop_assert_eq!(lan.masters(), masters);
        prop_assert_eq!(lan.changes, changes, "and stay so");
    }
}

/// Two routers that hear each other at once, each with its own stalls.
struct Lan {
    routers: [VirtualRouter; 2],
    waiting: [Vec<Event>; 2],
    stalled_until: [Instant; 2],
    now: Instant,
    changes: usize,
}

impl Lan {
    fn new(priorities: [u8; 2], preempt: bool, interval: Duration) -> Self {
        let now = start_of_time();
        let router =
            |priority| VirtualRouter::new(Config { preempt, ..config(priority, interval) });
        let mut lan = Self {
            routers: priorities.map(router),
            waiting: [Vec::new(), Vec::new()],
            stalled_until: [now, now],
            now,
            changes: 0,
        };
        lan.feed(0, Event::Startup { primary: OURS });
        lan.feed(1, Event::Startup { primary: THEIRS });
        lan
    }

    fn stall(&mut self, number: usize, length: Duration) {
        let until = self.now + length;
        self.stalled_until[number] = self.stalled_until[number].max(until);
    }

    /// Runs until the time has passed; a router that is stalled has its packets wait and reads
    /// them before it looks at its timer.
    fn run(&mut self, length: Duration) {
        let end = self.now + length;
        loop {
            let due = |number: usize| {
                let timer = self.routers[number].next_deadline();
                let reading = (!self.waiting[number].is_empty()).then_some(self.now);
                let next = timer.into_iter().chain(reading).min()?;
                Some(next.max(self.now).max(self.stalled_until[number]))
            };
            let next = (0..2).filter_map(|number| Some((due(number)?, number))).min();
            let Some((at, number)) = next.filter(|(at, _)| *at <= end) else { break };
            self.now = at;
            for event in std::mem::take(&mut self.waiting[number]) {
                self.feed(number, event);
            }
            if self.routers[number].next_deadline().is_some_and(|due| due <= at) {
                self.feed(number, Event::Timeout);
            }
        }
        self.now = end;
    }

    fn feed(&mut self, number: usize, event: Event) {
        let mut actions = self.routers[number].handle(event, self.now);
        if actions.iter().any(|action| matches!(action, Action::Elected { .. })) {
            actions.extend(self.routers[number].handle(Event::Claim, self.now));
        }
        for action in actions {
            match action {
                Action::Send(advertisement) => {
                    let source = [OURS, THEIRS][number];
                    self.waiting[1 - number].push(Event::Received { advertisement, source });
                }
                Action::StateChanged { .. } => self.changes += 1,
                Action::Elected { .. }
                | Action::Deferred
                | Action::Superseded { .. }
                | Action::Succeeded { .. }
                | Action::Rejected { .. }
                | Action::Differs { .. }
                | Action::Withheld { .. }
                | Action::Conflict { .. }
                | Action::Overslept { .. } => (),
            }
        }
    }

    fn masters(&self) -> Vec<usize> {
        let is_master = |number: &usize| self.routers[*number].state().name() == StateName::Master;
        (0..2).filter(is_master).collect()
    }
}

fn intervals() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(10), Just(100), Just(1000), 1..4096_u64]
        .prop_map(|number| Duration::from_millis(number.div_ceil(10) * 10))
}

fn config(priority: u8, interval: Duration) -> Config {
    Config {
        priority: Priority::new(priority).unwrap(),
        advertisement_interval: interval,
        addresses: vec![Ipv4Addr::new(10, 0, 0, 100).into()],
        ..Config::new(Vrid::new(51).unwrap(), Version::V3, Family::Ipv4)
    }
}

const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const THEIRS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

#[expect(clippy::disallowed_methods, reason = "any instant will do; no clock is compared with it")]
fn start_of_time() -> Instant {
    Instant::now()
}
