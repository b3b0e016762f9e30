//! What the core and `status` are told.

use lockstep_routes::{Link, Route, State, assess};

use super::Actor;
use crate::messages::{CoreEvent, InterfaceState, LinkState};
use crate::status;

impl Actor {
    /// Tells the core of every interface that is not what it was told last.
    pub(super) async fn tell_interfaces(&mut self) {
        for name in &self.interfaces {
            let state = self.interface(name);
            if self.told.get(name) != Some(&state) {
                // The core is gone only when the process is ending.
                drop(self.core.send(CoreEvent::Interface(state.clone())).await);
                self.told.insert(name.clone(), state);
            }
        }
    }

    fn interface(&self, name: &str) -> InterfaceState {
        let link = self.actual.link(name).map(|link| LinkState {
            index: link.index,
            up: link.up,
            carrier: link.carrier,
            mac: link.mac,
            mtu: link.mtu,
            addresses: self
                .actual
                .addresses
                .iter()
                .filter(|there| there.index == link.index && !there.tentative)
                .filter(|there| there.protocol != lockstep_routes::PROTOCOL_LOCKSTEP)
                .filter(|there| {
                    !self.declared.addresses.iter().any(|declared| {
                        declared.interface == name && declared.address == there.address
                    })
                })
                .map(|there| there.address.addr())
                .collect(),
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
            via: route.via.map(|via| via.to_string()),
            interface: route.dev.clone(),
            state: state.as_str().to_owned(),
            reason: state.reason(),
        }
    }
}

fn object(object: String, state: &State) -> status::Object {
    status::Object { object, state: state.as_str().to_owned(), reason: state.reason() }
}
