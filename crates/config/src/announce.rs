//! `announce` of a virtual router: when its addresses are made known on the link.

use std::time::Duration;

use crate::Announce;
use crate::problem::Problem;
use crate::reader::{Table, Value};
use crate::schema::ANNOUNCE;

/// Most announcements after becoming master.
const MAX_ANNOUNCEMENTS: usize = 16;
/// Latest of them.
const MAX_AFTER: Duration = Duration::from_hours(1);
/// Shortest and longest time between those that go on.
const REFRESH: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24));

pub(crate) fn read(table: &Table<'_>) -> Option<Announce> {
    let Some(value) = table.get("announce") else { return Some(Announce::default()) };
    let table = value.table(&ANNOUNCE, "the announcements")?;
    let after = table.or("after", Announce::default().after, after);
    let refresh = table.optional("refresh", |value| value.duration(REFRESH.0..=REFRESH.1));
    Some(Announce { after: after?, refresh: refresh? })
}

/// Times from becoming master, growing from 0.
fn after(value: &Value<'_>) -> Option<Vec<Duration>> {
    let mut elements = 0;
    let times = value.list("the times", |time| {
        elements += 1;
        time.duration(Duration::ZERO..=MAX_AFTER)
    })?;
    if elements > MAX_ANNOUNCEMENTS {
        let problem = Problem::error(format!("{elements} announcements after one transition"));
        return value.reject(problem.label(format!("must be 1 to {MAX_ANNOUNCEMENTS}")));
    }
    if times.len() < elements {
        return None;
    }
    if times.first() != Some(&Duration::ZERO) {
        return value.reject(
            Problem::error("the first announcement is not made at once")
                .label("until then hosts send to the old master")
                .help("begin with \"0s\""),
        );
    }
    if times.is_sorted_by(|one, next| one < next) {
        return Some(times);
    }
    value.reject(Problem::error("the times do not grow").label("must be in order, none twice"))
}
