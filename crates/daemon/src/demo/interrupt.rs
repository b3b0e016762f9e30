//! Ctrl-C, and waiting that heeds it.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};

/// Knows whether the person has had enough.
pub(super) struct Interrupt {
    set: Arc<AtomicBool>,
    wake: Receiver<()>,
}

impl Interrupt {
    /// From here on SIGINT and SIGTERM are heard here instead of ending the process at once, so
    /// that everything is taken down in order.
    pub(super) fn watch() -> anyhow::Result<Self> {
        let set = Arc::new(AtomicBool::new(false));
        let (waker, wake) = mpsc::channel();
        let (armed_sender, armed) = mpsc::channel();
        let heard = Arc::clone(&set);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let work = || -> std::io::Result<()> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    let mut interrupt = signal(SignalKind::interrupt())?;
                    let mut terminate = signal(SignalKind::terminate())?;
                    let _ = armed_sender.send(());
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    heard.store(true, Ordering::Release);
                    let _ = waker.send(());
                    Ok(())
                })
            };
            work()
        })?;
        if armed.recv().is_err() {
            bail!("cannot wait for signals");
        }
        Ok(Self { set, wake })
    }

    /// Whether it has happened.
    pub(super) fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// When it happens.
    pub(super) fn pause(&self, time: Duration) -> anyhow::Result<()> {
        match self.wake.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) if !self.is_set() => Ok(()),
            Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                bail!("interrupted")
            }
        }
    }

    /// Looks again and again until there is an answer.
    ///
    /// # Errors
    /// When it happens, when looking fails, or when there is none within `patience`.
    pub(super) fn until<T>(
        &self,
        patience: Duration,
        what: &str,
        mut look: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(answer) = look()? {
                return Ok(answer);
            }
            if Instant::now() >= deadline {
                bail!("waited {} s in vain for {what}", patience.as_secs());
            }
            self.pause(LOOK_EVERY)?;
        }
    }

    /// Waits for it.
    pub(super) fn wait(&self) {
        let _ = self.wake.recv();
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(10);
