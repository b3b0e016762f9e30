//! What the core and `status` are told.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_routes::{ActualAddress, Link, PROTOCOL_LOCKSTEP, Route, State, VirtualLink, assess};

use super::Actor;
use crate::messages::{CoreEvent, InterfaceState, LinkState};
use crate::status;

impl Actor {
    /// Tells the core of every interface that is not what it was told last.
    pub(super) async fn tell_interfaces(&mut self) {
        let own = self.own_addresses();
        let states: Vec<_> =
            self.interfaces.iter().map(|name| (name.clone(), self.interface(name, &own))).collect();
        for (name, state) in states {
            if self.told.get(&name) != Some(&state) {
                // The core is gone only when the process is ending.
                drop(self.core.send(CoreEvent::Interface(state.clone())).await);
                self.told.insert(name, state);
            }
        }
    }

    /// The addresses that are not virtual, by link.
    fn own_addresses(&self) -> BTreeMap<u32, Vec<&ActualAddress>> {
        let declared: BTreeSet<_> = self
            .declared
            .addresses
            .iter()
            .map(|declared| (declared.interface.as_str(), declared.address))
            .collect();
        let mut own: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for there in &self.actual.addresses {
            let link = self.actual.links.get(&there.index).map_or("", |link| &link.name);
            if there.protocol != PROTOCOL_LOCKSTEP && !declared.contains(&(link, there.address)) {
                own.entry(there.index).or_default().push(there);
            }
        }
        own
    }

    fn interface(&self, name: &str, own: &BTreeMap<u32, Vec<&ActualAddress>>) -> InterfaceState {
        let link = self.actual.link(name).map(|link| {
            let own = own.get(&link.index).map_or(&[][..], Vec::as_slice);
            let those = |which: fn(&ActualAddress) -> bool| {
                own.iter().filter(|own| which(own)).map(|own| own.address.addr()).collect()
            };
            LinkState {
                index: link.index,
                up: link.up,
                carrier: link.carrier,
                mac: link.mac,
                mtu: link.mtu,
                addresses: those(|own| !own.tentative),
                tentative: those(|own| own.tentative && !own.duplicate),
                duplicate: those(|own| own.duplicate),
            }
        });
        InterfaceState { name: name.to_owned(), link }
    }

    /// Every declared object as the last look shows it.
    pub(super) fn status(&self) -> status::Network {
        let states = assess(self.desired(), &self.actual, &self.refusals);
        let declared = &self.declared;
        status::Network {
            links: declared
                .links
                .iter()
                .zip(states.links)
                .map(|(link, state)| object(self.link_text(link), &state))
                .chain(
                    declared
                        .virtual_links
                        .iter()
                        .zip(states.virtual_links)
                        .map(|(link, state)| object(virtual_link_text(link), &state)),
                )
                .collect(),
            addresses: declared
                .addresses
                .iter()
                .zip(states.addresses)
                .map(|(address, state)| object(address.to_string(), &state))
                .collect(),
            routes: declared
                .routes
                .iter()
                .zip(states.routes)
                .map(|(route, state)| self.route(route, &state))
                .collect(),
            rules: declared
                .rules
                .iter()
                .zip(states.rules)
                .map(|(rule, state)| object(rule.key().describe(declared), &state))
                .collect(),
        }
    }

    fn link_text(&self, link: &Link) -> String {
        match self.phases.wants_link(&link.up) {
            Some(true) => format!("{} up", link.interface),
            Some(false) => format!("{} down", link.interface),
            None => link.interface.clone(),
        }
    }

    fn route(&self, route: &Route, state: &State) -> status::Route {
        status::Route {
            table: self.declared.table_name(route.table),
            kind: route.kind.as_str().to_owned(),
            destination: route.destination(),
            via: route.next_hops.first().and_then(|hop| hop.via).map(|via| via.to_string()),
            interface: route.next_hops.first().and_then(|hop| hop.dev.clone()),
            state: state.as_str().to_owned(),
            reason: state.reason(),
        }
    }
}

fn virtual_link_text(link: &VirtualLink) -> String {
    let mac = link.mac.map(|byte| format!("{byte:02x}")).join(":");
    format!("{} {mac} on {}", link.name, link.parent)
}

fn object(object: String, state: &State) -> status::Object {
    status::Object { object, state: state.as_str().to_owned(), reason: state.reason() }
}
