//! What the file refers to and this crate, which reads no files, has to be told.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use lockstep_routes::TableId;
use toml::de::{DeTable, DeValue};

use crate::Severity;

/// The host's name, its routing tables' names, the service's directory, and the contents of the files that the
/// configuration refers to.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The name of this router when `[router] id` is not set.
    pub hostname: String,
    /// The directory that the service manager has given for what has to outlive the daemon, when
    /// `[router] state-directory` is not set. An absolute path.
    pub state_directory: Option<PathBuf>,
    /// Names of routing tables from outside, as [`routing_tables`](crate::routing_tables) reads
    /// them; of the same name twice the later one holds. `main`, `local` and `default` are known
    /// without.
    pub table_names: Vec<(String, TableId)>,
    /// What speaks against running some of [`referenced_programs`](crate::referenced_programs), shown
    /// where the file names the program. What is not here can be run.
    pub programs: BTreeMap<Program, Doubt>,
    /// The contents of each of [`referenced_files`], or why the file cannot be used: one sentence,
    /// shown where the file refers to it.
    pub files: BTreeMap<PathBuf, Result<Secret, String>>,
}

/// A program that the configuration has run.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Program {
    /// As the file names it: a path, or a name to be looked up in `PATH`.
    pub program: String,
    /// The user that runs it; the daemon's own without.
    pub user: Option<String>,
}

/// What speaks against running a program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Doubt {
    /// How grave it is.
    pub severity: Severity,
    /// Why, in one sentence.
    pub why: String,
    /// Whether others could replace the program, and nothing else: then it is run with
    /// [`Config::allow_insecure_scripts`](crate::Config::allow_insecure_scripts).
    pub insecure: bool,
}

/// The contents of a file that others must not read. Never shown by `Debug`.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text of the file as it is.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text without the newline at its end.
    pub(crate) fn text(&self) -> &str {
        let text = self.0.strip_suffix('\n').unwrap_or(&self.0);
        text.strip_suffix('\r').unwrap_or(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The files that `text` refers to, for [`Surroundings::files`]. Text with errors refers to what
/// can be understood of it; a relative path is left out, and [`parse`](crate::parse) says so.
pub fn referenced_files(text: &str) -> Vec<PathBuf> {
    let (root, _) = DeTable::parse_recoverable(text);
    let mut files = Vec::new();
    let Some(routers) = root.get_ref().get("vrrp").and_then(|vrrp| vrrp.get_ref().as_table())
    else {
        return files;
    };
    for router in routers.values() {
        let Some(authentication) = router.get_ref().get("authentication") else { continue };
        let authentication = authentication.get_ref();
        let others = authentication.get("other-keys").and_then(|keys| keys.get_ref().as_array());
        let others = others.into_iter().flat_map(|keys| keys.iter().map(toml::Spanned::get_ref));
        let paths = ["password-file", "key-file"].map(|key| authentication.get(key));
        for path in paths.into_iter().chain(others.map(|key| key.get("key-file"))).flatten() {
            let DeValue::String(path) = path.get_ref() else { continue };
            let path = PathBuf::from(path.as_ref());
            if path.is_absolute() && !files.contains(&path) {
                files.push(path);
            }
        }
    }
    files
}
