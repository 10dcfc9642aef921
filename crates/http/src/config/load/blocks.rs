//! The blocks of a file as they were read, by id, before anything is merged.

use std::collections::HashMap;

use conf::Span;

use crate::LocationId;
use crate::config::{Context, Listen, ListenAddr, Modifier, Place, Problem, RawSet};
use crate::server_name::ServerName;

/// A block as it was read.
pub(super) struct Block {
    pub(super) place: Place,
    pub(super) raws: RawSet,
    pub(super) parent: Option<LocationId>,
    pub(super) children: Vec<LocationId>,
    pub(super) modifier: Modifier,
    pub(super) text: Box<[u8]>,
    pub(super) span: Span,
    pub(super) listens: Vec<Listen>,
    pub(super) names: Vec<ServerName>,
}

/// All blocks that serve, by id.
#[derive(Default)]
pub(crate) struct Blocks {
    pub(super) blocks: Vec<Block>,
    /// What the lines read so far say of an address.
    listens: HashMap<ListenAddr, Said>,
}

/// What only one `listen` line of an address may say.
#[derive(Default)]
struct Said {
    options: bool,
    default: bool,
}

impl Blocks {
    pub(super) fn open(&mut self, place: Place, parent: Option<LocationId>, span: Span) -> LocationId {
        let id = LocationId(u32::try_from(self.blocks.len()).expect("a file has fewer than 2^32 blocks"));
        // An `if` matches what its location matches.
        let (modifier, text) = match parent {
            Some(parent) if place.has(Context::LOCATION_IF.or(Context::LIMIT_EXCEPT)) => {
                (self.get(parent).modifier.clone(), self.get(parent).text.clone())
            }
            _ => (Modifier::Prefix, Box::default()),
        };
        let (listens, names) = (Vec::new(), Vec::new());
        self.blocks.push(Block {
            place,
            raws: RawSet::default(),
            parent,
            children: Vec::new(),
            modifier,
            text,
            span,
            listens,
            names,
        });
        if let Some(parent) = parent {
            self.blocks[parent.0 as usize].children.push(id);
        }
        id
    }

    pub(super) fn get(&self, id: LocationId) -> &Block {
        &self.blocks[id.0 as usize]
    }

    pub(super) fn get_mut(&mut self, id: LocationId) -> &mut Block {
        &mut self.blocks[id.0 as usize]
    }

    pub(crate) fn matches(&self, id: LocationId) -> (&Modifier, &[u8]) {
        let block = self.get(id);
        (&block.modifier, &block.text)
    }

    pub(crate) fn name_location(
        &mut self,
        parent: LocationId,
        id: LocationId,
        modifier: Modifier,
        text: &[u8],
    ) -> Result<(), Problem> {
        let shown = String::from_utf8_lossy(text).into_owned();
        let outer = self.get(parent);
        if outer.place == Context::LOCATION {
            let outer_shown = String::from_utf8_lossy(&outer.text);
            let inside = |what: &str| Problem::new(format!("location \"{shown}\" {what} \"{outer_shown}\""));
            match (&outer.modifier, &modifier) {
                (Modifier::Exact, _) => return Err(inside("cannot be inside the exact location")),
                (Modifier::Named, _) => return Err(inside("cannot be inside the named location")),
                (_, Modifier::Named) => {
                    return Err(Problem::new(format!(
                        "named location \"{shown}\" can be on the server level only"
                    )));
                }
                (_, Modifier::Regex(_)) => {}
                // Also inside a regular expression, whose text is compared as it stands.
                _ if !text.starts_with(&outer.text) => {
                    return Err(inside("is outside location"));
                }
                _ => {}
            }
        }
        // Prefix and final prefix of one text are the same place in nginx's tree; exact ones stand apart. Of two named
        // ones nginx takes the first without a word.
        let same = |a: &Modifier, b: &Modifier| {
            matches!(
                (a, b),
                (Modifier::Exact, Modifier::Exact)
                    | (Modifier::Prefix | Modifier::PrefixFinal, Modifier::Prefix | Modifier::PrefixFinal)
            )
        };
        let twin = self.get(parent).children.iter().any(|sibling| {
            let block = self.get(*sibling);
            *sibling != id
                && block.place == Context::LOCATION
                && same(&block.modifier, &modifier)
                && *block.text == *text
        });
        if twin {
            return Err(Problem::new(format!("duplicate location \"{shown}\"")));
        }
        let block = self.get_mut(id);
        block.modifier = modifier;
        block.text = text.into();
        Ok(())
    }

    pub(crate) fn add_listen(&mut self, server: LocationId, listen: Listen) -> Result<(), Problem> {
        if self.get(server).listens.iter().any(|have| have.addr == listen.addr) {
            return Err(Problem::new(format!("a duplicate listen {}", listen.addr)));
        }
        let said = self.listens.entry(listen.addr.clone()).or_default();
        if said.options && listen.options.is_some() {
            return Err(Problem::new(format!("duplicate listen options for {}", listen.addr)));
        }
        if said.default && listen.default_server {
            return Err(Problem::new(format!("a duplicate default server for {}", listen.addr)));
        }
        said.options |= listen.options.is_some();
        said.default |= listen.default_server;
        self.get_mut(server).listens.push(listen);
        Ok(())
    }

    pub(crate) fn add_server_name(&mut self, server: LocationId, name: ServerName) {
        self.get_mut(server).names.push(name);
    }
}
