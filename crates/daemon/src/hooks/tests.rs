//! Real scripts, started by a real runner.

use std::fs;
use std::path::Path;

use lockstep_failover::hooks::Member;
use lockstep_failover::{Notify, OnFailure, State, VirtualRouter};
use tempfile::TempDir;

use super::*;

mod reloading;

/// A runner with the hooks of two groups, `a` and `b`.
struct Bench {
    directory: TempDir,
    requests: mpsc::Sender<ControlRequest>,
    events: mpsc::Receiver<CoreEvent>,
    shown: Shown,
    runner: JoinHandle<()>,
    next_id: u64,
}

const LIMIT: Duration = Duration::from_secs(30);

/// What can be set.
struct Setting {
    limit: Option<Duration>,
    /// Whether there is a general hook, too.
    every: bool,
    /// Whether group `a` has a virtual router `a1` with the same hooks.
    member: bool,
    on_failure: OnFailure,
    state_directory: PathBuf,
    fifo: Option<NotifyFifo>,
}

impl Setting {
    fn new(directory: &Path) -> Self {
        Self {
            limit: None,
            every: false,
            member: false,
            on_failure: OnFailure::Ignore,
            state_directory: directory.join("state"),
            fifo: None,
        }
    }
}

impl Bench {
    /// `script` is the body of every hook; it finds the directory of the test in `$D`.
    async fn new(script: &str, limit: Option<Duration>) -> Self {
        Self::with(script, |bench| bench.limit = limit).await
    }

    /// As [`Bench::new`], with other settings.
    async fn with(script: &str, set: impl FnOnce(&mut Setting)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut setting = Setting::new(directory.path());
        set(&mut setting);
        Self::start(directory, script, setting).await
    }

    async fn start(directory: TempDir, script: &str, setting: Setting) -> Self {
        let path = directory.path().display().to_string();
        let hook = |word: &str| {
            let body = format!("D={path}; {script}");
            let words = ["sh", "-c", &body, "hook", word];
            Some(words.map(str::to_owned).to_vec())
        };
        let notify = Notify {
            master: hook("--master"),
            backup: hook("--backup"),
            fault: None,
            stop: hook("--stop"),
            every: setting.every.then(|| hook("own")).flatten(),
            timeout: setting.limit,
            on_failure: setting.on_failure,
            ..Notify::default()
        };
        let member = VirtualRouter { notify: notify.clone(), ..VirtualRouter::new("a1", "eth0") };
        let members = if setting.member { vec![member] } else { Vec::new() };
        let group = |name: &str, virtual_routers| Group {
            name: name.to_owned(),
            virtual_routers,
            notify: notify.clone(),
            ..Group::default()
        };
        let settings = Settings {
            router: "r-17-VM".to_owned(),
            groups: vec![group("a", members), group("b", Vec::new())],
            state_directory: setting.state_directory.clone(),
            fifo: setting.fifo.clone(),
            insecure: false,
        };
        let (core, events) = mpsc::channel(64);
        let (requests, receiver) = mpsc::channel(64);
        let (hooks, shown) = Hooks::new(settings, core).await;
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
            members: vec![Member { name: format!("{group}1"), priority: 100 }],
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
            if let CoreEvent::HookEnded { group, result, .. } = self.event().await {
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
        timeout(LIMIT, self.shown.hooks.wait_for(done)).await.expect("idle in time").unwrap();
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
    let mut bench = Bench::new(WAIT, None).await;
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

/// A hook that waits is lost with the daemon, and one that runs is not.
#[tokio::test]
async fn the_core_hears_when_none_of_a_transition_s_hooks_waits_any_more() {
    let mut bench = Bench::with(WAIT, |setting| setting.every = true).await;
    bench.hook("a", State::Init, State::Backup).await;
    bench.hook("a", State::Backup, State::Master).await;
    bench.hook("b", State::Init, State::Fault).await;
    let newest = StepId(bench.next_id - 1);
    bench.go();
    let (mut ended, mut begun) = (0, Vec::new());
    while ended < 4 {
        match bench.event().await {
            CoreEvent::HooksBegun { group, id } => begun.push((group, id, ended)),
            CoreEvent::HookEnded { .. } => ended += 1,
            _ => {}
        }
    }
    bench.idle().await;
    let of_a: Vec<_> = begun.iter().filter(|(group, ..)| group == "a").collect();
    assert_eq!(of_a.len(), 1, "{begun:?}");
    assert_eq!(of_a[0].1, newest);
    let of_b = begun.iter().find(|(group, ..)| group == "b");
    assert_eq!(of_b.map(|(_, id, _)| *id), Some(StepId(newest.0 + 1)));
}

#[tokio::test]
async fn only_the_newest_state_runs_after_the_hook_under_way() {
    let mut bench = Bench::new(WAIT, None).await;
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
    let mut bench = Bench::new(WAIT, None).await;
    bench.hook("a", State::Init, State::Master).await;
    bench.hook("a", State::Master, State::Fault).await;
    bench.hook("a", State::Fault, State::Master).await;
    bench.go();
    bench.idle().await;
    assert_eq!(bench.log(), ["begin a --master", "end a --master"]);
}

#[tokio::test]
async fn a_state_without_a_hook_is_passed_over() {
    let mut bench = Bench::new("echo $1 >> $D/log", None).await;
    let outcome = bench.hook("a", State::Init, State::Fault).await;
    assert_eq!(outcome, Outcome::Done("none configured".to_owned()));
    bench.hook("a", State::Fault, State::Backup).await;
    bench.idle().await;
    assert_eq!(bench.log(), ["--backup"]);
}

#[tokio::test]
async fn a_hook_of_an_unknown_group_fails_its_step() {
    let mut bench = Bench::new("true", None).await;
    let outcome = bench.hook("x", State::Init, State::Backup).await;
    assert_eq!(outcome, Outcome::Failed("there is no failover group x".to_owned()));
}

#[tokio::test]
async fn a_hook_is_told_the_transition_by_its_environment_and_arguments() {
    let script = "env | grep ^LOCKSTEP_ | sort > $D/log; echo $1 >> $D/log";
    let mut bench = Bench::new(script, None).await;
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
    let mut bench = Bench::new("echo one; echo two >&2; exit 7", None).await;
    bench.hook("a", State::Init, State::Backup).await;
    let (group, result) = bench.end().await;
    let why = result.unwrap_err();
    assert_eq!(group, "a");
    assert!(
        why.starts_with("hook sh -c ") && why.ends_with(" failed: exit status 7: two"),
        "{why}"
    );
    bench.idle().await;
    let shown = bench.shown.hooks.borrow().clone();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].state, "backup");
    assert_eq!(shown[0].result, "exit status 7: two");
    assert_eq!(shown[0].output, ["one", "two"]);
    assert!(shown[0].started.is_some() && shown[0].took_ms.is_some());
}

#[tokio::test]
async fn a_hook_that_hangs_is_ended_and_the_next_one_runs() {
    let script = "echo $1 >> $D/log; if [ $1 = --backup ]; then exec sleep 1000; fi";
    let mut bench = Bench::new(script, Some(Duration::from_secs(3))).await;
    bench.hook("a", State::Init, State::Backup).await;
    bench.hook("a", State::Backup, State::Master).await;
    let (_, result) = bench.end().await;
    assert!(result.unwrap_err().ends_with("timed out after 3s"));
    assert_eq!(bench.end().await, ("a".to_owned(), Ok("exit status 0".to_owned())));
    assert_eq!(bench.log(), ["--backup", "--master"]);
}

#[tokio::test]
async fn the_daemons_end_waits_for_the_hooks_that_run_and_wait() {
    let mut bench = Bench::new(WAIT, None).await;
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
    let mut bench = Bench::new(WAIT, None).await;
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

#[tokio::test]
async fn virtual_routers_are_told_before_their_group_each_by_both_commands() {
    let script = "shift 0; echo ${LOCKSTEP_VIRTUAL_ROUTER-group} $* >> $D/log";
    let set = |setting: &mut Setting| (setting.every, setting.member) = (true, true);
    let mut bench = Bench::with(script, set).await;
    bench.hook("a", State::Backup, State::Master).await;
    bench.idle().await;
    let expected = [
        "a1 --master",
        "a1 own INSTANCE a1 MASTER 100",
        "group --master",
        "group own GROUP a MASTER 0",
    ];
    assert_eq!(bench.log(), expected);
}

#[tokio::test]
async fn after_the_start_the_group_is_told_first() {
    let set = |setting: &mut Setting| (setting.every, setting.member) = (true, true);
    let mut bench = Bench::with("echo $* >> $D/log", set).await;
    let outcome = bench.hook("a", State::Init, State::Backup).await;
    assert!(matches!(outcome, Outcome::Done(text) if text.ends_with("; 3 wait")));
    bench.idle().await;
    let expected = ["--backup", "own GROUP a BACKUP 0", "--backup", "own INSTANCE a1 BACKUP 100"];
    assert_eq!(bench.log(), expected);
}

/// Waits for the end of a hook, and returns whether the core hears that it matters.
async fn matters(bench: &mut Bench) -> bool {
    loop {
        if let CoreEvent::HookEnded { matters, state, .. } = bench.event().await {
            assert_eq!(state, State::Master);
            return matters;
        }
    }
}

#[tokio::test]
async fn whether_a_failure_matters_is_told_unless_a_newer_hook_waits_in_its_place() {
    let script = "while ! test -e $D/go; do sleep 0.01; done; exit 3";
    let fault = |setting: &mut Setting| setting.on_failure = OnFailure::Fault;
    let mut bench = Bench::with(script, fault).await;
    bench.hook("a", State::Backup, State::Master).await;
    bench.hook("a", State::Master, State::Backup).await;
    bench.hook("a", State::Backup, State::Master).await;
    bench.go();
    assert!(!matters(&mut bench).await, "the same hook runs again");
    assert!(matters(&mut bench).await);
    let mut bench = Bench::new("exit 3", None).await;
    bench.hook("a", State::Backup, State::Master).await;
    assert!(!matters(&mut bench).await, "nothing was said of it");
}

#[tokio::test]
async fn a_hook_left_by_an_earlier_life_is_shown_and_waited_for() {
    let mut earlier = Bench::new(WAIT, None).await;
    earlier.hook("b", State::Init, State::Master).await;
    let deadline = Instant::now() + LIMIT;
    while earlier.log().is_empty() {
        assert!(Instant::now() < deadline, "the hook does not start");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Killed: nothing is said and nothing is waited for.
    earlier.runner.abort();
    let Bench { directory, .. } = earlier;
    let setting = Setting::new(directory.path());
    let mut bench = Bench::start(directory, WAIT, setting).await;
    let shown = bench.shown.hooks.borrow().clone();
    assert_eq!((shown[0].group.as_str(), shown[0].state.as_str()), ("b", "master"));
    assert!(shown[0].result.starts_with("left by an earlier life"), "{}", shown[0].result);
    let outcome = bench.hook("a", State::Init, State::Backup).await;
    let expected = "waits for a hook of an earlier life of the daemon";
    assert_eq!(outcome, Outcome::Done(expected.to_owned()));
    bench.hook("a", State::Backup, State::Master).await;
    bench.go();
    let (group, _) = bench.end().await;
    assert_eq!(group, "a");
    let expected = ["begin b --master", "end b --master", "begin a --master", "end a --master"];
    assert_eq!(bench.log(), expected, "one after the other, and the newest state only");
}

#[tokio::test]
async fn a_hook_left_by_an_earlier_life_has_the_rest_of_its_time_and_no_more() {
    let script = "echo $1 >> $D/log; [ $1 = --backup ] || exec sleep 1000";
    let mut earlier = Bench::new(script, None).await;
    earlier.hook("a", State::Init, State::Master).await;
    let deadline = Instant::now() + LIMIT;
    while earlier.log().is_empty() {
        assert!(Instant::now() < deadline, "the hook does not start");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    earlier.runner.abort();
    let Bench { directory, .. } = earlier;
    let mut setting = Setting::new(directory.path());
    setting.limit = Some(Duration::from_secs(3));
    let mut bench = Bench::start(directory, script, setting).await;
    bench.hook("a", State::Init, State::Backup).await;
    assert_eq!(bench.end().await, ("a".to_owned(), Ok("exit status 0".to_owned())));
    assert_eq!(bench.log(), ["--master", "--backup"]);
}

#[tokio::test]
async fn the_pipe_is_told_each_state_at_once_while_a_hook_hangs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let mut setting = Setting::new(directory.path());
    setting.fifo = Some(NotifyFifo { path: path.clone(), user: None, command: None });
    let mut bench = Bench::start(directory, WAIT, setting).await;
    bench.hook("a", State::Init, State::Backup).await;
    bench.hook("a", State::Backup, State::Master).await;
    bench.hook("a", State::Master, State::Fault).await;
    let shown = bench.shown.fifo.borrow().clone().expect("there is a pipe");
    assert_eq!((shown.written, shown.lost), (6, 0));
    let mut pipe = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut bytes = vec![0; 4096];
    let count = std::io::Read::read(&mut pipe, &mut bytes).unwrap();
    let text = String::from_utf8(bytes[..count].to_vec()).unwrap();
    let expected = "GROUP \"a\" BACKUP 0\nINSTANCE \"a1\" BACKUP 100\n\
        INSTANCE \"a1\" MASTER 100\nGROUP \"a\" MASTER 0\n\
        INSTANCE \"a1\" FAULT 100\nGROUP \"a\" FAULT 0\n";
    assert_eq!(text, expected);
    bench.go();
    bench.requests.send(ControlRequest::Stop).await.unwrap();
    timeout(LIMIT, &mut bench.runner).await.expect("ends in time").unwrap();
    assert!(!path.exists(), "it is gone with the daemon");
}

#[tokio::test]
async fn the_reader_of_the_pipe_is_started_again_hears_the_end_and_ends_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let (path, log) = (directory.path().join("notify"), directory.path().join("read"));
    // It ends after its first line: the next is read by its successor.
    let script = "read line <$2; echo \"$1 $line\" >>$0; exit 4";
    let words = ["sh", "-c", script, log.to_str().unwrap(), "own"];
    let command = Some(words.map(str::to_owned).to_vec());
    let mut setting = Setting::new(directory.path());
    setting.fifo = Some(NotifyFifo { path, user: None, command });
    let mut bench = Bench::start(directory, "true", setting).await;
    bench.hook("b", State::Init, State::Backup).await;
    let wait_for = |fifo: &Option<status::Fifo>| {
        let reader = fifo.as_ref().and_then(|fifo| fifo.reader.as_deref());
        reader == Some("exit status 4; starts again after 1 s")
    };
    timeout(LIMIT, bench.shown.fifo.wait_for(wait_for)).await.expect("shown in time").unwrap();
    bench.hook("b", State::Backup, State::Stopped).await;
    bench.requests.send(ControlRequest::Stop).await.unwrap();
    timeout(LIMIT, &mut bench.runner).await.expect("ends in time").unwrap();
    let read = lines(&log);
    assert_eq!(read[0], "own GROUP \"b\" BACKUP 0");
    assert!(read.len() <= 2, "{read:?}");
}
