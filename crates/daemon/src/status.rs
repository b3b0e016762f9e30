//! What `status`, `routes`, `journal` and `replication` show, as JSON and as the source of the
//! text. Field names are a contract: scripts read them.

pub(crate) mod network;
pub(crate) mod replication;

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

pub(crate) use network::{
    Address, Counts, Difference, Link, Network, NextHop, PlannedChange, Route, Rule, Standing,
    Wanted,
};
#[cfg(test)]
pub(crate) use replication::Peer;
pub(crate) use replication::Replication;

/// `lockstep status --json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Status {
    /// The router's name.
    pub router: String,
    /// Failover groups.
    pub groups: Vec<Group>,
    /// Virtual routers.
    pub virtual_routers: Vec<VirtualRouter>,
    /// Flow replication, when configured.
    pub replication: Option<Replication>,
    /// The routes of `network`.
    pub routes: Vec<Route>,
    /// Every declared link, address, route and rule; where these are many, only what is not
    /// installed.
    pub network: Network,
    /// The checks.
    pub checks: Vec<Check>,
    /// Hooks: one left by an earlier life of the daemon, the last run of each, the one that runs,
    /// those that wait.
    pub hooks: Vec<Hook>,
    /// The pipe for new states, when there is one.
    #[serde(default)]
    pub notify_fifo: Option<Fifo>,
    /// How punctual the thread is that advertises; `None` when it did not answer.
    #[serde(default)]
    pub scheduling: Option<Scheduling>,
    /// The parts of the daemon that did not answer in time, so that what they know is missing
    /// above: `core`, `network`, `replicator`.
    #[serde(default)]
    pub no_answer: Vec<String>,
}

/// What the core thread knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Core {
    /// Failover groups.
    pub groups: Vec<Group>,
    /// Virtual routers.
    pub virtual_routers: Vec<VirtualRouter>,
    /// How punctual it is.
    pub scheduling: Scheduling,
}

/// How punctual the thread is that advertises.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Scheduling {
    /// Microseconds that a timer of an election was served late at most, since the start.
    pub worst_late_us: u64,
    /// The same in the last minute.
    pub worst_late_last_minute_us: u64,
    /// The shortest advertisement interval of all virtual routers, to compare these with.
    pub shortest_interval_us: Option<u64>,
    /// How often a master was not scheduled for so long that another may have taken over.
    pub overslept: u64,
    /// Advertisements for our VRIDs that were lost because they were not read in time.
    pub receive_drops: u64,
}

/// A failover group.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Group {
    /// Its name.
    pub name: String,
    /// `init`, `backup`, `master`, `fault`, `stopped`.
    pub state: String,
    /// When it entered that state, RFC 3339 in UTC with milliseconds.
    pub since: String,
    /// Why, in a sentence.
    pub reason: String,
    /// The step of a transition under way.
    pub step: Option<String>,
    /// What a backup waits for before it replaces a working master, in a sentence.
    #[serde(default)]
    pub waiting: Option<String>,
    /// Since when it is in maintenance, RFC 3339 in UTC; `None` when it is not.
    #[serde(default)]
    pub maintenance: Option<String>,
    /// What is tracked for it and its members.
    #[serde(default)]
    pub tracked: Vec<Tracked>,
}

/// A tracked thing.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Tracked {
    /// `check`, `interface`, `file` or `process`, and its name.
    pub object: String,
    /// The virtual router for which it is tracked; the whole group without.
    pub virtual_router: Option<String>,
    /// `good`, `bad`, or `unknown` before it has been looked at.
    pub state: String,
    /// How it is, for people.
    pub detail: String,
    /// What it weighs; `None` for what the group cannot serve without.
    pub weight: Option<i16>,
    /// What it adds to the priority now.
    pub effect: i32,
}

/// A virtual router.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct VirtualRouter {
    /// Its name.
    pub name: String,
    /// Its group.
    pub group: String,
    /// Its interface.
    pub interface: String,
    /// Its VRID.
    pub vrid: u8,
    /// 2 or 3.
    pub version: u8,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// `initialize`, `backup`, `master`.
    pub state: String,
    /// Configured priority.
    pub priority: u8,
    /// Priority in force.
    pub effective_priority: u8,
    /// The master's primary address, our own when it is us.
    pub master_address: Option<String>,
    /// Milliseconds between the advertisements of the master, as a backup has learned it.
    #[serde(default)]
    pub master_interval_ms: Option<u64>,
    /// Why it became master the last time: `not-master` (it never did), `priority`, `preempted`,
    /// `no-response` (RFC 8347).
    #[serde(default)]
    pub new_master_reason: Option<String>,
    /// What has last mattered to its state (RFC 8347, without the prefix `vrrp-event-`).
    #[serde(default)]
    pub last_event: Option<String>,
    /// How long it does not elect itself because of the start-up limit, and why.
    #[serde(default)]
    pub waiting: Option<String>,
    /// The other master that was heard while this one is master, in a sentence; for a minute.
    #[serde(default)]
    pub other_master: Option<String>,
    /// Why it does not take over although nobody that it understands is master.
    #[serde(default)]
    pub withheld: Option<String>,
    /// Counters by name (RFC 8347 words, kebab-case).
    pub statistics: std::collections::BTreeMap<String, u64>,
    /// Neighbours whose advertisements for our VRID are refused: one sentence each, newest last.
    pub rejected: Vec<String>,
    /// In what neighbours that are heeded differ: one sentence each, in the order it was noticed.
    #[serde(default)]
    pub differs: Vec<String>,
    /// Why the last advertisement has not left; `None` when it has.
    #[serde(default)]
    pub sending: Option<String>,
}

/// A check.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Check {
    /// Its name.
    pub name: String,
    /// `good`, `bad`, or `unknown` before the first run.
    pub state: String,
    /// The last run's result.
    pub detail: String,
}

/// The pipe that new states are written to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Fifo {
    /// Where it is.
    pub path: String,
    /// Lines written since the start.
    pub written: u64,
    /// Lines lost since the start, because it was full or could not be made.
    pub lost: u64,
    /// Bytes that nobody has read yet.
    pub unread_bytes: u64,
    /// Why it could not be made.
    pub error: Option<String>,
    /// How the program fares that reads it, when one is configured: `running`, or how it ended.
    pub reader: Option<String>,
}

/// A hook run.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Hook {
    /// The group.
    pub group: String,
    /// The virtual router that it was told of; the group itself without.
    #[serde(default)]
    pub virtual_router: Option<String>,
    /// The state it was run for.
    pub state: String,
    /// `running`, `waiting`, or how it ended.
    pub result: String,
    /// The command, for people.
    pub command: String,
    /// When it was started, as in [`Group::since`].
    pub started: Option<String>,
    /// Milliseconds it took.
    pub took_ms: Option<u64>,
    /// The last lines of its output.
    pub output: Vec<String>,
}

/// Why a group is what it is now, and what would change that.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Explanation {
    /// The group.
    pub group: String,
    /// Its state.
    pub state: String,
    /// When it entered that state, RFC 3339 in UTC with milliseconds.
    pub since: String,
    /// Why, in sentences.
    pub because: Vec<String>,
    /// What would make it something else, in sentences.
    pub would_change: Vec<String>,
    /// Whether its flows are replicated.
    pub replicated: bool,
}

/// One transition of a group: an entry of the journal.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Transition {
    /// Counts from 1, and on across restarts as long as the journal is kept on disk.
    pub number: u64,
    /// When it began, RFC 3339 in UTC with milliseconds.
    pub at: String,
    /// The group.
    pub group: String,
    /// The state left.
    pub from: String,
    /// The state entered.
    pub to: String,
    /// Why, in a sentence.
    pub reason: String,
    /// What was known of the other routers then, in sentences.
    #[serde(default)]
    pub view: Vec<String>,
    /// Nothing more is done for it.
    #[serde(default)]
    pub is_over: bool,
    /// The steps in order.
    pub steps: Vec<TransitionStep>,
}

/// One step of a transition.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct TransitionStep {
    /// What.
    pub step: String,
    /// Microseconds from the start of the transition to the start of the step.
    pub started_us: u64,
    /// Microseconds it took; `None` while it runs.
    pub took_us: Option<u64>,
    /// `done`, `pending`, `failed`, `running`.
    pub outcome: String,
    /// For people.
    pub detail: String,
}

/// A moment as RFC 3339 in UTC with milliseconds; a moment before 1970 is shown as 1970.
pub(crate) fn timestamp(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at.max(UNIX_EPOCH)).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn moments_are_written_as_rfc_3339() {
        let at = UNIX_EPOCH + Duration::from_millis(951_782_400_005);
        assert_eq!(timestamp(at), "2000-02-29T00:00:00.005Z");
    }

    #[test]
    fn a_clock_before_1970_does_not_panic() {
        let at = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(timestamp(at), "1970-01-01T00:00:00.000Z");
    }
}
