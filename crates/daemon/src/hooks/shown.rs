//! What hooks are told, and what people are told of hooks.

use lockstep_failover::hooks::{Form, Hook, Notice};

use super::{Hooks, Reader, Running};
use crate::status;

/// The environment of a hook, beside the daemon's own.
pub(super) fn environment(router: &str, notice: &Notice) -> Vec<(&'static str, String)> {
    let mut environment = vec![
        ("LOCKSTEP_ROUTER", router.to_owned()),
        ("LOCKSTEP_GROUP", notice.group.clone()),
        ("LOCKSTEP_STATE", notice.to.as_str().to_owned()),
        ("LOCKSTEP_PREVIOUS_STATE", notice.from.as_str().to_owned()),
        ("LOCKSTEP_PRIORITY", notice.priority.to_string()),
        ("LOCKSTEP_REASON", notice.reason.clone()),
    ];
    if let Some(name) = &notice.virtual_router {
        environment.push(("LOCKSTEP_VIRTUAL_ROUTER", name.clone()));
    }
    environment
}

/// By what the last run of a hook is kept: groups in front of their virtual routers.
pub(super) fn place(hook: &Hook) -> String {
    let Notice { group, virtual_router, .. } = &hook.notice;
    let form = match hook.form {
        Form::OfState => "state",
        Form::General => "general",
    };
    format!("{group} {} {form}", virtual_router.as_deref().unwrap_or_default())
}

impl Hooks {
    /// A hook of an earlier life, the last run of each hook, then the one that runs, then those that
    /// wait; and the pipe.
    pub(super) fn show(&self) {
        let earlier = self.earlier.as_ref().map(|wait| status::Hook {
            group: wait.hook.group.clone().unwrap_or_default(),
            virtual_router: wait.hook.virtual_router.clone(),
            state: wait.hook.state.clone().unwrap_or_default(),
            result: match wait.hook.pid {
                Some(pid) => format!("left by an earlier life, waited for (process {pid})"),
                None => "left by an earlier life, waited for".to_owned(),
            },
            command: wait.hook.command.clone(),
            started: None,
            took_ms: None,
            output: Vec::new(),
        });
        let running = self.running.as_ref().map(Running::shown);
        let due = self.queue.waiting().filter_map(|hook| Some((hook, self.scripts.command(hook)?)));
        let waiting = due.map(|(hook, command)| status::Hook {
            result: "waiting".to_owned(),
            command: command.join(" "),
            ..of_notice(&hook.notice)
        });
        let last = self.last.values().cloned();
        let shown = earlier.into_iter().chain(last).chain(running).chain(waiting).collect();
        self.runs_shown.send_replace(shown);
        let reader = self.reader.as_ref().map(Reader::shown);
        self.fifo_shown.send_replace(self.fifo.as_ref().map(|fifo| fifo.shown(reader)));
    }
}

impl Running {
    pub(super) fn shown(&self) -> status::Hook {
        status::Hook {
            result: "running".to_owned(),
            command: self.command.clone(),
            started: Some(status::timestamp(self.started)),
            ..of_notice(&self.hook.notice)
        }
    }
}

fn of_notice(notice: &Notice) -> status::Hook {
    status::Hook {
        group: notice.group.clone(),
        virtual_router: notice.virtual_router.clone(),
        state: notice.to.as_str().to_owned(),
        result: String::new(),
        command: String::new(),
        started: None,
        took_ms: None,
        output: Vec::new(),
    }
}
