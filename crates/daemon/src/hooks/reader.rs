//! The program that reads the pipe: started with the daemon, again when it ends, ended with it.

use std::time::Duration;

use lockstep_config::NotifyFifo;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::process::{self, Lifetime};

/// The first and the longest wait before it is started again.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A reader that ran for so long is started again after the first wait.
const LASTING: Duration = Duration::from_mins(1);

/// The program at work.
pub(super) struct Reader {
    /// How it fares, for people.
    shown: watch::Receiver<String>,
    over: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Reader {
    /// Starts it, on the current runtime, when the `earlier` one has been ended; `None` when none is
    /// configured.
    pub(super) fn start(
        router: &str,
        config: &NotifyFifo,
        insecure: bool,
        earlier: Option<Self>,
    ) -> Option<Self> {
        let mut argv = config.command.clone()?;
        argv.push(config.path.display().to_string());
        let command = process::Command {
            argv,
            environment: vec![("LOCKSTEP_ROUTER", router.to_owned())],
            user: config.user.clone(),
            timeout: Duration::MAX,
            insecure,
            lifetime: Lifetime::Ours,
        };
        let (over, is_over) = watch::channel(false);
        let (sender, shown) = watch::channel("running".to_owned());
        let task = tokio::spawn(async move {
            if let Some(earlier) = earlier {
                earlier.end().await;
            }
            keep(command, sender, is_over).await;
        });
        Some(Self { shown, over, task })
    }

    pub(super) fn shown(&self) -> String {
        self.shown.borrow().clone()
    }

    /// Hears of changes of [`Reader::shown`].
    pub(super) fn changes(&self) -> watch::Receiver<String> {
        self.shown.clone()
    }

    /// Ends it: SIGTERM, then SIGKILL to its process group.
    pub(super) async fn end(self) {
        self.over.send_replace(true);
        let _ = self.task.await;
    }
}

/// Runs it again and again until it is over.
async fn keep(
    command: process::Command,
    shown: watch::Sender<String>,
    over: watch::Receiver<bool>,
) {
    let (first, longest) = AGAIN;
    let mut pause = first;
    let told = |mut over: watch::Receiver<bool>| async move {
        // Whoever could say so is gone: over, too.
        let _ = over.wait_for(|over| *over).await;
    };
    loop {
        let started = Instant::now();
        let ended = process::run_until(command.clone(), told(over.clone())).await;
        if *over.borrow() {
            info!("the reader of the pipe has ended");
            return;
        }
        if started.elapsed() >= LASTING {
            pause = first;
        }
        warn!(%ended, again = ?pause, "the reader of the pipe has ended by itself");
        shown.send_replace(format!("{ended}; starts again after {} s", pause.as_secs()));
        tokio::select! {
            () = sleep(pause) => {}
            () = told(over.clone()) => return,
        }
        shown.send_replace("running".to_owned());
        pause = (2 * pause).min(longest);
    }
}
