//! From text to tree: blocks and `include`.
//!
//! Unlike nginx this goes on after a mistake, so that one run shows them all. What could not be understood is left out
//! of the tree. Everything that a file could make grow has a bound here or in `include`.

mod include;

use std::mem;
use std::path::Path;

use crate::diagnostics::Diagnostics;
use crate::files::Files;
use crate::lexer::{End, Fault, FaultKind, Lexer};
use crate::program;
use crate::sources::Sources;
use crate::tree::{Directive, FileId, Span, Word};

/// Deepest nesting of blocks. Trees are walked by recursion, here and above.
const DEPTH_MAX: usize = 100;
/// Most words in all, each inclusion counted: at 50 to 100 bytes each, where memory stops being a configuration's size.
const WORDS_MAX: usize = 20_000_000;
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
    words_read: usize,
    faults: usize,
    /// Nothing more is read: a bound was reached.
    stopped: bool,
    /// What is known about the file being read.
    state: FileState,
    /// Words of the directive being read; one buffer for all, so that each directive's own lists are exact in size.
    words: Vec<Word>,
}

#[derive(Default)]
struct FileState {
    /// Its end came too early and that was said, which is enough: the blocks further out are open as well.
    cut_short: bool,
    /// The first block whose `}` stands further left than the block itself: when braces are missing, look there.
    suspect: Option<String>,
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
            words_read: 0,
            faults: 0,
            stopped: false,
            state: FileState::default(),
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
        let outer = mem::take(&mut self.state);
        let mut lexer = Lexer::new(file, &text);
        self.directives(&mut lexer, Around::Nothing, into);
        self.state = outer;
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
                        self.cut_short(end, name);
                    }
                    return end;
                }
                Err(fault) => {
                    if let Some(end) = self.recover(lexer, fault, around) {
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
        if program::is_program(&directive.name.bytes) {
            match lexer.skip_program() {
                Some(close) => into.push(Directive { close, ..directive }),
                None => self.cut_short(lexer.here(), &directive.name),
            }
            return;
        }
        if self.depth == DEPTH_MAX {
            self.fault(open, format!("blocks are nested more than {DEPTH_MAX} deep"), None);
            self.state.cut_short |= !lexer.skip_block();
            return;
        }
        self.depth += 1;
        let mut inside = Vec::new();
        directive.close = self.directives(lexer, Around::Block(&directive.name), &mut inside);
        self.depth -= 1;
        self.compare_indents(&directive);
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
        self.words_read += self.words.len();
        if self.words_read > WORDS_MAX && !self.stopped {
            self.stopped = true;
            self.fault(close, format!("the configuration has more than {WORDS_MAX} words"), None);
        }
        let mut words = self.words.drain(..);
        let name = words.next().unwrap_or_default();
        Directive { name, args: words.collect(), block, close }
    }

    /// Reports a mistake and finds a place to go on. Answers the end of the block if it was reached.
    fn recover(&mut self, lexer: &mut Lexer<'_>, fault: Fault, around: Around<'_>) -> Option<Span> {
        let note = self.cause(&fault, around);
        self.state.cut_short |= fault.kind == FaultKind::Over;
        self.fault(fault.span, fault.message, note);
        match fault.kind {
            FaultKind::EmptyDirective => None,
            FaultKind::EmptyOpen => {
                lexer.skip_block();
                None
            }
            FaultKind::Unended(close) => matches!(around, Around::Block(_)).then_some(close),
            FaultKind::AfterQuote => {
                if lexer.skip_line() {
                    lexer.skip_block();
                }
                None
            }
            FaultKind::Over => Some(fault.span),
        }
    }

    /// Where the mistake was probably made, if that is somewhere else.
    fn cause(&self, fault: &Fault, around: Around<'_>) -> Option<String> {
        match (fault.kind, fault.quote, around) {
            (FaultKind::AfterQuote, Some((quote, place)), _) if place.line != fault.span.line => Some(
                format!("the {quote} closed here was opened in {}: is one missing there?", self.place(place)),
            ),
            (FaultKind::Over, Some((quote, place)), _) => {
                Some(format!("the {quote} opened in {} is never closed", self.place(place)))
            }
            (FaultKind::Over, None, Around::Block(name)) => Some(self.opened_note(name)),
            (FaultKind::Unended(_), ..) => {
                let name = self.words.first()?;
                let line = self.sources.line_of(self.words.last()?.span);
                let place = self.place(Span { line, ..name.span });
                Some(format!("is a \";\" missing after the \"{}\" directive in {place}?", name.text()))
            }
            _ => None,
        }
    }

    /// The text ends inside a block.
    fn cut_short(&mut self, end: Span, name: &Word) {
        if mem::replace(&mut self.state.cut_short, true) {
            return;
        }
        let note = self.opened_note(name);
        let suspect = self.state.suspect.take();
        self.fault(end, r#"unexpected end of file, expecting "}""#, suspect.or(Some(note)));
    }

    /// People indent: a `}` further left than what it closes shows which block lacks its own.
    fn compare_indents(&mut self, block: &Directive) {
        let text = self.sources.text(block.close.file);
        if self.state.suspect.is_none()
            && let Some(close) = indent(text, block.close)
            && indent(text, block.name.span).is_some_and(|open| open > close)
        {
            let (name, place) = (block.name.text(), self.place(block.name.span));
            self.state.suspect =
                Some(format!("is a \"}}\" missing at the end of \"{name}\", opened in {place}?"));
        }
    }

    fn fault(&mut self, span: Span, message: impl Into<String>, note: Option<String>) {
        self.faults += 1;
        self.stopped |= self.faults >= FAULTS_MAX;
        let diagnostic = self.diagnostics.error(span, message);
        diagnostic.notes.extend(note);
        if self.faults == FAULTS_MAX {
            diagnostic.note(format!("these are {FAULTS_MAX} mistakes: the rest was not read"));
        }
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
}

/// White space before a place, in bytes; `None` if something else stands before it on its line.
fn indent(text: &[u8], span: Span) -> Option<usize> {
    let before = &text[..text.len().min(span.start as usize)];
    let blanks = before.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    matches!(before[..before.len() - blanks].last(), None | Some(b'\n')).then_some(blanks)
}
