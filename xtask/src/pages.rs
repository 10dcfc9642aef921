//! Tidy rules about pages: links lead somewhere, directives are known, and the minimum Rust version is one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::tidy::{ROOMS, lines};

/// Pages of the project as `(path relative to the root, text)`.
pub fn pages(root: &Path) -> Vec<(String, String)> {
    let folders = ["", "docs/", "e2e/cases/", "examples/"];
    let mut pages = Vec::new();
    for folder in folders {
        for entry in fs::read_dir(root.join(folder)).into_iter().flatten().flatten() {
            let name = format!("{folder}{}", entry.file_name().to_string_lossy());
            if name.ends_with(".md") {
                pages.push((name, fs::read_to_string(entry.path()).unwrap_or_default()));
            }
        }
    }
    pages.sort();
    pages
}

/// Links of a page lead to what is there, and so do the paths that stand in it as code.
pub fn links(path: &str, text: &str, is_there: impl Fn(&Path) -> bool) -> Vec<String> {
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let own_headings = |anchor: &str| text.lines().any(|line| anchor_of(line).as_deref() == Some(anchor));
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let dead = targets.filter(|target| {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            match file {
                "" => !own_headings(anchor),
                _ if file.contains("://") => false,
                _ => !is_there(&folded(&folder.join(file))),
            }
        });
        let codes = line.split('`').skip(1).step_by(2).filter(|code| is_path(code));
        let gone = codes.filter(|code| !is_there(Path::new(code)));
        found.extend(dead.chain(gone).map(|what| format!("{path}:{}: {what} is not there", number + 1)));
    }
    found
}

/// What links call a heading.
fn anchor_of(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').trim();
    let kept = heading.chars().filter(|char| char.is_alphanumeric() || [' ', '-', '_'].contains(char));
    Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
}

/// A path from the root, without anything that stands for other names.
fn is_path(code: &str) -> bool {
    let in_room = ROOMS.iter().chain(&["docs", "examples"]).any(|room| code.starts_with(&format!("{room}/")));
    in_room
        && code.chars().all(|char| char.is_ascii_alphanumeric() || "/._-".contains(char))
        && !code.contains("..")
}

/// `docs/../examples` is `examples`.
fn folded(path: &Path) -> PathBuf {
    let mut folded = PathBuf::new();
    for part in path {
        match part.to_str() {
            Some("..") => drop(folded.pop()),
            Some(".") => {}
            _ => folded.push(part),
        }
    }
    folded
}

/// Beginnings of directives' names. What begins so and stands as code in a page is a directive.
const FAMILIES: [&str; 14] = [
    "access_",
    "client_",
    "error_",
    "keepalive_",
    "limit_",
    "lingering_",
    "proxy_",
    "resolver_",
    "send_",
    "server_",
    "ssl_",
    "upstream_",
    "websocket_",
    "worker_",
];

/// Directives that a page names are in `reference`, the page made from the tables.
pub fn directives(path: &str, text: &str, reference: &str) -> Vec<String> {
    let is_name = |word: &str| {
        word.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
    };
    let known: BTreeSet<&str> =
        reference.split(|char: char| !char.is_ascii_alphanumeric() && char != '_').collect();
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let first_words = line.split('`').skip(1).step_by(2).filter_map(|code| code.split([' ', ';']).next());
        let names = first_words
            .filter(|word| is_name(word) && FAMILIES.iter().any(|family| word.starts_with(family)));
        let unknown = names.filter(|name| !known.contains(name));
        found.extend(unknown.map(|name| format!("{path}:{}: {name} is no directive", number + 1)));
    }
    found
}

/// The minimum Rust version is stated once, the manifest says that it takes it from there, and pages name no other.
pub fn rust_version(path: &str, text: &str, stated: &str) -> Vec<String> {
    if path.ends_with("Cargo.toml") {
        let inherits = text.contains("rust-version.workspace = true");
        return (!inherits)
            .then(|| format!("{path}: no rust-version.workspace = true"))
            .into_iter()
            .collect();
    }
    lines(
        path,
        text,
        |line| {
            let named = line.split("Rust ").skip(1).filter(|rest| rest.starts_with("1."));
            named.into_iter().any(|rest| !rest.starts_with(stated))
        },
        "not the minimum of Cargo.toml",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_somewhere() {
        let check = |text: &str, complaints: usize| {
            let is_there = |path: &Path| path == Path::new("docs/a.md") || path == Path::new("crates/x.rs");
            let found = links("docs/b.md", text, is_there);
            assert_eq!(found.len(), complaints, "{text}: {found:?}");
        };
        check("[a](a.md) [b](https://b/) [c](../docs/a.md#x)\n`crates/x.rs` `crates/*.rs`", 0);
        check("[a](b.md) and [c](../a.md)\n`crates/y.rs`", 3);
        check("# One `two`, three\n[a](#one-two-three) [b](#one)", 1);
    }

    #[test]
    fn directives_are_known() {
        let check = |text: &str, complaints: usize| {
            let found = directives("docs/a.md", text, "### proxy_pass\n| `ssl_off` |");
            assert_eq!(found.len(), complaints, "{text}: {found:?}");
        };
        check("`proxy_pass http://a;` `ssl_off` `proxy_...` `$proxy_host` proxy_pas", 0);
        check("`proxy_pas` and\n`ssl_of on`", 2);
    }

    #[test]
    fn rust_version_is_one() {
        let check = |path: &str, text: &str, complaints: usize| {
            let found = rust_version(path, text, "1.95");
            assert_eq!(found.len(), complaints, "{text}: {found:?}");
        };
        check("crates/x/Cargo.toml", "rust-version.workspace = true", 0);
        check("crates/x/Cargo.toml", "rust-version = \"1.95\"", 1);
        check("README.md", "Rust 1.95 or newer. Rust is fine.", 0);
        check("README.md", "Rust 1.94", 1);
    }
}
