//! What a transition is told as, to whom, and in which order.

use crate::State;

/// A transition of a group, when its turn for hooks has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Transition {
    /// The group.
    pub group: String,
    /// Whether it is a virtual router that is in no group.
    pub alone: bool,
    /// Its virtual routers, in the order of the configuration.
    pub members: Vec<Member>,
    /// The state left.
    pub from: State,
    /// The state entered.
    pub to: State,
    /// Why, in a sentence.
    pub reason: String,
}

/// A virtual router as it is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its priority in force.
    pub priority: u8,
}

/// A new state of one virtual router or of one group, as hooks and the pipe are told it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notice {
    /// The group that has moved.
    pub group: String,
    /// The virtual router that this is about; the group itself without.
    pub virtual_router: Option<String>,
    /// The state left.
    pub from: State,
    /// The state entered.
    pub to: State,
    /// Why, in a sentence.
    pub reason: String,
    /// The priority in force of the virtual router; of a group the lowest of its members.
    pub priority: u8,
}

/// What is to be told of a transition, in keepalived's order: the virtual routers and then their
/// group, except that after the start the group comes first.
pub fn notices(transition: &Transition) -> Vec<Notice> {
    let Transition { group, alone, members, from, to, reason } = transition;
    let notice = |virtual_router: Option<&String>, priority| Notice {
        group: group.clone(),
        virtual_router: virtual_router.cloned(),
        from: *from,
        to: *to,
        reason: reason.clone(),
        priority,
    };
    let mut notices: Vec<Notice> =
        members.iter().map(|member| notice(Some(&member.name), member.priority)).collect();
    if !alone {
        let lowest = members.iter().map(|member| member.priority).min().unwrap_or(0);
        let place = if *from == State::Init { 0 } else { notices.len() };
        notices.insert(place, notice(None, lowest));
    }
    notices
}

impl Notice {
    /// What it is about, by its name.
    pub fn name(&self) -> &str {
        self.virtual_router.as_deref().unwrap_or(&self.group)
    }

    /// What keepalived appends to the command of its general hook. Nothing is told of `init`.
    pub fn arguments(&self) -> Option<[String; 4]> {
        let (kind, priority) = self.kind_and_priority();
        let state = word(self.to)?;
        Some([kind, self.name(), state, &priority.to_string()].map(str::to_owned))
    }

    /// The line that keepalived writes to its pipe, with the newline. Nothing is told of `init`.
    pub fn line(&self) -> Option<String> {
        let (kind, priority) = self.kind_and_priority();
        Some(format!("{kind} \"{}\" {} {priority}\n", self.name(), word(self.to)?))
    }

    /// A group's priority is always told as 0.
    fn kind_and_priority(&self) -> (&'static str, u8) {
        if self.virtual_router.is_some() { ("INSTANCE", self.priority) } else { ("GROUP", 0) }
    }
}

/// keepalived's word for a state.
fn word(state: State) -> Option<&'static str> {
    Some(match state {
        State::Init => return None,
        State::Backup => "BACKUP",
        State::Master => "MASTER",
        State::Fault => "FAULT",
        State::Stopped => "STOP",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transition(from: State, to: State, alone: bool) -> Transition {
        let member = |name: &str, priority| Member { name: name.to_owned(), priority };
        Transition {
            group: "G1".to_owned(),
            alone,
            members: vec![member("VI_1", 150), member("VI_2", 90)],
            from,
            to,
            reason: "a test".to_owned(),
        }
    }

    fn lines(transition: &Transition) -> Vec<String> {
        notices(transition).iter().filter_map(Notice::line).collect()
    }

    #[test]
    fn virtual_routers_come_before_their_group() {
        let expected = [
            "INSTANCE \"VI_1\" MASTER 150\n",
            "INSTANCE \"VI_2\" MASTER 90\n",
            "GROUP \"G1\" MASTER 0\n",
        ];
        assert_eq!(lines(&transition(State::Backup, State::Master, false)), expected);
    }

    #[test]
    fn after_the_start_the_group_comes_first() {
        let lines = lines(&transition(State::Init, State::Backup, false));
        assert_eq!(lines[0], "GROUP \"G1\" BACKUP 0\n");
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_virtual_router_in_no_group_is_told_without_one() {
        let lines = lines(&transition(State::Master, State::Fault, true));
        assert_eq!(lines, ["INSTANCE \"VI_1\" FAULT 150\n", "INSTANCE \"VI_2\" FAULT 90\n"]);
    }

    #[test]
    fn arguments_are_four_words_and_the_end_is_called_stop() {
        let notices = notices(&transition(State::Master, State::Stopped, false));
        let words = |notice: &Notice| notice.arguments().unwrap().join(" ");
        assert_eq!(words(&notices[0]), "INSTANCE VI_1 STOP 150");
        assert_eq!(words(&notices[2]), "GROUP G1 STOP 0");
    }

    #[test]
    fn a_group_is_as_preferred_as_its_least_preferred_member() {
        let notices = notices(&transition(State::Backup, State::Master, false));
        assert_eq!(notices[2].priority, 90);
    }

    #[test]
    fn nothing_is_told_of_init() {
        assert!(lines(&transition(State::Backup, State::Init, false)).is_empty());
    }
}
