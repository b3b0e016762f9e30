//! What a plan or an assessment looks up again and again, by name: with thousands of addresses a
//! search for each of them would take longer than the kernel does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Actual, ActualAddress, ActualLink, Desired, Kind};

/// Links by name and addresses by place.
pub(crate) struct Index<'a> {
    links: BTreeMap<&'a str, &'a ActualLink>,
    addresses: BTreeMap<(u32, IpAddr), Vec<&'a ActualAddress>>,
    wanted: BTreeSet<(&'a str, IpNet)>,
    virtual_links: BTreeSet<&'a str>,
}

impl<'a> Index<'a> {
    pub(crate) fn of(desired: Desired<'a>, actual: &'a Actual) -> Self {
        let mut addresses: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for there in &actual.addresses {
            addresses.entry((there.index, there.address.addr())).or_default().push(there);
        }
        let declared = desired.declared;
        let wanted = declared
            .addresses
            .iter()
            .filter(|address| desired.phases.wants(&address.condition, Kind::Addresses))
            .map(|address| (address.interface.as_str(), address.address))
            .collect();
        Self {
            links: actual.links.values().map(|link| (link.name.as_str(), link)).collect(),
            addresses,
            wanted,
            virtual_links: declared.virtual_links.iter().map(|link| link.name.as_str()).collect(),
        }
    }

    /// The link of that name.
    pub(crate) fn link(&self, name: &str) -> Option<&'a ActualLink> {
        self.links.get(name).copied()
    }

    /// Whether a virtual link of that name is declared.
    pub(crate) fn is_virtual_link(&self, name: &str) -> bool {
        self.virtual_links.contains(name)
    }

    /// Whether an address is wanted now, by any of its declarations.
    pub(crate) fn is_wanted(&self, interface: &str, address: IpNet) -> bool {
        self.wanted.contains(&(interface, address))
    }

    /// Whether the link has the address.
    pub(crate) fn has_address(&self, index: u32, address: IpNet) -> bool {
        self.same_ip(index, address).any(|there| there.address == address)
    }

    /// The address that keeps `address` out: an IPv6 address can be on a link with one prefix
    /// length only.
    pub(crate) fn in_place_of(&self, index: u32, address: IpNet) -> Option<&'a ActualAddress> {
        self.same_ip(index, address)
            .find(|there| there.address != address && address.addr().is_ipv6())
    }

    fn same_ip(&self, index: u32, address: IpNet) -> impl Iterator<Item = &'a ActualAddress> {
        self.addresses.get(&(index, address.addr())).into_iter().flatten().copied()
    }
}
