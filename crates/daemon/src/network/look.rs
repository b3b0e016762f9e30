//! Looking at what the kernel has, and doing what is missing.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_kernel::network::{Hints, Network};
use lockstep_kernel::scheduling::give_back_what_is_free;
use lockstep_routes::{Actual, Change, Kind, Object, When, plan, plan_kind};
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::requests::Requests;
use super::schedule::{DEAR, FAILED_LOOK, INTERVAL, REST};
use super::{Actor, PIECE, Snapshot};
use crate::messages::CoreEvent;

/// Most plans carried out after one look. A link that comes up makes addresses possible, and they
/// make routes possible; what is left then waits for the next look.
const ROUNDS: usize = 4;

/// Waits until then; for ever, when there is no such moment.
pub(super) async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Who has a turn before the end of a long reading.
pub(super) enum Turn<'a, 'b> {
    /// Whoever orders something ends it.
    Orders(&'a mut Requests),
    /// Steps of links and addresses are carried out meanwhile, but for those of the groups whose
    /// routes it is for.
    Urgent(&'a mut Requests, &'a BTreeSet<&'b str>),
}

impl Turn<'_, '_> {
    async fn wanted(&mut self) {
        match self {
            Self::Orders(requests) => requests.ordered().await,
            Self::Urgent(requests, busy) => requests.urgent(busy).await,
        }
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
        // Announcements are lost by somebody's restless table too.
        self.schedule.is_urgent |= hints.links || hints.addresses;
        if (hints.links || hints.addresses || hints.rules) && !self.refusals.is_empty() {
            Arc::make_mut(&mut self.refusals).hurry();
        }
        if hints.any() {
            self.schedule.routes_changed(now);
        }
    }

    /// Answers those who are content with what is known, if a dump would take long.
    pub(super) fn answer_from_memory(&mut self, requests: &mut Requests) {
        if self.schedule.is_known() {
            self.answer(requests.take_modest());
        }
    }

    fn answer(&self, askers: Vec<oneshot::Sender<Snapshot>>) {
        if !askers.is_empty() {
            let snapshot = self.snapshot();
            for asker in askers {
                // One that no longer waits is no concern of ours.
                drop(asker.send(snapshot.clone()));
            }
        }
    }

    /// Looks at everything, answers whoever waits for it, and does what is missing. An order ends
    /// it early; then whoever waits goes on waiting.
    pub(super) async fn look(&mut self, requests: &mut Requests) {
        let began = Instant::now();
        let askers = requests.take_askers();
        let stock = self.take_stock(Turn::Orders(requests)).await;
        let now = Instant::now();
        match stock {
            Ok(true) => {
                self.schedule.rests(now, now - began);
                self.answer(askers);
                self.settle(Some(requests)).await;
                self.tell_interfaces().await;
            }
            Ok(false) => {
                requests.put_back(askers);
                self.schedule.routes_changed(now);
            }
            Err(error) => {
                warn!(%error, "cannot read links, addresses, routes and rules");
                self.schedule.fails(now);
            }
        }
    }

    /// Looks at all but the routes, which may be many. Whatever makes the kernel drop routes without
    /// a word shows there.
    pub(super) async fn glance(&mut self) {
        self.schedule.glance = Instant::now() + INTERVAL;
        match self.has_changed().await {
            Ok(false) => {}
            Ok(true) => self.schedule.links_changed(Instant::now()),
            Err(error) => debug!(%error, "cannot read links, addresses and rules"),
        }
    }

    async fn has_changed(&self) -> io::Result<bool> {
        let (links, addresses, rules) = (
            self.network.links().await?,
            self.network.addresses().await?,
            self.network.rules().await?,
        );
        let Actual { links: known_links, addresses: known_addresses, rules: known_rules, .. } =
            &*self.actual;
        Ok(*known_links != links || *known_addresses != addresses || *known_rules != rules)
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

    /// Reads what the kernel has. Whoever has a turn may end it early: then the routes and rules
    /// are those of the last time, and `false` is returned.
    pub(super) async fn take_stock(&mut self, turn: Turn<'_, '_>) -> io::Result<bool> {
        self.take_stock_of_links().await?;
        self.remake_virtual_links().await;
        // An election hears of its interface, and an address is put back, before somebody's large
        // table is read.
        self.tell_interfaces().await;
        self.settle_links().await;
        self.schedule.looks();
        let reading = Network::routes_and_rules(Arc::clone(&self.interest));
        let Some((mut routes, rules)) = self.read(reading, turn).await? else {
            return Ok(false);
        };
        // It has grown by doubling, and is kept until the next look.
        routes.shrink_to_fit();
        let actual = Arc::make_mut(&mut self.actual);
        actual.routes = routes;
        actual.rules = rules;
        Ok(true)
    }

    pub(super) async fn take_stock_of_links(&mut self) -> io::Result<()> {
        self.schedule.links_changed = None;
        // In this order: an address that goes with its link is not missed on one that was up before.
        let addresses = self.network.addresses().await?;
        let links = self.network.links().await?;
        let actual = Arc::make_mut(&mut self.actual);
        actual.links = links;
        actual.addresses = addresses;
        Ok(())
    }

    /// Waits for the end of `reading` and minds the links meanwhile. `None` when an order has ended
    /// it. In no order: a reading is almost always ready for more.
    pub(super) async fn read<T>(
        &mut self,
        reading: impl Future<Output = io::Result<T>>,
        mut turn: Turn<'_, '_>,
    ) -> io::Result<Option<T>> {
        let mut reading = pin!(reading);
        loop {
            tokio::select! {
                () = turn.wanted() => match &mut turn {
                    Turn::Urgent(requests, busy) => {
                        self.carry_out_urgent(requests, busy).await;
                    }
                    Turn::Orders(_) => return Ok(None),
                },
                () = until(self.schedule.links_at()) => self.look_at_links().await,
                hints = self.listener.changed() => self.note(hints?),
                read = &mut reading => return read.map(Some),
            }
        }
    }

    /// Carries out plans until nothing is left that can be done now. An order may end it early.
    pub(super) async fn settle(&mut self, mut requests: Option<&mut Requests>) {
        let silent = self.desired().silent_links();
        self.table.retry(&silent);
        let mut rounds = 0;
        while rounds < ROUNDS {
            let began = Instant::now();
            let changes = plan(self.desired(), &self.actual);
            if !self.refusals.is_empty() {
                let missing: BTreeSet<Object> = changes.iter().map(Change::object).collect();
                Arc::make_mut(&mut self.refusals).retain(|object| missing.contains(object));
            }
            self.has_planned_much |= changes.len() > PIECE;
            self.schedule.cost += if rounds == 0 { began.elapsed() } else { Duration::ZERO };
            match self.reconcile(changes, requests.as_deref_mut()).await {
                Reconciled::Nothing => break,
                Reconciled::Done => rounds += 1,
                Reconciled::Outdated => {}
                Reconciled::Ordered => {
                    self.schedule.routes_changed(Instant::now());
                    break;
                }
            }
        }
        self.ownership.keep();
        self.schedule.looked(Instant::now(), self.refusals.next_deadline());
        // Reading and planning have taken several times what is kept of it.
        if std::mem::take(&mut self.has_planned_much) || self.schedule.cost > DEAR {
            give_back_what_is_free();
        }
    }

    /// Links up and addresses. A link goes down only after its routes, which are not known here.
    pub(super) async fn settle_links(&mut self) {
        for kind in [Kind::Links, Kind::Addresses] {
            let mut changes = plan_kind(self.desired(), &self.actual, kind);
            changes.retain(|change| !matches!(change, Change::SetLink { up: false, .. }));
            self.reconcile(changes, None).await;
        }
    }

    /// Carries out what is not put off after a refusal, in pieces. The neighbours of an address
    /// that had to be put back may look for it in the wrong place: the core is told.
    async fn reconcile(
        &mut self,
        mut changes: Vec<Change>,
        mut requests: Option<&mut Requests>,
    ) -> Reconciled {
        let now = Instant::now();
        if !self.refusals.is_empty() {
            changes.retain(|change| self.refusals.is_due(&change.object(), now));
        }
        if changes.is_empty() {
            return Reconciled::Nothing;
        }
        self.ownership.before(&changes);
        for (number, piece) in changes.chunks(PIECE).enumerate() {
            if let Some(requests) = requests.as_deref_mut().filter(|_| number > 0) {
                if self.carry_out_urgent(requests, &BTreeSet::new()).await {
                    return Reconciled::Outdated;
                }
                if requests.is_waited_for() {
                    return Reconciled::Ordered;
                }
            }
            let done = self.carry_out(piece).await;
            let groups: BTreeSet<&str> = done.into_iter().filter_map(master_of).collect();
            self.tell_restored(&groups).await;
        }
        Reconciled::Done
    }

    async fn tell_restored(&mut self, groups: &BTreeSet<&str>) {
        if !groups.is_empty() {
            // It announces on the interface as it knows it.
            self.tell_interfaces().await;
        }
        for group in groups {
            let group = (*group).to_owned();
            let event = if self.is_being_configured {
                CoreEvent::Extended { group }
            } else {
                CoreEvent::Restored { group }
            };
            // The core is gone only when the process is ending.
            drop(self.core.send(event).await);
        }
    }
}

/// How far it came.
enum Reconciled {
    /// There was nothing to be done now.
    Nothing,
    /// All of it was tried.
    Done,
    /// Steps have changed meanwhile what is wanted.
    Outdated,
    /// An order waits.
    Ordered,
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
