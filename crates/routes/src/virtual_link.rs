//! Links with a virtual MAC address: which of them have to be made, raised or removed.

use crate::index::Index;
use crate::{Actual, ActualLink, Change, Desired, Object, Reason, Refusals, State, VirtualLink};

/// How the alias (`IFLA_IFALIAS`) of a link begins that lockstep has made: it is removed when
/// nobody declares it any more, also by a later run.
pub const VIRTUAL_LINK_MARK: &str = "lockstep";

/// Metric of the connected routes of addresses on a virtual link. The interface below usually has
/// an address of the same network, whose route is to stay the better one whichever of the two came
/// back first: a router whose own traffic changed its interface with every flap would be refused
/// by the reverse path filter, its own and others'.
pub const VIRTUAL_LINK_METRIC: u32 = 1024;

impl VirtualLink {
    /// Whether it is an IPv6 virtual router's (RFC 9568 §7.3).
    pub fn is_ipv6(&self) -> bool {
        self.mac[4] == 2
    }

    /// Whether a link is the declared one, whoever made it.
    fn is(&self, there: &ActualLink, parent: u32) -> bool {
        there.mac == self.mac
            && there.macvlan.is_some_and(|macvlan| macvlan.bridge && macvlan.parent == parent)
    }
}

impl ActualLink {
    /// Whether it is a link with a virtual MAC address that lockstep has made, now or earlier.
    pub fn is_own_virtual_link(&self) -> bool {
        self.macvlan.is_some() && self.alias.starts_with(VIRTUAL_LINK_MARK)
    }
}

/// Those that go, then those that are made and those that go up. A link goes when it is ours and
/// not, or no longer, as it is declared; one goes up as soon as the link below is up and stays so.
pub(crate) fn changes(
    desired: Desired<'_>,
    actual: &Actual,
    index: &Index<'_>,
) -> (Vec<Change>, Vec<Change>) {
    let mut leaving: Vec<Change> = actual
        .links
        .values()
        .filter(|there| there.is_own_virtual_link() && !index.is_virtual_link(&there.name))
        .map(removal)
        .collect();
    let mut coming = Vec::new();
    for link in &desired.declared.virtual_links {
        let Some(parent) = index.link(&link.parent) else { continue };
        match index.link(&link.name) {
            Some(there) if link.is(there, parent.index) => {
                if parent.up && !there.up {
                    let name = there.name.clone();
                    coming.push(Change::SetLink { index: there.index, name, up: true });
                }
            }
            Some(there) if !there.is_own_virtual_link() => {}
            there => {
                leaving.extend(there.map(removal));
                coming.push(Change::AddVirtualLink { link: link.clone(), parent: parent.index });
            }
        }
    }
    (leaving, coming)
}

fn removal(there: &ActualLink) -> Change {
    Change::RemoveLink { index: there.index, name: there.name.clone() }
}

/// How a declared one stands.
pub(crate) fn assess(link: &VirtualLink, index: &Index<'_>, refusals: &Refusals) -> State {
    let Some(parent) = index.link(&link.parent) else {
        return State::Pending(Reason::LinkMissing(link.parent.clone()));
    };
    match index.link(&link.name) {
        Some(there) if link.is(there, parent.index) => {
            if there.up && there.carrier {
                State::Installed
            } else if parent.up && !there.up {
                due(link, refusals)
            } else if parent.up {
                State::Pending(Reason::NoCarrier(link.parent.clone()))
            } else {
                State::Pending(Reason::LinkDown(link.parent.clone()))
            }
        }
        Some(there) if !there.is_own_virtual_link() => {
            State::Pending(Reason::NameTaken(link.name.clone()))
        }
        Some(_) | None => due(link, refusals),
    }
}

fn due(link: &VirtualLink, refusals: &Refusals) -> State {
    crate::assess::due(&Object::Link(link.name.clone()), refusals)
}
