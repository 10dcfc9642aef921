//! Other people's programs: clients and servers in Python and Node, started, asked and ended.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::places;
use crate::proxy::Proxy;
use crate::raw::DEADLINE;

/// Node, with the packages that `cargo xtask install` put beside the tests.
pub fn node() -> Command {
    let mut node = Command::new("node");
    node.env("NODE_PATH", places::tools().join("node/node_modules"));
    node
}

/// Python, with the packages that `cargo xtask install` put beside the tests.
pub fn python() -> Command {
    Command::new(places::tools().join("venv/bin/python"))
}

/// A file of `e2e/scripts`.
pub fn script(name: &str) -> PathBuf {
    places::workspace().join("e2e/scripts").join(name)
}

/// Runs a program to its end; panics with what it said when that is not `ok`.
pub fn says_ok(command: &mut Command) {
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.trim() == "ok", "{said}\n{errors}");
}

/// Waits for what another process does, which tells nobody when it is ready.
pub fn wait_until(what: &str, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE * 3;
    while !met() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        // Another process, which tells nobody when it is ready.
        thread::sleep(Duration::from_millis(20));
    }
}

/// A process that is killed when dropped.
#[derive(Debug)]
pub struct Running(pub Child);

impl Running {
    /// A backend that is told the number of the port `U` and listens there when this returns.
    pub fn start(command: &mut Command, proxy: &Proxy) -> Running {
        let port = proxy.place.port("U");
        let mut running = Running(command.arg(port.number().to_string()).spawn().expect("it starts"));
        wait_until("the backend to listen", || {
            let left = running.0.try_wait().expect("our own child");
            assert!(left.is_none(), "the backend left: `cargo xtask install` makes the tools");
            TcpStream::connect(port.address()).is_ok()
        });
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that answers each line of JSON with one.
#[derive(Debug)]
pub struct Dialogue {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _process: Running,
}

impl Dialogue {
    /// Starts it.
    pub fn start(command: &mut Command) -> Dialogue {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = Running(child.expect("`cargo xtask install` makes the tools"));
        let input = process.0.stdin.take().expect("asked for");
        let output = BufReader::new(process.0.stdout.take().expect("asked for"));
        Dialogue { input, output, _process: process }
    }

    /// One question, one answer. Panics when the process has ended; it has its own deadline.
    pub fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.input, "{question}").expect("it listens");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it answers");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{question}: {error}: {line:?}"))
    }
}
