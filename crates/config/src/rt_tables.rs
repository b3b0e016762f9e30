//! Names of routing tables as iproute2 keeps them, in `rt_tables` and `rt_tables.d/*.conf`.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_routes::TableId;
use toml::Spanned;

use crate::diagnostic::Diagnostic;
use crate::problem::{Problem, Report};

/// Reads the text of one such file: a number and a name on each line, `#` begins a comment.
///
/// Lines that cannot be understood are left out with a warning, as iproute2 leaves them out:
/// others own these files, so nothing in them is an error. `name` is the file's, for diagnostics.
pub fn routing_tables(name: &str, text: &str) -> (Vec<(String, TableId)>, Vec<Diagnostic>) {
    let report = Report::default();
    let mut tables: Vec<(String, TableId)> = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let span = start..start + line.trim_end().len();
        start += line.len();
        match read_line(line) {
            Ok(None) => {}
            Ok(Some((table, id))) => match tables.iter().find(|(known, _)| *known == table) {
                Some((_, first)) if *first != id => {
                    let problem = Problem::warning(format!("table `{table}` has two numbers"));
                    report.push(problem.label(format!("{} is used", first.0)).at(span));
                }
                Some(_) => {}
                None => tables.push((table, id)),
            },
            Err(label) => {
                report.push(
                    Problem::warning("this line names no routing table").label(label).at(span),
                );
            }
        }
    }
    (tables, report.into_diagnostics(name, text))
}

fn read_line(line: &str) -> Result<Option<(String, TableId)>, &'static str> {
    let line = line.split('#').next().unwrap_or_default();
    let mut words = line.split_whitespace();
    let Some(number) = words.next() else { return Ok(None) };
    let id = table_number(number).ok_or("does not begin with a number")?;
    match (words.next(), words.next()) {
        (Some(table), None) => Ok(Some((table.to_owned(), TableId(id)))),
        (None, _) => Err("has no name"),
        (Some(_), Some(_)) => Err("has more than a number and a name"),
    }
}

/// A table's number, decimal or hexadecimal with `0x`.
pub(crate) fn table_number(text: &str) -> Option<u32> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => {
            u32::from_str_radix(digits, 16).ok()
        }
        Some(_) => None,
        None => text.parse().ok(),
    }
}

/// The names of tables that are known: the file's own, then the host's, then the kernel's.
#[derive(Clone, Debug, Default)]
pub(crate) struct TableNames {
    names: BTreeMap<String, TableId>,
    /// Those of the file itself, which are shown where a table has several.
    own: BTreeSet<String>,
}

/// Names that need no file.
const BUILT_IN: &[(&str, TableId)] =
    &[("main", TableId::MAIN), ("local", TableId::LOCAL), ("default", TableId(253))];

impl TableNames {
    /// The host's names, of which a later one wins, and the kernel's.
    pub(crate) fn new(host: &[(String, TableId)]) -> Self {
        let mut names: BTreeMap<_, _> = host.iter().cloned().collect();
        for (name, id) in BUILT_IN {
            names.entry((*name).to_owned()).or_insert(*id);
        }
        Self { names, own: BTreeSet::new() }
    }

    pub(crate) fn is_built_in(name: &str) -> bool {
        BUILT_IN.iter().any(|(known, _)| *known == name)
    }

    pub(crate) fn find(&self, name: &str) -> Option<TableId> {
        self.names.get(name).copied()
    }

    /// Takes a name of the file's own, which wins over the host's.
    pub(crate) fn set(&mut self, name: &Spanned<String>, id: TableId) {
        self.names.insert(name.get_ref().clone(), id);
        self.own.insert(name.get_ref().clone());
    }

    pub(crate) fn words(&self) -> Vec<&str> {
        self.names.keys().map(String::as_str).collect()
    }

    /// All names, by number, the file's own first.
    pub(crate) fn into_list(self) -> Vec<(String, TableId)> {
        let mut names: Vec<_> = self.names.into_iter().collect();
        names.sort_by_key(|(name, id)| (*id, !self.own.contains(name)));
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read_as_iproute2_does() {
        let text = "#\n# reserved values\n#\n255\tlocal\n254\tmain\n0x64 static_route # a comment\n  2  Table_eth2\r\n\n";
        let (tables, problems) = routing_tables("rt_tables", text);
        assert_eq!(problems, []);
        let tables: Vec<_> = tables.iter().map(|(name, id)| (name.as_str(), id.0)).collect();
        assert_eq!(
            tables,
            [("local", 255), ("main", 254), ("static_route", 100), ("Table_eth2", 2)]
        );
    }

    #[test]
    fn a_line_that_is_not_understood_is_a_warning_and_the_rest_is_read() {
        let text = "x\n1\n1 2 3\n0x\n-1 a\n99999999999 b\n7 good\n8 good\n";
        let (tables, problems) = routing_tables("rt_tables", text);
        assert_eq!(tables, [("good".to_owned(), TableId(7))]);
        let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5, 6, 8]);
    }
}
