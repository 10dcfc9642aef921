//! The error log as the processes themselves write it, with a console while a person waits for the start.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use conf::{Diagnostics, Sources, Style};
use http::log::{ErrorLog as Lines, Level, LogFile};

/// The name that means the standard error stream, in `-e` and `error_log`.
pub const STDERR: &str = "stderr";

/// Where the lines of one process go.
#[derive(Clone)]
pub struct ErrorLog {
    lines: Arc<Lines>,
    /// Until the process runs: what is grave is repeated on stderr for the person who started it.
    console: bool,
}

impl ErrorLog {
    /// The log before a configuration is known: `path`, or stderr when it can't be opened.
    pub fn at_start(path: &Path, level: Level) -> Self {
        let opened = LogFile::open(path).or_else(|error| {
            let place = path.display();
            let why = reason(&error);
            say(&format!("[alert] could not open error log file: open() \"{place}\" failed {why}"));
            LogFile::open(Path::new(STDERR))
        });
        let sinks = opened.into_iter().map(|file| (level, Arc::new(file))).collect();
        Self { lines: Arc::new(Lines::new(sinks)), console: true }
    }

    /// The log that a configuration asks for. `console`: still repeat grave lines on stderr.
    pub fn of(lines: &Arc<Lines>, console: bool) -> Self {
        Self { lines: lines.clone(), console }
    }

    /// No more repeating on stderr: nobody reads it now.
    pub fn leave_console(&mut self) {
        self.console = false;
    }

    /// Turn this process's stderr into the first log file, as nginx does; not when stderr itself is a log.
    pub fn redirect_stderr(&self) {
        if self.is_on_stderr() {
            return;
        }
        if let Some(Ok(file)) = self.lines.files().next().map(|file| file.duplicate()) {
            let _ = rustix::stdio::dup2_stderr(&file);
        }
    }

    /// What there is to say about a configuration, as nginx does: every line goes to the log, and warnings and worse to
    /// the console. There a person at a terminal also sees the place.
    pub fn report(&self, diagnostics: &Diagnostics, sources: &Sources) {
        if diagnostics.is_empty() {
            return;
        }
        let rich = self.console && io::stderr().is_terminal();
        for line in conf::render(diagnostics, sources, Style::Plain).lines() {
            if let Some((level, message)) = split(line) {
                match rich {
                    // stderr is the terminal: what follows says it better.
                    true if self.is_on_stderr() => {}
                    true => self.lines.write(level, format_args!("{message}")),
                    false => self.write(level, message),
                }
            }
        }
        if rich {
            let style = Style::Terminal { color: std::env::var_os("NO_COLOR").is_none() };
            let text = conf::render(diagnostics, sources, style);
            let _ = io::stderr().write_all(text.as_bytes());
        }
    }

    /// One line. A log that can't be written is nobody's to tell, so failures are dropped.
    pub fn write(&self, level: Level, message: &str) {
        self.lines.write(level, format_args!("{message}"));
        let shown = self.is_on_stderr() && self.lines.takes(level);
        if self.console && level <= Level::Warn && !shown {
            say(&format!("[{}] {message}", level.name()));
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

    fn is_on_stderr(&self) -> bool {
        self.lines.files().any(|file| file.path() == Path::new(STDERR))
    }
}

/// A line to the person at the terminal, in nginx's form.
pub fn say(message: &str) {
    let _ = io::stderr().write_all(format!("nginx: {message}\n").as_bytes());
}

/// An error the way nginx ends a line with it: `(2: No such file or directory)`.
pub fn reason(error: &io::Error) -> String {
    format!("({})", sys::errno::text(error))
}

/// Level and message of a line as `conf` renders it for scripts: `nginx: [warn] message`.
fn split(line: &str) -> Option<(Level, &str)> {
    let (level, message) = line.strip_prefix("nginx: [")?.split_once("] ")?;
    Some((Level::of(level)?, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_is_written_as_nginx_writes_it() {
        assert_eq!(reason(&io::Error::from_raw_os_error(2)), "(2: No such file or directory)");
        assert_eq!(reason(&io::Error::other("no such host")), "(no such host)");
    }

    #[test]
    fn a_rendered_line_is_taken_apart() {
        assert_eq!(split("nginx: [warn] odd in a:1"), Some((Level::Warn, "odd in a:1")));
        assert_eq!(split("help: none"), None);
    }
}
