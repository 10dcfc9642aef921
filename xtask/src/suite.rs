//! `cargo xtask test`: one command for everything CI runs, in the order in which it fails fastest.

use std::fs;
use std::process::Command;
use std::time::Instant;

use crate::install::{self, Missing};
use crate::run::{cargo, listened, succeeds, workspace};

/// Runs everything. `strict`: what could not be run is a failure. True when all was well.
pub fn run(strict: bool) -> bool {
    let started = Instant::now();
    let mut suite = Suite::default();
    println!("== what the tests need");
    let missing = install::run();
    suite.step("format", |_| cargo_succeeds(&["fmt", "--all", "--check"]));
    suite.step("clippy", |_| {
        cargo_succeeds(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])
    });
    suite.step("docs", |_| {
        let mut doc =
            in_workspace(&["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]);
        // The reader of these pages works on the house: private items are part of them.
        succeeds(doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"))
    });
    suite.step("licences", |suite| suite.cargo_deny());
    suite.step("build", |_| cargo_succeeds(&["build", "--quiet", "-p", "tidegate"]));
    suite.step("unit tests", |suite| {
        suite.tests(&["test", "--workspace", "--exclude", "tidegate-e2e", "--no-fail-fast"])
    });
    suite.step("end to end", |suite| suite.end_to_end(&missing));
    suite.report(strict, &missing, started)
}

#[derive(Default)]
struct Suite {
    failed: Vec<&'static str>,
    notes: Vec<String>,
    tests_passed: u64,
    tests_failed: u64,
}

impl Suite {
    fn step(&mut self, name: &'static str, work: impl FnOnce(&mut Suite) -> bool) {
        println!("\n== {name}");
        let started = Instant::now();
        let ok = work(self);
        println!("== {name}: {} in {} s", if ok { "ok" } else { "FAILED" }, started.elapsed().as_secs());
        if !ok {
            self.failed.push(name);
        }
    }

    /// Licences, sources and bans of every package in Cargo.lock, against deny.toml.
    fn cargo_deny(&mut self) -> bool {
        self.notes.push("advisories were not checked: their database is in no package registry".into());
        // Without the program the report says that this was skipped; xtask's tidy test checks what it can by itself.
        install::cargo_deny_binary().is_none_or(|program| {
            let args = ["--log-level", "error", "check", "bans", "licenses", "sources"];
            succeeds(Command::new(program).args(args).current_dir(workspace()))
        })
    }

    /// Everything under `e2e/tests` but what needs a missing tool: by test for clients, by file for nginx.
    fn end_to_end(&mut self, missing: &[Missing]) -> bool {
        let no_nginx = missing.iter().any(|missing| missing.tests == "nginx::");
        let mut args: Vec<String> =
            ["test", "-p", "tidegate-e2e", "--no-fail-fast", "--lib"].map(Into::into).into();
        for name in e2e_tests() {
            if !(no_nginx && name == "recorded") {
                args.extend(["--test".into(), name]);
            }
        }
        // Most of them mostly wait for a timer or for silence.
        args.extend(["--", "--test-threads", "4"].map(Into::into));
        for missing in missing {
            args.extend(["--skip".into(), missing.tests.into()]);
        }
        self.tests(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs `cargo test`, keeping count of what it says it ran.
    fn tests(&mut self, args: &[&str]) -> bool {
        listened(&mut in_workspace(args), |line| {
            let (passed, failed) = counts(line).unwrap_or_default();
            self.tests_passed += passed;
            self.tests_failed += failed;
        })
    }

    fn report(self, strict: bool, missing: &[Missing], started: Instant) -> bool {
        println!("\n======================================================================");
        for note in &self.notes {
            println!("note: {note}");
        }
        for missing in missing {
            println!("SKIPPED: tests that need {}: {}", missing.what, missing.why);
        }
        for failed in &self.failed {
            println!("FAILED: {failed}");
        }
        let strictly = !strict || missing.is_empty();
        if !strictly {
            println!("FAILED: --strict, and something was skipped");
        }
        let ran = self.tests_passed > 0;
        let ok = self.failed.is_empty() && strictly && ran;
        println!("{} in {} s", if ok { "all is well" } else { "not well" }, started.elapsed().as_secs());
        println!("{} passed, {} failed", self.tests_passed, self.tests_failed);
        ok
    }
}

fn e2e_tests() -> Vec<String> {
    let files = fs::read_dir(workspace().join("e2e/tests")).into_iter().flatten().flatten();
    let rust = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|ext| ext == "rs"));
    let mut names: Vec<String> =
        rust.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

/// Passed and failed of `test result: ok. 9 passed; 0 failed; ...`.
fn counts(line: &str) -> Option<(u64, u64)> {
    let words = line.strip_prefix("test result: ")?;
    let before =
        |word: &str| words.split(word).next()?.rsplit([' ', ';']).find(|part| !part.is_empty())?.parse().ok();
    Some((before(" passed")?, before(" failed")?))
}

fn cargo_succeeds(args: &[&str]) -> bool {
    succeeds(&mut in_workspace(args))
}

fn in_workspace(args: &[&str]) -> Command {
    let mut command = Command::new(cargo());
    command.args(args).current_dir(workspace());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_tests_own_line_is_understood() {
        let check = |line: &str, expected| assert_eq!(counts(line), expected, "{line}");
        check("test result: ok. 350 passed; 0 failed; 0 ignored; 0 measured", Some((350, 0)));
        check("test result: FAILED. 1 passed; 22 failed; 0 ignored", Some((1, 22)));
        check("test a::b ... ok", None);
    }
}
