//! A worker that is killed after a reload: its successor has what was in force.

use std::time::Duration;

use lockstep_tests::daemon::Lockstep;
use lockstep_tests::frames::Content;
use lockstep_tests::pair::{OURS, Pair, THEIRS};
use lockstep_tests::wait;
use nix::sys::signal::Signal;

use crate::{config, master, reason, replace_worker};

/// The intervals that a router has advertised, with priority above 0, behind so many frames.
fn intervals(pair: &Pair, of: std::net::Ipv4Addr, behind: usize) -> Vec<Duration> {
    let frames = pair.capture.frames();
    let seen = frames.iter().skip(behind).filter_map(|frame| match &frame.content {
        Content::Advertisement(seen) if seen.source == of && seen.priority > 0 => {
            Some(seen.interval)
        }
        _ => None,
    });
    seen.collect()
}

#[test]
fn a_master_that_is_killed_after_its_interval_was_changed_goes_on_with_the_new_one() {
    for (old, new) in [("1s", "2s"), ("2s", "1s"), ("1s", "600ms")] {
        let text = |priority, interval: &str| {
            config(priority, "").replace("\"1s\"", &format!("\"{interval}\""))
        };
        let pair = Pair::new();
        let ours = master(&pair.ours, &text(150, old));
        let theirs = Lockstep::start(&pair.theirs, &text(100, old));
        theirs.wait_for_state("gateway", "backup");
        for (daemon, priority) in [(&ours, 150), (&theirs, 100)] {
            daemon.take(&text(priority, new));
        }
        let milliseconds = |text: &str| match text.strip_suffix("ms") {
            Some(count) => count.parse().expect("a number"),
            None => text.trim_end_matches('s').parse::<u64>().expect("a number") * 1000,
        };
        let interval = Duration::from_millis(milliseconds(new));
        wait::until("the new interval has been heard", || {
            theirs.virtual_router("inside")["master-interval-ms"] == milliseconds(new)
        });

        let before = pair.capture.frames().len();
        replace_worker(&ours, Signal::SIGKILL);
        let heard = || intervals(&pair, OURS, before);
        wait::until("it is heard again", || {
            assert!(
                !(Pair::has_virtual_address(&pair.ours) && Pair::has_virtual_address(&pair.theirs)),
                "{old} to {new}: two routers have the address"
            );
            heard().len() > 3
        });
        assert!(heard().iter().all(|seen| *seen == interval), "{old} to {new}: {:?}", heard());
        ours.wait_for_state("gateway", "master");
        theirs.wait_for_state("gateway", "backup");
        let taken_over = !intervals(&pair, THEIRS, before).is_empty();
        let resumed = reason(&ours).starts_with("resumed");
        assert_ne!(
            resumed,
            taken_over,
            "{old} to {new}: one of them has gone on: {}",
            reason(&ours)
        );
        // With the other intervals there is time, even here.
        assert!(resumed || new == "600ms", "{old} to {new}: {}", reason(&ours));
        if resumed {
            assert_eq!(theirs.journal("gateway").len(), 1, "{old} to {new}: only ever backup");
        }
    }
}
