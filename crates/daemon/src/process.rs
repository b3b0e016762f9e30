//! Runs one command for a hook, a check or the pipe's reader: no shell, a process group of its own,
//! a bounded time, and the end of its output kept.

mod output;
mod program;

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lockstep_failover::RunAs;
use lockstep_kernel::identity::{self, Account, LifeLock};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, Uid};
use tokio::process::{Child, Command as Process};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use output::Output;
pub(crate) use program::{Unfit, find};

/// Between SIGTERM and SIGKILL.
pub(crate) const GRACE: Duration = Duration::from_secs(2);
/// How long users and programs may be looked up.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(30);
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
    pub user: Option<RunAs>,
    /// How long it may run.
    pub timeout: Duration,
    /// Whether it is run although others could put another program in its place.
    pub insecure: bool,
    /// Whether it lives on when the daemon does not.
    pub lifetime: Lifetime,
}

/// Whether a command lives on when the daemon does not.
#[derive(Clone, Debug)]
pub(crate) enum Lifetime {
    /// It ends by itself, or by a later life of the daemon, which finds it by the lock.
    Own(Option<Arc<LifeLock>>),
    /// It ends with the daemon, and when [`run`] is given up.
    Ours,
}

/// A command that has ended or could not be started.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How.
    pub how: How,
    /// The last lines of what it wrote, control characters replaced.
    pub output: Vec<String>,
    /// What could not be ended, although it was killed.
    pub left: Option<Box<Left>>,
}

/// Processes that are killed and not gone: the kernel keeps them until what they wait for is over.
#[derive(Debug)]
pub(crate) struct Left {
    child: Child,
    group: Pid,
}

impl Left {
    /// Whether they have gone by now.
    pub(crate) fn is_gone(&mut self) -> bool {
        // Reaped, since a zombie counts as a member of its group.
        let _ = self.child.try_wait();
        killpg(self.group, None).is_err()
    }
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

impl Ended {
    /// A command that was not started.
    pub(crate) fn not_started(why: String) -> Self {
        Self { how: How::NotStarted(why), output: Vec::new(), left: None }
    }
}

/// Runs `command` to its end. At the time-out SIGTERM and, after [`GRACE`], SIGKILL go to its whole
/// process group. Giving this up leaves the command running when it has a life of its own.
pub(crate) async fn run(command: Command) -> Ended {
    let limit = sleep(command.timeout);
    run_until(command, limit).await
}

/// As [`run`], until `over` instead of the time-out.
pub(crate) async fn run_until(command: Command, over: impl Future<Output = ()>) -> Ended {
    let started = match look_up(&command).await {
        Ok((program, account)) => Output::new()
            .and_then(|output| Ok((spawn(&command, &program, account, &output)?, output)))
            .map_err(|error| format!("{}: {error}", program.display())),
        Err(why) => Err(why),
    };
    let (child, output) = match started {
        Ok(started) => started,
        Err(why) => return Ended::not_started(why),
    };
    let mut running = Running::new(child, matches!(command.lifetime, Lifetime::Ours));
    let how = tokio::select! {
        how = running.supervise(command.timeout, over) => how,
        never = output.keep_bounded() => match never {},
    };
    Ended { how, output: output.close(), left: running.left() }
}

/// The program, and who runs it. Users may be kept on a server that does not answer, and so may
/// programs: nobody else waits.
async fn look_up(command: &Command) -> Result<(PathBuf, Option<Account>), String> {
    let Some(program) = command.argv.first().cloned() else {
        return Err("the command is empty".to_owned());
    };
    let (user, insecure) = (command.user.clone(), command.insecure);
    let looked_up = spawn_blocking(move || {
        let account = user
            .map(|run_as| identity::account(&run_as.user, run_as.group.as_deref()))
            .transpose()
            .map_err(|error| error.to_string())?;
        let own = || Uid::effective().as_raw();
        let uid = account.as_ref().map_or_else(own, |account| account.identity.uid);
        let program = find(&program, uid, insecure).map_err(|unfit| unfit.to_string())?;
        Ok((program, account))
    });
    match timeout(command.timeout.min(LOOK_UP_LIMIT), looked_up).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("looking up the user and the program takes too long".to_owned()),
    }
}

fn spawn(
    command: &Command,
    program: &Path,
    account: Option<Account>,
    output: &Output,
) -> io::Result<Child> {
    let mut process = Process::new(program);
    for variable in PRIVATE_VARIABLES {
        process.env_remove(variable);
    }
    if let Some(account) = account {
        let name = command.user.as_ref().map(|run_as| run_as.user.as_str()).unwrap_or_default();
        process.env("HOME", account.home).env("USER", name).env("LOGNAME", name);
        identity::run_as(process.as_std_mut(), account.identity);
    }
    match &command.lifetime {
        Lifetime::Own(None) => {}
        Lifetime::Own(Some(lock)) => lock.hold(process.as_std_mut()),
        Lifetime::Ours => {
            identity::end_with_this_thread(process.as_std_mut(), Signal::SIGKILL as i32);
        }
    }
    let (name, arguments) = command.argv.split_first().unzip();
    process
        .arg0(name.map_or("", String::as_str))
        .args(arguments.unwrap_or_default())
        .envs(command.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output.file.try_clone()?)
        .stderr(output.file.try_clone()?)
        .process_group(0);
    process.spawn()
}

/// A process and its group. What is to end with the daemon is killed when this is dropped too early.
struct Running {
    child: Option<Child>,
    /// Has the number of the process, because it was made for it.
    group: Option<Pid>,
    ours: bool,
    left: bool,
}

impl Running {
    fn new(child: Child, ours: bool) -> Self {
        let group = child.id().map(|id| Pid::from_raw(id.cast_signed()));
        Self { child: Some(child), group, ours, left: false }
    }

    async fn supervise(&mut self, limit: Duration, over: impl Future<Output = ()>) -> How {
        let (Some(child), group) = (&mut self.child, self.group) else {
            return How::NotStarted("its process is not known".to_owned());
        };
        let how = tokio::select! {
            status = child.wait() => how_it_ended(status),
            () = over => {
                if let Some(group) = group {
                    self.left = end_group(child, group).await;
                }
                How::TimedOut(limit)
            }
        };
        self.ours = false;
        how
    }

    fn left(mut self) -> Option<Box<Left>> {
        let (child, group) = (self.child.take()?, self.group?);
        self.left.then(|| Box::new(Left { child, group }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let (true, Some(group)) = (self.ours, self.group) {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

fn how_it_ended(status: io::Result<ExitStatus>) -> How {
    match status.map(|status| (status.code(), status.signal())) {
        Ok((Some(code), _)) => How::Exit(code),
        Ok((None, signal)) => How::Signal(signal.unwrap_or_default()),
        Err(error) => How::NotStarted(error.to_string()),
    }
}

/// Ends the process and everything else in its group; whether something of it is left all the same.
async fn end_group(child: &mut Child, group: Pid) -> bool {
    if killpg(group, Signal::SIGTERM).is_ok() && is_left_after(GRACE, child, group).await {
        let _ = killpg(group, Signal::SIGKILL);
    }
    // SIGKILL cannot be refused, but a process in an uninterruptible wait of the kernel dies late.
    is_left_after(GRACE, child, group).await
}

/// Waits for the end of a group that was told to; ESRCH means that nothing of it is left.
async fn is_left_after(limit: Duration, child: &mut Child, group: Pid) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        // Reaped as soon as it ends, since a zombie counts as a member of its group.
        let _ = timeout(GROUP_POLL, child.wait()).await;
        if killpg(group, None).is_err() {
            return false;
        }
        if Instant::now() >= deadline {
            return true;
        }
        if child.id().is_none() {
            sleep(GROUP_POLL).await;
        }
    }
}

#[cfg(test)]
mod tests;
