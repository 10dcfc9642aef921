//! Running other programs, and where things are.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The repository's root.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// Cargo's target directory, wherever it was put: the one this program was built into.
pub fn target() -> PathBuf {
    let exe = env::current_exe().unwrap_or_default();
    let marked = exe.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists());
    // A directory that was there before cargo came has no mark.
    marked.or_else(|| above_profile(&exe)).map_or_else(|| workspace().join("target"), Path::to_path_buf)
}

/// `target` of `target/debug/deps/test-0123` and of `target/debug/program`.
fn above_profile(exe: &Path) -> Option<&Path> {
    let dir = exe.parent()?;
    let profile = if dir.ends_with("deps") { dir.parent()? } else { dir };
    profile.join(".fingerprint").exists().then(|| profile.parent())?
}

/// Where `install` puts what is not a Debian package; the tests look there.
pub fn tools() -> PathBuf {
    target().join("tools")
}

/// The cargo that runs us.
pub fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// True when a program of that name is on the path.
pub fn has(program: &str) -> bool {
    let paths = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&paths).any(|dir| dir.join(program).is_file())
}

/// Runs a command, says it, and returns whether it succeeded.
pub fn succeeds(command: &mut Command) -> bool {
    println!("  $ {}", shown(command));
    command.stdin(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Runs a command quietly; true when it succeeded.
pub fn quiet(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a command, prints each line of its output as it comes and hands it to `line`; returns whether it succeeded.
pub fn listened(command: &mut Command, mut line: impl FnMut(&str)) -> bool {
    println!("  $ {}", shown(command));
    let Ok(mut child) = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() else { return false };
    let output = child.stdout.take().expect("asked for");
    for text in BufReader::new(output).lines().map_while(Result::ok) {
        println!("{text}");
        line(&text);
    }
    child.wait().is_ok_and(|status| status.success())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
