//! An access log line as a program: text, and variables escaped as the format says.

use std::cell::RefCell;
use std::sync::Arc;

use crate::Template;
use crate::log::{Escaping, LogFile, gather};
use crate::message::Request;
use crate::template::TemplatePart;
use crate::variable::{Late, Source, VarId, Variable, Variables, evaluate};

/// A `log_format`.
#[derive(Clone, Debug)]
pub struct Format {
    /// Its name.
    pub name: String,
    /// How values are escaped.
    pub escaping: Escaping,
    /// The text.
    pub template: Template,
}

/// One `access_log`: format, file, condition. Self-contained, so that a tunnel may keep it (D3).
pub struct LogProgram {
    /// The format.
    pub format: Arc<Format>,
    /// The file.
    pub file: Arc<LogFile>,
    /// `buffer=`, bytes; 0: each line at once.
    pub buffer: usize,
    /// `flush=`, milliseconds; 0: a buffer waits until it is full.
    pub flush_ms: u64,
    /// `if=`
    pub condition: Option<Template>,
    /// The format compiled.
    pub steps: Steps,
}

/// A format as a straight list of what to append.
#[derive(Default)]
pub struct Steps(Box<[Step]>);

pub(crate) struct Step {
    pub(crate) what: What,
    /// What a tunnel learns at its end.
    pub(crate) late: Option<Late>,
}

pub(crate) enum What {
    Text(Box<[u8]>),
    /// A built-in that nothing can redefine; the text is the rest of a family's name.
    Builtin(&'static Variable, Box<str>),
    Variable(VarId),
    Capture(u8),
}

impl Steps {
    /// Compiles a format. Its variables must be bound; those that are not are looked up with each line.
    pub fn compile(format: &Format, variables: &Variables) -> Steps {
        let step = |part| match part {
            TemplatePart::Text(text) => Step { what: What::Text(text.into()), late: None },
            TemplatePart::Capture(number) => Step { what: What::Capture(number), late: None },
            TemplatePart::Variable(id) => match variables.source(id) {
                Some(Source::Builtin(variable, rest)) if !variable.changeable => {
                    Step { what: What::Builtin(variable, rest.clone()), late: variable.late }
                }
                _ => Step { what: What::Variable(id), late: None },
            },
        };
        Steps(format.template.parts().map(step).collect())
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Step> {
        self.0.iter()
    }
}

impl Step {
    /// Appends the text or the value.
    pub(crate) fn run(&self, escaping: Escaping, request: &mut Request, line: &mut Vec<u8>) {
        let start = line.len();
        let found = match &self.what {
            What::Text(text) => return line.extend_from_slice(text),
            What::Builtin(variable, rest) => match (variable.value)(request, rest, line) {
                true if variable.clean => return,
                found => found,
            },
            What::Variable(id) => evaluate(request, *id, line),
            What::Capture(number) => {
                request.capture(*number, line);
                true
            }
        };
        escaping.apply(found, start, line);
    }
}

impl LogProgram {
    /// Whether `if=` lets this request's line be written.
    pub fn wanted(&self, request: &mut Request) -> bool {
        match &self.condition {
            None => true,
            Some(condition) => {
                let value = condition.value(request);
                !value.is_empty() && value != b"0"
            }
        }
    }

    /// Writes the line of a request that ended.
    pub fn write(&self, request: &mut Request) {
        if self.wanted(request) {
            self.append(|line| {
                for step in self.steps.iter() {
                    step.run(self.format.escaping, request, line);
                }
            });
        }
    }

    /// Appends the line that `write` makes, but for its end.
    pub(crate) fn append(&self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.buffer == 0 {
            return gather::append(&self.file, |line| {
                write(line);
                line.push(b'\n');
            });
        }
        lend(|line| {
            write(line);
            line.push(b'\n');
            self.file.append_buffered(line, self.buffer, self.flush_ms);
        });
    }
}

/// Calls `f` with an empty buffer that keeps its room for the next.
pub(crate) fn lend<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    thread_local! {
        static LENT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let mut lent = LENT.take();
    lent.clear();
    let result = f(&mut lent);
    LENT.set(lent);
    result
}
