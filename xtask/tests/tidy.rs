//! The tidy rules over the whole tree.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::Command;

use xtask::run::{cargo, workspace};
use xtask::{circles, pages, tidy};

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
    let manifests = members().into_iter().map(|member| format!("{member}/Cargo.toml"));
    nothing(manifests.flat_map(|path| tidy::arrows(&path, &read(&path))).collect());
}

#[test]
fn no_circles_of_files() {
    nothing(circles::circles(&tidy::rust_files(workspace())));
}

#[test]
fn dependencies_are_used() {
    let files = tidy::rust_files(workspace());
    let complaints = members().into_iter().flat_map(|member| {
        let folder = format!("{member}/");
        let own = files.iter().filter(|(path, _)| path.starts_with(&folder));
        let sources: String = own.map(|(_, text)| text.as_str()).collect();
        let path = format!("{member}/Cargo.toml");
        tidy::unused(&path, &read(&path), &sources)
    });
    nothing(complaints.collect());
}

/// Folders of the workspace's packages.
fn members() -> Vec<String> {
    let manifest = read("Cargo.toml");
    let members = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next());
    members.expect("members").split('"').skip(1).step_by(2).map(str::to_owned).collect()
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
fn links() {
    let is_there = |path: &Path| workspace().join(path).exists();
    let pages = pages::pages(workspace());
    assert!(pages.len() > 5, "the pages were not found");
    nothing(pages.iter().flat_map(|(path, text)| pages::links(path, text, is_there)).collect());
}

#[test]
fn directives_in_pages() {
    let reference = read("docs/reference.md");
    let pages = pages::pages(workspace());
    nothing(pages.iter().flat_map(|(path, text)| pages::directives(path, text, &reference)).collect());
}

/// What is stated is what is tried: by clippy, which knows since when the standard library has what, and by this compiler.
#[test]
fn rust_version() {
    let manifest = read("Cargo.toml");
    let stated = manifest.split("rust-version = \"").nth(1).and_then(|rest| rest.split('"').next());
    let stated = stated.expect("the workspace states its rust-version");
    let manifests = members().into_iter().map(|member| format!("{member}/Cargo.toml"));
    let manifests = manifests.map(|path| (path.clone(), read(&path)));
    let texts = manifests.chain(pages::pages(workspace()));
    nothing(texts.flat_map(|(path, text)| pages::rust_version(&path, &text, stated)).collect());

    let compiler = Command::new("rustc").arg("--version").output().expect("rustc runs");
    let compiler = String::from_utf8_lossy(&compiler.stdout).into_owned();
    let minor = |version: &str| version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    assert!(minor(&compiler) >= minor(stated), "{compiler} is older than {stated}");
}

fn read(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).expect(path)
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
