//! Rules about the source that no compiler checks. Each is a function from a file (path relative to the root, text) to
//! complaints, so that each can be shown to fail; `tests/tidy.rs` runs them over the whole tree.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Which crate may look at which: a number must be higher than those of all it depends on. Two crates with one number do
/// not know each other.
const HEIGHT: [(&str, u8); 11] = [
    ("wire", 0),
    ("sys", 0),
    // It words errors of the system, and words them as everybody.
    ("conf", 1),
    ("reactor", 1),
    ("relay", 1),
    ("tls", 1),
    // A server of the contract keeps its TLS settings as rustls has them.
    ("http", 2),
    ("upstream", 3),
    ("modules", 4),
    ("front", 4),
    ("tidegate", 5),
];

/// The relay knows nothing else of ours: no HTTP, no configuration.
const RELAY_MAY: [&str; 2] = ["sys", "wire"];

/// Directories that are searched.
pub(crate) const ROOMS: [&str; 5] = ["crates", "e2e", "xtask", "benches", "fuzz"];

/// All Rust files as `(path relative to the root, text)`.
pub fn rust_files(root: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for room in ROOMS {
        walk(root, &root.join(room), &mut files);
    }
    files.sort();
    files
}

fn walk(root: &Path, dir: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("corpus") {
            walk(root, &path, files);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            files.push((name, fs::read_to_string(&path).unwrap_or_default()));
        }
    }
}

/// Arrows between crates point down: `manifest` is a Cargo.toml under `crates/`.
pub fn arrows(path: &str, manifest: &str) -> Vec<String> {
    let Some(name) = path.strip_prefix("crates/").and_then(|rest| rest.split('/').next()) else {
        return Vec::new();
    };
    let Some(height) = height(name) else {
        return vec![format!("{path}: {name} has no height in xtask/src/tidy.rs")];
    };
    let ours = dependencies(manifest).into_iter().filter(|dependency| self::height(dependency).is_some());
    ours.filter(|dependency| {
        let down = self::height(dependency) < Some(height);
        !down || name == "relay" && !RELAY_MAY.contains(dependency)
    })
    .map(|dependency| format!("{path}: {name} must not depend on {dependency}"))
    .collect()
}

fn height(name: &str) -> Option<u8> {
    HEIGHT.iter().find(|(known, _)| *known == name).map(|(_, height)| *height)
}

/// Names in the `[dependencies]`, `[dev-dependencies]` and `[build-dependencies]` tables.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim_end().ends_with("dependencies]");
        } else if inside && line.contains('=') {
            names.extend(line.split(['.', ' ', '=']).next());
        }
    }
    names
}

/// Packages whose crate has another name than they have.
const OTHER_NAMES: [(&str, &str); 2] = [("md-5", "md5"), ("rustls-webpki", "webpki")];

/// What a manifest depends on is named in one of its files: `sources` is their text.
pub fn unused(path: &str, manifest: &str, sources: &str) -> Vec<String> {
    let named = |package: &str| {
        let other = OTHER_NAMES.iter().find(|(known, _)| *known == package);
        let name = other.map_or_else(|| package.replace('-', "_"), |(_, name)| (*name).to_owned());
        let is_word = |char: char| char.is_alphanumeric() || char == '_';
        sources.match_indices(&name).any(|(at, _)| {
            let (before, after) = (&sources[..at], &sources[at + name.len()..]);
            !before.ends_with(is_word) && (after.starts_with("::") || after.starts_with([';', '!']))
        })
    };
    let unused = dependencies(manifest).into_iter().filter(|package| !named(package));
    unused.map(|package| format!("{path}: {package} is not used")).collect()
}

/// `front` never names a module, and modules do not name each other: they meet in `http`'s contracts.
pub fn neighbours(path: &str, text: &str) -> Vec<String> {
    if path.starts_with("crates/front/") {
        return lines(path, text, |line| code(line).contains("modules::"), "front must not name a module");
    }
    let Some(rest) = path.strip_prefix("crates/modules/src/") else { return Vec::new() };
    let own = rest.split(['/', '.']).next().unwrap_or_default();
    if own == "lib" {
        return Vec::new();
    }
    let names_another = |line: &str| {
        code(line).split("crate::").skip(1).any(|after| {
            let named: String =
                after.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect();
            named.starts_with(|char: char| char.is_lowercase())
                && named != own
                && !SHARED.contains(&named.as_str())
        })
    };
    lines(path, text, names_another, "a module must not name another")
}

/// Files in `modules` that are no module but what several share: how lines without effect are read.
const SHARED: [&str; 1] = ["unused"];

/// `unsafe` lives in `crates/sys` alone; every other crate root says so itself.
pub fn unsafe_code(path: &str, text: &str) -> Vec<String> {
    if path.starts_with("crates/sys/") {
        return Vec::new();
    }
    let word = |line: &str| {
        code(line)
            .split(|char: char| !char.is_alphanumeric() && !['_', '-'].contains(&char))
            .any(|word| word == "unsafe")
    };
    let mut found = lines(path, text, word, "unsafe outside crates/sys");
    if is_crate_root(path) && !text.contains("#![forbid(unsafe_code)]") {
        found.push(format!("{path}: no #![forbid(unsafe_code)]"));
    }
    found
}

/// Libraries, binaries and build scripts. Tests and examples are searched for the word like everything else.
fn is_crate_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(parts.as_slice(), [.., "src", "lib.rs" | "main.rs"] | [.., "src", "bin", _] | [.., "build.rs"])
}

/// Every file says at its top what it is for; the tests of one module say it by their name.
pub fn header(path: &str, text: &str) -> Vec<String> {
    if text.starts_with("//!") || path.ends_with("tests.rs") {
        Vec::new()
    } else {
        vec![format!("{path}:1: no //! header")]
    }
}

/// No `#[ignore]` without a reason, nothing left for later.
pub fn leftovers(path: &str, text: &str) -> Vec<String> {
    let ignore = concat!("#[", "ignore]");
    let later = [concat!("todo", "!("), concat!("unimplemented", "!(")];
    let mut found = lines(path, text, |line| code(line).contains(ignore), "ignored without a reason");
    found.extend(lines(
        path,
        text,
        |line| later.iter().any(|word| code(line).contains(word)),
        "left for later",
    ));
    found
}

/// A sleep makes a test slow when it is long enough and flaky when it is not: each needs a comment beside or above it that
/// says why nothing can be waited for.
pub fn sleeps(path: &str, text: &str) -> Vec<String> {
    let all: Vec<&str> = text.lines().collect();
    let own_tests = all.iter().position(|line| line.trim() == "#[cfg(test)]").unwrap_or(all.len());
    let from = if path.contains("tests") || path.starts_with("e2e/") { 0 } else { own_tests };
    let bare = |number: &usize| {
        let above = all[..*number].iter().rev().find(|line| !line.trim().is_empty());
        let explained =
            all[*number].contains("//") || above.is_some_and(|line| line.trim_start().starts_with("//"));
        code(all[*number]).contains(concat!("thread::", "sleep(")) && !explained
    };
    let numbers = (from..all.len()).filter(bare);
    numbers.map(|number| format!("{path}:{}: sleeps without a reason", number + 1)).collect()
}

/// Licences and sources of everything in `cargo metadata`, against `deny.toml`.
pub fn packages(metadata: &Value, deny: &str) -> Vec<String> {
    let allowed = allowed_licences(deny);
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let complaints = packages.flat_map(|package| {
        let name = package["name"].as_str().unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or("none");
        let source = package["source"].as_str();
        let registry = source.is_none_or(|source| source.starts_with("registry+"));
        [
            (!acceptable(licence, &allowed))
                .then(|| format!("{name}: licence {licence} is not in deny.toml")),
            (!registry).then(|| format!("{name}: comes from {}", source.unwrap_or_default())),
        ]
    });
    complaints.flatten().collect()
}

/// The quoted words of the `allow` list under `[licenses]`.
fn allowed_licences(deny: &str) -> Vec<&str> {
    let list = deny.split("[licenses]").nth(1).and_then(|rest| rest.split("allow = [").nth(1));
    let list = list.and_then(|rest| rest.split(']').next()).unwrap_or_default();
    list.split('"').skip(1).step_by(2).collect()
}

/// An SPDX expression with `OR`, `AND`, `/` and brackets around whole alternatives.
fn acceptable(expression: &str, allowed: &[&str]) -> bool {
    let one = |licence: &str| allowed.contains(&licence.trim().trim_matches(['(', ')']).trim());
    // `(A OR B) AND C`: every part joined by AND needs one alternative.
    let parts = expression.split(" AND ");
    parts.into_iter().all(|part| part.split(" OR ").flat_map(|part| part.split('/')).any(one))
}

/// Numbered complaints for all lines that are bad.
pub(crate) fn lines(path: &str, text: &str, bad: impl Fn(&str) -> bool, what: &str) -> Vec<String> {
    let numbered = text.lines().enumerate().filter(|(_, line)| bad(line));
    numbered.map(|(number, line)| format!("{path}:{}: {what}: {}", number + 1, line.trim())).collect()
}

/// A line without its comment and without what stands in quotes.
fn code(line: &str) -> String {
    let line = line.split("//").next().unwrap_or_default();
    line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule must complain as often as said about this text in that file.
    fn check(rule: fn(&str, &str) -> Vec<String>, path: &str, text: &str, complaints: usize) {
        let found = rule(path, text);
        assert_eq!(found.len(), complaints, "{path}: {text}: {found:?}");
    }

    #[test]
    fn arrows_point_down() {
        check(arrows, "crates/front/Cargo.toml", "[dependencies]\nupstream.workspace = true\n", 0);
        check(arrows, "crates/http/Cargo.toml", "[dependencies]\nupstream.workspace = true\n", 1);
        check(arrows, "crates/front/Cargo.toml", "[dev-dependencies]\nmodules = { path = \"x\" }\n", 1);
        check(
            arrows,
            "crates/relay/Cargo.toml",
            "[dependencies]\nconf.workspace = true\nsys.workspace = true\n",
            1,
        );
        check(arrows, "crates/new/Cargo.toml", "", 1);
    }

    #[test]
    fn dependencies_are_used() {
        let check = |sources: &str, complaints: usize| {
            let found = unused("Cargo.toml", "[dependencies]\nmd-5.workspace = true\na-b = \"1\"\n", sources);
            assert_eq!(found.len(), complaints, "{sources}: {found:?}");
        };
        check("use md5::Md5;\na_b::c();", 0);
        check("use xmd5::Md5;\nlet a_b = 1;", 2);
    }

    #[test]
    fn neighbours_meet_in_http() {
        check(neighbours, "crates/front/src/h1.rs", "use modules::proxy;\n// modules::x\n", 1);
        check(
            neighbours,
            "crates/modules/src/proxy.rs",
            "use crate::rewrite::Code;\nuse crate::proxy::X;\n",
            1,
        );
        check(
            neighbours,
            "crates/modules/src/proxy/pass.rs",
            "use crate::proxy::X;\nuse crate::MODULES;\n",
            0,
        );
        check(neighbours, "crates/modules/src/lib.rs", "use crate::proxy::X;\n", 0);
    }

    #[test]
    fn unsafe_stays_in_sys() {
        let root = "#![forbid(unsafe_code)]\n";
        check(unsafe_code, "crates/sys/src/lib.rs", "unsafe { }", 0);
        check(unsafe_code, "crates/wire/src/lib.rs", root, 0);
        check(unsafe_code, "crates/wire/src/lib.rs", "", 1);
        check(unsafe_code, "crates/wire/build.rs", "", 1);
        check(unsafe_code, "crates/wire/tests/a.rs", "", 0);
        check(unsafe_code, "crates/wire/src/page.rs", "script-src 'unsafe-inline'; \\", 0);
        check(unsafe_code, "crates/wire/src/http1.rs", "unsafe fn x() {}\n// unsafe\nlet a = \"unsafe\";", 1);
    }

    #[test]
    fn every_file_has_a_header() {
        check(header, "a.rs", "//! What.\n", 0);
        check(header, "a.rs", "use std::fs;\n", 1);
        check(header, "a/tests.rs", "use std::fs;\n", 0);
    }

    #[test]
    fn nothing_is_left_for_later() {
        check(leftovers, "a.rs", concat!("#[", "ignore]\nfn x() { todo", "!() }\n"), 2);
        check(leftovers, "a.rs", concat!("#[", "ignore = \"needs a TPM\"]\n// todo", "!()\n"), 0);
    }

    #[test]
    fn sleeps_say_why() {
        check(sleeps, "a/tests/b.rs", concat!("x();\nthread::", "sleep(D);\n"), 1);
        check(
            sleeps,
            "a.rs",
            concat!("x();\nthread::", "sleep(D);\n#[cfg(test)]\nthread::", "sleep(D);\n"),
            1,
        );
        check(sleeps, "a/tests.rs", concat!("// The kernel tells nobody.\nthread::", "sleep(D);\n"), 0);
    }

    #[test]
    fn packages_are_free_and_from_a_registry() {
        let deny = "[licenses]\nallow = [\n \"MIT\",\n \"ISC\" ]\n";
        let check = |licence: &str, source: Value, complaints: usize| {
            let package = serde_json::json!({ "name": "x", "license": licence, "source": source });
            let found = packages(&serde_json::json!({ "packages": [package] }), deny);
            assert_eq!(found.len(), complaints, "{licence}: {found:?}");
        };
        let registry = Value::from("registry+somewhere");
        check("MIT OR Apache-2.0", registry.clone(), 0);
        check("(Apache-2.0 OR ISC) AND MIT", registry.clone(), 0);
        check("Apache-2.0 AND MIT", registry.clone(), 1);
        check("GPL-3.0", registry, 1);
        check("MIT", Value::from("git+somewhere"), 1);
        check("MIT", Value::Null, 0);
    }
}
