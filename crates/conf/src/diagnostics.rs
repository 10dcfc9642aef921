//! [`Diagnostics`]: what is wrong with a configuration, in the order it was found.

use std::fmt;

use crate::tree::Span;

/// Most messages kept. A configuration of a million wrong lines must not cost a gigabyte of complaints.
const KEPT_MAX: usize = 10_000;

/// How bad it is; the order is nginx's, worst first. Log lines have one too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The configuration cannot be used.
    Emerg,
    /// Should never happen.
    Alert,
    /// The system refused something that has to work.
    Crit,
    /// Wrong.
    Error,
    /// Works, though perhaps not as meant.
    Warn,
    /// Worth knowing.
    Notice,
    /// For the record.
    Info,
    /// For log files alone.
    Debug,
}

impl Level {
    const ALL: [Level; 8] = [
        Level::Emerg,
        Level::Alert,
        Level::Crit,
        Level::Error,
        Level::Warn,
        Level::Notice,
        Level::Info,
        Level::Debug,
    ];

    /// The level of that name.
    pub fn of(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.name() == name)
    }

    /// nginx's name.
    pub fn name(self) -> &'static str {
        match self {
            Level::Emerg => "emerg",
            Level::Alert => "alert",
            Level::Crit => "crit",
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Notice => "notice",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad.
    pub level: Level,
    /// What is wrong, without the place.
    pub message: String,
    /// Where, if it has a place.
    pub span: Option<Span>,
    /// Where to look for what has no place in nginx's words, or another one; shown on a terminal only.
    pub look_at: Option<Span>,
    /// What may help, one line each; shown on a terminal only.
    pub notes: Vec<String>,
}

impl Diagnostic {
    /// Adds a line of help.
    pub fn note(&mut self, text: impl Into<String>) -> &mut Self {
        self.notes.push(text.into());
        self
    }
}

/// The messages about one configuration.
#[derive(Debug, Default)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    /// Where in the list each later stage begins.
    stages: Vec<usize>,
    failed: bool,
    left_out: usize,
    /// Receives what is written to a message that is not kept.
    scrap: Option<Diagnostic>,
}

impl Diagnostics {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a message. Beyond ten thousand they are only counted.
    pub fn push(&mut self, diagnostic: Diagnostic) -> &mut Diagnostic {
        self.failed |= diagnostic.level <= Level::Error;
        if self.list.len() >= KEPT_MAX {
            self.left_out += 1;
            return self.scrap.insert(diagnostic);
        }
        self.list.push(diagnostic);
        self.list.last_mut().expect("one was just pushed")
    }

    /// Adds an `[emerg]`: with it the configuration cannot be used.
    pub fn error(&mut self, span: impl Into<Option<Span>>, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Level::Emerg, span.into(), message.into())
    }

    /// Adds a `[warn]`.
    pub fn warn(&mut self, span: impl Into<Option<Span>>, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Level::Warn, span.into(), message.into())
    }

    /// Adds a `[notice]`.
    pub fn notice(&mut self, span: impl Into<Option<Span>>, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Level::Notice, span.into(), message.into())
    }

    /// Adds an `[info]`.
    pub fn info(&mut self, span: impl Into<Option<Span>>, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Level::Info, span.into(), message.into())
    }

    /// What is added from here on nginx finds later than all before, wherever it stands in the file: it reads a file to
    /// its end before it merges blocks, and merges before it binds variables.
    pub fn next_stage(&mut self) {
        self.stages.push(self.list.len());
    }

    /// Whether anything at `[error]` or worse was added.
    pub fn has_errors(&self) -> bool {
        self.failed
    }

    /// Whether nothing was added at all.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many messages were kept.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// How many more there were than are kept.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The messages in the order they were added. [`crate::render()`] sorts them.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// The messages with the stages they were added in.
    pub(crate) fn staged(&self) -> impl Iterator<Item = (usize, &Diagnostic)> {
        let stage = |at| self.stages.partition_point(|&start| start <= at);
        self.list.iter().enumerate().map(move |(at, diagnostic)| (stage(at), diagnostic))
    }

    fn add(&mut self, level: Level, span: Option<Span>, message: String) -> &mut Diagnostic {
        self.push(Diagnostic { level, message, span, look_at: None, notes: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_count_and_warnings_do_not() {
        let mut diagnostics = Diagnostics::new();
        diagnostics.warn(None, "odd");
        diagnostics.info(Span::default(), "so you know");
        assert!(!diagnostics.has_errors());
        diagnostics.error(Some(Span::default()), "wrong").note("do it right");
        assert!(diagnostics.has_errors());
        assert_eq!(diagnostics.iter().last().unwrap().notes, ["do it right"]);
    }

    #[test]
    fn keeps_a_bounded_number_but_forgets_no_failure() {
        let mut diagnostics = Diagnostics::new();
        for _ in 0..KEPT_MAX {
            diagnostics.warn(None, "odd");
        }
        diagnostics.error(None, "wrong").note("help");
        assert_eq!((diagnostics.len(), diagnostics.left_out()), (KEPT_MAX, 1));
        assert!(diagnostics.has_errors());
    }
}
