//! `lockstep explain`: why this router is master or not, now, and what would change that.

use super::Ask;
use super::output::{Cell, Page, print_json};
use super::status::state_style;
use crate::control::client::Client;
use crate::control::protocol::Request;
use crate::status::Explanation;

pub(super) fn show(group: Option<&str>, ask: &Ask) -> anyhow::Result<()> {
    let mut client = Client::connect(&ask.socket.socket)?;
    let mut explanations: Vec<Explanation> = client.ask(&Request::Explain {})?;
    if let Some(name) = group {
        explanations.retain(|explanation| explanation.group == name);
        anyhow::ensure!(!explanations.is_empty(), "there is no group {name}");
    }
    if ask.json {
        return print_json(&explanations);
    }
    let mut page = Page::new();
    if explanations.is_empty() {
        page.line("no group is configured");
    }
    for explanation in &explanations {
        page.gap();
        describe(&mut page, explanation);
    }
    page.print()
}

fn describe(page: &mut Page, explanation: &Explanation) {
    let Explanation { group, state, since, because, would_change, replicated: _ } = explanation;
    page.words(&[
        Cell::from(format!("{group} is")),
        Cell::styled(state, state_style(state)),
        Cell::from(format!("since {since}")),
    ]);
    list(page, "because", because);
    list(page, "it changes when", would_change);
}

fn list(page: &mut Page, title: &str, sentences: &[String]) {
    if sentences.is_empty() {
        return;
    }
    page.line(&format!("  {title}"));
    for sentence in sentences {
        page.line(&format!("    - {sentence}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_shown_with_its_reasons_and_what_would_change_them() {
        let explanation = Explanation {
            group: "gateway".to_owned(),
            state: "backup".to_owned(),
            since: "2026-03-01T12:00:00.000Z".to_owned(),
            because: vec!["inside: 10.1.1.3 is master with priority 150".to_owned()],
            would_change: vec!["inside: our priority is above 150".to_owned()],
            replicated: false,
        };
        let mut page = Page::plain();
        describe(&mut page, &explanation);
        let expected = "\
gateway is backup since 2026-03-01T12:00:00.000Z
  because
    - inside: 10.1.1.3 is master with priority 150
  it changes when
    - inside: our priority is above 150
";
        assert_eq!(page.text(), expected);
    }
}
