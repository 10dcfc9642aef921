//! The condition of an `if`.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use http::config::{Line, Problem};
use http::message::Pattern;
use http::variable::{VarId, evaluate};
use http::{Request, Template};

/// A condition.
pub(super) enum Condition {
    /// `($variable)`: neither empty nor `0`.
    True(VarId),
    /// `=`; negated `!=`.
    Equals { variable: VarId, text: Template, negated: bool },
    /// `~`, `~*`; negated `!~`, `!~*`.
    Matches { variable: VarId, pattern: Pattern, negated: bool },
    /// `-f`, `-d`, `-e`, `-x`; negated with `!`.
    File { test: FileTest, path: Template, negated: bool },
}

#[derive(Clone, Copy)]
pub(super) enum FileTest {
    File,
    Directory,
    Exists,
    Executable,
}

impl Condition {
    pub(super) fn holds(&self, request: &mut Request) -> bool {
        match self {
            Condition::True(variable) => {
                let value = value(request, *variable);
                !value.is_empty() && value != b"0"
            }
            Condition::Equals { variable, text, negated } => {
                let value = value(request, *variable);
                (value == text.value(request)) != *negated
            }
            Condition::Matches { variable, pattern, negated } => {
                let value = value(request, *variable);
                pattern.matches(&value, &mut request.captures) != *negated
            }
            Condition::File { test, path, negated } => {
                let path = path.value(request);
                test.passes(&path) != *negated
            }
        }
    }
}

impl FileTest {
    fn passes(self, path: &[u8]) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(path));
        let Ok(found) = std::fs::metadata(path) else { return false };
        match self {
            FileTest::File => found.is_file(),
            FileTest::Directory => found.is_dir(),
            FileTest::Exists => true,
            FileTest::Executable => found.permissions().mode() & 0o100 != 0,
        }
    }
}

fn value(request: &mut Request, variable: VarId) -> Vec<u8> {
    let mut value = Vec::new();
    evaluate(request, variable, &mut value);
    value
}

/// A word of the condition without the brackets, and its index in the line.
type Part = (Vec<u8>, usize);

/// Reads `($a = b)`; the brackets may stand apart or cling to the words.
pub(super) fn read(line: &mut Line<'_>) -> Result<Condition, Problem> {
    let mut words: Vec<Part> = (0..line.count()).map(|index| (line.bytes(index).to_vec(), index)).collect();
    if words[0].0.first() != Some(&b'(') {
        return Err(invalid(line, &words[0]));
    }
    words[0].0.remove(0);
    if words[0].0.is_empty() && words.len() > 1 {
        words.remove(0);
    }
    match words.last_mut() {
        Some((last, _)) if last.ends_with(b")") => {
            // Of `()` nginx shows the bracket that is left.
            if words.len() > 1 || words[0].0.len() > 1 {
                words.last_mut().map(|(last, _)| last.pop());
            }
        }
        _ => return Err(invalid(line, words.last().unwrap_or(&(Vec::new(), 0)))),
    }
    words.pop_if(|(last, _)| last.is_empty());
    match words.as_slice() {
        [(subject, index), ..] if subject.len() > 1 && subject[0] == b'$' => {
            let variable = variable(line, subject, *index)?;
            about(line, variable, &words)
        }
        [(operator, index), path] if is_file_test(operator) => file_test(line, operator, *index, path),
        [first, ..] => Err(invalid(line, first)),
        [] => Err(invalid(line, &(Vec::new(), 0))),
    }
}

fn variable(line: &mut Line<'_>, word: &[u8], index: usize) -> Result<VarId, Problem> {
    let span = line.word(index).span;
    let name = String::from_utf8_lossy(&word[1..]).into_owned();
    Ok(line.variable(&name, span))
}

fn about(line: &mut Line<'_>, variable: VarId, words: &[(Vec<u8>, usize)]) -> Result<Condition, Problem> {
    let [_, (operator, at), (value, _)] = words else {
        return match words {
            [_] => Ok(Condition::True(variable)),
            _ => Err(invalid(line, &words[0])),
        };
    };
    let negated = operator.starts_with(b"!");
    match operator.as_slice() {
        b"=" | b"!=" => Ok(Condition::Equals { variable, text: line.template_text(value)?, negated }),
        b"~" | b"~*" | b"!~" | b"!~*" => {
            let pattern = line.pattern(value, operator.ends_with(b"*"))?;
            Ok(Condition::Matches { variable, pattern, negated })
        }
        _ => {
            let shown = String::from_utf8_lossy(operator);
            Err(Problem::new(format!("unexpected \"{shown}\" in condition"))
                .at(line.word(*at))
                .note("it must be =, !=, ~, ~*, !~ or !~*"))
        }
    }
}

fn is_file_test(operator: &[u8]) -> bool {
    matches!(operator, [b'-', _] | [b'!', b'-', _])
}

fn file_test(
    line: &mut Line<'_>,
    operator: &[u8],
    index: usize,
    (path, _): &(Vec<u8>, usize),
) -> Result<Condition, Problem> {
    let test = match operator.last() {
        Some(b'f') => FileTest::File,
        Some(b'd') => FileTest::Directory,
        Some(b'e') => FileTest::Exists,
        Some(b'x') => FileTest::Executable,
        _ => return Err(invalid(line, &(operator.to_vec(), index))),
    };
    Ok(Condition::File { test, path: line.template_text(path)?, negated: operator.starts_with(b"!") })
}

fn invalid(line: &Line<'_>, (text, index): &Part) -> Problem {
    let text = String::from_utf8_lossy(text);
    Problem::new(format!("invalid condition \"{text}\"")).at(line.word(*index))
}
