//! `lockstep reload`.

use super::Ask;
use super::output::{print, print_json};
use crate::control::client::Client;
use crate::control::protocol::{Reloaded, Request};

/// Has the daemon read its configuration again, and tells what has come into force.
pub(super) fn reload(ask: &Ask) -> anyhow::Result<()> {
    let reloaded: Reloaded = Client::connect(&ask.socket.socket)?.ask(&Request::Reload {})?;
    if ask.json { print_json(&reloaded) } else { print(&format!("{}\n", reloaded.summary)) }
}
