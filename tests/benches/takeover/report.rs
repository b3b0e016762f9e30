//! The figures as a table.

use std::collections::BTreeMap;

use lockstep_tests::daemon::{Lockstep, number, text};

use crate::{Contender, INTERVAL, Router};

/// Prints everything that was measured.
pub(crate) fn print(contenders: &[Contender], prompt: bool) {
    println!();
    println!("From the advertisement that claims mastership to the virtual address in the kernel.");
    println!(
        "{} takeovers of each router, in turn; VRRPv3 every {INTERVAL:?}; no flow to commit.",
        contenders[0].delays_us.len()
    );
    println!("{}", load());
    if !prompt {
        println!("Measured by an ordinary thread: add what it takes to be woken.");
    }
    println!();
    println!(
        "{:<24} {:>10} {:>10} {:>10}  ratio of medians",
        "router", "median", "90 %", "longest"
    );
    let reference = quantile(&contenders[0].delays_us, 0.5);
    for contender in contenders {
        let [median, most, longest] =
            [0.5, 0.9, 1.0].map(|share| quantile(&contender.delays_us, share));
        println!(
            "{:<24} {} {} {}  {:>5.1}",
            contender.name,
            milliseconds(median),
            milliseconds(most),
            milliseconds(longest),
            median / reference
        );
    }
    for contender in contenders {
        if let Router::Lockstep(daemon) = &contender.router {
            println!();
            print_steps(&contender.name, daemon);
        }
    }
}

/// Where the time goes, by the daemon's own journal.
fn print_steps(name: &str, daemon: &Lockstep) {
    let mut steps: BTreeMap<String, Vec<[f64; 2]>> = BTreeMap::new();
    let journal = daemon.journal("gateway");
    for transition in journal.iter().filter(|transition| transition["to"] == "master") {
        for step in transition["steps"].as_array().unwrap() {
            let times = ["started-us", "took-us"].map(|field| number(&step[field]) as f64);
            steps.entry(text(&step["step"])).or_default().push(times);
        }
    }
    let column = |times: &[[f64; 2]], which: usize, share| {
        let times: Vec<f64> = times.iter().map(|time| time[which]).collect();
        quantile(&times, share)
    };
    let mut rows: Vec<_> = steps
        .iter()
        .map(|(step, times)| {
            let begins = column(times, 0, 0.5);
            (begins, step, column(times, 1, 0.5), column(times, 1, 1.0))
        })
        .collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    println!("Steps of {name}, by its journal:");
    println!("{:<24} {:>10} {:>10} {:>10}", "step", "begins", "takes", "longest");
    for (begins, step, takes, longest) in rows {
        println!(
            "{step:<24} {} {} {}",
            milliseconds(begins),
            milliseconds(takes),
            milliseconds(longest)
        );
    }
}

/// Who waits for a processor waits longer the more wait with it, and a takeover of ours passes
/// from thread to thread: a long one on a busy machine says little.
fn load() -> String {
    let averages = std::fs::read_to_string("/proc/loadavg").unwrap();
    let processors = std::thread::available_parallelism().unwrap();
    let minute = averages.split(' ').next().unwrap_or_default();
    format!("Load of the machine in the last minute: {minute} on {processors} processors.")
}

fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

fn milliseconds(microseconds: f64) -> String {
    format!("{:>7.2} ms", microseconds / 1000.0)
}
