//! Which flows are replicated at all.

mod networks;

use std::net::IpAddr;

use lockstep_ctnetlink::{Flow, ProtocolState};

use crate::config::Filter;
use networks::Networks;

/// A configured filter together with the router's own addresses, made ready to be asked for every
/// event: no question takes longer than a binary search.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    protocols: Protocols,
    /// `None`: all.
    addresses: Option<Networks>,
    ignored: Networks,
    /// One bit for each TCP state in which a flow is told; `None`: all.
    tcp_states: Option<u32>,
    include_local: bool,
    local: Networks,
}

impl Selection {
    pub(crate) fn new(filter: &Filter) -> Self {
        let states = filter.tcp_states.iter().filter(|state| **state < 32);
        Self {
            protocols: Protocols::new(&filter.protocols, &filter.ignore_protocols),
            addresses: (!filter.addresses.is_empty()).then(|| Networks::new(&filter.addresses)),
            ignored: Networks::new(&filter.ignore_addresses),
            tcp_states: (!filter.tcp_states.is_empty())
                .then(|| states.fold(0, |set, state| set | 1 << state)),
            include_local: filter.include_local,
            local: Networks::default(),
        }
    }

    /// Replaces the settings and keeps the router's own addresses.
    pub(crate) fn configure(&mut self, filter: &Filter) {
        let local = std::mem::take(&mut self.local);
        *self = Self { local, ..Self::new(filter) };
    }

    /// Flows that begin or end at one of these are the router's own and stay with it, unless the
    /// filter includes them.
    pub(crate) fn set_local(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        let hosts: Vec<_> = addresses.into_iter().map(Into::into).collect();
        self.local = Networks::new(&hosts);
    }

    /// Whether the flow is replicated, in whatever state it is.
    ///
    /// The ends of a flow are who began it and who answers: the sources of both tuples. The two
    /// destinations are not asked, since under NAT they are the router's own (virtual) addresses,
    /// and those flows are the ones that matter most.
    pub(crate) fn takes(&self, flow: &Flow) -> bool {
        self.takes_ends(flow.orig.protocol, [flow.orig.source, flow.reply.source])
    }

    /// The same, by protocol and ends.
    pub(crate) fn takes_ends(&self, protocol: u8, ends: [IpAddr; 2]) -> bool {
        self.protocols.contains(protocol)
            && self.addresses.as_ref().is_none_or(|wanted| wanted.contain_one(ends))
            && !self.ignored.contain_one(ends)
            && (self.include_local || !self.local.contain_one(ends))
    }

    /// Whether the address is the router's own.
    pub(crate) fn is_own(&self, address: IpAddr) -> bool {
        self.local.contain_one([address; 2])
    }

    /// Whether one of the ends is the router itself.
    pub(crate) fn is_local(&self, flow: &Flow) -> bool {
        self.local.contain_one([flow.orig.source, flow.reply.source])
    }

    /// Whether flows are left out because of their state.
    pub(crate) fn has_states(&self) -> bool {
        self.tcp_states.is_some()
    }

    /// Whether peers begin to be told of the flow in the state it is in. One that they know is
    /// told on whatever its state, and its end always.
    pub(crate) fn takes_state(&self, flow: &Flow) -> bool {
        const TCP: u8 = 6;
        match (self.tcp_states, flow.protocol_state) {
            (None, _) => true,
            (Some(states), ProtocolState::Tcp(tcp)) => {
                states.checked_shr(u32::from(tcp.state)).is_some_and(|rest| rest & 1 != 0)
            }
            // An event that does not mention the state is not about a change of it.
            (Some(_), _) => flow.orig.protocol != TCP,
        }
    }
}

/// A set of IP protocol numbers.
#[derive(Clone, Copy, Debug)]
struct Protocols([u64; 4]);

impl Protocols {
    fn new(only: &[u8], ignored: &[u8]) -> Self {
        let mut set = Self([if only.is_empty() { u64::MAX } else { 0 }; 4]);
        for protocol in only {
            set.0[usize::from(*protocol) / 64] |= 1 << (protocol % 64);
        }
        for protocol in ignored {
            set.0[usize::from(*protocol) / 64] &= !(1 << (protocol % 64));
        }
        set
    }

    fn contains(self, protocol: u8) -> bool {
        self.0[usize::from(protocol) / 64] >> (protocol % 64) & 1 != 0
    }
}

#[cfg(test)]
mod tests;
