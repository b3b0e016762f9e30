//! Looks at what is tracked beside checks: files and processes, each kind on a thread of its own, in
//! every state of the groups; and says what an interface's state means to those who track it.
//!
//! A look begins when the last one has ended, and only what has changed is told, so that nothing
//! piles up. A file on a server that does not answer holds up the other files and nothing else.

mod files;
mod processes;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use lockstep_failover::tracking::Seen;
use lockstep_failover::{Config, Event, Process, Subject};
use tokio::sync::mpsc;

use crate::messages::{CoreEvent, InterfaceState, QUEUE};
use files::Files;
use processes::Processes;

/// From look to look at the files: a person who writes one waits for its effect.
const FILES_EVERY: Duration = Duration::from_millis(250);
/// From look to look at the processes, which costs more the more there are on the host.
const PROCESSES_EVERY: Duration = Duration::from_secs(1);

/// What is news about a tracked thing.
#[derive(Clone, Debug, Eq, PartialEq)]
struct News {
    subject: Subject,
    seen: Seen,
    detail: String,
}

/// The threads that look.
pub(crate) struct Tracking {
    core: mpsc::Sender<CoreEvent>,
    /// Tell the threads what to look at, once they have been started.
    paths: Option<mpsc::Sender<BTreeSet<PathBuf>>>,
    programs: Option<mpsc::Sender<BTreeSet<Process>>>,
}

impl Tracking {
    /// No threads yet; `core` hears what is news.
    pub(crate) fn new(core: mpsc::Sender<CoreEvent>) -> Self {
        Self { core, paths: None, programs: None }
    }

    /// Looks at what this configuration tracks, and at nothing else. What was looked at before is as
    /// it was told; what is new is told. Threads that are needed are started; they end when nobody
    /// listens to the core's channel any more.
    ///
    /// # Errors
    /// When a thread cannot be started, or has not taken the last [`QUEUE`] configurations.
    pub(crate) fn configure(&mut self, config: &Config) -> anyhow::Result<()> {
        let (mut paths, mut programs) = (BTreeSet::new(), BTreeSet::new());
        for subject in subjects(config) {
            match subject {
                Subject::File(path) => drop(paths.insert(path.clone())),
                Subject::Process(process) => drop(programs.insert(process.clone())),
                Subject::Check(_) | Subject::Interface(_) => {}
            }
        }
        let mut files = Files::default();
        look_at("files", FILES_EVERY, paths, &mut self.paths, &self.core, move |others| {
            for paths in others {
                files.follow(paths);
            }
            files.look()
        })?;
        let mut processes = Processes::default();
        look_at(
            "processes",
            PROCESSES_EVERY,
            programs,
            &mut self.programs,
            &self.core,
            move |others| {
                for programs in others {
                    processes.follow(programs);
                }
                if processes.is_empty() {
                    return Vec::new();
                }
                processes.look(&processes::running(), Instant::now())
            },
        )
    }
}

/// Has the thread of `things` look at these, or starts one when there is none and one is needed.
fn look_at<T: Ord + Send + 'static>(
    what: &str,
    every: Duration,
    things: BTreeSet<T>,
    thread: &mut Option<mpsc::Sender<BTreeSet<T>>>,
    core: &mpsc::Sender<CoreEvent>,
    look: impl FnMut(Vec<BTreeSet<T>>) -> Vec<News> + Send + 'static,
) -> anyhow::Result<()> {
    match thread {
        Some(thread) => thread
            .try_send(things)
            .map_err(|_| anyhow!("whoever looks at {what} takes nothing new: a look hangs")),
        None if things.is_empty() => Ok(()),
        None => {
            let (sender, wanted) = mpsc::channel(QUEUE);
            // The first of so many finds room.
            let _ = sender.try_send(things);
            repeat(what, every, core.clone(), wanted, look)?;
            *thread = Some(sender);
            Ok(())
        }
    }
}

/// The interfaces that are tracked.
pub(crate) fn interfaces(config: &Config) -> impl Iterator<Item = String> {
    subjects(config).filter_map(|subject| match subject {
        Subject::Interface(name) => Some(name.clone()),
        Subject::Check(_) | Subject::File(_) | Subject::Process(_) => None,
    })
}

/// What an interface's state says to those who track it.
pub(crate) fn interface(state: &InterfaceState) -> Event {
    let link = state.link.as_ref().map(|link| (link.up, link.carrier));
    let (seen, detail) = look(&state.name, link);
    Event::Tracked { subject: Subject::Interface(state.name.clone()), seen, detail }
}

/// How an interface is that is up and has carrier, or not, or does not exist.
fn look(name: &str, link: Option<(bool, bool)>) -> (Seen, String) {
    match link {
        None => (Seen::Bad, format!("{name} does not exist")),
        Some((false, _)) => (Seen::Bad, format!("{name} is down")),
        Some((true, false)) => (Seen::Bad, format!("{name} has no carrier")),
        Some((true, true)) => (Seen::Good, format!("{name} is up")),
    }
}

fn subjects(config: &Config) -> impl Iterator<Item = &Subject> {
    let of_groups = config.groups.iter().flat_map(|group| &group.track);
    let members = config.groups.iter().flat_map(|group| &group.virtual_routers);
    of_groups.chain(members.flat_map(|member| &member.track)).map(|track| &track.subject)
}

/// Starts a thread that looks again and again; `look` is told at what else, one after the other.
fn repeat<T: Send + 'static>(
    what: &str,
    every: Duration,
    core: mpsc::Sender<CoreEvent>,
    mut wanted: mpsc::Receiver<T>,
    mut look: impl FnMut(Vec<T>) -> Vec<News> + Send + 'static,
) -> anyhow::Result<()> {
    let repeat = move || {
        while !core.is_closed() {
            // Each of them: what goes and comes back is told anew.
            let others = std::iter::from_fn(|| wanted.try_recv().ok()).collect();
            for News { subject, seen, detail } in look(others) {
                if core.blocking_send(CoreEvent::Tracked { subject, seen, detail }).is_err() {
                    return;
                }
            }
            thread::sleep(every);
        }
    };
    thread::Builder::new()
        .name(what.to_owned())
        .spawn(repeat)
        .map(drop)
        .with_context(|| format!("cannot start the thread that looks at {what}"))
}

#[cfg(test)]
mod tests;
