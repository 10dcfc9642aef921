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

/// Reads `($a = b)`; the brackets may stand apart or cling to the words.
pub(super) fn read(line: &mut Line<'_>) -> Result<Condition, Problem> {
    let mut words: Vec<(Vec<u8>, usize)> =
        (0..line.count()).map(|index| (line.bytes(index).to_vec(), index)).collect();
    let first = &mut words[0].0;
    if first.first() != Some(&b'(') {
        return Err(invalid(line, 0));
    }
    first.remove(0);
    if first.is_empty() {
        words.remove(0);
    }
    let Some((last, index)) = words.last_mut() else { return Err(invalid(line, 0)) };
    if last.pop_if(|byte| *byte == b')').is_none() {
        let index = *index;
        return Err(invalid(line, index));
    }
    if last.is_empty() {
        words.pop();
    }
    match words.as_slice() {
        [(subject, index), ..] if subject.len() > 1 && subject[0] == b'$' => {
            let variable = variable(line, subject, *index)?;
            about(line, variable, &words)
        }
        [(operator, index), path] if is_file_test(operator) => file_test(line, operator, *index, path),
        [(_, index), ..] => Err(invalid(line, *index)),
        [] => Err(invalid(line, 0)),
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
            _ => Err(invalid(line, words[0].1)),
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
        _ => return Err(invalid(line, index)),
    };
    Ok(Condition::File { test, path: line.template_text(path)?, negated: operator.starts_with(b"!") })
}

fn invalid(line: &Line<'_>, index: usize) -> Problem {
    Problem::new(format!("invalid condition \"{}\"", line.text(index))).at(line.word(index))
}
