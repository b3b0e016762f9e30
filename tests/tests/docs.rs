//! What the documents tell people to write is what the program accepts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lockstep_tests::daemon::binary;

#[test]
fn every_configuration_in_the_documents_passes_the_check() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let directory = tempfile::TempDir::new().expect("a directory");
    let mut checked = 0;
    for document in documents(root) {
        let text = fs::read_to_string(&document).expect("a document");
        for configuration in configurations(&text) {
            let path = directory.path().join("lockstep.toml");
            fs::write(&path, configuration).expect("a file");
            let output = Command::new(binary()).arg("check").arg(&path).output();
            let output = output.expect("the binary runs");
            assert!(output.status.success(), "in {}: {output:?}", document.display());
            checked += 1;
        }
    }
    assert!(checked > 0, "the README has a configuration");
}

#[test]
fn every_link_between_the_documents_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    for document in documents(root) {
        let text = fs::read_to_string(&document).expect("a document");
        let folder = document.parent().expect("it lies in a folder");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let elsewhere = file.is_empty() || file.contains("://");
            assert!(
                elsewhere || folder.join(file).exists(),
                "{} has a link to {target}",
                document.display()
            );
        }
    }
}

/// The documents a newcomer reads.
fn documents(root: &Path) -> Vec<PathBuf> {
    let mut folders = vec![root.join("docs")];
    let mut found = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// The complete configurations of a document: blocks of TOML that begin with `[router]`.
fn configurations(text: &str) -> impl Iterator<Item = &str> {
    let blocks = text.split("```toml\n").skip(1);
    blocks.filter_map(|rest| rest.split("```").next()).filter(|block| block.starts_with("[router]"))
}
