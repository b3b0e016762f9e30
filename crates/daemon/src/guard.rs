//! The guard: starts the daemon proper, its worker, and starts it again when it dies.
//!
//! ```text
//!   systemd ◀──ready, watchdog── guard ◀──words── worker ──────▶ the kernel, peers, people
//!           ──TERM, HUP────────▶       ──TERM, HUP──▶ │
//!                                  └──── record ◀─────┘ what it is master of, beats
//! ```
//!
//! It has one thread that waits for signals, for words of the worker, and for the next look at the
//! record. It holds nothing but the record and the network namespace's lock, and knows nothing of
//! VRRP: whether a new worker may go on where the dead one was, the new one decides.

mod patience;
mod pulse;
pub(crate) mod record;
mod worker;

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sd_notify::NotifyState;
use tracing::{error, warn};

use crate::cli::Ended;
use crate::release::{self, Kept};
use crate::{run, service};
use patience::{Next, Patience};
pub(crate) use pulse::{Pulse, REPLICATOR_LIMIT, core_limit};
pub(crate) use record::Thread;
use record::{Record, since_boot};
use worker::Worker;

/// How often the guard looks whether the worker lives.
const LOOK: Duration = Duration::from_millis(500);
/// A worker that has not begun to work after this time never will.
const START_LIMIT: Duration = Duration::from_secs(20);
/// A worker that was told to end and has not after this time never will: longer than its groups'
/// hand-over and its hooks may take.
const STOP_LIMIT: Duration = Duration::from_secs(25);
/// The configuration is bad (`EX_CONFIG`): starting again does not help.
const BAD_CONFIGURATION: i32 = 78;

struct Guard {
    config: PathBuf,
    socket: PathBuf,
    record: Record,
    signals: SignalFd,
    worker: Option<Worker>,
    patience: Patience,
    /// How often a worker was started again at once.
    restarts: u64,
    /// A worker was ready once: this service works.
    has_worked: bool,
    /// When the end was asked for.
    stopping: Option<Instant>,
    /// The configuration is to be read again by a worker that is not ready.
    reload: bool,
    /// When the next worker begins, while there is none.
    start_at: Option<Instant>,
    /// How often the service manager wants to hear of it, and when it does next.
    watchdog: Option<(Duration, Instant)>,
    _lock: UnixListener,
}

/// Has every thread that is started from now on leave the guard's signals to the guard. To be called
/// while there is only one.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn keep_signals() -> anyhow::Result<()> {
    signals().thread_block().context("cannot block signals")
}

fn signals() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD].into_iter().collect()
}

/// Runs the daemon as a worker until it has ended in order or is given up.
///
/// [`keep_signals`] comes first.
///
/// # Errors
/// [`Ended`] with the worker's status, which has said why; or what keeps a worker from being started.
pub(crate) fn run(config: &Path, socket: &Path) -> anyhow::Result<()> {
    let signals = signals();
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let guard = Guard {
        config: config.to_owned(),
        socket: socket.to_owned(),
        _lock: run::take_namespace()?,
        record: Record::new().context("cannot make the record")?,
        signals: SignalFd::with_flags(&signals, flags).context("cannot wait for signals")?,
        worker: None,
        patience: Patience::default(),
        restarts: 0,
        has_worked: false,
        stopping: None,
        reload: false,
        start_at: Some(Instant::now()),
        watchdog: sd_notify::watchdog_enabled().map(|limit| (limit / 2, Instant::now())),
    };
    guard.watch()
}

impl Guard {
    fn watch(mut self) -> anyhow::Result<()> {
        loop {
            let now = Instant::now();
            if self.worker.is_none() && self.start_at.is_some_and(|at| now >= at) {
                self.start_at = None;
                self.record.forget_beats()?;
                self.worker = Some(Worker::start(&self.record).context("cannot start the worker")?);
            }
            self.wait(now);
            self.pass_signals_on();
            if let Some(worker) = &mut self.worker {
                let ended = worker.hear();
                self.has_worked |= worker.is_ready;
                if worker.is_ready && std::mem::take(&mut self.reload) {
                    worker.signal(Signal::SIGHUP);
                }
                if ended {
                    self.stopping.get_or_insert(now);
                }
                if let Some(status) = worker.ended()?
                    && let Some(result) = self.after(status)
                {
                    return result;
                }
            } else if self.stopping.is_some() {
                return Ok(());
            }
            self.look_after(Instant::now());
        }
    }

    /// Until something happens or is due.
    fn wait(&self, now: Instant) {
        let feed = self.watchdog.map(|(_, at)| at);
        let next = [self.start_at, feed].into_iter().flatten().fold(now + LOOK, Instant::min);
        let timeout = next.saturating_duration_since(now).as_millis() as u16;
        let signals = PollFd::new(self.signals.as_fd(), PollFlags::POLLIN);
        let words = self.worker.as_ref().map(|one| PollFd::new(one.as_fd(), PollFlags::POLLIN));
        let mut waited_for: Vec<PollFd<'_>> = [signals].into_iter().chain(words).collect();
        // A millisecond more, because the rest of one is not waited for.
        match poll(&mut waited_for, PollTimeout::from(timeout.saturating_add(1))) {
            Ok(_) | Err(Errno::EINTR) => {}
            // Nothing is lost by looking without being called.
            Err(_) => std::thread::sleep(LOOK),
        }
    }

    fn pass_signals_on(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let Ok(signal) = Signal::try_from(signal.ssi_signo as i32) else { continue };
            if signal == Signal::SIGCHLD {
                continue;
            }
            if signal == Signal::SIGHUP && self.worker.as_ref().is_none_or(|one| !one.is_ready) {
                // It may have read the configuration already, and cannot listen yet.
                self.reload = true;
                continue;
            }
            if signal != Signal::SIGHUP {
                self.stopping.get_or_insert_with(Instant::now);
                self.start_at = None;
            }
            if let Some(worker) = &self.worker {
                worker.signal(signal);
            }
        }
    }

    /// Ends a worker that is stuck, and tells the service manager of one that is not.
    fn look_after(&mut self, now: Instant) {
        let Some(worker) = &mut self.worker else { return self.feed(now) };
        let lived = now.saturating_duration_since(worker.started);
        let silent = self.record.silent(since_boot());
        let stops = self.stopping.map(|since| now.saturating_duration_since(since));
        let verdict = match (stops, silent) {
            (Some(since), _) => {
                (since > STOP_LIMIT).then(|| format!("it does not end within {STOP_LIMIT:?}"))
            }
            (None, _) if !self.record.has_beaten(Thread::Core) => {
                (lived > START_LIMIT).then(|| format!("it does not begin within {START_LIMIT:?}"))
            }
            (None, Some((thread, silent))) => {
                Some(format!("its {} thread has been stuck for {silent:.1?}", thread.name()))
            }
            (None, None) => None,
        };
        match verdict {
            Some(why) => worker.end_for_good(&why),
            None => self.feed(now),
        }
    }

    fn feed(&mut self, now: Instant) {
        if let Some((interval, at)) = &mut self.watchdog
            && now >= *at
        {
            *at = now + *interval;
            service::tell(&[NotifyState::Watchdog]);
        }
    }

    /// The worker has ended: what becomes of this process, or `None` when there will be a new one.
    fn after(&mut self, status: ExitStatus) -> Option<anyhow::Result<()>> {
        let lived = self.worker.take().map_or(Duration::ZERO, |worker| worker.started.elapsed());
        if status.success() {
            return Some(Ok(()));
        }
        let code = status.code();
        let asked = [Signal::SIGTERM, Signal::SIGINT].map(|signal| Some(signal as i32));
        if self.stopping.is_some() && asked.contains(&status.signal()) {
            // It was asked before it could listen.
            self.release();
            return Some(Ok(()));
        }
        let failed = Err(Ended(code.map_or(1, |code| code as u8)).into());
        if self.stopping.is_some() {
            error!("the daemon has not ended in order ({status})");
            self.release();
            return Some(failed);
        }
        let is_first = !self.has_worked && code.is_some();
        if is_first || code == Some(BAD_CONFIGURATION) {
            self.release();
            return Some(failed);
        }
        match self.patience.died(lived) {
            Next::AtOnce => {
                warn!("the daemon has died ({status}) and is started again");
                self.restarts += 1;
                let restarts = self.restarts;
                let words = format!("started again {restarts} times, the last after {status}");
                service::tell(&[NotifyState::Status(&words)]);
                self.start_at = Some(Instant::now());
            }
            Next::After(wait) => {
                let deaths = self.patience.deaths();
                error!(
                    "the daemon has died ({status}), {deaths} times in a row; the next begins in {wait:?}"
                );
                self.release();
                self.start_at = Some(Instant::now() + wait);
            }
            Next::Never => {
                let deaths = self.patience.deaths();
                error!("the daemon has died ({status}), {deaths} times in a row, and is given up");
                self.release();
                return Some(failed);
            }
        }
        None
    }

    /// Nobody serves: what a worker has left goes.
    fn release(&self) {
        let past = self.record.past().unwrap_or_else(|error| {
            warn!("the record cannot be read: {error:#}");
            record::Past::default()
        });
        let kept = Kept { configuration: &past.configuration, file: &self.config };
        match release::release(&kept, &self.socket, false) {
            Ok(released) => released.log(),
            Err(error) => error!("what the daemon has left may still be there: {error:#}"),
        }
        if let Err(error) = self.record.forget() {
            error!(%error, "the record cannot be emptied");
        }
    }
}
