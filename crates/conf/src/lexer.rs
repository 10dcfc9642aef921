//! The reader of words: from one `;`, `{` or `}` to the next, by nginx's rules.
//!
//! A word ends at white space, `;` or `{`. It may be written in quotes, `"` or `'`; then white space, `;`, `{` or `)`
//! must follow. A backslash takes the next byte out of consideration everywhere; afterwards `\"`, `\'`, `\\`, `\t`, `\r`
//! and `\n` are replaced and every other pair is left as it was, so that regular expressions survive. `#` starts a comment
//! only where a word could start. `${` does not open a block. A `}` inside a word is a byte like any other.

use memchr::{memchr, memchr_iter, memchr2};

use crate::bytes::Bytes;
use crate::program;
use crate::tree::{FileId, Span, Word};

/// Longest word, in bytes. nginx's is 4096 (its buffer); people who generate maps and policies have asked for more.
pub(crate) const WORD_BYTES_MAX: usize = 1 << 20;
/// Most words of one directive.
const DIRECTIVE_WORDS_MAX: usize = 1 << 20;
/// Where nginx gives up on a word, which decides how it words a quote that is never closed.
const NGINX_WORD_BYTES_MAX: usize = 4096;

/// What ended a run of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// `;`
    Semicolon(Span),
    /// `{`
    Open(Span),
    /// `}` where a directive could start.
    Close(Span),
    /// No more text, where a directive could start.
    File(Span),
}

/// A mistake in the text.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) message: String,
    pub(crate) span: Span,
    /// The quote that was open or had just been closed.
    pub(crate) quote: Option<(char, Span)>,
}

/// What kind of mistake: decides how the parser goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// `;` without a directive.
    EmptyDirective,
    /// `{` without a directive.
    EmptyOpen,
    /// `}` before the directive was ended. Closes the block all the same.
    Unended(Span),
    /// Something stuck to a closing quote.
    AfterQuote,
    /// The text ended in the middle, or what follows makes no sense.
    Over,
}

/// Reads words from one text.
pub(crate) struct Lexer<'t> {
    file: FileId,
    text: &'t [u8],
    at: usize,
    line: u32,
    command_line: bool,
}

impl<'t> Lexer<'t> {
    pub(crate) fn new(file: FileId, text: &'t [u8]) -> Self {
        Self { file, text, at: 0, line: 1, command_line: false }
    }

    /// For the argument of `-g`, where nginx counts lines from zero and words the end differently.
    pub(crate) fn command_line(file: FileId, text: &'t [u8]) -> Self {
        Self { file, text, at: 0, line: 0, command_line: true }
    }

    /// Reads up to the next `;`, `{`, `}` or end and appends the words to `words`. All spans carry the line on which the
    /// reading stopped: that is the line nginx reports for the directive.
    pub(crate) fn read(&mut self, words: &mut Vec<Word>) -> Result<End, Fault> {
        let end = self.read_words(words);
        for word in words.iter_mut() {
            word.span.line = self.line;
        }
        end
    }

    fn read_words(&mut self, words: &mut Vec<Word>) -> Result<End, Fault> {
        loop {
            self.skip_space();
            let start = self.at;
            let Some(&byte) = self.text.get(start) else {
                let here = self.span(start, 0);
                return if words.is_empty() { Ok(End::File(here)) } else { Err(self.unexpected_end()) };
            };
            match byte {
                b';' | b'{' | b'}' => return self.mark(byte, words.is_empty()),
                b'"' | b'\'' => words.push(self.quoted(byte)?),
                _ => words.push(self.bare()?),
            }
            if words.len() > DIRECTIVE_WORDS_MAX {
                return Err(self.too_many());
            }
        }
    }

    fn mark(&mut self, byte: u8, first: bool) -> Result<End, Fault> {
        let span = self.span(self.at, 1);
        self.at += 1;
        match (byte, first) {
            (b';', false) => Ok(End::Semicolon(span)),
            (b'{', false) => Ok(End::Open(span)),
            (b'}', true) => Ok(End::Close(span)),
            (b';', true) => Err(self.unexpected(FaultKind::EmptyDirective, span)),
            (b'{', true) => Err(self.unexpected(FaultKind::EmptyOpen, span)),
            _ => Err(self.unexpected(FaultKind::Unended(span), span)),
        }
    }

    fn skip_space(&mut self) {
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b'\n' => self.line += 1,
                b' ' | b'\t' | b'\r' => {}
                b'#' => {
                    // The line feed itself is left for the next turn.
                    self.at += memchr(b'\n', &self.text[self.at..]).unwrap_or(self.text.len() - self.at);
                    continue;
                }
                _ => return,
            }
            self.at += 1;
        }
    }

    fn bare(&mut self) -> Result<Word, Fault> {
        let start = self.at;
        let start_line = self.line;
        let mut escapes = false;
        let mut dollar = false;
        loop {
            let Some(&byte) = self.text.get(self.at) else { return Err(self.unexpected_end()) };
            match byte {
                b'\\' => {
                    escapes = true;
                    dollar = false;
                    self.at += 1;
                    if self.text.get(self.at) == Some(&b'\n') {
                        self.line += 1;
                    }
                }
                b'$' => dollar = true,
                b'{' if dollar => {}
                b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{' => break,
                _ => dollar = false,
            }
            self.at += 1;
            if self.at - start > WORD_BYTES_MAX {
                return Err(self.too_long(start, start_line, None));
            }
        }
        Ok(self.word(start, self.at, escapes, false))
    }

    fn quoted(&mut self, quote: u8) -> Result<Word, Fault> {
        let opened = self.at;
        let start_line = self.line;
        let mut escapes = false;
        self.at += 1;
        loop {
            let rest = &self.text[self.at.min(self.text.len())..];
            let found = memchr2(quote, b'\\', &rest[..rest.len().min(WORD_BYTES_MAX + 1)]);
            let read = found.unwrap_or(rest.len());
            if self.at - opened + read > WORD_BYTES_MAX {
                return Err(self.too_long(opened, start_line, Some(quote)));
            }
            if found.is_none() {
                return Err(self.never_closed(opened, start_line, quote));
            }
            let ends_here = rest[read] == quote;
            self.line += memchr_iter(b'\n', &rest[..read]).count() as u32;
            self.at += read + 1;
            if ends_here {
                break;
            }
            escapes = true;
            if self.text.get(self.at) == Some(&b'\n') {
                self.line += 1;
            }
            self.at += 1;
        }
        let word = self.word(opened + 1, self.at - 1, escapes, true);
        match self.text.get(self.at) {
            Some(b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{' | b')') => Ok(word),
            Some(_) => {
                let fault = self.unexpected(FaultKind::AfterQuote, self.span(self.at, self.char_len()));
                let place = Span { line: start_line, ..self.span(opened, 1) };
                Err(Fault { quote: Some((char::from(quote), place)), ..fault })
            }
            None => Err(self.unexpected_end()),
        }
    }

    fn word(&self, start: usize, end: usize, escapes: bool, quoted: bool) -> Word {
        let raw = &self.text[start..end];
        let bytes = if escapes { Bytes::from(unescape(raw)) } else { Bytes::from(raw) };
        let quotes = usize::from(quoted);
        Word { bytes, span: self.span(start - quotes, end - start + 2 * quotes), quoted }
    }

    /// The place to be read next.
    pub(crate) fn here(&self) -> Span {
        self.span(self.at, 0)
    }

    /// After [`FaultKind::AfterQuote`]: gives up the rest of the line, because the usual cause is a quote left open
    /// before, which turns inside and outside round. Answers whether that line opened a block.
    pub(crate) fn skip_line(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let line = &rest[..memchr(b'\n', rest).unwrap_or(rest.len())];
        let opened = memchr_iter(b'{', line).count();
        let closed = memchr_iter(b'}', line).count();
        let closing = line.iter().rposition(|&byte| byte == b'}').filter(|_| closed > opened);
        self.at += closing.unwrap_or(line.len());
        opened > closed
    }

    /// Skips what follows a `{` up to and with its `}`, however deep, by nginx's rules for words. False at the end.
    pub(crate) fn skip_block(&mut self) -> bool {
        let mut depth = 1usize;
        let mut words = Vec::new();
        loop {
            words.clear();
            match self.read(&mut words) {
                Ok(End::Open(_)) => depth += 1,
                Ok(End::Close(_)) => depth -= 1,
                Ok(End::Semicolon(_)) => {}
                Err(fault) => match fault.kind {
                    FaultKind::EmptyOpen => depth += 1,
                    FaultKind::Unended(_) => depth -= 1,
                    FaultKind::EmptyDirective => {}
                    FaultKind::AfterQuote => depth += usize::from(self.skip_line()),
                    FaultKind::Over => return false,
                },
                Ok(End::File(_)) => return false,
            }
            if depth == 0 {
                return true;
            }
        }
    }

    /// Skips program text after a `{` up to its `}`, which it answers; `None` at the end of the text.
    pub(crate) fn skip_program(&mut self) -> Option<Span> {
        let close = program::close(self.text, self.at);
        let end = close.unwrap_or(self.text.len());
        self.line += memchr_iter(b'\n', &self.text[self.at..end]).count() as u32;
        self.at = end;
        let span = self.span(close?, 1);
        self.at += 1;
        Some(span)
    }

    fn unexpected(&self, kind: FaultKind, span: Span) -> Fault {
        let start = span.start as usize;
        let what = String::from_utf8_lossy(&self.text[start..start + span.len as usize]);
        Fault { kind, message: format!("unexpected \"{what}\""), span, quote: None }
    }

    fn unexpected_end(&mut self) -> Fault {
        self.at = self.text.len();
        let message = match self.command_line {
            true => r#"unexpected end of parameter, expecting ";""#,
            false => r#"unexpected end of file, expecting ";" or "}""#,
        };
        Fault { kind: FaultKind::Over, message: message.into(), span: self.span(self.at, 0), quote: None }
    }

    fn never_closed(&mut self, opened: usize, start_line: u32, quote: u8) -> Fault {
        if self.text.len() - (opened + 1) > NGINX_WORD_BYTES_MAX && !self.command_line {
            return self.too_long(opened, start_line, Some(quote));
        }
        let place = Span { line: start_line, ..self.span(opened, 1) };
        self.line += memchr_iter(b'\n', &self.text[self.at.min(self.text.len())..]).count() as u32;
        Fault { quote: Some((char::from(quote), place)), ..self.unexpected_end() }
    }

    fn too_many(&mut self) -> Fault {
        let span = self.here();
        self.at = self.text.len();
        let message = format!("more than {DIRECTIVE_WORDS_MAX} words in one directive");
        Fault { kind: FaultKind::Over, message, span, quote: None }
    }

    /// Only the line where the word started helps; what follows is not looked at.
    fn too_long(&mut self, start: usize, start_line: u32, quote: Option<u8>) -> Fault {
        self.at = self.text.len();
        self.line = start_line;
        let message = match quote {
            Some(quote) => {
                let quote = char::from(quote);
                format!("too long parameter, probably missing terminating \"{quote}\" character")
            }
            None => {
                let begin = String::from_utf8_lossy(&self.text[start..start + 10]);
                format!("too long parameter \"{begin}...\" started")
            }
        };
        Fault { kind: FaultKind::Over, message, span: self.span(start, 1), quote: None }
    }

    fn span(&self, start: usize, len: usize) -> Span {
        Span { file: self.file, line: self.line, start: start as u32, len: len as u32 }
    }

    /// Bytes of the character here, so that a message shows all of it.
    fn char_len(&self) -> usize {
        let rest = &self.text[self.at..];
        (1..=rest.len().min(4)).find(|&len| std::str::from_utf8(&rest[..len]).is_ok()).unwrap_or(1)
    }
}

fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [byte, tail @ ..] = rest {
        let replaced = match (byte, tail.first()) {
            (b'\\', Some(&plain @ (b'"' | b'\'' | b'\\'))) => Some(plain),
            (b'\\', Some(b't')) => Some(b'\t'),
            (b'\\', Some(b'r')) => Some(b'\r'),
            (b'\\', Some(b'n')) => Some(b'\n'),
            _ => None,
        };
        text.push(replaced.unwrap_or(*byte));
        rest = if replaced.is_some() { &tail[1..] } else { tail };
    }
    text
}
