//! Other hooks and another pipe for a runner at work.

use lockstep_config::{Surroundings, parse};
use tokio::time::sleep;

use super::*;

/// A command that says `word` in the log and the state that it is told.
fn says(bench: &Bench, word: &str) -> Vec<String> {
    let log = bench.directory.path().join("log");
    let script = format!("echo {word} $LOCKSTEP_STATE >> {}", log.display());
    ["sh", "-c", &script].map(str::to_owned).to_vec()
}

fn group(name: &str, notify: Notify) -> Group {
    Group { name: name.to_owned(), notify, ..Group::default() }
}

/// Has the runner take these groups and this pipe.
async fn configure(bench: &Bench, groups: Vec<Group>, fifo: Option<NotifyFifo>) {
    let mut config = parse("lockstep.toml", "", &Surroundings::default()).unwrap().config;
    config.failover.groups = groups;
    config.notify_fifo = fifo;
    let (sender, answer) = tokio::sync::oneshot::channel();
    let request = ControlRequest::Configure(Box::new(config), sender);
    bench.requests.send(request).await.unwrap();
    timeout(LIMIT, answer).await.expect("an answer in time").unwrap();
}

async fn end(bench: &mut Bench) {
    bench.requests.send(ControlRequest::Stop).await.unwrap();
    timeout(LIMIT, &mut bench.runner).await.expect("ends in time").unwrap();
}

#[tokio::test]
async fn a_hook_that_runs_goes_on_and_the_newest_configuration_is_called_next() {
    let mut bench = Bench::new(WAIT, None).await;
    bench.hook("a", State::Init, State::Backup).await;
    bench.hook("a", State::Backup, State::Master).await;
    bench.hook("b", State::Init, State::Backup).await;
    let notify = Notify { master: Some(says(&bench, "new")), ..Notify::default() };
    configure(&bench, vec![group("a", notify), group("b", Notify::default())], None).await;
    let shown = bench.shown.hooks.borrow().clone();
    let (waits, runs): (Vec<_>, Vec<_>) = shown.iter().partition(|hook| hook.result == "waiting");
    assert_eq!((waits.len(), runs.len()), (1, 1), "{shown:?}");
    assert!(waits[0].command.contains("echo new"), "{shown:?}");
    bench.go();
    bench.idle().await;
    assert_eq!(bench.log(), ["begin a --backup", "end a --backup", "new master"]);
    let outcome = bench.hook("b", State::Backup, State::Master).await;
    assert_eq!(outcome, Outcome::Done("none configured".to_owned()));
}

#[tokio::test]
async fn a_group_can_get_hooks_and_new_ones_run_for_the_next_state() {
    let mut bench = Bench::new("echo $1 >> $D/log", None).await;
    bench.hook("a", State::Init, State::Backup).await;
    bench.idle().await;
    let every = |word: &str| Notify { every: Some(says(&bench, word)), ..Notify::default() };
    let groups = vec![group("a", every("general")), group("new", every("first"))];
    configure(&bench, groups, None).await;
    assert_eq!(bench.log(), ["--backup"], "nothing is run for a reload");
    bench.hook("a", State::Backup, State::Master).await;
    bench.hook("new", State::Init, State::Backup).await;
    bench.idle().await;
    assert_eq!(bench.log(), ["--backup", "general master", "first backup"]);
    configure(&bench, Vec::new(), None).await;
    assert!(bench.shown.hooks.borrow().is_empty(), "hooks that are gone are not shown");
}

#[tokio::test]
async fn the_pipe_can_be_moved_and_what_was_in_the_old_one_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (directory.path().join("old"), directory.path().join("new"));
    let log = directory.path().join("read");
    // Slow to begin, so that the line is still there when the pipe is moved.
    let script = "exec <$1; touch $0.open; while ! test -e $0.go; do sleep 0.01; done; cat >>$0";
    let words = ["sh", "-c", script, log.to_str().unwrap()];
    let command = Some(words.map(str::to_owned).to_vec());
    let mut setting = Setting::new(directory.path());
    setting.fifo = Some(NotifyFifo { path: old.clone(), user: None, command });
    let mut bench = Bench::start(directory, "true", setting).await;
    let begun = log.with_extension("open");
    let deadline = Instant::now() + LIMIT;
    while !begun.exists() {
        assert!(Instant::now() < deadline, "the reader has not begun");
        sleep(Duration::from_millis(5)).await;
    }
    bench.hook("b", State::Init, State::Backup).await;
    let groups = || vec![group("b", Notify::default())];
    let fifo = NotifyFifo { path: new.clone(), user: None, command: None };
    configure(&bench, groups(), Some(fifo)).await;
    assert!(!old.exists() && new.exists());
    fs::write(log.with_extension("go"), "").unwrap();
    bench.hook("b", State::Backup, State::Master).await;
    let shown = bench.shown.fifo.borrow().clone().expect("there is a pipe");
    assert_eq!((shown.path.as_str(), shown.written), (new.to_str().unwrap(), 2));
    assert_eq!(shown.reader, None);
    configure(&bench, groups(), None).await;
    assert!(!new.exists() && bench.shown.fifo.borrow().is_none());
    end(&mut bench).await;
    let read = fs::read_to_string(&log).unwrap();
    assert_eq!(read, "GROUP \"b\" BACKUP 0\nINSTANCE \"b1\" BACKUP 100\n");
}

#[tokio::test]
async fn another_reader_of_the_same_pipe_begins_when_the_one_before_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let (path, log) = (directory.path().join("notify"), directory.path().join("read"));
    let reader = |word: &str| {
        let script = "trap 'echo $1 ends >>$0; exit' TERM; echo $1 begins >>$0; \
                      while :; do sleep 0.01; done";
        let words = ["sh", "-c", script, log.to_str().unwrap(), word];
        let command = Some(words.map(str::to_owned).to_vec());
        Some(NotifyFifo { path: path.clone(), user: None, command })
    };
    let mut setting = Setting::new(directory.path());
    setting.fifo = reader("first");
    let mut bench = Bench::start(directory, "true", setting).await;
    bench.hook("b", State::Init, State::Backup).await;
    let wait_for = async |count: usize| {
        let deadline = Instant::now() + LIMIT;
        while lines(&log).len() < count {
            assert!(Instant::now() < deadline, "{:?}", lines(&log));
            sleep(Duration::from_millis(5)).await;
        }
    };
    wait_for(1).await;
    configure(&bench, Vec::new(), reader("first")).await;
    configure(&bench, Vec::new(), reader("second")).await;
    wait_for(3).await;
    let shown = bench.shown.fifo.borrow().clone().expect("there is a pipe");
    assert_eq!(shown.written, 2, "the pipe is the same");
    end(&mut bench).await;
    assert_eq!(lines(&log), ["first begins", "first ends", "second begins", "second ends"]);
}
