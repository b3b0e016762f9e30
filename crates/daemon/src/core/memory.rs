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
    pulse: Pulse,
    resumed: Vec<PastGroup>,
    /// A failure has been told.
    is_told: bool,
}

impl Memory {
    /// For the configuration with which the record has begun; `resumed` are the groups that an
    /// earlier run was master of and that may be so still.
    pub(crate) fn new(config: &Config, record: Arc<Record>, resumed: Vec<PastGroup>) -> Self {
        let limit = core_limit(intervals(config).min());
        Self {
            pulse: Pulse::new(Arc::clone(&record), Thread::Core, limit),
            record,
            places: places(config),
            resumed,
            is_told: false,
        }
    }

    /// What there is to resume, and the rest.
    pub(super) fn split(mut self) -> (Resuming, Self) {
        (Resuming::new(std::mem::take(&mut self.resumed)), self)
    }

    /// Takes other virtual routers, groups and intervals. A group whose members are others now does
    /// not serve until that is told anew.
    pub(super) fn configure(&mut self, config: &Config) {
        self.pulse.set_limit(core_limit(intervals(config).min()));
        self.places = places(config);
        if let Err(error) = self.record.describe(config) {
            error!("after a kill it will be judged by the configuration before: {error:#}");
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

fn intervals(config: &Config) -> impl Iterator<Item = Duration> {
    config.virtual_routers.iter().map(|one| one.vrrp.advertisement_interval)
}

fn places(config: &Config) -> HashMap<String, usize> {
    let names = config.failover.groups.iter().map(|group| group.name.clone());
    names.zip(0..).collect()
}
