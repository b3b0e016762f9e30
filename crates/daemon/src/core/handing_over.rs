//! Handing over: hearing whether the successor serves, and telling whoever asked how it went.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::net::IpAddr;
use std::task::Poll;
use std::time::Instant;

use lockstep_failover::{HandedOver, Outcome, StepId};
use lockstep_kernel::vrrp::AnnouncementListener;
use lockstep_vrrp::{AnnouncementTarget, Family};
use tokio::sync::oneshot;
use tracing::{debug, info};

use super::Core;
use super::wire::WireStep;
use crate::control::protocol::Switched;
use crate::messages::MaintenanceChange;

/// Most people who wait for one hand-over; the control socket has no more connections.
const MOST_ASKERS: usize = 64;

/// Who waits for the end of a hand-over.
pub(super) type Asker = oneshot::Sender<Result<Switched, String>>;

/// The hand-overs under way.
#[derive(Default)]
pub(super) struct HandingOver {
    ears: BTreeMap<String, Ears>,
    askers: BTreeMap<String, Vec<Asker>>,
}

/// What is listened for on account of one group.
struct Ears {
    listeners: Vec<Ear>,
    opened: Instant,
    /// The step that waits for them.
    step: Option<StepId>,
}

struct Ear {
    interface: String,
    listener: AnnouncementListener,
    addresses: BTreeSet<IpAddr>,
    /// Where the first announcement came from, and when.
    heard: Option<([u8; 6], Instant)>,
}

impl HandingOver {
    /// Begins to listen where the group's addresses are.
    ///
    /// # Errors
    /// Where that cannot be done, in a sentence.
    fn listen(
        &mut self,
        group: &str,
        targets: Vec<(u32, AnnouncementTarget)>,
    ) -> Result<(), String> {
        let mut places: BTreeMap<(String, u32, bool), BTreeSet<IpAddr>> = BTreeMap::new();
        for (index, target) in targets {
            let place = (target.interface.to_string(), index, target.address.is_ipv6());
            places.entry(place).or_default().insert(target.address);
        }
        let mut listeners = Vec::new();
        for ((interface, index, is_ipv6), addresses) in places {
            let family = if is_ipv6 { Family::Ipv6 } else { Family::Ipv4 };
            let listener = AnnouncementListener::open(index, family)
                .map_err(|error| format!("cannot hear announcements on {interface}: {error}"))?;
            listeners.push(Ear { interface, listener, addresses, heard: None });
        }
        let ears = Ears { listeners, opened: Instant::now(), step: None };
        self.ears.insert(group.to_owned(), ears);
        Ok(())
    }

    fn close(&mut self, group: &str) {
        self.ears.remove(group);
    }

    /// Waits until [`HandingOver::hear`] may bring something; for ever when nothing is listened
    /// for.
    pub(super) async fn readable(&mut self) {
        poll_fn(|context| {
            for ear in self.ears.values_mut().flat_map(|ears| &mut ears.listeners) {
                if ear.heard.is_none() && ear.listener.poll_ready(context).is_ready() {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        })
        .await;
    }

    /// Takes what was announced. Returns the steps that have waited for it.
    pub(super) fn hear(&mut self) -> Vec<(StepId, Outcome)> {
        let mut ended = Vec::new();
        for ears in self.ears.values_mut() {
            for ear in ears.listeners.iter_mut().filter(|ear| ear.heard.is_none()) {
                ear.hear();
            }
            ended.extend(ears.result());
        }
        ended
    }
}

impl Ear {
    /// What comes in is never this host's own. An interface that goes down is a fault, which ends
    /// the hand-over.
    fn hear(&mut self) {
        match self.listener.receive() {
            Ok(heard) => {
                let ours = heard.into_iter().find(|(address, _)| self.addresses.contains(address));
                self.heard = ours.map(|(_, mac)| (mac, Instant::now()));
            }
            Err(error) => debug!(interface = self.interface, %error, "cannot hear announcements"),
        }
    }
}

impl Ears {
    /// The step, when it waits for nothing more.
    fn result(&mut self) -> Option<(StepId, Outcome)> {
        let all = self.listeners.iter().map(|ear| ear.heard).collect::<Option<Vec<_>>>()?;
        let step = self.step.take()?;
        let detail = match all.iter().map(|(_, at)| *at).max() {
            None => "it has no address that could be announced".to_owned(),
            Some(at) => {
                let place = |ear: &Ear| {
                    let mac = ear.heard.map(|(mac, _)| mac.map(|byte| format!("{byte:02x}")));
                    format!("{} on {}", mac.unwrap_or_default().join(":"), ear.interface)
                };
                let places: Vec<String> = self.listeners.iter().map(place).collect();
                let after = at.saturating_duration_since(self.opened);
                format!("announced by {} after {after:.1?}", places.join(", "))
            }
        };
        Some((step, Outcome::Done(detail)))
    }
}

impl Core {
    /// Tells the others that the next may claim. This router says nothing of its addresses any more
    /// and hears who does.
    pub(super) fn retire(&mut self, id: StepId, group: &str) -> Option<Outcome> {
        let targets = self.announcing.heard(group);
        if let Err(why) = self.handing_over.listen(group, targets) {
            return Some(Outcome::Failed(why));
        }
        self.announcing.stop(group);
        let members: Vec<String> = self.failover.members(group).map(str::to_owned).collect();
        let now = Instant::now();
        for member in &members {
            self.elections.retire(member, now);
        }
        self.on_the_wire.push(WireStep::Retired { id, members });
        None
    }

    /// Waits until the successor announces the group's addresses.
    pub(super) fn await_service(&mut self, id: StepId, group: &str) -> Option<Outcome> {
        let Some(ears) = self.handing_over.ears.get_mut(group) else {
            return Some(Outcome::Failed("nobody listens".to_owned()));
        };
        ears.step = Some(id);
        ears.result().map(|(_, outcome)| outcome)
    }

    /// The group serves no more, or claims again.
    pub(super) fn hears_no_more(&mut self, group: &str) {
        self.handing_over.close(group);
    }

    /// Begins what somebody asks for, and remembers who; or says why not.
    pub(super) fn switch_over(&mut self, group: &str, force: bool, asker: Asker) {
        match self.failover.switchover(group, force, Instant::now()) {
            Ok(actions) => {
                info!(group, force, "is to be handed over");
                self.remember(group, asker);
                self.carry_out(actions);
            }
            // Whoever asked may have given up.
            Err(why) => drop(asker.send(Err(why))),
        }
    }

    /// Takes or ends an order that a group is not to be master.
    pub(super) fn maintain(&mut self, change: MaintenanceChange) {
        let MaintenanceChange { group, since, asker } = change;
        info!(group, since, "maintenance");
        match self.failover.maintain(&group, since.clone(), Instant::now()) {
            Ok(actions) => {
                match since {
                    Some(since) => drop(self.kept_out.entry(group.clone()).or_insert(since)),
                    None => drop(self.kept_out.remove(&group)),
                }
                if let Some(asker) = asker {
                    self.remember(&group, asker);
                }
                self.carry_out(actions);
                if !self.failover.is_handing_over(&group) {
                    let nothing = Ok(HandedOver::default());
                    self.answer_askers(&group, &nothing);
                }
            }
            Err(why) => drop(asker.map(|asker| asker.send(Err(why)))),
        }
    }

    fn remember(&mut self, group: &str, asker: Asker) {
        let askers = self.handing_over.askers.entry(group.to_owned()).or_default();
        askers.retain(|asker| !asker.is_closed());
        if askers.len() < MOST_ASKERS {
            askers.push(asker);
        } else {
            drop(asker.send(Err("too many wait for this already".to_owned())));
        }
    }

    pub(super) fn handover_ended(&mut self, group: &str, result: &Result<HandedOver, String>) {
        match result {
            Ok(done) => info!(group, ?done, "handed over"),
            Err(why) => info!(group, why, "not handed over"),
        }
        self.hears_no_more(group);
        self.answer_askers(group, result);
    }

    fn answer_askers(&mut self, group: &str, result: &Result<HandedOver, String>) {
        for asker in self.handing_over.askers.remove(group).unwrap_or_default() {
            let answer = result.as_ref().map(|done| switched(group, done)).map_err(Clone::clone);
            drop(asker.send(answer));
        }
    }
}

fn switched(group: &str, done: &HandedOver) -> Switched {
    let us =
        |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    Switched {
        group: group.to_owned(),
        master: done.to.map(|address| address.to_string()),
        announced: done.announced,
        prepared_us: us(done.prepared_after),
        claimed_us: done.claimed_after.map(us),
        served_us: done.served_after.map(us),
    }
}
