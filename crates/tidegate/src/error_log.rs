//! The error log as processes write it: nginx's line form, files that can be replaced while in use.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use crate::engine::ErrorLogSpec;

/// How grave a line is; smaller is graver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The process can't go on, or the configuration can't be used.
    Emerg,
    /// A bug, or the death of a process.
    Alert,
    /// Needs a look soon.
    Crit,
    /// A request or a connection failed.
    Error,
    /// Works, but probably not as meant.
    Warn,
    /// The life of the processes.
    Notice,
    /// What clients did.
    Info,
    /// Everything.
    Debug,
}

impl Level {
    /// The word in the line and in `error_log`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Emerg => "emerg",
            Self::Alert => "alert",
            Self::Crit => "crit",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// The level of a word, as `error_log` takes it.
    pub fn from_name(name: &str) -> Option<Self> {
        use Level::{Alert, Crit, Debug, Emerg, Error, Info, Notice, Warn};
        [Emerg, Alert, Crit, Error, Warn, Notice, Info, Debug].into_iter().find(|level| level.name() == name)
    }
}

/// A log file, open to append. Rotation puts another file behind the same path without a writer noticing.
pub struct LogFile {
    path: PathBuf,
    file: RwLock<Arc<File>>,
}

impl LogFile {
    /// A file that is already open.
    pub fn new(path: &Path, fd: OwnedFd) -> Self {
        Self { path: path.to_owned(), file: RwLock::new(Arc::new(File::from(fd))) }
    }

    /// Open or create `path`, mode 0644, close on exec.
    pub fn open(path: &Path) -> io::Result<OwnedFd> {
        use std::os::unix::fs::OpenOptionsExt;
        match File::options().append(true).create(true).mode(0o644).open(path) {
            Ok(file) => Ok(file.into()),
            Err(error) => standard_stream(path).ok_or(error)?,
        }
    }

    /// Its name in the configuration, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Append `bytes` with one write.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        (&*self.current()).write_all(bytes)
    }

    /// Write to `fd` from now on; the old file closes when the last write to it is over.
    pub fn replace(&self, fd: OwnedFd) {
        *self.file.write().unwrap_or_else(|poison| poison.into_inner()) = Arc::new(File::from(fd));
    }

    /// A second descriptor of the file, to hand to another process.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.current().as_fd().try_clone_to_owned()
    }

    fn current(&self) -> Arc<File> {
        self.file.read().unwrap_or_else(|poison| poison.into_inner()).clone()
    }
}

/// Where the lines of one process go.
#[derive(Clone)]
pub struct ErrorLog {
    outputs: Vec<ErrorLogSpec>,
    /// Until the process runs: what is grave is repeated on stderr for the person who started it.
    console: bool,
}

impl ErrorLog {
    /// The log before a configuration is known: `path`, or stderr without one or when it can't be opened.
    pub fn at_start(path: Option<&Path>, level: Level) -> Self {
        let file = path.and_then(|path| match LogFile::open(path) {
            Ok(fd) => Some(Arc::new(LogFile::new(path, fd))),
            Err(error) => {
                let place = path.display();
                say(&format!(
                    "[alert] could not open error log file: open() \"{place}\" failed {}",
                    reason(&error)
                ));
                None
            }
        });
        Self { outputs: vec![ErrorLogSpec { file, level }], console: true }
    }

    /// The log that a configuration asks for. `console`: still repeat grave lines on stderr.
    pub fn of(outputs: &[ErrorLogSpec], console: bool) -> Self {
        Self { outputs: outputs.to_vec(), console }
    }

    /// No more repeating on stderr: nobody reads it now.
    pub fn leave_console(&mut self) {
        self.console = false;
    }

    /// Turn this process's stderr into the first log file, as nginx does; not when stderr itself is a log.
    pub fn redirect_stderr(&self) {
        if self.outputs.iter().any(|output| output.file.is_none()) {
            return;
        }
        if let Some(file) = self.outputs.iter().find_map(|output| output.file.as_ref()) {
            let _ = rustix::stdio::dup2_stderr(&*file.current());
        }
    }

    /// One line. A log that can't be written is nobody's to tell, so failures are dropped.
    pub fn write(&self, level: Level, message: &str) {
        self.write_with(level, message, None);
    }

    /// One line, and another text for the person at the terminal.
    pub fn write_with(&self, level: Level, message: &str, on_console: Option<&str>) {
        let line = format_line(level, message);
        let mut on_stderr = false;
        for output in self.outputs.iter().filter(|output| level <= output.level) {
            match &output.file {
                Some(file) => drop(file.write(line.as_bytes())),
                None => {
                    on_stderr = true;
                    let text = on_console.filter(|_| self.console).unwrap_or(&line);
                    drop(io::stderr().write_all(text.as_bytes()));
                }
            }
        }
        if self.console && !on_stderr && level <= Level::Warn {
            match on_console {
                Some(text) => drop(io::stderr().write_all(text.as_bytes())),
                None => say(&format!("[{}] {message}", level.name())),
            }
        }
    }

    /// A line of the life of the processes.
    pub fn notice(&self, message: &str) {
        self.write(Level::Notice, message);
    }

    /// A line about something that stops a start or a reload.
    pub fn emerg(&self, message: &str) {
        self.write(Level::Emerg, message);
    }
}

/// A line to the person at the terminal, in nginx's form.
pub fn say(message: &str) {
    let _ = io::stderr().write_all(format!("nginx: {message}\n").as_bytes());
}

/// An error the way nginx ends a line with it: `(2: No such file or directory)`.
pub fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => {
            let text = error.to_string();
            let tail = format!(" (os error {code})");
            format!("({code}: {})", text.strip_suffix(&tail).unwrap_or(&text))
        }
        None => format!("({error})"),
    }
}

/// In containers stdout is often a pipe or socket of another user, which can be written but not opened again.
fn standard_stream(path: &Path) -> Option<io::Result<OwnedFd>> {
    match path.to_str()? {
        "/dev/stdout" => Some(io::stdout().as_fd().try_clone_to_owned()),
        "/dev/stderr" => Some(io::stderr().as_fd().try_clone_to_owned()),
        _ => None,
    }
}

fn format_line(level: Level, message: &str) -> String {
    let now = jiff::Zoned::now();
    let pid = std::process::id();
    format!("{} [{}] {pid}#{pid}: {message}\n", now.strftime("%Y/%m/%d %H:%M:%S"), level.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_nginx_names_and_order() {
        assert!(Level::Emerg < Level::Warn && Level::Warn < Level::Debug);
        assert_eq!(Level::from_name("crit"), Some(Level::Crit));
        assert_eq!(Level::from_name("fatal"), None);
    }

    #[test]
    fn an_errno_is_written_as_nginx_writes_it() {
        assert_eq!(reason(&io::Error::from_raw_os_error(2)), "(2: No such file or directory)");
        assert_eq!(reason(&io::Error::other("no such host")), "(no such host)");
    }

    #[test]
    fn a_line_has_date_level_and_pid() {
        let line = format_line(Level::Notice, "hello");
        let pid = std::process::id();
        assert!(line.ends_with(&format!(" [notice] {pid}#{pid}: hello\n")), "{line}");
        assert_eq!(line.as_bytes()[4], b'/');
        assert_eq!(line.find(" ["), Some("2026/01/01 00:00:00".len()));
    }

    #[test]
    fn a_replaced_file_gets_the_next_line() {
        let dir = std::env::temp_dir().join(format!("tidegate-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (a, b) = (dir.join("a"), dir.join("b"));
        let log = LogFile::new(&a, LogFile::open(&a).unwrap());
        log.write(b"one\n").unwrap();
        log.replace(LogFile::open(&b).unwrap());
        log.write(b"two\n").unwrap();
        assert_eq!(std::fs::read(&a).unwrap(), b"one\n");
        assert_eq!(std::fs::read(&b).unwrap(), b"two\n");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
