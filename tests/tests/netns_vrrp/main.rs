//! What ours does on the real kernel that no other program has a word for, mostly beside a keepalived that only listens.

mod addresses;
mod announcing;
mod explaining;
mod membership;
mod reloading;
mod sending;
mod stalling;
mod starting;
mod tracking;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lockstep_tests::daemon::{Lockstep, number, text};
use lockstep_tests::router::{Program, Role};
use lockstep_tests::segment::{Segment, index_of, ipv4, letter};
use lockstep_tests::setting::Setting;
use lockstep_tests::wait;

/// Lockstep is router `a`.
const OURS: usize = 0;
/// Router `b`.
const OTHER: usize = 1;

/// Lockstep, and keepalived as the other.
fn beside_keepalived() -> Segment {
    Segment::new(&[Program::Lockstep, Program::Keepalived])
}

/// Lockstep alone on its LAN.
fn alone() -> Segment {
    Segment::new(&[Program::Lockstep])
}

/// Plays with each of these at the same time.
fn each<T: Send>(cases: impl IntoIterator<Item = T>, play: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        for case in cases {
            let play = &play;
            scope.spawn(move || play(case));
        }
    });
}

/// Our daemon.
#[track_caller]
fn ours(segment: &mut Segment) -> &Lockstep {
    segment.router(OURS).lockstep().expect("it runs Lockstep")
}

/// Waits until the reason of our group's state has these words.
#[track_caller]
fn wait_for_reason(segment: &mut Segment, words: &[&str]) {
    wait::until(&format!("the reason has {words:?}"), || {
        let reason = text(&ours(segment).group("gateway")["reason"]);
        words.iter().all(|word| reason.contains(word))
    });
}

/// Waits until router `index` has sent `count` more advertisements.
#[track_caller]
fn wait_for_advertisements(segment: &Segment, index: usize, count: usize) {
    let before = segment.advertisements(index).len();
    wait::until(&format!("{} advertises {count} times", letter(index)), || {
        segment.advertisements(index).len() >= before + count
    });
}

/// The times of the advertisements of router `index`, since 1970.
fn advertised_at(segment: &Segment, index: usize) -> Vec<Duration> {
    let frames = segment.capture.frames();
    let own = frames.iter().filter(|frame| {
        frame.advertisement().is_some_and(|seen| index_of(seen.source) == Some(index))
    });
    own.map(|frame| frame.at).collect()
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later")
}
