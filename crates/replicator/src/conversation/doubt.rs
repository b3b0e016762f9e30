//! Whether everything that the peer has said has arrived, in a mode or a case where nothing is repeated.

/// What has been lost for good since everything was last asked for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Doubt {
    /// Nothing.
    #[default]
    None,
    /// So many messages.
    Missing(u64),
    /// Nobody knows how much.
    Unbounded,
}

impl Doubt {
    pub(super) fn missing(&mut self, messages: u64) {
        *self = match *self {
            Self::None => Self::Missing(messages),
            Self::Missing(before) => Self::Missing(before.saturating_add(messages)),
            Self::Unbounded => Self::Unbounded,
        };
    }

    /// Returns what it was, and begins anew.
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    pub(crate) fn is_none(self) -> bool {
        self == Self::None
    }
}
