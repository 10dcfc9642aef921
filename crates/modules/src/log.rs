//! `access_log` and `log_format`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use http::config::{
    ANY_HTTP, Answer, Args, Context, Directive, Line, Merge, Module, ModuleConf, Problem, conf_of,
};
use http::log::{Escaping, Format, LogProgram, Steps};
use http::{Template, set};

use crate::unused::OPEN_LOG_FILE_CACHE;

const HERE: Context = ANY_HTTP.or(Context::LOCATION_IF).or(Context::LIMIT_EXCEPT);

/// nginx's `combined`.
const COMBINED: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \"$http_user_agent\"";

/// nginx's `ngx_http_log_module`.
pub static MODULE: Module = Module {
    name: "log",
    doc: "A line for each request and each tunnel.",
    directives: &[
        Directive {
            name: "log_format",
            at: Context::HTTP,
            args: Args::AtLeast(2),
            doc: "Names a format: text with variables. `combined` is there from the start.",
            set: set!(|line| log_format(line)),
            ..Directive::NONE
        },
        Directive {
            name: "access_log",
            at: HERE,
            args: Args::AtLeast(1),
            doc: "Where and how requests are logged; `off` for not at all. logs/access.log when nothing is written.",
            set: set!(Raw, |raw, line| access_log(raw, line)),
            ..Directive::NONE
        },
        Directive {
            doc: "A cache of files for paths with variables.",
            ..OPEN_LOG_FILE_CACHE.line("open_log_file_cache", ANY_HTTP, Answer::Sizing)
        },
    ],
    conf: Some(conf_of::<Raw>()),
    install: Some(|conf, install| {
        if let Ok(logs) = conf.clone().downcast::<Logs>() {
            for program in &logs.programs {
                install.access_log(program.clone());
            }
        }
    }),
    ..Module::NONE
};

/// What a block wrote.
#[derive(Default)]
pub struct Raw {
    off: bool,
    lines: Vec<Access>,
}

struct Access {
    path: PathBuf,
    format: Arc<Format>,
    buffer: usize,
    flush_ms: u64,
    condition: Option<Template>,
}

/// The logs of a block.
#[derive(Default, Clone)]
pub struct Logs {
    programs: Vec<Arc<LogProgram>>,
    /// `off`: inherited too, so that no default takes its place.
    off: bool,
}

/// How large a buffer `gzip` is, when nothing says it.
const GZIP_BUFFER_BYTES: usize = 64 * 1024;

/// Buffer, flush time and compression level of files with a buffer: all lines of a file agree on them.
#[derive(Default)]
struct Buffers(BTreeMap<PathBuf, (usize, u64, u64)>);

/// The formats by name.
#[derive(Default)]
struct Formats(Vec<Arc<Format>>);

impl Formats {
    /// The one an `access_log` names, where case does not matter.
    fn named(&self, name: &str) -> Option<Arc<Format>> {
        self.0.iter().find(|format| format.name.eq_ignore_ascii_case(name)).cloned()
    }

    fn find(&self, name: &str) -> Option<Arc<Format>> {
        self.0.iter().find(|format| format.name == name).cloned()
    }
}

impl ModuleConf for Raw {
    type Merged = Logs;

    fn merge(self, outer: &Logs, at: &mut Merge<'_>) -> Result<Logs, Problem> {
        if self.off {
            return Ok(Logs { programs: Vec::new(), off: true });
        }
        if self.lines.is_empty() {
            return inherited(outer, at);
        }
        let mut programs = Vec::new();
        for line in self.lines {
            programs.push(program(line, at)?);
        }
        Ok(Logs { programs, off: false })
    }

    fn inherit(outer: &Arc<Logs>, at: &mut Merge<'_>) -> Arc<Logs> {
        if !outer.programs.is_empty() || outer.off {
            return outer.clone();
        }
        match inherited(outer, at) {
            Ok(logs) => Arc::new(logs),
            Err(problem) => {
                at.diagnostics.error(None, problem.message);
                outer.clone()
            }
        }
    }
}

/// What the outer block logs to; in a server where nobody wrote anything, nginx's default file.
fn inherited(outer: &Logs, at: &mut Merge<'_>) -> Result<Logs, Problem> {
    let serves = !(Context::MAIN.or(Context::HTTP)).has(at.place);
    if !outer.programs.is_empty() || outer.off || !serves {
        return Ok(outer.clone());
    }
    let template = at.template(COMBINED);
    let format = Arc::new(Format { name: "combined".to_owned(), escaping: Escaping::Default, template });
    let path = at.prefixes.logs().join("access.log");
    let line = Access { path, format, buffer: 0, flush_ms: 0, condition: None };
    Ok(Logs { programs: vec![program(line, at)?], off: false })
}

fn program(line: Access, at: &mut Merge<'_>) -> Result<Arc<LogProgram>, Problem> {
    let file = at.open_log(&line.path)?;
    if line.flush_ms > 0 {
        file.will_wait();
    }
    Ok(Arc::new(LogProgram {
        file,
        steps: Steps::compile(&line.format, at.variables),
        format: line.format,
        buffer: line.buffer,
        flush_ms: line.flush_ms,
        condition: line.condition,
    }))
}

fn combined(line: &mut Line<'_>) -> Result<Arc<Format>, Problem> {
    if let Some(format) = line.registry().of::<Formats>().find("combined") {
        return Ok(format);
    }
    let template = line.template_text(COMBINED.as_bytes())?;
    let format = Arc::new(Format { name: "combined".to_owned(), escaping: Escaping::Default, template });
    line.registry().of::<Formats>().0.push(format.clone());
    Ok(format)
}

fn log_format(line: &mut Line<'_>) -> Result<(), Problem> {
    let name = line.text(0);
    if name == "combined" || line.registry().of::<Formats>().find(&name).is_some() {
        return Err(Problem::new(format!("duplicate \"log_format\" name \"{name}\"")).at(line.word(0)));
    }
    let mut escaping = Escaping::Default;
    let mut from = 1;
    if let Some(kind) = line.text(1).strip_prefix("escape=") {
        escaping = match kind {
            "default" => Escaping::Default,
            "json" => Escaping::Json,
            "none" => Escaping::None,
            _ => {
                return Err(Problem::new(format!("unknown log format escaping \"{kind}\""))
                    .at(line.word(1))
                    .note("it must be default, json or none"));
            }
        };
        from = 2;
    }
    // Each argument by itself: `'$host' 'b'` is no variable `hostb`.
    let texts: Result<Vec<Template>, Problem> = (from..line.count()).map(|index| text(line, index)).collect();
    let template = Template::concat(texts?);
    line.registry().of::<Formats>().0.push(Arc::new(Format { name, escaping, template }));
    Ok(())
}

/// One of a format's texts. nginx shows it from the `$` on that no name follows.
fn text(line: &mut Line<'_>, index: usize) -> Result<Template, Problem> {
    line.template(index).map_err(|problem| match &*problem.message {
        "invalid variable name" => {
            let text = line.text(index);
            let nameless = |rest: &&str| {
                let name = rest[1..].strip_prefix('{').unwrap_or(&rest[1..]);
                !name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            };
            let from = text.match_indices('$').map(|(at, _)| &text[at..]).find(nameless).unwrap_or(&text);
            Problem::new(format!("invalid parameter \"{from}\"")).at(line.word(index))
        }
        _ => problem,
    })
}

fn access_log(raw: &mut Raw, line: &mut Line<'_>) -> Result<(), Problem> {
    if line.bytes(0) == b"off" {
        raw.off = true;
        return match line.count() {
            1 => Ok(()),
            _ => Err(line.invalid_parameter(1)),
        };
    }
    let path = line.text(0);
    if path.starts_with("syslog:") {
        return Err(Problem::new("access_log to syslog is not supported: it comes with a later version")
            .at(line.word(0)));
    }
    if path.contains('$') {
        return Err(Problem::new(
            "variables in the path of \"access_log\" are not supported: they come with a later version",
        )
        .at(line.word(0)));
    }
    let format = match line.count() {
        1 => combined(line)?,
        _ => format(line)?,
    };
    let mut access = Access { path: line.path(0), format, buffer: 0, flush_ms: 0, condition: None };
    let mut gzip = 0;
    for index in 2..line.count() {
        parameter(line, index, &mut access, &mut gzip)?;
    }
    if access.flush_ms > 0 && access.buffer == 0 && gzip == 0 {
        return Err(Problem::new(format!("no buffer is defined for access_log \"{path}\"")));
    }
    let buffer = if access.buffer == 0 && gzip > 0 { GZIP_BUFFER_BYTES } else { access.buffer };
    if buffer > 0 {
        let this = (buffer, access.flush_ms, gzip);
        if *line.registry().of::<Buffers>().0.entry(access.path.clone()).or_insert(this) != this {
            let message = format!("access_log \"{path}\" already defined with conflicting parameters");
            return Err(Problem::new(message).at(line.word(0)));
        }
    }
    raw.lines.push(access);
    Ok(())
}

fn format(line: &mut Line<'_>) -> Result<Arc<Format>, Problem> {
    let name = line.text(1);
    if name.eq_ignore_ascii_case("combined") {
        return combined(line);
    }
    let found = line.registry().of::<Formats>().named(&name);
    found.ok_or_else(|| {
        Problem::new(format!("unknown log format \"{name}\""))
            .at(line.word(1))
            .note("its log_format must stand above, in the http block")
    })
}

fn parameter(line: &mut Line<'_>, index: usize, access: &mut Access, gzip: &mut u64) -> Result<(), Problem> {
    let text = line.text(index);
    let (name, value) = text.split_once('=').unwrap_or((&text, ""));
    match name {
        "buffer" => {
            let size = conf::value::size(value.as_bytes()).filter(|size| *size > 0);
            let size = size.and_then(|size| usize::try_from(size).ok());
            access.buffer = size.ok_or_else(|| {
                Problem::new(format!("invalid buffer size \"{value}\"")).at(line.word(index))
            })?;
        }
        "flush" => {
            let time = conf::value::time_ms(value.as_bytes()).filter(|time| *time > 0);
            access.flush_ms = time.ok_or_else(|| {
                Problem::new(format!("invalid flush time \"{value}\"")).at(line.word(index))
            })?;
        }
        "gzip" => {
            let level = if text == "gzip" { Some(1) } else { conf::value::number(value.as_bytes()) };
            *gzip = level.filter(|level| (1..=9).contains(level)).ok_or_else(|| {
                Problem::new(format!("invalid compression level \"{value}\"")).at(line.word(index))
            })?;
            line.warn("\"gzip\" of \"access_log\" is accepted: the log is written as plain text");
        }
        "if" if text.starts_with("if=") => access.condition = Some(line.template_text(value.as_bytes())?),
        _ => return Err(line.invalid_parameter(index)),
    }
    Ok(())
}
