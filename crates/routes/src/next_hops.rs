//! The next hops of a dumped route: almost always one, which then takes no memory of its own.

use std::ops::{Deref, DerefMut};

use crate::ActualNextHop;

/// Next hops in the kernel's order; reads like a slice.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NextHops(Inner);

#[derive(Clone, Debug, Default, Eq, PartialEq)]
enum Inner {
    #[default]
    None,
    One(ActualNextHop),
    /// Two or more.
    Several(Box<[ActualNextHop]>),
}

impl NextHops {
    /// No next hop.
    pub const NONE: Self = Self(Inner::None);

    /// The only next hop.
    pub fn one(hop: ActualNextHop) -> Self {
        Self(Inner::One(hop))
    }
}

impl Deref for NextHops {
    type Target = [ActualNextHop];

    fn deref(&self) -> &[ActualNextHop] {
        match &self.0 {
            Inner::None => &[],
            Inner::One(hop) => std::slice::from_ref(hop),
            Inner::Several(hops) => hops,
        }
    }
}

impl DerefMut for NextHops {
    fn deref_mut(&mut self) -> &mut [ActualNextHop] {
        match &mut self.0 {
            Inner::None => &mut [],
            Inner::One(hop) => std::slice::from_mut(hop),
            Inner::Several(hops) => hops,
        }
    }
}

impl From<Vec<ActualNextHop>> for NextHops {
    fn from(mut hops: Vec<ActualNextHop>) -> Self {
        Self(match (hops.len(), hops.pop()) {
            (_, None) => Inner::None,
            (1, Some(hop)) => Inner::One(hop),
            (_, Some(hop)) => {
                hops.push(hop);
                Inner::Several(hops.into())
            }
        })
    }
}

impl FromIterator<ActualNextHop> for NextHops {
    fn from_iter<T: IntoIterator<Item = ActualNextHop>>(hops: T) -> Self {
        let mut hops = hops.into_iter();
        match (hops.next(), hops.next()) {
            (None, _) => Self::NONE,
            (Some(only), None) => Self::one(only),
            (Some(first), Some(second)) => {
                let mut all = vec![first, second];
                all.extend(hops);
                Self::from(all)
            }
        }
    }
}

impl<const N: usize> PartialEq<[ActualNextHop; N]> for NextHops {
    fn eq(&self, other: &[ActualNextHop; N]) -> bool {
        **self == *other
    }
}

impl<'a> IntoIterator for &'a NextHops {
    type Item = &'a ActualNextHop;
    type IntoIter = std::slice::Iter<'a, ActualNextHop>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_next_hops_reads_as_it_was_put_in() {
        for number in 0..5 {
            let hops: Vec<_> = (0..number)
                .map(|dev| ActualNextHop {
                    via: None,
                    dev: Some(dev),
                    weight: 1,
                    onlink: false,
                    dead: false,
                })
                .collect();
            let collected: NextHops = hops.iter().cloned().collect();
            assert_eq!(*collected, *hops);
            assert_eq!(NextHops::from(hops), collected);
        }
    }

    #[test]
    fn a_route_takes_less_than_a_hundred_bytes() {
        assert!(size_of::<NextHops>() <= 32);
        assert!(size_of::<crate::ActualRoute>() <= 88);
    }
}
