//! Turns every `case NAME` line under `cases/` into a test function, so that one case can be run by name and every case
//! counts as a test of its own.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=cases");
    let mut files: Vec<PathBuf> = fs::read_dir("cases")
        .expect("e2e/cases exists")
        .map(|entry| entry.expect("e2e/cases is readable").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "case"))
        .collect();
    files.sort();
    let out = Path::new(&env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("cases.rs");
    fs::write(out, files.iter().map(|file| module(file)).collect::<String>()).expect("OUT_DIR is writable");
}

fn module(file: &Path) -> String {
    let area = file.file_stem().and_then(|stem| stem.to_str()).expect("case files have plain names");
    let text = fs::read_to_string(file).expect("case files are UTF-8");
    let mut module = format!("mod {area} {{\n");
    for line in text.lines().filter_map(|line| line.strip_prefix("case ")) {
        let name = line.split([':', ' ']).next().unwrap_or_default();
        writeln!(
            module,
            "    #[test]\n    fn {name}() {{\n        crate::check(\"{area}\", \"{name}\");\n    }}"
        )
        .expect("writing to a string");
    }
    module + "}\n"
}
