//! Reads the configuration with what it refers to; `lockstep check`.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use lockstep_config::{Checked, Config, Diagnostic, Secret, Severity, Surroundings};
use lockstep_routes::TableId;
use tracing::{debug, error, warn};

use super::output::print;

/// Where iproute2 keeps the names of routing tables; a later file wins.
const ROUTING_TABLES: [&str; 4] = [
    "/usr/lib/iproute2/rt_tables",
    "/usr/share/iproute2/rt_tables",
    "/etc/iproute2/rt_tables",
    "/etc/iproute2/rt_tables.d",
];
/// Most bytes of a configuration, of a list of tables, or of a secret.
const FILE_LIMIT: u64 = 1024 * 1024;

/// Every problem of a configuration, drawn for a person.
#[derive(Debug)]
pub(crate) struct BadConfiguration(String);

impl fmt::Display for BadConfiguration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadConfiguration {}

impl BadConfiguration {
    /// As it was drawn by somebody else.
    pub(crate) fn of(problems: String) -> Self {
        Self(problems)
    }
}

/// Reads the configuration of a daemon; warnings go to the log.
///
/// # Errors
/// [`BadConfiguration`], or why a file cannot be read.
pub(crate) fn load(path: &Path) -> anyhow::Result<Config> {
    let (checked, _) = read(path)?;
    Ok(warned_of(checked))
}

/// Reads the configuration again, for somebody who is told elsewhere; warnings and every problem
/// go to the log too.
///
/// # Errors
/// As [`load`], drawn without colours.
pub(crate) fn reread(path: &Path) -> anyhow::Result<Config> {
    match parse(path)? {
        (Ok(checked), _) => Ok(warned_of(checked)),
        (Err(diagnostics), text) => {
            for diagnostic in &diagnostics {
                match diagnostic.severity {
                    Severity::Error => error!("{diagnostic}"),
                    Severity::Warning => warn!("{diagnostic}"),
                }
            }
            Err(BadConfiguration(drawn(&diagnostics, &text, false)).into())
        }
    }
}

fn warned_of(checked: Checked) -> Config {
    for diagnostic in &checked.warnings {
        warn!("{diagnostic}");
    }
    checked.config
}

/// Shows all problems and warnings, or that there is none.
pub(super) fn check(path: &Path) -> anyhow::Result<()> {
    let (checked, text) = read(path)?;
    if !checked.warnings.is_empty() {
        let warnings = drawn(&checked.warnings, &text, has_colour());
        // Without a reader of standard error the warnings have nobody to warn.
        let _ = writeln!(io::stderr().lock(), "{warnings}");
    }
    print(&format!("{}: no errors, {}\n", path.display(), in_short(&checked.config)))
}

fn read(path: &Path) -> anyhow::Result<(Checked, String)> {
    match parse(path)? {
        (Ok(checked), text) => Ok((checked, text)),
        (Err(diagnostics), text) => {
            Err(BadConfiguration(drawn(&diagnostics, &text, has_colour())).into())
        }
    }
}

/// What the file means, or what is wrong with it, and its text.
fn parse(path: &Path) -> anyhow::Result<(Result<Checked, Vec<Diagnostic>>, String)> {
    let name = path.display().to_string();
    let text = read_file(path).with_context(|| format!("cannot read {name}"))?;
    Ok((lockstep_config::parse(&name, &text, &surroundings(&text)), text))
}

fn surroundings(text: &str) -> Surroundings {
    let files = lockstep_config::referenced_files(text).into_iter();
    Surroundings {
        hostname: hostname(),
        state_directory: state_directory(std::env::var_os("STATE_DIRECTORY")),
        table_names: routing_table_files().iter().flat_map(|path| routing_tables(path)).collect(),
        files: files.map(|path| (path.clone(), read_secret(&path))).collect(),
    }
}

/// The names in one file. It is others' business, so what is odd in it is no problem of ours.
fn routing_tables(path: &Path) -> Vec<(String, TableId)> {
    let Ok(text) = read_file(path) else { return Vec::new() };
    let (tables, warnings) = lockstep_config::routing_tables(&path.display().to_string(), &text);
    for warning in warnings {
        debug!("{warning}");
    }
    tables
}

fn hostname() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}

/// The first directory of systemd's `$STATE_DIRECTORY`, which lists them with colons between.
fn state_directory(listed: Option<OsString>) -> Option<PathBuf> {
    let listed = listed?;
    let first = std::env::split_paths(&listed).next()?;
    first.is_absolute().then_some(first)
}

fn routing_table_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in ROUTING_TABLES.map(PathBuf::from) {
        match fs::read_dir(&path) {
            Ok(entries) => {
                let mut inside: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
                inside.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
                inside.sort();
                files.append(&mut inside);
            }
            Err(_) => files.push(path),
        }
    }
    files
}

fn read_secret(path: &Path) -> Result<Secret, String> {
    let in_words = |error: io::Error| error.to_string();
    let mode = fs::metadata(path).map_err(in_words)?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(format!("others may use it (mode {:04o}); chmod 0600 it", mode & 0o7777));
    }
    read_file(path).map(Secret::new).map_err(in_words)
}

fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {FILE_LIMIT} bytes"),
        ));
    }
    Ok(text)
}

fn has_colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn drawn(diagnostics: &[Diagnostic], text: &str, colour: bool) -> String {
    let drawn: Vec<String> = diagnostics
        .iter()
        .map(|diagnostic| lockstep_config::render(diagnostic, text, colour))
        .collect();
    drawn.join("\n\n")
}

fn in_short(config: &Config) -> String {
    let declared = &config.declared;
    [
        (config.virtual_routers.len(), "virtual router"),
        (config.failover.groups.len(), "group"),
        (config.failover.checks.len(), "check"),
        (declared.links.len(), "link"),
        (declared.routes.len(), "route"),
        (declared.rules.len(), "rule"),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}{}", if *count == 1 { "" } else { "s" }))
    .collect::<Vec<_>>()
    .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "9YasrrhZ\n").unwrap();
        assert!(read_secret(file.path()).is_ok());
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        let error = read_secret(file.path()).unwrap_err();
        assert_eq!(error, "others may use it (mode 0644); chmod 0600 it");
    }

    #[test]
    fn the_service_managers_first_state_directory_is_taken() {
        let taken = |listed: &str| state_directory(Some(OsString::from(listed)));
        assert_eq!(taken("/var/lib/a:/var/lib/b"), Some(PathBuf::from("/var/lib/a")));
        assert_eq!((taken(""), taken("relative"), state_directory(None)), (None, None, None));
    }

    #[test]
    fn a_huge_file_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), vec![b'#'; FILE_LIMIT as usize + 1]).unwrap();
        assert_eq!(read_file(file.path()).unwrap_err().to_string(), "larger than 1048576 bytes");
    }
}
