//! Which command tells whom of what.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep_failover::hooks::{DEFAULT_TIMEOUT, Form, Hook, HookQueue};
use lockstep_failover::{Group, Notify, OnFailure};

/// The hooks of the configuration.
pub(super) struct Scripts {
    groups: BTreeMap<String, Owner>,
    virtual_routers: BTreeMap<String, Notify>,
}

struct Owner {
    /// A virtual router that is in no group.
    alone: bool,
    notify: Notify,
}

impl Scripts {
    pub(super) fn new(groups: &[Group]) -> Self {
        let owner = |group: &Group| Owner { alone: group.alone, notify: group.notify.clone() };
        let members = groups.iter().flat_map(|group| &group.virtual_routers);
        Self {
            groups: groups.iter().map(|group| (group.name.clone(), owner(group))).collect(),
            virtual_routers: members.map(|one| (one.name.clone(), one.notify.clone())).collect(),
        }
    }

    /// A queue for all of them.
    pub(super) fn queue(&self) -> HookQueue {
        let mut queue = HookQueue::new();
        for (name, owner) in &self.groups {
            for form in forms(&owner.notify) {
                queue.declare_group(name, form);
            }
        }
        for (name, notify) in &self.virtual_routers {
            for form in forms(notify) {
                queue.declare_virtual_router(name, form);
            }
        }
        queue
    }

    /// Whether the commands at a place are the same in both, and run by the same user.
    pub(super) fn agrees(&self, other: &Self, of_router: bool, name: &str, form: Form) -> bool {
        let commands = |scripts: &Self| {
            let notify = if of_router {
                scripts.virtual_routers.get(name)
            } else {
                scripts.groups.get(name).map(|owner| &owner.notify)
            };
            notify.filter(|notify| forms(notify).contains(&form)).map(|notify| {
                let Notify { master, backup, fault, stop, every, user, .. } = notify.clone();
                let of_state = [master, backup, fault, stop];
                match form {
                    Form::OfState => (of_state, None, user),
                    Form::General => ([const { None }; 4], every, user),
                }
            })
        };
        let commands_there = commands(self);
        commands_there.is_some() && commands_there == commands(other)
    }

    /// Whether a group is a virtual router by itself; `None` when there is no such group.
    pub(super) fn is_alone(&self, group: &str) -> Option<bool> {
        self.groups.get(group).map(|owner| owner.alone)
    }

    /// Where the commands for a hook stand.
    pub(super) fn notify(&self, group: &str, virtual_router: Option<&str>) -> Option<&Notify> {
        match virtual_router {
            Some(name) => self.virtual_routers.get(name),
            None => self.groups.get(group).map(|owner| &owner.notify),
        }
    }

    /// The forms in which somebody is told at all.
    pub(super) fn forms(&self, group: &str, virtual_router: Option<&str>) -> Vec<Form> {
        self.notify(group, virtual_router).map(forms).unwrap_or_default()
    }

    /// The command of a hook, with keepalived's arguments.
    pub(super) fn command(&self, hook: &Hook) -> Option<Vec<String>> {
        let notify = self.of(hook)?;
        match hook.form {
            Form::OfState => notify.of_state(hook.notice.to).map(<[String]>::to_vec),
            Form::General => {
                let (every, arguments) = (notify.every.as_ref()?, hook.notice.arguments()?);
                Some(every.iter().cloned().chain(arguments).collect())
            }
        }
    }

    pub(super) fn of(&self, hook: &Hook) -> Option<&Notify> {
        self.notify(&hook.notice.group, hook.notice.virtual_router.as_deref())
    }

    /// Whether the group cannot do without it.
    pub(super) fn matters(&self, hook: &Hook) -> bool {
        self.of(hook).is_some_and(|notify| notify.on_failure == OnFailure::Fault)
    }
}

/// How long the hooks there may run.
pub(super) fn limit(notify: Option<&Notify>) -> Duration {
    notify.and_then(|notify| notify.timeout).unwrap_or(DEFAULT_TIMEOUT)
}

/// keepalived's order.
fn forms(notify: &Notify) -> Vec<Form> {
    let of_states = Notify { every: None, ..notify.clone() };
    let of_states = (!of_states.is_empty()).then_some(Form::OfState);
    of_states.into_iter().chain(notify.every.as_ref().map(|_| Form::General)).collect()
}
