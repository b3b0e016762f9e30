//! `lockstep routes`: every declared object and, when it is not in the kernel, why.

use clap::{Args, Subcommand};

use super::Ask;
use super::output::{Cell, Page, Style, Table, print_json};
use crate::control::client::Client;
use crate::control::protocol::{PART_LIMIT, Request, Selection, StateWord};
use crate::status::{Counts, Difference, Network, NextHop, PlannedChange, Route, Rule, Standing};

/// What is shown.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only what is in this state; may be given again
    #[arg(long = "state", value_name = "STATE", value_enum)]
    states: Vec<StateWord>,
    /// Only routes in this table and rules that look it up, by name or number; may be given again
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
    /// Only what names this interface; may be given again
    #[arg(long = "interface", value_name = "INTERFACE")]
    interfaces: Vec<String>,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Have the kernel's tables read, and show what would be done to them now, in order
    Diff(Ask),
}

pub(super) fn perform(options: &Options) -> anyhow::Result<()> {
    match &options.command {
        Some(Command::Diff(ask)) => show_difference(ask),
        None => show(options),
    }
}

fn show(options: &Options) -> anyhow::Result<()> {
    let of = Selection {
        states: options.states.clone(),
        tables: options.tables.clone(),
        interfaces: options.interfaces.clone(),
    };
    let is_everything = of == Selection::default();
    let mut client = Client::connect(&options.ask.socket.socket)?;
    let network = read(&mut client, &of)?;
    if options.ask.json {
        return print_json(&network);
    }
    let mut page = Page::new();
    describe(&mut page, &network);
    if page.is_empty() {
        page.line(if is_everything {
            "no links, addresses, routes or rules are declared"
        } else {
            "nothing that is declared is like that"
        });
    }
    page.print()
}

/// All parts together.
fn read(client: &mut Client, of: &Selection) -> anyhow::Result<Network> {
    let mut network = Network::default();
    let mut after = None;
    loop {
        let request = Request::Routes { of: of.clone(), after, limit: PART_LIMIT };
        let part: Network = client.ask(&request)?;
        network.links.extend(part.links);
        network.addresses.extend(part.addresses);
        network.routes.extend(part.routes);
        network.rules.extend(part.rules);
        (network.counts, network.not_kept) = (part.counts, part.not_kept);
        match part.next {
            Some(next) => after = Some(next),
            None => return Ok(network),
        }
    }
}

fn show_difference(ask: &Ask) -> anyhow::Result<()> {
    let mut client = Client::connect(&ask.socket.socket)?;
    let mut difference = Difference::default();
    let mut after = None;
    loop {
        let part: Difference = client.ask(&Request::RoutesDiff { after, limit: PART_LIMIT })?;
        difference.changes.extend(part.changes);
        match part.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    if ask.json {
        return print_json(&difference);
    }
    let mut page = Page::new();
    describe_difference(&mut page, &difference.changes);
    page.print()
}

/// Commands that a shell would take, and nothing that it would not.
fn describe_difference(page: &mut Page, changes: &[PlannedChange]) {
    if changes.is_empty() {
        page.line("nothing to do");
    }
    for PlannedChange { command, refused, next_try_ms } in changes {
        match refused {
            None => page.line(command),
            Some(words) => {
                let again = again(*next_try_ms);
                page.line(&format!("{command}  # refused: {words}{again}"));
            }
        }
    }
}

pub(super) fn describe(page: &mut Page, network: &Network) {
    let links = network.links.iter().map(|link| (link.object.as_str(), &link.standing));
    objects(page, "LINK", links);
    let addresses = network.addresses.iter().map(|one| (one.object.as_str(), &one.standing));
    objects(page, "ADDRESS", addresses);
    routes(page, &network.routes);
    let rules: Vec<_> =
        network.rules.iter().map(|rule| (rule_words(rule), &rule.standing)).collect();
    objects(page, "RULE", rules.iter().map(|(words, standing)| (words.as_str(), *standing)));
    summary(page, network);
}

fn objects<'a>(
    page: &mut Page,
    heading: &str,
    objects: impl Iterator<Item = (&'a str, &'a Standing)>,
) {
    let mut table = Table::new(&[heading, "STATE", "WHY"]);
    let mut any = false;
    for (object, standing) in objects {
        any = true;
        table.row([object.into(), styled(&standing.state), why(standing).into()]);
    }
    if any {
        page.gap();
        page.table(&table);
    }
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
            styled(&route.standing.state),
            why(&route.standing).into(),
        ]);
    }
    page.gap();
    page.table(&table);
}

/// How many are in which state, and what is wrong with all of them.
fn summary(page: &mut Page, network: &Network) {
    let Counts { installed, pending, conflicting, failed } = network.counts;
    let counts = [
        (installed, "installed"),
        (pending, "pending"),
        (conflicting, "conflicting"),
        (failed, "failed"),
    ];
    let declared = installed + pending + conflicting + failed;
    let shown =
        network.links.len() + network.addresses.len() + network.routes.len() + network.rules.len();
    if declared > FEW || declared > shown as u64 {
        let counted: Vec<String> = counts
            .iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, word)| format!("{number} {word}"))
            .collect();
        let hidden = declared.saturating_sub(shown as u64);
        let left_out = if hidden > 0 { format!(" ({hidden} not shown)") } else { String::new() };
        page.gap();
        page.line(&format!("in all {declared}: {}{left_out}", counted.join(", ")));
    }
    if let Some(why) = &network.not_kept {
        page.words(&[
            Cell::styled("not kept", Style::Bad),
            format!("what is made with another protocol number than lockstep's: {why}").into(),
        ]);
    }
}

/// So many are counted by whoever reads them.
const FEW: u64 = 20;

fn why(standing: &Standing) -> String {
    let reason = standing.reason.as_deref().unwrap_or_default();
    format!("{reason}{}", again(standing.next_try_ms))
}

/// When something that was refused is tried again.
fn again(next_try_ms: Option<u64>) -> String {
    match next_try_ms {
        None => String::new(),
        Some(millis @ ..1_000) => format!("; tried again in {millis} ms"),
        Some(millis) => format!("; tried again in {} s", millis.div_ceil(1_000)),
    }
}

/// As `ip route` writes it, without the table.
fn in_words(route: &Route) -> String {
    let mut words = Vec::new();
    if route.kind != "unicast" {
        words.push(route.kind.clone());
    }
    words.push(route.destination.clone());
    let several = route.next_hops.len() > 1;
    for NextHop { via, interface, weight, onlink } in &route.next_hops {
        if several {
            words.push("nexthop".to_owned());
        }
        words.extend(via.iter().map(|via| format!("via {via}")));
        words.extend(interface.iter().map(|interface| format!("dev {interface}")));
        if several {
            words.push(format!("weight {weight}"));
        }
        if *onlink {
            words.push("onlink".to_owned());
        }
    }
    words.extend(route.source.iter().map(|source| format!("src {source}")));
    words.extend(route.metric.iter().map(|metric| format!("metric {metric}")));
    words.extend(route.mtu.iter().map(|mtu| format!("mtu {mtu}")));
    words.join(" ")
}

/// A rule; without a network nothing else tells its family.
fn rule_words(rule: &Rule) -> String {
    let is_told = rule.family == "ipv4" || rule.from.is_some() || rule.to.is_some();
    let family = if is_told { "" } else { "-6 " };
    format!("{family}{}", rule.object)
}

fn styled(state: &str) -> Cell {
    let style = match state {
        "installed" => Style::Good,
        "pending" => Style::Notable,
        "conflicting" | "failed" => Style::Bad,
        _ => Style::Plain,
    };
    Cell::styled(state, style)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Link;

    fn standing(state: &str, reason: Option<&str>) -> Standing {
        let (state, reason) = (state.to_owned(), reason.map(str::to_owned));
        Standing { state, reason, next_try_ms: None }
    }

    fn by(via: Option<&str>, interface: Option<&str>) -> NextHop {
        let (via, interface) = (via.map(str::to_owned), interface.map(str::to_owned));
        NextHop { via, interface, weight: 1, onlink: false }
    }

    fn route(kind: &str, destination: &str, next_hops: Vec<NextHop>) -> Route {
        Route {
            table: "static_route".to_owned(),
            kind: kind.to_owned(),
            destination: destination.to_owned(),
            next_hops,
            standing: standing("installed", None),
            ..Route::default()
        }
    }

    #[test]
    fn a_pending_route_says_what_it_waits_for() {
        let network = Network {
            links: vec![Link {
                object: "eth2".to_owned(),
                standing: standing("pending", Some("group gateway is backup")),
                ..Link::default()
            }],
            routes: vec![
                Route {
                    table: "Table_eth2".to_owned(),
                    ..route("throw", "10.147.46.0/24", Vec::new())
                },
                Route {
                    standing: standing("pending", Some("link eth2 is down")),
                    ..route("unicast", "10.147.70.0/24", vec![by(Some("10.147.52.1"), None)])
                },
            ],
            counts: Counts { installed: 1, pending: 2, ..Counts::default() },
            ..Network::default()
        };
        let mut page = Page::plain();
        describe(&mut page, &network);
        let expected = "\
LINK  STATE    WHY
eth2  pending  group gateway is backup

ROUTE                           TABLE         STATE      WHY
throw 10.147.46.0/24            Table_eth2    installed
10.147.70.0/24 via 10.147.52.1  static_route  pending    link eth2 is down
";
        assert_eq!(page.text(), expected);
    }

    #[test]
    fn a_route_is_shown_with_all_its_next_hops() {
        let two = vec![
            NextHop { weight: 2, ..by(Some("10.0.0.1"), Some("eth0")) },
            NextHop { onlink: true, ..by(Some("fe80::1"), Some("eth1")) },
        ];
        let words = in_words(&Route {
            source: Some("10.0.0.9".to_owned()),
            metric: Some(7),
            mtu: Some(1400),
            ..route("unicast", "default", two)
        });
        assert_eq!(
            words,
            "default nexthop via 10.0.0.1 dev eth0 weight 2 nexthop via fe80::1 dev eth1 weight 1 \
             onlink src 10.0.0.9 metric 7 mtu 1400"
        );
        assert_eq!(
            in_words(&route("unicast", "192.0.2.0/24", vec![by(None, Some("eth0"))])),
            "192.0.2.0/24 dev eth0"
        );
    }

    #[test]
    fn what_is_not_shown_is_counted() {
        let failed = Standing {
            next_try_ms: Some(12_345),
            ..standing("failed", Some("File exists (3 times)"))
        };
        let network = Network {
            routes: vec![Route { standing: failed, ..route("unreachable", "default", Vec::new()) }],
            counts: Counts { installed: 99_999, failed: 1, ..Counts::default() },
            not_kept: Some("cannot write /var/lib/lockstep/routes.json".to_owned()),
            ..Network::default()
        };
        let mut page = Page::plain();
        describe(&mut page, &network);
        let expected = "\
ROUTE                TABLE         STATE   WHY
unreachable default  static_route  failed  File exists (3 times); tried again in 13 s

in all 100000: 99999 installed, 1 failed (99999 not shown)
not kept what is made with another protocol number than lockstep's: cannot write /var/lib/lockstep/routes.json
";
        assert_eq!(page.text(), expected);
    }

    #[test]
    fn nothing_declared_shows_nothing() {
        let mut page = Page::plain();
        describe(&mut page, &Network::default());
        assert!(page.is_empty());
    }

    #[test]
    fn what_would_be_done_is_shown_as_commands_and_nothing_as_nothing() {
        let mut page = Page::plain();
        describe_difference(&mut page, &[]);
        let add = "ip route add throw 10.147.46.0/24 table 2".to_owned();
        let refused = PlannedChange {
            command: "ip route add default via 10.0.0.1 table 2".to_owned(),
            refused: Some("Network is unreachable".to_owned()),
            next_try_ms: Some(800),
        };
        let changes = [PlannedChange { command: add, ..PlannedChange::default() }, refused];
        describe_difference(&mut page, &changes);
        let expected = "\
nothing to do
ip route add throw 10.147.46.0/24 table 2
ip route add default via 10.0.0.1 table 2  # refused: Network is unreachable; tried again in 800 ms
";
        assert_eq!(page.text(), expected);
    }
}
