//! Variables: the table of a configuration, and how a request evaluates one.
//!
//! A variable is an id into [`Variables`]; its value is written to a buffer, so most need no allocation. What nginx
//! caches per request (`map`, `set`, `$request_id`) is kept in the request's [`Values`].

use std::collections::HashMap;
use std::sync::Arc;

use conf::Span;

use crate::message::Request;

/// A variable of one configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct VarId(u32);

/// Writes the value; false when there is none (`-` in a log, empty elsewhere). The text is the rest of the name of a
/// prefix variable (`host` in `$http_host`), else empty.
pub type Getter = fn(&mut Request, &str, &mut Vec<u8>) -> bool;

/// A built-in variable, or a family of them by prefix.
pub struct Variable {
    /// The name without `$`; of a family the prefix, with its `_`.
    pub name: &'static str,
    /// Whether it is a family: `$http_`, `$arg_`.
    pub family: bool,
    /// One sentence for the reference page.
    pub doc: &'static str,
    /// Its value.
    pub value: Getter,
    /// Whether `set` and `map` may take the name over.
    pub changeable: bool,
    /// No value of it holds a byte that a log escapes.
    pub clean: bool,
    /// Known only when a tunnel ends; the log line of a tunnel asks for it then.
    pub late: Option<Late>,
}

impl Variable {
    /// For `..Variable::NONE`.
    pub const NONE: Variable = Variable {
        name: "",
        family: false,
        doc: "",
        value: |_, _, _| false,
        changeable: false,
        clean: false,
        late: None,
    };
}

/// Values a tunnel's log line learns at its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "each is the variable of that name")]
pub enum Late {
    BytesSent,
    BodyBytesSent,
    RequestLength,
    RequestTime,
    ConnectionTime,
    Msec,
    TimeLocal,
    TimeIso8601,
    UpstreamBytesReceived,
    UpstreamBytesSent,
    UpstreamResponseLength,
    UpstreamResponseTime,
    RequestCompletion,
}

/// A variable a module computes from configuration: `map`, `geo`, `split_clients`.
pub trait Compute: Send + Sync {
    /// Writes the value; false when there is none.
    fn value(&self, request: &mut Request, out: &mut Vec<u8>) -> bool;
    /// Whether a request keeps the first value it saw (`volatile` does not).
    fn cached(&self) -> bool {
        true
    }
}

/// Where a variable's value comes from.
#[derive(Clone)]
pub enum Source {
    /// A built-in; the text is the rest of a family's name.
    Builtin(&'static Variable, Box<str>),
    /// A module's.
    Computed(Arc<dyn Compute>),
    /// Written by `set` and the like; empty until then.
    Slot,
}

struct Entry {
    name: Box<str>,
    source: Option<Source>,
    used_at: Span,
}

/// All variables of a configuration.
#[derive(Default)]
pub struct Variables {
    entries: Vec<Entry>,
    by_name: HashMap<Box<str>, VarId>,
    builtins: HashMap<&'static str, &'static Variable>,
    families: Vec<&'static Variable>,
}

impl Variables {
    /// A table that knows the built-ins of these modules.
    pub fn new(modules: &[&'static crate::config::Module]) -> Variables {
        let mut table = Variables::default();
        for variable in modules.iter().flat_map(|module| module.variables) {
            if variable.family {
                table.families.push(variable);
            } else {
                table.builtins.insert(variable.name, variable);
            }
        }
        // The longest prefix first: $upstream_http_ before $upstream_.
        table.families.sort_by_key(|family| std::cmp::Reverse(family.name.len()));
        table
    }

    /// The id of a name that is read at `span`. Whether it exists is known when the whole file was read.
    pub fn intern(&mut self, name: &str, span: Span) -> VarId {
        let name = name.to_ascii_lowercase();
        if let Some(&id) = self.by_name.get(name.as_str()) {
            return id;
        }
        let id = VarId(u32::try_from(self.entries.len()).expect("a file has fewer than 2^32 variables"));
        self.by_name.insert(name.as_str().into(), id);
        self.entries.push(Entry { name: name.into(), source: None, used_at: span });
        id
    }

    /// Defines a variable; the last definition wins, as on nginx.
    ///
    /// # Errors
    /// nginx's `the duplicate "x" variable` for a built-in that may not change.
    pub fn define(&mut self, name: &str, source: Source) -> Result<VarId, String> {
        let name = name.to_ascii_lowercase();
        if let Some(builtin) = self.builtin(&name)
            && !builtin.0.changeable
            && !builtin.0.family
        {
            return Err(format!("the duplicate \"{name}\" variable"));
        }
        // `set` of `$args` or `$limit_rate` starts from the built-in value.
        let source = match (source, self.builtin(&name)) {
            (Source::Slot, Some((builtin, rest))) if !builtin.family => Source::Builtin(builtin, rest),
            (source, _) => source,
        };
        let id = self.intern(&name, Span::default());
        let entry = &mut self.entries[id.0 as usize];
        // `set` of a variable that a map defines writes over the map's value, for that request.
        if !(matches!(source, Source::Slot) && entry.source.is_some()) {
            entry.source = Some(source);
        }
        Ok(id)
    }

    fn builtin(&self, name: &str) -> Option<(&'static Variable, Box<str>)> {
        if let Some(variable) = self.builtins.get(name) {
            return Some((variable, "".into()));
        }
        let family = self.families.iter().find(|family| name.starts_with(family.name))?;
        Some((family, name[family.name.len()..].into()))
    }

    /// Binds every name that is read; returns those nobody defines, with the place of their first use.
    pub fn bind(&mut self) -> Vec<(String, Span)> {
        let mut unknown = Vec::new();
        for index in 0..self.entries.len() {
            if self.entries[index].source.is_some() {
                continue;
            }
            let name = self.entries[index].name.clone();
            match self.builtin(&name) {
                Some((variable, rest)) => self.entries[index].source = Some(Source::Builtin(variable, rest)),
                None => unknown.push((name.into(), self.entries[index].used_at)),
            }
        }
        unknown
    }

    /// The names a typo may have meant.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let defined = self.entries.iter().filter(|entry| entry.source.is_some()).map(|entry| &*entry.name);
        self.builtins.keys().copied().chain(defined)
    }

    /// Where the value comes from.
    pub fn source(&self, id: VarId) -> Option<&Source> {
        self.entries[id.0 as usize].source.as_ref()
    }

    /// The name.
    pub fn name(&self, id: VarId) -> &str {
        &self.entries[id.0 as usize].name
    }

    /// The id of a name, if the configuration uses it.
    pub fn find(&self, name: &str) -> Option<VarId> {
        self.by_name.get(name).copied()
    }
}

/// Values a request keeps: what `set` wrote and what was computed once.
#[derive(Default)]
pub struct Values {
    kept: Vec<(VarId, Option<Box<[u8]>>)>,
}

impl Values {
    fn find(&self, id: VarId) -> Option<&Option<Box<[u8]>>> {
        self.kept.iter().find(|(have, _)| *have == id).map(|(_, value)| value)
    }

    /// Keeps a value; `None` is "not found".
    pub fn keep(&mut self, id: VarId, value: Option<&[u8]>) {
        let value = value.map(Box::from);
        match self.kept.iter_mut().find(|(have, _)| *have == id) {
            Some((_, old)) => *old = value,
            None => self.kept.push((id, value)),
        }
    }

    /// Forgets all, for the next request on a connection.
    pub fn clear(&mut self) {
        self.kept.clear();
    }
}

/// Writes the value of a variable to `out`; false when it has none.
pub fn evaluate(request: &mut Request, id: VarId, out: &mut Vec<u8>) -> bool {
    if let Some(kept) = request.values.find(id) {
        return match kept {
            Some(value) => {
                out.extend_from_slice(value);
                true
            }
            None => false,
        };
    }
    let snapshot = request.snapshot.clone();
    match snapshot.variables.source(id) {
        Some(Source::Builtin(variable, rest)) => (variable.value)(request, rest, out),
        Some(Source::Computed(compute)) => {
            let start = out.len();
            let found = compute.value(request, out);
            if compute.cached() {
                request.values.keep(id, found.then(|| &out[start..]));
            }
            found
        }
        Some(Source::Slot) => {
            out.extend_from_slice(request.captures.named(id).unwrap_or_default());
            true
        }
        None => true,
    }
}
