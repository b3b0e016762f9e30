//! The ledger of the RFCs' requirements names tests that exist.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the sources are read to find their tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_test_that_the_ledger_names_exists() {
    let tests = tests();
    let mut named = 0;
    for row in rows() {
        for name in row.obeyed.iter().chain(&row.tempted) {
            assert!(tests.contains(name), "§{}: there is no test {name}", row.section);
            named += 1;
        }
    }
    assert!(named > 100, "{named} tests are named");
}

#[test]
fn a_requirement_is_both_obeyed_and_tempted_or_nothing_of_ours() {
    for row in rows() {
        assert_eq!(row.obeyed.len(), row.tempted.len(), "§{}: {}", row.section, row.requirement);
    }
}

#[test]
fn a_requirement_without_a_test_says_whose_it_is() {
    for row in rows().iter().filter(|row| row.obeyed.is_empty()) {
        let whose = ["Kernel", "The operator's", "**Not there**", "are sent"];
        let said = whose.iter().any(|words| row.how.contains(words));
        assert!(said, "§{}: {} has no test", row.section, row.requirement);
    }
}

struct Row {
    section: String,
    requirement: String,
    how: String,
    obeyed: Vec<String>,
    tempted: Vec<String>,
}

/// The rows of the tables, their heads left out.
fn rows() -> Vec<Row> {
    let text = fs::read_to_string(root().join("docs/reference/rfc-9568.md")).unwrap();
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let table = text.lines().filter(|line| line.starts_with('|')).map(cells);
    let rows: Vec<Row> = table
        .filter(|cells| !cells[0].starts_with('§') && !cells[0].starts_with("---"))
        .map(|cells| {
            assert_eq!(cells.len(), 5, "{cells:?}");
            Row {
                section: cells[0].clone(),
                requirement: cells[1].clone(),
                how: cells[2].clone(),
                obeyed: quoted(&cells[3]),
                tempted: quoted(&cells[4]),
            }
        })
        .collect();
    assert!(rows.len() > 60);
    rows
}

fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The names of all functions in the workspace that stand below a test attribute.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in sources(&root()) {
        let text = fs::read_to_string(file).unwrap();
        let mut below = false;
        for line in text.lines().map(str::trim_start) {
            let declared = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                below = true;
            } else if let Some(rest) = declared.filter(|_| below) {
                let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next();
                found.extend(name.map(str::to_owned));
                below = false;
            }
        }
    }
    assert!(found.len() > 300, "{} tests", found.len());
    found
}

fn sources(root: &Path) -> Vec<PathBuf> {
    let mut folders = vec![root.join("crates"), root.join("tests")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}
