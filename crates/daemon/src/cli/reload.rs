//! `lockstep reload`, and `lockstep check --diff`, which tells what it would do.

use std::path::{Path, absolute};

use anyhow::Context as _;

use super::output::{print, print_json};
use super::{Ask, Socket};
use crate::control::client::Client;
use crate::control::protocol::{Compared, Reloaded, Request};

/// Has the daemon read its configuration again, and tells what has come into force.
pub(super) fn reload(ask: &Ask) -> anyhow::Result<()> {
    let reloaded: Reloaded = Client::connect(&ask.socket.socket)?.ask(&Request::Reload {})?;
    if ask.json { print_json(&reloaded) } else { print(&format!("{}\n", reloaded.summary)) }
}

/// Tells what a file would change about the running daemon.
pub(super) fn compare(file: &Path, socket: &Socket) -> anyhow::Result<()> {
    let file = absolute(file).context("cannot tell where the file is")?;
    let mut client = Client::connect(&socket.socket)?;
    let Compared { live, restart, leaving } = client.ask(&Request::Compare { file })?;
    let mut lines: Vec<String> = Vec::new();
    lines.extend(live.iter().map(|name| format!("{name}: taken by a reload")));
    lines.extend(restart.iter().map(|name| format!("{name}: needs a restart")));
    lines.extend(leaving);
    if lines.is_empty() {
        lines.push("nothing differs from what is in force".to_owned());
    }
    lines.push(String::new());
    print(&lines.join("\n"))
}
