//! The tree: directives made of words, and where each of them stands.

use std::borrow::Cow;

use crate::bytes::Bytes;

/// One text that was read: the command line or a file. Indexes [`crate::Sources`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u16);

/// A place in a text.
///
/// `line` is the line **nginx names** when it complains about this place. For the words of a directive that is the line
/// of the `;` or `{` which ended it, because nginx looks at a directive only once it has read all of it. `start` and
/// `len` are the true place; [`crate::Sources::line_of`] tells its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The text.
    pub file: FileId,
    /// Line that nginx reports, from 1; 0 on the command line's first line.
    pub line: u32,
    /// First byte, as an offset in the text.
    pub start: u32,
    /// Bytes covered; 0 at the end of a file.
    pub len: u32,
}

/// One word of a directive: its name or an argument.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// What was meant, after quotes and escapes. Not necessarily UTF-8.
    pub bytes: Bytes,
    /// Where it was written, with its quotes.
    pub span: Span,
    /// Whether it was written in quotes.
    pub quoted: bool,
}

impl Word {
    /// The word as text for people and for comparisons; bytes that are no UTF-8 become U+FFFD.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

/// `name args;` or `name args { block }`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directive {
    /// The first word.
    pub name: Word,
    /// The other words.
    pub args: Vec<Word>,
    /// What stands in the braces; `None` when `;` ended the directive.
    pub block: Option<Vec<Directive>>,
    /// The `;`, or the `}` that closes the block.
    pub close: Span,
}
