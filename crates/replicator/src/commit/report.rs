//! How a commit, or the injection of a backup, went.

use std::collections::BTreeMap;
use std::fmt;

use lockstep_ctnetlink::{Expectation, Flow, L4, Tuple};

use super::{Action, CommitPart, Planned};
use crate::key::Key;
use crate::table::Slot;

/// Most refusals whose text is kept.
const SAMPLES: usize = 3;

/// How a commit went, or what the injection of a backup has done since it began.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CommitReport {
    /// What of the cache it was about.
    pub part: CommitPart,
    /// Flows created.
    pub created: u64,
    /// Flows that were there and have been brought up to date.
    pub updated: u64,
    /// Flows that took the place of one with another translation.
    pub replaced: u64,
    /// Flows and expectations removed because they ended while the commit was under way.
    pub deleted: u64,
    /// Flows removed that the kernel had from before and that had ended at the router that served.
    pub left_over: u64,
    /// Flows left alone because the kernel has the same or newer.
    pub unchanged: u64,
    /// Flows that got another timeout and nothing else.
    pub retimed: u64,
    /// Flows that left the kernel without this daemon's doing and are put back.
    pub put_back: u64,
    /// Of the created flows, those whose helper this kernel does not have; they are there without.
    pub without_helper: u64,
    /// Of the created flows, those whose master is gone; they stand for themselves.
    pub without_master: u64,
    /// Expectations created, or there already.
    pub expectations: u64,
    /// Of those, expectations whose helper this kernel does not have.
    pub expectations_without_helper: u64,
    /// Refused flows and expectations by error number.
    pub refused: BTreeMap<i32, u64>,
    /// The first refused ones, in words.
    pub samples: Vec<String>,
    /// Flows and expectations that were not tried because the time was up.
    pub left: u64,
    /// What is not in the kernel any more and was left over, where the internal cache has it: to be
    /// forgotten there.
    pub(crate) removed: Vec<(Slot, Key)>,
}

impl CommitReport {
    /// Flows that are in the kernel because of this commit.
    pub fn committed(&self) -> u64 {
        self.created + self.updated + self.replaced
    }

    /// Flows and expectations that are not.
    pub fn refused(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Flows and expectations that nothing more is done about.
    pub fn settled(&self) -> u64 {
        let removed = self.deleted + self.left_over;
        let left_alone = self.unchanged + self.retimed;
        self.committed() + removed + left_alone + self.expectations + self.refused()
    }

    pub(super) fn count_planned(&mut self, planned: &Planned) {
        if planned.left_over.is_some() {
            self.left_over += 1;
            self.note_removed(planned);
        } else {
            self.count(planned.action);
        }
    }

    pub(crate) fn count(&mut self, action: Action) {
        *match action {
            Action::Create => &mut self.created,
            Action::Update | Action::BeLiberal => &mut self.updated,
            Action::Replace => &mut self.replaced,
            Action::Delete => &mut self.deleted,
            Action::SetTimeout => &mut self.retimed,
        } += 1;
    }

    pub(crate) fn refuse_flow(&mut self, flow: &Flow, errno: i32, reason: &str) {
        self.refuse(errno, reason, || named(flow));
    }

    pub(crate) fn refuse_expectation(&mut self, it: &Expectation, errno: i32, reason: &str) {
        self.refuse(errno, reason, || {
            format!("what {} expects, {}", tuple_words(&it.master), tuple_words(&it.tuple))
        });
    }

    fn refuse(&mut self, errno: i32, reason: &str, what: impl FnOnce() -> String) {
        *self.refused.entry(errno).or_default() += 1;
        if self.samples.len() < SAMPLES {
            self.samples.push(format!("{}: {reason} ({})", what(), errno_name(errno)));
        }
    }
}

impl fmt::Display for CommitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} flows committed", self.committed())?;
        let parts = [
            (self.updated, "of them brought up to date"),
            (self.replaced, "of them with another translation than before"),
            (self.without_helper, "of them without their helper, which this kernel does not have"),
            (self.without_master, "of them without the flow that expected them, which is gone"),
            (self.deleted, "removed because they ended meanwhile"),
            (self.left_over, "left over from before removed"),
            (self.unchanged, "left alone because the kernel has the same or newer"),
            (self.retimed, "given their time again, and otherwise left alone"),
            (self.expectations, "expectations"),
            (
                self.expectations_without_helper,
                "of the expectations without their helper, which this kernel does not have",
            ),
            (self.left, "left when the time was up"),
        ];
        for (count, words) in parts {
            if count > 0 {
                write!(f, ", {count} {words}")?;
            }
        }
        if self.refused() > 0 {
            write!(f, ", {} refused (", self.refused())?;
            for (index, (errno, count)) in self.refused.iter().enumerate() {
                let comma = if index == 0 { "" } else { ", " };
                write!(f, "{comma}{count} {}{}", errno_name(*errno), meaning(*errno))?;
            }
            write!(f, "): {}", self.samples.join("; "))?;
            if self.refused() > self.samples.len() as u64 {
                f.write_str("; …")?;
            }
        }
        Ok(())
    }
}

/// A flow for a report: both tuples where they say different things, and the zone.
pub(crate) fn named(flow: &Flow) -> String {
    let mut words = tuple_words(&flow.orig);
    if flow.reply != flow.orig.inverse() {
        words = format!("{words}, answered {}", tuple_words(&flow.reply));
    }
    if flow.zone != 0 {
        words = format!("{words}, zone {}", flow.zone);
    }
    words
}

fn tuple_words(tuple: &Tuple) -> String {
    let l4 = match tuple.l4 {
        L4::None => String::new(),
        L4::Ports { source, destination } => format!(" ports {source} to {destination}"),
        L4::Icmp { kind, code, id } => format!(" type {kind} code {code} id {id}"),
    };
    format!("protocol {} {} to {}{l4}", tuple.protocol, tuple.source, tuple.destination)
}

/// The symbol of an error number, or its digits.
fn errno_name(errno: i32) -> String {
    const NAMES: [(i32, &str); 18] = [
        (1, "EPERM"),
        (2, "ENOENT"),
        (4, "EINTR"),
        (5, "EIO"),
        (7, "E2BIG"),
        (11, "EAGAIN"),
        (12, "ENOMEM"),
        (16, "EBUSY"),
        (17, "EEXIST"),
        (22, "EINVAL"),
        (24, "EMFILE"),
        (34, "ERANGE"),
        (62, "ETIME"),
        (90, "EMSGSIZE"),
        (93, "EPROTONOSUPPORT"),
        (95, "EOPNOTSUPP"),
        (97, "EAFNOSUPPORT"),
        (105, "ENOBUFS"),
    ];
    let name = NAMES.iter().find(|(number, _)| *number == errno).map(|(_, name)| *name);
    name.map_or_else(|| format!("error {errno}"), str::to_owned)
}

/// What an operator can do about it, where that is known.
fn meaning(errno: i32) -> &'static str {
    match errno {
        super::ENOMEM => ": the table is full (nf_conntrack_max), or memory is",
        super::EMFILE => ": the table of expectations is full (nf_conntrack_expect_max)",
        _ => "",
    }
}
