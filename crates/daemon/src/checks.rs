//! Runs the checks, each at its own interval, in every state of the groups.
//!
//! One task per check: a run starts when the last one has ended and the next interval has come, so
//! runs of one check never pile up and a slow check never delays another.

use lockstep_failover::Check;
use lockstep_failover::tracking::{Tracker, Verdict};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::messages::CoreEvent;
use crate::process;
use crate::status;

/// What `status` shows of one check.
pub(crate) type Shown = watch::Receiver<status::Check>;

/// Starts every check on the current runtime; each ends with the runtime or with the core. The
/// first run is at once.
pub(crate) fn spawn(router: &str, checks: &[Check], core: &mpsc::Sender<CoreEvent>) -> Vec<Shown> {
    checks
        .iter()
        .map(|check| {
            let (shown, receiver) = watch::channel(status::Check {
                name: check.name.clone(),
                state: Verdict::Unknown.as_str().to_owned(),
                detail: "has not run yet".to_owned(),
            });
            tokio::spawn(repeat(router.to_owned(), check.clone(), core.clone(), shown));
            receiver
        })
        .collect()
}

async fn repeat(
    router: String,
    check: Check,
    core: mpsc::Sender<CoreEvent>,
    shown: watch::Sender<status::Check>,
) {
    let mut tracker = Tracker::new(check.rise, check.fall);
    // An interval of zero would be a busy loop; the configuration refuses it.
    let mut ticks = interval(check.interval.max(MINIMAL_INTERVAL));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let ended = process::run(process::Command {
            argv: check.command.clone(),
            environment: vec![
                ("LOCKSTEP_ROUTER", router.clone()),
                ("LOCKSTEP_CHECK", check.name.clone()),
            ],
            user: check.user.clone(),
            timeout: check.timeout,
        })
        .await;
        let success = ended.success();
        let detail = ended.to_string();
        match tracker.record(success) {
            Some(Verdict::Bad) => warn!(check = check.name, detail, "check failed"),
            Some(Verdict::Good) => info!(check = check.name, detail, "check succeeded"),
            Some(Verdict::Unknown) | None => {}
        }
        shown.send_replace(show(&check.name, &tracker, &detail));
        let event = CoreEvent::Check { name: check.name.clone(), success, detail };
        if core.send(event).await.is_err() {
            return;
        }
    }
}

fn show(name: &str, tracker: &Tracker, detail: &str) -> status::Check {
    let detail = match tracker.contrary() {
        (0, _) => detail.to_owned(),
        (contrary, needed) => format!("{detail} ({contrary} of {needed} in a row)"),
    };
    status::Check { name: name.to_owned(), state: tracker.verdict().as_str().to_owned(), detail }
}

/// No check runs more often than this.
const MINIMAL_INTERVAL: std::time::Duration = std::time::Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn check(script: &str, interval: Duration, timeout: Duration) -> Check {
        Check {
            name: "probe".to_owned(),
            command: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
            user: None,
            interval,
            timeout,
            rise: 1,
            fall: 2,
        }
    }

    async fn next(events: &mut mpsc::Receiver<CoreEvent>) -> (String, bool, String) {
        let limit = Duration::from_secs(20);
        match tokio::time::timeout(limit, events.recv()).await.expect("a check within 20 s") {
            Some(CoreEvent::Check { name, success, detail }) => (name, success, detail),
            other => panic!("not a check: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_check_runs_at_once_and_again_and_its_results_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let marker = directory.path().join("ran");
        let script = format!("test -e {0} && echo broken && exit 4; touch {0}", marker.display());
        let (core, mut events) = mpsc::channel(8);
        let short = Duration::from_millis(20);
        let shown = spawn("r1", &[check(&script, short, Duration::from_secs(10))], &core);
        assert_eq!(shown[0].borrow().state, "unknown");
        let expected = ("probe".to_owned(), true, "exit status 0".to_owned());
        assert_eq!(next(&mut events).await, expected);
        let expected = ("probe".to_owned(), false, "exit status 4: broken".to_owned());
        assert_eq!(next(&mut events).await, expected);
        assert_eq!(next(&mut events).await, expected);
        assert_eq!(shown[0].borrow().state, "bad");
        assert_eq!(shown[0].borrow().detail, "exit status 4: broken");
    }

    #[tokio::test]
    async fn a_check_that_hangs_is_ended_and_has_failed() {
        let (core, mut events) = mpsc::channel(8);
        let limit = Duration::from_millis(100);
        spawn("r1", &[check("sleep 1000", Duration::from_secs(1), limit)], &core);
        let (_, success, detail) = next(&mut events).await;
        assert!(!success);
        assert_eq!(detail, "timed out after 100ms");
    }

    #[tokio::test]
    async fn runs_of_one_check_never_overlap() {
        let directory = tempfile::tempdir().unwrap();
        let lock = directory.path().join("lock");
        // mkdir fails when another run holds the lock.
        let script = format!("mkdir {0} && sleep 0.1 && rmdir {0}", lock.display());
        let (core, mut events) = mpsc::channel(8);
        let interval = Duration::from_millis(20);
        spawn("r1", &[check(&script, interval, Duration::from_secs(20))], &core);
        for _ in 0..4 {
            assert!(next(&mut events).await.1, "two runs at the same time");
        }
    }

    #[test]
    fn runs_against_the_verdict_are_counted_for_people() {
        let mut tracker = Tracker::new(1, 3);
        tracker.record(true);
        tracker.record(false);
        let shown = show("probe", &tracker, "exit status 1");
        assert_eq!(shown.state, "good");
        assert_eq!(shown.detail, "exit status 1 (1 of 3 in a row)");
    }
}
