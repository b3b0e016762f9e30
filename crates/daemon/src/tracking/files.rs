//! Tracked files: an integer each.
//!
//! What is no integer changes nothing and is named: a file that is written anew is empty for a
//! moment, which must not look like 0.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use lockstep_failover::Subject;
use lockstep_failover::tracking::Seen;
use nix::fcntl::OFlag;
use tracing::warn;

use super::News;

/// Most bytes of a file that are looked at; an integer has 20 at most.
const LENGTH: u64 = 64;

/// The tracked files and what they said last.
#[derive(Debug, Default)]
pub(super) struct Files {
    told: BTreeMap<PathBuf, Option<(i64, String)>>,
}

/// What a file says.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Content {
    Number(i64),
    Missing,
    /// It cannot be read as a number, and why.
    Odd(String),
}

impl Files {
    #[cfg(test)]
    fn new(paths: BTreeSet<PathBuf>) -> Self {
        let mut files = Self::default();
        files.follow(paths);
        files
    }

    /// Looks at these from now on; what was told of those among them before holds.
    pub(super) fn follow(&mut self, paths: BTreeSet<PathBuf>) {
        let mut told = std::mem::take(&mut self.told);
        self.told = paths
            .into_iter()
            .map(|path| {
                let before = told.remove(&path).flatten();
                (path, before)
            })
            .collect();
    }

    /// Reads every file; what is other than before is news, and everything the first time.
    pub(super) fn look(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        for (path, told) in &mut self.told {
            let before = told.as_ref().map_or(0, |(number, _)| *number);
            let (number, detail) = match content(path) {
                Content::Number(number) => (number, format!("holds {number}")),
                Content::Missing => (0, "does not exist".to_owned()),
                Content::Odd(why) => (before, format!("{why}, so {before} as before")),
            };
            let now = (number, detail);
            if told.as_ref() == Some(&now) {
                continue;
            }
            if now.1.ends_with("as before") {
                warn!(file = %path.display(), "tracked file {}", now.1);
            }
            let (seen, detail) = (Seen::Number(number), now.1.clone());
            news.push(News { subject: Subject::File(path.clone()), seen, detail });
            *told = Some(now);
        }
        news
    }
}

fn content(path: &Path) -> Content {
    match read(path) {
        Ok(bytes) => number(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Content::Missing,
        Err(error) => Content::Odd(error.to_string()),
    }
}

/// The beginning of a regular file. Opening a pipe or a terminal must not wait for anybody.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LENGTH).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The first word as an integer; what follows it is a remark.
fn number(bytes: &[u8]) -> Content {
    let text = String::from_utf8_lossy(bytes);
    let Some(word) = text.split_whitespace().next() else {
        return Content::Odd("is empty".to_owned());
    };
    let cut = text.trim_start().len() == word.len() && bytes.len() as u64 == LENGTH;
    match word.parse() {
        Ok(number) if !cut => Content::Number(number),
        Ok(_) | Err(_) => Content::Odd(format!("holds {word:?} and no integer")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn looked(files: &mut Files) -> Vec<(Seen, String)> {
        files.look().into_iter().map(|news| (news.seen, news.detail)).collect()
    }

    #[test]
    fn a_file_says_its_number_and_nothing_again_until_that_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("drain");
        let mut files = Files::new(BTreeSet::from([path.clone()]));
        assert_eq!(looked(&mut files), [(Seen::Number(0), "does not exist".to_owned())]);
        assert_eq!(looked(&mut files), []);
        fs::write(&path, " 12 for the upgrade\n").unwrap();
        assert_eq!(looked(&mut files), [(Seen::Number(12), "holds 12".to_owned())]);
        fs::write(&path, "-3").unwrap();
        assert_eq!(looked(&mut files), [(Seen::Number(-3), "holds -3".to_owned())]);
        fs::remove_file(&path).unwrap();
        assert_eq!(looked(&mut files), [(Seen::Number(0), "does not exist".to_owned())]);
    }

    #[test]
    fn a_file_that_is_being_written_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("drain");
        fs::write(&path, "7").unwrap();
        let mut files = Files::new(BTreeSet::from([path.clone()]));
        looked(&mut files);
        fs::write(&path, "").unwrap();
        let said = "is empty, so 7 as before".to_owned();
        assert_eq!(looked(&mut files), [(Seen::Number(7), said)]);
        fs::write(&path, "seven").unwrap();
        let said = "holds \"seven\" and no integer, so 7 as before".to_owned();
        assert_eq!(looked(&mut files), [(Seen::Number(7), said)]);
        fs::write(&path, "8").unwrap();
        assert_eq!(looked(&mut files), [(Seen::Number(8), "holds 8".to_owned())]);
    }

    #[test]
    fn what_was_said_of_a_file_holds_when_others_are_tracked_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("drain"), directory.path().join("other"));
        fs::write(&path, "7").unwrap();
        let mut files = Files::new(BTreeSet::from([path.clone()]));
        looked(&mut files);
        files.follow(BTreeSet::from([path.clone(), other.clone()]));
        assert_eq!(looked(&mut files), [(Seen::Number(0), "does not exist".to_owned())]);
        fs::write(&path, "").unwrap();
        files.follow(BTreeSet::from([path.clone()]));
        let said = "is empty, so 7 as before".to_owned();
        assert_eq!(looked(&mut files), [(Seen::Number(7), said)]);
        files.follow(BTreeSet::from([other]));
        assert_eq!(looked(&mut files).len(), 1, "told anew");
    }

    #[test]
    fn only_the_beginning_of_a_regular_file_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let said = |path: &Path| content(path);
        assert_eq!(said(directory.path()), Content::Odd("is no regular file".to_owned()));
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(said(&pipe), Content::Odd("is no regular file".to_owned()));
        let long = directory.path().join("long");
        fs::write(&long, "1".repeat(1_000_000)).unwrap();
        assert!(matches!(said(&long), Content::Odd(why) if why.len() < 100));
        fs::write(&long, format!("5{}", " ".repeat(1_000_000))).unwrap();
        assert_eq!(said(&long), Content::Number(5));
    }

    #[test]
    fn any_bytes_are_a_number_or_are_named_without_control_characters() {
        for bytes in [&b"\xff\xfe"[..], b"\x1b[31m1", b"9223372036854775808", b"\0", b"0x10"] {
            let Content::Odd(why) = number(bytes) else { panic!("{bytes:?}") };
            assert!(!why.chars().any(char::is_control), "{why}");
        }
        assert_eq!(number(b"+4\n"), Content::Number(4));
        assert_eq!(number(b"-9223372036854775808"), Content::Number(i64::MIN));
    }
}
