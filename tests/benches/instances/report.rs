//! The table.

use std::time::Duration;

use lockstep_tests::keepalived;

use crate::Measured;
use crate::contender::Kind;

pub(crate) fn heading() {
    println!(
        "{} and lockstep, a pair each, version 3; the ratio is ours to theirs",
        keepalived::version()
    );
    println!(
        "{:>9} {:>8}  {:<10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}  {:>9}",
        "virtual",
        "interval",
        "",
        "start",
        "CPU of",
        "CPU of",
        "memory",
        "memory",
        "takeover",
        "after the"
    );
    println!(
        "{:>9} {:>8}  {:<10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}  {:>9}",
        "routers",
        "",
        "",
        "ms",
        "master %",
        "backup %",
        "master MB",
        "backup MB",
        "of all ms",
        "bound ms"
    );
}

pub(crate) fn print(measured: &[Measured; 2]) {
    for one in measured {
        let Measured { kind, count, interval, started, load, memory, takeover } = one;
        println!(
            "{count:>9} {:>8}  {:<10} {:>9} {:>9.2} {:>9.2} {:>9.1} {:>9.1} {:>9}  {:>9}",
            format!("{} ms", interval.as_millis()),
            kind.name(),
            milliseconds(*started),
            load[0] * 100.0,
            load[1] * 100.0,
            megabytes(memory[0]),
            megabytes(memory[1]),
            milliseconds(*takeover),
            takeover.map_or_else(
                || "-".to_owned(),
                |takeover| {
                    let over = takeover.as_secs_f64() - bound(*interval).as_secs_f64();
                    format!("{:+.0}", over * 1000.0)
                }
            ),
        );
    }
    let [theirs, ours] = measured;
    debug_assert_eq!((theirs.kind, ours.kind), (Kind::Keepalived, Kind::Lockstep));
    println!(
        "{:>9} {:>8}  {:<10} {:>9} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9}",
        "",
        "",
        "ratio",
        ratio(ours.started, theirs.started),
        ours.load[0] / theirs.load[0],
        ours.load[1] / theirs.load[1],
        ours.memory[0] as f64 / theirs.memory[0] as f64,
        ours.memory[1] as f64 / theirs.memory[1] as f64,
        ratio(ours.takeover, theirs.takeover),
    );
}

/// The master down interval of a backup of priority 100 (RFC 9568 §6.1), if the master died right
/// after it had spoken.
fn bound(interval: Duration) -> Duration {
    3 * interval + interval * (256 - 100) / 256
}

fn ratio(ours: Option<Duration>, theirs: Option<Duration>) -> String {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => format!("{:.2}", ours.as_secs_f64() / theirs.as_secs_f64()),
        _ => "-".to_owned(),
    }
}

fn milliseconds(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "never".to_owned(), |duration| duration.as_millis().to_string())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
