//! How many events in a second are heard without loss.

use std::thread;
use std::time::Duration;

use crate::contender::{EVENT_BUFFER, Kind, Pair, Standby, within};
use crate::load::Load;
use crate::machine::lost_events;

/// Flows in a second, from one step to the next.
const STEPS: [u32; 7] = [20_000, 30_000, 40_000, 60_000, 80_000, 100_000, 130_000];
/// How long each step is.
const LENGTH: f64 = 2.0;
/// Longest wait for the standby to hear of the last end.
const PATIENCE: Duration = Duration::from_secs(10);
/// After the load.
const SETTLE: Duration = Duration::from_millis(500);

/// Prints the table.
pub(crate) fn measure(steps: usize) {
    println!(
        "\nevents in a second (new, update, destroy) for {LENGTH} seconds, buffers of {} to {} MiB: \
         overruns, and flows whose end never arrived",
        EVENT_BUFFER[0] >> 20,
        EVENT_BUFFER[1] >> 20
    );
    println!("{:>9} {:<12} {:>9} {:>9} {:>6}", "asked", "", "made", "overruns", "left");
    for per_second in STEPS.into_iter().take(steps) {
        for kind in Kind::BOTH {
            let load = Load { flows: (f64::from(per_second) * LENGTH) as u32, per_second };
            let pair = Pair::new();
            let daemons = pair.start(kind, Standby::Cache, 4 * load.flows as usize);
            thread::sleep(SETTLE);
            let made = load.run(&pair.nodes[0], None);
            let _ = within(PATIENCE, || pair.standby_len(&daemons[1]) == 0);
            println!(
                "{:>9} {:<12} {made:>9.0} {:>9} {:>6}",
                3 * per_second,
                kind.name(),
                lost_events(&pair.nodes[0]),
                pair.standby_len(&daemons[1]),
            );
        }
    }
}
