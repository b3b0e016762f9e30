//! Every example is a file that works.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::path::{Path, PathBuf};

use lockstep_config::{Checked, Surroundings, parse, render};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

#[expect(clippy::disallowed_methods, reason = "the examples are files, and more are added")]
fn read(path: &Path) -> Checked {
    let text = std::fs::read_to_string(path).unwrap();
    let name = path.display().to_string();
    parse(&name, &text, &Surroundings::default()).unwrap_or_else(|problems| {
        let said: Vec<String> =
            problems.iter().map(|problem| render(problem, &text, false)).collect();
        panic!("{}", said.join("\n\n"))
    })
}

fn folders() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(examples()).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

#[test]
fn every_example_is_accepted_without_a_warning() {
    let folders = folders();
    assert!(folders.len() >= 2, "{folders:?}");
    for folder in folders {
        let checked = read(&folder.join("lockstep.toml"));
        assert_eq!(checked.warnings, [], "{}", folder.display());
        assert!(!checked.config.virtual_routers.is_empty(), "{}", folder.display());
    }
}

#[test]
fn every_example_stands_beside_the_files_it_replaces() {
    for folder in folders() {
        let has = |replaced: &str| folder.join(replaced).is_file();
        assert!(has("keepalived.conf"), "{} has no keepalived.conf", folder.display());
        let replicated = read(&folder.join("lockstep.toml")).config.replication.is_some();
        assert_eq!(has("conntrackd.conf"), replicated, "conntrackd.conf of {}", folder.display());
    }
}
