//! Commands that the daemon runs: hooks, checks, the reader of the pipe; who runs them, and what is
//! known of their programs.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use lockstep_failover::{Notify, OnFailure, RunAs};
use toml::de::{DeTable, DeValue};

use crate::problem::Problem;
use crate::reader::{Table, Value};
use crate::schema::{NOTIFY, VRRP_NOTIFY};
use crate::surroundings::{Program, Surroundings};
use crate::{Severity, words};

/// Shortest and longest interval and timeout of a command.
const COMMAND_TIME: (Duration, Duration) = (Duration::from_millis(10), Duration::from_hours(24));

/// The commands of hooks by their keys.
const HOOKS: [&str; 5] = ["master", "backup", "fault", "stop", "notify"];

/// The pipe that every new state is written to, in keepalived's form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotifyFifo {
    /// Where it is, an absolute path.
    pub path: PathBuf,
    /// Whose it is, and who runs `command`; the daemon's own user without.
    pub user: Option<RunAs>,
    /// A program that reads it, started and started again by the daemon. The path is its last
    /// argument.
    pub command: Option<Vec<String>>,
}

/// What `[router]` says of the pipe; `Some(None)` when there is none.
#[expect(clippy::option_option, reason = "absent is not the same as wrong")]
pub(crate) fn notify_fifo(
    router: &Table<'_>,
    surroundings: &Surroundings,
) -> Option<Option<NotifyFifo>> {
    let path = router.optional("notify-fifo", |value| value.parse(words::file));
    let user = run_as(router, "notify-fifo-user", "notify-fifo-group")?;
    let command = command(router, "notify-fifo-command", user.as_ref(), surroundings);
    let Some(path) = path? else {
        for key in ["notify-fifo-user", "notify-fifo-group", "notify-fifo-command"] {
            if let Some(value) = router.get(key) {
                let problem = Problem::error(format!("`{key}` without a pipe"))
                    .label("belongs to a pipe")
                    .help("write `notify-fifo = \"/run/lockstep/notify\"` too");
                return value.reject(problem);
            }
        }
        return Some(None);
    };
    Some(Some(NotifyFifo { path, user, command }))
}

/// The hooks under `notify` of a group.
pub(crate) fn of_group(table: &Table<'_>, surroundings: &Surroundings) -> Notify {
    let hooks = table.get("notify").and_then(|value| value.table(&NOTIFY, "the hooks"));
    hooks.map_or_else(Notify::default, |hooks| notify(&hooks, surroundings))
}

/// The hooks under `notify` of a virtual router.
pub(crate) fn of_virtual_router(table: &Table<'_>, surroundings: &Surroundings) -> Notify {
    let hooks = table.get("notify").and_then(|value| value.table(&VRRP_NOTIFY, "the hooks"));
    hooks.map_or_else(Notify::default, |hooks| notify(&hooks, surroundings))
}

fn notify(table: &Table<'_>, surroundings: &Surroundings) -> Notify {
    let user = run_as(table, "user", "group").flatten();
    let command = |key| command(table, key, user.as_ref(), surroundings);
    let choices = [("ignore", OnFailure::Ignore), ("fault", OnFailure::Fault)];
    let on_failure = table.get("on-failure").and_then(|value| value.word("consequence", &choices));
    Notify {
        master: command("master"),
        backup: command("backup"),
        fault: command("fault"),
        stop: command("stop"),
        every: command("notify"),
        timeout: table.get("timeout").and_then(|value| time(&value)),
        user: user.clone(),
        on_failure: on_failure.unwrap_or_default(),
    }
}

/// How long a command may take, or how often it is run.
pub(crate) fn time(value: &Value<'_>) -> Option<Duration> {
    value.duration(COMMAND_TIME.0..=COMMAND_TIME.1)
}

/// Who runs a command; `Some(None)` when that is not said.
#[expect(clippy::option_option, reason = "absent is not the same as wrong")]
pub(crate) fn run_as(table: &Table<'_>, user: &str, group: &str) -> Option<Option<RunAs>> {
    let named = table.optional(user, |value| value.parse(words::user));
    let in_group = table.optional(group, |value| value.parse(words::user_group));
    match (named?, in_group?) {
        (Some(user), group) => Some(Some(RunAs { user, group })),
        (None, None) => Some(None),
        (None, Some(_)) => {
            let problem = Problem::error(format!("`{group}` without `{user}`"))
                .label("is the group of a user")
                .help(format!("write `{user} = \"NAME\"` too"));
            table.get(group)?.reject(problem)
        }
    }
}

/// The command under `key`, and what is to be said of its program.
pub(crate) fn command(
    table: &Table<'_>,
    key: &str,
    user: Option<&RunAs>,
    surroundings: &Surroundings,
) -> Option<Vec<String>> {
    let value = table.get(key)?;
    let command = value.command()?;
    let program =
        Program { program: command.first()?.clone(), user: user.map(|run_as| run_as.user.clone()) };
    if let Some(doubt) = surroundings.programs.get(&program) {
        let message = format!("`{key}` cannot be run: {}", doubt.why);
        let problem = match doubt.severity {
            Severity::Error => Problem::error(message),
            Severity::Warning => Problem::warning(message),
        };
        table.report().push(problem.label("will fail").at(value.span()));
    }
    Some(command)
}

/// The programs that `text` has run, for [`Surroundings::programs`]. Text with errors refers to what
/// can be understood of it.
pub fn referenced_programs(text: &str) -> BTreeSet<Program> {
    let (root, _) = DeTable::parse_recoverable(text);
    let root = root.get_ref();
    let mut programs = BTreeSet::new();
    for check in named(root, "check") {
        programs.extend(program(check, "command", "user"));
    }
    for owner in named(root, "group").chain(named(root, "vrrp")) {
        let Some(notify) = owner.get("notify").and_then(|notify| notify.get_ref().as_table())
        else {
            continue;
        };
        programs.extend(HOOKS.into_iter().filter_map(|key| program(notify, key, "user")));
    }
    if let Some(router) = root.get("router").and_then(|router| router.get_ref().as_table()) {
        programs.extend(program(router, "notify-fifo-command", "notify-fifo-user"));
    }
    programs
}

/// The tables under `[key.NAME]`.
fn named<'t>(root: &'t DeTable<'t>, key: &str) -> impl Iterator<Item = &'t DeTable<'t>> {
    let tables = root.get(key).and_then(|tables| tables.get_ref().as_table());
    tables.into_iter().flat_map(DeTable::values).filter_map(|table| table.get_ref().as_table())
}

fn program(table: &DeTable<'_>, key: &str, user: &str) -> Option<Program> {
    let command = table.get(key)?.get_ref().as_array()?;
    let DeValue::String(program) = command.first()?.get_ref() else { return None };
    let user = table.get(user).and_then(|user| user.get_ref().as_str());
    Some(Program { program: program.to_string(), user: user.map(str::to_owned) })
}
