//! Where the daemon listens: conntrackd's configuration names a socket of its own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cli::SOCKET;
use crate::control::client::Client;
use crate::control::protocol::{Pong, Request};

/// Names the daemon's socket where that is not the usual one.
const VARIABLE: &str = "LOCKSTEP_SOCKET";

/// The sockets that may be the daemon's, the likeliest first.
#[derive(Debug)]
pub(super) struct Sockets {
    named: Option<PathBuf>,
    usual: PathBuf,
}

/// Looks into the configuration, conntrackd's or Lockstep's.
///
/// # Errors
/// When it cannot be read: a script that names the wrong file has to hear of it.
pub(super) fn find(configuration: &Path) -> anyhow::Result<Sockets> {
    let text = fs::read(configuration)
        .with_context(|| format!("cannot read the configuration {}", configuration.display()))?;
    let usual = std::env::var_os(VARIABLE).filter(|value| !value.is_empty());
    Ok(Sockets {
        named: unix_path(&String::from_utf8_lossy(&text)).map(PathBuf::from),
        usual: usual.map_or_else(|| PathBuf::from(SOCKET), PathBuf::from),
    })
}

impl Sockets {
    /// A connection to the Lockstep daemon. A conntrackd at the socket of its configuration is left
    /// alone.
    ///
    /// # Errors
    /// When no daemon answers.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        if let Some(client) = self.named.as_deref().and_then(answering) {
            return Ok(client);
        }
        Client::connect(&self.usual)
    }
}

fn answering(socket: &Path) -> Option<Client> {
    let mut client = Client::connect(socket).ok()?;
    client.ask::<Pong>(&Request::Ping {}).ok()?;
    Some(client)
}

/// The `Path` in the block `UNIX { … }` of a conntrackd.conf.
fn unix_path(text: &str) -> Option<&str> {
    let mut words = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .flat_map(str::split_whitespace)
        .skip_while(|word| *word != "UNIX" && *word != "UNIX{");
    words.next()?;
    let mut words = words.take_while(|word| *word != "}");
    words.find(|word| word.trim_start_matches('{') == "Path")?;
    words.next().map(|path| path.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_stands_in_the_block_for_it() {
        let text = "Sync {\n Path /not/this\n}\nGeneral {\n # UNIX { Path /nor/this }\n\
                    LockFile /var/lock/conntrack.lock\n UNIX {\n  Path /var/run/conntrackd.ctl # it\n \
                    Backlog 20\n }\n}\n";
        assert_eq!(unix_path(text), Some("/var/run/conntrackd.ctl"));
        assert_eq!(unix_path("General { UNIX { Path \"/a b\" } }"), Some("/a"));
        assert_eq!(unix_path("UNIX {Path /run/x }"), Some("/run/x"));
    }

    #[test]
    fn a_file_without_a_socket_names_none() {
        for text in
            ["", "[replication]\nprotocol = \"conntrackd\"\n", "UNIX {\n}\nPath /x\n", "UNIX"]
        {
            assert_eq!(unix_path(text), None, "{text}");
        }
    }
}
