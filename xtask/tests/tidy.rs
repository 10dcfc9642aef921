//! The tidy rules over the whole tree.
#![forbid(unsafe_code)]

use std::fs;
use std::process::Command;

use xtask::run::{cargo, workspace};
use xtask::tidy;

fn over_rust_files(rule: fn(&str, &str) -> Vec<String>) {
    let files = tidy::rust_files(workspace());
    assert!(files.len() > 10, "the tree was not found");
    nothing(files.iter().flat_map(|(path, text)| rule(path, text)).collect());
}

fn nothing(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} complaints\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn arrows_between_crates() {
    let crates = fs::read_dir(workspace().join("crates")).expect("crates/").flatten();
    let manifests =
        crates.map(|folder| format!("crates/{}/Cargo.toml", folder.file_name().to_string_lossy()));
    let complaints = manifests.flat_map(|path| {
        let text = fs::read_to_string(workspace().join(&path)).unwrap_or_default();
        tidy::arrows(&path, &text)
    });
    nothing(complaints.collect());
}

#[test]
fn neighbours() {
    over_rust_files(tidy::neighbours);
}

#[test]
fn unsafe_code() {
    over_rust_files(tidy::unsafe_code);
}

#[test]
fn headers() {
    over_rust_files(tidy::header);
}

#[test]
fn leftovers() {
    over_rust_files(tidy::leftovers);
}

#[test]
fn sleeps() {
    over_rust_files(tidy::sleeps);
}

#[test]
fn changelog_is_there() {
    assert!(workspace().join("CHANGELOG.md").exists(), "what users can see carries its line in CHANGELOG.md");
}

#[test]
fn licences_and_sources() {
    let metadata = Command::new(cargo())
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(workspace())
        .output()
        .expect("cargo runs");
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata = serde_json::from_slice(&metadata.stdout).expect("cargo writes JSON");
    let deny = fs::read_to_string(workspace().join("deny.toml")).expect("deny.toml");
    nothing(tidy::packages(&metadata, &deny));
}
