//! What the core leaves to whoever comes after it when it is killed: the guard's record.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_config::Config;
use tracing::error;

use super::election::Left;
use super::resuming::Resuming;
use crate::guard::record::{PastGroup, Record};
use crate::guard::{Pulse, Thread, core_limit};

/// The core's part of the record.
pub(crate) struct Memory {
    record: Arc<Record>,
    /// The place of each group in it.
    places: HashMap<String, usize>,
    /// The advertisement intervals with which it is written: how long it holds follows from them.
    intervals: Vec<Duration>,
    pulse: Pulse,
    resumed: Vec<PastGroup>,
    /// A failure has been told.
    is_told: bool,
}

impl Memory {
    /// For the configuration with which the record has begun; `resumed` are the groups that an
    /// earlier run was master of and that may be so still.
    pub(crate) fn new(config: &Config, record: Arc<Record>, resumed: Vec<PastGroup>) -> Self {
        let intervals = intervals(config);
        let limit = core_limit(intervals.iter().min().copied());
        let names = config.failover.groups.iter().map(|group| group.name.clone());
        Self {
            pulse: Pulse::new(Arc::clone(&record), Thread::Core, limit),
            record,
            places: names.zip(0..).collect(),
            intervals,
            resumed,
            is_told: false,
        }
    }

    /// What there is to resume, and the rest.
    pub(super) fn split(mut self) -> (Resuming, Self) {
        (Resuming::new(std::mem::take(&mut self.resumed)), self)
    }

    /// Takes other intervals of the same virtual routers.
    pub(super) fn configure(&mut self, config: &Config) {
        let intervals = intervals(config);
        if intervals == self.intervals {
            return;
        }
        self.pulse.set_limit(core_limit(intervals.iter().min().copied()));
        self.intervals = intervals;
        if let Err(error) = self.record.describe(config) {
            error!("after a kill it will be judged by the intervals before: {error:#}");
        }
    }

    pub(super) fn beat(&mut self, now: Instant) {
        self.pulse.beat(now);
    }

    pub(super) fn beat_due(&self) -> Option<Instant> {
        self.pulse.due()
    }

    /// Whether a group is master, with everything that belongs to it.
    pub(super) fn serves(&mut self, group: &str, serves: bool) {
        if let Some(place) = self.places.get(group) {
            let written = self.record.serves(*place, serves);
            self.tell(written);
        }
    }

    /// Masters' advertisements have left.
    pub(super) fn left(&mut self, mut left: Vec<Left>) {
        left.sort_unstable_by_key(|one| one.place);
        for together in left.chunk_by(|one, next| one.place + 1 == next.place) {
            let words: Vec<_> = together.iter().map(|one| (one.at, one.sequence)).collect();
            let written = self.record.left(together[0].place, &words);
            self.tell(written);
        }
    }

    fn tell(&mut self, written: std::io::Result<()>) {
        if let Err(error) = written
            && !std::mem::replace(&mut self.is_told, true)
        {
            error!(%error, "after a kill it will not be known who was master");
        }
    }
}

fn intervals(config: &Config) -> Vec<Duration> {
    config.virtual_routers.iter().map(|one| one.vrrp.advertisement_interval).collect()
}
