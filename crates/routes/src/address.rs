//! What is to be done about addresses.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::index::Index;
use crate::{
    Actual, ActualAddress, Address, Change, Desired, Kind, PROTOCOL_LOCKSTEP, Scope,
    VIRTUAL_LINK_METRIC,
};

/// The changes of addresses.
pub(crate) struct AddressChanges {
    /// What is added, and what has to go right before.
    pub(crate) first: Vec<Change>,
    /// What goes when everything else is in place.
    pub(crate) last: Vec<Change>,
    /// The addresses that are gone afterwards.
    pub(crate) gone: BTreeSet<(u32, IpNet)>,
}

/// What brings the addresses to what is wanted.
pub(crate) fn changes(desired: Desired<'_>, actual: &Actual, index: &Index<'_>) -> AddressChanges {
    let mut wanted = BTreeSet::new();
    let mut declared = BTreeSet::new();
    let mut first = Vec::new();
    let mut replaced = BTreeSet::new();
    for address in &desired.declared.addresses {
        let Some(link) = index.link(&address.interface) else { continue };
        declared.insert((link.index, address.address));
        if !desired.phases.wants(&address.condition, Kind::Addresses)
            || !wanted.insert((link.index, address.address))
            || is_impossible(address.address, index.is_up(link.index))
        {
            continue;
        }
        let added = addition(link.index, address, index);
        match index.address(link.index, address.address) {
            Some(there) if can_be_made_anew(there, address, index) => {
                first.extend(made_anew(there, address, added, index));
            }
            Some(_) => {}
            None => match index.in_place_of(link.index, address.address) {
                // Ours of another prefix length: one IPv6 address is not there twice.
                Some(there) if there.protocol == PROTOCOL_LOCKSTEP => {
                    if replaced.insert((there.index, there.address)) {
                        first.extend([removal(there, actual), added]);
                    }
                }
                Some(_) => {}
                None => first.push(added),
            },
        }
    }
    let leaving = actual.addresses.iter().filter(|there| {
        let place = (there.index, there.address);
        let ours = there.protocol == PROTOCOL_LOCKSTEP || declared.contains(&place);
        ours && !wanted.contains(&place) && !replaced.contains(&place)
    });
    let last: Vec<_> = leaving.map(|there| removal(there, actual)).collect();
    let gone = last.iter().filter_map(|change| match change {
        Change::RemoveAddress { index, address, .. } => Some((*index, *address)),
        _ => None,
    });
    let gone = gone.chain(replaced).collect();
    AddressChanges { first, last, gone }
}

fn addition(index: u32, address: &Address, known: &Index<'_>) -> Change {
    let metric = known.is_virtual_link(&address.interface).then_some(VIRTUAL_LINK_METRIC);
    Change::AddAddress { index, address: address.clone(), metric }
}

fn removal(there: &ActualAddress, actual: &Actual) -> Change {
    Change::RemoveAddress {
        index: there.index,
        name: actual.link_name(there.index),
        address: there.address,
    }
}

/// IPv6 has no addresses on a link that is down: the kernel removes them there.
pub(crate) fn is_impossible(address: IpNet, up: bool) -> bool {
    address.addr().is_ipv6() && !up
}

impl Address {
    /// The label as the kernel has it; one that nobody has given is the interface's name.
    pub(crate) fn label(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.interface)
    }
}

impl Scope {
    /// The number (`/etc/iproute2/rt_scopes`).
    pub fn number(self) -> u8 {
        match self {
            Self::Global => 0,
            Self::Link => 253,
            Self::Host => 254,
        }
    }
}

/// Whether an address of ours is there with another broadcast address, label or scope than it is
/// declared with. Those of IPv6 have none of them. An address that somebody else has put there is
/// as they want it.
pub(crate) fn has_drifted(there: &ActualAddress, address: &Address) -> bool {
    there.protocol == PROTOCOL_LOCKSTEP
        && there.address.addr().is_ipv4()
        && (there.broadcast != address.broadcast
            || there.label.as_deref().is_some_and(|label| label != address.label())
            || there.scope != address.scope.number())
}

/// Whether an address that has drifted can be made anew; the kernel changes none of the three in
/// place. Not when that would cost others something for what is hardly more than a name:
///
/// - with the last IPv4 address of a link every route over it goes, also in other tables. An
///   address with a network keeps its link by a second one without network meanwhile; one that has
///   no network itself stays as it is where no other address keeps the link.
/// - somebody else's secondary address would become the first of its network, and with it the
///   source of what the router begins itself.
///
/// All addresses of one network on a link have one scope: one of another scope is not taken.
pub(crate) fn can_be_made_anew(
    there: &ActualAddress,
    address: &Address,
    index: &Index<'_>,
) -> bool {
    if !has_drifted(there, address) {
        return false;
    }
    let others = || {
        index
            .on_link(there.index)
            .filter(|other| other.address != there.address && other.address.addr().is_ipv4())
    };
    let network = || others().filter(|other| other.address.trunc() == there.address.trunc());
    let outranks_others =
        !there.secondary && network().any(|other| other.protocol != PROTOCOL_LOCKSTEP);
    let keeps_link = there.address.prefix_len() < there.address.max_prefix_len();
    !outranks_others
        && network().all(|other| other.scope == address.scope.number())
        && (keeps_link || others().next().is_some())
}

/// An address is removed and added with all it is declared with. Meanwhile the router keeps it,
/// without its network: neither a connection nor a route that has it as source is lost.
fn made_anew(
    there: &ActualAddress,
    address: &Address,
    added: Change,
    index: &Index<'_>,
) -> Vec<Change> {
    let name = &address.interface;
    let plain = IpNet::from(there.address.addr());
    let remove =
        |address| Change::RemoveAddress { index: there.index, name: name.clone(), address };
    if plain == there.address || index.same_ip(there.index, plain).any(|other| other != there) {
        return vec![remove(there.address), added];
    }
    let keeper = Address { address: plain, broadcast: None, label: None, ..address.clone() };
    let keep = Change::AddAddress { index: there.index, address: keeper, metric: None };
    vec![keep, remove(there.address), added, remove(plain)]
}
