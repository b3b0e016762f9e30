//! What the demo tells, to a person who has never heard of VRRP.

use std::time::Instant;

use lockstep_lab::{Lab, Node, RouterId};

use super::options::{FirewallKind, Options};
use super::report::{Change, Counts, Event, Report};
use super::stage::Stage;
use crate::cli::output::{Cell, Page, Style, Table, print_json};

/// Tells the story as it goes, or, for JSON, only its end.
pub(super) struct Story {
    json: bool,
    began: Instant,
    user_namespace: bool,
}

impl Story {
    pub(super) fn new(json: bool) -> Self {
        Self { json, began: Instant::now(), user_namespace: false }
    }

    /// Whoever looks around has to enter a user namespace, too.
    pub(super) fn in_user_namespace(&mut self) {
        self.user_namespace = true;
    }

    /// What will be seen.
    pub(super) fn introduce(&mut self, options: &Options) -> anyhow::Result<()> {
        self.show(|page| {
            for line in PICTURE.lines() {
                page.line(line);
            }
            page.line(&format!(
                "One router at a time is in charge: it holds {} towards the client and {} towards",
                Lab::LAN_VIRTUAL,
                Lab::WAN_VIRTUAL
            ));
            page.line("the server. The other one stands by. The one in charge remembers every connection that");
            page.line("passes through it; one that is not remembered dies. So whoever takes over must know them all.");
            page.line(&format!(
                "A connection the routers have forgotten would be {} (--firewall {}).",
                match options.firewall {
                    FirewallKind::Strict => "dropped without a word",
                    FirewallKind::Default => "reset",
                },
                match options.firewall {
                    FirewallKind::Strict => "strict",
                    FirewallKind::Default => "default",
                }
            ));
            page.line("");
        })
    }

    /// Something went as planned.
    pub(super) fn tell(&mut self, sentence: &str) -> anyhow::Result<()> {
        self.at_this_moment(sentence, Style::Plain)
    }

    /// Something goes wrong, as planned.
    pub(super) fn alarm(&mut self, sentence: &str) -> anyhow::Result<()> {
        self.at_this_moment(sentence, Style::Bad)
    }

    /// What a change of mastership did.
    pub(super) fn measure(&mut self, event: &Event) -> anyhow::Result<()> {
        self.show(|page| {
            page.line("");
            let beginning = match event.change {
                Change::Failover => "the failure",
                Change::Failback => "the repair",
            };
            page.words(&[Cell::styled(
                format!(
                    "Inside router {}, from {} ms after {beginning} on:",
                    event.master, event.noticed_ms
                ),
                Style::Heading,
            )]);
            page.table(&timeline(event));
            page.line("");
            page.words(&[Cell::styled("Seen from the client:", Style::Heading)]);
            page.line(&format!("  {}", outage(event)));
            page.line(&format!(
                "  longest pause of a surviving connection: {} ms (TCP tries again later and later)",
                event.longest_stall_ms
            ));
            page.words(&[
                Cell::from("  connections:"),
                Cell::styled(counts(&event.connections), style(event.survived())),
            ]);
            for loss in event.losses.iter().take(SHOWN_LOSSES) {
                page.line(&format!("    lost: {loss}"));
            }
            if event.flows_expected > 0 {
                page.line(&format!(
                    "  other connections now in router {}'s kernel: {} of {}",
                    event.master, event.flows_carried, event.flows_expected
                ));
            }
            page.line("");
        })
    }

    /// The verdict, or the whole report as JSON.
    pub(super) fn conclude(&mut self, report: &Report) -> anyhow::Result<()> {
        if self.json {
            #[derive(serde::Serialize)]
            struct Whole<'a> {
                #[serde(flatten)]
                report: &'a Report,
                survived: bool,
            }
            return print_json(&Whole { report, survived: report.survived() });
        }
        let survived = report.survived();
        self.show(|page| {
            let verdict = if survived {
                format!("VERDICT: all {} connections survived.", report.connections)
            } else {
                "VERDICT: connections were lost.".to_owned()
            };
            page.words(&[Cell::styled(verdict, style(survived))]);
        })
    }

    /// How to look around while everything is up.
    pub(super) fn show_around(&mut self, stage: &Stage) -> anyhow::Result<()> {
        let user = if self.user_namespace {
            format!(" --preserve-credentials --user=/proc/{}/ns/user", std::process::id())
        } else {
            String::new()
        };
        let enter = |host: &Node| format!("  nsenter{user} --net={} sh", host.path().display());
        self.show(|page| {
            page.line("");
            page.line("Everything is still up. To look around, in another terminal:");
            for id in RouterId::BOTH {
                let files = stage.files(id);
                page.line("");
                let Ok(router) = stage.router(id) else {
                    page.line(&format!("router {}: switched off", id.name()));
                    continue;
                };
                let process = stage.daemon(id).map_or_else(
                    |_| "no daemon".to_owned(),
                    |daemon| format!("daemon: process {}", daemon.id()),
                );
                page.line(&format!(
                    "router {} ({process}, log {})",
                    id.name(),
                    files.log.display()
                ));
                page.line(&format!("  lockstep status --socket {}", files.socket.display()));
                page.line(&format!("  lockstep journal --socket {}", files.socket.display()));
                page.line(&enter(router));
            }
            for host in stage.hosts() {
                page.line("");
                page.line(host.name());
                page.line(&enter(host));
            }
            page.line("");
            page.line("Ctrl-C ends it all.");
        })
    }

    fn at_this_moment(&mut self, sentence: &str, style: Style) -> anyhow::Result<()> {
        let seconds = self.began.elapsed().as_secs_f64();
        self.show(|page| {
            page.words(&[Cell::from(format!("{seconds:7.2} s ")), Cell::styled(sentence, style)]);
        })
    }

    fn show(&mut self, fill: impl FnOnce(&mut Page)) -> anyhow::Result<()> {
        if self.json {
            return Ok(());
        }
        let mut page = Page::new();
        fill(&mut page);
        page.print()
    }
}

fn timeline(event: &Event) -> Table {
    let mut table = Table::new(&["  START", "TOOK", "STEP", "WHAT IT MEANS", "DETAIL"]);
    for step in &event.steps {
        table.row([
            Cell::from(format!("  +{}", milliseconds(step.started_us))),
            Cell::from(step.took_us.map_or_else(|| "-".to_owned(), milliseconds)),
            Cell::from(&step.step),
            Cell::from(meaning(&step.step)),
            Cell::styled(
                if step.outcome == "done" { step.detail.clone() } else { unfinished(step) },
                if step.outcome == "failed" { Style::Bad } else { Style::Plain },
            ),
        ]);
    }
    table
}

fn unfinished(step: &crate::status::TransitionStep) -> String {
    format!("{}: {}", step.outcome, step.detail)
}

fn meaning(step: &str) -> &'static str {
    match step {
        "claim" => "tell the other router: I am in charge",
        "commit flows" => "put the remembered connections into my kernel",
        "links up" => "switch on the links only the one in charge uses",
        "addresses" => "take the shared addresses",
        "routes and rules" => "install the routes of the one in charge",
        "announce" => "tell the neighbours where the addresses are now",
        "replicate as active" => "tell the other router of every change from now on",
        "hooks" => "run the administrator's commands",
        _ => "",
    }
}

fn outage(event: &Event) -> String {
    if event.outage.lost == 0 {
        return "no service interruption: every probe was answered".to_owned();
    }
    format!(
        "without service for {} ({} probes unanswered)",
        milliseconds(event.outage.duration_us),
        event.outage.lost
    )
}

fn counts(counts: &Counts) -> String {
    let Counts { alive, reset, stalled, corrupted } = counts;
    let text = format!("{alive} alive, {reset} reset, {stalled} stalled");
    if *corrupted == 0 { text } else { format!("{text}, {corrupted} with wrong content") }
}

fn style(good: bool) -> Style {
    if good { Style::Good } else { Style::Bad }
}

fn milliseconds(us: u64) -> String {
    format!("{}.{} ms", us / 1000, us % 1000 / 100)
}

const SHOWN_LOSSES: usize = 5;

const PICTURE: &str = "
                        +----------+
               +--------| router A |--------+
  +--------+   |        +----------+        |   +--------+
  | client |---+ LAN         |          WAN +---| server |
  +--------+   |        +----------+        |   +--------+
               +--------| router B |--------+
                        +----------+
";

#[cfg(test)]
mod tests {
    use lockstep_failover::Step;

    use super::*;

    #[test]
    fn every_step_of_taking_over_has_a_meaning() {
        for step in [
            Step::Claim,
            Step::CommitFlows,
            Step::LinksUp,
            Step::AddressesUp,
            Step::RoutesUp,
            Step::Announce,
            Step::ReplicateActive,
            Step::Hooks,
        ] {
            assert_ne!(meaning(step.as_str()), "", "{step:?}");
        }
    }
}
