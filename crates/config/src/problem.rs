//! Collects problems while the file is read, so that all of them are told at once.

use std::cell::RefCell;
use std::ops::Range;

use crate::diagnostic::{Diagnostic, Severity};

/// Most diagnostics that are kept; a file with more is not helped by a longer list.
pub(crate) const MAX_DIAGNOSTICS: usize = 500;

/// A diagnostic in the making: its place is bytes only.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    severity: Severity,
    /// Whether it speaks of something that is not there, which in a file with syntax errors may
    /// just not have been understood.
    absence: bool,
    span: Range<usize>,
    message: String,
    label: Option<String>,
    help: Option<String>,
    context: Vec<(Range<usize>, String)>,
}

impl Problem {
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            absence: false,
            span: 0..0,
            message: message.into(),
            label: None,
            help: None,
            context: Vec::new(),
        }
    }

    pub(crate) fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    /// An error about something that the file does not have.
    pub(crate) fn absence(message: impl Into<String>) -> Self {
        Self { absence: true, ..Self::error(message) }
    }

    pub(crate) fn at(self, span: Range<usize>) -> Self {
        Self { span, ..self }
    }

    pub(crate) fn label(self, label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    pub(crate) fn context(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.context.push((span, label.into()));
        self
    }

    pub(crate) fn push(self, report: &Report) {
        report.push(self);
    }
}

/// The problems found so far. Shared by all readers of one file.
#[derive(Debug, Default)]
pub(crate) struct Report {
    problems: RefCell<Vec<Problem>>,
    /// The lines with syntax errors, and all that follows a broken header: what was recovered of
    /// them is not judged further.
    broken_lines: Vec<Range<usize>>,
}

impl Report {
    /// Starts with the syntax errors of `text`.
    pub(crate) fn new(text: &str, mut syntax: Vec<Problem>) -> Self {
        syntax.truncate(MAX_DIAGNOSTICS);
        let broken_lines =
            syntax.iter().map(|problem| broken_around(text, problem.span.start)).collect();
        Self { problems: RefCell::new(syntax), broken_lines }
    }

    pub(crate) fn push(&self, problem: Problem) {
        let broken = !self.broken_lines.is_empty() && problem.absence;
        let judged = self.broken_lines.iter().any(|line| line.contains(&problem.span.start));
        let mut problems = self.problems.borrow_mut();
        if !broken && !judged && problems.len() < MAX_DIAGNOSTICS {
            problems.push(problem);
        }
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.problems.borrow().iter().any(|problem| problem.severity == Severity::Error)
    }

    /// All problems, in the order of the file.
    pub(crate) fn into_diagnostics(self, file: &str, text: &str) -> Vec<Diagnostic> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| (problem.span.start, problem.severity));
        // A long text is counted once and not for each of them.
        let (mut counted, mut line) = (0, 1);
        let place = |problem: Problem| {
            let start = text.floor_char_boundary(problem.span.start.min(text.len()));
            line += newlines(&text[counted..start]);
            counted = start;
            diagnostic(problem, file, text, start, line)
        };
        problems.into_iter().map(place).collect()
    }
}

/// How many lines end in `text`.
pub(crate) fn newlines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

fn diagnostic(problem: Problem, file: &str, text: &str, start: usize, line: usize) -> Diagnostic {
    let line_start = line_around(text, start).start;
    Diagnostic {
        severity: problem.severity,
        file: file.to_owned(),
        line,
        column: text[line_start..start].chars().count() + 1,
        span: problem.span,
        message: printable(&problem.message),
        label: problem.label.map(|label| printable(&label)),
        help: problem.help.map(|help| printable(&help)),
        context: problem
            .context
            .into_iter()
            .map(|(span, label)| (span, printable(&label)))
            .collect(),
    }
}

/// The line in which `at` lies, its newline included.
pub(crate) fn line_around(text: &str, at: usize) -> Range<usize> {
    let at = text.floor_char_boundary(at.min(text.len()));
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len() + 1, |length| at + length + 1);
    start..end
}

/// The line in which `at` lies; of a header, its whole table, for nobody knows which table it is.
fn broken_around(text: &str, at: usize) -> Range<usize> {
    let line = line_around(text, at);
    if !text[line.start..].starts_with('[')
        || line.end > text.len()
        || text[line.end..].starts_with('[')
    {
        return line;
    }
    let next = text[line.end..].find("\n[").map_or(text.len() + 1, |length| line.end + length + 1);
    line.start..next
}

/// Names from the file may hold control characters, which a terminal would obey. One with a line
/// break is not shown: three quotes too many make a value of the rest of the line and of those that
/// follow, passwords among them.
fn printable(text: &str) -> String {
    if let Some((before, _)) = text.split_once('\n') {
        let quoted = before.find(['"', '`']).map_or(before.len(), |quote| quote + 1);
        return printable(&before[..quoted]) + "…";
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}
