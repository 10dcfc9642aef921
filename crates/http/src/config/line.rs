//! One directive's line as its setter sees it: typed access to the arguments, and nginx's words when they are wrong.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use conf::{Directive as Words, Span, Word};

use crate::config::load::{Blocks, State};
use crate::config::{Context, Listen, Modifier, Registry, World};
use crate::message::Pattern;
use crate::server_name::ServerName;
use crate::variable::Source;
use crate::{LocationId, Template};

/// What is wrong with a line, and where.
#[derive(Debug)]
pub struct Problem {
    /// nginx's words, without `in FILE:LINE`.
    pub message: String,
    /// The word that is wrong; the directive's name when `None`.
    pub span: Option<Span>,
    /// What to do about it, for a person at a terminal.
    pub notes: Vec<String>,
    /// Not said with a file and line: nginx's messages about the outside world (a log that cannot be opened).
    pub placeless: bool,
}

impl Problem {
    /// A problem with the whole line.
    pub fn new(message: impl Into<String>) -> Problem {
        Problem { message: message.into(), span: None, notes: Vec::new(), placeless: false }
    }

    /// Points at a word.
    pub fn at(mut self, word: &Word) -> Problem {
        self.span = Some(word.span);
        self
    }

    /// Points at a place.
    pub fn at_span(mut self, span: Span) -> Problem {
        self.span = Some(span);
        self
    }

    /// Says it without file and line.
    pub fn placeless(mut self) -> Problem {
        self.placeless = true;
        self
    }

    /// Adds a line of help.
    pub fn note(mut self, note: impl Into<String>) -> Problem {
        self.notes.push(note.into());
        self
    }
}

type Result<T> = std::result::Result<T, Problem>;

/// A directive's line.
pub struct Line<'a> {
    /// The words as written.
    pub words: &'a Words,
    /// The kind of block it stands in.
    pub place: Context,
    pub(crate) state: &'a mut State,
    pub(crate) world: &'a dyn World,
    pub(crate) blocks: &'a mut Blocks,
    /// The block it stands in.
    pub(crate) block: LocationId,
    /// The block it opens.
    pub(crate) opens: Option<LocationId>,
}

impl Line<'_> {
    /// The directive's name as written.
    pub fn name(&self) -> String {
        self.words.name.text().into_owned()
    }

    /// How many arguments there are.
    pub fn count(&self) -> usize {
        self.words.args.len()
    }

    /// The argument at `index`; the loader has checked the count.
    pub fn word(&self, index: usize) -> &Word {
        &self.words.args[index]
    }

    /// Its bytes.
    pub fn bytes(&self, index: usize) -> &[u8] {
        &self.words.args[index].bytes
    }

    /// Its text; what isn't UTF-8 is replaced.
    pub fn text(&self, index: usize) -> String {
        self.words.args[index].text().into_owned()
    }

    /// The lines of a block whose lines are no directives.
    pub fn block(&self) -> &[Words] {
        self.words.block.as_deref().unwrap_or_default()
    }

    /// Writes `value` once; a second time is nginx's `"x" directive is duplicate`.
    ///
    /// # Errors
    /// When `slot` was written before.
    pub fn once<T>(&self, slot: &mut Option<T>, value: T) -> Result<()> {
        if slot.is_some() {
            return Err(self.duplicate());
        }
        *slot = Some(value);
        Ok(())
    }

    /// `"x" directive is duplicate`
    pub fn duplicate(&self) -> Problem {
        Problem::new(format!("\"{}\" directive is duplicate", self.name()))
    }

    /// `invalid value "x" in "name" directive`, with what is allowed.
    pub fn invalid(&self, index: usize, allowed: impl fmt::Display) -> Problem {
        let allowed = allowed.to_string();
        let tail = if allowed.is_empty() { String::new() } else { format!(", {allowed}") };
        Problem::new(format!("invalid value \"{}\" in \"{}\" directive{tail}", self.text(index), self.name()))
            .at(self.word(index))
    }

    /// `invalid parameter "x"`
    pub fn invalid_parameter(&self, index: usize) -> Problem {
        Problem::new(format!("invalid parameter \"{}\"", self.text(index))).at(self.word(index))
    }

    /// `"name" directive invalid value`: nginx's words for sizes, times and numbers.
    pub fn invalid_value(&self, index: usize, hint: &str) -> Problem {
        let problem =
            Problem::new(format!("\"{}\" directive invalid value", self.name())).at(self.word(index));
        if hint.is_empty() { problem } else { problem.note(hint) }
    }

    /// `on` or `off`
    ///
    /// # Errors
    /// Anything else, in nginx's words.
    pub fn flag(&self) -> Result<bool> {
        match self.bytes(0).to_ascii_lowercase().as_slice() {
            b"on" => Ok(true),
            b"off" => Ok(false),
            _ => Err(self.invalid(0, "it must be \"on\" or \"off\"")),
        }
    }

    /// A size in bytes (`k`, `m`) of the first argument.
    ///
    /// # Errors
    /// `"x" directive invalid value`
    pub fn size(&self) -> Result<usize> {
        self.size_at(0)
    }

    /// A size in bytes of the argument at `index`.
    ///
    /// # Errors
    /// `"x" directive invalid value`
    pub fn size_at(&self, index: usize) -> Result<usize> {
        conf::value::size(self.bytes(index)).and_then(|size| usize::try_from(size).ok()).ok_or_else(|| {
            self.invalid_value(index, "a size is a number of bytes, or with k or m: 512, 8k, 1m")
        })
    }

    /// A size that may be larger than memory (`k`, `m`, `g`).
    ///
    /// # Errors
    /// `"x" directive invalid value`
    pub fn offset(&self) -> Result<u64> {
        conf::value::offset(self.bytes(0)).ok_or_else(|| {
            self.invalid_value(0, "a size is a number of bytes, or with k, m or g: 8k, 100m, 2g")
        })
    }

    /// A time in milliseconds.
    ///
    /// # Errors
    /// `"x" directive invalid value`
    pub fn time(&self) -> Result<u64> {
        self.time_at(0)
    }

    /// A time in milliseconds of the argument at `index`.
    ///
    /// # Errors
    /// `"x" directive invalid value`
    pub fn time_at(&self, index: usize) -> Result<u64> {
        conf::value::time_ms(self.bytes(index)).ok_or_else(|| {
            self.invalid_value(index, "a time is seconds, or with a unit: 500ms, 60s, 5m, 1h, 1d, 1h30m")
        })
    }

    /// A whole number within `range`.
    ///
    /// # Errors
    /// `"x" directive invalid number`, or out of range.
    pub fn number(&self, range: RangeInclusive<u64>) -> Result<u64> {
        self.number_at(0, range)
    }

    /// A whole number of the argument at `index`.
    ///
    /// # Errors
    /// `"x" directive invalid number`, or out of range.
    pub fn number_at(&self, index: usize, range: RangeInclusive<u64>) -> Result<u64> {
        let number = conf::value::number(self.bytes(index)).ok_or_else(|| {
            Problem::new(format!("\"{}\" directive invalid number", self.name()))
                .at(self.word(index))
                .note(format!("\"{}\" is not a whole number", self.text(index)))
        })?;
        if number < *range.start() {
            return Err(Problem::new(format!("value must be equal to or greater than {}", range.start()))
                .at(self.word(index)));
        }
        if number > *range.end() {
            return Err(Problem::new(format!("value must be equal to or less than {}", range.end()))
                .at(self.word(index)));
        }
        Ok(number)
    }

    /// The position in `allowed` of the argument at `index`.
    ///
    /// # Errors
    /// `invalid value "x"`, with the allowed ones.
    pub fn one_of(&self, index: usize, allowed: &[&str]) -> Result<usize> {
        let text = self.text(index);
        allowed.iter().position(|have| have.eq_ignore_ascii_case(&text)).ok_or_else(|| {
            let problem = Problem::new(format!("invalid value \"{text}\"")).at(self.word(index));
            let problem = problem.note(format!("it must be one of: {}", allowed.join(", ")));
            match conf::nearest(&text, allowed.iter().copied()) {
                Some(near) => problem.note(format!("did you mean \"{near}\"?")),
                None => problem,
            }
        })
    }

    /// The positions in `names` of all arguments, as bits added to `have`; one that is there already is warned of.
    ///
    /// # Errors
    /// `invalid value "x"`, with the allowed ones.
    pub fn mask(&mut self, mut have: u32, names: &[&str]) -> Result<u32> {
        for index in 0..self.count() {
            let bit = 1 << self.one_of(index, names)?;
            if have & bit != 0 {
                self.warn(format!("duplicate value \"{}\"", self.text(index)));
            }
            have |= bit;
        }
        Ok(have)
    }

    /// Compiles an argument with variables.
    ///
    /// # Errors
    /// nginx's words for a bad variable.
    pub fn template(&mut self, index: usize) -> Result<Template> {
        let word = &self.words.args[index];
        self.template_of(word)
    }

    /// Compiles a word of the line's block.
    ///
    /// # Errors
    /// nginx's words for a bad variable.
    pub fn template_of(&mut self, word: &Word) -> Result<Template> {
        Template::compile(&word.bytes, word.span, &mut self.state.variables)
            .map_err(|message| Problem::new(message).at(word))
    }

    /// Compiles text that was made of an argument.
    ///
    /// # Errors
    /// nginx's words for a bad variable.
    pub fn template_text(&mut self, text: &[u8]) -> Result<Template> {
        Template::compile(text, self.span(), &mut self.state.variables).map_err(Problem::new)
    }

    /// The name behind the `$` of an argument that must be a variable.
    ///
    /// # Errors
    /// `invalid variable name "x"`
    pub fn variable_name(&self, index: usize) -> Result<String> {
        match self.bytes(index) {
            [b'$', rest @ ..] if !rest.is_empty() => Ok(String::from_utf8_lossy(rest).into_owned()),
            _ => {
                Err(Problem::new(format!("invalid variable name \"{}\"", self.text(index)))
                    .at(self.word(index)))
            }
        }
    }

    /// The id of a variable that is read.
    pub fn variable(&mut self, name: &str, span: Span) -> crate::variable::VarId {
        self.state.variables.intern(name, span)
    }

    /// Defines a variable.
    ///
    /// # Errors
    /// `the duplicate "x" variable` when it is a built-in one that cannot change.
    pub fn define(&mut self, name: &str, source: Source) -> Result<crate::variable::VarId> {
        self.state.variables.define(name, source).map_err(Problem::new)
    }

    /// Compiles a regular expression of this line; its named groups become variables.
    ///
    /// # Errors
    /// What is wrong with it; a name that belongs to a built-in variable.
    pub fn pattern(&mut self, text: &[u8], caseless: bool) -> Result<Pattern> {
        let text = String::from_utf8_lossy(text);
        let mut pattern = Pattern::new(&text, caseless).map_err(Problem::new)?;
        self.bind(&mut pattern)?;
        Ok(pattern)
    }

    /// Makes the named groups of a pattern variables.
    ///
    /// # Errors
    /// A name that belongs to a built-in variable.
    pub fn bind(&mut self, pattern: &mut Pattern) -> Result<()> {
        for (name, _) in pattern.names() {
            self.define(&name, Source::Slot)?;
        }
        pattern.bind(&self.state.variables);
        Ok(())
    }

    /// How the block this line stands in matches, and its text.
    pub fn location(&self) -> (&Modifier, &[u8]) {
        self.blocks.matches(self.block)
    }

    /// What modules registered.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.state.registry
    }

    /// The outside.
    pub fn world(&self) -> &dyn World {
        self.world
    }

    /// A path as nginx reads it: relative to the prefix.
    pub fn path(&self, index: usize) -> PathBuf {
        self.state.prefixes.prefix.join(Path::new(&self.text(index)))
    }

    /// A path relative to the main file's directory (certificates, password files).
    pub fn conf_path(&self, index: usize) -> PathBuf {
        self.state.prefixes.conf.join(Path::new(&self.text(index)))
    }

    /// The file at [`Line::conf_path`] can be read: for what nginx reads as soon as it has the line.
    ///
    /// # Errors
    /// nginx's `open() "x" failed (2: No such file or directory)`
    pub fn readable(&self, index: usize) -> Result<()> {
        let path = self.conf_path(index);
        self.world.read(&path).map(drop).map_err(|error| {
            // A directory can be opened.
            let call = if error.kind() == std::io::ErrorKind::IsADirectory { "read" } else { "open" };
            let text = sys::errno::text(&error);
            Problem::new(format!("{call}() \"{}\" failed ({text})", path.display())).at(self.word(index))
        })
    }

    /// The prefix directory.
    pub fn prefix(&self) -> &Path {
        &self.state.prefixes.prefix
    }

    /// Where the line stands.
    pub fn span(&self) -> Span {
        self.words.name.span
    }

    /// A warning that does not stop the load.
    pub fn warn(&mut self, message: impl Into<String>) {
        let span = self.span();
        self.state.diagnostics.warn(Some(span), message.into());
    }

    /// A warning about a line of this line's block.
    pub fn warn_at(&mut self, span: Span, message: impl Into<String>) {
        self.state.diagnostics.warn(Some(span), message.into());
    }

    /// The block this line opens; what an `if` keeps.
    ///
    /// # Panics
    /// When the directive is not one that opens a serving block.
    pub fn opens(&self) -> LocationId {
        self.opens.expect("only directives of BlockKind::Serves ask for the block they open")
    }

    /// Says what the location that opens here matches, and checks it against its siblings.
    ///
    /// # Errors
    /// `duplicate location "x"`, a location outside its parent.
    pub fn open_location(&mut self, modifier: Modifier, text: &[u8]) -> Result<()> {
        let id = self.opens();
        self.blocks.name_location(self.block, id, modifier, text)
    }

    /// Adds an address to the server this line stands in.
    ///
    /// # Errors
    /// `a duplicate listen 0.0.0.0:80`
    pub fn listen(&mut self, listen: Listen) -> Result<()> {
        self.blocks.add_listen(self.block, listen)
    }

    /// Adds a name to the server this line stands in.
    pub fn server_name(&mut self, name: ServerName) {
        self.blocks.add_server_name(self.block, name);
    }
}
