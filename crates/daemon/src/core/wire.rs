//! The steps that are about the wire: claim, stop claiming, announce.
//!
//! What they say leaves at the end of the turn, together with what all others say; only then is it
//! known how the step has ended.

use std::time::Instant;

use lockstep_failover::{Event, Outcome, State, StepId};

use super::Core;

/// A step that ends when the turn's advertisements have left.
#[derive(Debug)]
pub(super) enum WireStep {
    /// These virtual routers have become master.
    Claimed {
        /// To be answered with.
        id: StepId,
        /// Their names.
        members: Vec<String>,
    },
    /// These virtual routers were master, and have told the others to claim.
    Retired {
        /// To be answered with.
        id: StepId,
        /// Their names.
        members: Vec<String>,
    },
    /// These virtual routers were master and have said priority 0.
    Resigned {
        /// To be answered with.
        id: StepId,
        /// Their names.
        members: Vec<String>,
    },
}

impl Core {
    pub(super) fn claim(&mut self, id: StepId, group: &str) -> Option<Outcome> {
        let members: Vec<String> = self.failover.members(group).map(str::to_owned).collect();
        let now = Instant::now();
        if !self.elections.claim_together(&members, now) {
            return Some(Outcome::Failed(self.told(&members).1.join("; ")));
        }
        self.on_the_wire.push(WireStep::Claimed { id, members });
        None
    }

    pub(super) fn stop_claiming(&mut self, id: StepId, group: &str, to: State) -> Option<Outcome> {
        self.announcing.stop(group);
        let mut members: Vec<String> = self.failover.members(group).map(str::to_owned).collect();
        let now = Instant::now();
        if to == State::Backup {
            for member in &members {
                self.elections.relinquish(member, now);
            }
            let text = format!("{} as backup", counted(members.len(), "virtual router"));
            return Some(Outcome::Done(text));
        }
        members.retain(|member| self.elections.shut_down(member, now));
        if members.is_empty() {
            return Some(Outcome::Done("no mastership to give up".to_owned()));
        }
        self.on_the_wire.push(WireStep::Resigned { id, members });
        None
    }

    /// How a step has ended whose advertisements have left or failed to.
    pub(super) fn answer(&self, step: WireStep) -> Event {
        match step {
            WireStep::Claimed { id, members } | WireStep::Retired { id, members } => {
                let (_, failures) = self.told(&members);
                let outcome = if failures.is_empty() {
                    Outcome::Done(counted(members.len(), "advertisement"))
                } else {
                    Outcome::Failed(failures.join("; "))
                };
                Event::Stepped { id, outcome }
            }
            WireStep::Resigned { id, members } => {
                let (told, failures) = self.told(&members);
                let said = format!("priority 0 from {}", counted(told, "virtual router"));
                let unsaid = format!("no priority 0 could be sent: {}", failures.join("; "));
                // Whoever could not be told finds out by silence: it holds nothing up.
                let outcome = match (told, failures.is_empty()) {
                    (_, true) => Outcome::Done(said),
                    (0, false) => Outcome::Done(unsaid),
                    (_, false) => Outcome::Done(format!("{said}; {unsaid}")),
                };
                Event::Stepped { id, outcome }
            }
        }
    }

    /// How many of these have said what they had to say, and what kept the others from it.
    fn told(&self, members: &[String]) -> (usize, Vec<String>) {
        let trouble = |member: &String| {
            let why = self.elections.trouble(member)?;
            Some(format!("{member}: advertisement not sent: {why}"))
        };
        let failures: Vec<String> = members.iter().filter_map(trouble).collect();
        (members.len() - failures.len(), failures)
    }

    /// A group that is resumed has announced its addresses already.
    pub(super) fn announce(&mut self, group: &str, resumed: bool) -> Outcome {
        if resumed {
            self.announcing.resume(group, Instant::now());
            return Outcome::Done("announced before".to_owned());
        }
        let (count, obstacles) = self.announcing.start(group, Instant::now());
        let text = counted(count, "announcement");
        if obstacles.is_empty() {
            Outcome::Done(text)
        } else {
            Outcome::Pending(format!("{text}; {}", obstacles.join("; ")))
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
