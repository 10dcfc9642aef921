//! Which location a URI belongs to: exact, longest prefix, regular expressions in the order of the file.

use std::collections::HashMap;

use crate::config::{Modifier, Snapshot};
use crate::hash::BuildQuickHasher;
use crate::message::{Captures, Pattern};
use crate::variable::Variables;
use crate::{LocationId, ServerId};

/// The locations directly inside a server or a location.
#[derive(Default)]
pub(crate) struct LocationTable {
    exact: HashMap<Box<[u8]>, LocationId, BuildQuickHasher>,
    /// Sorted by text, so that the longest prefix is found going back from the insertion point.
    prefixes: Vec<Prefix>,
    regexes: Vec<(Pattern, LocationId)>,
}

struct Prefix {
    text: Box<[u8]>,
    id: LocationId,
    last: bool,
    /// The nearest shorter entry that is a prefix of this one.
    shorter: Option<usize>,
}

impl LocationTable {
    pub(crate) fn add(
        &mut self,
        id: LocationId,
        modifier: &Modifier,
        text: &[u8],
        variables: &Variables,
    ) -> Result<(), String> {
        match modifier {
            Modifier::Exact => {
                self.exact.insert(text.into(), id);
            }
            Modifier::Prefix | Modifier::PrefixFinal => self.prefixes.push(Prefix {
                text: text.into(),
                id,
                last: *modifier == Modifier::PrefixFinal,
                shorter: None,
            }),
            Modifier::Regex(caseless) => {
                let mut pattern = Pattern::new(&String::from_utf8_lossy(text), *caseless)?;
                pattern.bind(variables);
                self.regexes.push((pattern, id));
            }
            Modifier::Named => {}
        }
        Ok(())
    }

    pub(crate) fn finish(&mut self) {
        self.prefixes.sort_by(|a, b| a.text.cmp(&b.text));
        let mut open: Vec<usize> = Vec::new();
        for at in 0..self.prefixes.len() {
            while let Some(&top) = open.last() {
                if self.prefixes[at].text.starts_with(&self.prefixes[top].text) {
                    break;
                }
                open.pop();
            }
            self.prefixes[at].shorter = open.last().copied();
            open.push(at);
        }
    }

    fn longest(&self, uri: &[u8]) -> Option<&Prefix> {
        let mut at = self.prefixes.partition_point(|prefix| &*prefix.text <= uri).checked_sub(1);
        while let Some(index) = at {
            let prefix = &self.prefixes[index];
            if uri.starts_with(&prefix.text) {
                return Some(prefix);
            }
            at = prefix.shorter;
        }
        None
    }

    /// The location whose text is the URI and one slash: where nginx sends a redirect.
    fn with_slash(&self, uri: &[u8]) -> Option<LocationId> {
        let matches = |prefix: &&Prefix| prefix.text.strip_suffix(b"/") == Some(uri);
        self.prefixes.iter().find(matches).map(|prefix| prefix.id)
    }
}

/// What a URI led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// A location, or the server's own block when none fits.
    Location(LocationId),
    /// The location's text is the URI plus a slash: redirect there if that location is proxied.
    Slash(LocationId),
}

/// Looks a normalised URI up.
pub(crate) fn find(snapshot: &Snapshot, server: ServerId, uri: &[u8], captures: &mut Captures) -> Found {
    let server = snapshot.server(server);
    match find_in(snapshot, &server.locations, uri, captures) {
        Step::Done(found) => found,
        Step::Best(id) => Found::Location(id.unwrap_or(server.root)),
    }
}

enum Step {
    Done(Found),
    Best(Option<LocationId>),
}

/// nginx's order: static tree down to the innermost nested prefix, then regular expressions from the inside out.
fn find_in(snapshot: &Snapshot, table: &LocationTable, uri: &[u8], captures: &mut Captures) -> Step {
    if let Some(id) = table.exact.get(uri) {
        return Step::Done(Found::Location(*id));
    }
    let prefix = table.longest(uri);
    if prefix.is_none_or(|prefix| *prefix.text != *uri)
        && let Some(id) = table.with_slash(uri)
        && snapshot.location(id).auto_redirect
    {
        return Step::Done(Found::Slash(id));
    }
    let mut best = prefix.map(|prefix| prefix.id);
    if let Some(prefix) = prefix {
        match find_in(snapshot, &snapshot.location(prefix.id).inner, uri, captures) {
            Step::Done(found) => return Step::Done(found),
            Step::Best(Some(inner)) => best = Some(inner),
            Step::Best(None) => {}
        }
        let last = best.is_some_and(|id| snapshot.location(id).modifier == Modifier::PrefixFinal);
        if last || prefix.last {
            return Step::Best(best);
        }
    }
    for (pattern, id) in &table.regexes {
        if pattern.matches(uri, captures) {
            return match find_in(snapshot, &snapshot.location(*id).inner, uri, captures) {
                Step::Done(found) => Step::Done(found),
                Step::Best(inner) => Step::Done(Found::Location(inner.unwrap_or(*id))),
            };
        }
    }
    Step::Best(best)
}
