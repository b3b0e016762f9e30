//! Tracked processes: how many run of each program.
//!
//! All of `/proc` is read once for all of them. A process is taken by the name or the path of its
//! program; kernel threads and processes that have ended and wait for their parent have no command
//! line and do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::time::Instant;

use lockstep_failover::tracking::Seen;
use lockstep_failover::{Process, Subject};

use super::News;

/// Most processes that are looked at.
const MAX_PROCESSES: usize = 65_536;
/// Most bytes of a command line that are looked at: its first word is wanted.
const COMMAND_LENGTH: u64 = 4_096;
/// Bytes of a program's name that the kernel keeps (`TASK_COMM_LEN` without the closing zero).
const NAME_LENGTH: usize = 15;

/// A process that runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Running {
    /// The first word of its command line.
    pub command: Vec<u8>,
    /// What the kernel calls it: the beginning of the program's name, a script's too.
    pub name: Vec<u8>,
    /// The path of its program, when it may be seen.
    pub program: Option<Vec<u8>>,
}

/// The tracked processes.
#[derive(Debug, Default)]
pub(super) struct Processes {
    watched: BTreeMap<Process, Watched>,
}

#[derive(Clone, Debug, Default)]
struct Watched {
    told: Option<(bool, String)>,
    /// Since when it is otherwise than it was told.
    contrary_since: Option<Instant>,
}

impl Processes {
    #[cfg(test)]
    fn new(processes: BTreeSet<Process>) -> Self {
        let mut own = Self::default();
        own.follow(processes);
        own
    }

    /// Looks at these from now on; what was told of those among them before holds.
    pub(super) fn follow(&mut self, processes: BTreeSet<Process>) {
        let mut before = std::mem::take(&mut self.watched);
        self.watched = processes
            .into_iter()
            .map(|process| {
                let watched = before.remove(&process).unwrap_or_default();
                (process, watched)
            })
            .collect();
    }

    /// Whether there is nothing to look for.
    pub(super) fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// Counts what runs; what is other than before for as long as it has to be is news, and
    /// everything the first time.
    pub(super) fn look(&mut self, running: &[Running], now: Instant) -> Vec<News> {
        let mut news = Vec::new();
        for (process, watched) in &mut self.watched {
            let count = running.iter().filter(|one| one.is(&process.program)).count();
            let enough = count >= process.quorum as usize;
            let Some(detail) = watched.take(enough, count, process, now) else { continue };
            let seen = if enough { Seen::Good } else { Seen::Bad };
            news.push(News { subject: Subject::Process(process.clone()), seen, detail });
        }
        news
    }
}

impl Watched {
    /// What to say of a count, when there is something to say.
    fn take(
        &mut self,
        enough: bool,
        count: usize,
        process: &Process,
        now: Instant,
    ) -> Option<String> {
        let contrary = self.told.as_ref().is_some_and(|(told, _)| *told != enough);
        if contrary {
            let since = *self.contrary_since.get_or_insert(now);
            if now.saturating_duration_since(since) < process.delay {
                return None;
            }
        }
        self.contrary_since = None;
        let detail = format!("{count} running, {} needed", process.quorum);
        let news = (enough, detail.clone());
        if self.told.as_ref() == Some(&news) {
            return None;
        }
        self.told = Some(news);
        Some(detail)
    }
}

impl Running {
    fn is(&self, program: &str) -> bool {
        let wanted = program.as_bytes();
        if program.contains('/') {
            return self.command == wanted || self.program.as_deref() == Some(wanted);
        }
        let last = self.command.rsplit(|byte| *byte == b'/').next();
        last == Some(wanted) || self.name == wanted[..wanted.len().min(NAME_LENGTH)]
    }
}

/// Every process that runs a program. One that ends meanwhile is left out.
pub(super) fn running() -> Vec<Running> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let processes = entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    processes.take(MAX_PROCESSES).filter_map(|entry| process(&entry.path())).collect()
}

fn process(directory: &Path) -> Option<Running> {
    let line = beginning(&directory.join("cmdline"))?;
    let command = line.split(|byte| *byte == 0).next().filter(|word| !word.is_empty())?;
    let mut name = beginning(&directory.join("comm"))?;
    if name.last() == Some(&b'\n') {
        name.pop();
    }
    let program = fs::read_link(directory.join("exe")).ok();
    let program = program.map(|path| path.into_os_string().into_encoded_bytes());
    Some(Running { command: command.to_vec(), name, program })
}

fn beginning(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(COMMAND_LENGTH).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn one(command: &str, name: &str, program: &str) -> Running {
        Running {
            command: command.as_bytes().to_vec(),
            name: name.as_bytes().to_vec(),
            program: Some(program.as_bytes().to_vec()),
        }
    }

    fn named(quorum: u32, delay: Duration) -> Process {
        Process { program: "named".to_owned(), quorum, delay }
    }

    #[test]
    fn a_process_is_found_by_name_or_path_of_its_program_or_script() {
        let daemon = one("/usr/sbin/named", "named", "/usr/sbin/named");
        assert!(daemon.is("named") && daemon.is("/usr/sbin/named"));
        assert!(!daemon.is("name") && !daemon.is("/sbin/named"));
        let script = one("/bin/sh", "heartbeat.sh", "/usr/bin/dash");
        assert!(script.is("heartbeat.sh") && script.is("/usr/bin/dash"));
        let long = one("python3", "a-name-longer-t", "/usr/bin/python3");
        assert!(long.is("a-name-longer-than-the-kernel-keeps"));
        let renamed = one("/usr/sbin/unbound", "isc-worker", "/usr/sbin/unbound");
        assert!(renamed.is("unbound"));
    }

    #[test]
    fn a_loss_and_a_return_count_once_they_have_lasted() {
        let delay = Duration::from_secs(3);
        let mut processes = Processes::new(BTreeSet::from([named(1, delay)]));
        let (start, up) = (Instant::now(), [one("named", "named", "/usr/sbin/named")]);
        let at = |seconds| start + Duration::from_secs(seconds);
        let seen = |news: Vec<News>| news.first().map(|news| (news.seen, news.detail.clone()));
        let good = Some((Seen::Good, "1 running, 1 needed".to_owned()));
        let bad = Some((Seen::Bad, "0 running, 1 needed".to_owned()));
        assert_eq!(seen(processes.look(&up, at(0))), good, "the first look decides at once");
        assert_eq!(seen(processes.look(&[], at(1))), None);
        assert_eq!(seen(processes.look(&up, at(2))), None, "a restart");
        assert_eq!(seen(processes.look(&[], at(3))), None);
        assert_eq!(seen(processes.look(&[], at(5))), None);
        assert_eq!(seen(processes.look(&[], at(6))), bad);
        assert_eq!(seen(processes.look(&[], at(7))), None);
        assert_eq!(seen(processes.look(&up, at(8))), None);
        assert_eq!(seen(processes.look(&up, at(11))), good);
    }

    #[test]
    fn a_restart_is_none_the_more_a_failure_because_others_are_tracked_beside_it() {
        let delay = Duration::from_secs(3);
        let mut processes = Processes::new(BTreeSet::from([named(1, delay)]));
        let (start, up) = (Instant::now(), [one("named", "named", "/usr/sbin/named")]);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(processes.look(&up, at(0)).len(), 1);
        assert_eq!(processes.look(&[], at(1)), []);
        processes.follow(BTreeSet::from([named(1, delay), named(2, delay)]));
        let news = processes.look(&[], at(2));
        let seen: Vec<_> = news.iter().map(|news| (&news.subject, news.seen)).collect();
        assert_eq!(seen, [(&Subject::Process(named(2, delay)), Seen::Bad)]);
    }

    #[test]
    fn fewer_than_the_quorum_are_too_few() {
        let mut processes =
            Processes::new(BTreeSet::from([named(1, Duration::ZERO), named(3, Duration::ZERO)]));
        let two = vec![one("named", "named", "/usr/sbin/named"); 2];
        let seen: Vec<_> =
            processes.look(&two, Instant::now()).into_iter().map(|news| news.seen).collect();
        assert_eq!(seen, [Seen::Good, Seen::Bad]);
    }

    #[test]
    fn this_process_runs_and_kernel_threads_do_not_count() {
        let own = process(Path::new("/proc/self")).unwrap();
        let program = String::from_utf8(own.program.clone().unwrap()).unwrap();
        assert!(own.is(&program));
        assert!(running().iter().any(|one| one.is(&program)));
        assert!(!running().iter().any(|one| one.is("kthreadd")));
    }
}
