//! A thread shows that it lives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::record::{Record, Thread};

/// How often a thread shows it, when it has nothing else to do.
pub(crate) const BEAT: Duration = Duration::from_millis(500);
/// A busy thread shows it no more often.
const LEAST: Duration = Duration::from_millis(100);
/// The shortest silence that means that a thread is stuck: far above what a loaded machine keeps a
/// thread waiting, and short enough to end before the default of three intervals of a second.
const SHORTEST_LIMIT: Duration = Duration::from_secs(2);
/// The same for the replicator, whose pieces may wait for the kernel.
pub(crate) const REPLICATOR_LIMIT: Duration = Duration::from_secs(10);

/// The beats of one thread; those of the default go nowhere.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    to: Option<(Arc<Record>, Thread)>,
    limit: Duration,
    last: Option<Instant>,
}

impl Pulse {
    /// Of a thread whose silence for longer than `limit` means that it is stuck.
    pub(crate) fn new(record: Arc<Record>, thread: Thread, limit: Duration) -> Self {
        Self { to: Some((record, thread)), limit, last: None }
    }

    /// Another silence means that the thread is stuck, from the next beat on.
    pub(crate) fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// To be called in every turn, and no later than at [`Pulse::due`].
    pub(crate) fn beat(&mut self, now: Instant) {
        let Some((record, thread)) = &self.to else { return };
        let is_early = |last: Instant| now.saturating_duration_since(last) < LEAST;
        if self.last.is_some_and(is_early) {
            return;
        }
        self.last = Some(now);
        if let Err(error) = record.beat(*thread, self.limit) {
            warn!(%error, "the guard is not told that the daemon lives");
        }
    }

    /// When the next beat is due; never before the first.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.last.map(|last| last + BEAT)
    }
}

/// The silence of the core that means that it is stuck: as many intervals as its neighbours wait.
pub(crate) fn core_limit(shortest_interval: Option<Duration>) -> Duration {
    (3 * shortest_interval.unwrap_or_default()).max(SHORTEST_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::record::since_boot;

    #[test]
    fn a_thread_that_beats_is_not_silent_and_beats_no_more_often_than_it_must() {
        let record = Arc::new(Record::new().unwrap());
        let limit = Duration::from_secs(2);
        let mut pulse = Pulse::new(Arc::clone(&record), Thread::Core, limit);
        assert_eq!(pulse.due(), None);
        let now = Instant::now();
        pulse.beat(now);
        assert_eq!(pulse.due(), Some(now + BEAT));
        pulse.beat(now + LEAST / 2);
        assert_eq!(pulse.due(), Some(now + BEAT));
        pulse.beat(now + LEAST);
        assert_eq!(pulse.due(), Some(now + LEAST + BEAT));
        assert_eq!(record.silent(since_boot()), None);
    }

    #[test]
    fn the_core_is_given_as_long_as_its_neighbours_wait_and_never_less_than_two_seconds() {
        let ms = Duration::from_millis;
        assert_eq!(core_limit(None), ms(2_000));
        assert_eq!(core_limit(Some(ms(10))), ms(2_000));
        assert_eq!(core_limit(Some(ms(1_000))), ms(3_000));
    }
}
