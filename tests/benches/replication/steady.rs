//! What each event costs while flows come and go, on both sides and on the wire.

use std::thread;
use std::time::Duration;

use crate::contender::{Kind, Pair, Standby, until};
use crate::floor::Floor;
use crate::load::Load;
use crate::machine::{Sent, lost_events};
use crate::report::{Figure, ratio};

/// After the load, until the figures are taken.
const SETTLE: Duration = Duration::from_millis(500);

/// One run of one contender.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    /// Seconds of a processor for 100 000 events, sender and receiver.
    processor: [f64; 2],
    /// Bytes of payload for each event.
    bytes: f64,
    lost: u64,
    /// Of the flows' ends the standby has not heard.
    left: usize,
}

/// Prints the table.
pub(crate) fn measure(loads: &[Load], rounds: usize, standbys: &[Standby]) {
    println!("\nCPU seconds for 100 000 events (new, update, destroy), FTFW over multicast");
    println!(
        "{:>8} {:<8} {:<12} {:>8} {:>6} {:>8} {:>6} {:>12} {:>9} {:>6}",
        "flows/s",
        "standby",
        "",
        "sender",
        "ratio",
        "receiver",
        "ratio",
        "bytes/event",
        "overruns",
        "left"
    );
    for standby in standbys {
        for load in loads {
            let mut runs = [Vec::new(), Vec::new(), Vec::new()];
            for _ in 0..rounds {
                for (kind, runs) in Kind::BOTH.into_iter().zip(&mut runs) {
                    runs.push(contender(kind, *standby, *load));
                }
                runs[2].push(floor(*load));
            }
            print(*load, *standby, &runs);
        }
    }
}

fn print(load: Load, standby: Standby, runs: &[Vec<Run>; 3]) {
    let names = [Kind::Conntrackd.name(), Kind::Lockstep.name(), "kernel alone"];
    let median = |runs: &[Run], of: fn(&Run) -> f64| Figure::of(runs.iter().map(of)).median;
    let theirs = [0, 1].map(|side| {
        if side == 0 {
            median(&runs[0], |run| run.processor[0])
        } else {
            median(&runs[0], |run| run.processor[1])
        }
    });
    for (name, runs) in names.into_iter().zip(runs) {
        let [sender, receiver] =
            [median(runs, |run| run.processor[0]), median(runs, |run| run.processor[1])];
        println!(
            "{:>8} {:<8} {name:<12} {sender:>8.3} {:>6} {receiver:>8.3} {:>6} {:>12.1} {:>9} {:>6}",
            load.per_second,
            format!("{standby:?}").to_lowercase(),
            ratio(sender, theirs[0]),
            ratio(receiver, theirs[1]),
            median(runs, |run| run.bytes),
            runs.iter().map(|run| run.lost).sum::<u64>(),
            runs.iter().map(|run| run.left).sum::<usize>(),
        );
    }
}

fn contender(kind: Kind, standby: Standby, load: Load) -> Run {
    let pair = Pair::new();
    let daemons = pair.start(kind, standby, 4 * load.flows as usize);
    thread::sleep(SETTLE);
    let cost = || [0, 1].map(|which: usize| daemons[which].cost().processor);
    let (sent, before) = (Sent::through(&pair.nodes[0], "eth2"), cost());
    load.run(&pair.nodes[0], None);
    thread::sleep(SETTLE);
    let (after, sent_then) = (cost(), Sent::through(&pair.nodes[0], "eth2"));
    let left = pair.standby_len(&daemons[1]);
    let events = f64::from(load.events());
    Run {
        processor: [0, 1]
            .map(|side| after[side].saturating_sub(before[side]).as_secs_f64() * 1e5 / events),
        bytes: sent_then.payload_since(sent) as f64 / events,
        lost: lost_events(&pair.nodes[0]),
        left,
    }
}

fn floor(load: Load) -> Run {
    let pair = Pair::new();
    let floor = Floor::start(&pair.nodes);
    until("somebody listens", || crate::machine::listeners(&pair.nodes[0]) > 0);
    load.run(&pair.nodes[0], None);
    thread::sleep(SETTLE);
    let lost = lost_events(&pair.nodes[0]);
    let spent = floor.end();
    let events = f64::from(load.events());
    Run { processor: spent.map(|it| it.as_secs_f64() * 1e5 / events), lost, ..Run::default() }
}
