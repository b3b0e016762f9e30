//! Whole tables: read at the start, told to a standby, committed; and what a flow takes in memory.

use std::time::{Duration, Instant};

use lockstep_lab::Node;

use crate::contender::{Daemon, Kind, Order, Pair, Standby, until};
use crate::load;
use crate::machine::room_for;
use crate::report::{Figure, ratio};

/// A copy that has not grown for so long has ended.
const STUCK: Duration = Duration::from_secs(3);

/// What was measured with one contender; times in seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    /// The kernel's own: all flows made, and read.
    insert: f64,
    dump: f64,
    /// The same as `insert` while somebody listens to events, wherever on the machine: then the
    /// kernel builds one for each flow.
    heard_insert: f64,
    /// From the start of the daemon until it had read all flows.
    reading: f64,
    /// From the start of a standby until it had what it got.
    resync: f64,
    /// From the order to tell everything until the standby had what it got.
    bulk: f64,
    commit: Option<f64>,
    /// Shares of the flows that arrived by resync and bulk, and were committed.
    arrived: [f64; 3],
    /// Bytes for each flow, internal and external.
    memory: [f64; 2],
}

/// Prints the table.
pub(crate) fn measure(counts: &[usize], rounds: usize) {
    println!(
        "\nwhole tables: seconds, the share that arrived, and the speed in percent of the kernel's \
         own (making flows, for a reading: telling them)"
    );
    println!(
        "{:>9} {:<12} {:>13} {:>21} {:>21} {:>21} {:>9} {:>9}",
        "flows", "", "reading", "start-up resync", "bulk", "commit", "internal", "external"
    );
    for count in counts {
        let rounds = if *count < 500_000 { rounds } else { 1 };
        let _raised = room_for(*count);
        let mut runs = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (kind, runs) in Kind::BOTH.into_iter().zip(&mut runs) {
                runs.push(contender(kind, *count));
            }
        }
        print(*count, &runs);
    }
}

fn print(count: usize, runs: &[Vec<Run>; 2]) {
    let all = |of: fn(&Run) -> f64| Figure::of(runs.iter().flatten().map(of)).median;
    let [dump, insert, heard] =
        [all(|run| run.dump), all(|run| run.insert), all(|run| run.heard_insert)];
    println!("{count:>9} {:<12} {dump:>7.3} {insert:>64.3}", "kernel alone");
    println!("{count:>9} {:<21} {heard:>63.3}", "the same, listened to");
    let mut medians = Vec::new();
    for (kind, runs) in Kind::BOTH.into_iter().zip(runs) {
        let median = |of: fn(&Run) -> f64| Figure::of(runs.iter().map(of)).median;
        let least = |which: usize| {
            runs.iter().map(|run| run.arrived[which]).fold(f64::INFINITY, f64::min) * 100.0
        };
        let commit = runs.iter().all(|run| run.commit.is_some());
        let commit = if commit { median(|run| run.commit.unwrap_or(0.0)) } else { f64::NAN };
        let times =
            [median(|run| run.reading), median(|run| run.resync), median(|run| run.bulk), commit];
        let speed = |time: f64, limit: f64| 100.0 * limit / time;
        println!(
            "{count:>9} {:<12} {:>7.3} {:>4.0}% {:>7.3} {:>5.1}% {:>5.0}% {:>7.3} {:>5.1}% {:>5.0}% {:>7.3} {:>5.1}% \
             {:>5.0}% {:>9.0} {:>9.0}",
            kind.name(),
            times[0],
            speed(times[0], dump),
            times[1],
            least(0),
            speed(times[1], insert),
            times[2],
            least(1),
            speed(times[2], insert),
            times[3],
            least(2),
            speed(times[3], heard),
            median(|run| run.memory[0]),
            median(|run| run.memory[1]),
        );
        medians.push((times, [median(|run| run.memory[0]), median(|run| run.memory[1])]));
    }
    let [(theirs, their_memory), (ours, our_memory)] = medians[..] else { return };
    println!(
        "{count:>9} {:<12} {:>7} {:>5} {:>7} {:>13} {:>7} {:>13} {:>7} {:>13} {:>9} {:>9}",
        "ratio",
        ratio(ours[0], theirs[0]),
        "",
        ratio(ours[1], theirs[1]),
        "",
        ratio(ours[2], theirs[2]),
        "",
        ratio(ours[3], theirs[3]),
        "",
        ratio(our_memory[0], their_memory[0]),
        ratio(our_memory[1], their_memory[1]),
    );
}

fn contender(kind: Kind, count: usize) -> Run {
    let base = idle_memory(kind, count);
    let pair = Pair::new();
    let [active_node, standby_node] = &pair.nodes;
    let insert = load::fill(active_node, count).as_secs_f64();
    let dump = load::read(active_node).as_secs_f64();

    let start = |which| pair.start_one(which, kind, Standby::Cache, 2 * count);
    let active = start(0);
    let reading = until("the table is read", || active.internal() == Some(count)).as_secs_f64();
    until("the router serves", || active.serves());
    let began = Instant::now();
    let standby = start(1);
    let (resync, by_resync) = arrival(&standby, count, began);
    let memory = [(&active, base[0]), (&standby, base[1])]
        .map(|(daemon, base)| daemon.cost().memory.saturating_sub(base) as f64 / count as f64);

    until("the standby forgets", || {
        standby.order(Order::FlushExternal).is_err() || standby.external() == Some(0)
    });
    let began = Instant::now();
    let (bulk, by_bulk) = match active.order(Order::Bulk) {
        Ok(()) => arrival(&standby, count, began),
        Err(_) => (f64::NAN, 0.0),
    };
    let bystander = Node::new("bystander").unwrap();
    let heard_insert = load::fill(&bystander, count).as_secs_f64();
    load::empty(&bystander);
    let began = Instant::now();
    let commit = standby.order(Order::Commit).ok().map(|()| began.elapsed().as_secs_f64());
    let committed = load::count(standby_node) as f64 / count as f64;
    for (daemon, node) in [active, standby].into_iter().zip(&pair.nodes) {
        daemon.kill();
        load::empty(node);
    }
    let arrived = [by_resync, by_bulk, committed];
    Run { insert, dump, heard_insert, reading, resync, bulk, commit, arrived, memory }
}

/// Bytes of both daemons that have nothing to keep.
fn idle_memory(kind: Kind, count: usize) -> [u64; 2] {
    let pair = Pair::new();
    let daemons = pair.start(kind, Standby::Cache, 2 * count);
    [0, 1].map(|which: usize| daemons[which].cost().memory)
}

/// Waits for a copy of so many flows; the time it took, and the share that arrived.
fn arrival(standby: &Daemon, count: usize, began: Instant) -> (f64, f64) {
    let (mut most, mut grown) = (0, Instant::now());
    until("a copy has ended", || {
        let present = standby.external().unwrap_or(0);
        if present > most {
            (most, grown) = (present, Instant::now());
        }
        most >= count || grown.elapsed() > STUCK
    });
    ((grown - began).as_secs_f64(), most as f64 / count as f64)
}
