//! `lockstep routes`: every declared object and, when it is not in the kernel, why.

use super::Ask;
use super::output::{Cell, Page, Style, Table, print_json};
use crate::control::client::Client;
use crate::control::protocol::Request;
use crate::status::{Network, Object, Route};

pub(super) fn show(ask: &Ask) -> anyhow::Result<()> {
    let mut client = Client::connect(&ask.socket.socket)?;
    let network: Network = client.ask(&Request::Routes {})?;
    if ask.json {
        return print_json(&network);
    }
    let mut page = Page::new();
    describe(&mut page, &network);
    if page.is_empty() {
        page.line("no links, addresses, routes or rules are declared");
    }
    page.print()
}

pub(super) fn describe(page: &mut Page, network: &Network) {
    objects(page, "LINK", &network.links);
    objects(page, "ADDRESS", &network.addresses);
    routes(page, &network.routes);
    objects(page, "RULE", &network.rules);
}

fn objects(page: &mut Page, heading: &str, objects: &[Object]) {
    if objects.is_empty() {
        return;
    }
    let mut table = Table::new(&[heading, "STATE", "WHY"]);
    for Object { object, state, reason } in objects {
        table.row([object.into(), styled(state), reason.as_deref().unwrap_or_default().into()]);
    }
    page.gap();
    page.table(&table);
}

fn routes(page: &mut Page, routes: &[Route]) {
    if routes.is_empty() {
        return;
    }
    let mut table = Table::new(&["ROUTE", "TABLE", "STATE", "WHY"]);
    for route in routes {
        table.row([
            in_words(route).into(),
            (&route.table).into(),
            styled(&route.state),
            route.reason.as_deref().unwrap_or_default().into(),
        ]);
    }
    page.gap();
    page.table(&table);
}

/// As `ip route` writes it, without the table.
fn in_words(route: &Route) -> String {
    let mut words = String::new();
    if route.kind != "unicast" {
        words.push_str(&route.kind);
        words.push(' ');
    }
    words.push_str(&route.destination);
    for (word, value) in [(" via ", &route.via), (" dev ", &route.interface)] {
        if let Some(value) = value {
            words.push_str(word);
            words.push_str(value);
        }
    }
    words
}

fn styled(state: &str) -> Cell {
    let style = match state {
        "installed" => Style::Good,
        "pending" | "conflicting" => Style::Notable,
        "failed" => Style::Bad,
        _ => Style::Plain,
    };
    Cell::styled(state, style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pending_route_says_what_it_waits_for() {
        let network = Network {
            links: vec![Object {
                object: "eth2".to_owned(),
                state: "pending".to_owned(),
                reason: Some("group gateway is backup".to_owned()),
            }],
            routes: vec![
                Route {
                    table: "Table_eth2".to_owned(),
                    kind: "throw".to_owned(),
                    destination: "10.147.46.0/24".to_owned(),
                    via: None,
                    interface: None,
                    state: "installed".to_owned(),
                    reason: None,
                },
                Route {
                    table: "static_route".to_owned(),
                    kind: "unicast".to_owned(),
                    destination: "10.147.70.0/24".to_owned(),
                    via: Some("10.147.52.1".to_owned()),
                    interface: None,
                    state: "pending".to_owned(),
                    reason: Some("eth2 is down".to_owned()),
                },
            ],
            ..Network::default()
        };
        let mut page = Page::plain();
        describe(&mut page, &network);
        let expected = "\
LINK  STATE    WHY
eth2  pending  group gateway is backup

ROUTE                           TABLE         STATE      WHY
throw 10.147.46.0/24            Table_eth2    installed
10.147.70.0/24 via 10.147.52.1  static_route  pending    eth2 is down
";
        assert_eq!(page.text(), expected);
    }

    #[test]
    fn nothing_declared_shows_nothing() {
        let mut page = Page::plain();
        describe(&mut page, &Network::default());
        assert!(page.is_empty());
    }
}
