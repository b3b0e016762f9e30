//! Why a virtual router is what it is now, and what would change that, in sentences for people.

use std::time::{Duration, Instant};

use super::{VirtualRouter, seconds};
use crate::config::Priority;
use crate::event::{Heard, State};

/// Why a virtual router is what it is, and what would change that.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// Why, in sentences.
    pub because: Vec<String>,
    /// What would make it something else, in sentences.
    pub would_change: Vec<String>,
}

impl VirtualRouter {
    /// Why it is what it is at `now`. Says nothing of what its group waits for.
    pub fn standing(&self, now: Instant) -> Standing {
        match self.state {
            State::Initialize => Standing {
                because: vec!["it takes no part in the election".to_owned()],
                would_change: Vec::new(),
            },
            State::Backup { master_down_at, elected, .. } => {
                self.backup_standing(master_down_at, elected, now)
            }
            State::Master { .. } => self.master_standing(now),
        }
    }

    fn backup_standing(&self, master_down_at: Instant, elected: bool, now: Instant) -> Standing {
        let mut standing = Standing::default();
        let Standing { because, would_change } = &mut standing;
        if elected {
            because.push("it is elected, and waits for the rest of its group".to_owned());
            return standing;
        }
        let rest = self.election_at(master_down_at).saturating_duration_since(now);
        if self.withheld {
            because.push(
                "no master is heard, and a neighbour that it does not understand is there"
                    .to_owned(),
            );
            would_change.push(format!("the neighbour is silent for {} s more", seconds(rest)));
            return standing;
        }
        match self.heard {
            Some(heard) if !heard.resigned => self.beside_a_master(heard, rest, now, &mut standing),
            Some(Heard { address, .. }) => {
                because.push(format!("{address} has stopped (priority 0)"));
                would_change.push(format!("nobody else claims for {} s more", seconds(rest)));
            }
            None => {
                because.push("it has heard nobody yet and listens".to_owned());
                would_change.push(format!("nobody is heard for {} s more", seconds(rest)));
            }
        }
        standing
    }

    fn beside_a_master(&self, heard: Heard, rest: Duration, now: Instant, to: &mut Standing) {
        let Heard { address, priority, at, .. } = heard;
        let ours = self.priority.value();
        let ago = seconds(now.saturating_duration_since(at));
        to.because.push(format!(
            "{address} is master with priority {priority}, heard {ago} s ago; ours is {ours}"
        ));
        to.would_change.push(format!(
            "{address} is silent for {} s more, or says that it stops (priority 0)",
            seconds(rest)
        ));
        let owner = self.priority == Priority::OWNER;
        if !self.config.preempt && !owner {
            to.because.push("it does not preempt (`preempt = false`)".to_owned());
            return;
        }
        if priority >= ours {
            if priority < u8::MAX {
                to.would_change.push(format!("our priority is above {priority}"));
            }
            return;
        }
        if self.yields_to() == Some(address) {
            let why = "mastership was handed over to it, so that priority does not count now";
            to.because.push(why.to_owned());
            return;
        }
        if !self.preempt_allowed {
            to.because.push("its group does not let it preempt yet".to_owned());
            return;
        }
        let delay = self.lower_since.map(|since| since + self.config.preempt_delay);
        if let Some(wait) = delay.and_then(|until| until.checked_duration_since(now))
            && !owner
        {
            to.because.push(format!("preempt-delay has {} s to go", seconds(wait)));
        }
    }

    fn master_standing(&self, now: Instant) -> Standing {
        let ours = self.priority;
        let because = if ours == Priority::OWNER {
            "it owns the addresses (priority 255)".to_owned()
        } else {
            format!("nobody better is heard; its priority is {ours}")
        };
        let tie = match self.primary {
            Some(primary) => format!(", or with the same from an address above {primary}"),
            None => String::new(),
        };
        let would_change = if ours == Priority::OWNER {
            Vec::new()
        } else {
            vec![format!("an advertisement with a priority above {ours} is heard{tie}")]
        };
        let other = self.other_master(now).map(|other| other.sentence(now));
        Standing { because: [because].into_iter().chain(other).collect(), would_change }
    }
}
