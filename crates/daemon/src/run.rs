//! The daemon proper: starts the threads, ties them together, and ends them in order. The guard of
//! `lockstep run` runs it as its worker.
//!
//! The calling thread waits for signals. When a thread ends before it was told to, the process
//! ends too, and when one panics it does so at once: nothing limps on.

use std::io;
use std::os::fd::RawFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use lockstep_config::Config;
use lockstep_kernel::scheduling::{give_back_what_is_free, lock_memory, set_real_time};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Uid;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, error, info, warn};

use crate::core::{Actors, Core, Memory};
use crate::guard::record::{PastGroup, Record, moment, since_boot};
use crate::guard::{Pulse, REPLICATOR_LIMIT, Thread};
use crate::journal::{self, Journal};
use crate::maintenance::Maintenance;
use crate::messages::{ControlRequest, CoreEvent, NetworkRequest, QUEUE, ReplicatorRequest};
use crate::reload::{self, Reloader};
use crate::{cli, control, network, replicator, service};

/// How often the threads are looked after: one that ended unasked ends the daemon.
const LOOK_AFTER_THREADS: Duration = Duration::from_millis(200);
/// How long the namespace of an earlier daemon that is ending is waited for, and between the looks.
const NAMESPACE_LIMIT: Duration = Duration::from_secs(2);
const NAMESPACE_RETRY: Duration = Duration::from_millis(10);
/// How long one is waited for that hands over: as long as that may take, with its hooks.
const WORK_LIMIT: Duration = Duration::from_secs(21);

/// Runs the daemon until it is told to end. `guarded` is the number under which it has inherited its
/// guard's record, when it has a guard.
///
/// # Errors
/// A bad configuration, a missing privilege, a socket in use: one sentence each.
pub(crate) fn run(config: &Path, socket: &Path, guarded: Option<RawFd>) -> anyhow::Result<()> {
    abort_on_panic();
    let record = Arc::new(match guarded {
        Some(number) => join_guard(number)?,
        None => Record::new().context("cannot make the record")?,
    });
    let file = config.to_owned();
    let (config, text) = cli::load(config)?;
    check_privileges()?;
    // With a guard it is the guard's.
    let _only_one = if guarded.is_none() { Some(take_namespace()?) } else { None };
    let _at_work = take_work()?;
    let resumed = take_over(&record, &config, &text)?;
    drop(text);
    let maintenance = Maintenance::load(&config.state_directory)?;
    let kept_out = maintenance.since().clone();
    let (core_sender, core_inbox) = mpsc::channel(QUEUE);
    let (network_sender, network_requests) = mpsc::channel(QUEUE);
    let (control_sender, control_requests) = mpsc::channel(QUEUE);
    let (watch_sender, watch_requests) = mpsc::channel(QUEUE);
    let (replicator_sender, replicator_requests) =
        config.replication.as_ref().map(|_| mpsc::channel(QUEUE)).unzip();
    let reloader = Arc::new(Reloader::new(
        file,
        config.clone(),
        reload::Actors {
            core: core_sender.clone(),
            network: network_sender.clone(),
            control: control_sender.clone(),
            watches: watch_sender,
            replicator: replicator_sender.clone(),
        },
        Arc::clone(&record),
    ));
    let kept = Journal::open(&config.state_directory);
    let last_transition = kept.last_number();
    let (news_sender, news) = watch::channel(journal::News::default());
    // The control socket says whether another daemon is at work. Then the addresses that an earlier
    // life left are removed, before anything else can fail.
    let control = control::spawn(
        &config,
        socket,
        control::Actors {
            core: core_sender.clone(),
            network: network_sender.clone(),
            replicator: replicator_sender.clone(),
            maintenance,
            reloader: Arc::clone(&reloader),
            journal: (kept, news),
            watches: watch_requests,
        },
        control_requests,
    )?;
    let (begin, begun) = oneshot::channel();
    let network = network::spawn(
        network::Settings {
            declared: config.declared.clone(),
            interfaces: network::interfaces_of(&config),
            rules: network::rules_of(&config),
            state_directory: config.state_directory.clone(),
            resumed: resumed.iter().map(|group| group.name.clone()).collect(),
        },
        network_requests,
        core_sender.clone(),
        begun,
    )?;
    let mut threads = vec![network, control];
    if let (Some(replication), Some(requests)) = (&config.replication, replicator_requests) {
        let pulse = Pulse::new(Arc::clone(&record), Thread::Replicator, REPLICATOR_LIMIT);
        threads.push(replicator::spawn(replication.clone(), requests, core_sender.clone(), pulse)?);
    }
    // A thread that has ended meanwhile is found out below.
    let _ = begin.send(());
    let actors = Actors {
        network: network_sender.clone(),
        replicator: replicator_sender.clone(),
        control: control_sender.clone(),
        journal: news_sender,
    };
    let (ended_sender, ended) = oneshot::channel();
    let core = Core::new(
        &config,
        last_transition,
        kept_out,
        actors,
        Memory::new(&config, Arc::clone(&record), resumed),
    );
    let scheduling = config.scheduling.clone();
    // Each thread has its part of it, and reading it has taken several times as much.
    drop(config);
    give_back_what_is_free();
    let core = thread::Builder::new()
        .name("core".to_owned())
        .spawn(move || drop(ended_sender.send(run_core(core, core_inbox, &scheduling))))
        .context("cannot start the core thread")?;

    let result = wait_for_signals(&core_sender, ended, &threads, &reloader, &record);
    // Each of them may be gone already, which is what is wanted.
    drop(network_sender.blocking_send(NetworkRequest::Stop));
    drop(replicator_sender.map(|sender| sender.blocking_send(ReplicatorRequest::Stop)));
    drop(control_sender.blocking_send(ControlRequest::Stop));
    threads.push(core);
    for thread in threads {
        let name = name_of(&thread);
        if thread.join().is_err() {
            bail!("the {name} thread panicked");
        }
        debug!(name, "thread ended");
    }
    info!("ended");
    result
}

/// A panic in whatever thread, and whatever would catch it, ends the process: what the others would
/// go on with is half of a router.
fn abort_on_panic() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        std::process::abort();
    }));
}

/// For the test that a panic in any thread ends the process: in one that nobody waits for, once the
/// file exists that the variable names.
#[cfg(debug_assertions)]
fn panic_if_asked() {
    let Some(file) = std::env::var_os("LOCKSTEP_PANIC_ONCE_THERE_IS") else { return };
    if std::fs::remove_file(file).is_ok() {
        drop(thread::spawn(|| panic!("asked for by a test")));
    }
}

/// Ends with its guard, speaks through it, and has its record.
fn join_guard(number: RawFd) -> anyhow::Result<Record> {
    let record = Record::inherited(number)?;
    // What the guard waits for in another way is for this process what it is for any other.
    SigSet::all().thread_unblock().context("cannot take signals")?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).context("cannot end with the guard")?;
    // A guard that has ended before that is found out by this.
    service::speak_through_guard()?;
    // It was started as /proc/self/exe, and would be `exe` to whoever looks for it.
    nix::sys::prctl::set_name(c"lockstep").context("cannot take its name")?;
    Ok(record)
}

/// Begins the record; the groups of the worker before this one that may still be master, because
/// none of their neighbours can have missed them yet.
fn take_over(record: &Record, config: &Config, text: &str) -> anyhow::Result<Vec<PastGroup>> {
    record.begin(config, text).context("cannot write the record")?;
    let now = Instant::now();
    let (resumed, gone): (Vec<PastGroup>, Vec<PastGroup>) = record
        .past()?
        .groups
        .into_iter()
        .partition(|group| group.until(moment).is_some_and(|until| now < until));
    for group in gone {
        info!(group = group.name, "was master for too long ago to be so still");
        let place = config.failover.groups.iter().position(|one| one.name == group.name);
        place.map_or(Ok(()), |place| record.serves(place, false))?;
    }
    Ok(resumed)
}

fn run_core(
    core: Core,
    inbox: mpsc::Receiver<CoreEvent>,
    scheduling: &lockstep_config::Scheduling,
) -> anyhow::Result<()> {
    schedule(scheduling);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the core thread")?;
    runtime.block_on(core.run(inbox))
}

/// A container without these privileges is better served by a router that may be late than by none:
/// what is missing is said, and `status` shows how late it is.
fn schedule(scheduling: &lockstep_config::Scheduling) {
    let real_time = scheduling.real_time.map(set_real_time);
    let memory = scheduling.lock_memory.then(lock_memory);
    for error in real_time.into_iter().chain(memory).filter_map(Result::err) {
        warn!(cause = %error.source, "{error}: advertisements may be late under load");
    }
}

fn wait_for_signals(
    core: &mpsc::Sender<CoreEvent>,
    mut ended: oneshot::Receiver<anyhow::Result<()>>,
    threads: &[JoinHandle<()>],
    reloader: &Arc<Reloader>,
    record: &Record,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot wait for signals")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut look = tokio::time::interval(LOOK_AFTER_THREADS);
        let mut lost: Option<String> = None;
        let mut watchdog = Watchdog::new();
        info!("running");
        service::tell(&[NotifyState::Ready]);
        loop {
            tokio::select! {
                result = &mut ended => {
                    result.context("the core thread ended")??;
                    return match lost {
                        Some(name) => Err(anyhow!("the {name} thread ended")),
                        None => Ok(()),
                    };
                }
                _ = look.tick() => {
                    watchdog.feed(record);
                    #[cfg(debug_assertions)]
                    panic_if_asked();
                    if lost.is_some() {
                        continue;
                    }
                    lost = threads.iter().find(|thread| thread.is_finished()).map(name_of);
                    if let Some(name) = &lost {
                        error!(name, "a thread ended unasked");
                        stop(core, "a lost thread").await;
                    }
                }
                _ = terminate.recv() => stop(core, "SIGTERM").await,
                _ = interrupt.recv() => stop(core, "SIGINT").await,
                _ = hangup.recv() => reload(reloader),
            }
        }
    })
}

/// Not waited for: the daemon can be ended meanwhile. How it went is logged.
fn reload(reloader: &Arc<Reloader>) {
    let reloader = Arc::clone(reloader);
    drop(tokio::spawn(async move { drop(reloader.reload().await) }));
}

async fn stop(core: &mpsc::Sender<CoreEvent>, cause: &str) {
    info!(cause, "handing over");
    service::tell(&[NotifyState::Stopping]);
    // A core that has ended is reported by the other branch.
    drop(core.send(CoreEvent::Stop).await);
}

fn name_of(thread: &JoinHandle<()>) -> String {
    thread.thread().name().unwrap_or_default().to_owned()
}

/// The service manager's, where there is no guard that feeds it.
struct Watchdog {
    interval: Option<Duration>,
    fed: Option<Instant>,
}

impl Watchdog {
    fn new() -> Self {
        Self { interval: sd_notify::watchdog_enabled().map(|limit| limit / 2), fed: None }
    }

    /// Feeds it when it is time, while both the core and the replicator live.
    fn feed(&mut self, record: &Record) {
        let Some(interval) = self.interval else { return };
        let is_due = self.fed.is_none_or(|fed| fed.elapsed() + LOOK_AFTER_THREADS >= interval);
        if is_due && record.silent(since_boot()).is_none() {
            self.fed = Some(Instant::now());
            service::tell(&[NotifyState::Watchdog]);
        }
    }
}

/// The addresses, routes and links of a network namespace have one owner: a guard, or a daemon
/// without one.
pub(crate) fn take_namespace() -> anyhow::Result<UnixListener> {
    lock("lockstep", NAMESPACE_LIMIT)
}

/// At most one daemon is at work in it: one whose guard was killed hands over first.
pub(crate) fn take_work() -> anyhow::Result<UnixListener> {
    lock("lockstep-worker", WORK_LIMIT)
}

/// An abstract socket belongs to its namespace, needs no file, and is gone with the process however
/// that ends, though some time after a signal: a start straight after a kill or a stop waits for that.
fn lock(name: &str, limit: Duration) -> anyhow::Result<UnixListener> {
    let name = SocketAddr::from_abstract_name(name).context("cannot name the lock")?;
    let give_up = Instant::now() + limit;
    let mut waits = false;
    loop {
        match UnixListener::bind_addr(&name) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if Instant::now() >= give_up {
                    bail!("another lockstep runs in this network namespace");
                }
                if !std::mem::replace(&mut waits, true) {
                    debug!("waits for the end of another lockstep in this network namespace");
                }
                thread::sleep(NAMESPACE_RETRY);
            }
            lock => return lock.context("cannot lock the network namespace"),
        }
    }
}

/// Without `CAP_NET_ADMIN` and `CAP_NET_RAW` nothing works; said once, before anything is touched.
fn check_privileges() -> anyhow::Result<()> {
    let status = std::fs::read_to_string("/proc/thread-self/status")
        .context("cannot read the capabilities of this process")?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .context("the kernel does not tell the capabilities of this process")?;
    let missing: Vec<&str> = [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13)]
        .into_iter()
        .filter(|(_, bit)| effective & (1 << bit) == 0)
        .map(|(name, _)| name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "missing {} (user {}): run it as root or with these capabilities",
        missing.join(" and "),
        Uid::effective()
    )
}
