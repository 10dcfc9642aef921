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
    let level = level(line)?;
    let path = if text == "stderr" { PathBuf::from("stderr") } else { line.path(0) };
    targets.push(Target { path, level });
    Ok(())
}

fn level(line: &Line<'_>) -> Result<Level, Problem> {
    let mut found = None;
    for index in 1..line.count() {
        let text = line.text(index);
        let level = if text.starts_with("debug_") { Some(Level::Debug) } else { Level::of(&text) };
        let level = level.ok_or_else(|| {
            Problem::new(format!("invalid log level \"{text}\""))
                .at(line.word(index))
                .note("it must be one of: debug, info, notice, warn, error, crit, alert, emerg")
        })?;
        if found.replace(level).is_some() && level != Level::Debug {
            return Err(Problem::new(format!("duplicate log level \"{text}\"")).at(line.word(index)));
        }
    }
    Ok(found.unwrap_or(Level::Error))
}

/// Opens the files of a block.
pub(super) fn open(targets: Vec<Target>, at: &mut Merge<'_>) -> Result<Arc<ErrorLog>, Problem> {
    let mut sinks = Vec::new();
    for target in targets {
        sinks.push((target.level, at.open_log(&target.path)?));
    }
    Ok(Arc::new(ErrorLog::new(sinks)))
}
