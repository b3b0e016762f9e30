//! `lockstep replication`: the state and the counters of flow replication.

use clap::Subcommand;

use super::Ask;
use super::output::{Cell, Page, Style, Table, print_json};
use crate::control::client::Client;
use crate::control::protocol::Request;
use crate::status::Replication;

/// What can be asked about replication.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show role, peers and caches, and whether the peer's state has arrived
    Status(Ask),
    /// Show the counters (conntrackd -s)
    Statistics(Ask),
}

pub(super) fn perform(command: &Command) -> anyhow::Result<()> {
    let (Command::Status(ask) | Command::Statistics(ask)) = command;
    let mut client = Client::connect(&ask.socket.socket)?;
    let replication: Replication = client.ask(&Request::Replication {})?;
    let mut page = Page::new();
    match command {
        Command::Status(_) if ask.json => return print_json(&replication),
        Command::Statistics(_) if ask.json => return print_json(&replication.statistics),
        Command::Status(_) => describe(&mut page, &replication),
        Command::Statistics(_) => counters(&mut page, &replication),
    }
    page.print()
}

pub(super) fn describe(page: &mut Page, replication: &Replication) {
    let Replication { role, in_sync, reason, internal, external, committed, .. } = replication;
    let mut table =
        Table::new(&["REPLICATION", "IN SYNC", "INTERNAL", "EXTERNAL", "COMMITTED", "WHY"]);
    let synchronised = match in_sync {
        true => Cell::styled("yes", Style::Good),
        false => Cell::styled("no", Style::Notable),
    };
    table.row([
        role.into(),
        synchronised,
        internal.to_string().into(),
        external.to_string().into(),
        committed.to_string().into(),
        reason.into(),
    ]);
    page.gap();
    page.table(&table);
    let mut peers = Table::new(&["PEER", "HEARD", "UNACKNOWLEDGED"]);
    for peer in &replication.peers {
        peers.row([
            (&peer.address).into(),
            format!("{}.{:03} s ago", peer.heard_ms / 1000, peer.heard_ms % 1000).into(),
            peer.unacknowledged.to_string().into(),
        ]);
    }
    page.gap();
    if replication.peers.is_empty() {
        page.line("no peer has been heard");
    }
    page.table(&peers);
}

fn counters(page: &mut Page, replication: &Replication) {
    let mut table = Table::new(&["COUNTER", "VALUE"]);
    for (name, value) in &replication.statistics {
        table.row([name.into(), value.to_string().into()]);
    }
    page.table(&table);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Peer;

    fn replication() -> Replication {
        Replication {
            role: "backup".to_owned(),
            peers: vec![Peer {
                address: "192.168.9.2".to_owned(),
                heard_ms: 1_042,
                unacknowledged: 3,
                ..Peer::default()
            }],
            in_sync: false,
            reason: "the bulk of the peer's flows is under way".to_owned(),
            internal: 12,
            external: 9_876,
            committed: 0,
            statistics: [("messages-sent".to_owned(), 7), ("lost".to_owned(), 0)].into(),
            ..Replication::default()
        }
    }

    #[test]
    fn role_caches_and_peers_are_shown() {
        let mut page = Page::plain();
        describe(&mut page, &replication());
        let expected = "\
REPLICATION  IN SYNC  INTERNAL  EXTERNAL  COMMITTED  WHY
backup       no       12        9876      0          the bulk of the peer's flows is under way

PEER         HEARD        UNACKNOWLEDGED
192.168.9.2  1.042 s ago  3
";
        assert_eq!(page.text(), expected);
    }

    #[test]
    fn a_peer_that_was_never_heard_is_said() {
        let mut page = Page::plain();
        describe(&mut page, &Replication { peers: Vec::new(), ..replication() });
        assert!(page.text().ends_with("\nno peer has been heard\n"), "{}", page.text());
    }

    #[test]
    fn counters_are_listed_by_name() {
        let mut page = Page::plain();
        counters(&mut page, &replication());
        assert_eq!(page.text(), "COUNTER        VALUE\nlost           0\nmessages-sent  7\n");
    }
}
