//! Three routers on two links, each cut off from another one on one of them for a while: a router may
//! be known by an address on each link then, as if it were two.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod site;

use std::time::Duration;

use common::{FAIR, Weather};
use site::{Site, grouped, udp};

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
            site.activate(1);
            // What ends before it has been told at all stays with what the first one has told.
            site.run(Duration::from_millis(1_500 + 7 * phase));
            for number in 100..356 {
                site.destroy(1, number);
            }
            site.run_s(2);
            site.assert_replicated(1, 2);
            assert!(site.nodes[2].sync_state().in_sync, "{}", site.nodes[2].sync_state().reason);
        }
    }
}
