//! The expectation caches: what this router's kernel expects, and what peers have told of theirs.
//!
//! An expectation is its own key: only the time it has left, and the kernel's number of it, may
//! differ between two tellings of the same one. The caches have slots and limits of their own.

use std::hash::{Hash, Hasher};

use lockstep_ctnetlink::Expectation;
use siphasher::sip::SipHasher13;

use crate::config::Expectations;
use crate::table::Keyed;

mod local;
mod remote;

pub(crate) use local::LocalExpectations;
pub(crate) use remote::RemoteExpectations;

/// Most expectations in each cache; more are refused and counted. A kernel holds four in a
/// hundred flows, by default far fewer.
pub(crate) const MAX_EXPECTATIONS: usize = 65_536;

/// Whether the expectations of this helper are replicated.
pub(crate) fn is_wanted(wanted: &Expectations, expectation: &Expectation) -> bool {
    let begins = |name: &str, prefix: &String| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    match (wanted, &expectation.helper) {
        (Expectations::Off, _) => false,
        (Expectations::All, _) => true,
        (Expectations::Of(names), Some(helper)) => {
            names.iter().any(|prefix| begins(helper.as_str(), prefix))
        }
        (Expectations::Of(_), None) => false,
    }
}

/// An expectation without what is not part of its identity.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Identity(Expectation);

impl Identity {
    pub(crate) fn of(expectation: &Expectation) -> Self {
        Self(Expectation { timeout_s: None, id: None, ..expectation.clone() })
    }

    fn is_of(&self, expectation: &Expectation) -> bool {
        let Expectation { timeout_s, id, .. } = self.0;
        self.0 == Expectation { timeout_s, id, ..expectation.clone() }
    }
}

/// Something about an expectation that lies in a table.
trait Expected {
    fn expectation(&self) -> &Expectation;
}

macro_rules! keyed_by_expectation {
    ($entry:ty) => {
        impl Keyed for $entry {
            type Key = Identity;

            fn hash_key(key: &Identity, keyed: &SipHasher13) -> u64 {
                hash(&key.0, keyed)
            }

            fn hash(&self, keyed: &SipHasher13) -> u64 {
                hash(self.expectation(), keyed)
            }

            fn is(&self, key: &Identity) -> bool {
                key.is_of(self.expectation())
            }
        }
    };
}

keyed_by_expectation!(local::LocalExpectation);
keyed_by_expectation!(remote::RemoteExpectation);

/// Of the tuples and the zone alone: what else is part of the identity rarely differs.
fn hash(expectation: &Expectation, keyed: &SipHasher13) -> u64 {
    let mut hasher = *keyed;
    expectation.master.hash(&mut hasher);
    expectation.tuple.hash(&mut hasher);
    hasher.write_u16(expectation.zone);
    hasher.finish()
}

#[cfg(test)]
mod tests;
