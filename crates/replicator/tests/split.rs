//! Three routers on two links, each cut off from another one on one of them for a while: a router may
//! be known by an address on each link then, as if it were two.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod site;

use std::time::Duration;

use common::{FAIR, Weather};
use site::{Site, grouped, udp};

/// How long a message and its repetition may be on their way.
const ON_ITS_WAY: Duration = Duration::from_millis(100);

/// A copy has come to its end since, and the router says that it is in sync.
fn until_in_sync_again(site: &mut Site, node: usize, copies_before: u64) {
    let deadline = site.now + Duration::from_secs(20);
    let state = |site: &Site| site.nodes[node].sync_state();
    while site.nodes[node].counters().resyncs_completed == copies_before || !state(site).in_sync {
        assert!(site.now < deadline, "{}", state(site).reason);
        site.run(Duration::from_millis(1));
    }
}

#[test]
fn what_ends_at_a_router_known_by_two_addresses_ends_everywhere() {
    for (config, delay) in [(grouped as fn(usize) -> _, 0), (grouped, 3), (udp, 3)] {
        for phase in 0..4 {
            let weather = Weather { longest_delay: Duration::from_millis(delay), ..FAIR };
            let mut site = Site::new(3, 7 + phase, weather, config);
            site.run_s(3);
            site.activate(0);
            for number in 0..900 {
                site.create(0, number);
            }
            site.run_s(2);
            for (node, link) in [(0, 0), (1, 1)] {
                site.plugged[node][link] = false;
                site.run_s(4);
                site.plugged[node][link] = true;
            }
            (site.plugged[1][0], site.plugged[2][1]) = (false, false);
            site.run_s(4);
            site.plugged = vec![[true; 2]; 3];
            site.run_s(3);
            site.plugged[0] = [false; 2];
            site.kernels[1] = (0..900).collect();
            let copies = site.nodes[2].counters().resyncs_completed;
            site.activate(1);
            // Before anybody has been told of them, or when some have, or all.
            site.run(Duration::from_millis(7 * phase));
            for number in 100..356 {
                site.destroy(1, number);
            }
            until_in_sync_again(&mut site, 2, copies);
            site.run(ON_ITS_WAY);
            assert!(site.nodes[2].sync_state().in_sync);
            site.assert_replicated(1, 2);
        }
    }
}
