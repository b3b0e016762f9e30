//! A backup that has been told flows by its peer, in the peer's own datagrams. The benchmark of
//! the commit uses it too.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use lockstep_ctnetlink::Flow;
use lockstep_replicator::{Config, Origin, Replicator, Start};

/// Payload of a datagram on Ethernet.
const MAX_DATAGRAM: usize = 1500 - 28;

/// A replicator whose external cache holds `flows`, as an active peer has told them.
pub(crate) fn backup_told(flows: &[Flow]) -> Replicator {
    let mut now = Instant::now();
    let [mut active, mut backup] = [1_000_000, 2_000_000].map(|first_sequence| {
        let start = Start { first_sequence, secret: 42, max_datagram: MAX_DATAGRAM };
        Replicator::new(config(flows.len()), start, now)
    });
    active.activate(now);
    active.begin_dump();
    for flow in flows {
        active.dumped(flow, now);
    }
    assert!(active.end_dump(now));
    while !(backup.sync_state().in_sync && backup.external_len() == flows.len()) {
        let told = pass(&mut active, &mut backup, Ipv4Addr::new(192, 0, 2, 1), now);
        let answered = pass(&mut backup, &mut active, Ipv4Addr::new(192, 0, 2, 2), now);
        if !told && !answered {
            let deadlines = [&active, &backup].map(Replicator::next_deadline);
            now = deadlines.into_iter().flatten().min().unwrap().max(now);
            active.handle_timeout(now);
            backup.handle_timeout(now);
        }
    }
    backup
}

/// Carries what `from` has to say over a network without loss; whether there was anything.
fn pass(from: &mut Replicator, to: &mut Replicator, source: Ipv4Addr, now: Instant) -> bool {
    /// As many as a link has under way before an answer comes.
    const AT_ONCE: usize = 64;
    let mut datagram = Vec::new();
    for passed in 0..AT_ONCE {
        if from.poll_transmit(now, &mut datagram).is_none() {
            return passed > 0;
        }
        to.handle_datagram(Origin::group(0, IpAddr::V4(source)), &datagram, now);
    }
    true
}

fn config(cache_limit: usize) -> Config {
    let mut config = Config::new("gateway", Vec::new());
    config.cache_limit = cache_limit;
    config
}
