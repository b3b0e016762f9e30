//! How full the kernel's table is, and what it could not do.

use lockstep_kernel::conntrack::Statistics;
use tracing::{debug, info, warn};

use super::Actor;
use crate::status::replication::Kernel;

impl Actor {
    /// Looks at the kernel's own counters, and says once what has gone wrong or is right again.
    pub(super) fn look_after_kernel(&mut self) {
        let now = match self.table.statistics() {
            Ok(statistics) => statistics,
            Err(error) => {
                let error = anyhow::Error::new(error);
                return debug!("the kernel's counters cannot be read: {error:#}");
            }
        };
        let trouble = trouble(self.kernel.as_ref(), &now);
        match (&self.kernel_trouble, &trouble) {
            // Numbers grow; what is wrong is the same.
            (None, Some(trouble)) => warn!("connection tracking: {trouble}"),
            (Some(_), None) => info!("connection tracking takes new flows again"),
            (Some(_), Some(_)) | (None, None) => {}
        }
        self.kernel_trouble = trouble;
        self.kernel = Some(now);
    }

    /// The kernel's figures now.
    pub(super) fn shown_kernel(&mut self) -> Kernel {
        let statistics = self.table.statistics().ok();
        let known = statistics.or(self.kernel);
        let mut counters: std::collections::BTreeMap<_, _> =
            known.as_ref().into_iter().flat_map(named).collect();
        counters.insert("event-overruns".to_owned(), self.overruns_before + self.events.overruns());
        let full = known.as_ref().and_then(full);
        Kernel {
            entries: known.map(|known| known.entries.into()),
            limit: known.map(|known| known.limit.into()),
            event_buffer: self.events.buffer() as u64,
            event_buffer_limit: self.config.event_buffer_limit as u64,
            trouble: full.or_else(|| self.kernel_trouble.clone()),
            statistics: counters,
        }
    }
}

fn full(now: &Statistics) -> Option<String> {
    now.is_full().then(|| {
        let Statistics { entries, limit, .. } = now;
        format!("the table is full: {entries} of {limit} flows (nf_conntrack_max)")
    })
}

/// What is wrong, if anything is.
fn trouble(before: Option<&Statistics>, now: &Statistics) -> Option<String> {
    let grown = |count: fn(&Statistics) -> u64| {
        before.map_or(0, |before| count(now).saturating_sub(count(before)))
    };
    let (dropped, early) = (grown(|it| it.drop), grown(|it| it.early_drop));
    match full(now) {
        Some(full) => Some(full),
        None if dropped > 0 => {
            Some(format!("{dropped} packets were dropped because no flow could be made for them"))
        }
        None if early > 0 => {
            Some(format!("{early} flows were removed before their time to make room for others"))
        }
        None => None,
    }
}

fn named(statistics: &Statistics) -> impl Iterator<Item = (String, u64)> {
    let Statistics { found, invalid, insert, insert_failed, drop, early_drop, error, .. } =
        *statistics;
    let Statistics { search_restart, clash_resolve, chain_too_long, .. } = *statistics;
    let all = [
        ("found", found),
        ("invalid", invalid),
        ("insert", insert),
        ("insert-failed", insert_failed),
        ("drop", drop),
        ("early-drop", early_drop),
        ("error", error),
        ("search-restart", search_restart),
        ("clash-resolve", clash_resolve),
        ("chain-too-long", chain_too_long),
    ];
    all.into_iter().map(|(name, count)| (name.to_owned(), count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_is_named_before_what_follows_from_it() {
        let before = Statistics { entries: 9, limit: 10, ..Statistics::default() };
        let full = Statistics { entries: 10, drop: 5, ..before };
        let expected = "the table is full: 10 of 10 flows (nf_conntrack_max)";
        assert_eq!(trouble(Some(&before), &full).as_deref(), Some(expected));
        assert_eq!(trouble(Some(&full), &before), None);
    }

    #[test]
    fn only_what_has_been_dropped_lately_is_trouble() {
        let before = Statistics { limit: 10, drop: 3, ..Statistics::default() };
        assert_eq!(trouble(None, &before), None);
        assert_eq!(trouble(Some(&before), &before), None);
        let later = Statistics { drop: 5, ..before };
        let expected = "2 packets were dropped because no flow could be made for them";
        assert_eq!(trouble(Some(&before), &later).as_deref(), Some(expected));
    }
}
