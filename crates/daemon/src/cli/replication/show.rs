//! How replication stands: role, peers, links, and what is under way.

use crate::cli::output::{Cell, Page, Style, Table};
use crate::status::replication::{Commit, Link, Peer, Replication};

/// Adds replication to a page. What there is nothing to say of is left out.
pub(crate) fn describe(page: &mut Page, replication: &Replication) {
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
    peers(page, &replication.peers);
    links(page, &replication.links);
    under_way(page, replication);
}

fn peers(page: &mut Page, peers: &[Peer]) {
    let mut table = Table::new(&["PEER", "HEARD", "UNACKNOWLEDGED", "BEHIND", "MISSING", "ON", ""]);
    for peer in peers {
        let note = match (&peer.differs, peer.silent) {
            (Some(differs), _) => Cell::styled(differs, Style::Bad),
            // It says so where others say when.
            (None, true) if peer.heard_ms.is_none() => "".into(),
            (None, true) => Cell::styled("silent", Style::Bad),
            (None, false) => match peer.copy.as_str() {
                "unneeded" | "arrived" => "".into(),
                "arriving" => Cell::styled("its full copy is arriving", Style::Notable),
                "wanted-again" => Cell::styled("its full copy is wanted again", Style::Notable),
                _ => Cell::styled("no full copy yet", Style::Notable),
            },
        };
        table.row([
            (&peer.address).into(),
            match peer.heard_ms {
                Some(_) => heard(peer).into(),
                None => Cell::styled(heard(peer), Style::Bad),
            },
            peer.unacknowledged.to_string().into(),
            lag(peer.behind, peer.behind_ms),
            lag(peer.missing, peer.missing_ms),
            peer.interface.as_deref().unwrap_or_default().into(),
            note,
        ]);
    }
    page.gap();
    if peers.is_empty() {
        page.line("no peer has been heard");
    }
    page.table(&table);
}

/// When the peer was last heard.
pub(super) fn heard(peer: &Peer) -> String {
    match peer.heard_ms {
        Some(ago_ms) => format!("{} ago", seconds(ago_ms)),
        None => format!("never ({})", seconds(peer.unheard_ms)),
    }
}

/// Messages, and since when.
fn lag(messages: u64, age_ms: u64) -> Cell {
    match messages {
        0 => "0".into(),
        _ => Cell::styled(format!("{messages} ({})", seconds(age_ms)), Style::Notable),
    }
}

fn links(page: &mut Page, links: &[Link]) {
    let mut table = Table::new(&["LINK", "TRANSPORT", "TO", "STATE", "WHY"]);
    for link in links {
        let style = match (link.state.as_str(), &link.reason) {
            ("active", None) => Style::Good,
            ("down", _) => Style::Bad,
            (_, Some(_)) => Style::Notable,
            (_, None) => Style::Plain,
        };
        table.row([
            (&link.interface).into(),
            (&link.transport).into(),
            format!("{} port {}", link.to.join(" "), link.port).into(),
            Cell::styled(&link.state, style),
            link.reason.as_deref().unwrap_or_default().into(),
        ]);
    }
    if !links.is_empty() {
        page.gap();
    }
    page.table(&table);
}

fn under_way(page: &mut Page, replication: &Replication) {
    let trouble = replication.kernel.trouble.as_ref();
    if let Some(injection) = &replication.injection {
        page.gap();
        page.line(&format!(
            "standing by in the kernel: {} flows, {} changes wait, {} refused",
            injection.in_kernel, injection.waiting, injection.refused
        ));
        for (reason, count) in &injection.refusals {
            page.line(&format!("  refused {count}: {reason}"));
        }
    }
    let put_off = replication.purge_put_off.as_ref();
    let commit = replication.last_commit.as_ref();
    let any = commit.is_some() || trouble.is_some() || put_off.is_some();
    if !replication.jobs.is_empty() || any {
        page.gap();
    }
    for job in &replication.jobs {
        let of = job.total.map(|total| format!(" of {total}")).unwrap_or_default();
        page.line(&format!("under way: {}, {}{of}", job.name, job.done));
    }
    if let Some(why) = put_off {
        page.line(&format!("the flows of the time as master stay in the kernel: {why}"));
    }
    if let Some(commit) = commit {
        committed(page, commit);
    }
    if let Some(trouble) = trouble {
        page.words(&["kernel:".into(), Cell::styled(trouble, Style::Bad)]);
    }
}

fn committed(page: &mut Page, commit: &Commit) {
    let style = if commit.complete { Style::Plain } else { Style::Bad };
    page.words(&[
        format!("last commit at {} took {}:", commit.at, seconds(commit.took_ms)).into(),
        Cell::styled(&commit.summary, style),
    ]);
    for (reason, count) in &commit.refused {
        page.line(&format!("  refused {count}: {reason}"));
    }
    for sample in &commit.samples {
        page.line(&format!("    {sample}"));
    }
}

/// Milliseconds as seconds.
pub(super) fn seconds(milliseconds: u64) -> String {
    format!("{}.{:03} s", milliseconds / 1000, milliseconds % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::replication::{Job, Kernel};

    fn replication() -> Replication {
        Replication {
            role: "backup".to_owned(),
            peers: vec![Peer {
                address: "192.168.9.2".to_owned(),
                heard_ms: Some(1_042),
                unheard_ms: 1_042,
                unacknowledged: 3,
                ..Peer::default()
            }],
            in_sync: false,
            reason: "the bulk of the peer's flows is under way".to_owned(),
            internal: 12,
            external: 9_876,
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

PEER         HEARD        UNACKNOWLEDGED  BEHIND  MISSING  ON
192.168.9.2  1.042 s ago  3               0       0            no full copy yet
";
        assert_eq!(page.text(), expected);
    }

    #[test]
    fn a_purge_that_is_put_off_is_explained() {
        let why = "no peer is there, so nobody else is known to serve";
        let put_off = Replication { purge_put_off: Some(why.to_owned()), ..replication() };
        let mut page = Page::plain();
        describe(&mut page, &put_off);
        let expected = format!("\n\nthe flows of the time as master stay in the kernel: {why}\n");
        assert!(page.text().ends_with(&expected), "{}", page.text());
    }

    #[test]
    fn a_peer_that_was_never_heard_is_not_said_to_have_been() {
        let absent = Peer {
            heard_ms: None,
            unheard_ms: 61_500,
            silent: true,
            unacknowledged: 0,
            ..replication().peers[0].clone()
        };
        let link = Link {
            interface: "eth9".to_owned(),
            transport: "tcp".to_owned(),
            to: vec!["192.168.9.2".to_owned()],
            port: 3780,
            state: "active".to_owned(),
            reason: Some("192.168.9.2 refuses".to_owned()),
            ..Link::default()
        };
        let mut page = Page::plain();
        let shown = Replication { peers: vec![absent], links: vec![link], ..replication() };
        describe(&mut page, &shown);
        let expected = "
PEER         HEARD             UNACKNOWLEDGED  BEHIND  MISSING  ON
192.168.9.2  never (61.500 s)  0               0       0

LINK  TRANSPORT  TO                     STATE   WHY
eth9  tcp        192.168.9.2 port 3780  active  192.168.9.2 refuses
";
        assert!(page.text().ends_with(expected), "{}", page.text());
    }

    #[test]
    fn nobody_heard_at_all_is_said() {
        let mut page = Page::plain();
        describe(&mut page, &Replication { peers: Vec::new(), ..replication() });
        assert!(page.text().ends_with("\nno peer has been heard\n"), "{}", page.text());
    }

    #[test]
    fn links_lag_work_and_refusals_are_shown_when_there_are_any() {
        let mut whole = replication();
        whole.peers[0].behind = 40;
        whole.peers[0].behind_ms = 2_500;
        whole.peers[0].differs = Some("seems to be in mode NOTRACK".to_owned());
        let link = |interface: &str, state: &str| Link {
            interface: interface.to_owned(),
            transport: "udp".to_owned(),
            to: vec!["192.168.9.2".to_owned()],
            port: 3780,
            state: state.to_owned(),
            ..Link::default()
        };
        let cut = Link { reason: Some("no carrier".to_owned()), ..link("eth8", "down") };
        whole.links = vec![cut, link("eth9", "active")];
        whole.jobs = vec![Job { name: "commit".to_owned(), done: 10, total: Some(99) }];
        whole.last_commit = Some(Commit {
            at: "2026-03-01T12:00:00.000Z".to_owned(),
            took_ms: 1_234,
            complete: false,
            summary: "7 of 9 flows".to_owned(),
            refused: [("the table is full".to_owned(), 2)].into(),
            samples: vec!["tcp 10.0.0.1:1 to 10.0.0.2:2".to_owned()],
            ..Commit::default()
        });
        whole.kernel =
            Kernel { trouble: Some("the table is full".to_owned()), ..Kernel::default() };
        let mut page = Page::plain();
        describe(&mut page, &whole);
        let expected = "
PEER         HEARD        UNACKNOWLEDGED  BEHIND        MISSING  ON
192.168.9.2  1.042 s ago  3               40 (2.500 s)  0            seems to be in mode NOTRACK

LINK  TRANSPORT  TO                     STATE   WHY
eth8  udp        192.168.9.2 port 3780  down    no carrier
eth9  udp        192.168.9.2 port 3780  active

under way: commit, 10 of 99
last commit at 2026-03-01T12:00:00.000Z took 1.234 s: 7 of 9 flows
  refused 2: the table is full
    tcp 10.0.0.1:1 to 10.0.0.2:2
kernel: the table is full
";
        assert!(page.text().ends_with(expected), "{}", page.text());
    }
}
