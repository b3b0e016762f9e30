//! conntrackd's command line: single letters, each with an argument or without, one of them to be
//! done.

use std::path::PathBuf;

use crate::control::protocol::{Cache, Caches, Stored, What};

/// The configuration when `-C` does not name one.
const CONFIGURATION: &str = "/etc/conntrackd/conntrackd.conf";

/// What is told with `-h` and of a call that is not understood.
pub(super) const USAGE: &str = "\
Usage: conntrackd [-C FILE] COMMAND

  -c [ct|expect]            put what the peers have told into the kernel
  -f [internal|external]    empty both caches, or one
  -F [ct|expect]            remove what is replicated from the kernel
  -R [ct|expect]            read the kernel's tables into the internal cache
  -B                        tell the peers everything
  -n                        ask the peers for everything
  -t                        remove what is replicated from the kernel when the purge timeout has passed
  -i [ct|expect] [-x]       show the internal cache, with -x as XML
  -e [ct|expect] [-x]       show the external cache, with -x as XML
  -s [network|cache|runtime|link|rsqueue|queue|process|ct|expect]
                            show statistics
  -d                        say whether the daemon runs; the service manager starts it
  -k                        refused: the service manager stops it
  -C FILE                   conntrackd's configuration, whose UNIX socket is asked when lockstep
                            listens there, or lockstep's
  -v, -h                    show the version, this help
";

/// What is to be done, and what it is done with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Call {
    pub(super) configuration: PathBuf,
    pub(super) action: Action,
    pub(super) xml: bool,
}

/// The command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Action {
    Commit(What),
    Flush(Caches),
    FlushKernel(What),
    Reread(What),
    Bulk,
    Resync,
    Purge,
    Dump { cache: Cache, kind: Stored },
    Statistics(Statistics),
    Daemon,
    Kill,
    Version,
    Help,
}

/// What `-s` shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Statistics {
    Flows,
    Expectations,
    Network,
    Cache,
    Runtime,
    Link,
    ResendQueue,
    Queue,
    Process,
}

/// `ct`, `expect`, or neither.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Table {
    Both,
    Flows,
    Expectations,
}

/// `internal`, `external`, or neither.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum CacheName {
    Both,
    Internal,
    External,
}

const TABLES: &[(&str, Table)] = &[("ct", Table::Flows), ("expect", Table::Expectations)];
const CACHES: &[(&str, CacheName)] =
    &[("internal", CacheName::Internal), ("external", CacheName::External)];
const STATISTICS: &[(&str, Statistics)] = &[
    ("network", Statistics::Network),
    ("cache", Statistics::Cache),
    ("runtime", Statistics::Runtime),
    ("link", Statistics::Link),
    ("rsqueue", Statistics::ResendQueue),
    ("queue", Statistics::Queue),
    ("process", Statistics::Process),
    ("ct", Statistics::Flows),
    ("expect", Statistics::Expectations),
];

/// Understands the words after the program's name.
///
/// # Errors
/// What is wrong with them, in a sentence.
pub(super) fn parse(words: &[String]) -> Result<Call, String> {
    let mut configuration = None;
    let mut action = None;
    let mut xml = false;
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(option) = words.next() {
        let argument = words.next_if(|word| !word.starts_with('-'));
        let new = match option {
            "-C" => {
                let file = argument.ok_or("option `-C` needs a file")?;
                if configuration.replace(PathBuf::from(file)).is_some() {
                    return Err("option `-C` is there twice".to_owned());
                }
                continue;
            }
            "-x" => {
                alone(option, argument)?;
                xml = true;
                continue;
            }
            "-c" => Action::Commit(one_of(option, argument, TABLES, Table::Both)?.into()),
            "-F" => Action::FlushKernel(one_of(option, argument, TABLES, Table::Both)?.into()),
            "-R" => Action::Reread(one_of(option, argument, TABLES, Table::Both)?.into()),
            "-f" => Action::Flush(one_of(option, argument, CACHES, CacheName::Both)?.into()),
            "-i" => dump(option, argument, Cache::Internal)?,
            "-e" => dump(option, argument, Cache::External)?,
            "-s" => Action::Statistics(one_of(option, argument, STATISTICS, Statistics::Flows)?),
            "-B" => alone(option, argument).map(|()| Action::Bulk)?,
            "-n" => alone(option, argument).map(|()| Action::Resync)?,
            "-t" => alone(option, argument).map(|()| Action::Purge)?,
            "-d" => alone(option, argument).map(|()| Action::Daemon)?,
            "-k" => alone(option, argument).map(|()| Action::Kill)?,
            "-v" => alone(option, argument).map(|()| Action::Version)?,
            "-h" | "--help" => alone(option, argument).map(|()| Action::Help)?,
            _ => return Err(format!("unknown option `{option}`")),
        };
        if action.replace(new).is_some() {
            return Err(format!("`{option}` is a second command: there can be one only"));
        }
    }
    let action = action.ok_or("there is no command")?;
    if xml && !matches!(action, Action::Dump { .. }) {
        return Err("option `-x` goes with `-i` or `-e`".to_owned());
    }
    let configuration = configuration.unwrap_or_else(|| PathBuf::from(CONFIGURATION));
    Ok(Call { configuration, action, xml })
}

fn dump(option: &str, argument: Option<&str>, cache: Cache) -> Result<Action, String> {
    let kind = match one_of(option, argument, TABLES, Table::Flows)? {
        Table::Flows | Table::Both => Stored::Flows,
        Table::Expectations => Stored::Expectations,
    };
    Ok(Action::Dump { cache, kind })
}

fn alone(option: &str, argument: Option<&str>) -> Result<(), String> {
    match argument {
        None => Ok(()),
        Some(argument) => Err(format!("option `{option}` takes no parameter `{argument}`")),
    }
}

/// A word may be cut short, as conntrackd has it: `VyOS` writes `-s exp`.
fn one_of<T: Copy>(
    option: &str,
    argument: Option<&str>,
    known: &[(&str, T)],
    without: T,
) -> Result<T, String> {
    let Some(argument) = argument else { return Ok(without) };
    let fits = |word: &str| !argument.is_empty() && word.starts_with(argument);
    let exact = known.iter().find(|(word, _)| *word == argument);
    let found = exact.or_else(|| known.iter().find(|(word, _)| fits(word)));
    found
        .map(|(_, value)| *value)
        .ok_or_else(|| format!("unknown parameter `{argument}` for option `{option}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Call, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words)
    }

    fn action(line: &str) -> Action {
        parsed(line).unwrap().action
    }

    #[test]
    fn every_call_of_the_scripts_is_understood() {
        let with_file = parsed("-C /etc/conntrackd/conntrackd.conf -c").unwrap();
        assert_eq!(with_file.configuration, PathBuf::from(CONFIGURATION));
        assert_eq!(with_file.action, Action::Commit(What::All));
        let after = parsed("-B -C lockstep.toml").unwrap();
        assert_eq!(after.configuration, PathBuf::from("lockstep.toml"));
        assert_eq!(after.action, Action::Bulk);
        assert_eq!(parsed("-s").unwrap().configuration, PathBuf::from(CONFIGURATION));

        assert_eq!(action("-f"), Action::Flush(Caches::Both));
        assert_eq!(action("-f internal"), Action::Flush(Caches::Internal));
        assert_eq!(action("-f external"), Action::Flush(Caches::External));
        assert_eq!(action("-F"), Action::FlushKernel(What::All));
        assert_eq!(action("-F expect"), Action::FlushKernel(What::Expectations));
        assert_eq!(action("-c ct"), Action::Commit(What::Flows));
        assert_eq!(action("-R"), Action::Reread(What::All));
        assert_eq!(action("-R ct"), Action::Reread(What::Flows));
        assert_eq!(action("-n"), Action::Resync);
        assert_eq!(action("-t"), Action::Purge);
        assert_eq!(action("-d"), Action::Daemon);
        assert_eq!(action("-k"), Action::Kill);
        assert_eq!(action("-s exp"), Action::Statistics(Statistics::Expectations));
        assert_eq!(action("-s"), Action::Statistics(Statistics::Flows));
    }

    #[test]
    fn xml_goes_with_a_cache_on_either_side_of_it() {
        for line in ["-i ct -x", "-x -i", "-C a -x -i ct"] {
            let call = parsed(line).unwrap();
            let internal = Action::Dump { cache: Cache::Internal, kind: Stored::Flows };
            assert_eq!((call.action, call.xml), (internal, true), "{line}");
        }
        let call = parsed("-e expect").unwrap();
        let external = Action::Dump { cache: Cache::External, kind: Stored::Expectations };
        assert_eq!((call.action, call.xml), (external, false));
    }

    #[test]
    fn the_reference_describes_every_option() {
        let reference = include_str!("../../../../docs/reference/commands.md");
        let section =
            reference.split("\n## ").find(|part| part.starts_with("The name `conntrackd`"));
        let section = section.expect("a section of its own");
        for option in USAGE.split_whitespace().filter(|word| word.starts_with('-')) {
            let option = option.trim_matches(',');
            assert!(section.contains(&format!("`{option}")), "{option}");
        }
        for (word, _) in STATISTICS {
            assert!(section.contains(word), "{word}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (line, told) in [
            ("", "there is no command"),
            ("-C", "option `-C` needs a file"),
            ("-C a -C b -s", "option `-C` is there twice"),
            ("-q", "unknown option `-q`"),
            ("-c -f", "`-f` is a second command: there can be one only"),
            ("-c flows", "unknown parameter `flows` for option `-c`"),
            ("-s bogus", "unknown parameter `bogus` for option `-s`"),
            ("-B now", "option `-B` takes no parameter `now`"),
            ("-s -x", "option `-x` goes with `-i` or `-e`"),
        ] {
            assert_eq!(parsed(line).unwrap_err(), told, "{line}");
        }
    }
}
