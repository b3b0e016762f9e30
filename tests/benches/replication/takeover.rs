//! How long a takeover is, by the number of flows and the way of standing by.
//!
//! Ours is what the router's journal tells, from the decision to the announcement of the addresses.
//! conntrackd's is its usual script for the primary: commit, flush, read, bulk; keepalived runs it
//! while the addresses answer already.

use std::time::{Duration, Instant};

use crate::contender::{Kind, Order, Pair, Standby, until, within};
use crate::load;
use crate::machine::room_for;

/// Bulks that are asked for when one has not arrived whole, each after so long.
const BULKS: usize = 5;
const BULK_LIMIT: Duration = Duration::from_secs(10);

/// Prints the table.
pub(crate) fn measure(counts: &[usize]) {
    println!("\ntakeover, milliseconds");
    println!(
        "{:>9} {:<12} {:<8} {:>9} {:>9} {:>9}",
        "flows", "", "standby", "whole", "commit", "present"
    );
    for count in counts {
        let _raised = room_for(*count);
        for (kind, standby) in [
            (Kind::Conntrackd, Standby::Cache),
            (Kind::Lockstep, Standby::Cache),
            (Kind::Lockstep, Standby::Kernel),
        ] {
            let [whole, commit, present] = take_over(kind, standby, *count);
            println!(
                "{count:>9} {:<12} {:<8} {whole:>9.1} {commit:>9.1} {:>8.1}%",
                kind.name(),
                format!("{standby:?}").to_lowercase(),
                100.0 * present / *count as f64,
            );
        }
    }
}

/// Milliseconds of the whole and of the commit, and how many flows are in the kernel then.
fn take_over(kind: Kind, standby: Standby, count: usize) -> [f64; 3] {
    let pair = Pair::new();
    load::fill(&pair.nodes[0], count);
    let [active, other] = [0, 1].map(|which| pair.start_one(which, kind, standby, 2 * count));
    until("the router serves", || active.serves());
    let has_all = || pair.standby_len(&other) >= count;
    // Part of a bulk of conntrackd's may never arrive; it sends no other by itself.
    for _ in 0..BULKS {
        if within(BULK_LIMIT, has_all).is_some() {
            break;
        }
        active.order(Order::Bulk).expect("it has a peer to tell");
    }
    until("the standby has all flows", has_all);
    let times = match kind {
        Kind::Conntrackd => {
            active.kill();
            let began = Instant::now();
            other.order(Order::Commit).unwrap();
            let commit = began.elapsed();
            for order in [Order::Flush, Order::Reread, Order::Bulk] {
                other.order(order).unwrap();
            }
            [began.elapsed(), commit].map(|it| it.as_secs_f64() * 1e3)
        }
        Kind::Lockstep => {
            active.kill();
            let steps = until_some("the standby has taken over", || {
                let transition = other.last_transition()?;
                let steps = transition["steps"].as_array()?.clone();
                let ended = steps.iter().all(|step| step["took-us"].is_u64());
                (transition["to"] == "master" && ended).then_some(steps)
            });
            let step = |name: &str| {
                let found = steps.iter().find(|step| step["step"] == name);
                found.unwrap_or_else(|| panic!("no {name} in {steps:?}"))
            };
            let milliseconds = |value: &serde_json::Value| value.as_f64().unwrap() / 1e3;
            let announce = step("announce");
            [
                milliseconds(&announce["started-us"]) + milliseconds(&announce["took-us"]),
                milliseconds(&step("commit flows")["took-us"]),
            ]
        }
    };
    let present = load::count(&pair.nodes[1]) as f64;
    other.kill();
    pair.nodes.iter().for_each(load::empty);
    [times[0], times[1], present]
}

fn until_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    until(what, || {
        found = look();
        found.is_some()
    });
    found.expect("it was waited for")
}
