//! Log files, the error log, and access log lines as programs.

mod error_log;
mod escape;
mod file;
mod frozen;
mod gather;
mod program;

pub use conf::Level;
pub use error_log::{ErrorLog, UpstreamInUse, write_as_first_thread};
pub use escape::{Escaping, escape_default, escape_json};
pub use file::LogFile;
pub use frozen::{Ending, Frozen};
pub use gather::{end_of_turn, gather};
pub use program::{Format, LogProgram, Steps};
