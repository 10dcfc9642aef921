//! A directory with a configuration, and the process that runs it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};
use sys::signals::Signal;

/// Longer than any step takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A name and what it does.
pub(crate) type Scenario = (&'static str, fn());

/// A directory of its own; everything in it is gone afterwards.
pub(crate) struct Site {
    pub(crate) dir: PathBuf,
    child: Option<Child>,
    detached: Option<u32>,
}

impl Site {
    /// A directory with `config` behind the lines every scenario needs.
    pub(crate) fn new(config: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("tidegate-process-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let site = Self { dir, child: None, detached: None };
        site.write_config(config);
        site
    }

    /// A running one: the pid file is there.
    pub(crate) fn started(config: &str) -> Self {
        let mut site = Self::new(config);
        site.start();
        site
    }

    pub(crate) fn write_config(&self, config: &str) {
        // What the scenario says comes first: it may say `daemon on`.
        let usual = if config.contains("daemon") { "" } else { "daemon off;\n" };
        self.write("nginx.conf", &format!("{usual}pid nginx.pid;\nerror_log error.log info;\n{config}\n"));
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.join(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// The command with `-p` and `-c` of this directory and more arguments.
    pub(crate) fn command(&self, more: &[&str]) -> Command {
        let mut command = nginx();
        command.arg("-p").arg(&self.dir).args(["-c", "nginx.conf", "-e", "error.log"]).args(more);
        command
    }

    pub(crate) fn output(&self, more: &[&str]) -> Output {
        self.command(more).stdin(Stdio::null()).output().unwrap()
    }

    pub(crate) fn start(&mut self) {
        let stderr = fs::File::create(self.dir.join("stderr")).unwrap();
        let stdout = fs::File::create(self.dir.join("stdout")).unwrap();
        let child = self.command(&[]).stdin(Stdio::null()).stderr(stderr).stdout(stdout).spawn().unwrap();
        let pid = child.id();
        self.child = Some(child);
        let what = || format!("pid file; stderr: {} log: {}", self.read("stderr"), self.log());
        wait_until(what, || self.read("nginx.pid").trim() == pid.to_string());
    }

    /// Remember a detached process, so that it does not outlive a failed scenario.
    pub(crate) fn watch(&mut self, pid: u32) {
        self.detached = Some(pid);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        sys::process::kill(self.pid(), signal).unwrap();
    }

    /// Wait for the end of the process.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let mut status = None;
        wait_until(
            || format!("end; log: {}", self.log()),
            || {
                status = child.try_wait().unwrap();
                status.is_some()
            },
        );
        status.unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    pub(crate) fn log(&self) -> String {
        self.read("error.log")
    }

    /// Wait until the log holds `text` `count` times.
    pub(crate) fn wait_for_log(&self, text: &str, count: usize) {
        let what = || format!("{count} times {text:?} in: {}", self.log());
        wait_until(what, || self.log().matches(text).count() >= count);
    }

    /// Pids of all serving processes so far, in order.
    pub(crate) fn serving_pids(&self) -> Vec<u32> {
        let log = self.log();
        let pids = log.lines().filter_map(|line| line.split_once("start worker process ")?.1.parse().ok());
        pids.collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(pid) = self.detached {
            let _ = sys::process::kill(pid, Signal::KILL);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// This program, called as nginx.
pub(crate) fn nginx() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg0("nginx");
    command
}

/// An address for whoever names it. It is bound to begin with and allows others only then, so that the kernel gives its number
/// to nobody else for as long as this process lives.
pub(crate) fn free_address() -> String {
    let held = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&held, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    sockopt::set_socket_reuseaddr(&held, true).unwrap();
    let address = SocketAddr::try_from(getsockname(&held).unwrap()).unwrap();
    std::mem::forget(held);
    address.to_string()
}

/// The same of the other family, where there is one.
pub(crate) fn free_v6_address() -> Option<String> {
    UdpSocket::bind("[::1]:0").is_ok().then(|| free_address().replace("127.0.0.1", "[::1]"))
}

/// Send a line, read the answer.
pub(crate) fn ask(address: &str, word: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "{word}")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.trim_end().to_owned())
}

/// Open a connection that stays.
pub(crate) fn hold(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    writeln!(&stream, "hold").unwrap();
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    stream
}

pub(crate) fn wait_for_answer(address: &str, text: &str) {
    wait_until(|| format!("answer {text:?}"), || ask(address, "x").is_ok_and(|answer| answer == text));
}

pub(crate) fn wait_for_refusal(address: &str) {
    wait_until(|| format!("{address} to refuse"), || TcpStream::connect(address).is_err());
}

pub(crate) fn wait_until(what: impl Fn() -> String, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {}", what());
        // Between two looks at another process; the deadline is above.
        thread::sleep(Duration::from_millis(5));
    }
}
