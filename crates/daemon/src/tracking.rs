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

use anyhow::Context as _;
use lockstep_failover::tracking::Seen;
use lockstep_failover::{Config, Event, Process, Subject};
use tokio::sync::mpsc;

use crate::messages::{CoreEvent, InterfaceState};
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

/// Starts the threads that are needed. They end when nobody listens to `core` any more.
///
/// # Errors
/// When a thread cannot be started.
pub(crate) fn spawn(config: &Config, core: &mpsc::Sender<CoreEvent>) -> anyhow::Result<()> {
    let (mut paths, mut programs) = (BTreeSet::<PathBuf>::new(), BTreeSet::<Process>::new());
    for subject in subjects(config) {
        match subject {
            Subject::File(path) => drop(paths.insert(path.clone())),
            Subject::Process(process) => drop(programs.insert(process.clone())),
            Subject::Check(_) | Subject::Interface(_) => {}
        }
    }
    if !paths.is_empty() {
        let mut files = Files::new(paths);
        watch("files", FILES_EVERY, core.clone(), move || files.look())?;
    }
    if !programs.is_empty() {
        let mut processes = Processes::new(programs);
        watch("processes", PROCESSES_EVERY, core.clone(), move || {
            processes.look(&processes::running(), Instant::now())
        })?;
    }
    Ok(())
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

fn watch(
    what: &str,
    every: Duration,
    core: mpsc::Sender<CoreEvent>,
    mut look: impl FnMut() -> Vec<News> + Send + 'static,
) -> anyhow::Result<()> {
    let repeat = move || {
        while !core.is_closed() {
            for News { subject, seen, detail } in look() {
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
