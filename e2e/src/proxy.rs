//! Runs tidegate or real nginx on one configuration text.

use std::fmt;
use std::fs::File;
use std::net::TcpStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::places;
use crate::ports::Port;
use crate::raw::DEADLINE;
use crate::temp::TempDir;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The binary under test.
    Tidegate,
    /// The yardstick.
    Nginx,
}

impl Kind {
    fn binary(self) -> PathBuf {
        match self {
            Kind::Tidegate => places::tidegate(),
            Kind::Nginx => {
                places::nginx().expect("no nginx of the recorded release: run `cargo xtask install`")
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Kind::Tidegate => "tidegate",
            Kind::Nginx => "nginx",
        })
    }
}

/// A directory, some ports and a text with `%%DIR%%` and `%%NAME%%` in it; `%%NAME%%` becomes the port of that name.
#[derive(Debug)]
pub struct Place {
    /// Prefix of the server: configuration, logs, pid file, temporary files.
    pub dir: TempDir,
    ports: Vec<(&'static str, Port)>,
}

impl Place {
    /// A new directory and one reserved port for each name.
    pub fn new(names: &[&'static str]) -> Place {
        let dir = TempDir::new();
        for sub in ["logs", "html"] {
            std::fs::create_dir_all(dir.path().join(sub)).expect("a directory in our own directory");
        }
        Place { dir, ports: names.iter().map(|name| (*name, Port::reserve())).collect() }
    }

    /// The port of that name. Panics on a name that was not reserved.
    pub fn port(&self, name: &str) -> &Port {
        let found = self.ports.iter().find(|(known, _)| *known == name);
        found.map(|(_, port)| port).unwrap_or_else(|| panic!("no port is called {name}"))
    }

    /// All of them, for taking the numbers out of what was seen.
    pub fn ports(&self) -> impl Iterator<Item = (&'static str, u16)> + '_ {
        self.ports.iter().map(|(name, port)| (*name, port.number()))
    }

    /// The text with every placeholder filled in.
    pub fn fill(&self, text: &str) -> String {
        let dir = self.dir.path().to_str().expect("temporary directories have plain names");
        let text = text.replace("%%DIR%%", dir);
        String::from_utf8(self.fill_bytes(text.as_bytes())).expect("digits in place of letters")
    }

    /// The same for the ports in bytes of a script.
    pub fn fill_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        if !bytes.windows(2).any(|pair| pair == b"%%") {
            return bytes.to_vec();
        }
        self.ports().fold(bytes.to_vec(), |bytes, (name, number)| {
            replaced(&bytes, format!("%%{name}%%").as_bytes(), number.to_string().as_bytes())
        })
    }
}

/// Replaces one run of bytes by another wherever it stands.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// Wraps what stands in `http {}` with everything a test server needs around it.
pub fn whole(http: &str) -> String {
    let log = if http.contains("access_log") { "" } else { "access_log off;\n" };
    format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid %%DIR%%/proxy.pid;\nerror_log %%DIR%%/error.log info;\n\
         events {{ worker_connections 1024; }}\nhttp {{\nroot %%DIR%%/html;\n{log}{http}\n}}\n"
    )
}

/// The same with room for some thousands of connections.
pub fn roomy(http: &str) -> String {
    whole(http).replace("worker_connections 1024", "worker_connections 4096")
}

/// A running proxy. Dropping it stops it; a failing test prints its error log.
#[derive(Debug)]
pub struct Proxy {
    /// Which one runs.
    pub kind: Kind,
    /// Its directory and ports.
    pub place: Place,
    child: Child,
    exited: Option<ExitStatus>,
}

impl Proxy {
    /// Starts `kind` on a whole configuration and waits until the port called `PORT` takes connections.
    pub fn start(kind: Kind, place: Place, config: &str) -> Proxy {
        write_config(kind, &place, config);
        Proxy::run(kind, place, Command::new(kind.binary()))
    }

    /// The same with a hard limit on its descriptors.
    pub fn start_limited(kind: Kind, place: Place, config: &str, descriptors: u32) -> Proxy {
        write_config(kind, &place, config);
        let mut limited = Command::new("sh");
        limited.args(["-c", &format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"")]).arg(kind.binary());
        Proxy::run(kind, place, limited)
    }

    fn run(kind: Kind, place: Place, command: Command) -> Proxy {
        let child = spawn(kind, &place, command);
        let mut proxy = Proxy { kind, place, child, exited: None };
        proxy.wait_started();
        proxy
    }

    /// Starts it once more on what the one that left has left behind.
    pub fn start_again(&mut self) {
        assert!(self.reap().is_some(), "it still runs");
        self.child = spawn(self.kind, &self.place, Command::new(self.kind.binary()));
        self.exited = None;
        self.wait_started();
    }

    /// Connections are taken before anybody serves: only with the pid file all is open that stays open.
    fn wait_started(&mut self) {
        self.wait_listening("PORT");
        if self.place.dir.read("nginx.conf").contains("/proxy.pid;") {
            let pid = self.pid().as_raw_nonzero().to_string();
            self.wait_until("started", |proxy| proxy.place.dir.read("proxy.pid").trim() == pid);
        }
    }

    /// Runs `-t` on a configuration; its success and what it printed.
    pub fn test(kind: Kind, place: &Place, config: &str) -> (bool, String) {
        write_config(kind, place, config);
        let mut command = Command::new(kind.binary());
        arguments(&mut command, place.dir.path());
        let ran = command.arg("-t").stdout(Stdio::piped()).stderr(Stdio::piped()).output();
        let ran = ran.unwrap_or_else(|error| panic!("cannot start {kind}: {error}"));
        let said = String::from_utf8_lossy(&ran.stderr).into_owned() + &String::from_utf8_lossy(&ran.stdout);
        (ran.status.success(), said)
    }

    /// Waits until a port takes connections.
    pub fn wait_listening(&mut self, port: &str) {
        let address = self.place.port(port).address();
        self.wait_until(&format!("listening on {port}"), |_| TcpStream::connect(address).is_ok());
    }

    /// Waits for a condition, and panics when it does not come or the process leaves first.
    pub fn wait_until(&mut self, what: &str, mut met: impl FnMut(&Proxy) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !met(self) {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                panic!("{} left ({status}) while we waited for {what}\n{}", self.kind, self.logs());
            }
            self.still_waiting(what, deadline);
        }
    }

    /// The same beside other threads that look at it: a process that left is noticed at the deadline.
    pub fn wait_for(&self, what: &str, met: impl FnMut(&Proxy) -> bool) {
        self.wait_within(DEADLINE, what, met);
    }

    /// The same with a deadline of its own, where much happens at once.
    pub fn wait_within(&self, limit: Duration, what: &str, mut met: impl FnMut(&Proxy) -> bool) {
        let deadline = Instant::now() + limit;
        while !met(self) {
            self.still_waiting(what, deadline);
        }
    }

    fn still_waiting(&self, what: &str, deadline: Instant) {
        assert!(Instant::now() < deadline, "{}: not {what} in time\n{}", self.kind, self.logs());
        // Nothing to be woken by: what we wait for is in another process or in a file.
        thread::sleep(Duration::from_millis(2));
    }

    /// The process that was started: nginx's master, our monitor.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The process that serves: the one child of [`Proxy::pid`], which may only be about to come.
    pub fn serving_pid(&self) -> Pid {
        let pid = self.pid().as_raw_nonzero();
        let mut serving = None;
        self.wait_for("a serving process", |_| {
            let children =
                std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            let pids: Vec<i32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
            assert!(pids.len() < 2, "{} has several children: {pids:?}", self.kind);
            serving = pids.first().and_then(|pid| Pid::from_raw(*pid));
            serving.is_some()
        });
        serving.expect("just found")
    }

    /// Sends a signal to the process that was started.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("our own child runs");
    }

    /// Puts another configuration in the file's place.
    pub fn rewrite(&self, config: &str) {
        write_config(self.kind, &self.place, config);
    }

    /// The error log so far.
    pub fn error_log(&self) -> String {
        self.place.dir.read("error.log")
    }

    /// The last error log lines and whatever was printed.
    pub fn logs(&self) -> String {
        let log = self.error_log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        format!("--- {} error.log\n{tail}\n--- output\n{}---", self.kind, self.place.dir.read("output.log"))
    }

    /// QUIT, then waits; KILL at the deadline. True when it left by itself with success.
    pub fn stop(&mut self) -> bool {
        let _ = kill_process(self.pid(), Signal::QUIT);
        self.left()
    }

    /// Waits for its end; KILL at the deadline. True when it left by itself with success.
    pub fn left(&mut self) -> bool {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.reap() {
                return status.success();
            }
            // A child's exit cannot be polled for without a descriptor that std does not have.
            thread::sleep(Duration::from_millis(2));
        }
        self.kill();
        false
    }

    fn reap(&mut self) -> Option<ExitStatus> {
        self.exited = self.exited.or(self.child.try_wait().expect("our own child"));
        self.exited
    }

    fn kill(&mut self) {
        if self.reap().is_none() {
            let _ = kill_process_group(self.pid(), Signal::KILL);
            self.exited = Some(self.child.wait().unwrap_or(ExitStatus::from_raw(9)));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.logs());
        }
        self.kill();
    }
}

fn write_config(kind: Kind, place: &Place, config: &str) {
    let config = place.fill(config);
    let config = if kind == Kind::Nginx { without_our_directives(&config) } else { config };
    // In one step: a reload may be reading it.
    let new = place.dir.path().join("nginx.conf.new");
    std::fs::write(&new, config).expect("our own directory");
    std::fs::rename(new, place.dir.path().join("nginx.conf")).expect("our own directory");
}

/// nginx knows no `websocket...` directive: its copy goes without these lines.
fn without_our_directives(config: &str) -> String {
    config
        .lines()
        .filter(|line| !line.trim_start().starts_with("websocket"))
        .map(|line| line.to_owned() + "\n")
        .collect()
}

fn spawn(kind: Kind, place: &Place, mut command: Command) -> Child {
    arguments(&mut command, place.dir.path());
    command.process_group(0).spawn().unwrap_or_else(|error| panic!("cannot start {kind}: {error}"))
}

fn arguments(command: &mut Command, dir: &Path) {
    let output =
        File::options().create(true).append(true).open(dir.join("output.log")).expect("our own directory");
    command.arg("-p").arg(format!("{}/", dir.display())).args(["-c", "nginx.conf", "-e", "error.log"]);
    command.stdin(Stdio::null());
    command.stdout(output.try_clone().expect("a spare descriptor")).stderr(output);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nginx_never_sees_our_directives() {
        let config =
            "http {\n  websocket manual;\n  websocket_idle_timeout 1s;\n  keepalive_timeout 1s;\n}\n";
        assert_eq!(without_our_directives(config), "http {\n  keepalive_timeout 1s;\n}\n");
    }

    #[test]
    fn placeholders_become_ports_and_paths() {
        let place = Place::new(&["PORT"]);
        let number = place.port("PORT").number().to_string();
        assert_eq!(place.fill("listen 127.0.0.1:%%PORT%%;"), format!("listen 127.0.0.1:{number};"));
        assert!(place.fill("%%DIR%%/x").starts_with('/'));
    }
}
