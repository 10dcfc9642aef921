//! `map`: a variable whose value is looked up by that of others.

use std::collections::HashMap;

use conf::Directive as Entry;
use http::config::{Answer, Args, BlockKind, Context, Directive, Line, Module, Problem};
use http::message::Pattern;
use http::variable::{Compute, Source};
use http::{Request, Template, set};

use crate::unused::NUMBER;

/// nginx's `ngx_http_map_module`.
pub static MODULE: Module = Module {
    name: "map",
    doc: "Variables that depend on others.",
    directives: &[
        Directive {
            name: "map",
            at: Context::HTTP,
            args: Args::Exactly(2),
            doc: "Defines a variable by a table of values of others.",
            block: Some(BlockKind::Lines),
            set: set!(|line| map(line)),
            ..Directive::NONE
        },
        NUMBER.line("map_hash_max_size", Context::HTTP, Answer::Sizing),
        NUMBER.line("map_hash_bucket_size", Context::HTTP, Answer::Sizing),
    ],
    ..Module::NONE
};

/// A compiled map. Exact texts win, then with `hostnames` the longest wildcard, then the first regular expression.
#[derive(Default)]
struct Map {
    subject: Template,
    default: Template,
    exact: HashMap<Box<[u8]>, Template>,
    /// `*.example.com` by `.example.com`
    suffixes: HashMap<Box<[u8]>, Template>,
    /// `www.example.*` by `www.example.`
    prefixes: HashMap<Box<[u8]>, Template>,
    patterns: Vec<(Pattern, Template)>,
    hostnames: bool,
    volatile: bool,
}

impl Compute for Map {
    fn value(&self, request: &mut Request, out: &mut Vec<u8>) -> bool {
        let mut subject = self.subject.value(request);
        if self.hostnames {
            subject.pop_if(|byte| *byte == b'.');
        }
        self.find(&subject, request).render(request, out);
        true
    }

    fn cached(&self) -> bool {
        !self.volatile
    }
}

impl Map {
    fn find(&self, subject: &[u8], request: &mut Request) -> &Template {
        let lower = subject.to_ascii_lowercase();
        if let Some(found) = self.exact.get(lower.as_slice()) {
            return found;
        }
        if !self.suffixes.is_empty() {
            let dots = (0..lower.len()).filter(|at| lower[*at] == b'.');
            if let Some(found) = dots.filter_map(|at| self.suffixes.get(&lower[at..])).next() {
                return found;
            }
        }
        if !self.prefixes.is_empty() {
            let dots = (0..lower.len()).rev().filter(|at| lower[*at] == b'.');
            if let Some(found) = dots.filter_map(|at| self.prefixes.get(&lower[..=at])).next() {
                return found;
            }
        }
        let found = self.patterns.iter().find(|(pattern, _)| pattern.matches(subject, &mut request.captures));
        found.map_or(&self.default, |(_, value)| value)
    }
}

fn map(line: &mut Line<'_>) -> Result<(), Problem> {
    let mut map = Map { subject: line.template(0)?, ..Map::default() };
    let name = line.variable_name(1)?;
    let entries = line.block().to_vec();
    map.hostnames = entries.iter().any(|entry| entry.args.is_empty() && &*entry.name.bytes == b"hostnames");
    map.volatile = entries.iter().any(|entry| entry.args.is_empty() && &*entry.name.bytes == b"volatile");
    let mut has_default = false;
    for entry in &entries {
        match (&*entry.name.bytes, entry.args.as_slice()) {
            (b"hostnames" | b"volatile", []) => {}
            (b"include", _) => return Err(unread_include(entry)),
            (_, [value]) => {
                let value = line.template_of(value)?;
                add(&mut map, line, entry, value, &mut has_default)?;
            }
            _ => {
                return Err(Problem::new("invalid number of the map parameters").at(&entry.name));
            }
        }
    }
    line.define(&name, Source::Computed(std::sync::Arc::new(map)))?;
    Ok(())
}

/// The reader replaces includes by what they hold; one that is still here had no file name.
fn unread_include(entry: &Entry) -> Problem {
    Problem::new("invalid number of arguments in \"include\" directive").at(&entry.name)
}

fn add(
    map: &mut Map,
    line: &mut Line<'_>,
    entry: &Entry,
    value: Template,
    has_default: &mut bool,
) -> Result<(), Problem> {
    let key = &*entry.name.bytes;
    let conflict =
        || Problem::new(format!("conflicting parameter \"{}\"", entry.name.text())).at(&entry.name);
    if key == b"default" {
        if std::mem::replace(has_default, true) {
            return Err(Problem::new("duplicate default map parameter").at(&entry.name));
        }
        map.default = value;
        return Ok(());
    }
    if let [b'~', pattern @ ..] = key {
        let (pattern, caseless) = match pattern {
            [b'*', pattern @ ..] => (pattern, true),
            pattern => (pattern, false),
        };
        let pattern = line.pattern(pattern, caseless).map_err(|problem| problem.at(&entry.name))?;
        map.patterns.push((pattern, value));
        return Ok(());
    }
    // `\default` is the word itself.
    let key = match key {
        [b'\\', rest @ ..] => rest,
        key => key,
    };
    let lower = key.to_ascii_lowercase();
    let fresh = match lower.as_slice() {
        [b'*', suffix @ ..] if map.hostnames && suffix.first() == Some(&b'.') => {
            map.suffixes.insert(suffix.into(), value).is_none()
        }
        [b'.', name @ ..] if map.hostnames => {
            let suffix = map.suffixes.insert(lower.as_slice().into(), value.clone()).is_none();
            map.exact.insert(name.into(), value).is_none() && suffix
        }
        [prefix @ .., b'*'] if map.hostnames && prefix.last() == Some(&b'.') => {
            map.prefixes.insert(prefix.into(), value).is_none()
        }
        _ => map.exact.insert(lower.as_slice().into(), value).is_none(),
    };
    if fresh { Ok(()) } else { Err(conflict()) }
}
