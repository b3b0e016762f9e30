//! A set of networks of both families.

use std::net::IpAddr;

use ipnet::IpNet;

/// Sorted ranges that do not touch, so that a question is a binary search however many networks
/// there are and however they overlap.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Networks {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Networks {
    pub(super) fn new(networks: &[IpNet]) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for network in networks {
            match network {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        Self { v4: joined(v4, |end| end.checked_add(1)), v6: joined(v6, |end| end.checked_add(1)) }
    }

    /// Whether at least one of the addresses is in one of the networks.
    pub(super) fn contain_one(&self, addresses: [IpAddr; 2]) -> bool {
        addresses.into_iter().any(|address| self.contains(address))
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => is_within(&self.v4, address.to_bits()),
            IpAddr::V6(address) => is_within(&self.v6, address.to_bits()),
        }
    }
}

/// The same set in order, ranges that overlap or touch made one.
fn joined<T: Copy + Ord>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut joined: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if next(*end).is_none_or(|after| first <= after) => {
                *end = (*end).max(last);
            }
            _ => joined.push((first, last)),
        }
    }
    joined.shrink_to_fit();
    joined
}

fn is_within<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after > 0 && address <= ranges[after - 1].1
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        Networks::new(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn networks_that_overlap_or_touch_become_one_range() {
        let joined = networks(&["10.0.1.0/24", "10.0.0.0/24", "10.0.0.128/25", "10.0.3.0/24"]);
        assert_eq!(joined.v4, [(0x0a00_0000, 0x0a00_01ff), (0x0a00_0300, 0x0a00_03ff)]);
    }

    #[test]
    fn the_whole_of_one_family_says_nothing_of_the_other() {
        let all = networks(&["0.0.0.0/0", "255.255.255.255/32"]);
        assert!(all.contains("255.255.255.255".parse().unwrap()));
        assert!(!all.contains("::".parse().unwrap()));
        let six = networks(&["::/0", "ffff::/16"]);
        assert!(six.contains("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()));
        assert!(!six.contains("10.0.0.1".parse().unwrap()));
        assert!(!networks(&[]).contains("10.0.0.1".parse().unwrap()));
    }

    fn network() -> impl Strategy<Value = IpNet> {
        prop_oneof![
            (any::<u16>(), 16..=32u8).prop_map(|(low, length)| {
                Ipv4Net::new_assert(Ipv4Addr::from_bits(0x0a00_0000 | u32::from(low)), length)
                    .into()
            }),
            (any::<u16>(), 112..=128u8).prop_map(|(low, length)| {
                Ipv6Net::new_assert(Ipv6Addr::from_bits(u128::from(low)), length).into()
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_set_contains_what_one_of_its_networks_contains(
            nets in proptest::collection::vec(network(), 0..40),
            low in any::<u16>(),
        ) {
            let set = Networks::new(&nets);
            let addresses: [IpAddr; 2] = [
                Ipv4Addr::from_bits(0x0a00_0000 | u32::from(low)).into(),
                Ipv6Addr::from_bits(u128::from(low)).into(),
            ];
            for address in addresses {
                let one = nets.iter().any(|net| net.contains(&address));
                prop_assert_eq!(set.contains(address), one);
            }
        }
    }
}
