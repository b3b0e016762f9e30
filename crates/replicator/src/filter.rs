//! Which flows are replicated at all.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lockstep_ctnetlink::Flow;

use crate::config::Filter;

/// A configured filter together with the router's own addresses.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    filter: Filter,
    local: BTreeSet<IpAddr>,
}

impl Selection {
    pub(crate) fn new(filter: Filter) -> Self {
        Self { filter, local: BTreeSet::new() }
    }

    /// Flows that begin or end at one of these are the router's own and stay with it.
    pub(crate) fn set_local(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.local = addresses.into_iter().collect();
    }

    /// Whether the flow is replicated.
    ///
    /// The ends of a flow are who began it and who answers: the sources of both tuples. The two
    /// destinations are not asked, since under NAT they are the router's own (virtual) addresses,
    /// and those flows are the ones that matter most.
    pub(crate) fn takes(&self, flow: &Flow) -> bool {
        let protocols = &self.filter.protocols;
        if !protocols.is_empty() && !protocols.contains(&flow.orig.protocol) {
            return false;
        }
        let ends = [flow.orig.source, flow.reply.source];
        !ends.iter().any(|end| {
            self.local.contains(end)
                || self.filter.ignore_addresses.iter().any(|net| net.contains(end))
        })
    }
}

#[cfg(test)]
mod tests {
    use lockstep_ctnetlink::{L4, Tuple};

    use super::*;

    fn flow(source: &str, destination: &str, answers_from: &str, answers_to: &str) -> Flow {
        let l4 = L4::Ports { source: 1000, destination: 80 };
        let orig = Tuple {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol: 6,
            l4,
        };
        let mut reply = orig.inverse();
        reply.source = answers_from.parse().unwrap();
        reply.destination = answers_to.parse().unwrap();
        Flow::new(orig, reply)
    }

    fn selection(protocols: Vec<u8>, ignore: &[&str]) -> Selection {
        let ignore_addresses = ignore.iter().map(|text| text.parse().unwrap()).collect();
        Selection::new(Filter { protocols, ignore_addresses, ..Filter::default() })
    }

    #[test]
    fn only_the_named_protocols_are_taken_and_none_named_means_all() {
        let tcp = flow("10.0.0.1", "10.0.1.1", "10.0.1.1", "10.0.0.1");
        assert!(selection(vec![], &[]).takes(&tcp));
        assert!(selection(vec![17, 6], &[]).takes(&tcp));
        assert!(!selection(vec![17], &[]).takes(&tcp));
    }

    #[test]
    fn flows_from_or_to_an_ignored_network_are_left_out() {
        let selection = selection(vec![], &["10.0.0.0/24"]);
        assert!(!selection.takes(&flow("10.0.0.1", "10.9.1.1", "10.9.1.1", "10.0.0.1")));
        assert!(!selection.takes(&flow("10.9.1.1", "10.0.0.1", "10.0.0.1", "10.9.1.1")));
        assert!(selection.takes(&flow("10.9.1.1", "10.8.0.1", "10.8.0.1", "10.9.1.1")));
    }

    #[test]
    fn flows_of_the_router_itself_are_left_out_and_translated_ones_stay() {
        let mut selection = selection(vec![], &[]);
        selection.set_local(["203.0.113.9".parse().unwrap()]);
        assert!(!selection.takes(&flow("203.0.113.9", "192.0.2.1", "192.0.2.1", "203.0.113.9")));
        assert!(!selection.takes(&flow("192.0.2.1", "203.0.113.9", "203.0.113.9", "192.0.2.1")));
        let source_nat = flow("10.0.0.1", "192.0.2.1", "192.0.2.1", "203.0.113.9");
        let destination_nat = flow("192.0.2.1", "203.0.113.9", "10.0.0.1", "192.0.2.1");
        assert!(selection.takes(&source_nat) && selection.takes(&destination_nat));
    }
}
