//! Reads the configuration with what it refers to; `lockstep check`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use lockstep_config::{
    Checked, Config, Diagnostic, Doubt, Program, Secret, Severity, Surroundings,
};
use lockstep_kernel::identity::account;
use lockstep_routes::TableId;
use nix::unistd::Uid;
use tracing::{debug, error, warn};

use super::output::print;
use crate::process::{self, Unfit};

/// Where iproute2 keeps the names of routing tables: what the administrator has comes first, then
/// what newer and older versions ship.
const ROUTING_TABLES: [&str; 3] = ["/etc/iproute2", "/usr/share/iproute2", "/usr/lib/iproute2"];
/// Most bytes of a configuration; one of 100 000 routes has ten million.
const CONFIGURATION_LIMIT: u64 = 64 * 1024 * 1024;
/// Most bytes of a list of tables, or of a secret.
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

/// Reads the configuration of a daemon, and its text; warnings go to the log.
///
/// # Errors
/// [`BadConfiguration`], or why a file cannot be read.
pub(crate) fn load(path: &Path) -> anyhow::Result<(Config, String)> {
    let (checked, text) = read(path, Severity::Warning)?;
    Ok((warned_of(checked), text))
}

/// The meaning of a configuration of which a daemon has kept the text, as far as there is one.
pub(crate) fn meaning(text: &str) -> Option<Config> {
    // What it runs is not looked for: that may take long, and nothing is run.
    lockstep_config::parse("", text, &neighbourhood(text)).ok().map(|checked| checked.config)
}

/// Reads the configuration again, for somebody who is told elsewhere; warnings and every problem
/// go to the log too.
///
/// # Errors
/// As [`load`], drawn without colours. Only a regular file is read: nobody may ever write to a pipe.
pub(crate) fn reread(path: &Path) -> anyhow::Result<(Config, String)> {
    if fs::metadata(path).is_ok_and(|file| !file.is_file()) {
        bail!("cannot read {}: it is not a regular file", path.display());
    }
    match parse(path, Severity::Warning)? {
        (Ok(checked), text) => Ok((warned_of(checked), text)),
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
    let (checked, text) = read(path, Severity::Error)?;
    if !checked.warnings.is_empty() {
        let warnings = drawn(&checked.warnings, &text, has_colour());
        // Without a reader of standard error the warnings have nobody to warn.
        let _ = writeln!(io::stderr().lock(), "{warnings}");
    }
    print(&format!("{}: no errors, {}\n", path.display(), in_short(&checked.config)))
}

/// `insecure` is how grave it is that a program will not be run because others could replace it: a
/// router without its hook is better than none.
fn read(path: &Path, insecure: Severity) -> anyhow::Result<(Checked, String)> {
    match parse(path, insecure)? {
        (Ok(checked), text) => Ok((checked, text)),
        (Err(diagnostics), text) => {
            Err(BadConfiguration(drawn(&diagnostics, &text, has_colour())).into())
        }
    }
}

/// What the file means, or what is wrong with it, and its text.
fn parse(
    path: &Path,
    insecure: Severity,
) -> anyhow::Result<(Result<Checked, Vec<Diagnostic>>, String)> {
    let name = path.display().to_string();
    let text =
        read_file(path, CONFIGURATION_LIMIT).with_context(|| format!("cannot read {name}"))?;
    Ok((lockstep_config::parse(&name, &text, &surroundings(&text, insecure)), text))
}

fn surroundings(text: &str, insecure: Severity) -> Surroundings {
    let programs = lockstep_config::referenced_programs(text).into_iter();
    Surroundings {
        programs: programs
            .filter_map(|program| Some((program.clone(), judge(&program, insecure)?)))
            .collect(),
        ..neighbourhood(text)
    }
}

/// All but the programs, which may need a server that does not answer.
fn neighbourhood(text: &str) -> Surroundings {
    let files = lockstep_config::referenced_files(text).into_iter();
    Surroundings {
        hostname: hostname(),
        state_directory: state_directory(std::env::var_os("STATE_DIRECTORY")),
        table_names: routing_table_files(&ROUTING_TABLES)
            .iter()
            .flat_map(|path| routing_tables(path))
            .collect(),
        files: files.map(|path| (path.clone(), read_secret(&path))).collect(),
        ..Surroundings::default()
    }
}

/// What speaks against running a program. What is missing may come with a file system that is
/// mounted later, and a user with a directory service.
fn judge(program: &Program, insecure: Severity) -> Option<Doubt> {
    let doubt = |severity, why, insecure| Some(Doubt { severity, why, insecure });
    let uid = match &program.user {
        None => Uid::effective().as_raw(),
        Some(user) => match account(user, None) {
            Ok(account) => account.identity.uid,
            Err(error) => return doubt(Severity::Warning, error.to_string(), false),
        },
    };
    match process::find(&program.program, uid, false).err()? {
        Unfit::Missing(why) => doubt(Severity::Warning, why, false),
        Unfit::Insecure(why) => doubt(insecure, why, true),
    }
}

/// The names in one file. It is others' business, so what is odd in it is no problem of ours.
fn routing_tables(path: &Path) -> Vec<(String, TableId)> {
    let Ok(text) = read_file(path, FILE_LIMIT) else { return Vec::new() };
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

/// Where state is kept when no configuration says it.
pub(crate) fn default_state_directory() -> PathBuf {
    state_directory(std::env::var_os("STATE_DIRECTORY"))
        .unwrap_or_else(|| PathBuf::from(lockstep_config::DEFAULT_STATE_DIRECTORY))
}

/// The first directory of systemd's `$STATE_DIRECTORY`, which lists them with colons between.
fn state_directory(listed: Option<OsString>) -> Option<PathBuf> {
    let listed = listed?;
    let first = std::env::split_paths(&listed).next()?;
    first.is_absolute().then_some(first)
}

/// The files that iproute2 reads of `folders`, of which the first overrides the others: one
/// `rt_tables`, then those in `rt_tables.d` by their names. Of a name twice the later one holds.
fn routing_table_files(folders: &[impl AsRef<Path>]) -> Vec<PathBuf> {
    let places = |name: &'static str| folders.iter().map(move |folder| folder.as_ref().join(name));
    let mut files: Vec<PathBuf> =
        places("rt_tables").find(|file| file.is_file()).into_iter().collect();
    let mut inside = BTreeMap::new();
    for entries in places("rt_tables.d").filter_map(|folder| fs::read_dir(folder).ok()) {
        for file in entries.flatten().map(|entry| entry.path()) {
            if file.extension().is_some_and(|extension| extension == "conf") {
                inside.entry(file.file_name().map(OsString::from)).or_insert(file);
            }
        }
    }
    files.extend(inside.into_values());
    files
}

fn read_secret(path: &Path) -> Result<Secret, String> {
    let in_words = |error: io::Error| error.to_string();
    let mode = fs::metadata(path).map_err(in_words)?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(format!("others may use it (mode {:04o}); chmod 0600 it", mode & 0o7777));
    }
    read_file(path, FILE_LIMIT).map(Secret::new).map_err(in_words)
}

fn read_file(path: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {limit} bytes"),
        ));
    }
    Ok(text)
}

fn has_colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn drawn(diagnostics: &[Diagnostic], text: &str, colour: bool) -> String {
    lockstep_config::render_all(diagnostics, text, colour)
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
        fs::write(file.path(), "#".repeat(11)).unwrap();
        let error = read_file(file.path(), 10).unwrap_err();
        assert_eq!(error.to_string(), "larger than 10 bytes");
        assert_eq!(read_file(file.path(), 11).unwrap().len(), 11);
    }

    #[test]
    fn the_administrators_names_of_tables_override_what_is_shipped() {
        let (etc, usr) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |folder: &Path, name: &str, text: &str| {
            fs::create_dir_all(folder.join("rt_tables.d")).unwrap();
            fs::write(folder.join(name), text).unwrap();
        };
        let read = || -> Vec<(String, u32)> {
            let files = routing_table_files(&[etc.path(), usr.path()]);
            let tables = files.iter().flat_map(|file| routing_tables(file));
            tables.map(|(name, id)| (name, id.0)).collect()
        };
        assert_eq!(read(), []);
        let named = |names: &[(&str, u32)]| -> Vec<(String, u32)> {
            names.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect()
        };
        write(usr.path(), "rt_tables", "254 main\n9 shipped\n");
        write(usr.path(), "rt_tables.d/b.conf", "20 overridden\n");
        write(usr.path(), "rt_tables.d/c.conf", "30 vendor\n");
        assert_eq!(
            read(),
            named(&[("main", 254), ("shipped", 9), ("overridden", 20), ("vendor", 30)])
        );
        write(etc.path(), "rt_tables", "10 own\n");
        write(etc.path(), "rt_tables.d/b.conf", "21 isp\n");
        write(etc.path(), "rt_tables.d/notes", "22 ignored\n");
        assert_eq!(read(), named(&[("own", 10), ("isp", 21), ("vendor", 30)]));
    }
}
