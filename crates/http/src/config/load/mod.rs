//! From text to a [`Snapshot`]: walk the tree, call setters, merge, compile.
//!
//! Nothing is started here and nothing of a running configuration is touched, so a failed load leaves no trace. Every
//! error is collected; a load that has one returns no snapshot.

mod blocks;
mod compile;
mod listeners;

use std::path::PathBuf;

use conf::{Diagnostics, Directive as Words, Sources, Span};

pub(crate) use self::blocks::Blocks;
use crate::LocationId;
use crate::config::{
    Answer, Args, BlockKind, Context, Directive, Line, Listen, ListenAddr, Module, Place, Prefixes, Problem,
    Registry, Snapshot, World,
};
use crate::variable::Variables;

/// What to load.
pub struct LoadOptions<'a> {
    /// `-c`, absolute.
    pub main: PathBuf,
    /// `-p`, absolute.
    pub prefix: PathBuf,
    /// `-e`, or where errors go when the configuration names no `error_log`.
    pub error_log: PathBuf,
    /// `-g`
    pub command_line: Option<&'a [u8]>,
    /// The modules, in their order.
    pub modules: &'a [&'static Module],
    /// Number of this configuration.
    pub generation: u64,
}

/// What came of it.
pub struct Loaded {
    /// The configuration, when there was no error.
    pub snapshot: Option<Snapshot>,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
    /// The files, for rendering diagnostics and for `-T`.
    pub sources: Sources,
}

/// What grows while the file is read.
pub(crate) struct State {
    pub(crate) variables: Variables,
    pub(crate) registry: Registry,
    pub(crate) diagnostics: Diagnostics,
    pub(crate) prefixes: Prefixes,
}

impl State {
    /// Reports what only the merge of a block can tell: nginx names the end of `http`, a person looks at the block.
    fn report_merge(&mut self, problem: Problem, block: Span, http_close: Option<Span>) {
        match http_close.filter(|_| problem.span.is_none() && !problem.placeless) {
            Some(close) => {
                let diagnostic = self.diagnostics.error(close, problem.message);
                diagnostic.look_at = Some(block);
                diagnostic.notes.extend(problem.notes);
            }
            None => self.report(problem, block),
        }
    }

    pub(crate) fn report(&mut self, problem: Problem, span: Span) {
        let place = problem.span.unwrap_or(span);
        let diagnostic = self.diagnostics.error((!problem.placeless).then_some(place), problem.message);
        // One that nobody set is of no length.
        diagnostic.look_at = Some(place).filter(|place| problem.placeless && place.len > 0);
        diagnostic.notes.extend(problem.notes);
    }
}

/// Loads a configuration.
pub fn load(options: &LoadOptions<'_>, world: &dyn World) -> Loaded {
    let mut diagnostics = Diagnostics::default();
    let parsed = conf::parse(
        &conf::Options { main: &options.main, command_line: options.command_line, files: world },
        &mut diagnostics,
    );
    let prefixes = Prefixes {
        prefix: options.prefix.clone(),
        conf: options.main.parent().map(PathBuf::from).unwrap_or_default(),
        error_log: options.error_log.clone(),
    };
    let state = State {
        variables: Variables::new(options.modules),
        registry: Registry::default(),
        diagnostics,
        prefixes,
    };
    let mut loader =
        Loader { options, world, state, blocks: Blocks::default(), sizing: Vec::new(), http_close: None };
    let main = loader.blocks.open(Context::MAIN, None, Span::default());
    loader.walk(&parsed.directives, main, Context::MAIN);
    loader.say_sizing();
    loader.state.diagnostics.next_stage();
    let snapshot = loader.compile(main);
    let state = loader.state;
    let snapshot = snapshot
        .filter(|_| !state.diagnostics.has_errors())
        .map(|compiled| compiled.finish(state.variables, state.registry));
    Loaded { snapshot, diagnostics: state.diagnostics, sources: parsed.sources }
}

struct Loader<'a> {
    options: &'a LoadOptions<'a>,
    world: &'a dyn World,
    state: State,
    blocks: Blocks,
    sizing: Vec<(String, Span)>,
    /// The `}` of `http`, where nginx says what is wrong with what blocks inherit.
    http_close: Option<Span>,
}

impl Loader<'_> {
    fn walk(&mut self, lines: &[Words], block: LocationId, place: Place) {
        for words in lines {
            self.line(words, block, place);
        }
    }

    fn line(&mut self, words: &Words, block: LocationId, place: Place) {
        let found = self.find(words, place);
        let applied = found.and_then(|found| {
            let Some(directive) = found else { return Ok(()) };
            self.apply(directive, words, block, place)?;
            self.answer(directive, words);
            Ok(())
        });
        if let Err(problem) = applied {
            self.state.report(problem, words.name.span);
        }
    }

    /// Says what holds in place of a line that was read and does not work (D14).
    fn answer(&mut self, directive: &Directive, words: &Words) {
        if says_off(directive, words) {
            return;
        }
        let span = words.name.span;
        match directive.answer {
            Answer::Works | Answer::Refused(_) => {}
            Answer::Accepted(why) => {
                self.state
                    .diagnostics
                    .warn(Some(span), format!("\"{}\" directive is accepted: {why}", directive.name));
            }
            Answer::Sizing => self.sizing.push((directive.name.to_owned(), span)),
        }
    }

    /// The directive of that name that may stand here; `None` when the line only says that what we lack is off.
    fn find(&mut self, words: &Words, place: Place) -> Result<Option<&'static Directive>, Problem> {
        let name = words.name.text();
        let of_name = || directives(self.options.modules).filter(|directive| directive.name == name);
        let Some(first) = of_name().next() else {
            return Err(self.unknown(&name));
        };
        let Some(directive) = of_name().find(|directive| directive.at.has(place)) else {
            if let Answer::Refused(why) = first.answer {
                return Err(refused(&name, why));
            }
            let places = of_name().flat_map(|directive| directive.at.names()).collect::<Vec<_>>().join(", ");
            return Err(Problem::new(format!("\"{name}\" directive is not allowed here"))
                .note(format!("it may stand in: {places}")));
        };
        if let Answer::Refused(why) = directive.answer {
            return if says_off(directive, words) { Ok(None) } else { Err(refused(&name, why)) };
        }
        match (directive.block.is_some(), words.block.is_some()) {
            (true, false) => return Err(Problem::new(format!("directive \"{name}\" has no opening \"{{\""))),
            (false, true) => {
                return Err(Problem::new(format!("directive \"{name}\" is not terminated by \";\"")));
            }
            _ => {}
        }
        if !directive.args.allow(words.args.len()) {
            return Err(arity(&name, directive.args, words.args.len()));
        }
        Ok(Some(directive))
    }

    fn unknown(&self, name: &str) -> Problem {
        let problem = Problem::new(format!("unknown directive \"{name}\""));
        match conf::nearest(name, directives(self.options.modules).map(|directive| directive.name)) {
            Some(near) => problem.note(format!("did you mean \"{near}\"?")),
            None => problem,
        }
    }

    fn apply(
        &mut self,
        directive: &'static Directive,
        words: &Words,
        block: LocationId,
        place: Place,
    ) -> Result<(), Problem> {
        match directive.block {
            None => self.set(directive, words, block, place, None),
            Some(BlockKind::Lines) => {
                // Lines that are no directives have no blocks.
                let inside = words.block.as_deref().unwrap_or_default();
                for line in inside.iter().filter(|line| line.block.is_some()) {
                    self.state.report(Problem::new("unexpected \"{\""), line.name.span);
                }
                self.set(directive, words, block, place, None)
            }
            Some(BlockKind::Skipped) => Ok(()),
            Some(BlockKind::Serves(inner)) => {
                let inner = inner_place(inner, place);
                let opened = self.blocks.open(inner, Some(block), words.name.span);
                if inner == Context::HTTP {
                    self.http_close = Some(words.close);
                }
                let set = self.set(directive, words, block, place, Some(opened));
                self.walk(words.block.as_deref().unwrap_or_default(), opened, inner);
                set
            }
            Some(BlockKind::Collects(inner, end)) => {
                self.set(directive, words, block, place, None)?;
                // The lines inside write to raws of their own, kept in a block that never serves.
                let scratch = self.blocks.open(inner, None, words.name.span);
                self.walk(words.block.as_deref().unwrap_or_default(), scratch, inner);
                let mut raws = std::mem::take(&mut self.blocks.get_mut(scratch).raws);
                end(&mut raws, &mut self.line_of(words, block, place, None))
            }
        }
    }

    fn line_of<'s>(
        &'s mut self,
        words: &'s Words,
        block: LocationId,
        place: Place,
        opens: Option<LocationId>,
    ) -> Line<'s> {
        Line {
            words,
            place,
            state: &mut self.state,
            world: self.world,
            blocks: &mut self.blocks,
            block,
            opens,
        }
    }

    fn set(
        &mut self,
        directive: &'static Directive,
        words: &Words,
        block: LocationId,
        place: Place,
        opens: Option<LocationId>,
    ) -> Result<(), Problem> {
        // The raws leave their block while the setter runs, because a line may also name blocks.
        let mut raws = std::mem::take(&mut self.blocks.get_mut(block).raws);
        let result = {
            let mut line = self.line_of(words, block, place, opens);
            match directive.set.raw {
                Some((id, make)) => (directive.set.call)(raws.entry(id(), make), &mut line),
                None => (directive.set.call)(&mut (), &mut line),
            }
        };
        self.blocks.get_mut(block).raws = raws;
        result
    }

    /// All sizing directives share one line (D14).
    fn say_sizing(&mut self) {
        let Some((_, first)) = self.sizing.first() else { return };
        let mut names: Vec<&str> = self.sizing.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let message = format!(
            "accepted and not needed here, sizes and events are chosen by the server itself: {}",
            names.join(", ")
        );
        self.state.diagnostics.push(conf::Diagnostic {
            level: conf::Level::Info,
            message,
            look_at: None,
            span: Some(*first),
            notes: Vec::new(),
        });
    }
}

fn directives(modules: &[&'static Module]) -> impl Iterator<Item = &'static Directive> {
    modules.iter().flat_map(|module| module.directives)
}

/// `if` is one directive with two meanings, by where it stands.
fn inner_place(inner: Context, place: Place) -> Place {
    if inner.has(Context::SERVER_IF) && inner.has(Context::LOCATION_IF) {
        return if place.has(Context::SERVER.or(Context::SERVER_IF)) {
            Context::SERVER_IF
        } else {
            Context::LOCATION_IF
        };
    }
    inner
}

/// What a server without `listen` gets: port 80, or 8000 for who may not open that.
fn default_listen(span: Span) -> Listen {
    let port = if rustix::process::geteuid().is_root() { 80 } else { 8000 };
    Listen {
        addr: ListenAddr::Tcp((std::net::Ipv4Addr::UNSPECIFIED, port).into()),
        default_server: false,
        proxy_protocol: false,
        ssl: false,
        options: None,
        span,
    }
}

/// Whether a line only says what holds anyway: `gzip off`.
fn says_off(directive: &Directive, words: &Words) -> bool {
    if directive.answer == Answer::Works {
        return false;
    }
    let [word] = words.args.as_slice() else { return false };
    directive.default == "off" && &*word.bytes == b"off"
}

fn refused(name: &str, why: &str) -> Problem {
    Problem::new(format!("the \"{name}\" directive is not supported: {why}"))
}

fn arity(name: &str, args: Args, count: usize) -> Problem {
    let wants = match args {
        Args::Exactly(0) => "no argument".to_owned(),
        Args::Exactly(1) => "one argument".to_owned(),
        Args::Exactly(n) => format!("{n} arguments"),
        Args::Between(low, high) => format!("{low} to {high} arguments"),
        Args::AtLeast(n) => format!("{n} arguments or more"),
        Args::Flag => "\"on\" or \"off\"".to_owned(),
    };
    Problem::new(format!("invalid number of arguments in \"{name}\" directive"))
        .note(format!("it takes {wants}, here are {count}"))
}

fn default_words(directive: &Directive) -> Words {
    let word = |text: &str| conf::Word {
        bytes: text.as_bytes().to_vec().into(),
        span: Span::default(),
        quoted: false,
    };
    Words {
        name: word(directive.name),
        args: directive.default.split_whitespace().map(word).collect(),
        block: None,
        close: Span::default(),
    }
}
