//! Log files, the error log, and access log lines as programs.

mod error_log;
mod file;
mod program;

pub use error_log::{ErrorLog, Level, UpstreamInUse};
pub use file::LogFile;
pub use program::{Ending, Escaping, Format, FrozenLine, LogProgram, escape_default, escape_json};
