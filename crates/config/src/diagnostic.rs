//! What is wrong with a file, where, and what to write instead.

use std::fmt;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use crate::mask::mask_secrets;
use crate::problem::{line_around, newlines};

/// How many bytes apart two places may be to be drawn in one picture.
const NEAR: usize = 16 * 1024;

/// How much a [`Diagnostic`] matters.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is accepted; something in it has no effect or not the one that it seems to have.
    Warning,
}

impl Severity {
    /// The word in front of the message.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One problem of a file. Carries no text of the file except names that are not secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Diagnostic {
    /// Whether the file is refused for it.
    pub severity: Severity,
    /// The file, as the caller named it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The bytes of the text it is about; empty at the place where something is missing.
    pub span: Range<usize>,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// Why, shown beside the place.
    pub label: Option<String>,
    /// What to write instead.
    pub help: Option<String>,
    /// Other places that explain it, each with a label.
    pub context: Vec<(Range<usize>, String)>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, severity, message, .. } = self;
        write!(f, "{file}:{line}:{column}: {}: {message}", severity.as_str())
    }
}

/// Draws a diagnostic with the lines it is about, for a person.
///
/// `source` is the text that was read; secrets in it are masked. `color` adds ANSI colours. Any
/// span is drawn, also one that does not fit `source` (when the file has changed since).
pub fn render(diagnostic: &Diagnostic, source: &str, color: bool) -> String {
    draw(diagnostic, &mask_secrets(source), color)
}

/// As [`render`], for all that is said of one text: an empty line is between each and the next.
pub fn render_all(diagnostics: &[Diagnostic], source: &str, color: bool) -> String {
    let masked = mask_secrets(source);
    let drawn: Vec<String> =
        diagnostics.iter().map(|diagnostic| draw(diagnostic, &masked, color)).collect();
    drawn.join("\n\n")
}

fn draw(diagnostic: &Diagnostic, masked: &str, color: bool) -> String {
    let primary = clamp(&diagnostic.span, masked);
    let context: Vec<_> = diagnostic
        .context
        .iter()
        .map(|(span, label)| (clamp(span, masked), label.as_str()))
        .collect();

    let is_near = |span: &Range<usize>| {
        span.start.abs_diff(primary.start).max(span.end.abs_diff(primary.end)) <= NEAR
    };
    let (near, far): (Vec<_>, Vec<_>) = context.into_iter().partition(|(span, _)| is_near(span));
    let shown = snippet(diagnostic, masked, Some(&primary), &near);
    let elsewhere = far.chunks(1).map(|one| snippet(diagnostic, masked, None, one));

    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let group = level.primary_title(diagnostic.message.as_str()).element(shown);
    let mut groups = vec![group.elements(elsewhere)];
    if let Some(help) = &diagnostic.help {
        groups.push(Group::with_title(Level::HELP.secondary_title(help.as_str())));
    }

    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    renderer.decor_style(DecorStyle::Ascii).render(&groups)
}

/// The lines of some places and all between them.
fn snippet<'t>(
    diagnostic: &'t Diagnostic,
    masked: &'t str,
    primary: Option<&Range<usize>>,
    context: &[(Range<usize>, &'t str)],
) -> Snippet<'t, Annotation<'t>> {
    // Only the lines that are shown: to look through all of a long text takes its time.
    let spans = || context.iter().map(|(span, _)| span).chain(primary);
    let first = spans().map(|span| span.start).min().unwrap_or_default();
    let last = spans().map(|span| span.end).max().unwrap_or_default();
    let start = line_around(masked, first).start;
    let end = line_around(masked, last).end.min(masked.len());
    let here = |span: &Range<usize>| span.start - start..span.end - start;
    let primary = primary
        .map(|span| AnnotationKind::Primary.span(here(span)).label(diagnostic.label.as_deref()));
    let context =
        context.iter().map(|(span, label)| AnnotationKind::Context.span(here(span)).label(*label));
    Snippet::source(&masked[start..end])
        .line_start(newlines(&masked[..start]) + 1)
        .path(diagnostic.file.as_str())
        .annotations(primary.into_iter().chain(context))
}

/// The part of `span` inside `text`, widened to whole characters.
fn clamp(span: &Range<usize>, text: &str) -> Range<usize> {
    let start = text.floor_char_boundary(span.start.min(text.len()));
    let end = text.ceil_char_boundary(span.end.clamp(start, text.len()));
    start..end
}
