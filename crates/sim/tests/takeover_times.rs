//! The figures of the elections, kept as a table in the documentation.
//!
//! `UPDATE=1 cargo test -p lockstep-sim --test takeover_times` writes the table anew.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use lockstep_sim::{Loss, Setting, Times};

/// Takeovers in each cell.
const TRIALS: usize = 200;
/// Intervals watched for takeovers without a reason.
const QUIET_INTERVALS: u32 = 36_000;
const SEED: u64 = 1;

#[test]
fn takeover_times_are_those_of_the_documentation() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/takeover-times.md");
    let table = document();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &table).expect("the documentation can be written");
    }
    let kept = std::fs::read_to_string(&path).expect("the table is there");
    assert!(
        kept == table,
        "the table is another now; write it anew with UPDATE=1 and look at the difference:\n{table}"
    );
}

fn document() -> String {
    let mut text = HEAD.to_owned();
    for routers in [2, 3, 5] {
        let settings: Vec<Setting> = [10, 100, 1000]
            .into_iter()
            .flat_map(|milliseconds| {
                [0, 5, 10, 20, 30].map(|loss_percent| Setting {
                    routers,
                    interval: Duration::from_millis(milliseconds),
                    loss_percent,
                })
            })
            .collect();
        let rows = std::thread::scope(|scope| {
            let half = settings.len().div_ceil(2);
            let threads: Vec<_> = settings
                .chunks(half)
                .map(|some| scope.spawn(|| some.iter().map(row).collect::<String>()))
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<String>()
        });
        write!(text, "\n## {routers} routers\n\n{COLUMNS}{rows}").expect("text grows");
    }
    text
}

fn row(setting: &Setting) -> String {
    let start = Instant::now();
    let mut row = format!("| {} | {} % |", words(setting.interval), setting.loss_percent);
    for loss in Loss::ALL {
        let Times { median, hundredth, worst } = setting
            .takeover_times(loss, TRIALS, SEED, start)
            .unwrap_or_else(|violation| panic!("{setting:?}, {loss:?}: {violation}"));
        let [median, hundredth, worst] = [median, hundredth, worst].map(milliseconds);
        write!(row, " {median} / {hundredth} / {worst} |").expect("text grows");
    }
    let time = setting.interval * QUIET_INTERVALS;
    let rate = setting
        .false_takeovers(time, SEED, start)
        .unwrap_or_else(|violation| panic!("{setting:?}: {violation}"));
    let decimals = usize::from(rate < 100.0);
    writeln!(row, " {rate:.decimals$} |").expect("text grows");
    row
}

fn words(interval: Duration) -> String {
    match interval.as_millis() {
        1000 => "1 s".to_owned(),
        milliseconds => format!("{milliseconds} ms"),
    }
}

/// Three figures are enough for a person.
fn milliseconds(duration: Duration) -> String {
    let milliseconds = duration.as_secs_f64() * 1000.0;
    if milliseconds < 100.0 { format!("{milliseconds:.1}") } else { format!("{milliseconds:.0}") }
}

const HEAD: &str = "\
# Takeover times

How long nobody serves when the master goes away, by advertisement interval and by how many packets
the network loses: measured in simulation, with the real state machines and packets, 200 times for
each cell. Times are milliseconds from the loss of the master until another router claims mastership,
as **median / 99 % / worst**; the virtual addresses are up a few milliseconds later. The routers have
priorities 200, 150, 100, 75 and 50, so that in undisturbed weather the second one takes over: at the
latest after three intervals and a skew of 106/256 of an interval since the last advertisement.

- **killed**: the daemon or the router dies without a word.
- **stopped**: the daemon is stopped and says priority 0, which leaves the skew to wait for, unless the
  network loses it.
- **link down**: the master's interface goes down; it cannot say anything any more.
- **stalled**: the master is not scheduled for twenty intervals, as in a snapshot or migration.
- **false**: takeovers per hour although the master is well, because the network lost three or more
  of its advertisements in a row; in an hour there are 3 600 advertisements at 1 s, 360 000 at 10 ms.

Killed, link down and stalled are the same silence to the others, so that their figures are equal.

Loss does not make a takeover slower, unless priority 0 itself is lost; it is often faster, because the
last advertisements before the fault were lost too and the timer has been running. The price of loss is
in the last column.
";

const COLUMNS: &str = "\
| interval | loss | killed | stopped | link down | stalled | false per hour |
|---|---|---|---|---|---|---|
";
