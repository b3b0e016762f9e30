//! Writing to standard output: tables, colours for terminals, JSON.

use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use serde::Serialize;

/// How a piece of text stands out on a terminal.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Style {
    /// Not at all.
    #[default]
    Plain,
    /// A heading.
    Heading,
    /// As wanted.
    Good,
    /// Not yet, or worth a look.
    Notable,
    /// Wrong.
    Bad,
}

impl Style {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Heading => Some("1"),
            Self::Good => Some("32"),
            Self::Notable => Some("33"),
            Self::Bad => Some("31"),
        }
    }
}

/// Text that grows and is written at once.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
    colour: bool,
}

impl Page {
    /// For standard output: coloured when that is a terminal and `NO_COLOR` is not set.
    pub(crate) fn new() -> Self {
        let colour = io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|value| value != "dumb");
        Self { text: String::new(), colour }
    }

    /// Without colours, whatever standard output is.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self::default()
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, text: &str) {
        self.text.push_str(printable(text).trim_end());
        self.text.push('\n');
    }

    /// Adds an empty line, unless it would be the first.
    pub(crate) fn gap(&mut self) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
    }

    /// Adds a line of cells with a space between them.
    pub(crate) fn words(&mut self, cells: &[Cell]) {
        for (index, cell) in cells.iter().enumerate() {
            if index > 0 {
                self.text.push(' ');
            }
            self.styled(cell);
        }
        self.text.push('\n');
    }

    /// Whether nothing has been added.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Adds a table; nothing when it has no rows.
    pub(crate) fn table(&mut self, table: &Table) {
        let mut lines = vec![&table.heading];
        lines.extend(&table.rows);
        if lines.len() == 1 {
            return;
        }
        let widths: Vec<usize> = (0..table.heading.len())
            .map(|column| lines.iter().map(|line| line[column].width()).max().unwrap_or(0))
            .collect();
        for line in lines {
            let mut spaces = 0;
            for (cell, width) in line.iter().zip(&widths) {
                if cell.width() > 0 {
                    self.text.extend(std::iter::repeat_n(' ', spaces));
                    self.styled(cell);
                    spaces = 0;
                }
                spaces += width - cell.width() + 2;
            }
            self.text.push('\n');
        }
    }

    fn styled(&mut self, cell: &Cell) {
        match cell.style.code().filter(|_| self.colour) {
            None => self.text.push_str(&cell.text),
            Some(code) => {
                // Writing to a String cannot fail.
                let _ = write!(self.text, "\x1b[{code}m{}\x1b[0m", cell.text);
            }
        }
    }

    /// What has been added so far.
    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Writes it all to standard output.
    pub(crate) fn print(self) -> anyhow::Result<()> {
        print(&self.text)
    }
}

/// Rows under a heading, each column as wide as its widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    heading: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with this heading.
    pub(crate) fn new(heading: &[&str]) -> Self {
        let heading = heading.iter().map(|text| Cell::styled(*text, Style::Heading)).collect();
        Self { heading, rows: Vec::new() }
    }

    /// Adds a row; it has as many cells as the heading.
    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.heading.len(), "a cell for every column");
        self.rows.push(cells.into());
    }
}

/// One field of a table. Control characters are replaced: names and sentences may have come from
/// elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// Text that stands out.
    pub(crate) fn styled(text: impl AsRef<str>, style: Style) -> Self {
        Self { text: printable(text.as_ref()), style }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::Plain)
    }
}

/// Writes JSON for people and programs.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(&text)
}

/// Writes JSON on one line.
pub(crate) fn print_json_line(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string(value)?;
    text.push('\n');
    print(&text)
}

/// Writes text to standard output, all of it.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut lines = Lines::new();
    lines.write(text)?;
    lines.flush()
}

/// Standard output for text without a known end, written in large pieces.
pub(crate) struct Lines {
    output: BufWriter<StdoutLock<'static>>,
}

impl Lines {
    /// Holds standard output until it is dropped.
    pub(crate) fn new() -> Self {
        Self { output: BufWriter::new(io::stdout().lock()) }
    }

    /// Adds text.
    ///
    /// # Errors
    /// [`ReaderGone`] when nobody reads on; other failures to write as they are.
    pub(crate) fn write(&mut self, text: &str) -> anyhow::Result<()> {
        self.output.write_all(text.as_bytes()).map_err(why)
    }

    /// Writes what has been added.
    ///
    /// # Errors
    /// As for [`Lines::write`].
    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        self.output.flush().map_err(why)
    }
}

fn why(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => ReaderGone.into(),
        _ => anyhow::Error::new(error).context("cannot write to standard output"),
    }
}

/// Who read our output has seen enough, as `head` does: an end, not a failure.
#[derive(Debug)]
pub(crate) struct ReaderGone;

impl std::fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nobody reads the output")
    }
}

impl std::error::Error for ReaderGone {}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "STATE", "WHY"]);
        table.row(["a".into(), Cell::styled("master", Style::Good), "".into()]);
        table.row(["longer".into(), "".into(), "because\x1b[2J".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_space() {
        let mut page = Page::plain();
        page.table(&table());
        let expected = "NAME    STATE   WHY\na       master\nlonger          because\u{fffd}[2J\n";
        assert_eq!(page.text(), expected);
    }

    #[test]
    fn colours_do_not_disturb_the_alignment() {
        let mut page = Page { colour: true, ..Page::default() };
        page.table(&table());
        assert!(page.text().contains("a       \x1b[32mmaster\x1b[0m\n"), "{}", page.text());
    }

    #[test]
    fn an_empty_table_is_not_shown() {
        let mut page = Page::plain();
        page.table(&Table::new(&["NAME"]));
        assert_eq!(page.text(), "");
    }
}
