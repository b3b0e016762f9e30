//! What the core is told.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_routes::{ActualAddress, PROTOCOL_LOCKSTEP};

use super::Actor;
use crate::messages::{CoreEvent, InterfaceState, LinkState};

/// The interfaces that elections run on, that virtual addresses live on, and that are tracked.
pub(crate) fn interfaces_of(config: &lockstep_config::Config) -> BTreeSet<String> {
    let elections = config.virtual_routers.iter().map(|router| router.interface.clone());
    let virtual_links =
        config.virtual_routers.iter().filter_map(|router| router.virtual_link.clone());
    let addresses = config.declared.addresses.iter().map(|address| address.interface.clone());
    let tracked = crate::tracking::interfaces(&config.failover);
    elections.chain(virtual_links).chain(addresses).chain(tracked).collect()
}

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
}
