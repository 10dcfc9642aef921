//! The short way to a proxy's answers, its log lines and what the kernel says about its processes.

use std::fs;
use std::io;

use rustix::process::{Pid, Resource, getrlimit, setrlimit};

use crate::proxy::Proxy;
use crate::raw::Socket;

impl Proxy {
    /// A connection to the port of that name.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(&self, port: &str) -> io::Result<Socket> {
        Socket::connect(self.place.port(port).address())
    }

    /// A connection to `PORT`, where somebody listens.
    pub fn client(&self) -> Socket {
        self.connect("PORT").expect("the proxy listens")
    }

    /// Everything that comes back for one request that closes its connection.
    pub fn get(&self, path: &str) -> String {
        let mut client = self.client();
        client.send(request(path, "close").as_bytes());
        client.read_to_end()
    }

    /// Panics unless exactly one line of the error log has all these words.
    pub fn has_one_line(&self, words: &[&str]) {
        let log = self.error_log();
        let count = log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
        assert_eq!(count, 1, "lines with {words:?}\n{}", self.logs());
    }

    /// How many lines of the error log have this in them.
    pub fn lines_with(&self, words: &str) -> usize {
        self.error_log().lines().filter(|line| line.contains(words)).count()
    }

    /// The lines of the error log that say what went wrong, without what differs from run to run: the level, and the text up
    /// to the client's address.
    pub fn reasons(&self) -> Vec<String> {
        let log = self.error_log();
        let lines = log.lines().filter(|line| !line.contains("[notice]") && !line.contains("[warn]"));
        let reasons = lines.filter_map(|line| {
            let (_, rest) = line.split_once(" [")?;
            let (level, rest) = rest.split_once("] ")?;
            let (_, text) = rest.split_once(": ")?;
            let numbered = text.strip_prefix('*').and_then(|text| text.split_once(' '));
            let text = numbered.map_or(text, |(_, text)| text);
            Some(format!("{level}: {}", text.split(", client: ").next().unwrap_or_default()))
        });
        reasons.collect()
    }

    /// How many lines of `access.log` are exactly this.
    pub fn access_lines(&self, line: &str) -> usize {
        self.place.dir.read("access.log").lines().filter(|got| *got == line).count()
    }
}

/// A GET without a body; `connection` is what its Connection field says.
pub fn request(path: &str, connection: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\n\r\n")
}

/// The value of a line in `/proc/PID/status`, such as the four numbers of `Uid`.
pub fn status_of(pid: Pid, key: &str) -> String {
    let path = format!("/proc/{}/status", pid.as_raw_nonzero());
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("{path} has no {key}")).trim().to_owned()
}

/// Whether a process has not ended. One that has may be there for ever: not every first process asks after orphans.
pub fn is_running(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains("zombie"))
}

/// Memory of a process, pages shared with others in proportion.
pub fn pss_bytes(pid: Pid) -> u64 {
    memory_bytes(pid, "Pss:")
}

/// Memory of a process that is no file's: it does not depend on who else runs the same binary.
pub fn anonymous_bytes(pid: Pid) -> u64 {
    memory_bytes(pid, "Anonymous:")
}

fn memory_bytes(pid: Pid, key: &str) -> u64 {
    let path = format!("/proc/{}/smaps_rollup", pid.as_raw_nonzero());
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{path}: no {key}"));
    let kilobytes: u64 =
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number of kB");
    kilobytes * 1024
}

/// For a test that needs so many; the proxy gets as many for itself.
pub fn more_descriptors(needed: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the hard limit anybody may");
    assert!(
        limit.maximum.is_none_or(|most| most >= needed),
        "the hard limit of descriptors is {:?}, this needs {needed}",
        limit.maximum
    );
}

/// Bytes that wait unread in the sockets whose local port this is.
pub fn unread_bytes(port: u16) -> u64 {
    let text = fs::read_to_string("/proc/net/tcp").expect("the kernel has TCP");
    let sockets = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = sockets.filter(|words| words[1].ends_with(&format!(":{port:04X}")) && words[3] == ESTABLISHED);
    ours.filter_map(|words| u64::from_str_radix(words[4].split_once(':')?.1, 16).ok()).sum()
}

/// How many descriptors a process has open.
pub fn open_descriptors(pid: Pid) -> usize {
    let path = format!("/proc/{}/fd", pid.as_raw_nonzero());
    fs::read_dir(&path).unwrap_or_else(|error| panic!("{path}: {error}")).count()
}

/// As `/proc/net/tcp` writes it.
const ESTABLISHED: &str = "01";
