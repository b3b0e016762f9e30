//! Looking at what the kernel has, and doing what is missing.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_kernel::network::{Hints, Network};
use lockstep_routes::{Change, Kind, Object, When, plan, plan_kind};
use tracing::{debug, info, warn};

use super::Actor;
use super::requests::Requests;
use crate::messages::CoreEvent;

/// Announcements within this time are looked after together.
const COALESCE: Duration = Duration::from_millis(3);
/// Longest time between two looks.
const INTERVAL: Duration = Duration::from_secs(10);
/// Wait after a look that failed.
const FAILED_LOOK: Duration = Duration::from_secs(1);
/// A look that took long is followed by this many times its duration without another, so that
/// somebody else's restless table does not take the whole processor.
const REST: u32 = 4;
/// Most plans carried out after one look. A link that comes up makes addresses possible, and they
/// make routes possible; what is left then waits for the next look.
const ROUNDS: usize = 4;

/// When to look. Links and addresses have a rest of their own: a long dump of routes puts off
/// only the next one.
pub(super) struct Schedule {
    /// When to look again although nothing was announced.
    latest: Instant,
    /// When something has changed that the last look may not have seen.
    changed: Option<Instant>,
    /// No look before that, unless somebody asks.
    rest_until: Instant,
    /// The same for the look at links and addresses alone.
    links_changed: Option<Instant>,
    links_rest_until: Instant,
}

impl Schedule {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            latest: now,
            changed: None,
            rest_until: now,
            links_changed: None,
            links_rest_until: now,
        }
    }

    /// When to look at everything.
    pub(super) fn look_at(&self) -> Instant {
        self.changed
            .map_or(self.latest, |since| self.latest.min((since + COALESCE).max(self.rest_until)))
    }

    /// When to look at links and addresses.
    pub(super) fn links_at(&self) -> Option<Instant> {
        self.links_changed.map(|since| (since + COALESCE).max(self.links_rest_until))
    }

    /// Routes or rules may have changed.
    pub(super) fn routes_changed(&mut self, now: Instant) {
        self.changed.get_or_insert(now);
    }

    /// Links or addresses may have changed, and by that routes.
    fn links_changed(&mut self, now: Instant) {
        self.links_changed.get_or_insert(now);
        self.routes_changed(now);
    }
}

/// Waits until then; for ever, when there is no such moment.
pub(super) async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

async fn ordered(requests: Option<&mut Requests>) {
    match requests {
        Some(requests) => requests.ordered().await,
        None => std::future::pending().await,
    }
}

impl Actor {
    pub(super) fn note(&mut self, hints: Hints) {
        let now = Instant::now();
        if hints.overrun {
            debug!("announcements of the kernel were lost");
        }
        if hints.links || hints.addresses || hints.overrun {
            self.schedule.links_changed(now);
        }
        if hints.any() {
            self.schedule.routes_changed(now);
        }
    }

    /// Looks at everything, answers whoever waits for it, and does what is missing. An order ends
    /// it early; then whoever waits goes on waiting.
    pub(super) async fn look(&mut self, requests: &mut Requests) {
        let began = Instant::now();
        let askers = requests.take_askers();
        let stock = self.take_stock(Some(requests)).await;
        let now = Instant::now();
        match stock {
            Ok(true) => {
                self.schedule.rest_until = now + (now - began) * REST;
                if !askers.is_empty() {
                    let status = self.status();
                    for asker in askers {
                        // One that no longer waits is no concern of ours.
                        drop(asker.send(status.clone()));
                    }
                }
                self.settle().await;
                self.tell_interfaces().await;
            }
            Ok(false) => {
                requests.put_back(askers);
                self.schedule.routes_changed(now);
            }
            Err(error) => {
                warn!(%error, "cannot read links, addresses, routes and rules");
                self.schedule.rest_until = now + FAILED_LOOK;
                self.schedule.latest = now + FAILED_LOOK;
            }
        }
    }

    /// Looks at links and addresses, tells the core and does what is missing of them. A virtual
    /// link that is gone is made before: an election does not lose it for a moment.
    pub(super) async fn look_at_links(&mut self) {
        let began = Instant::now();
        let stock = self.take_stock_of_links().await;
        let now = Instant::now();
        match stock {
            Ok(()) => {
                self.schedule.links_rest_until = now + (now - began) * REST;
                self.remake_virtual_links().await;
                self.tell_interfaces().await;
                self.settle_links().await;
            }
            Err(error) => {
                warn!(%error, "cannot read links and addresses");
                self.schedule.links_rest_until = now + FAILED_LOOK;
                self.schedule.links_changed(now);
            }
        }
    }

    /// Reads what the kernel has. An order in `requests` ends it early: then the routes and rules
    /// are those of the last time, and `false` is returned.
    pub(super) async fn take_stock(&mut self, requests: Option<&mut Requests>) -> io::Result<bool> {
        self.take_stock_of_links().await?;
        self.remake_virtual_links().await;
        // An election hears of its interface, and an address is put back, before somebody's large
        // table is read.
        self.tell_interfaces().await;
        self.settle_links().await;
        self.schedule.changed = None;
        let reading = Network::routes_and_rules(Arc::clone(&self.interest));
        let Some((routes, rules)) = self.read(reading, requests).await? else {
            return Ok(false);
        };
        self.actual.routes = routes;
        self.actual.rules = rules;
        Ok(true)
    }

    pub(super) async fn take_stock_of_links(&mut self) -> io::Result<()> {
        self.schedule.links_changed = None;
        let links = self.network.links().await?;
        let addresses = self.network.addresses().await?;
        self.actual.links = links;
        self.actual.addresses = addresses;
        Ok(())
    }

    /// Waits for the end of `reading` and minds the links meanwhile. `None` when an order came
    /// first. In no order: a reading is almost always ready for more.
    pub(super) async fn read<T>(
        &mut self,
        reading: impl Future<Output = io::Result<T>>,
        mut requests: Option<&mut Requests>,
    ) -> io::Result<Option<T>> {
        let mut reading = pin!(reading);
        loop {
            tokio::select! {
                () = ordered(requests.as_deref_mut()) => return Ok(None),
                () = until(self.schedule.links_at()) => self.look_at_links().await,
                hints = self.listener.changed() => self.note(hints?),
                read = &mut reading => return read.map(Some),
            }
        }
    }

    /// Carries out plans until nothing is left that can be done now.
    pub(super) async fn settle(&mut self) {
        let silent = self.desired().silent_links();
        self.table.retry(&silent);
        for _ in 0..ROUNDS {
            let changes = plan(self.desired(), &self.actual);
            let missing: BTreeSet<Object> = changes.iter().map(Change::object).collect();
            self.refusals.retain(|object| missing.contains(object));
            if !self.reconcile(changes).await {
                break;
            }
        }
        let latest = Instant::now() + INTERVAL;
        self.schedule.latest =
            self.refusals.next_deadline().map_or(latest, |retry| retry.min(latest));
    }

    /// Links up and addresses. A link goes down only after its routes, which are not known here.
    async fn settle_links(&mut self) {
        for kind in [Kind::Links, Kind::Addresses] {
            let mut changes = plan_kind(self.desired(), &self.actual, kind);
            changes.retain(|change| !matches!(change, Change::SetLink { up: false, .. }));
            self.reconcile(changes).await;
        }
    }

    /// Carries out what is not put off after a refusal; whether there was any. The neighbours of
    /// an address that had to be put back may look for it in the wrong place: the core is told.
    async fn reconcile(&mut self, mut changes: Vec<Change>) -> bool {
        let now = Instant::now();
        changes.retain(|change| self.refusals.is_due(&change.object(), now));
        let done = self.carry_out(&changes).await;
        let groups: BTreeSet<&str> = done.into_iter().filter_map(master_of).collect();
        if !groups.is_empty() {
            // It announces on the interface as it knows it.
            self.tell_interfaces().await;
        }
        for group in groups {
            info!(group, "a virtual address was gone and has been put back");
            // The core is gone only when the process is ending.
            drop(self.core.send(CoreEvent::Restored { group: group.to_owned() }).await);
        }
        !changes.is_empty()
    }
}

/// The group on whose master the change puts an address.
fn master_of(change: &Change) -> Option<&str> {
    match change {
        Change::AddAddress { address, .. } if address.condition.when == When::Master => {
            address.condition.group.as_deref()
        }
        _ => None,
    }
}
