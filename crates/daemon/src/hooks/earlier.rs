//! A hook of an earlier life of the daemon that still runs.
//!
//! Each hook holds a lock on a file in the state directory for as long as its process lives, so that
//! the kernel tells whether one is left and which. It gets the rest of its time-out, and is then
//! ended as it would have been by the daemon that started it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use lockstep_kernel::identity::LifeLock;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, SysconfVar, getpgid, sysconf};

use crate::process::GRACE;

/// How often it is looked at.
pub(super) const POLL: Duration = Duration::from_millis(100);
/// The file in the state directory.
const LOCK: &str = "hooks.lock";

/// The lock of the hooks of this daemon and of its earlier lives.
///
/// # Errors
/// When the directory cannot be written to.
pub(super) fn lock(state_directory: &Path) -> io::Result<LifeLock> {
    fs::create_dir_all(state_directory)?;
    let path = state_directory.join(LOCK);
    drop(OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?);
    LifeLock::new(File::open(&path)?)
}

/// What is known of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Earlier {
    /// Its process; `None` when that cannot be seen from here.
    pub pid: Option<i32>,
    /// The group it was run for, when its process tells.
    pub group: Option<String>,
    /// The virtual router it was run for, if for one.
    pub virtual_router: Option<String>,
    /// The state it was run for, when its process tells.
    pub state: Option<String>,
    /// Its command, for people.
    pub command: String,
    /// How long it has been running.
    pub age: Duration,
}

impl Earlier {
    /// Finds out who holds the lock.
    pub(super) fn find(lock: &LifeLock) -> Option<Self> {
        let pid = lock.holder().ok()??;
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let environment = read("environ");
        let variable = |name: &str| {
            let entries = environment.split(|byte| *byte == 0);
            let mut values =
                entries.filter_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
            values.next().map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let command = read("cmdline");
        let words = command.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        Some(Self {
            pid: (pid > 0).then_some(pid),
            group: variable("LOCKSTEP_GROUP"),
            virtual_router: variable("LOCKSTEP_VIRTUAL_ROUTER"),
            state: variable("LOCKSTEP_STATE"),
            command: words.join(" "),
            age: age(&read("stat")).unwrap_or_default(),
        })
    }

    /// Signals it and what belongs to it. Its group was made for it, unless it has left that.
    fn signal(&self, signal: Signal) {
        let Some(pid) = self.pid.map(Pid::from_raw) else { return };
        let _ = if getpgid(Some(pid)) == Ok(pid) { killpg(pid, signal) } else { kill(pid, signal) };
    }
}

/// From `/proc/PID/stat`: how long a process has been there.
fn age(stat: &[u8]) -> Option<Duration> {
    let stat = String::from_utf8_lossy(stat);
    // The name of the program may hold anything; fields are counted behind it, the state is the 3rd.
    let (_, fields) = stat.rsplit_once(") ")?;
    let started: u64 = fields.split(' ').nth(19)?.parse().ok()?;
    let ticks =
        u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok().filter(|ticks| *ticks > 0)?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
    let started = Duration::from_millis(started.saturating_mul(1000) / ticks);
    Some(Duration::try_from_secs_f64(uptime).ok()?.saturating_sub(started))
}

/// Waits for it, up to a limit.
#[derive(Debug)]
pub(super) struct Wait {
    pub hook: Earlier,
    /// When it is ended.
    until: Instant,
    told: Told,
}

/// What it was told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Told {
    Nothing,
    Terminate,
    Kill,
}

/// What a look at it has found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Look {
    /// It still runs.
    Runs,
    /// It has been told to end.
    Ending,
    /// It has ended.
    Gone,
    /// It can not be ended, and is waited for no more.
    Stuck,
}

impl Wait {
    /// `limit` is what a hook like it may take in all.
    pub(super) fn new(hook: Earlier, limit: Duration, now: Instant) -> Self {
        let until = now + limit.saturating_sub(hook.age);
        Self { hook, until, told: Told::Nothing }
    }

    /// Looks at it, and ends it when its time is over.
    pub(super) fn look(&mut self, holder: Option<Earlier>, now: Instant) -> Look {
        match holder {
            Some(holder) if holder.pid == self.hook.pid => {}
            Some(_) | None => return Look::Gone,
        }
        if now < self.until {
            return if self.told == Told::Nothing { Look::Runs } else { Look::Ending };
        }
        let signal = match self.told {
            Told::Nothing => Signal::SIGTERM,
            Told::Terminate => Signal::SIGKILL,
            Told::Kill => return Look::Stuck,
        };
        self.hook.signal(signal);
        self.told = if signal == Signal::SIGTERM { Told::Terminate } else { Told::Kill };
        self.until = now + GRACE;
        Look::Ending
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A hook that another daemon has left, with its lock. `script` says when it is at work.
    fn left(script: &str) -> (tempfile::TempDir, LifeLock, Child) {
        let directory = tempfile::tempdir().unwrap();
        let lock = lock(directory.path()).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script, "hook", "--master"]);
        command.env("LOCKSTEP_GROUP", "gateway").env("LOCKSTEP_STATE", "master");
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdout(Stdio::piped());
        lock.hold(&mut command);
        let mut child = command.spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        (directory, lock, child)
    }

    #[test]
    fn a_later_life_knows_which_hook_is_left() {
        let (directory, _earlier_life, mut child) = left("echo; sleep 1000; true");
        let lock = lock(directory.path()).unwrap();
        let hook = Earlier::find(&lock).expect("it runs");
        assert_eq!(hook.pid, Some(child.id().cast_signed()));
        assert_eq!(hook.group.as_deref(), Some("gateway"));
        assert_eq!(hook.state.as_deref(), Some("master"));
        assert!(hook.command.ends_with("hook --master"), "{}", hook.command);
        assert!(hook.age < Duration::from_mins(5), "{:?}", hook.age);
        hook.signal(Signal::SIGKILL);
        child.wait().unwrap();
        assert_eq!(Earlier::find(&lock), None);
    }

    #[test]
    fn it_is_waited_for_and_then_ended_like_any_other() {
        let (_directory, lock, mut child) =
            left("trap '' TERM; echo; while :; do sleep 1000; done");
        let start = Instant::now();
        let hook = Earlier { age: Duration::from_secs(4), ..Earlier::find(&lock).unwrap() };
        let mut wait = Wait::new(hook, Duration::from_secs(10), start);
        let look = |wait: &mut Wait, after: u64| {
            wait.look(Earlier::find(&lock), start + Duration::from_secs(after))
        };
        assert_eq!(look(&mut wait, 5), Look::Runs);
        assert_eq!(look(&mut wait, 6), Look::Ending, "4 s before and 6 s now");
        assert_eq!(look(&mut wait, 7), Look::Ending, "it is given time to end");
        assert_eq!(look(&mut wait, 8), Look::Ending, "it is killed");
        child.wait().unwrap();
        assert_eq!(look(&mut wait, 9), Look::Gone);
    }

    #[test]
    fn what_cannot_be_ended_is_not_waited_for_without_end() {
        let start = Instant::now();
        let unseen = Earlier {
            pid: None,
            group: None,
            virtual_router: None,
            state: None,
            command: String::new(),
            age: Duration::ZERO,
        };
        let mut wait = Wait::new(unseen.clone(), Duration::from_secs(1), start);
        let found: Vec<Look> = [0, 1, 3, 5]
            .into_iter()
            .map(|after| wait.look(Some(unseen.clone()), start + Duration::from_secs(after)))
            .collect();
        assert_eq!(found, [Look::Runs, Look::Ending, Look::Ending, Look::Stuck]);
    }
}
