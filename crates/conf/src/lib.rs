//! nginx.conf as a language: tokens, blocks, includes, spans, diagnostics.
//!
//! This room reads text into a tree of [`Directive`]s the way nginx's own reader does, and words its complaints as
//! nginx does. It knows no directive by name except `include`, which is text inclusion in every block. Which
//! directives exist, where they may stand and how many arguments they take is for the room above to say; it puts its
//! findings into the same [`Diagnostics`].
#![forbid(unsafe_code)]

mod bytes;
mod diagnostics;
mod files;
mod glob;
mod lexer;
mod nearest;
mod parse;
mod print;
mod render;
mod sources;
pub mod template;
mod tree;
pub mod value;

pub use bytes::Bytes;
pub use diagnostics::{Diagnostic, Diagnostics, Level};
pub use files::{DiskFiles, Files, error_text};
pub use nearest::nearest;
pub use parse::{Options, Parsed, parse};
pub use print::{print, print_bytes};
pub use render::{Style, render};
pub use sources::Sources;
pub use tree::{Directive, FileId, Span, Word};
