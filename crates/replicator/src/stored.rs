//! A flow as a cache keeps it: what every flow has in place, what few have behind one pointer.

use lockstep_ctnetlink::{
    Flow, HelperName, ProtocolState, SequenceAdjustment, Status, Synproxy, Tuple, ZoneDirection,
};

/// A [`Flow`] at about half its size.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Stored {
    orig: Tuple,
    reply: Tuple,
    zone: u16,
    zone_direction: ZoneDirection,
    status: Status,
    timeout_s: Option<u32>,
    mark: Option<u32>,
    id: Option<u32>,
    protocol_state: ProtocolState,
    rare: Option<Box<Rare>>,
}

/// What only flows with helpers, labels or SYNPROXY have.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Rare {
    master: Option<Tuple>,
    helper: Option<HelperName>,
    labels: Option<[u32; 4]>,
    sequence_adjustment: Option<[SequenceAdjustment; 2]>,
    synproxy: Option<Synproxy>,
}

impl Stored {
    /// The original tuple and the zone, by which a cache finds its entries.
    pub(crate) fn key(&self) -> (&Tuple, u16) {
        (&self.orig, self.zone)
    }

    pub(crate) fn status(&self) -> Status {
        self.status
    }

    pub(crate) fn reply(&self) -> &Tuple {
        &self.reply
    }

    pub(crate) fn has_master(&self) -> bool {
        self.master().is_some()
    }

    pub(crate) fn master(&self) -> Option<&Tuple> {
        self.rare.as_ref()?.master.as_ref()
    }

    /// The flow, written out.
    pub(crate) fn flow(&self) -> Flow {
        let mut flow = Flow::new(self.orig, self.reply);
        flow.zone = self.zone;
        flow.zone_direction = self.zone_direction;
        flow.status = self.status;
        flow.timeout_s = self.timeout_s;
        flow.mark = self.mark;
        flow.id = self.id;
        flow.protocol_state = self.protocol_state;
        if let Some(rare) = &self.rare {
            flow.master = rare.master;
            flow.helper = rare.helper;
            flow.labels = rare.labels;
            flow.sequence_adjustment = rare.sequence_adjustment;
            flow.synproxy = rare.synproxy;
        }
        flow
    }

    /// Takes over what `newer` says and keeps what it does not mention. The tuples and the status
    /// are always said.
    pub(crate) fn merge(&mut self, newer: &Flow) {
        let mut merged = newer.clone();
        merged.timeout_s = newer.timeout_s.or(self.timeout_s);
        merged.mark = newer.mark.or(self.mark);
        merged.id = newer.id.or(self.id);
        merged.protocol_state = merge_state(self.protocol_state, newer.protocol_state);
        let mut cleared = false;
        if let Some(rare) = &self.rare {
            merged.master = newer.master.or(rare.master);
            merged.helper = newer.helper.or(rare.helper);
            cleared = rare.labels.is_some();
            merged.labels = newer.labels.or(rare.labels);
            merged.sequence_adjustment = newer.sequence_adjustment.or(rare.sequence_adjustment);
            merged.synproxy = newer.synproxy.or(rare.synproxy);
        }
        // Zero labels over known ones are a clearing, which the peer has to be told.
        *self = Self::pack(&merged, cleared);
    }

    /// Whether the kernel numbers `flow` differently: it has been made anew with the same tuple.
    pub(crate) fn is_another_than(&self, flow: &Flow) -> bool {
        flow.id.is_some_and(|id| self.id.is_some_and(|known| known != id))
    }

    /// Whether both say the same about everything that a peer is told, the timeout aside.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        self.reply == other.reply
            && self.status == other.status
            && self.mark.unwrap_or(0) == other.mark.unwrap_or(0)
            && self.protocol_state == other.protocol_state
            && self.rare == other.rare
    }
}

impl From<&Flow> for Stored {
    fn from(flow: &Flow) -> Self {
        Self::pack(flow, false)
    }
}

impl Stored {
    fn pack(flow: &Flow, zero_labels: bool) -> Self {
        let rare = Rare {
            master: flow.master,
            helper: flow.helper,
            labels: flow.labels.filter(|labels| zero_labels || *labels != [0; 4]),
            sequence_adjustment: flow
                .sequence_adjustment
                .filter(|both| *both != [SequenceAdjustment::default(); 2]),
            synproxy: flow.synproxy.filter(|synproxy| *synproxy != Synproxy::default()),
        };
        Self {
            orig: flow.orig,
            reply: flow.reply,
            zone: flow.zone,
            zone_direction: flow.zone_direction,
            status: flow.status,
            timeout_s: flow.timeout_s,
            mark: flow.mark,
            id: flow.id,
            protocol_state: flow.protocol_state,
            rare: (rare != Rare::default()).then(|| Box::new(rare)),
        }
    }
}

/// The newer state; window scale and flags that it does not mention stay.
fn merge_state(older: ProtocolState, newer: ProtocolState) -> ProtocolState {
    match (older, newer) {
        (_, ProtocolState::None) => older,
        (ProtocolState::Tcp(before), ProtocolState::Tcp(mut now)) => {
            now.window_scale = now.window_scale.or(before.window_scale);
            now.flags = now.flags.or(before.flags);
            ProtocolState::Tcp(now)
        }
        (_, newer) => newer,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use lockstep_ctnetlink::L4;

    use super::*;

    fn flow() -> Flow {
        let orig = Tuple {
            source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            destination: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
            protocol: 6,
            l4: L4::Ports { source: 2000, destination: 80 },
        };
        Flow::new(orig, orig.inverse())
    }

    #[test]
    fn an_ordinary_flow_takes_less_than_two_hundred_bytes() {
        assert!(size_of::<Stored>() <= 160, "{}", size_of::<Stored>());
    }

    #[test]
    fn clearing_labels_is_kept_to_be_told() {
        let mut labelled = flow();
        labelled.labels = Some([1, 0, 0, 0]);
        let mut stored = Stored::from(&labelled);
        let mut cleared = flow();
        cleared.labels = Some([0; 4]);
        stored.merge(&cleared);
        assert_eq!(stored.flow().labels, Some([0; 4]));
    }

    #[test]
    fn an_update_keeps_what_it_does_not_mention() {
        let mut first = flow();
        first.mark = Some(7);
        first.timeout_s = Some(600);
        first.helper = HelperName::new(b"ftp");
        let mut stored = Stored::from(&first);
        let mut second = flow();
        second.timeout_s = Some(30);
        stored.merge(&second);
        let merged = stored.flow();
        assert_eq!((merged.mark, merged.timeout_s), (Some(7), Some(30)));
        assert_eq!(merged.helper, HelperName::new(b"ftp"));
    }

    #[test]
    fn empty_additions_cost_nothing() {
        let mut plain = flow();
        plain.synproxy = Some(Synproxy::default());
        plain.labels = Some([0; 4]);
        assert_eq!(Stored::from(&plain).rare, None);
    }
}
