//! Links with a virtual MAC address: a macvlan in bridge mode, and the settings without which the
//! interface below would answer for its addresses, or it for those of the interface below.
//!
//! What the interface below had before is written into the alias of the macvlan, so that a later
//! run can put it back after this one was killed.

use std::collections::BTreeMap;

use lockstep_routes::{ActualLink, VIRTUAL_LINK_MARK, VirtualLink};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, MacVlanMode};
use rtnetlink::LinkMacVlan;

use crate::sysctl;

/// What an IPv4 interface with virtual links on it is set to, unless it is stricter already: it
/// answers only for addresses of its own, and asks only in the name of such.
///
/// Without the second, the first reply of a virtual address to a neighbour that the interface does
/// not know yet would be preceded by a question "who has NEIGHBOUR, tell VIRTUAL ADDRESS" with the
/// interface's own MAC address, and the neighbour would learn that one.
const BELOW: [(&str, u8); 2] = [("arp_ignore", 1), ("arp_announce", 2)];

/// Makes the link. In bridge mode, because the other routers send with the same MAC address: of a
/// private macvlan the kernel takes a multicast that comes in with its own address for one of its
/// own, and gives it to nobody else, so that the interface below, where this router listens, would
/// never hear another master.
pub(super) fn creation(link: &VirtualLink, parent: u32) -> (RouteNetlinkMessage, u16) {
    let message =
        LinkMacVlan::new(&link.name, parent, MacVlanMode::Bridge).address(link.mac.to_vec());
    (RouteNetlinkMessage::NewLink(message.build()), NLM_F_CREATE | NLM_F_EXCL)
}

/// Marks the link as ours. The kernel takes no alias when it makes a link; sent in one system call
/// with [`creation`] nothing can come in between.
pub(super) fn marking(link: &VirtualLink, alias: String) -> (RouteNetlinkMessage, u16) {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(link.name.clone()));
    message.attributes.push(LinkAttribute::IfAlias(alias));
    (RouteNetlinkMessage::SetLink(message), 0)
}

/// What the interfaces below had before virtual links came on them.
#[derive(Debug, Default)]
pub(super) struct Below(BTreeMap<u32, Before>);

/// By setting, of the interface named so when a virtual link was made on it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Before {
    name: String,
    settings: BTreeMap<String, u8>,
}

impl Below {
    /// Sets the interface below a link as it has to be, and returns the alias of the link.
    pub(super) fn prepare(&mut self, link: &VirtualLink, parent: u32) -> String {
        if link.is_ipv6() {
            // Neighbour discovery keeps to the addresses of the interface anyway.
            return VIRTUAL_LINK_MARK.to_owned();
        }
        let before = self.0.entry(parent).or_insert_with(|| Before::of(&link.parent));
        before.name.clone_from(&link.parent);
        for (setting, value) in BELOW {
            if before.settings.get(setting).is_some_and(|before| *before < value) {
                write(&before.path(setting), value);
            }
        }
        let noted = before.settings.iter().map(|(setting, value)| format!(" {setting}={value}"));
        std::iter::once(VIRTUAL_LINK_MARK.to_owned()).chain(noted).collect()
    }

    /// Learns from a link of an earlier run what the interface below had before that.
    pub(super) fn learn(&mut self, link: &VirtualLink, there: &ActualLink, parent: u32) {
        let Some(noted) = there.alias.strip_prefix(VIRTUAL_LINK_MARK) else { return };
        let settings = noted
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
            .filter(|(setting, _)| BELOW.iter().any(|(known, _)| known == setting))
            .filter_map(|(setting, value)| Some((setting.to_owned(), value.parse().ok()?)))
            .collect::<BTreeMap<_, _>>();
        if !settings.is_empty() {
            self.0.entry(parent).or_insert(Before { name: link.parent.clone(), settings });
        }
    }

    /// Puts back what was there before, where nobody has changed it since.
    pub(super) fn restore(&mut self) {
        for before in std::mem::take(&mut self.0).into_values() {
            for (setting, value) in BELOW {
                let path = before.path(setting);
                let Some(earlier) = before.settings.get(setting).filter(|old| **old < value) else {
                    continue;
                };
                if read(&path) == Some(value) {
                    write(&path, *earlier);
                }
            }
        }
    }
}

impl Before {
    fn of(name: &str) -> Self {
        let mut before = Self { name: name.to_owned(), settings: BTreeMap::new() };
        for (setting, _) in BELOW {
            if let Some(value) = read(&before.path(setting)) {
                before.settings.insert(setting.to_owned(), value);
            }
        }
        before
    }

    fn path(&self, setting: &str) -> String {
        ipv4(&self.name, setting)
    }
}

/// Sets a link with a virtual MAC address as it has to be; before it goes up, so that it never says
/// anything by itself.
pub(super) fn set_up(link: &VirtualLink) {
    let name = &link.name;
    // It answers only for addresses of its own.
    write(&ipv4(name, "arp_ignore"), 1);
    write(&ipv4(name, "promote_secondaries"), 1);
    // The route back to a neighbour may well lead through the interface below. The stricter of two
    // settings counts, except that "loose" beats "strict": so this needs no change to `all`.
    let everywhere = read(&ipv4("all", "rp_filter")).unwrap_or(0);
    write(&ipv4(name, "rp_filter"), if everywhere == 0 { 0 } else { 2 });
    inherit(&ipv4(&link.parent, "forwarding"), &ipv4(name, "forwarding"));
    if !link.is_ipv6() {
        write(&ipv6(name, "disable_ipv6"), 1);
        return;
    }
    write(&ipv6(name, "disable_ipv6"), 0);
    inherit(&ipv6(&link.parent, "forwarding"), &ipv6(name, "forwarding"));
    // No address of its own: two routers with the same MAC address would make the same one.
    for (setting, value) in [("addr_gen_mode", 1), ("accept_ra", 0), ("autoconf", 0)] {
        write(&ipv6(name, setting), value);
    }
}

fn ipv4(name: &str, setting: &str) -> String {
    format!("net/ipv4/conf/{name}/{setting}")
}

fn ipv6(name: &str, setting: &str) -> String {
    format!("net/ipv6/conf/{name}/{setting}")
}

fn inherit(from: &str, to: &str) {
    if let Some(value) = read(from) {
        write(to, value);
    }
}

fn read(setting: &str) -> Option<u8> {
    sysctl::read(setting).ok()?.parse().ok()
}

/// A setting that cannot be made is one that this kernel does not have (no IPv6), or one that an
/// operator has forbidden; the link is better than none.
fn write(setting: &str, value: u8) {
    if read(setting) == Some(value) {
        return;
    }
    if let Err(error) = sysctl::write(setting, &value.to_string()) {
        if error.kind() == std::io::ErrorKind::NotFound {
            tracing::debug!(setting, %error, "not set");
        } else {
            tracing::warn!(setting, value, %error, "cannot set what a virtual MAC address needs");
        }
    }
}
