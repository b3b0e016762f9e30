//! `lockstep journal`: the last transitions and the timeline of their steps.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Ask;
use super::output::{Cell, Page, Style, Table, print_json, print_json_line};
use super::status::state_style;
use crate::control::client::{Client, Ended};
use crate::control::protocol::Request;
use crate::status::{Transition, TransitionStep};

/// How often `--follow` asks.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);
/// How long `--follow` holds back a transition so that it can be shown with all its steps.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(3);
/// How long `--follow` waits for another daemon in the place of one that has ended.
const RETURN_PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn show(follow: bool, ask: &Ask) -> anyhow::Result<()> {
    let mut client = Client::connect(&ask.socket.socket)?;
    if follow {
        return show_as_they_happen(client, ask);
    }
    let transitions: Vec<Transition> = client.ask(&Request::Journal { after: 0 })?;
    if ask.json {
        return print_json(&transitions);
    }
    let mut page = Page::new();
    if transitions.is_empty() {
        page.line("no transition yet");
    }
    for transition in &transitions {
        page.gap();
        describe(&mut page, transition);
    }
    page.print()
}

fn show_as_they_happen(mut client: Client, ask: &Ask) -> anyhow::Result<()> {
    let mut shown = 0;
    let mut held_since = None;
    loop {
        let transitions: Vec<Transition> = match client.ask(&Request::Journal { after: shown }) {
            Err(error) if error.is::<Ended>() => {
                client = connect_again(ask).ok_or(error)?;
                continue;
            }
            answer => answer?,
        };
        for transition in transitions {
            if is_under_way(&transition)
                && held_since.get_or_insert_with(Instant::now).elapsed() < FOLLOW_PATIENCE
            {
                break;
            }
            held_since = None;
            shown = transition.number;
            if ask.json {
                print_json_line(&transition)?;
            } else {
                let mut page = Page::new();
                describe(&mut page, &transition);
                page.gap();
                page.print()?;
            }
        }
        sleep(FOLLOW_INTERVAL);
    }
}

/// Whoever follows a daemon wants to know how the next one begins; `None` when none does.
fn connect_again(ask: &Ask) -> Option<Client> {
    let deadline = Instant::now() + RETURN_PATIENCE;
    while Instant::now() < deadline {
        sleep(FOLLOW_INTERVAL);
        if let Ok(client) = Client::connect(&ask.socket.socket) {
            return Some(client);
        }
    }
    None
}

fn is_under_way(transition: &Transition) -> bool {
    !transition.is_over
}

fn describe(page: &mut Page, transition: &Transition) {
    let Transition { number, at, group, from, to, reason, view, steps, is_over: _ } = transition;
    page.words(&[
        Cell::from(format!("#{number}  {at}  {group}: {from} ->")),
        Cell::styled(to, state_style(to)),
    ]);
    page.line(&format!("  because {reason}"));
    for sentence in view {
        page.line(&format!("  {sentence}"));
    }
    let mut table = Table::new(&["  START", "TOOK", "STEP", "OUTCOME", "DETAIL"]);
    for step in steps {
        table.row([
            format!("  +{}", milliseconds(step.started_us)).into(),
            step.took_us.map_or_else(|| "-".to_owned(), milliseconds).into(),
            (&step.step).into(),
            Cell::styled(&step.outcome, outcome_style(step)),
            (&step.detail).into(),
        ]);
    }
    page.table(&table);
}

fn milliseconds(us: u64) -> String {
    format!("{}.{:03} ms", us / 1000, us % 1000)
}

fn outcome_style(step: &TransitionStep) -> Style {
    match step.outcome.as_str() {
        "failed" => Style::Bad,
        "pending" | "running" => Style::Notable,
        _ => Style::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transition() -> Transition {
        let step = |step: &str, started_us, took_us, outcome: &str, detail: &str| TransitionStep {
            step: step.to_owned(),
            started_us,
            took_us,
            outcome: outcome.to_owned(),
            detail: detail.to_owned(),
        };
        Transition {
            number: 2,
            at: "2026-03-01T12:00:00.000Z".to_owned(),
            group: "gateway".to_owned(),
            from: "backup".to_owned(),
            to: "master".to_owned(),
            reason: "no advertisement from 10.1.1.3 for 3.61 s".to_owned(),
            view: vec!["replication: in sync: all flows of 10.1.1.3 are here".to_owned()],
            is_over: false,
            steps: vec![
                step("claim", 0, Some(210), "done", ""),
                step("commit flows", 210, Some(24_118), "done", "10011 flows"),
                step("routes and rules", 24_400, None, "running", ""),
            ],
        }
    }

    #[test]
    fn a_transition_is_shown_with_its_reason_and_timeline() {
        let mut page = Page::plain();
        describe(&mut page, &transition());
        let expected = "\
#2  2026-03-01T12:00:00.000Z  gateway: backup -> master
  because no advertisement from 10.1.1.3 for 3.61 s
  replication: in sync: all flows of 10.1.1.3 are here
  START       TOOK       STEP              OUTCOME  DETAIL
  +0.000 ms   0.210 ms   claim             done
  +0.210 ms   24.118 ms  commit flows      done     10011 flows
  +24.400 ms  -          routes and rules  running
";
        assert_eq!(page.text(), expected);
    }

    #[test]
    fn a_transition_is_under_way_until_it_is_over() {
        let mut transition = transition();
        assert!(is_under_way(&transition));
        transition.is_over = true;
        assert!(!is_under_way(&transition));
    }
}
