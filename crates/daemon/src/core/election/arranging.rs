//! Other virtual routers while elections are under way.
//!
//! Places are those of the configuration, so all of them may be others afterwards. Whoever is still
//! there goes on: its election, and the sockets that it hears and speaks by.

use std::collections::BTreeMap;
use std::time::Instant;

use lockstep_vrrp::{Authentication, Event};

use super::router::{Router, way_of};
use super::{Elections, RETRY_AFTER, concerned};

impl Elections {
    /// Has these virtual routers. One that its neighbours know by the same goes on with other
    /// settings; another one begins, and one that is gone is forgotten: it is to have left. What they
    /// had to say is to have been sent.
    pub(in crate::core) fn configure(
        &mut self,
        wanted: &[lockstep_config::VirtualRouter],
        now: Instant,
    ) {
        let goes_on = |(router, wanted): (&Router, _)| self.is(router, wanted);
        let routers = &self.machines.routers;
        if routers.len() != wanted.len() || !routers.iter().zip(wanted).all(goes_on) {
            self.arrange(wanted, now);
        }
        self.concerned = concerned(wanted);
        // Whoever asks has known those that nobody is concerned with no longer than this.
        self.links.retain(|name, _| self.concerned.contains_key(name));
        for (place, wanted) in wanted.iter().enumerate() {
            let router = &mut self.machines.routers[place];
            router.group.clone_from(&wanted.group);
            router.carriers.clone_from(&wanted.carriers);
            router.encoder.configure(&wanted.vrrp);
            let settings = Box::new(wanted.vrrp.clone());
            self.machines.event(place, Event::Configure(settings), now);
        }
    }

    /// Whether a virtual router is the wanted one for everybody who hears it.
    fn is(&self, router: &Router, wanted: &lockstep_config::VirtualRouter) -> bool {
        let (before, after) = (router.machine.config(), &wanted.vrrp);
        let has_header = |one: &Authentication| matches!(one, Authentication::Header(_));
        router.name == wanted.name
            && router.interface == wanted.interface
            && router.virtual_link == wanted.virtual_link
            && router.source == wanted.source
            && self.machines.ways.is(router.way, &way_of(wanted))
            && (before.vrid, before.version, before.family)
                == (after.vrid, after.version, after.family)
            && before.transport == after.transport
            && has_header(&before.authentication) == has_header(&after.authentication)
    }

    fn arrange(&mut self, wanted: &[lockstep_config::VirtualRouter], now: Instant) {
        let mut next = Self::new(wanted);
        let stays = |router: &Router| {
            wanted.iter().any(|wanted| wanted.name == router.name && self.is(router, wanted))
        };
        let stays: Vec<bool> = self.machines.routers.iter().map(stays).collect();
        let routers = std::mem::take(&mut self.machines.routers).into_iter().zip(stays);
        let mut before: BTreeMap<String, Router> = routers
            .filter(|(_, stays)| *stays)
            .map(|(router, _)| (router.name.clone(), router))
            .collect();
        for (place, slot) in next.machines.routers.iter_mut().enumerate() {
            let Some(router) = before.remove(&slot.name) else { continue };
            *slot = Router { way: slot.way, ..router };
            next.machines.timers.set(place, slot.machine.next_deadline());
        }
        std::mem::swap(&mut next.machines.news, &mut self.machines.news);
        std::mem::swap(&mut next.machines.warnings, &mut self.machines.warnings);
        next.machines.overslept = self.machines.overslept;
        next.machines.ways.go_on_from(&mut self.machines.ways);
        next.links = std::mem::take(&mut self.links);
        next.retry_at = self.retry_at;
        if next.lans.go_on_from(&mut self.lans) {
            next.retry_at.get_or_insert(now + RETRY_AFTER);
        }
        *self = next;
    }
}
