//! Real scripts, started by a real runner.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;

/// A runner with the hooks of two groups, `a` and `b`.
struct Bench {
    directory: TempDir,
    requests: mpsc::Sender<ControlRequest>,
    events: mpsc::Receiver<CoreEvent>,
    shown: watch::Receiver<Vec<status::Hook>>,
    runner: JoinHandle<()>,
    next_id: u64,
}

const LIMIT: Duration = Duration::from_secs(30);

impl Bench {
    /// `script` is the body of every hook; it finds the directory of the test in `$D`.
    fn new(script: &str, limit: Option<Duration>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display();
        let hook = |word: &str| {
            let body = format!("D={path}; {script}");
            let words = ["sh", "-c", &body, "hook", word];
            Some(words.map(str::to_owned).to_vec())
        };
        let group = |name: &str| Group {
            name: name.to_owned(),
            notify: Notify {
                master: hook("--master"),
                backup: hook("--backup"),
                fault: None,
                stop: hook("--stop"),
                timeout: limit,
            },
            ..Group::default()
        };
        let (core, events) = mpsc::channel(64);
        let (requests, receiver) = mpsc::channel(64);
        let (hooks, shown) = Hooks::new("r-17-VM".to_owned(), &[group("a"), group("b")], core);
        let runner = tokio::spawn(hooks.run(receiver));
        Self { directory, requests, events, shown, runner, next_id: 0 }
    }

    /// Asks for a hook; what the step came to.
    async fn hook(&mut self, group: &str, from: State, to: State) -> Outcome {
        self.next_id += 1;
        let request = HookRequest {
            id: StepId(self.next_id),
            group: group.to_owned(),
            from,
            to,
            reason: "a test".to_owned(),
            priority: 100,
        };
        self.requests.send(ControlRequest::Hooks(vec![request])).await.unwrap();
        loop {
            if let CoreEvent::Stepped(answers) = self.event().await {
                let [(id, outcome)] = answers.try_into().expect("one answer");
                assert_eq!(id, StepId(self.next_id));
                return outcome;
            }
        }
    }

    async fn event(&mut self) -> CoreEvent {
        timeout(LIMIT, self.events.recv()).await.expect("an event in time").unwrap()
    }

    /// The next end of a hook.
    async fn end(&mut self) -> (String, Result<String, String>) {
        loop {
            if let CoreEvent::HookEnded { group, result } = self.event().await {
                return (group, result);
            }
        }
    }

    /// Lets every hook that waits for the file `go` run on.
    fn go(&self) {
        fs::write(self.directory.path().join("go"), "").unwrap();
    }

    /// Waits until nothing runs and nothing waits.
    async fn idle(&mut self) {
        let done = |hooks: &Vec<status::Hook>| {
            hooks.iter().all(|hook| hook.result != "running" && hook.result != "waiting")
        };
        timeout(LIMIT, self.shown.wait_for(done)).await.expect("idle in time").unwrap();
    }

    fn log(&self) -> Vec<String> {
        lines(&self.directory.path().join("log"))
    }
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

const WAIT: &str = "echo begin $LOCKSTEP_GROUP $1 >> $D/log; \
    while ! test -e $D/go; do sleep 0.01; done; echo end $LOCKSTEP_GROUP $1 >> $D/log";

#[tokio::test]
async fn hooks_run_one_after_another_in_the_order_of_the_transitions() {
    let mut bench = Bench::new(WAIT, None);
    let outcome = bench.hook("b", State::Init, State::Backup).await;
    assert!(matches!(outcome, Outcome::Done(text) if text.starts_with("started sh -c ")));
    let outcome = bench.hook("a", State::Init, State::Backup).await;
    assert_eq!(outcome, Outcome::Done("waits for the hook that runs".to_owned()));
    bench.hook("b", State::Backup, State::Master).await;
    bench.go();
    bench.idle().await;
    let expected = [
        "begin b --backup",
        "end b --backup",
        "begin a --backup",
        "end a --backup",
        "begin b --master",
        "end b --master",
    ];
    assert_eq!(bench.log(), expected);
}

#[tokio::test]
async fn only_the_newest_state_runs_after_the_hook_under_way() {
    let mut bench = Bench::new(WAIT, None);
    bench.hook("a", State::Init, State::Backup).await;
    bench.hook("a", State::Backup, State::Master).await;
    bench.hook("a", State::Master, State::Backup).await;
    bench.hook("a", State::Backup, State::Master).await;
    bench.go();
    bench.idle().await;
    let expected = ["begin a --backup", "end a --backup", "begin a --master", "end a --master"];
    assert_eq!(bench.log(), expected);
}

#[tokio::test]
async fn a_return_to_the_state_whose_hook_runs_is_not_run_again() {
    let mut bench = Bench::new(WAIT, None);
    bench.hook("a", State::Init, State::Master).await;
    bench.hook("a", State::Master, State::Fault).await;
    bench.hook("a", State::Fault, State::Master).await;
    bench.go();
    bench.idle().await;
    assert_eq!(bench.log(), ["begin a --master", "end a --master"]);
}

#[tokio::test]
async fn a_state_without_a_hook_is_passed_over() {
    let mut bench = Bench::new("echo $1 >> $D/log", None);
    let outcome = bench.hook("a", State::Init, State::Fault).await;
    assert_eq!(outcome, Outcome::Done("none configured".to_owned()));
    bench.hook("a", State::Fault, State::Backup).await;
    bench.idle().await;
    assert_eq!(bench.log(), ["--backup"]);
}

#[tokio::test]
async fn a_hook_of_an_unknown_group_fails_its_step() {
    let mut bench = Bench::new("true", None);
    let outcome = bench.hook("x", State::Init, State::Backup).await;
    assert_eq!(outcome, Outcome::Failed("there is no failover group x".to_owned()));
}

#[tokio::test]
async fn a_hook_is_told_the_transition_by_its_environment_and_arguments() {
    let script = "env | grep ^LOCKSTEP_ | sort > $D/log; echo $1 >> $D/log";
    let mut bench = Bench::new(script, None);
    bench.hook("a", State::Backup, State::Master).await;
    bench.idle().await;
    let expected = [
        "LOCKSTEP_GROUP=a",
        "LOCKSTEP_PREVIOUS_STATE=backup",
        "LOCKSTEP_PRIORITY=100",
        "LOCKSTEP_REASON=a test",
        "LOCKSTEP_ROUTER=r-17-VM",
        "LOCKSTEP_STATE=master",
        "--master",
    ];
    assert_eq!(bench.log(), expected);
}

#[tokio::test]
async fn a_failed_hook_is_told_and_its_output_is_kept() {
    let mut bench = Bench::new("echo one; echo two >&2; exit 7", None);
    bench.hook("a", State::Init, State::Backup).await;
    let expected = ("a".to_owned(), Err("exit status 7: two".to_owned()));
    assert_eq!(bench.end().await, expected);
    bench.idle().await;
    let shown = bench.shown.borrow().clone();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].state, "backup");
    assert_eq!(shown[0].result, "exit status 7: two");
    assert_eq!(shown[0].output, ["one", "two"]);
    assert!(shown[0].started.is_some() && shown[0].took_ms.is_some());
}

#[tokio::test]
async fn a_hook_that_hangs_is_ended_and_the_next_one_runs() {
    let script = "echo $1 >> $D/log; if [ $1 = --backup ]; then exec sleep 1000; fi";
    let mut bench = Bench::new(script, Some(Duration::from_secs(3)));
    bench.hook("a", State::Init, State::Backup).await;
    bench.hook("a", State::Backup, State::Master).await;
    let expected = ("a".to_owned(), Err("timed out after 3s".to_owned()));
    assert_eq!(bench.end().await, expected);
    assert_eq!(bench.end().await, ("a".to_owned(), Ok("exit status 0".to_owned())));
    assert_eq!(bench.log(), ["--backup", "--master"]);
}

#[tokio::test]
async fn the_daemons_end_waits_for_the_hooks_that_run_and_wait() {
    let mut bench = Bench::new(WAIT, None);
    bench.hook("a", State::Init, State::Master).await;
    bench.hook("a", State::Master, State::Stopped).await;
    bench.requests.send(ControlRequest::Stop).await.unwrap();
    bench.go();
    timeout(LIMIT, &mut bench.runner).await.expect("ends in time").unwrap();
    let expected = ["begin a --master", "end a --master", "begin a --stop", "end a --stop"];
    assert_eq!(bench.log(), expected);
}

#[tokio::test]
async fn a_hook_that_outlasts_the_daemons_end_is_left_running() {
    let mut bench = Bench::new(WAIT, None);
    bench.hook("a", State::Init, State::Master).await;
    bench.requests.send(ControlRequest::Stop).await.unwrap();
    timeout(LIMIT, &mut bench.runner).await.expect("does not wait for ever").unwrap();
    assert!(bench.log().iter().all(|line| line != "end a --master"));
    bench.go();
    let deadline = Instant::now() + LIMIT;
    while bench.log().last().is_none_or(|line| line != "end a --master") {
        assert!(Instant::now() < deadline, "the hook was cut off: {:?}", bench.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
