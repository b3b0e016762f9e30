//! Runs one command for a hook or a check: no shell, a process group of its own, a bounded time,
//! and the end of its output kept.
//!
//! Output goes into a file in memory and not into a pipe: a command that outlives the daemon would
//! be ended by its next write to a pipe, and a background process that inherits the pipe would keep
//! the reader waiting. Dropping the future of [`run`] leaves the command running.

use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use lockstep_kernel::identity::{self, Account};
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command as Process};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

/// Between SIGTERM and SIGKILL.
pub(crate) const GRACE: Duration = Duration::from_secs(2);
/// Most lines of output that are kept, the last ones.
pub(crate) const OUTPUT_LINES: usize = 10;
/// Most characters of a line that are kept, the first ones.
const LINE_LENGTH: usize = 200;
/// Most bytes of output that are looked at, the last ones.
const OUTPUT_BYTES: u64 = 4096;
/// How often memory that holds older output is given back while the command runs.
const TRIM_INTERVAL: Duration = Duration::from_millis(100);
/// How often a process group that was told to end is looked at.
const GROUP_POLL: Duration = Duration::from_millis(20);
/// What the service manager said to the daemon and not to its children.
const PRIVATE_VARIABLES: [&str; 7] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "JOURNAL_STREAM",
];

/// What is to be run.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    /// The program, looked up in `PATH` unless it is a path, and its arguments.
    pub argv: Vec<String>,
    /// Added to the daemon's own environment.
    pub environment: Vec<(&'static str, String)>,
    /// Who it runs as; the daemon's own user without.
    pub user: Option<String>,
    /// How long it may run.
    pub timeout: Duration,
}

/// A command that has ended or could not be started.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// How.
    pub how: How,
    /// The last lines of what it wrote, control characters replaced.
    pub output: Vec<String>,
}

/// How a command ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum How {
    /// With this status; 0 is success.
    Exit(i32),
    /// By a signal that did not come from here.
    Signal(i32),
    /// It was ended after this time.
    TimedOut(Duration),
    /// It was not started.
    NotStarted(String),
}

impl Ended {
    pub(crate) fn success(&self) -> bool {
        self.how == How::Exit(0)
    }
}

/// How it ended and, unless with success, the last line of what it said about that.
impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            How::Exit(status) => write!(f, "exit status {status}")?,
            How::Signal(signal) => match Signal::try_from(*signal) {
                Ok(signal) => write!(f, "ended by {signal}")?,
                Err(_) => write!(f, "ended by signal {signal}")?,
            },
            How::TimedOut(after) => write!(f, "timed out after {after:?}")?,
            How::NotStarted(why) => write!(f, "not started: {why}")?,
        }
        match self.output.last() {
            Some(line) if !self.success() => write!(f, ": {line}"),
            Some(_) | None => Ok(()),
        }
    }
}

/// Runs `command` to its end. At the time-out SIGTERM and, after [`GRACE`], SIGKILL go to its whole
/// process group.
pub(crate) async fn run(command: Command) -> Ended {
    let started = match account_of(&command).await {
        Ok(account) => Output::new()
            .and_then(|output| Ok((spawn(&command, account, &output)?, output)))
            .map_err(|error| {
                let program = command.argv.first().map_or("", String::as_str);
                format!("{program}: {error}")
            }),
        Err(why) => Err(why),
    };
    let (mut child, output) = match started {
        Ok(started) => started,
        Err(why) => return Ended { how: How::NotStarted(why), output: Vec::new() },
    };
    let how = tokio::select! {
        how = supervise(&mut child, command.timeout) => how,
        never = output.keep_bounded() => match never {},
    };
    Ended { how, output: output.close() }
}

/// Who the command runs as. Users may be kept on a server that does not answer: nobody else waits.
async fn account_of(command: &Command) -> Result<Option<Account>, String> {
    let Some(user) = command.user.clone() else { return Ok(None) };
    let looked_up = spawn_blocking(move || identity::account(&user));
    match timeout(command.timeout, looked_up).await {
        Ok(Ok(Ok(account))) => Ok(Some(account)),
        Ok(Ok(Err(error))) => Err(error.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("looking up the user takes too long".to_owned()),
    }
}

fn spawn(command: &Command, account: Option<Account>, output: &Output) -> io::Result<Child> {
    let (program, arguments) = command
        .argv
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the command is empty"))?;
    let mut process = Process::new(program);
    for variable in PRIVATE_VARIABLES {
        process.env_remove(variable);
    }
    if let Some(account) = account {
        let name = command.user.as_deref().unwrap_or_default();
        process.env("HOME", account.home).env("USER", name).env("LOGNAME", name);
        identity::run_as(process.as_std_mut(), account.identity);
    }
    process
        .args(arguments)
        .envs(command.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output.file.try_clone()?)
        .stderr(output.file.try_clone()?)
        .process_group(0)
        .spawn()
}

async fn supervise(child: &mut Child, limit: Duration) -> How {
    // Its process group has the number of the process, because it was made for it.
    let group = child.id().map(|id| Pid::from_raw(id.cast_signed()));
    if let Ok(ended) = timeout(limit, child.wait()).await {
        return how_it_ended(ended);
    }
    if let Some(group) = group {
        end_group(child, group).await;
    }
    How::TimedOut(limit)
}

fn how_it_ended(status: io::Result<ExitStatus>) -> How {
    match status.map(|status| (status.code(), status.signal())) {
        Ok((Some(code), _)) => How::Exit(code),
        Ok((None, signal)) => How::Signal(signal.unwrap_or_default()),
        Err(error) => How::NotStarted(error.to_string()),
    }
}

/// Ends the process and everything else in its group. ESRCH means that nothing of it is left.
async fn end_group(child: &mut Child, group: Pid) {
    let deadline = Instant::now() + GRACE;
    let mut left = killpg(group, Signal::SIGTERM).is_ok();
    while left && Instant::now() < deadline {
        // Reaped as soon as it ends, since a zombie counts as a member of its group.
        let _ = timeout(GROUP_POLL, child.wait()).await;
        left = killpg(group, None).is_ok();
        if left && child.id().is_none() {
            sleep(GROUP_POLL).await;
        }
    }
    if left {
        let _ = killpg(group, Signal::SIGKILL);
    }
    // SIGKILL cannot be refused, but a process in an uninterruptible wait of the kernel dies late.
    let _ = timeout(GRACE, child.wait()).await;
}

/// The file in memory that takes a command's standard output and error.
struct Output {
    file: File,
}

impl Output {
    fn new() -> io::Result<Self> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        Ok(Self { file: File::from(memfd_create(c"lockstep-output", flags)?) })
    }

    /// Gives back the memory of all but the end of the output, again and again: a command that
    /// writes without end must not fill the router's memory.
    async fn keep_bounded(&self) -> Infallible {
        loop {
            sleep(TRIM_INTERVAL).await;
            let old = self.length().saturating_sub(OUTPUT_BYTES);
            if old > 0 {
                let punch =
                    FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                // Without the hole there is more memory in use and nothing else.
                let _ = fallocate(&self.file, punch, 0, old.cast_signed());
            }
        }
    }

    /// The last lines; what is written later by processes left in the background is refused.
    fn close(self) -> Vec<String> {
        let length = self.length();
        let start = length.saturating_sub(OUTPUT_BYTES);
        let mut bytes = vec![0; (length - start) as usize];
        let read = self.file.read_at(&mut bytes, start).unwrap_or(0);
        let _ = self.file.set_len(0);
        let _ = fcntl(
            &self.file,
            FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW),
        );
        last_lines(&bytes[..read], start > 0)
    }

    fn length(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }
}

fn last_lines(bytes: &[u8], beginning_is_cut: bool) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    if beginning_is_cut && lines.len() > 1 {
        lines.remove(0);
    }
    lines.retain(|line| !line.is_empty());
    let skipped = lines.len().saturating_sub(OUTPUT_LINES);
    lines[skipped..].iter().map(|line| printable(line)).collect()
}

fn printable(line: &str) -> String {
    line.chars()
        .take(LINE_LENGTH)
        .map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration) -> Command {
        Command {
            argv: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
            environment: vec![("LOCKSTEP_STATE", "master".to_owned())],
            user: None,
            timeout,
        }
    }

    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn exit_status_and_last_lines_are_kept() {
        let ended = run(shell("echo one; echo two >&2; exit 3", LONG)).await;
        assert_eq!(ended.how, How::Exit(3));
        assert_eq!(ended.output, ["one", "two"]);
        assert_eq!(ended.to_string(), "exit status 3: two");
    }

    #[tokio::test]
    async fn a_command_sees_its_environment_and_the_root_directory() {
        let ended = run(shell("echo $LOCKSTEP_STATE; pwd; cat; echo ${NOTIFY_SOCKET-unset}", LONG));
        assert_eq!(ended.await.output, ["master", "/", "unset"]);
    }

    #[tokio::test]
    async fn a_missing_program_is_a_clear_result() {
        let argv = vec!["/nonexistent/hook".to_owned()];
        let command = Command { argv, environment: Vec::new(), user: None, timeout: LONG };
        let ended = run(command).await;
        assert_eq!(
            ended.to_string(),
            "not started: /nonexistent/hook: No such file or directory (os error 2)"
        );
    }

    #[tokio::test]
    async fn a_command_of_another_user_has_that_users_identity_and_can_tell_its_output() {
        if !nix::unistd::Uid::effective().is_root() {
            eprintln!("skipped: this needs to be root");
            return;
        }
        let mut command = shell("id -un; id -gn; echo $USER; cat /proc/self/oom_score", LONG);
        command.user = Some("nobody".to_owned());
        let ended = run(command).await;
        assert_eq!(ended.how, How::Exit(0), "{ended}");
        assert_eq!(ended.output[..3], ["nobody", "nogroup", "nobody"]);
    }

    #[tokio::test]
    async fn a_user_that_is_not_there_is_a_clear_result() {
        let mut command = shell("true", LONG);
        command.user = Some("no-such-user".to_owned());
        assert_eq!(run(command).await.to_string(), "not started: there is no user no-such-user");
    }

    #[tokio::test]
    async fn a_signal_from_elsewhere_is_named() {
        assert_eq!(run(shell("kill -USR1 $$", LONG)).await.to_string(), "ended by SIGUSR1");
    }

    #[tokio::test]
    async fn the_time_out_ends_the_whole_process_group() {
        let script = "sleep 1000 & echo $!; echo $$; wait";
        let ended = run(shell(script, Duration::from_secs(2))).await;
        assert_eq!(ended.how, How::TimedOut(Duration::from_secs(2)));
        for pid in &ended.output {
            assert_gone(pid).await;
        }
        assert_eq!(ended.output.len(), 2);
    }

    #[tokio::test]
    async fn a_group_that_ignores_sigterm_is_killed() {
        let script = "trap '' TERM; (while :; do sleep 1000; done) & echo $!; echo $$; wait";
        let ended = run(shell(script, Duration::from_secs(2))).await;
        assert_eq!(ended.how, How::TimedOut(Duration::from_secs(2)));
        assert_eq!(ended.output.len(), 2);
        for pid in &ended.output {
            assert_gone(pid).await;
        }
    }

    #[tokio::test]
    async fn a_background_process_does_not_hold_up_the_end() {
        let ended = run(shell("sleep 1000 & echo $!", LONG)).await;
        assert_eq!(ended.how, How::Exit(0));
        let pid = ended.output[0].parse().unwrap();
        nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }

    #[tokio::test]
    async fn endless_output_is_cut_to_its_last_lines() {
        let ended =
            run(shell("i=0; while [ $i -lt 5000 ]; do i=$((i+1)); echo line $i; done", LONG));
        let output = ended.await.output;
        assert_eq!(output.len(), OUTPUT_LINES);
        assert_eq!(output[OUTPUT_LINES - 1], "line 5000");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(last_lines(b"\x1b[31mred\x07\n", false), ["\u{fffd}[31mred\u{fffd}"]);
    }

    #[test]
    fn a_line_cut_at_its_beginning_is_left_out() {
        assert_eq!(last_lines(b"tail of one\ntwo\n", true), ["two"]);
        assert_eq!(last_lines(b"tail of one", true), ["tail of one"]);
    }

    /// A zombie is gone: it runs nothing, and whoever inherited it reaps it in its own time.
    async fn assert_gone(pid: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            let state = stat.ok().and_then(|stat| stat.rsplit(") ").next()?.chars().next());
            match state {
                None | Some('Z' | 'X') => return,
                Some(state) if Instant::now() > deadline => panic!("{pid} still there: {state}"),
                Some(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    }
}
