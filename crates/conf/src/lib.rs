//! nginx.conf as a language: tokens, blocks, includes, spans, diagnostics.
//!
//! This room reads text into a tree of [`Directive`]s the way nginx's own reader does, and words its complaints as
//! nginx does. It knows no directive by name except `include`, which is text inclusion in every block. Which
//! directives exist, where they may stand and how many arguments they take is for the room above to say; it puts its
//! findings into the same [`Diagnostics`].
//!
//! ```
//! use std::path::Path;
//! use tidegate_conf as conf;
//!
//! let mut diagnostics = conf::Diagnostics::new();
//! let main = Path::new("/nowhere/nginx.conf");
//! let options = conf::Options { main, command_line: Some(b"user \"www data\"; pid;"), files: &conf::DiskFiles };
//! let parsed = conf::parse(&options, &mut diagnostics);
//! assert_eq!(parsed.directives[0].args[0].text(), "www data");
//!
//! let pid = &parsed.directives[1];
//! diagnostics.error(pid.name.span, "invalid number of arguments in \"pid\" directive").note("name a file");
//! let text = conf::render(&diagnostics, &parsed.sources, conf::Style::Plain);
//! assert!(text.starts_with("nginx: [emerg] invalid number of arguments in \"pid\" directive in command line\n"));
//! assert!(text.ends_with("open() \"/nowhere/nginx.conf\" failed (2: No such file or directory)\n"));
//! ```
#![forbid(unsafe_code)]

mod bytes;
mod diagnostics;
mod files;
mod glob;
mod lexer;
mod nearest;
mod parse;
mod print;
mod program;
mod render;
mod sources;
pub mod template;
mod tree;
pub mod value;

pub use bytes::Bytes;
pub use diagnostics::{Diagnostic, Diagnostics, Level};
pub use files::{DiskFiles, Files};
pub use nearest::nearest;
pub use parse::{Options, Parsed, parse};
pub use print::{print, print_bytes};
pub use render::{Style, render};
pub use sources::Sources;
pub use tree::{Directive, FileId, Span, Word};
