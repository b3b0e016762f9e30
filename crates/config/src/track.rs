//! `track` of virtual routers and groups: what is watched beside checks, and what each thing weighs.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use lockstep_failover::{Process, Subject, Track};
use lockstep_vrrp::Priority;
use toml::Spanned;

use crate::group::unknown;
use crate::problem::{Problem, Report};
use crate::reader::{Table, Value};
use crate::schema::TRACK;
use crate::virtual_router::ReadVirtualRouter;
use crate::{defaults, words};

/// Most that one thing adds to or takes from a priority, as keepalived has it.
const MAX_WEIGHT: i16 = 253;
/// Most processes that can be asked for.
const MAX_QUORUM: u32 = 65_535;
/// Longest that processes may be too few before it counts.
const MAX_DELAY: Duration = Duration::from_hours(1);
/// Longest name of a program or path, in bytes.
const PATH_LENGTH: usize = 4_095;

/// The keys that say what is tracked.
const SUBJECTS: [&str; 4] = ["check", "interface", "file", "process"];

/// A tracked thing that was understood; a check is not looked up yet.
#[derive(Clone, Debug)]
pub(crate) struct ReadTrack {
    pub track: Track,
    /// The place of its name.
    pub span: Range<usize>,
    /// The place of its weight.
    pub weight_span: Option<Range<usize>>,
}

/// What is under `track`, each thing once.
pub(crate) fn read(table: &Table<'_>) -> Vec<ReadTrack> {
    let Some(value) = table.get("track") else { return Vec::new() };
    let read = value.list("the tracked things", |element| one(&element)).unwrap_or_default();
    let mut tracks: Vec<ReadTrack> = Vec::new();
    for track in read {
        let same = |earlier: &&ReadTrack| same_thing(&earlier.track.subject, &track.track.subject);
        if let Some(earlier) = tracks.iter().find(same) {
            table.report().push(
                Problem::error(format!("{} is tracked twice", track.track.subject))
                    .label("again here")
                    .at(track.span.clone())
                    .context(earlier.span.clone(), "first here"),
            );
        } else {
            tracks.push(track);
        }
    }
    tracks
}

/// What of `tracks` can be tracked beside `checks`: a check has to exist, and is a fault or weighs.
pub(crate) fn known(
    report: &Report,
    known_checks: &[Spanned<String>],
    checks: &[Spanned<String>],
    tracks: &[ReadTrack],
) -> Vec<Track> {
    let known: Vec<&str> = known_checks.iter().map(|name| name.get_ref().as_str()).collect();
    let can_be = |read: &&ReadTrack| {
        let Subject::Check(name) = &read.track.subject else { return true };
        if !known.contains(&name.as_str()) {
            let place = Spanned::new(read.span.clone(), name.clone());
            report.push(unknown("check", "check", &place, &known));
            return false;
        }
        let Some(fault) = checks.iter().find(|check| check.get_ref() == name) else { return true };
        report.push(
            Problem::error(format!("check {name} is tracked twice"))
                .label("again here")
                .help("keep it in `checks` when its failure is a fault, in `track` when it weighs")
                .at(read.span.clone())
                .context(fault.span(), "its failure is a fault already"),
        );
        false
    };
    tracks.iter().filter(can_be).map(|read| read.track.clone()).collect()
}

/// What of a virtual router's can be tracked.
pub(crate) fn of_router(
    report: &Report,
    known_checks: &[Spanned<String>],
    router: &ReadVirtualRouter,
) -> Vec<Track> {
    for read in &router.track {
        let own = router.interface.as_ref().filter(|interface| {
            matches!(&read.track.subject, Subject::Interface(name) if name == interface.get_ref())
        });
        if let Some(own) = own {
            report.push(
                Problem::warning(format!("{} is tracked always", read.track.subject))
                    .label("its loss is a fault already")
                    .at(read.span.clone())
                    .context(own.span(), "where the virtual router advertises"),
            );
        }
        let owner = router.vrrp.as_ref().is_some_and(|vrrp| vrrp.priority == Priority::OWNER);
        if let (true, Some(weight)) = (owner, &read.weight_span) {
            let problem = Problem::warning("the owner's priority never changes")
                .label("has no effect with priority 255 (RFC 9568 §6.1)")
                .help("leave `weight` out: then this router gives up while the thing is bad");
            report.push(problem.at(weight.clone()));
        }
    }
    known(report, known_checks, &router.checks, &router.track)
}

/// Processes of one program with another quorum may be tracked too: each step of a loss can weigh.
fn same_thing(one: &Subject, other: &Subject) -> bool {
    match (one, other) {
        (Subject::Process(one), Subject::Process(other)) => {
            one.program == other.program && one.quorum == other.quorum
        }
        _ => one == other,
    }
}

fn one(element: &Value<'_>) -> Option<ReadTrack> {
    let table = element.table(&TRACK, "this tracked thing")?;
    let named: Vec<(&str, Value<'_>)> =
        SUBJECTS.iter().filter_map(|key| Some((*key, table.get(key)?))).collect();
    let weight = table.get("weight");
    let weight_span = weight.as_ref().map(Value::span);
    let weight = match &weight {
        Some(value) => weight_of(value).map(Some),
        None => Some(None),
    };
    let [(key, value)] = named.as_slice() else {
        let problem = match named.as_slice() {
            [] => Problem::absence("nothing is named that could be tracked")
                .label("names no `check`, `interface`, `file` or `process`")
                .help("write { interface = \"eth2\", weight = -20 }, for instance")
                .at(element.span()),
            [(one, first), (two, second), ..] => {
                Problem::error(format!("`{one}` and `{two}` in one element"))
                    .label("and this")
                    .help("write an element of its own for each")
                    .at(second.span())
                    .context(first.span(), "this")
            }
            [_] => return None,
        };
        table.report().push(problem);
        return None;
    };
    let process = *key == "process";
    let quorum = table.or("quorum", defaults::QUORUM, |value| value.integer(1..=MAX_QUORUM));
    let delay =
        table.or("delay", Duration::ZERO, |value| value.duration(Duration::ZERO..=MAX_DELAY));
    for key in ["quorum", "delay"].into_iter().filter(|_| !process) {
        if let Some(extra) = table.get(key) {
            let problem = Problem::error(format!("`{key}` without processes"))
                .label("belongs to `process`")
                .at(extra.span())
                .context(value.span(), "what is tracked");
            table.report().push(problem);
        }
    }
    let subject = match *key {
        "check" => Subject::Check(value.text()?.into_inner()),
        "interface" => Subject::Interface(value.parse(words::interface)?),
        "file" => Subject::File(value.parse(file)?),
        _ => {
            let program = value.parse(program)?;
            Subject::Process(Process { program, quorum: quorum?, delay: delay? })
        }
    };
    Some(ReadTrack { track: Track { subject, weight: weight? }, span: value.span(), weight_span })
}

fn weight_of(value: &Value<'_>) -> Option<i16> {
    if value.as_integer() == Some(0) {
        return value.reject(
            Problem::error("a weight of 0 weighs nothing")
                .label(format!("must be -{MAX_WEIGHT} to {MAX_WEIGHT} and not 0"))
                .help("leave `weight` out: then this router gives up while the thing is bad"),
        );
    }
    value.integer(-MAX_WEIGHT..=MAX_WEIGHT)
}

fn file(text: &str) -> Result<PathBuf, Problem> {
    let path = PathBuf::from(text);
    if path.is_absolute() && text.len() <= PATH_LENGTH && !text.contains('\0') {
        return Ok(path);
    }
    Err(Problem::error("this cannot be the path of a file").label("must begin with `/`"))
}

fn program(text: &str) -> Result<String, Problem> {
    let label = if text.is_empty() {
        "is empty"
    } else if text.len() > PATH_LENGTH || text.contains(char::is_control) {
        "is too long or holds a control character"
    } else if text.contains('/') && !text.starts_with('/') {
        "is a relative path"
    } else {
        return Ok(text.to_owned());
    };
    let help = "write the name of the program, \"named\", or its whole path, \"/usr/sbin/named\"";
    Err(Problem::error("this cannot be a program").label(label).help(help))
}
