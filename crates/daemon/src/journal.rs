//! The journal on disk: why this router did what it did outlives the daemon that did it.
//!
//! A transition is written twice, one JSON object on a line each time: when it begins, so that a
//! daemon killed in the midst of it has told what it was at, and when nothing more is done for it. Of
//! lines with one number the last counts. Two files of a bounded size take turns.
//!
//! Not being able to write costs the record and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use crate::control::ask;
use crate::messages::CoreEvent;
use crate::status::Transition;

/// The file's name in the state directory; the one before it ends in `.old`.
const FILE: &str = "journal.jsonl";
/// Largest file that is added to, in bytes; on disk is at most twice that.
const SIZE_LIMIT: u64 = 1 << 20;
/// Most transitions of earlier runs that are shown.
const EARLIER_LIMIT: usize = 256;

/// What the core says of its transitions.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Another one than before: there is something new to ask for.
    pub revision: u64,
    /// The last transitions, when the core ends and can no longer be asked.
    pub last: Option<Vec<Transition>>,
}

/// The journal's files, and what earlier runs have written there.
#[derive(Debug)]
pub(crate) struct Journal {
    earlier: Arc<[Transition]>,
    last_number: u64,
    files: anyhow::Result<Files>,
}

/// The files, which are this daemon's alone while it runs.
#[derive(Debug)]
struct Files {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Journal {
    /// What earlier runs have left in the directory, which is made if need be. A line that cannot be
    /// read is passed over: the last one of a run that was killed may be cut.
    pub(crate) fn open(directory: &Path) -> Self {
        let files = Files::open(&directory.join(FILE));
        let mut by_number = BTreeMap::new();
        if let Ok(files) = &files {
            for path in [files.old(), files.path.clone()] {
                match read(&path) {
                    Ok(transitions) => {
                        by_number.extend(transitions.into_iter().map(|one| (one.number, one)));
                    }
                    Err(error) => warn!(path = %path.display(), %error, "cannot read the journal"),
                }
            }
        }
        let last_number = by_number.last_key_value().map_or(0, |(number, _)| *number);
        let skipped = by_number.len().saturating_sub(EARLIER_LIMIT);
        let earlier: Vec<_> = by_number.into_values().skip(skipped).collect();
        if let Err(error) = &files {
            warn!("the journal does not outlive this run: {error:#}");
        } else if last_number > 0 {
            info!(last_number, "the journal goes on");
        }
        Self { earlier: earlier.into(), last_number, files }
    }

    /// The transitions of earlier runs, oldest first; those that a kill cut short have no end.
    pub(crate) fn earlier(&self) -> Arc<[Transition]> {
        Arc::clone(&self.earlier)
    }

    /// The number of the last transition of earlier runs; 0 without one.
    pub(crate) fn last_number(&self) -> u64 {
        self.last_number
    }

    /// Writes these, as [`Journal::keep`] does.
    #[cfg(test)]
    pub(crate) fn add_for_tests(self, transitions: &[Transition]) {
        let mut written = Written::up_to(self.last_number);
        self.files.unwrap().add(&written.take(transitions)).unwrap();
    }

    /// Writes what the core tells, each time `news` says that there is something new, until the core
    /// has ended.
    pub(crate) async fn keep(self, core: mpsc::Sender<CoreEvent>, mut news: watch::Receiver<News>) {
        let Ok(mut files) = self.files else { return };
        let mut written = Written::up_to(self.last_number);
        let mut in_trouble = false;
        while news.changed().await.is_ok() {
            let last = news.borrow_and_update().last.clone();
            let transitions = match last {
                Some(last) => Some(last),
                None => ask(&core, CoreEvent::Journal).await,
            };
            let Some(transitions) = transitions else { continue };
            let lines = written.take(&transitions);
            if lines.is_empty() {
                continue;
            }
            let result = spawn_blocking(move || {
                let result = files.add(&lines);
                (files, result)
            });
            let Ok((back, result)) = result.await else { return };
            files = back;
            match result {
                Ok(()) => in_trouble = false,
                Err(error) if !in_trouble => {
                    warn!(path = %files.path.display(), %error, "cannot write the journal");
                    in_trouble = true;
                }
                Err(_) => {}
            }
        }
    }
}

/// How far the file follows the core.
#[derive(Debug)]
struct Written {
    /// All up to this number are written with their end.
    over: u64,
    /// All up to this number are written.
    begun: u64,
    /// Those beyond the first that are written with their end: an older one is still under way.
    ended: BTreeSet<u64>,
}

impl Written {
    fn up_to(number: u64) -> Self {
        Self { over: number, begun: number, ended: BTreeSet::new() }
    }

    /// The lines that are to be added.
    fn take(&mut self, transitions: &[Transition]) -> String {
        let mut lines = String::new();
        let mut all_over = true;
        let written = self.over;
        for transition in transitions.iter().filter(|one| one.number > written) {
            let is_new = transition.number > self.begun;
            all_over &= transition.is_over;
            if all_over {
                self.over = transition.number;
            }
            let ends = transition.is_over && self.ended.insert(transition.number);
            if !is_new && !ends {
                continue;
            }
            self.begun = self.begun.max(transition.number);
            if let Ok(line) = serde_json::to_string(transition) {
                lines.push_str(&line);
                lines.push('\n');
            }
        }
        self.ended = self.ended.split_off(&(self.over + 1));
        lines
    }
}

impl Files {
    fn open(path: &Path) -> anyhow::Result<Self> {
        if let Some(directory) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let file =
            Self::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                anyhow::bail!("another daemon writes {}", path.display());
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let size = file.metadata()?.len();
        let mut files = Self { path: path.to_owned(), file, size };
        files.end_the_last_line()?;
        Ok(files)
    }

    fn create(path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
    }

    /// A kill may have cut the last line; the next must not become part of it.
    fn end_the_last_line(&mut self) -> io::Result<()> {
        if self.size == 0 {
            return Ok(());
        }
        let mut last = [0];
        self.file.seek(SeekFrom::End(-1))?;
        self.file.read_exact(&mut last)?;
        if last == *b"\n" { Ok(()) } else { self.add("\n") }
    }

    fn old(&self) -> PathBuf {
        self.path.with_extension("old")
    }

    fn add(&mut self, lines: &str) -> io::Result<()> {
        if self.size >= SIZE_LIMIT {
            fs::rename(&self.path, self.old())?;
            self.file = Self::create(&self.path)?;
            self.file.lock()?;
            self.size = 0;
        }
        self.file.write_all(lines.as_bytes())?;
        self.size += lines.len() as u64;
        Ok(())
    }
}

/// None when there is no file.
fn read(path: &Path) -> io::Result<Vec<Transition>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    // One write is added behind the limit at most, and no file of ours is longer than that.
    let mut bytes = Vec::new();
    file.take(2 * SIZE_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect())
}

#[cfg(test)]
mod tests;
