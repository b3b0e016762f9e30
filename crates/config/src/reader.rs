//! Reads one value of the file at a time: the right type, in range, known keys only.
//!
//! A reader that meets a problem reports it and gives `None`; its caller goes on with the rest.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{Problem, Report};
use crate::schema::{self, Section};
use crate::words;

/// A table of a known [`Section`].
#[derive(Clone, Debug)]
pub(crate) struct Table<'a> {
    report: &'a Report,
    entries: &'a DeTable<'a>,
    section: &'static Section,
    span: Range<usize>,
    /// What it is, for sentences: "virtual router `inside`".
    title: String,
    /// Keys that an unknown one probably stands for: that they are missing is no news.
    misspelt: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// Takes the table of the whole file; keys that are not in `section` are reported.
    pub(crate) fn root(
        report: &'a Report,
        entries: &'a DeTable<'a>,
        section: &'static Section,
    ) -> Self {
        Self::open(report, entries, section, 0..0, "the configuration".to_owned())
    }

    fn open(
        report: &'a Report,
        entries: &'a DeTable<'a>,
        section: &'static Section,
        span: Range<usize>,
        title: String,
    ) -> Self {
        let mut misspelt = Vec::new();
        for key in entries.keys().filter(|key| !section.has(key.get_ref())) {
            report.push(schema::unknown_key(section, key.get_ref()).at(key.span()));
            misspelt.extend(schema::nearest(key.get_ref(), section.keys));
        }
        Self { report, entries, section, span, title, misspelt }
    }

    pub(crate) fn report(&self) -> &'a Report {
        self.report
    }

    /// Where it begins: its header, or the whole of an inline table.
    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    /// The value of `key`, when it is there.
    pub(crate) fn get(&self, key: &str) -> Option<Value<'a>> {
        debug_assert!(
            self.section.has(key),
            "`{key}` is missing in the schema of {}",
            self.section.heading
        );
        let node = self.entries.get(key)?;
        Some(Value { report: self.report, node: node.get_ref(), span: node.span() })
    }

    /// The value of `key`; reports that it is missing, with `help`.
    pub(crate) fn require(&self, key: &str, help: &str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() && !self.misspelt.contains(&key) {
            self.report.push(
                Problem::absence(format!("{} has no `{key}`", self.title))
                    .label(format!("`{key}` is required"))
                    .help(help)
                    .at(self.span()),
            );
        }
        value
    }

    /// The value of `key` as `read` understands it, or `default` when the key is not there. `None`
    /// when it is there and wrong.
    pub(crate) fn or<T>(
        &self,
        key: &str,
        default: T,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.get(key) {
            Some(value) => read(&value),
            None => Some(default),
        }
    }

    /// The value of `key` as `read` understands it; `Some(None)` when the key is not there.
    #[expect(clippy::option_option, reason = "absent is not the same as wrong")]
    pub(crate) fn optional<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.get(key) {
            Some(value) => read(&value).map(Some),
            None => Some(None),
        }
    }

    /// The tables named under `key`, `[key.NAME]`, in the order of the file.
    pub(crate) fn named(
        &self,
        key: &str,
        what: &str,
        section: &'static Section,
    ) -> Vec<(Spanned<String>, Table<'a>)> {
        let mut tables = Vec::new();
        for (name, value) in self.get(key).map(|value| value.entries(section)).unwrap_or_default() {
            let title = format!("{what} `{}`", name.get_ref());
            if let Err(problem) = words::name(name.get_ref()) {
                self.report.push(problem.at(name.span()));
            }
            if let Some(table) = value.table(section, &title) {
                tables.push((name, table));
            }
        }
        tables
    }

    /// The tables `[[key]]`, in the order of the file.
    pub(crate) fn elements(
        &self,
        key: &str,
        what: &str,
        section: &'static Section,
    ) -> Vec<Table<'a>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let DeValue::Array(array) = value.node else {
            value
                .wrong_type("an array of tables")
                .help(format!("write `{}`", section.heading))
                .push(self.report);
            return Vec::new();
        };
        array
            .iter()
            .filter_map(|node| value.beside(node).table(section, &format!("this {what}")))
            .collect()
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Value<'a> {
    report: &'a Report,
    node: &'a DeValue<'a>,
    span: Range<usize>,
}

impl<'a> Value<'a> {
    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    fn beside(&self, node: &'a Spanned<DeValue<'a>>) -> Self {
        Self { report: self.report, node: node.get_ref(), span: node.span() }
    }

    pub(crate) fn report(&self) -> &'a Report {
        self.report
    }

    pub(crate) fn is_table(&self) -> bool {
        self.node.is_table()
    }

    pub(crate) fn is_string(&self) -> bool {
        self.node.is_str()
    }

    pub(crate) fn is_array(&self) -> bool {
        self.node.is_array()
    }

    /// The string, when the value is one; it is not reported when it is not.
    pub(crate) fn as_string(&self) -> Option<&'a str> {
        self.node.as_str()
    }

    fn wrong_type(&self, expected: &str) -> Problem {
        let found = match self.node {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        Problem::error(format!("expected {expected}, found {found}"))
            .label(format!("must be {expected}"))
            .at(self.span())
    }

    /// Reports that the value is not `expected`, with `help`.
    pub(crate) fn refuse<T>(&self, expected: &str, help: &str) -> Option<T> {
        self.wrong_type(expected).help(help).push(self.report);
        None
    }

    /// Reports `problem` at this value.
    pub(crate) fn reject<T>(&self, problem: Problem) -> Option<T> {
        self.report.push(problem.at(self.span()));
        None
    }

    fn accept<T>(&self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.report.push(problem.at(self.span()))).ok()
    }

    /// A table of `section`, called `title` in sentences.
    pub(crate) fn table(&self, section: &'static Section, title: &str) -> Option<Table<'a>> {
        let DeValue::Table(entries) = self.node else {
            let help = format!("keys belong under `{}`", section.heading);
            return self.refuse("a table", &help);
        };
        Some(Table::open(self.report, entries, section, self.span(), title.to_owned()))
    }

    /// The keys and values of a table whose keys are free names, in the order of the file.
    pub(crate) fn entries(&self, section: &'static Section) -> Vec<(Spanned<String>, Value<'a>)> {
        let DeValue::Table(entries) = self.node else {
            self.wrong_type("a table")
                .help(format!("write `{}`", section.heading))
                .push(self.report);
            return Vec::new();
        };
        let mut entries: Vec<_> = entries
            .iter()
            .map(|(key, node)| {
                (Spanned::new(key.span(), key.get_ref().to_string()), self.beside(node))
            })
            .collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        entries
    }

    pub(crate) fn string(&self) -> Option<&'a str> {
        match self.node {
            DeValue::String(text) => Some(text.as_ref()),
            _ => self.accept(Err(self.wrong_type("a string"))),
        }
    }

    /// A string and its place.
    pub(crate) fn text(&self) -> Option<Spanned<String>> {
        self.string().map(|text| Spanned::new(self.span(), text.to_owned()))
    }

    /// A string that `parse` understands.
    pub(crate) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, Problem>) -> Option<T> {
        self.accept(parse(self.string()?))
    }

    /// As [`Value::parse`], with its place.
    pub(crate) fn parse_at<T>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Option<Spanned<T>> {
        self.parse(parse).map(|value| Spanned::new(self.span(), value))
    }

    /// One of a few words; `what` names the choice.
    pub(crate) fn word<T: Copy>(&self, what: &str, choices: &[(&str, T)]) -> Option<T> {
        self.parse(|text| words::word(text, what, choices))
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        match self.node {
            DeValue::Boolean(value) => Some(*value),
            DeValue::String(text) if matches!(text.as_ref(), "true" | "false") => {
                self.refuse("true or false", "leave out the quotes")
            }
            _ => self.accept(Err(self.wrong_type("true or false"))),
        }
    }

    /// The boolean, when the value is one; it is not reported when it is not.
    pub(crate) fn as_boolean(&self) -> Option<bool> {
        match self.node {
            DeValue::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// The integer, when the value is one; it is not reported when it is not.
    pub(crate) fn as_integer(&self) -> Option<i128> {
        let DeValue::Integer(integer) = self.node else { return None };
        Some(i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i128::MAX))
    }

    /// An integer in `range`.
    pub(crate) fn integer<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: Copy + Into<i128> + TryFrom<i128>,
    {
        let Some(value) = self.as_integer() else {
            return self.accept(Err(self.wrong_type("an integer")));
        };
        let (low, high): (i128, i128) = ((*range.start()).into(), (*range.end()).into());
        let between = if high - low == 1 { "or" } else { "to" };
        let checked = (low..=high).contains(&value).then(|| T::try_from(value).ok()).flatten();
        self.accept(checked.ok_or_else(|| {
            let message = if value == i128::MAX {
                "this number is out of range".to_owned()
            } else {
                format!("{value} is out of range")
            };
            Problem::error(message).label(format!("must be {low} {between} {high}"))
        }))
    }

    /// A duration in `range`.
    pub(crate) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        if let Some(number) = self.as_integer() {
            return self
                .refuse("a duration", &format!("say the unit: \"{number}s\" or \"{number}ms\""));
        }
        if !self.is_string() {
            return self.refuse(
                "a duration",
                "write a whole number and ms, s, m or h, in quotes: \"250ms\"",
            );
        }
        self.parse(|text| {
            let duration = words::duration(text)?;
            if range.contains(&duration) {
                return Ok(duration);
            }
            let (low, high) =
                (words::show_duration(*range.start()), words::show_duration(*range.end()));
            Err(Problem::error(format!("{text} is out of range"))
                .label(format!("must be {low} to {high}")))
        })
    }

    /// A list, each element read by `read`; elements that are wrong are left out.
    pub(crate) fn list<T>(
        &self,
        of: &str,
        read: impl FnMut(Value<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let DeValue::Array(array) = self.node else {
            let help = match self.as_string() {
                Some(text) => format!("write [\"{text}\"]"),
                None => format!("write `[…]` around {of}"),
            };
            return self.refuse("an array", &help);
        };
        Some(array.iter().map(|node| self.beside(node)).filter_map(read).collect())
    }

    /// A command with its arguments.
    pub(crate) fn command(&self) -> Option<Vec<String>> {
        if self.is_string() {
            return self.refuse(
                "an array",
                "no shell is involved: write [\"/path/of/program\", \"argument\"]",
            );
        }
        let mut whole = true;
        let command = self.list("the program and its arguments", |word| {
            let text = word.parse(words::argument);
            whole &= text.is_some();
            text
        })?;
        let named = command.first().is_some_and(|program| !program.is_empty());
        if whole && !named {
            self.report.push(
                Problem::error("a command without a program")
                    .label("names nothing to run")
                    .help("write [\"/path/of/program\", \"argument\"]")
                    .at(self.span()),
            );
        }
        (whole && named).then_some(command)
    }
}
