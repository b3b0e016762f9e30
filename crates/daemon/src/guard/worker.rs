//! The worker's process, as its guard sees it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sd_notify::NotifyState;
use tracing::error;

use super::record::Record;
use crate::service;

/// Most bytes of what is said at once.
const WORDS: usize = 4096;
/// Most that is heard in one turn.
const HEARD: usize = 64;

/// A worker that has not been waited for yet.
pub(super) struct Worker {
    child: Child,
    words: UnixDatagram,
    pub(super) started: Instant,
    /// It has said so.
    pub(super) is_ready: bool,
    is_doomed: bool,
}

impl Worker {
    /// Starts this program again, with the same arguments.
    pub(super) fn start(record: &Record) -> io::Result<Self> {
        let (words, theirs) = UnixDatagram::pair()?;
        words.set_nonblocking(true)?;
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_else(|| OsString::from("lockstep"));
        // By its image, not by its path: an upgrade may have put another program there.
        let mut command = Command::new("/proc/self/exe");
        command.arg0(name).args(arguments);
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        for variable in ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"] {
            command.env_remove(variable);
        }
        let number = record.let_inherit(true)?;
        command.arg("--guarded").arg(number.to_string());
        let child = command.spawn();
        record.let_inherit(false)?;
        Ok(Self {
            child: child?,
            words,
            started: Instant::now(),
            is_ready: false,
            is_doomed: false,
        })
    }

    /// Passes on what it says to the service manager; whether it has said that it ends.
    pub(super) fn hear(&mut self) -> bool {
        let mut words = [0; WORDS];
        let mut ends = false;
        for _ in 0..HEARD {
            let Ok(length) = self.words.recv(&mut words) else { break };
            let Ok(said) = std::str::from_utf8(&words[..length]) else { continue };
            self.is_ready |= said.lines().any(|line| line == "READY=1");
            ends |= said.lines().any(|line| line == "STOPPING=1");
            if !said.is_empty() {
                service::tell(&[NotifyState::Custom(said)]);
            }
        }
        ends
    }

    pub(super) fn signal(&self, signal: Signal) {
        // It has not been waited for, so the number is nobody else's.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), signal);
    }

    /// Ends it without asking it; said once.
    pub(super) fn end_for_good(&mut self, why: &str) {
        if !std::mem::replace(&mut self.is_doomed, true) {
            error!("the daemon is ended: {why}");
            self.signal(Signal::SIGKILL);
        }
    }

    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

impl AsFd for Worker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.words.as_fd()
    }
}
