//! The ledgers of the documentation name tests that exist: that of the RFCs' requirements, and that
//! of conntrackd's weak points, in which none is forgotten.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// How many weak points of conntrackd are known.
const POINTS: usize = 40;

#[test]
fn every_test_that_the_ledger_of_the_rfcs_names_exists() {
    let tests = tests();
    let mut named = 0;
    for row in requirements() {
        for name in row.obeyed.iter().chain(&row.tempted) {
            assert!(tests.contains(name), "§{}: there is no test {name}", row.section);
            named += 1;
        }
    }
    assert!(named > 100, "{named} tests are named");
}

#[test]
fn a_requirement_is_both_obeyed_and_tempted_or_nothing_of_ours() {
    for row in requirements() {
        assert_eq!(row.obeyed.len(), row.tempted.len(), "§{}: {}", row.section, row.text);
    }
}

#[test]
fn a_requirement_without_a_test_says_whose_it_is() {
    for row in requirements().iter().filter(|row| row.obeyed.is_empty()) {
        let whose = ["Kernel", "The operator's", "**Not there**", "are sent"];
        let said = whose.iter().any(|words| row.how.contains(words));
        assert!(said, "§{}: {} has no test", row.section, row.text);
    }
}

#[test]
fn every_weak_point_of_conntrackd_has_a_test_that_exists() {
    let tests = tests();
    let points = weak_points();
    let numbers: Vec<usize> = points.iter().map(|point| point.number).collect();
    assert_eq!(numbers, (1..=POINTS).collect::<Vec<_>>());
    for point in points {
        assert!(!point.tests.is_empty(), "{}: no test", point.number);
        for name in point.tests {
            assert!(tests.contains(&name), "{}: there is no test {name}", point.number);
        }
    }
}

#[test]
fn what_the_wire_cannot_carry_is_told() {
    let text = reference("conntrackd.md");
    let (_, section) = text.split_once("## What this wire cannot carry").expect("the section");
    let rows = section.lines().filter(|line| line.starts_with("| ")).count();
    assert!(rows > 8, "{rows} rows with their head");
}

/// What an RFC requires.
struct Requirement {
    section: String,
    text: String,
    how: String,
    obeyed: Vec<String>,
    tempted: Vec<String>,
}

fn requirements() -> Vec<Requirement> {
    let heads = |cells: &[String; 5]| cells[0].starts_with('§') || cells[0].starts_with("---");
    let rows: Vec<Requirement> = rows("rfc-9568.md")
        .map(five)
        .filter(|cells| !heads(cells))
        .map(|[section, text, how, obeyed, tempted]| Requirement {
            section,
            text,
            how,
            obeyed: quoted(&obeyed),
            tempted: quoted(&tempted),
        })
        .collect();
    assert!(rows.len() > 60);
    rows
}

/// What conntrackd is weak at.
struct WeakPoint {
    number: usize,
    tests: Vec<String>,
}

/// The rows that begin with a number: those of the first table.
fn weak_points() -> Vec<WeakPoint> {
    let numbered = |cells: Vec<String>| Some((cells[0].parse().ok()?, cells));
    let points = rows("conntrackd.md").filter_map(numbered).map(|(number, cells)| {
        let [.., tests] = five(cells);
        WeakPoint { number, tests: quoted(&tests) }
    });
    points.collect()
}

/// The rows of all tables in a document, with their heads, as cells.
fn rows(document: &str) -> impl Iterator<Item = Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let text = reference(document);
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with('|')).map(cells).collect();
    rows.into_iter()
}

fn five(cells: Vec<String>) -> [String; 5] {
    cells.try_into().unwrap_or_else(|cells| panic!("not five cells: {cells:?}"))
}

fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn reference(document: &str) -> String {
    fs::read_to_string(root().join("docs/reference").join(document)).expect("the ledger")
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
