//! Runs the checks, each at its own interval, in every state of the groups.
//!
//! One task per check: a run starts when the last one has ended and the next interval has come, so
//! runs of one check never pile up and a slow check never delays another. A run that could not be
//! ended, because the kernel keeps it waiting, is a failure at each interval until it is gone.

use std::time::Duration;

use lockstep_failover::Check;
use lockstep_failover::tracking::{Tracker, Verdict};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{info, warn};

use crate::messages::CoreEvent;
use crate::process::{self, Left, Lifetime};
use crate::status;

/// What `status` shows of one check.
pub(crate) type Shown = watch::Receiver<status::Check>;

/// What is to be checked.
pub(crate) struct Settings {
    /// The router's name.
    pub router: String,
    /// The checks.
    pub checks: Vec<Check>,
    /// Whether programs are run that others could replace.
    pub insecure: bool,
}

/// From the first start of one check to that of the next: thousands must not start at once, then or
/// at any later interval.
const APART: Duration = Duration::from_millis(2);
/// So many checks apart, the first starts coincide again: nobody waits longer than this for the first
/// result.
const ROUND: usize = 1_000;

/// Starts every check on the current runtime; each ends with the runtime or with the core. The
/// first run is at once, or as soon as those before it have started.
pub(crate) fn spawn(settings: &Settings, core: &mpsc::Sender<CoreEvent>) -> Vec<Shown> {
    let Settings { router, checks, insecure } = settings;
    let start = Instant::now();
    checks
        .iter()
        .enumerate()
        .map(|(place, check)| {
            let (shown, receiver) = watch::channel(status::Check {
                name: check.name.clone(),
                state: Verdict::Unknown.as_str().to_owned(),
                detail: "has not run yet".to_owned(),
            });
            let command = process::Command {
                argv: check.command.clone(),
                environment: vec![
                    ("LOCKSTEP_ROUTER", router.clone()),
                    ("LOCKSTEP_CHECK", check.name.clone()),
                ],
                user: check.user.clone(),
                timeout: check.timeout,
                insecure: *insecure,
                lifetime: Lifetime::Ours,
            };
            let first = start + APART * (place % ROUND) as u32;
            tokio::spawn(repeat(command, check.clone(), first, core.clone(), shown));
            receiver
        })
        .collect()
}

async fn repeat(
    command: process::Command,
    check: Check,
    first: Instant,
    core: mpsc::Sender<CoreEvent>,
    shown: watch::Sender<status::Check>,
) {
    let mut tracker = Tracker::new(check.rise, check.fall);
    // An interval of zero would be a busy loop; the configuration refuses it.
    let mut ticks = interval_at(first, check.interval.max(MINIMAL_INTERVAL));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut left: Option<Box<Left>> = None;
    loop {
        ticks.tick().await;
        left.take_if(|left| left.is_gone());
        let (success, detail) = if left.is_some() {
            (false, "an earlier run was killed and is still not gone".to_owned())
        } else {
            let mut ended = process::run(command.clone()).await;
            left = ended.left.take();
            (ended.success(), ended.to_string())
        };
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
const MINIMAL_INTERVAL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
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

    fn spawn_one(check: Check, core: &mpsc::Sender<CoreEvent>) -> Vec<Shown> {
        let settings = Settings { router: "r1".to_owned(), checks: vec![check], insecure: false };
        spawn(&settings, core)
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
        let shown = spawn_one(check(&script, short, Duration::from_secs(10)), &core);
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
        spawn_one(check("sleep 1000", Duration::from_secs(1), limit), &core);
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
        spawn_one(check(&script, interval, Duration::from_secs(20)), &core);
        for _ in 0..4 {
            assert!(next(&mut events).await.1, "two runs at the same time");
        }
    }

    #[tokio::test]
    async fn many_checks_do_not_start_at_once_and_the_first_does() {
        let (core, mut events) = mpsc::channel(256);
        let start = Instant::now();
        let checks = (0..100).map(|number| Check {
            name: number.to_string(),
            ..check("true", Duration::from_mins(1), Duration::from_mins(1))
        });
        let settings =
            Settings { router: "r1".to_owned(), checks: checks.collect(), insecure: false };
        spawn(&settings, &core);
        let mut names: Vec<String> = Vec::new();
        while names.len() < 100 {
            names.push(next(&mut events).await.0);
        }
        assert!(start.elapsed() >= APART * 99, "they all started at once");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 100, "each has run once");
    }

    #[tokio::test]
    async fn a_check_ends_with_the_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let script = format!("echo $$ >{0}.new; mv {0}.new {0}; sleep 1000; true", path.display());
        let (core, mut events) = mpsc::channel(8);
        let daemon = std::thread::spawn({
            let path = path.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(async move {
                    let long = Duration::from_mins(10);
                    spawn_one(check(&script, long, long), &core);
                    while !path.exists() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                });
            }
        });
        daemon.join().unwrap();
        assert!(events.recv().await.is_none(), "it has not ended by itself");
        let pid = std::fs::read_to_string(path).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        while alive() {
            assert!(Instant::now() < deadline, "it lives on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn no_second_run_is_started_while_the_first_cannot_be_ended() {
        let directory = tempfile::tempdir().unwrap();
        let runs = directory.path().join("runs");
        // As in the tests of `process`: its remains stay in the group until the other one is gone.
        let script = format!(
            "import os, time\n\
             if os.fork(): time.sleep(1000)\n\
             if not os.fork(): time.sleep(1000)\n\
             os.setsid()\n\
             open('{}', 'a').write(str(os.getpid()) + '\\n')\n\
             time.sleep(1000)",
            runs.display()
        );
        let (core, mut events) = mpsc::channel(64);
        let mut stuck = check("", Duration::from_millis(50), Duration::from_secs(3));
        stuck.command = vec!["python3".to_owned(), "-c".to_owned(), script];
        spawn_one(stuck, &core);
        assert_eq!(next(&mut events).await.2, "timed out after 3s");
        let gone = "an earlier run was killed and is still not gone";
        for _ in 0..3 {
            assert_eq!(next(&mut events).await.2, gone, "a failure at each interval");
        }
        let pids = std::fs::read_to_string(&runs).unwrap();
        assert_eq!(pids.lines().count(), 1, "one run: {pids}");
        let pid = nix::unistd::Pid::from_raw(pids.trim().parse().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        while next(&mut events).await.2 == gone {}
        let pids = std::fs::read_to_string(&runs).unwrap();
        let second = pids.lines().nth(1).expect("it runs again").parse().unwrap();
        let second = nix::unistd::Pid::from_raw(second);
        nix::sys::signal::kill(second, nix::sys::signal::Signal::SIGKILL).unwrap();
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
