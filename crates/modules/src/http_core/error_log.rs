//! `error_log`: read where it stands, opened once it is known to hold.

use std::path::PathBuf;
use std::sync::Arc;

use http::config::{Line, Merge, Problem};
use http::log::{ErrorLog, Level};

/// One line.
pub(super) struct Target {
    path: PathBuf,
    level: Level,
}

/// The setter.
pub(super) fn error_log(targets: &mut Vec<Target>, line: &mut Line<'_>) -> Result<(), Problem> {
    let text = line.text(0);
    if text.starts_with("syslog:") || text.starts_with("memory:") {
        let kind = &text[..6];
        return Err(Problem::new(format!(
            "error_log to {kind} is not supported: it comes with a later version"
        ))
        .at(line.word(0)));
    }
    let level = match line.count() {
        1 => Level::Error,
        _ => level(line)?,
    };
    let path = if text == "stderr" { PathBuf::from("stderr") } else { line.path(0) };
    targets.push(Target { path, level });
    Ok(())
}

fn level(line: &Line<'_>) -> Result<Level, Problem> {
    let text = line.text(1);
    if text.starts_with("debug_") {
        return Ok(Level::Debug);
    }
    Level::of(&text).ok_or_else(|| {
        Problem::new(format!("invalid log level \"{text}\""))
            .at(line.word(1))
            .note("it must be one of: debug, info, notice, warn, error, crit, alert, emerg")
    })
}

/// Opens the files of a block.
pub(super) fn open(targets: Vec<Target>, at: &mut Merge<'_>) -> Result<Arc<ErrorLog>, Problem> {
    let mut sinks = Vec::new();
    for target in targets {
        sinks.push((target.level, at.open_log(&target.path)?));
    }
    Ok(Arc::new(ErrorLog::new(sinks)))
}
