//! After two masters: connections of which the kernel of the one that stays knows, and whose packets have
//! gone by the other one meanwhile.
//!
//! Both kernels had them, and neighbours sent to whoever announced last. The windows that the tracker
//! here has seen are those of the packets that came here; what comes next is outside them, and a
//! firewall drops it. As after every takeover, the entries are made liberal. Which of them it concerns
//! nobody can tell: all that stand are.

use std::time::{Duration, Instant};

use lockstep_ctnetlink::{Flow, ProtocolState};

use super::Replicator;
use crate::commit::{MAX_LOOKS, Planned};
use crate::table::Slot;

/// A bequest is many messages: within this time they are one.
const ONE_BEQUEST: Duration = Duration::from_secs(5);

/// TCP's states from `ESTABLISHED` to `LAST_ACK`.
const STANDS: std::ops::RangeInclusive<u8> = 3..=6;

/// Looking through this router's own flows.
#[derive(Debug, Default)]
pub(super) struct Strays {
    /// Where that goes on.
    walk: Option<Slot>,
    /// When it began last.
    begun_at: Option<Instant>,
}

impl Strays {
    /// Another router has served as well.
    pub(super) fn look_through(&mut self, now: Instant) {
        let again = |at| now.saturating_duration_since(at) >= ONE_BEQUEST;
        if self.begun_at.is_none_or(again) {
            (self.walk, self.begun_at) = (Some(0), Some(now));
        }
    }

    /// Whether there may be one.
    pub(super) fn are_looked_for(&self) -> bool {
        self.walk.is_some()
    }
}

impl Replicator {
    /// The next flow to be made liberal; `None` when there is none, or for the moment.
    pub(super) fn next_stray(&mut self) -> Option<Planned> {
        let from = self.uptake.strays.walk?;
        let table = &self.internal.table;
        let end = table.slots().min(from.saturating_add(MAX_LOOKS));
        let found = (from..end).find_map(|slot| {
            let local = table.get(slot).filter(|local| local.stage.is_alive())?;
            let flow = local.stored.flow();
            stands(&flow).then_some((slot, flow))
        });
        let next = found.as_ref().map_or(end, |(slot, _)| slot + 1);
        self.uptake.strays.walk = (next < table.slots()).then_some(next);
        found.map(|(_, flow)| Planned::liberal(flow))
    }
}

fn stands(flow: &Flow) -> bool {
    match flow.protocol_state {
        ProtocolState::Tcp(tcp) => STANDS.contains(&tcp.state),
        ProtocolState::None | ProtocolState::Sctp { .. } | ProtocolState::Dccp { .. } => false,
    }
}
