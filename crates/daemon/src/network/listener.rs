//! The kernel's announcements, also after the socket that they came by has failed.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_kernel::network::{Hints, Monitor};
use lockstep_routes::Interest;
use nix::errno::Errno;
use tracing::{info, warn};

/// Wait before the first attempt to listen again; doubled by each further one in a row.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait. While nothing is heard, everything is looked at this often at least.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Whatever may have been announced while nobody listened.
const ANYTHING: Hints =
    Hints { links: false, addresses: false, routes: false, rules: false, overrun: true };

/// A monitor that is replaced when it fails.
pub(super) struct Listener {
    interest: Arc<Interest>,
    monitor: Option<Monitor>,
    /// When to listen again.
    retry_at: Instant,
    wait: Duration,
}

impl Listener {
    /// Starts listening in the calling thread's network namespace.
    ///
    /// # Errors
    /// When there is no socket for it.
    pub(super) fn connect(interest: Arc<Interest>) -> io::Result<Self> {
        let monitor = Some(Monitor::connect(&interest)?);
        Ok(Self { interest, monitor, retry_at: Instant::now(), wait: FIRST_WAIT })
    }

    /// Waits until something may have changed. May be given up half way.
    ///
    /// # Errors
    /// When the kernel will never let us listen again.
    pub(super) async fn changed(&mut self) -> io::Result<Hints> {
        if let Some(monitor) = &mut self.monitor {
            let heard = monitor.changed().await;
            return Ok(self.heard(heard, Instant::now()));
        }
        tokio::time::sleep_until(self.retry_at.into()).await;
        let connected = Monitor::connect(&self.interest);
        self.connected(connected, Instant::now())
    }

    fn heard(&mut self, heard: io::Result<Hints>, now: Instant) -> Hints {
        match heard {
            Ok(hints) => {
                self.wait = FIRST_WAIT;
                hints
            }
            Err(error) => {
                warn!(%error, "the kernel's announcements have failed; listening again soon");
                self.monitor = None;
                self.put_off(now);
                ANYTHING
            }
        }
    }

    fn connected(&mut self, connected: io::Result<Monitor>, now: Instant) -> io::Result<Hints> {
        match connected {
            Ok(monitor) => {
                info!("the kernel's announcements are listened to again");
                self.monitor = Some(monitor);
            }
            Err(error) if is_hopeless(&error) => return Err(error),
            Err(error) => {
                warn!(%error, "the kernel's announcements cannot be listened to");
                self.put_off(now);
            }
        }
        Ok(ANYTHING)
    }

    fn put_off(&mut self, now: Instant) {
        self.retry_at = now + self.wait;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }
}

/// Whether it will not pass with time, as a lack of memory or descriptors does.
fn is_hopeless(error: &io::Error) -> bool {
    error.raw_os_error().map(Errno::from_raw).is_some_and(|errno| {
        matches!(
            errno,
            Errno::EPERM
                | Errno::EACCES
                | Errno::EAFNOSUPPORT
                | Errno::EPROTONOSUPPORT
                | Errno::ESOCKTNOSUPPORT
        )
    })
}

#[cfg(test)]
mod tests {
    use lockstep_lab::Interface;
    use tokio::time::timeout;

    use super::super::tests::node;
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn failure(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno as i32)
    }

    fn deaf(now: Instant) -> Listener {
        Listener { interest: Arc::default(), monitor: None, retry_at: now, wait: FIRST_WAIT }
    }

    #[test]
    fn a_failed_monitor_is_replaced_and_nothing_announced_meanwhile_is_missed() {
        let Some((node, lan)) = node() else { return };
        node.run(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut listener = Listener::connect(Arc::default()).unwrap();
                let hints = listener.heard(Err(failure(Errno::ENOMEM)), Instant::now());
                assert!(hints.overrun && listener.monitor.is_none());
                let again = timeout(LIMIT, listener.changed()).await.unwrap().unwrap();
                assert!(again.overrun && listener.monitor.is_some());
                node.attach(&lan, &Interface::new("eth7")).unwrap();
                assert!(timeout(LIMIT, listener.changed()).await.unwrap().unwrap().links);
            });
        })
        .unwrap();
    }

    #[test]
    fn attempts_to_listen_again_become_rare_and_each_is_an_overrun() {
        let now = Instant::now();
        let mut listener = deaf(now);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let hints = listener.connected(Err(failure(Errno::EMFILE)), now).unwrap();
            assert!(hints.overrun);
            waits.push((listener.retry_at - now).as_millis());
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        listener.heard(Ok(Hints::default()), now);
        listener.heard(Err(failure(Errno::ENOMEM)), now);
        assert_eq!(listener.retry_at, now + FIRST_WAIT);
    }

    #[test]
    fn a_kernel_that_forbids_listening_is_hopeless() {
        let now = Instant::now();
        for errno in [Errno::EPERM, Errno::EPROTONOSUPPORT] {
            let error = deaf(now).connected(Err(failure(errno)), now).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno as i32));
        }
    }
}
