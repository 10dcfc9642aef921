//! Tidy rule: inside a crate, files do not know each other in a circle.
//!
//! A file knows another when it names something in it by a path from `crate::` or `super::`; what its tests name does not count. Reading a
//! house from the top down is possible only while arrows point one way.

use std::collections::{BTreeMap, BTreeSet};

/// Circles that stay, by one file of each, and why.
const KNOWN: [(&str, &str); 3] = [
    ("crates/reactor/src/task.rs", "a waker finds its loop, and the loop holds the tasks"),
    ("crates/wire/src/http1/request_line.rs", "it fills the head it is a part of"),
    ("crates/modules/src/proxy/exchange.rs", "one exchange, told in four files"),
];

/// Circles among these files, `(path, text)`.
pub fn circles(files: &[(String, String)]) -> Vec<String> {
    let mut crates: BTreeMap<&str, BTreeMap<String, &str>> = BTreeMap::new();
    for (path, text) in files {
        if let Some((room, module)) = place(path) {
            crates.entry(room).or_default().insert(module, text);
        }
    }
    let mut found = Vec::new();
    for (room, modules) in &crates {
        let known: BTreeMap<&str, BTreeSet<&str>> =
            modules.iter().map(|(module, text)| (module.as_str(), knows(module, text, modules))).collect();
        for circle in components(&known) {
            let files: Vec<String> = circle.iter().map(|module| path_of(room, module, files)).collect();
            if !files.iter().any(|file| KNOWN.iter().any(|(known, _)| known == file)) {
                found.push(format!("these know each other in a circle: {}", files.join(", ")));
            }
        }
    }
    found
}

/// The crate's folder and the module's path in it; `None` outside of `crates/`, for tests, and for a crate's root, which lists the others.
fn place(path: &str) -> Option<(&str, String)> {
    let (room, file) = path.split_once("/src/").filter(|(room, _)| room.starts_with("crates/"))?;
    let module = file.strip_suffix(".rs")?;
    let module = module.strip_suffix("/mod").unwrap_or(module);
    let is_test = module.split('/').any(|part| part == "tests" || part.ends_with("_tests"));
    let is_root = ["lib", "main"].contains(&module) || module.starts_with("bin/");
    (!is_test && !is_root).then(|| (room, module.replace('/', "::")))
}

fn path_of(room: &str, module: &str, files: &[(String, String)]) -> String {
    let is_it = |path: &&String| place(path) == Some((room, module.to_owned()));
    files.iter().map(|(path, _)| path).find(is_it).cloned().unwrap_or_default()
}

/// Modules that this one names.
fn knows<'m>(own: &str, text: &str, modules: &'m BTreeMap<String, &str>) -> BTreeSet<&'m str> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: String = code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let above =
        |module: &str| module.rsplit_once("::").map_or(String::new(), |(above, _)| format!("{above}::"));
    let parent = above(own);
    let grandparent = above(parent.trim_end_matches(':'));
    let code = code.replace("super::super::", &format!("crate::{grandparent}"));
    let code = code.replace("super::", &format!("crate::{parent}"));
    let mut paths = Vec::new();
    for after in code.split("crate::").skip(1) {
        named(after, &mut paths);
    }
    let owner = |path: &String| {
        let mut parts: Vec<&str> = path.split("::").collect();
        while !parts.is_empty() {
            if let Some((module, _)) = modules.get_key_value(&parts.join("::")) {
                return Some(module.as_str());
            }
            parts.pop();
        }
        None
    };
    // Behind the braces of a group inside a group only the way to it is left.
    let paths = paths.iter().filter(|path| !path.ends_with("::"));
    paths.filter_map(owner).filter(|module| *module != own).collect()
}

/// The paths at the front of `after`: `a::b::C`, or several in braces.
fn named(after: &str, paths: &mut Vec<String>) {
    let mut groups: Vec<String> = Vec::new();
    let mut path = String::new();
    for char in after.chars() {
        match char {
            '{' if path.is_empty() || path.ends_with("::") => groups.push(path.clone()),
            ',' | '}' if !groups.is_empty() => {
                paths.push(path.clone());
                if char == '}' {
                    groups.pop();
                }
                path = groups.last().cloned().unwrap_or_default();
                if groups.is_empty() {
                    return;
                }
            }
            '_' | ':' => path.push(char),
            _ if char.is_alphanumeric() => path.push(char),
            _ if char.is_whitespace() && !groups.is_empty() => {}
            _ => break,
        }
    }
    paths.push(path);
}

/// Groups of more than one that reach each other.
fn components<'m>(known: &BTreeMap<&'m str, BTreeSet<&'m str>>) -> Vec<BTreeSet<&'m str>> {
    let reached = |from: &'m str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(module) = next.pop() {
            next.extend(known[module].iter().copied().filter(|other| seen.insert(*other)));
        }
        seen
    };
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        known.keys().map(|module| (*module, reached(module))).collect();
    let circle = |module: &&'m str| -> BTreeSet<&'m str> {
        reach[*module].iter().copied().filter(|other| reach[*other].contains(*module)).collect()
    };
    let circles: BTreeSet<BTreeSet<&str>> =
        known.keys().map(circle).filter(|circle| circle.len() > 1).collect();
    circles.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], expected: &[&str]) {
        let files: Vec<(String, String)> =
            files.iter().map(|(path, text)| (format!("crates/x/src/{path}"), (*text).to_owned())).collect();
        let found: Vec<String> = circles(&files)
            .iter()
            .map(|text| text.split(": ").nth(1).unwrap_or_default().replace("crates/x/src/", ""))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn circles_are_found() {
        check(&[("a.rs", "use crate::b::B;"), ("b.rs", "use crate::c::C;"), ("c.rs", "")], &[]);
        check(&[("a.rs", "use crate::b::B;"), ("b.rs", "fn x() { crate::a::y() }")], &["a.rs, b.rs"]);
        check(
            &[("a.rs", "use crate::{c::D,\n b::B};"), ("b/mod.rs", "use crate::a::{X, Y};")],
            &["a.rs, b/mod.rs"],
        );
        check(&[("a.rs", "use crate::{c::{D, E},\n b::B};"), ("b.rs", "use crate::a::A;")], &["a.rs, b.rs"]);
        check(&[("a/mod.rs", "use crate::a::b::B;"), ("a/b.rs", "use crate::a::A;")], &["a/mod.rs, a/b.rs"]);
        check(
            &[("a/b.rs", "use super::c::C;"), ("a/c.rs", "use super::super::a::b::B;")],
            &["a/b.rs, a/c.rs"],
        );
    }

    #[test]
    fn tests_and_the_root_know_all() {
        check(&[("a.rs", "use crate::b::B;"), ("b.rs", "#[cfg(test)]\nmod tests {\nuse crate::a::A;}")], &[]);
        check(
            &[("a.rs", "use crate::b::B;"), ("b.rs", "// crate::a::A"), ("b/tests.rs", "use crate::a::A;")],
            &[],
        );
        check(&[("lib.rs", "use crate::a::A;"), ("a.rs", "use crate::B;")], &[]);
    }
}
