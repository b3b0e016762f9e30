//! How a neighbour's list of virtual addresses differs from ours: told, never a reason to drop.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::advertisement::Advertisement;

/// Two routers of one VRID advertise different addresses, for example while one is being
/// reconfigured. `Display` is a sentence for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AddressListDifference {
    /// The neighbour.
    pub source: IpAddr,
    /// Ours, and not theirs; in the order of the addresses.
    pub missing: Vec<IpAddr>,
    /// Theirs, and not ours; in the order of the addresses.
    pub additional: Vec<IpAddr>,
}

impl AddressListDifference {
    /// `None` when both lists hold the same addresses, in whatever order.
    pub(crate) fn between(
        ours: &[IpAddr],
        advertisement: &Advertisement,
        source: IpAddr,
    ) -> Option<Self> {
        if ours == advertisement.addresses {
            return None;
        }
        let theirs: BTreeSet<_> = advertisement.addresses.iter().copied().collect();
        let ours: BTreeSet<_> = ours.iter().copied().collect();
        let missing: Vec<_> = ours.difference(&theirs).copied().collect();
        let additional: Vec<_> = theirs.difference(&ours).copied().collect();
        let equal = missing.is_empty() && additional.is_empty();
        (!equal).then_some(Self { source, missing, additional })
    }

    /// What completes a sentence that begins with the sender.
    pub(crate) fn lists(&self) -> impl fmt::Display {
        Lists(self)
    }
}

impl fmt::Display for AddressListDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sends {}", self.source, self.lists())
    }
}

/// The difference without its sender.
struct Lists<'a>(&'a AddressListDifference);

impl fmt::Display for Lists<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("other virtual addresses")?;
        write_list(f, ", without ", &self.0.missing)?;
        write_list(f, ", also ", &self.0.additional)
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, before: &str, list: &[IpAddr]) -> fmt::Result {
    for (position, address) in list.iter().take(SHOWN).enumerate() {
        f.write_str(if position == 0 { before } else { " " })?;
        write!(f, "{address}")?;
    }
    match list.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

/// Most addresses named in one sentence.
const SHOWN: usize = 4;
