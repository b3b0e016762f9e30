//! `virtual-mac` of a virtual router: the interface of our own that carries the MAC address of its
//! VRID.

use lockstep_routes::VirtualLink;
use lockstep_vrrp::{Family, Vrid};
use toml::Spanned;

use crate::problem::{Problem, Report};
use crate::reader::Table;
use crate::virtual_router::ReadVirtualRouter;
use crate::words;

/// Longest name of an interface in bytes (`IFNAMSIZ` without the closing zero).
const NAME_LENGTH: usize = 15;

/// The interface, when there is to be one and what it follows from was understood.
pub(crate) fn read(
    table: &Table<'_>,
    parent: Option<&Spanned<String>>,
    vrid: Option<&Spanned<Vrid>>,
    family: Option<Family>,
) -> Option<Spanned<VirtualLink>> {
    let value = table.get("virtual-mac")?;
    let given = if value.is_string() {
        Some(value.parse(words::interface)?)
    } else if value.boolean()? {
        None
    } else {
        return None;
    };
    let (parent, vrid, family) = (parent?.get_ref(), vrid?.get_ref(), family?);
    let name = given.unwrap_or_else(|| usual_name(parent, *vrid, family));
    if name == *parent {
        return value.reject(
            Problem::error(format!("{name} cannot carry itself"))
                .label("is the interface below")
                .help("write another name, or `virtual-mac = true`"),
        );
    }
    let link = VirtualLink { name, parent: parent.clone(), mac: mac(*vrid, family) };
    Some(Spanned::new(value.span(), link))
}

/// The virtual router MAC address (RFC 9568 §7.3).
fn mac(vrid: Vrid, family: Family) -> [u8; 6] {
    let family = match family {
        Family::Ipv4 => 1,
        Family::Ipv6 => 2,
    };
    [0, 0, 0x5e, 0, family, vrid.value()]
}

/// `eth0v51v4`: interface, VRID and family, as `VyOS` has it. Where that is too long, a number made of
/// the interface's name stands for it: the name stays the same from start to start.
fn usual_name(parent: &str, vrid: Vrid, family: Family) -> String {
    let family = match family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 6,
    };
    let name = format!("{parent}v{vrid}v{family}");
    if name.len() <= NAME_LENGTH {
        return name;
    }
    format!("v{vrid}v{family}-{:08x}", fingerprint(parent))
}

/// FNV-1a of 32 bits.
fn fingerprint(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Interfaces of our own have names that nothing else has.
pub(crate) fn report_taken_names(report: &Report, routers: &[ReadVirtualRouter]) {
    for (index, router) in routers.iter().enumerate() {
        let Some(link) = &router.virtual_link else { continue };
        let name = &link.get_ref().name;
        let earlier = routers[..index]
            .iter()
            .filter_map(|other| other.virtual_link.as_ref())
            .find(|other| other.get_ref().name == *name)
            .map(toml::Spanned::span);
        let below = routers
            .iter()
            .filter_map(|other| other.interface.as_ref())
            .find(|interface| interface.get_ref() == name)
            .map(toml::Spanned::span);
        if let Some(taken) = earlier.or(below) {
            report.push(
                Problem::error(format!("two interfaces are called {name}"))
                    .label("cannot be made")
                    .help("write `virtual-mac = \"NAME\"` with a name of its own")
                    .at(link.span())
                    .context(taken, "has the name"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_name_says_interface_vrid_and_family_and_always_fits() {
        let vrid = |vrid| Vrid::new(vrid).unwrap();
        assert_eq!(usual_name("eth0", vrid(51), Family::Ipv4), "eth0v51v4");
        assert_eq!(usual_name("bond0.100", vrid(7), Family::Ipv6), "bond0.100v7v6");
        let long = usual_name("enp129s0f0np0", vrid(255), Family::Ipv6);
        assert_eq!(long.len(), NAME_LENGTH);
        assert!(long.starts_with("v255v6-"), "{long}");
        assert_ne!(long, usual_name("enp129s0f0np1", vrid(255), Family::Ipv6));
        assert_eq!(long, usual_name("enp129s0f0np0", vrid(255), Family::Ipv6));
    }
}
