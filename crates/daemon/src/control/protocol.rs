//! What is said over the control socket: one JSON object per line in each direction.
//!
//! ```text
//! {"request":"journal","after":3}
//! {"ok":[…]}   or   {"error":"…"}
//! ```

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::cli::BadConfiguration;

/// Longest request in bytes, its newline included.
pub(crate) const REQUEST_LIMIT: usize = 64 * 1024;

/// What can be asked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Whether anybody is there. Answered by [`Pong`].
    Ping {},
    /// Answered by [`crate::status::Status`].
    Status {},
    /// Answered by a list of [`crate::status::Transition`], oldest first.
    Journal {
        /// Only transitions with a higher number.
        #[serde(default)]
        after: u64,
    },
    /// Why each group is what it is, and what would change that. Answered by a list of
    /// [`crate::status::Explanation`].
    Explain {},
    /// A part of every declared object that is asked for. Answered by [`crate::status::Network`].
    Routes {
        /// Which objects.
        #[serde(default)]
        of: Selection,
        /// [`crate::status::Network::next`] of the part before, to the same connection; nothing
        /// for the first, before which the kernel's tables are read.
        #[serde(default)]
        after: Option<u64>,
        /// Most objects in the part; at most [`PART_LIMIT`] are given.
        #[serde(default = "part_limit")]
        limit: u32,
    },
    /// A part of what would be done now to bring the kernel's tables to what is wanted. Answered by
    /// [`crate::status::Difference`].
    RoutesDiff {
        /// [`crate::status::Difference::next`] of the part before, as above.
        #[serde(default)]
        after: Option<u64>,
        /// Most changes in the part; at most [`PART_LIMIT`] are given.
        #[serde(default = "part_limit")]
        limit: u32,
    },
    /// What another file would change about the configuration in force. Answered by [`Compared`].
    Compare {
        /// The file's absolute path.
        file: PathBuf,
    },
    /// Read the configuration again (SIGHUP). Answered by [`Reloaded`] when it is in force;
    /// [`Answer::BadConfiguration`] or an error when nothing has been changed.
    Reload {},
    /// Hand the mastership of a group over to a peer. Answered by [`Switched`] when that has ended;
    /// an error when it was refused or called off.
    Switchover {
        /// The group.
        group: String,
        /// Also when nobody knows whether a peer is there and holds every flow.
        #[serde(default)]
        force: bool,
    },
    /// Keep groups from being master, or end that. Answered by a list of [`Maintained`].
    Maintenance {
        /// Whether they are to be kept from it.
        on: bool,
        /// The group; all without.
        #[serde(default)]
        group: Option<String>,
    },
    /// Answered by [`crate::status::Replication`], all statistics included.
    Replication {},
    /// Put what the peers have told into the kernel (`conntrackd -c`). Answered by [`Done`] when
    /// that has ended; an error when nothing could be committed or not all was tried.
    ReplicationCommit {
        /// Of it.
        #[serde(default)]
        what: What,
    },
    /// Empty caches (`conntrackd -f`). Answered by [`Done`].
    ReplicationFlush {
        /// Which.
        which: Caches,
    },
    /// Ask the peers for everything they have (`conntrackd -n`). Answered by [`Done`] once they have
    /// been asked; an error when there is nobody to ask. `status` tells when everything is there.
    ReplicationResync {},
    /// Tell the peers everything this router has (`conntrackd -B`). Answered by [`Done`] once it is
    /// in line; an error when nobody is there to be told.
    ReplicationBulk {},
    /// Read the kernel's table into the internal cache (`conntrackd -R`). Answered by [`Done`] when
    /// all has been read.
    ReplicationReread {
        /// Of them.
        #[serde(default)]
        what: What,
    },
    /// Remove from the kernel, when the purge timeout has passed, what is replicated
    /// (`conntrackd -t`). Answered by [`Done`] at once.
    ReplicationPurge {},
    /// Remove from the kernel now what is replicated (`conntrackd -F`). Answered by [`Done`] when it
    /// is gone.
    ReplicationKernelFlush {
        /// Of it.
        #[serde(default)]
        what: What,
    },
    /// A part of a cache (`conntrackd -i`, `-e`). Answered by [`Part`].
    ReplicationDump {
        /// Which cache.
        cache: Cache,
        /// What of it.
        kind: Stored,
        /// How each is written.
        form: Form,
        /// [`Part::next`] of the part before; nothing for the first.
        #[serde(default)]
        after: Option<u64>,
        /// Most entries in the part; at most [`PART_LIMIT`] are given.
        limit: u32,
    },
}

/// Most entries of a cache, or objects of the network, in one answer.
pub(crate) const PART_LIMIT: u32 = 1_000;

fn part_limit() -> u32 {
    PART_LIMIT
}

/// Which of the declared links, addresses, routes and rules. Of each kind one is enough; nothing
/// means all.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Selection {
    /// In one of these states.
    #[serde(default)]
    pub states: Vec<StateWord>,
    /// Routes in, and rules to, one of these tables, by name or number.
    #[serde(default)]
    pub tables: Vec<String>,
    /// That name one of these interfaces.
    #[serde(default)]
    pub interfaces: Vec<String>,
}

/// How a declared object stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StateWord {
    /// The kernel has it as it is wanted.
    Installed,
    /// Not wanted now, or waiting for something.
    Pending,
    /// Somebody else's is in its place.
    Conflicting,
    /// Refused by the kernel.
    Failed,
}

impl StateWord {
    /// The word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Pending => "pending",
            Self::Conflicting => "conflicting",
            Self::Failed => "failed",
        }
    }
}

/// What of a cache or of the kernel's tables.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum What {
    /// Flows, then expectations.
    #[default]
    All,
    /// Flows only.
    Flows,
    /// Expectations only.
    Expectations,
}

/// One cache or both.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Caches {
    /// What the kernel has told.
    Internal,
    /// What the peers have told.
    External,
    /// Either.
    Both,
}

/// A cache.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Cache {
    /// What the kernel has told.
    Internal,
    /// What the peers have told.
    External,
}

/// What is in a cache.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stored {
    /// Flows.
    Flows,
    /// Expectations.
    Expectations,
}

/// How an entry of a cache is written.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Form {
    /// A line as `conntrack` writes it.
    Text,
    /// An object as `lockstep conntrack list --json` writes it.
    Json,
}

/// What was asked for has been done.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Done {
    /// What has happened, in a sentence.
    pub summary: String,
    /// How many of what, by name.
    pub counts: std::collections::BTreeMap<String, u64>,
}

/// What a reload of another file would do, by the sections and keys of the file.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Compared {
    /// What a running daemon takes.
    pub live: Vec<String>,
    /// What needs a restart; with any of it a reload changes nothing.
    pub restart: Vec<String>,
    /// What leaves its state for that, in sentences; nothing else does.
    #[serde(default)]
    pub leaving: Vec<String>,
}

/// A group was handed over.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Switched {
    /// The group.
    pub group: String,
    /// The primary address of the new master.
    pub master: Option<String>,
    /// Whether that was heard to serve.
    pub announced: bool,
    /// Microseconds until a peer had acknowledged everything.
    pub prepared_us: u64,
    /// Microseconds from priority 0 until the new master had claimed.
    pub claimed_us: Option<u64>,
    /// Microseconds from priority 0 until it served.
    pub served_us: Option<u64>,
}

/// A group is in maintenance, or is not any more.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Maintained {
    /// The group.
    pub group: String,
    /// Since when it is in maintenance; `None` when it is not.
    pub since: Option<String>,
    /// How it was handed over, when it was master.
    pub handed_over: Option<Switched>,
    /// Why it was master and could not be handed over.
    pub left_because: Option<String>,
}

/// The configuration of the file is in force.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Reloaded {
    /// What has happened, in a sentence.
    pub summary: String,
    /// The keys that have changed.
    pub changed: Vec<String>,
}

/// A part of a cache.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Part {
    /// The entries, each a string ([`Form::Text`]) or an object ([`Form::Json`]).
    pub entries: Vec<serde_json::Value>,
    /// To be asked with for the rest; `None` when there is none. A cache that changes meanwhile may
    /// show what is new or not, and everything else once.
    pub next: Option<u64>,
}

impl Request {
    /// How long the answer may take. What has to do with every flow takes as long as it takes: a
    /// million of them some ten seconds.
    pub(crate) fn patience(&self) -> Duration {
        match self {
            Self::Reload {}
            | Self::ReplicationCommit { .. }
            | Self::ReplicationReread { .. }
            | Self::ReplicationKernelFlush { .. } => Duration::from_mins(10),
            // A backup that has the longest interval claims within its skew time.
            Self::Switchover { .. } | Self::Maintenance { .. } => Duration::from_mins(2),
            // A large table is read and judged first.
            Self::Routes { .. } | Self::RoutesDiff { .. } => Duration::from_mins(1),
            Self::Ping {}
            | Self::Status {}
            | Self::Explain {}
            | Self::Compare { .. }
            | Self::Journal { .. }
            | Self::Replication {}
            | Self::ReplicationFlush { .. }
            | Self::ReplicationResync {}
            | Self::ReplicationBulk {}
            | Self::ReplicationPurge {}
            | Self::ReplicationDump { .. } => Duration::from_secs(10),
        }
    }
}

/// Who listens.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Pong {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
}

/// The answer to one request.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// What was asked for.
    Ok(serde_json::Value),
    /// Why there is none, in a sentence.
    Error(String),
    /// Every problem of the configuration that was to be put in force, drawn for a person.
    BadConfiguration(String),
}

impl Answer {
    /// Turns a result into what is sent; errors become their chain of causes in one line, but for the
    /// problems of a configuration.
    pub(crate) fn from_result<T: Serialize>(result: anyhow::Result<T>) -> Self {
        match result.and_then(|value| Ok(serde_json::to_value(value)?)) {
            Ok(value) => Self::Ok(value),
            Err(error) if error.is::<BadConfiguration>() => {
                Self::BadConfiguration(error.to_string())
            }
            Err(error) => Self::Error(format!("{error:#}")),
        }
    }
}

/// Understands one line.
///
/// # Errors
/// A sentence for the answer when it is not a request.
pub(crate) fn parse(line: &[u8]) -> Result<Request, String> {
    serde_json::from_slice(line).map_err(|error| format!("not a request: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_are_written() {
        for request in [
            Request::Ping {},
            Request::Status {},
            Request::Journal { after: 7 },
            Request::Routes {
                of: Selection {
                    states: vec![StateWord::Pending],
                    tables: vec!["Table_eth2".to_owned()],
                    interfaces: vec!["eth2".to_owned()],
                },
                after: Some(1_000),
                limit: 10,
            },
            Request::RoutesDiff { after: None, limit: PART_LIMIT },
            Request::Reload {},
            Request::Switchover { group: "gateway".to_owned(), force: true },
            Request::Maintenance { on: true, group: None },
            Request::Replication {},
        ] {
            let line = serde_json::to_vec(&request).unwrap();
            assert_eq!(parse(&line), Ok(request));
        }
    }

    #[test]
    fn a_journal_is_whole_unless_told_otherwise() {
        assert_eq!(parse(br#"{"request":"journal"}"#), Ok(Request::Journal { after: 0 }));
    }

    #[test]
    fn routes_are_all_unless_told_otherwise() {
        let all = Request::Routes { of: Selection::default(), after: None, limit: PART_LIMIT };
        assert_eq!(parse(br#"{"request":"routes"}"#), Ok(all));
    }

    #[test]
    fn garbage_is_refused_with_a_reason() {
        for line in [
            &b""[..],
            b"\x00\xff\xfe",
            b"status",
            b"{}",
            br#"{"request":"reboot"}"#,
            br#"{"request":"journal","after":-1}"#,
            br#"{"request":"status","extra":1}"#,
            &[b'['; 4096],
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.starts_with("not a request: "), "{error}");
        }
    }
}
