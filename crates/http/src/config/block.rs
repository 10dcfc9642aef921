//! Blocks while the file is read: what stood in them, before anything is merged.

use std::any::{Any, TypeId};

use crate::config::{Context, Line, Problem};

/// What a directive with braces does with them.
#[derive(Clone, Copy)]
pub enum BlockKind {
    /// The lines inside are not directives: the setter reads [`Line::block`] itself (`map`, `types`).
    Lines,
    /// The lines inside are directives of this place, and the block can serve requests: `http`, `server`,
    /// `location`, `if`, `limit_except`. The setter runs before the lines inside are read; the block
    /// is [`Line::opens`].
    Serves(Context),
    /// The lines inside are directives of this place; when the block ends, the function turns what they wrote
    /// into something in the registry (`upstream`, `events`).
    Collects(Context, fn(&mut RawSet, &mut Line<'_>) -> Result<(), Problem>),
    /// Nothing inside is looked at (a block that is refused or accepted as a whole).
    Skipped,
}

/// How a location's text is matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Modifier {
    /// No modifier: the longest prefix wins, then regular expressions are tried.
    Prefix,
    /// `^~`: the longest prefix wins at once.
    PrefixFinal,
    /// `=`
    Exact,
    /// `~` (true: `~*`, without case)
    Regex(bool),
    /// `@name`
    Named,
}

/// The raw configurations of one block, by type.
#[derive(Default)]
pub struct RawSet {
    raws: Vec<(TypeId, Box<dyn Any>)>,
}

impl RawSet {
    /// The raw of that type, made empty when it is not there yet.
    pub(crate) fn entry(&mut self, id: TypeId, make: fn() -> Box<dyn Any>) -> &mut dyn Any {
        let at = match self.raws.iter().position(|(have, _)| *have == id) {
            Some(at) => at,
            None => {
                self.raws.push((id, make()));
                self.raws.len() - 1
            }
        };
        self.raws[at].1.as_mut()
    }

    /// Takes the raw of type `R` out, if any line wrote to it.
    pub fn take<R: 'static>(&mut self) -> Option<R> {
        let at = self.raws.iter().position(|(have, _)| *have == TypeId::of::<R>())?;
        let (_, raw) = self.raws.swap_remove(at);
        Some(*raw.downcast::<R>().expect("raws are kept under their own type"))
    }

    /// Reads the raw of type `R`, if any line wrote to it.
    pub fn peek<R: 'static>(&self) -> Option<&R> {
        self.raws.iter().find(|(have, _)| *have == TypeId::of::<R>()).and_then(|(_, raw)| raw.downcast_ref())
    }
}
