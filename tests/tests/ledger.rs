//! The ledger of conntrackd's weak points names tests that exist, and none is forgotten.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// How many weak points are known.
const POINTS: usize = 39;

#[test]
fn every_weak_point_of_conntrackd_has_a_test_that_exists() {
    let tests = tests();
    let rows = rows();
    let numbers: Vec<usize> = rows.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=POINTS).collect::<Vec<_>>());
    for row in rows {
        assert!(!row.tests.is_empty(), "{}: no test", row.number);
        for name in row.tests {
            assert!(tests.contains(&name), "{}: there is no test {name}", row.number);
        }
    }
}

#[test]
fn what_the_wire_cannot_carry_is_told() {
    let text = ledger();
    let (_, section) = text.split_once("## What this wire cannot carry").expect("the section");
    let rows = section.lines().filter(|line| line.starts_with("| ")).count();
    assert!(rows > 8, "{rows} rows with their head");
}

struct Row {
    number: usize,
    tests: Vec<String>,
}

/// The rows of the first table, its head left out.
fn rows() -> Vec<Row> {
    let text = ledger();
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let lines = text.lines().filter(|line| line.starts_with('|')).map(cells);
    lines
        .filter_map(|cells| {
            let number = cells[0].parse().ok()?;
            assert_eq!(cells.len(), 5, "{cells:?}");
            let tests = cells[4].split('`').skip(1).step_by(2).map(str::to_owned).collect();
            Some(Row { number, tests })
        })
        .collect()
}

fn ledger() -> String {
    fs::read_to_string(root().join("docs/reference/conntrackd.md")).expect("the ledger")
}

/// The names of all functions in the workspace that stand below a test attribute.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in sources(&root()) {
        let text = fs::read_to_string(file).expect("a source");
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
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
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
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}
