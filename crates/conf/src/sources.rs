//! [`Sources`]: every text that was read, in load order.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::tree::{FileId, Span};

/// The texts a configuration was read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    list: Vec<Source>,
    by_path: HashMap<OsString, FileId>,
}

#[derive(Clone, Debug)]
struct Source {
    /// `None` for the command line.
    path: Option<PathBuf>,
    text: Arc<Vec<u8>>,
    /// The first `include` that led here.
    included_at: Option<Span>,
}

impl Sources {
    /// Path of a file as nginx would print it; empty for the command line.
    pub fn path(&self, file: FileId) -> &Path {
        self.source(file).and_then(|source| source.path.as_deref()).unwrap_or(Path::new(""))
    }

    /// The bytes of a file; empty for an unknown id.
    pub fn text(&self, file: FileId) -> &[u8] {
        self.source(file).map_or(&[], |source| &source.text)
    }

    /// Whether this text is the `-g` argument rather than a file.
    pub fn is_command_line(&self, file: FileId) -> bool {
        self.source(file).is_some_and(|source| source.path.is_none())
    }

    /// The `include` that first led to this file.
    pub fn included_at(&self, file: FileId) -> Option<Span> {
        self.source(file)?.included_at
    }

    /// Every file once, in the order of loading (as `-T` lists them). The command line is not among them.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.list.iter().filter_map(|source| Some((source.path.as_deref()?, source.text.as_slice())))
    }

    /// The line, from 1, on which the first byte of `span` really stands.
    pub fn line_of(&self, span: Span) -> u32 {
        let text = self.text(span.file);
        let before = &text[..text.len().min(span.start as usize)];
        1 + memchr::memchr_iter(b'\n', before).count() as u32
    }

    pub(crate) fn find(&self, path: &Path) -> Option<FileId> {
        self.by_path.get(path.as_os_str()).copied()
    }

    /// Adds a text; `None` when there are as many as a [`FileId`] can number.
    pub(crate) fn add(
        &mut self,
        path: Option<&Path>,
        text: Vec<u8>,
        included_at: Option<Span>,
    ) -> Option<FileId> {
        let file = FileId(u16::try_from(self.list.len()).ok()?);
        if let Some(path) = path {
            self.by_path.insert(path.as_os_str().to_owned(), file);
        }
        self.list.push(Source { path: path.map(Path::to_owned), text: Arc::new(text), included_at });
        Some(file)
    }

    pub(crate) fn shared_text(&self, file: FileId) -> Arc<Vec<u8>> {
        self.source(file).map(|source| source.text.clone()).unwrap_or_default()
    }

    fn source(&self, file: FileId) -> Option<&Source> {
        self.list.get(usize::from(file.0))
    }
}
