//! Which routes and rules are ours although they bear another protocol number than ours, also after
//! a kill and a new start.
//!
//! A file holds it, replaced as a whole before anything is made that it does not hold yet. It is of
//! use to this boot and network namespace only: another kernel has none of our routes, and another
//! namespace's are others. That is also why the file is not forced to the disk: whatever loses it
//! there has ended the boot as well. Without such routes and rules there is no file. A router whose
//! file cannot be written works all the same, and says what it cannot promise.

mod file;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use lockstep_routes::{Change, Owned, PROTOCOL_LOCKSTEP};
use tracing::{info, warn};

/// The file's name in the state directory.
const FILE: &str = "routes.json";
/// Largest file that is read, in bytes: more than a million routes.
const SIZE_LIMIT: u64 = 1 << 28;

/// Where a memory is of use.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Home {
    /// The kernel's name for the time since it was started.
    boot: String,
    /// The number of the network namespace.
    namespace: u64,
}

impl Home {
    /// The calling thread's.
    fn here() -> anyhow::Result<Self> {
        const BOOT: &str = "/proc/sys/kernel/random/boot_id";
        const NAMESPACE: &str = "/proc/thread-self/ns/net";
        let boot = fs::read_to_string(BOOT).with_context(|| format!("cannot read {BOOT}"))?;
        let namespace = fs::metadata(NAMESPACE).with_context(|| format!("cannot see {NAMESPACE}"));
        Ok(Self { boot: boot.trim().to_owned(), namespace: namespace?.ino() })
    }
}

/// What is ours, and the file that remembers it.
#[derive(Debug)]
pub(super) struct Ownership {
    owned: Arc<Owned>,
    path: PathBuf,
    home: anyhow::Result<Home>,
    /// The file holds other than what is ours.
    is_stale: bool,
    /// Why the file cannot be written, once that was tried.
    trouble: Option<String>,
}

impl Ownership {
    /// What an earlier run has left in the directory, as far as it holds for the calling thread's
    /// network namespace.
    pub(super) fn load(directory: &Path) -> Self {
        let path = directory.join(FILE);
        let home = Home::here();
        let mut ownership =
            Self { owned: Arc::default(), path, home, is_stale: false, trouble: None };
        let read = match &ownership.home {
            Ok(home) => read(&ownership.path, home),
            // Told when something is to be kept.
            Err(_) => return ownership,
        };
        match read {
            Ok(Some(owned)) => {
                let (routes, rules) = (owned.routes.len(), owned.rules.len());
                info!(routes, rules, "what an earlier run has made is known");
                ownership.owned = Arc::new(owned);
            }
            Ok(None) => {}
            Err(error) => {
                let path = ownership.path.display();
                info!(%path, "nothing is known of an earlier run: {error:#}");
            }
        }
        ownership
    }

    /// What is ours.
    pub(super) fn owned(&self) -> &Arc<Owned> {
        &self.owned
    }

    /// Why nothing is kept for the next run, for people; `None` when all is.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// To be called before the changes are carried out.
    pub(super) fn before(&mut self, changes: &[Change]) {
        let mut is_more = false;
        for change in changes.iter().filter(|change| is_noted(change)) {
            is_more |= Arc::make_mut(&mut self.owned).note(change);
        }
        if is_more {
            self.is_stale = true;
            self.keep();
        }
    }

    /// To be called after the changes have been carried out.
    pub(super) fn after<'a>(&mut self, done: impl IntoIterator<Item = &'a Change>) {
        if self.owned.routes.is_empty() && self.owned.rules.is_empty() {
            return;
        }
        let owned = Arc::make_mut(&mut self.owned);
        for change in done {
            self.is_stale |= owned.made(change) | owned.forget(change);
        }
    }

    /// Nothing was made after all: somebody else's was there first.
    pub(super) fn not_made(&mut self, change: &Change) {
        self.is_stale |= Arc::make_mut(&mut self.owned).not_made(change);
    }

    /// Writes the file if it holds other than what is ours. It may hold more for a while: nothing
    /// of ours is in the place of what is gone.
    pub(super) fn keep(&mut self) {
        if !self.is_stale {
            return;
        }
        match self.write() {
            Ok(()) => {
                self.is_stale = false;
                if self.trouble.take().is_some() {
                    info!("what is made with another protocol number is kept again");
                }
            }
            Err(error) => {
                let trouble = format!("{error:#}");
                if self.trouble.as_ref() != Some(&trouble) {
                    warn!(
                        "{trouble}: routes and rules with another protocol number than lockstep's \
                         stay for ever when this run is killed"
                    );
                }
                self.trouble = Some(trouble);
            }
        }
    }

    fn write(&self) -> anyhow::Result<()> {
        let home = match &self.home {
            Ok(home) => home,
            Err(error) => anyhow::bail!("{error:#}"),
        };
        let path = self.path.display();
        replace(&self.path, &file::write(home, &self.owned)?)
            .with_context(|| format!("cannot write {path}"))
    }
}

/// Whether the change may make something that the kernel does not show to be ours.
fn is_noted(change: &Change) -> bool {
    match change {
        Change::AddRoute { route, .. } | Change::ReplaceRoute { route, .. } => {
            route.protocol != PROTOCOL_LOCKSTEP
        }
        Change::AddRule { rule } => rule.protocol != PROTOCOL_LOCKSTEP,
        _ => false,
    }
}

/// `None` when there is no file.
fn read(path: &Path, home: &Home) -> anyhow::Result<Option<Owned>> {
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    anyhow::ensure!(size <= SIZE_LIMIT, "it has more than {SIZE_LIMIT} bytes");
    file::read(&fs::read(path)?, home).map(Some)
}

/// Puts a file in the place of another at once; makes the directory if need be.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let temporary = path.with_extension("new");
    // Left by a run that was killed while it wrote.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    io::Write::write_all(&mut file, contents)?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests;
