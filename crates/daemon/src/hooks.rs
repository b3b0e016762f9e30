//! Runs the notify hooks, one at a time in the whole daemon.
//!
//! Owns the [`HookQueue`], which decides what runs, and the process that does. Hooks do their work
//! in the middle of a failover and must not be cut off by the daemon's end: they get
//! [`STOP_PATIENCE`] and are then left running.

use std::collections::BTreeMap;
use std::future::pending;
use std::time::{Duration, Instant, SystemTime};

use lockstep_failover::hooks::{DEFAULT_TIMEOUT, HookQueue, Transition};
use lockstep_failover::{Group, Notify, Outcome, State, StepId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::messages::{ControlRequest, CoreEvent, HookRequest};
use crate::process::{self, Ended, How};
use crate::status;

/// How long the daemon's end waits for hooks that run or wait.
pub(crate) const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// The hooks of all groups.
pub(crate) struct Hooks {
    router: String,
    notify: BTreeMap<String, Notify>,
    queue: HookQueue,
    running: Option<Running>,
    last: BTreeMap<String, status::Hook>,
    shown: watch::Sender<Vec<status::Hook>>,
    core: mpsc::Sender<CoreEvent>,
}

/// The hook that runs. Its process lives on when this is dropped.
struct Running {
    transition: Transition,
    command: String,
    started: SystemTime,
    started_at: Instant,
    process: JoinHandle<Ended>,
}

impl Hooks {
    /// The hooks of `groups`, and where they are shown for `status`. `core` hears of each end.
    pub(crate) fn new(
        router: String,
        groups: &[Group],
        core: mpsc::Sender<CoreEvent>,
    ) -> (Self, watch::Receiver<Vec<status::Hook>>) {
        let (shown, receiver) = watch::channel(Vec::new());
        let hooks = Self {
            router,
            notify: groups.iter().map(|g| (g.name.clone(), g.notify.clone())).collect(),
            queue: HookQueue::new(groups.iter().map(|group| group.name.clone())),
            running: None,
            last: BTreeMap::new(),
            shown,
            core,
        };
        (hooks, receiver)
    }

    /// Runs what is asked until [`ControlRequest::Stop`] or until nobody can ask any more.
    pub(crate) async fn run(mut self, mut requests: mpsc::Receiver<ControlRequest>) {
        loop {
            tokio::select! {
                request = requests.recv() => match request {
                    Some(ControlRequest::Hooks(hooks)) => {
                        let answers = hooks.into_iter().map(|hook| self.take(hook)).collect();
                        let _ = self.core.send(CoreEvent::Stepped(answers)).await;
                    }
                    Some(ControlRequest::Stop) | None => break,
                },
                ended = ended(&mut self.running) => self.finish(ended).await,
            }
        }
        if timeout(STOP_PATIENCE, self.drain()).await.is_err() {
            self.leave();
        }
    }

    async fn drain(&mut self) {
        while self.running.is_some() {
            let ended = ended(&mut self.running).await;
            self.finish(ended).await;
        }
    }

    fn leave(&self) {
        if let Some(running) = &self.running {
            warn!(
                group = running.transition.group,
                state = running.transition.to.as_str(),
                command = running.command,
                "hook still runs at the daemon's end and is left running"
            );
        }
        for waiting in self.queue.waiting() {
            warn!(group = waiting.group, state = waiting.to.as_str(), "hook not run");
        }
    }

    fn take(&mut self, request: HookRequest) -> (StepId, Outcome) {
        let HookRequest { id, group, from, to, reason, priority } = request;
        (id, self.push(Transition { group, from, to, reason, priority }))
    }

    fn push(&mut self, transition: Transition) -> Outcome {
        let group = transition.group.clone();
        let state = transition.to;
        match self.queue.push(transition) {
            Ok(next) => self.start(next),
            Err(error) => return Outcome::Failed(error.to_string()),
        }
        if let Some(running) = &self.running {
            let runs = &running.transition;
            if runs.group == group && runs.to == state && self.queue.waiting().count() == 0 {
                return Outcome::Done(format!("started {}", running.command));
            }
        }
        if self.queue.waiting().any(|waiting| waiting.group == group) {
            return Outcome::Done("waits for the hook that runs".to_owned());
        }
        match self.command(&group, state) {
            None => Outcome::Done("none configured".to_owned()),
            Some(_) => Outcome::Done("has run for this state already".to_owned()),
        }
    }

    /// Starts `next`, passing over transitions that have no command.
    fn start(&mut self, mut next: Option<Transition>) {
        while let Some(transition) = next {
            if let Some(argv) = self.command(&transition.group, transition.to) {
                self.running = Some(self.launch(argv, transition));
                break;
            }
            debug!(group = transition.group, state = transition.to.as_str(), "no hook configured");
            next = self.queue.ended(true);
        }
        self.show();
    }

    fn launch(&self, argv: Vec<String>, transition: Transition) -> Running {
        let command = argv.join(" ");
        info!(group = transition.group, state = transition.to.as_str(), command, "hook started");
        let limit = self.notify.get(&transition.group).and_then(|notify| notify.timeout);
        let process = tokio::spawn(process::run(process::Command {
            argv,
            environment: environment(&self.router, &transition),
            user: None,
            timeout: limit.unwrap_or(DEFAULT_TIMEOUT),
        }));
        let (started, started_at) = (SystemTime::now(), Instant::now());
        Running { transition, command, started, started_at, process }
    }

    async fn finish(&mut self, ended: Ended) {
        let Some(running) = self.running.take() else { return };
        let took = running.started_at.elapsed();
        let success = ended.success();
        let result = ended.to_string();
        let (group, state) = (&running.transition.group, running.transition.to.as_str());
        if success {
            info!(group, state, ?took, "hook ended");
        } else {
            warn!(group, state, ?took, command = running.command, result, "hook failed");
        }
        let hook = status::Hook {
            took_ms: Some(took.as_millis() as u64),
            output: ended.output,
            result: result.clone(),
            ..running.shown()
        };
        self.last.insert(group.clone(), hook);
        let event = CoreEvent::HookEnded {
            group: group.clone(),
            result: if success { Ok(result) } else { Err(result) },
        };
        let next = self.queue.ended(success);
        self.start(next);
        let _ = self.core.send(event).await;
    }

    fn command(&self, group: &str, state: State) -> Option<Vec<String>> {
        let notify = self.notify.get(group)?;
        match state {
            State::Init => None,
            State::Backup => notify.backup.clone(),
            State::Master => notify.master.clone(),
            State::Fault => notify.fault.clone(),
            State::Stopped => notify.stop.clone(),
        }
    }

    /// The last run of each group, then the one that runs, then those that wait.
    fn show(&self) {
        let running = self.running.as_ref().map(Running::shown);
        let waiting = self.queue.waiting().map(|transition| status::Hook {
            group: transition.group.clone(),
            state: transition.to.as_str().to_owned(),
            result: "waiting".to_owned(),
            command: self.command(&transition.group, transition.to).unwrap_or_default().join(" "),
            started: None,
            took_ms: None,
            output: Vec::new(),
        });
        self.shown
            .send_replace(self.last.values().cloned().chain(running).chain(waiting).collect());
    }
}

impl Running {
    fn shown(&self) -> status::Hook {
        status::Hook {
            group: self.transition.group.clone(),
            state: self.transition.to.as_str().to_owned(),
            result: "running".to_owned(),
            command: self.command.clone(),
            started: Some(status::timestamp(self.started)),
            took_ms: None,
            output: Vec::new(),
        }
    }
}

/// Waits for the end of the running hook, for ever when none runs. Cancel safe.
async fn ended(running: &mut Option<Running>) -> Ended {
    let Some(running) = running else { return pending().await };
    match (&mut running.process).await {
        Ok(ended) => ended,
        Err(error) => Ended { how: How::NotStarted(error.to_string()), output: Vec::new() },
    }
}

fn environment(router: &str, transition: &Transition) -> Vec<(&'static str, String)> {
    vec![
        ("LOCKSTEP_ROUTER", router.to_owned()),
        ("LOCKSTEP_GROUP", transition.group.clone()),
        ("LOCKSTEP_STATE", transition.to.as_str().to_owned()),
        ("LOCKSTEP_PREVIOUS_STATE", transition.from.as_str().to_owned()),
        ("LOCKSTEP_PRIORITY", transition.priority.to_string()),
        ("LOCKSTEP_REASON", transition.reason.clone()),
    ]
}

#[cfg(test)]
mod tests;
