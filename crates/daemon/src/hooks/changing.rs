//! Other hooks, and another pipe, while the daemon runs.

use std::time::Duration;

use lockstep_config::NotifyFifo;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::{Fifo, Hooks, Reader, Scripts, Settings};

/// How long the end of a pipe waits until its reader has read the last lines.
const READ_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether it has.
const READ_POLL: Duration = Duration::from_millis(20);

impl Hooks {
    /// Takes other hooks, which count from the next start of one. The one that runs goes on, and
    /// those that wait keep their turn.
    pub(super) async fn configure(&mut self, settings: Settings) {
        let Settings { router: _, groups, state_directory: _, fifo, insecure } = settings;
        let scripts = Scripts::new(&groups);
        let same =
            |of_router, name: &str, form| self.scripts.agrees(&scripts, of_router, name, form);
        self.queue.follow(&scripts.queue(), same);
        self.scripts = scripts;
        let is_told = |hook: &crate::status::Hook| {
            !self.scripts.forms(&hook.group, hook.virtual_router.as_deref()).is_empty()
        };
        self.last.retain(|_, hook| is_told(hook));
        let same_care = std::mem::replace(&mut self.insecure, insecure) == insecure;
        self.change_pipe(fifo, same_care).await;
        self.show();
    }

    /// Makes what is not as it was: the pipe, its reader, or both. `same_care` says whether programs
    /// are looked at as before when they are started.
    async fn change_pipe(&mut self, wanted: Option<NotifyFifo>, same_care: bool) {
        let before = std::mem::replace(&mut self.pipe, wanted.clone());
        let path = |pipe: &Option<NotifyFifo>| pipe.as_ref().map(|pipe| pipe.path.clone());
        let user = |pipe: &Option<NotifyFifo>| pipe.as_ref().map(|pipe| pipe.user.clone());
        let same_place = path(&before) == path(&wanted);
        if before == wanted && (same_care || self.reader.is_none()) {
            return;
        }
        let mut earlier = self.reader.take();
        if !same_place {
            self.leave_pipe(earlier.take());
        }
        if !same_place || user(&before) != user(&wanted) {
            self.fifo = make(wanted.clone()).await;
        }
        self.reader = match &wanted {
            Some(pipe) if pipe.command.is_some() => {
                Reader::start(&self.router, pipe, self.insecure, earlier)
            }
            Some(_) | None => {
                self.let_end(None, earlier);
                None
            }
        };
    }

    /// Takes the pipe away; its reader gets its time beside what comes after it.
    fn leave_pipe(&mut self, reader: Option<Reader>) {
        let fifo = self.fifo.take();
        if let Some(fifo) = &fifo {
            fifo.remove();
        }
        self.let_end(fifo, reader);
    }

    /// Ends a reader beside everything else, when there is one; the daemon's end waits for that.
    fn let_end(&mut self, fifo: Option<Fifo>, reader: Option<Reader>) {
        let before = self.leaving.take();
        if reader.is_none() {
            self.leaving = before;
            return;
        }
        self.leaving = Some(tokio::spawn(async move {
            end(fifo.as_ref(), reader).await;
            if let Some(before) = before {
                let _ = before.await;
            }
        }));
    }
}

/// Makes the pipe, when one is configured.
pub(super) async fn make(pipe: Option<NotifyFifo>) -> Option<Fifo> {
    let pipe = pipe?;
    // Users may be kept on a server.
    spawn_blocking(move || Fifo::make(&pipe)).await.ok()
}

/// Ends a reader, which has had the chance to read everything.
pub(super) async fn end(fifo: Option<&Fifo>, reader: Option<Reader>) {
    let Some(reader) = reader else { return };
    if let Some(fifo) = fifo {
        let read = async {
            while !fifo.is_read() {
                sleep(READ_POLL).await;
            }
        };
        if timeout(READ_PATIENCE, read).await.is_err() {
            warn!("the reader of the pipe has not read the last lines");
        }
    }
    reader.end().await;
}
