//! What a router of ours says of itself in every control message, beside what the message is for.
//!
//! conntrackd has no words for its role. It looks at a control message bit by bit and passes over
//! those that it does not know, so two of them are free, and a peer that sets neither is a
//! conntrackd: one that tells its kernel's flows in any role.

use crate::wire::Flags;

/// Both bits.
pub(crate) const BITS: u8 = Flags::STANDS_BY | Flags::SERVES;

/// Who the sender is to the flows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Claim {
    /// It serves nothing: what it tells is no copy of what is served.
    StandsBy,
    /// It serves, and has not told all that it serves since it began to.
    Serves,
    /// It serves, and has told all of it before this message.
    ToldAll,
}

impl Claim {
    /// What a control message with these flags says; `None` when its sender is none of ours.
    pub(crate) fn of(flags: Flags) -> Option<Self> {
        match (flags.has(Flags::SERVES), flags.has(Flags::STANDS_BY)) {
            (false, false) => None,
            (false, true) => Some(Self::StandsBy),
            (true, false) => Some(Self::Serves),
            (true, true) => Some(Self::ToldAll),
        }
    }

    /// The flags that say so.
    pub(crate) fn flags(self) -> u8 {
        match self {
            Self::StandsBy => Flags::STANDS_BY,
            Self::Serves => Flags::SERVES,
            Self::ToldAll => BITS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_claim_is_read_as_it_was_said_whatever_the_message_is_for() {
        for claim in [Claim::StandsBy, Claim::Serves, Claim::ToldAll] {
            for kind in [Flags::ACK, Flags::NACK, Flags::RESYNC, Flags::ALIVE | Flags::HELLO] {
                assert_eq!(Claim::of(Flags(kind | claim.flags())), Some(claim));
                assert_eq!(Claim::of(Flags(kind)), None);
            }
        }
    }
}
