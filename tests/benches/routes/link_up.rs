//! How long after an interface has come up its routes are there.

use std::thread;
use std::time::{Duration, Instant};

use lockstep_kernel::network::Network;
use lockstep_routes::Interest;
use lockstep_tests::daemon::Lockstep;

use crate::apply::router;
use crate::load::{DEV, HOPS, Load};

/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(30);
/// A router's few routes, in the tables of two interfaces.
const LOAD: Load = Load { routes: 10, tables: 2 };
/// How long the interface stays down, so that everything that follows from that is over.
const DOWN: Duration = Duration::from_millis(300);

/// Prints the times of so many rounds. What is measured begins with the request that sets the interface up, and ends with
/// the first look that finds the last route; a look takes a few microseconds.
pub(crate) fn measure(rounds: usize) {
    let node = router();
    let _lockstep = Lockstep::start_as_on_a_router(&node, &LOAD.config());
    let mut took: Vec<Duration> = (0..rounds)
        .map(|_| {
            node.set_link(DEV, false).unwrap();
            thread::sleep(DOWN);
            node.run(|| {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(until_installed(|| node.set_link(DEV, true).unwrap()))
            })
            .unwrap()
        })
        .collect();
    took.sort();
    let at = |part: usize| took[(took.len() - 1) * part / 100].as_secs_f64() * 1e3;
    println!(
        "\n{DEV} up to all of {} routes installed, {rounds} times: least {:.1} ms, median {:.1} ms, \
         nine tenths within {:.1} ms, most {:.1} ms",
        LOAD.routes,
        at(0),
        at(50),
        at(90),
        at(100)
    );
}

async fn until_installed(set_up: impl FnOnce()) -> Duration {
    let network = Network::connect().unwrap();
    let interest = Interest::of(&LOAD.declared(Some(HOPS[0])));
    let there = async || {
        let routes = network.routes(&interest).await.unwrap();
        routes.iter().filter(|route| route.table.0 >= 1_000).count()
    };
    assert_eq!(there().await, 0, "the kernel has dropped them");
    let began = Instant::now();
    set_up();
    while there().await < LOAD.routes {
        assert!(began.elapsed() < LIMIT, "the routes are not back");
    }
    began.elapsed()
}
