//! From text to tree: blocks and `include`.
//!
//! Unlike nginx this goes on after a mistake, so that one run shows them all. What could not be understood is left out
//! of the tree. Everything that a file could make grow has a bound here.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::diagnostics::{Diagnostic, Diagnostics, Level};
use crate::files::{FILE_BYTES_MAX, Files, error_text};
use crate::glob;
use crate::lexer::{End, Fault, FaultKind, Lexer};
use crate::sources::Sources;
use crate::tree::{Directive, FileId, Span, Word};

/// Deepest nesting of blocks. Trees are walked by recursion, here and above.
const DEPTH_MAX: usize = 100;
/// Longest chain of files that include one another.
const INCLUDE_DEPTH_MAX: usize = 50;
/// Most inclusions in all: a handful of files that include the next one twice would otherwise never end.
const INCLUDES_MAX: usize = 1_000_000;
/// Most bytes parsed in all, each inclusion counted.
const BYTES_MAX: u64 = FILE_BYTES_MAX;
/// After so many mistakes the rest would not help anybody.
const FAULTS_MAX: usize = 100;

/// What to read.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The main file. Relative `include` names start from its directory, as with nginx's `conf_prefix`.
    pub main: &'a Path,
    /// The argument of `-g`, read before the main file.
    pub command_line: Option<&'a [u8]>,
    /// Where files come from.
    pub files: &'a dyn Files,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The directives outside of any block, those of the command line first, includes replaced by what they include.
    pub directives: Vec<Directive>,
    /// The texts.
    pub sources: Sources,
}

/// Reads a configuration. Mistakes go to `diagnostics`; the tree holds what was understood.
pub fn parse(options: &Options<'_>, diagnostics: &mut Diagnostics) -> Parsed {
    let mut parser = Parser::new(options, diagnostics);
    let mut directives = Vec::new();
    parser.command_line(options.command_line.unwrap_or_default(), &mut directives);
    parser.main(options.main, &mut directives);
    Parsed { directives, sources: parser.sources }
}

struct Parser<'a> {
    files: &'a dyn Files,
    /// Directory of the main file.
    prefix: &'a Path,
    diagnostics: &'a mut Diagnostics,
    sources: Sources,
    /// The files being read, outermost first.
    chain: Vec<FileId>,
    depth: usize,
    includes: usize,
    bytes: u64,
    faults: usize,
    /// Nothing more is read: a bound was reached.
    stopped: bool,
    /// Words of the directive being read; one buffer for all, so that each directive's own lists are exact in size.
    words: Vec<Word>,
}

/// The braces around the directives being read.
#[derive(Clone, Copy)]
enum Around<'d> {
    Nothing,
    Block(&'d Word),
}

impl<'a> Parser<'a> {
    fn new(options: &Options<'a>, diagnostics: &'a mut Diagnostics) -> Self {
        Self {
            files: options.files,
            prefix: options.main.parent().unwrap_or(Path::new("")),
            diagnostics,
            sources: Sources::default(),
            chain: Vec::new(),
            depth: 0,
            includes: 0,
            bytes: 0,
            faults: 0,
            stopped: false,
            words: Vec::new(),
        }
    }

    fn command_line(&mut self, text: &[u8], into: &mut Vec<Directive>) {
        if text.is_empty() {
            return;
        }
        let Some(file) = self.sources.add(None, text.to_vec(), None) else { return };
        self.chain.push(file);
        let mut lexer = Lexer::command_line(file, text);
        self.directives(&mut lexer, Around::Nothing, into);
        self.chain.pop();
    }

    fn main(&mut self, path: &Path, into: &mut Vec<Directive>) {
        if let Some(file) = self.load(path, None) {
            self.file(file, into);
        }
    }

    fn file(&mut self, file: FileId, into: &mut Vec<Directive>) {
        let text = self.sources.shared_text(file);
        self.bytes += text.len() as u64;
        self.chain.push(file);
        let mut lexer = Lexer::new(file, &text);
        self.directives(&mut lexer, Around::Nothing, into);
        self.chain.pop();
    }

    /// Reads directives up to the end of the text or of the block; answers the place of that end.
    fn directives(&mut self, lexer: &mut Lexer<'_>, around: Around<'_>, into: &mut Vec<Directive>) -> Span {
        loop {
            self.words.clear();
            match lexer.read(&mut self.words) {
                _ if self.stopped => return Span::default(),
                Ok(End::Semicolon(close)) => self.simple(close, into),
                Ok(End::Open(open)) => self.block(lexer, open, into),
                Ok(End::Close(close)) => match around {
                    Around::Block(_) => return close,
                    Around::Nothing => self.fault(close, r#"unexpected "}""#, None),
                },
                Ok(End::File(end)) => {
                    if let Around::Block(name) = around {
                        let note = self.opened_note(name);
                        self.fault(end, r#"unexpected end of file, expecting "}""#, Some(note));
                    }
                    return end;
                }
                Err(fault) => {
                    if let Some(end) = self.recover(lexer, fault, around, into) {
                        return end;
                    }
                }
            }
        }
    }

    fn simple(&mut self, close: Span, into: &mut Vec<Directive>) {
        let directive = self.directive(None, close);
        if directive.name.bytes != b"include" {
            return into.push(directive);
        }
        match &directive.args[..] {
            [path] => self.include(path, into),
            _ => {
                self.fault(directive.name.span, r#"invalid number of arguments in "include" directive"#, None)
            }
        }
    }

    fn block(&mut self, lexer: &mut Lexer<'_>, open: Span, into: &mut Vec<Directive>) {
        let mut directive = self.directive(Some(Vec::new()), open);
        if self.sources.is_command_line(open.file) {
            self.fault(open, "block directives are not supported in -g option", None);
            lexer.skip_block();
            return;
        }
        if is_program(&directive.name.bytes) {
            match lexer.skip_program() {
                Some(close) => into.push(Directive { close, ..directive }),
                None => {
                    let note = self.opened_note(&directive.name);
                    let end = Span { line: open.line, ..directive.name.span };
                    self.fault(end, r#"unexpected end of file, expecting "}""#, Some(note));
                }
            }
            return;
        }
        if self.depth == DEPTH_MAX {
            self.fault(open, format!("blocks are nested more than {DEPTH_MAX} deep"), None);
            lexer.skip_block();
            return;
        }
        self.depth += 1;
        let mut inside = Vec::new();
        directive.close = self.directives(lexer, Around::Block(&directive.name), &mut inside);
        self.depth -= 1;
        inside.shrink_to_fit();
        if directive.name.bytes == b"include" {
            self.fault(directive.name.span, r#"directive "include" is not terminated by ";""#, None);
            return;
        }
        directive.block = Some(inside);
        into.push(directive);
    }

    /// The directive made of the words just read.
    fn directive(&mut self, block: Option<Vec<Directive>>, close: Span) -> Directive {
        let mut words = self.words.drain(..);
        let name = words.next().unwrap_or_default();
        Directive { name, args: words.collect(), block, close }
    }

    /// Reports a mistake and finds a place to go on. Answers the end of the block if it was reached.
    fn recover(
        &mut self,
        lexer: &mut Lexer<'_>,
        fault: Fault,
        around: Around<'_>,
        into: &mut Vec<Directive>,
    ) -> Option<Span> {
        let note = match (fault.opened, around) {
            (Some((quote, span)), _) => {
                Some(format!("the {quote} opened in {} is never closed", self.place(span)))
            }
            (None, Around::Block(name)) if fault.kind == FaultKind::Over => Some(self.opened_note(name)),
            _ => None,
        };
        self.fault(fault.span, fault.message, note);
        match fault.kind {
            FaultKind::EmptyDirective => None,
            FaultKind::EmptyOpen => {
                lexer.skip_block();
                None
            }
            FaultKind::Unended(close) => {
                self.simple(close, into);
                matches!(around, Around::Block(_)).then_some(close)
            }
            FaultKind::AfterQuote => {
                if lexer.skip_line() {
                    lexer.skip_block();
                }
                None
            }
            FaultKind::Over => Some(fault.span),
        }
    }

    fn include(&mut self, word: &Word, into: &mut Vec<Directive>) {
        let path = self.prefix.join(OsStr::from_bytes(&word.bytes));
        if !glob::is_pattern(path.as_os_str().as_bytes()) {
            return self.include_file(&path, word.span, into);
        }
        match self.files.glob(&path) {
            Ok(paths) => {
                for path in paths {
                    self.include_file(&path, word.span, into);
                }
            }
            Err(error) => self.fault(
                word.span,
                format!("glob() \"{}\" failed ({})", path.display(), error_text(&error)),
                None,
            ),
        }
    }

    fn include_file(&mut self, path: &Path, site: Span, into: &mut Vec<Directive>) {
        if self.stopped {
            return;
        }
        let Some(file) = self.load(path, Some(site)) else { return };
        self.includes += 1;
        if self.chain.contains(&file) {
            let chain = self.chain_text(file);
            return self.fault(site, format!("include loop: {chain}"), None);
        }
        if self.chain.len() > INCLUDE_DEPTH_MAX {
            let chain = self.chain_text(file);
            return self.fault(
                site,
                format!("includes are nested more than {INCLUDE_DEPTH_MAX} deep: {chain}"),
                None,
            );
        }
        if self.includes > INCLUDES_MAX || self.bytes > BYTES_MAX {
            self.fault(site, "too much is included: does a file include others again and again?", None);
            self.stopped = true;
            return;
        }
        self.file(file, into);
    }

    /// The file, read unless it was before.
    fn load(&mut self, path: &Path, site: Option<Span>) -> Option<FileId> {
        if let Some(file) = self.sources.find(path) {
            return Some(file);
        }
        let text = match self.files.read(path) {
            Ok(text) => text,
            Err(error) => {
                self.unreadable(path, &error, site);
                return None;
            }
        };
        let Some(file) = self.sources.add(Some(path), text, site) else {
            self.faults += 1;
            self.diagnostics.error(site, "too many configuration files");
            self.stopped = true;
            return None;
        };
        self.inspect(file);
        Some(file)
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error, site: Option<Span>) {
        self.faults += 1;
        self.stopped |= self.faults >= FAULTS_MAX;
        let (path, text) = (path.display(), error_text(error));
        if error.kind() != io::ErrorKind::IsADirectory {
            self.diagnostics.error(site, format!("open() \"{path}\" failed ({text})"));
            return;
        }
        // nginx opens a directory happily, fails to read it, and then names no place.
        let hint =
            |place| format!("included in {place}; \"{path}/*.conf\" would read the files in the directory");
        let notes = site.map(|site| hint(self.place(site))).into_iter().collect();
        let message = format!("pread() \"{path}\" failed ({text})");
        self.diagnostics.push(Diagnostic { level: Level::Crit, message, span: None, notes });
    }

    /// Warns about what an editor may have put into a file unseen.
    fn inspect(&mut self, file: FileId) {
        let text = self.sources.text(file);
        let bom = text.starts_with(b"\xef\xbb\xbf");
        let nul = memchr::memchr(0, text);
        if bom {
            let span = Span { file, line: 1, start: 0, len: 3 };
            self.diagnostics
                .warn(span, "the file begins with a byte order mark, which becomes part of the first word")
                .note("save the file as UTF-8 without a byte order mark");
        }
        if let Some(start) = nul {
            let line = 1 + memchr::memchr_iter(b'\n', &text[..start]).count() as u32;
            let span = Span { file, line, start: start as u32, len: 1 };
            self.diagnostics
                .warn(span, "the file contains a NUL byte")
                .note("is it damaged, or saved as UTF-16? It should be UTF-8");
        }
    }

    fn fault(&mut self, span: Span, message: impl Into<String>, note: Option<String>) {
        self.faults += 1;
        self.stopped |= self.faults >= FAULTS_MAX;
        let diagnostic = self.diagnostics.error(span, message);
        diagnostic.notes.extend(note);
    }

    fn opened_note(&self, name: &Word) -> String {
        format!("the block \"{}\" opened in {} is not closed", name.text(), self.place(name.span))
    }

    fn place(&self, span: Span) -> String {
        if self.sources.is_command_line(span.file) {
            return "command line".into();
        }
        format!("{}:{}", self.sources.path(span.file).display(), span.line)
    }

    fn chain_text(&self, last: FileId) -> String {
        let from = self.chain.iter().position(|&file| file == last).unwrap_or(0);
        let paths: Vec<String> = (self.chain[from..].iter().chain([&last]))
            .map(|&file| self.sources.path(file).display().to_string())
            .collect();
        paths.join(" -> ")
    }
}

/// Whether this directive's braces hold program text rather than directives. No such module is ours; but "unknown
/// directive" helps more than a complaint about the program's punctuation.
fn is_program(name: &[u8]) -> bool {
    name.ends_with(b"_by_lua_block") || (name.starts_with(b"js_") && name.ends_with(b"_block"))
}
