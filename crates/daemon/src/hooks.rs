//! Runs the notify hooks, one at a time in the whole daemon, and writes each new state to the pipe.
//!
//! Owns the [`HookQueue`], which decides what runs, and the process that does. Hooks do their work
//! in the middle of a failover and must not be cut off by the daemon's end: they get
//! [`STOP_PATIENCE`] and are then left running. The next daemon waits for one that was left.

mod changing;
mod earlier;
mod fifo;
mod reader;
mod scripts;
mod shown;

use std::collections::BTreeMap;
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use lockstep_config::{Config, NotifyFifo};
use lockstep_failover::hooks::{Hook, HookQueue, Notice, Transition, notices};
use lockstep_failover::{Group, Outcome, StepId};
use lockstep_kernel::identity::LifeLock;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tracing::{debug, error, info, warn};

use crate::messages::{ControlRequest, CoreEvent, HookRequest};
use crate::process::{self, Ended, Lifetime};
use crate::status;
use earlier::{Earlier, Look, Wait};
use fifo::Fifo;
use reader::Reader;
use scripts::Scripts;

/// How long the daemon's end waits for hooks that run or wait.
pub(crate) const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// How often the status says anew how much of the pipe is not read.
const UNREAD_POLL: Duration = Duration::from_secs(1);

/// What the hooks are, and whom they are about.
pub(crate) struct Settings {
    /// The router's name.
    pub router: String,
    /// The groups, with their hooks and their members'.
    pub groups: Vec<Group>,
    /// Where the lock is that hooks hold.
    pub state_directory: PathBuf,
    /// The pipe for new states.
    pub fifo: Option<NotifyFifo>,
    /// Whether programs are run that others could replace.
    pub insecure: bool,
}

impl Settings {
    /// What a configuration says of hooks.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            router: config.router_id.clone(),
            groups: config.failover.groups.clone(),
            state_directory: config.state_directory.clone(),
            fifo: config.notify_fifo.clone(),
            insecure: config.allow_insecure_scripts,
        }
    }
}

/// What `status` shows.
#[derive(Clone)]
pub(crate) struct Shown {
    /// The last run of each hook, the one that runs, those that wait.
    pub hooks: watch::Receiver<Vec<status::Hook>>,
    /// The pipe.
    pub fifo: watch::Receiver<Option<status::Fifo>>,
}

/// The hooks of all groups.
pub(crate) struct Hooks {
    router: String,
    scripts: Scripts,
    insecure: bool,
    queue: HookQueue,
    running: Option<Running>,
    lock: Option<Arc<LifeLock>>,
    /// A hook that an earlier life of the daemon has left.
    earlier: Option<Wait>,
    /// What the pipe and its reader are made by.
    pipe: Option<NotifyFifo>,
    fifo: Option<Fifo>,
    reader: Option<Reader>,
    /// The end of pipes and readers that are configured no more.
    leaving: Option<JoinHandle<()>>,
    /// By group: the step that asked last for hooks, until none of them waits any more.
    asked: BTreeMap<String, StepId>,
    last: BTreeMap<String, status::Hook>,
    runs_shown: watch::Sender<Vec<status::Hook>>,
    fifo_shown: watch::Sender<Option<status::Fifo>>,
    core: mpsc::Sender<CoreEvent>,
    polls: Interval,
    /// When it is looked whether the pipe has been read.
    reads: Interval,
}

/// The hook that runs. Its process lives on when this is dropped.
struct Running {
    hook: Hook,
    command: String,
    started: SystemTime,
    started_at: Instant,
    process: JoinHandle<Ended>,
}

/// What the runner has to see to by itself.
enum Work {
    Ended(Ended),
    Look,
    Show,
}

impl Hooks {
    /// The hooks, and where they are shown for `status`. `core` hears of each end. Must be called on
    /// a runtime.
    pub(crate) async fn new(settings: Settings, core: mpsc::Sender<CoreEvent>) -> (Self, Shown) {
        let Settings { router, groups, state_directory, fifo, insecure } = settings;
        let scripts = Scripts::new(&groups);
        let mut queue = scripts.queue();
        let lock = match earlier::lock(&state_directory) {
            Ok(lock) => Some(Arc::new(lock)),
            Err(error) => {
                let directory = state_directory.display();
                warn!(%directory, %error, "a hook that outlives this daemon will not be known");
                None
            }
        };
        let earlier = lock.as_ref().and_then(|lock| Earlier::find(lock)).map(|hook| {
            let notify = hook
                .group
                .as_deref()
                .and_then(|group| scripts.notify(group, hook.virtual_router.as_deref()));
            let limit = scripts::limit(notify);
            warn!(
                pid = hook.pid,
                command = hook.command,
                age = ?hook.age,
                ?limit,
                "a hook of an earlier life of the daemon still runs and is waited for"
            );
            queue.hold();
            Wait::new(hook, limit, Instant::now())
        });
        let pipe = fifo;
        let fifo = changing::make(pipe.clone()).await;
        let reader = pipe.as_ref().and_then(|pipe| Reader::start(&router, pipe, insecure, None));
        let (runs_shown, hooks) = watch::channel(Vec::new());
        let (fifo_shown, shown_fifo) = watch::channel(None);
        let mut polls = interval(earlier::POLL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut reads = interval(UNREAD_POLL);
        reads.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let own = Self {
            router,
            scripts,
            insecure,
            queue,
            running: None,
            lock,
            earlier,
            pipe,
            fifo,
            reader,
            leaving: None,
            asked: BTreeMap::new(),
            last: BTreeMap::new(),
            runs_shown,
            fifo_shown,
            core,
            polls,
            reads,
        };
        own.show();
        (own, Shown { hooks, fifo: shown_fifo })
    }

    /// Runs what is asked until [`ControlRequest::Stop`] or until nobody can ask any more.
    pub(crate) async fn run(mut self, mut requests: mpsc::Receiver<ControlRequest>) {
        let mut reader = self.reader.as_ref().map(Reader::changes);
        loop {
            tokio::select! {
                request = requests.recv() => match request {
                    Some(ControlRequest::Hooks(hooks)) => {
                        let answers = hooks.into_iter().map(|hook| self.take(hook)).collect();
                        let _ = self.core.send(CoreEvent::Stepped(answers)).await;
                    }
                    Some(ControlRequest::Configure(config, answer)) => {
                        self.configure(Settings::of(&config)).await;
                        reader = self.reader.as_ref().map(Reader::changes);
                        // An asker that no longer waits is no concern of the hooks.
                        let _ = answer.send(());
                    }
                    Some(ControlRequest::Stop) | None => break,
                },
                work = self.work() => self.see_to(work).await,
                () = changed(&mut reader) => self.show(),
            }
            self.tell_begun().await;
        }
        if timeout(STOP_PATIENCE, self.drain()).await.is_err() {
            self.leave();
        }
        self.close().await;
    }

    /// Tells the core of which groups no hook waits any more: what runs, runs on without the daemon.
    async fn tell_begun(&mut self) {
        let waits = |group: &String| {
            let mut waiting = self.queue.waiting().filter(|hook| hook.notice.group == *group);
            waiting.any(|hook| self.scripts.command(hook).is_some())
        };
        let begun: Vec<_> = self.asked.extract_if(.., |group, _| !waits(group)).collect();
        for (group, id) in begun {
            let _ = self.core.send(CoreEvent::HooksBegun { group, id }).await;
        }
    }

    async fn drain(&mut self) {
        while !self.queue.is_idle() {
            let work = self.work().await;
            self.see_to(work).await;
        }
    }

    fn leave(&self) {
        if let Some(running) = &self.running {
            warn!(
                group = running.hook.notice.group,
                state = running.hook.notice.to.as_str(),
                command = running.command,
                "hook still runs at the daemon's end and is left running"
            );
        }
        for waiting in self.queue.waiting() {
            let notice = &waiting.notice;
            warn!(name = notice.name(), state = notice.to.as_str(), "hook not run");
        }
    }

    /// Ends the reader of the pipe, which has had the chance to read everything, and the pipe.
    async fn close(mut self) {
        if let Some(leaving) = self.leaving.take() {
            let _ = leaving.await;
        }
        let fifo = self.fifo.take();
        changing::end(fifo.as_ref(), self.reader.take()).await;
        if let Some(fifo) = fifo {
            fifo.remove();
        }
    }

    /// Waits for the end of the running hook, or until one of an earlier life or the pipe has to be
    /// looked at; for ever when there is none of them. Cancel safe.
    async fn work(&mut self) -> Work {
        let unread = self.fifo_shown.borrow().as_ref().is_some_and(|fifo| fifo.unread_bytes > 0);
        let Self { running, earlier, polls, reads, .. } = self;
        tokio::select! {
            _ = reads.tick(), if unread => Work::Show,
            ended = ended(running) => Work::Ended(ended),
            _ = polls.tick(), if earlier.is_some() => Work::Look,
        }
    }

    async fn see_to(&mut self, work: Work) {
        match work {
            Work::Ended(ended) => self.finish(ended).await,
            Work::Look => self.look(),
            Work::Show => self.show(),
        }
    }

    /// Looks at the hook of an earlier life.
    fn look(&mut self) {
        let (Some(wait), Some(lock)) = (&mut self.earlier, &self.lock) else { return };
        match wait.look(Earlier::find(lock), Instant::now()) {
            Look::Runs => return,
            Look::Ending => return self.show(),
            Look::Gone => info!("the hook of an earlier life has ended"),
            Look::Stuck => error!(
                pid = wait.hook.pid,
                command = wait.hook.command,
                "the hook of an earlier life cannot be ended: the next goes on beside it"
            ),
        }
        self.earlier = None;
        let next = self.queue.release();
        self.start(next);
    }

    fn take(&mut self, request: HookRequest) -> (StepId, Outcome) {
        let HookRequest { id, group, from, to, reason, members } = request;
        let Some(alone) = self.scripts.is_alone(&group) else {
            return (id, Outcome::Failed(format!("there is no failover group {group}")));
        };
        self.asked.insert(group.clone(), id);
        let transition = Transition { group, alone, members, from, to, reason };
        (id, self.tell(&transition))
    }

    /// Writes the transition to the pipe and has its hooks stand in line.
    fn tell(&mut self, transition: &Transition) -> Outcome {
        let notices = notices(transition);
        if let Some(fifo) = &mut self.fifo {
            notices.iter().filter_map(Notice::line).for_each(|line| fifo.write(&line));
        }
        let hooks: Vec<Hook> = notices
            .into_iter()
            .flat_map(|notice| {
                let router = notice.virtual_router.as_deref();
                let forms = self.scripts.forms(&notice.group, router);
                forms.into_iter().map(move |form| Hook { notice: notice.clone(), form })
            })
            .collect();
        let configured = hooks.iter().any(|hook| self.scripts.command(hook).is_some());
        for hook in hooks {
            match self.queue.push(hook) {
                Ok(next) => self.start(next),
                Err(error) => return Outcome::Failed(error.to_string()),
            }
        }
        self.show();
        Outcome::Done(self.came_to(transition, configured))
    }

    /// What became of the hooks of a transition, for people.
    fn came_to(&self, transition: &Transition, configured: bool) -> String {
        let waiting = self.queue.waiting().filter(|hook| hook.notice.group == transition.group);
        let waiting = waiting.filter(|hook| self.scripts.command(hook).is_some()).count();
        let began = self.running.as_ref().filter(|running| {
            let notice = &running.hook.notice;
            notice.group == transition.group && notice.to == transition.to
        });
        match (began, waiting) {
            // One that runs for this state and for which another waits began before.
            (Some(running), waiting) if !self.queue.is_outdated() => match waiting {
                0 => format!("started {}", running.command),
                more => format!("started {}; {more} wait", running.command),
            },
            (_, 0) if !configured => "none configured".to_owned(),
            (_, 0) => "has run for this state already".to_owned(),
            (None, _) if self.running.is_none() => {
                "waits for a hook of an earlier life of the daemon".to_owned()
            }
            (_, _) => "waits for the hook that runs".to_owned(),
        }
    }

    /// Starts `next`, passing over hooks that have no command.
    fn start(&mut self, mut next: Option<Hook>) {
        while let Some(hook) = next {
            if let Some(argv) = self.scripts.command(&hook) {
                self.running = Some(self.launch(argv, hook));
                break;
            }
            debug!(
                name = hook.notice.name(),
                state = hook.notice.to.as_str(),
                "no hook configured"
            );
            next = self.queue.ended(true);
        }
        self.show();
    }

    fn launch(&self, argv: Vec<String>, hook: Hook) -> Running {
        let command = argv.join(" ");
        let notice = &hook.notice;
        info!(name = notice.name(), state = notice.to.as_str(), command, "hook started");
        let notify = self.scripts.of(&hook);
        let process = tokio::spawn(process::run(process::Command {
            argv,
            environment: shown::environment(&self.router, notice),
            user: notify.and_then(|notify| notify.user.clone()),
            timeout: scripts::limit(notify),
            insecure: self.insecure,
            lifetime: Lifetime::Own(self.lock.clone()),
        }));
        let (started, started_at) = (SystemTime::now(), Instant::now());
        Running { hook, command, started, started_at, process }
    }

    async fn finish(&mut self, ended: Ended) {
        let Some(running) = self.running.take() else { return };
        let took = running.started_at.elapsed();
        let success = ended.success();
        let result = ended.to_string();
        let notice = &running.hook.notice;
        let (name, state) = (notice.name(), notice.to.as_str());
        if success {
            info!(name, state, ?took, "hook ended");
        } else {
            warn!(name, state, ?took, command = running.command, result, "hook failed");
        }
        let shown = status::Hook {
            took_ms: Some(took.as_millis() as u64),
            output: ended.output,
            result: result.clone(),
            ..running.shown()
        };
        self.last.insert(shown::place(&running.hook), shown);
        let matters = self.scripts.matters(&running.hook) && !self.queue.is_outdated();
        let event = CoreEvent::HookEnded {
            group: notice.group.clone(),
            state: notice.to,
            result: if success {
                Ok(result)
            } else {
                Err(format!("hook {} failed: {result}", running.command))
            },
            matters,
        };
        let next = self.queue.ended(success);
        self.start(next);
        let _ = self.core.send(event).await;
    }
}

/// Waits for the end of the running hook, for ever when none runs. Cancel safe.
async fn ended(running: &mut Option<Running>) -> Ended {
    let Some(running) = running else { return pending().await };
    match (&mut running.process).await {
        Ok(ended) => ended,
        Err(error) => Ended::not_started(error.to_string()),
    }
}

/// Waits until something else is to be shown of the reader, for ever when there is none.
async fn changed(reader: &mut Option<watch::Receiver<String>>) {
    let Some(reader) = reader else { return pending().await };
    if reader.changed().await.is_err() {
        pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
