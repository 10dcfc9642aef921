//! What a module declares.

use std::any::{Any, TypeId};
use std::path::Path;
use std::sync::Arc;

use crate::Template;
use crate::config::{BlockKind, Install, Line, Prefixes, Problem, RawSet, Registry, World};
use crate::log::LogFile;
use crate::variable::{Variable, Variables};

/// A module's merged configuration without its type.
pub type AnyConf = Arc<dyn Any + Send + Sync>;

/// One nginx module: everything about a group of directives, in one value.
pub struct Module {
    /// nginx's short name: `proxy`, `map`, `rewrite`; `nginx -V` style lists are made from it.
    pub name: &'static str,
    /// One sentence for the reference page.
    pub doc: &'static str,
    /// The directives, in the order of the reference page.
    pub directives: &'static [Directive],
    /// The built-in variables.
    pub variables: &'static [Variable],
    /// Raw and merged configuration of a block; `None` for a module that only fills the registry.
    pub conf: Option<Conf>,
    /// Called once after the whole file was read, before anything is merged.
    pub prepare: Option<fn(&mut Install<'_>)>,
    /// Called for every compiled block that can serve a request.
    pub install: Option<fn(&AnyConf, &mut Install<'_>)>,
}

impl Module {
    /// A module with nothing in it, for `..Module::NONE`.
    pub const NONE: Module = Module {
        name: "",
        doc: "",
        directives: &[],
        variables: &[],
        conf: None,
        prepare: None,
        install: None,
    };
}

/// Where a directive may stand; a set of places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context(pub u16);

/// One kind of block, as a [`Context`] of one element.
pub type Place = Context;

impl Context {
    /// The file itself.
    pub const MAIN: Context = Context(1);
    /// `events { }`
    pub const EVENTS: Context = Context(2);
    /// `http { }`
    pub const HTTP: Context = Context(4);
    /// `server { }` in `http`
    pub const SERVER: Context = Context(8);
    /// `location { }`
    pub const LOCATION: Context = Context(16);
    /// `if` in `server`
    pub const SERVER_IF: Context = Context(32);
    /// `if` in `location`
    pub const LOCATION_IF: Context = Context(64);
    /// `limit_except { }`
    pub const LIMIT_EXCEPT: Context = Context(128);
    /// `upstream { }`
    pub const UPSTREAM: Context = Context(256);

    /// Both sets.
    pub const fn or(self, other: Context) -> Context {
        Context(self.0 | other.0)
    }

    /// Whether the sets share a place.
    pub const fn has(self, other: Context) -> bool {
        self.0 & other.0 != 0
    }

    /// The places in words, as the reference page writes them.
    pub fn names(self) -> Vec<&'static str> {
        const NAMES: [(Context, &str); 9] = [
            (Context::MAIN, "main"),
            (Context::EVENTS, "events"),
            (Context::HTTP, "http"),
            (Context::SERVER, "server"),
            (Context::LOCATION, "location"),
            (Context::SERVER_IF, "if in server"),
            (Context::LOCATION_IF, "if in location"),
            (Context::LIMIT_EXCEPT, "limit_except"),
            (Context::UPSTREAM, "upstream"),
        ];
        NAMES.iter().filter(|(place, _)| self.has(*place)).map(|(_, name)| *name).collect()
    }
}

/// `http`, `server` and `location`: where most directives may stand.
pub const ANY_HTTP: Context = Context(4 | 8 | 16);
/// `http` and `server`.
pub const HTTP_SERVER: Context = Context(4 | 8);

/// How many arguments a directive takes; a wrong count is nginx's `invalid number of arguments`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Args {
    /// Exactly so many.
    Exactly(usize),
    /// From the first to the second.
    Between(usize, usize),
    /// So many or more.
    AtLeast(usize),
    /// One: `on` or `off`.
    Flag,
}

impl Args {
    /// No argument.
    pub const NONE: Args = Args::Exactly(0);
    /// One argument.
    pub const ONE: Args = Args::Exactly(1);

    /// Whether `count` arguments are right.
    pub fn allow(self, count: usize) -> bool {
        match self {
            Args::Exactly(n) => count == n,
            Args::Between(low, high) => (low..=high).contains(&count),
            Args::AtLeast(n) => count >= n,
            Args::Flag => count == 1,
        }
    }
}

/// What we do with a directive (DESIGN D14): nothing is silently ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It means what it means on nginx.
    Works,
    /// The file is served; one line says what differs.
    Accepted(&'static str),
    /// A sizing or process-model directive: accepted, all of them share one `info` line.
    Sizing,
    /// The file is refused, for this reason.
    Refused(&'static str),
}

/// One directive.
pub struct Directive {
    /// As written in the file.
    pub name: &'static str,
    /// Where it may stand.
    pub at: Context,
    /// How many arguments.
    pub args: Args,
    /// The default as nginx's pages write it; "" when there is none. It goes through [`Directive::set`] where that
    /// writes to a raw configuration, so that page and behaviour cannot differ.
    pub default: &'static str,
    /// One sentence for the reference page.
    pub doc: &'static str,
    /// What the setter does, and to which raw configuration.
    pub set: Setter,
    /// `None` for a directive that ends in `;`.
    pub block: Option<BlockKind>,
    /// Works, accepted, refused.
    pub answer: Answer,
}

impl Directive {
    /// For `..Directive::NONE`.
    pub const NONE: Directive = Directive {
        name: "",
        at: ANY_HTTP,
        args: Args::ONE,
        default: "",
        doc: "",
        set: Setter::NOTHING,
        block: None,
        answer: Answer::Works,
    };
}

/// A raw configuration type: its id, and a maker of its empty value.
pub type RawType = (fn() -> TypeId, fn() -> Box<dyn Any>);

/// A setter and the raw configuration type it writes to. Made by [`set!`](crate::set).
#[derive(Clone, Copy)]
pub struct Setter {
    /// The raw type's id and a maker of its empty value.
    pub raw: Option<RawType>,
    /// Writes the line into the raw value.
    pub call: fn(&mut dyn Any, &mut Line<'_>) -> Result<(), Problem>,
}

impl Setter {
    /// For a directive the loader needs no code for.
    pub const NOTHING: Setter = Setter { raw: None, call: |_, _| Ok(()) };
}

/// `set!(Raw, |raw, line| ...)`: a [`Setter`] that writes to the block's `Raw`.
/// `set!(|line| ...)`: one that needs no raw configuration (it fills the registry).
#[macro_export]
macro_rules! set {
    ($raw:ty, |$r:ident, $line:ident| $body:expr) => {
        $crate::config::Setter {
            raw: Some((
                || std::any::TypeId::of::<$raw>(),
                || Box::<$raw>::default() as Box<dyn std::any::Any>,
            )),
            call: |any, $line| {
                let $r = any.downcast_mut::<$raw>().expect("the loader made the raw this setter names");
                $body
            },
        }
    };
    (|$line:ident| $body:expr) => {
        $crate::config::Setter { raw: None, call: |_, $line| $body }
    };
}

/// `written!(raw => conf: a, b)`: each field that the block wrote takes the place of what held outside, nginx's usual way of
/// inheriting. `conf` begins as a copy of the outer one, so what is not named is inherited too.
#[macro_export]
macro_rules! written {
    ($raw:ident => $conf:ident: $($field:ident),+ $(,)?) => {
        $(if let Some(value) = $raw.$field {
            $conf.$field = value;
        })+
    };
}

/// A raw configuration, what one block wrote, and how it becomes what holds there.
pub trait ModuleConf: Default + 'static {
    /// What holds in a block after inheritance.
    type Merged: Default + Send + Sync + 'static;

    /// What holds here, given what holds outside. Lists replace whole, as in nginx.
    ///
    /// # Errors
    /// What is wrong with the combination, with its place.
    fn merge(self, outer: &Self::Merged, at: &mut Merge<'_>) -> Result<Self::Merged, Problem>;

    /// What holds in a block that wrote nothing of this module. The same value by default; a module whose
    /// directives are not inherited (`return`, `proxy_pass`) overrides it. `at` tells an `if` from a location.
    fn inherit(outer: &Arc<Self::Merged>, _at: &mut Merge<'_>) -> Arc<Self::Merged> {
        outer.clone()
    }
}

/// Where a merge happens.
pub struct Merge<'a> {
    /// The kind of block that is merged.
    pub place: Place,
    /// The block's own index in [`crate::Snapshot::locations`].
    pub location: crate::LocationId,
    /// Groups, formats, zones by name.
    pub registry: &'a mut Registry,
    /// The variables, all bound by now.
    pub variables: &'a mut Variables,
    /// Where relative names are looked up.
    pub prefixes: &'a Prefixes,
    /// The outside: log files are opened when what holds is known, not when a line is read.
    pub world: &'a dyn World,
    /// For warnings.
    pub diagnostics: &'a mut conf::Diagnostics,
}

impl Merge<'_> {
    /// Compiles a text of the program's own, with built-in variables.
    pub fn template(&mut self, text: &'static str) -> Template {
        let template = Template::compile(text.as_bytes(), conf::Span::default(), self.variables);
        self.variables.bind();
        template.expect("a text of the program's own is right")
    }

    /// Opens a log file.
    ///
    /// # Errors
    /// nginx's `open() "x" failed (2: No such file or directory)`.
    pub fn open_log(&self, path: &Path) -> Result<Arc<LogFile>, Problem> {
        self.world.open_log(path).map_err(|error| {
            let text = sys::errno::text(&error);
            Problem::new(format!("open() \"{}\" failed ({text})", path.display())).placeless()
        })
    }
}

/// A module's raw and merged types without their names. Made by [`conf_of`].
#[derive(Clone, Copy)]
pub struct Conf {
    pub(crate) raw: fn() -> TypeId,
    pub(crate) root: fn() -> AnyConf,
    pub(crate) merge: MergeFn,
}

type MergeFn = fn(&mut RawSet, &AnyConf, &mut Merge<'_>) -> Result<AnyConf, Problem>;

/// The erased form of a raw configuration type, for [`Module::conf`].
pub const fn conf_of<R: ModuleConf>() -> Conf {
    Conf {
        raw: TypeId::of::<R>,
        root: || Arc::new(R::Merged::default()),
        merge: |raws, outer, at| {
            let outer = outer
                .clone()
                .downcast::<R::Merged>()
                .expect("a module's merged type is the same in every block");
            match raws.take::<R>() {
                Some(raw) => Ok(Arc::new(raw.merge(&outer, at)?)),
                None => Ok(R::inherit(&outer, at)),
            }
        },
    }
}
