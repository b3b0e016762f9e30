//! TCP with windows larger than their field holds without scaling, in both directions.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lockstep_lab::Lab;
use lockstep_lab::traffic::{Connections, Pace};

use crate::{Pair, WAYS};

#[test]
fn tcp_with_scaled_windows_both_ways_goes_on() {
    for way in WAYS {
        // A window that is taken for an unscaled one would make nearly every packet an invalid one.
        let mut pair = Pair::new(way, |_| {});
        let address = SocketAddr::new(Lab::SERVER.into(), 7000);
        let pace = Pace { chunk: 64 * 1024, interval: Duration::from_millis(10) };
        let (client, server) = (pair.lab.client(), pair.lab.server());
        let connections = Connections::open(client, server, address, 4, pace).expect("connections");
        pair.wait_until_told("an established connection of scaled windows", |flow| {
            flow["state"] == "ESTABLISHED" && flow["protocol"] == 6
        });

        pair.fail_over();

        let verdict = connections.settle(Instant::now(), Duration::from_secs(30));
        assert!(verdict.all_survived(), "{way}: {verdict:?}");
    }
}
