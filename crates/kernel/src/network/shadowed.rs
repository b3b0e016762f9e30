//! Rules that stand in the way of another one's removal.
//!
//! The kernel removes the first rule that has all that the request names, and asks nothing about
//! what it does not name: the removal of `priority 9 lookup 7` takes `priority 9 from 10.0.0.0/8
//! lookup 7` if that comes first, be it somebody else's.

use lockstep_routes::{ActualRule, RuleKey};

/// Whether the kernel may take `other` for the rule that it is to remove.
pub(super) fn is_taken_for(other: &ActualRule, removed: &ActualRule) -> bool {
    if other == removed || (removed.protocol != 0 && other.protocol != removed.protocol) {
        return false;
    }
    let (there, named) = (&other.key, &removed.key);
    let RuleKey { ipv6, priority, from, to, fwmark, iif, oif, tos, .. } = named;
    // A mark or a mask of 0 names nothing.
    let mark = |key: &RuleKey| key.fwmark.map_or((0, 0), |mark| (mark.value, mark.mask));
    let ((value, mask), (value_there, mask_there)) = (mark(named), mark(there));
    there.ipv6 == *ipv6
        && there.priority == *priority
        // What a special rule really does is not known.
        && (other.special || there.action == named.action)
        && fits(from.as_ref(), there.from.as_ref())
        && fits(to.as_ref(), there.to.as_ref())
        && fits(iif.as_ref(), there.iif.as_ref())
        && fits(oif.as_ref(), there.oif.as_ref())
        && (value == 0 || value == value_there)
        && (mask == 0 || mask == mask_there || fwmark.is_none())
        && (*tos == 0 || *tos == there.tos)
        && fits(named.ip_protocol.as_ref(), there.ip_protocol.as_ref())
        && fits(named.source_port.as_ref(), there.source_port.as_ref())
        && fits(named.destination_port.as_ref(), there.destination_port.as_ref())
        && fits(named.suppress_prefix_length.as_ref(), there.suppress_prefix_length.as_ref())
}

/// Whether a selector is not named, or is the same.
fn fits<T: PartialEq>(named: Option<&T>, there: Option<&T>) -> bool {
    named.is_none() || named == there
}

/// Those that the kernel would take first, in its order.
pub(super) fn before<'a>(rules: &'a [ActualRule], removed: &ActualRule) -> Vec<&'a ActualRule> {
    rules
        .iter()
        .take_while(|there| *there != removed)
        .filter(|there| is_taken_for(there, removed))
        .collect()
}
