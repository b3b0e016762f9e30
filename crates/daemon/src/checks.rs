//! Runs the checks, each at its own interval, in every state of the groups.
//!
//! One task per check: a run starts when the last one has ended and the next interval has come, so
//! runs of one check never pile up and a slow check never delays another. A run that could not be
//! ended, because the kernel keeps it waiting, is a failure at each interval until it is gone.

use std::collections::BTreeMap;
use std::future::pending;
use std::time::Duration;

use lockstep_failover::Check;
use lockstep_failover::tracking::{Tracker, Verdict};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tracing::{info, warn};

use crate::messages::CoreEvent;
use crate::process::{self, Left, Lifetime};
use crate::status;

/// What `status` shows of one check.
pub(crate) type Shown = watch::Receiver<status::Check>;

/// What is to be checked.
#[derive(Clone)]
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

/// The checks at work.
pub(crate) struct Checks {
    core: mpsc::Sender<CoreEvent>,
    running: Vec<Running>,
    /// Checks that were told to end, by name, so that a successor waits for them.
    ending: BTreeMap<String, Task>,
    shown: watch::Sender<Vec<Shown>>,
}

/// A check's task; it ends with what an earlier run could not be rid of.
type Task = JoinHandle<Option<Box<Left>>>;

/// A check at work.
struct Running {
    check: Check,
    router: String,
    insecure: bool,
    shown: Shown,
    over: watch::Sender<bool>,
    task: Task,
}

impl Settings {
    /// What a configuration says of checks.
    pub(crate) fn of(config: &lockstep_config::Config) -> Self {
        Self {
            router: config.router_id.clone(),
            checks: config.failover.checks.clone(),
            insecure: config.allow_insecure_scripts,
        }
    }

    fn has(&self, running: &Running) -> bool {
        let Running { check, router, insecure, .. } = running;
        (&self.router, self.insecure) == (router, *insecure) && self.checks.contains(check)
    }
}

impl Checks {
    /// No checks yet; `core` hears of every run. Where they are shown comes with them.
    pub(crate) fn new(core: mpsc::Sender<CoreEvent>) -> (Self, watch::Receiver<Vec<Shown>>) {
        let (shown, receiver) = watch::channel(Vec::new());
        (Self { core, running: Vec::new(), ending: BTreeMap::new(), shown }, receiver)
    }

    /// Ends every check that `settings` do not have as it is, its run too. Nothing is told of them
    /// any more.
    pub(crate) fn end(&mut self, settings: &Settings) {
        let (kept, over) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|running| settings.has(running));
        self.running = kept;
        self.ending.retain(|_, task| !task.is_finished());
        for Running { check, over, task, .. } in over {
            over.send_replace(true);
            self.ending.insert(check.name, task);
        }
    }

    /// Starts every check of `settings` that does not run yet, on the current runtime; each ends with
    /// the runtime or with the core. The first run is at once, or as soon as those before it have
    /// started and an earlier check of that name has ended.
    pub(crate) fn begin(&mut self, settings: &Settings) {
        let start = Instant::now();
        let mut before = std::mem::take(&mut self.running);
        let mut started = 0;
        for check in &settings.checks {
            if let Some(place) = before.iter().position(|running| running.check == *check) {
                self.running.push(before.swap_remove(place));
                continue;
            }
            let first = start + APART * (started % ROUND) as u32;
            started += 1;
            let running = self.start(check, settings, first);
            self.running.push(running);
        }
        self.shown.send_replace(self.running.iter().map(|one| one.shown.clone()).collect());
    }

    fn start(&mut self, check: &Check, settings: &Settings, first: Instant) -> Running {
        let Settings { router, insecure, .. } = settings;
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
            // By which it is ended here, as by the end of the check.
            timeout: check.timeout,
            insecure: *insecure,
            lifetime: Lifetime::Ours,
        };
        let (over, is_over) = watch::channel(false);
        let earlier = self.ending.remove(&check.name);
        let (core, own) = (self.core.clone(), check.clone());
        let task = tokio::spawn(async move {
            let left = match earlier {
                Some(earlier) => earlier.await.ok().flatten(),
                None => None,
            };
            Repeat { command, check: own, core, shown, over: is_over, left }.run(first).await
        });
        let (check, router) = (check.clone(), router.clone());
        Running { check, router, insecure: *insecure, shown: receiver, over, task }
    }
}

/// One check, again and again.
struct Repeat {
    command: process::Command,
    check: Check,
    core: mpsc::Sender<CoreEvent>,
    shown: watch::Sender<status::Check>,
    over: watch::Receiver<bool>,
    left: Option<Box<Left>>,
}

impl Repeat {
    /// Until it is told to end or nobody listens; what could not be ended is for its successor.
    async fn run(mut self, first: Instant) -> Option<Box<Left>> {
        let mut tracker = Tracker::new(self.check.rise, self.check.fall);
        // An interval of zero would be a busy loop; the configuration refuses it.
        let mut ticks = interval_at(first, self.check.interval.max(MINIMAL_INTERVAL));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = told(self.over.clone()) => return self.left,
                _ = ticks.tick() => {}
            }
            let (success, detail) = self.once().await;
            if *self.over.borrow() {
                return self.left;
            }
            let name = &self.check.name;
            match tracker.record(success) {
                Some(Verdict::Bad) => warn!(check = name, detail, "check failed"),
                Some(Verdict::Good) => info!(check = name, detail, "check succeeded"),
                Some(Verdict::Unknown) | None => {}
            }
            self.shown.send_replace(show(name, &tracker, &detail));
            tokio::select! {
                biased;
                () = told(self.over.clone()) => return self.left,
                room = self.core.reserve() => match room {
                    Ok(room) => {
                        room.send(CoreEvent::Check { name: name.clone(), success, detail });
                    }
                    Err(_) => return None,
                },
            }
        }
    }

    async fn once(&mut self) -> (bool, String) {
        self.left.take_if(|left| left.is_gone());
        if self.left.is_some() {
            return (false, "an earlier run was killed and is still not gone".to_owned());
        }
        let (limit, over) = (self.check.timeout, self.over.clone());
        let end = async move {
            tokio::select! {
                () = sleep(limit) => {}
                () = told(over) => {}
            }
        };
        let mut ended = process::run_until(self.command.clone(), end).await;
        self.left = ended.left.take();
        (ended.success(), ended.to_string())
    }
}

/// Waits until it is over, for ever when nobody is left to say so.
async fn told(mut over: watch::Receiver<bool>) {
    if over.wait_for(|over| *over).await.is_err() {
        pending::<()>().await;
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

    fn settings(checks: Vec<Check>) -> Settings {
        Settings { router: "r1".to_owned(), checks, insecure: false }
    }

    fn spawn_one(check: Check, core: &mpsc::Sender<CoreEvent>) -> Vec<Shown> {
        let (mut checks, shown) = Checks::new(core.clone());
        checks.begin(&settings(vec![check]));
        shown.borrow().clone()
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
        Checks::new(core).0.begin(&settings(checks.collect()));
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

    /// Has other checks take the place of those at work.
    fn change(checks: &mut Checks, wanted: Vec<Check>) {
        checks.end(&settings(wanted.clone()));
        checks.begin(&settings(wanted));
    }

    fn named(name: &str, script: &str) -> Check {
        let short = Duration::from_millis(20);
        Check { name: name.to_owned(), ..check(script, short, Duration::from_mins(1)) }
    }

    async fn until(what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < deadline, "not within 20 s: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_check_that_stays_the_same_keeps_its_running_child_in_another_configuration() {
        let directory = tempfile::tempdir().unwrap();
        let (log, go) = (directory.path().join("log"), directory.path().join("go"));
        let script = format!(
            "echo $$ >>{}; while ! test -e {}; do sleep 0.01; done",
            log.display(),
            go.display()
        );
        let (core, mut events) = mpsc::channel(64);
        let (mut checks, shown) = Checks::new(core);
        let same = named("same", &script);
        change(&mut checks, vec![same.clone()]);
        until("it runs", || log.exists()).await;
        change(&mut checks, vec![named("more", "exit 1"), same]);
        assert_eq!(next(&mut events).await.0, "more");
        let names: Vec<String> =
            shown.borrow().iter().map(|check| check.borrow().name.clone()).collect();
        assert_eq!(names, ["more", "same"]);
        let first = std::fs::read_to_string(&log).unwrap();
        std::fs::write(&go, "").unwrap();
        while next(&mut events).await.0 != "same" {}
        assert_eq!(first.lines().count(), 1, "one run from the beginning to the end: {first}");
    }

    #[tokio::test]
    async fn a_check_that_goes_is_ended_and_reaped_and_says_nothing_more() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let script = format!("echo $$ >{0}.new; mv {0}.new {0}; sleep 1000; true", log.display());
        let (core, mut events) = mpsc::channel(64);
        let (mut checks, _shown) = Checks::new(core);
        change(&mut checks, vec![named("goes", &script)]);
        until("it runs", || log.exists()).await;
        let pid = std::fs::read_to_string(&log).unwrap();
        change(&mut checks, vec![named("stays", "true")]);
        let process = std::path::PathBuf::from(format!("/proc/{}", pid.trim()));
        until("it is reaped", || !process.exists()).await;
        for _ in 0..5 {
            assert_eq!(next(&mut events).await.0, "stays");
        }
    }

    #[tokio::test]
    async fn a_changed_check_begins_when_the_run_before_has_ended_and_counts_anew() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let script = format!(
            "trap 'sleep 0.2; echo ends >>{0}; exit 1' TERM; echo begins >>{0}; \
             while :; do sleep 0.01; done",
            log.display()
        );
        let (core, mut events) = mpsc::channel(64);
        let (mut checks, shown) = Checks::new(core);
        change(&mut checks, vec![named("probe", &script)]);
        until("it runs", || log.exists()).await;
        let changed = format!("echo changed >>{}", log.display());
        change(&mut checks, vec![named("probe", &changed)]);
        assert_eq!(shown.borrow()[0].borrow().state, "unknown");
        let expected = ("probe".to_owned(), true, "exit status 0".to_owned());
        assert_eq!(next(&mut events).await, expected);
        let text = std::fs::read_to_string(&log).unwrap();
        let lines: Vec<&str> = text.lines().take(3).collect();
        assert_eq!(lines, ["begins", "ends", "changed"]);
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
