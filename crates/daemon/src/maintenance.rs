//! Which groups are in maintenance, also after a restart: a file of the state directory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::network::replace_file;
use crate::status::timestamp;

/// The file's name in the state directory.
const FILE: &str = "maintenance.json";
/// Largest file that is read, in bytes: ten thousand groups.
const SIZE_LIMIT: u64 = 1 << 20;
/// Raised when an older daemon would misunderstand the file.
const VERSION: u32 = 1;

/// The groups in maintenance, and the file that remembers them.
#[derive(Debug)]
pub(crate) struct Maintenance {
    path: PathBuf,
    since: BTreeMap<String, String>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Contents {
    version: u32,
    /// By group, RFC 3339 in UTC.
    since: BTreeMap<String, String>,
}

impl Maintenance {
    /// What was ordered before.
    ///
    /// # Errors
    /// When there is a file that is not understood: a router that somebody works on must not become
    /// master because of that.
    pub(crate) fn load(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(FILE);
        let since = read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { path, since })
    }

    /// Since when each group is in maintenance.
    pub(crate) fn since(&self) -> &BTreeMap<String, String> {
        &self.since
    }

    /// Puts groups in maintenance, each since now unless it is already; or takes them out. It is on
    /// the disk when this returns.
    ///
    /// # Errors
    /// When the file cannot be written; then nothing has changed.
    pub(crate) fn set(&mut self, groups: &[String], on: bool) -> anyhow::Result<()> {
        let mut since = self.since.clone();
        for group in groups {
            if on {
                since.entry(group.clone()).or_insert_with(|| timestamp(SystemTime::now()));
            } else {
                since.remove(group);
            }
        }
        if since != self.since {
            let contents = Contents { version: VERSION, since };
            self.write(&contents)
                .with_context(|| format!("cannot write {}", self.path.display()))?;
            self.since = contents.since;
        }
        Ok(())
    }

    fn write(&self, contents: &Contents) -> io::Result<()> {
        replace_file(&self.path, &serde_json::to_vec(contents)?)?;
        File::open(&self.path)?.sync_all()?;
        self.path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }
}

fn read(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    ensure!(size <= SIZE_LIMIT, "it has more than {SIZE_LIMIT} bytes");
    let contents: Contents = serde_json::from_slice(&fs::read(path)?)?;
    ensure!(contents.version == VERSION, "it has version {}", contents.version);
    Ok(contents.since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_ordered_is_known_to_the_next_run() {
        let directory = tempfile::TempDir::new().unwrap();
        let state = directory.path().join("state");
        let mut first = Maintenance::load(&state).unwrap();
        first.set(&["a".to_owned(), "b".to_owned()], true).unwrap();
        let since = first.since().clone();
        first.set(&["a".to_owned()], true).unwrap();
        assert_eq!(first.since(), &since, "it is since the first order");
        let mut second = Maintenance::load(&state).unwrap();
        assert_eq!(second.since(), &since);
        second.set(&["a".to_owned()], false).unwrap();
        assert_eq!(Maintenance::load(&state).unwrap().since().len(), 1);
    }

    #[test]
    fn a_file_that_is_not_understood_is_an_error() {
        let directory = tempfile::TempDir::new().unwrap();
        for contents in ["", "{}", "{\"version\":2,\"since\":{}}"] {
            fs::write(directory.path().join(FILE), contents).unwrap();
            let error = Maintenance::load(directory.path()).unwrap_err();
            assert!(error.to_string().contains(FILE), "{error:#}");
        }
    }
}
