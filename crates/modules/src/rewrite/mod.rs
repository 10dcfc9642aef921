//! nginx's rewrite module: `set`, `if`, `return`, `break`, `rewrite`. Lines run in the order of the file.
//!
//! An `if` is a block of its own: when its condition holds, its lines run and, inside a location, the request goes on
//! in that block. Nothing here is inherited: an inner location starts with no lines.

mod condition;
mod replace;

use std::sync::Arc;

use http::config::{
    ANY_HTTP, Answer, Args, BlockKind, Context, Directive, Install, Line, Merge, Module, ModuleConf, Place,
    Problem, conf_of,
};
use http::message::Body;
use http::variable::{Source, VarId};
use http::{Flow, LocationId, Phase, Request, Template, set};

use condition::Condition;
use replace::Rewrite;

use crate::unused::FLAG_OFF;

const HERE: Context = Context::SERVER.or(Context::LOCATION).or(Context::SERVER_IF).or(Context::LOCATION_IF);

/// nginx's `ngx_http_rewrite_module`.
pub static MODULE: Module = Module {
    name: "rewrite",
    doc: "Changes URIs, returns answers, sets variables, tests conditions.",
    directives: &[
        Directive {
            name: "set",
            at: HERE,
            args: Args::Exactly(2),
            doc: "Gives a variable a value.",
            set: http::set!(Raw, |raw, line| set(raw, line)),
            ..Directive::NONE
        },
        Directive {
            name: "if",
            at: Context::SERVER.or(Context::LOCATION),
            args: Args::AtLeast(1),
            doc: "What holds when a condition does.",
            block: Some(BlockKind::Serves(Context::SERVER_IF.or(Context::LOCATION_IF))),
            set: set!(Raw, |raw, line| {
                let condition = condition::read(line)?;
                raw.codes.push(Code::If(condition, line.opens()));
                Ok(())
            }),
            ..Directive::NONE
        },
        Directive {
            name: "return",
            at: HERE,
            args: Args::Between(1, 2),
            doc: "Answers at once: a code, a code and a text or URL, or a URL (302).",
            set: set!(Raw, |raw, line| answer(raw, line)),
            ..Directive::NONE
        },
        Directive {
            name: "rewrite",
            at: HERE,
            args: Args::Between(2, 3),
            doc: "Replaces the URI when a regular expression matches.",
            set: set!(Raw, |raw, line| {
                let rewrite = replace::read(line)?;
                raw.codes.push(Code::Rewrite(rewrite));
                Ok(())
            }),
            ..Directive::NONE
        },
        Directive {
            name: "break",
            at: HERE,
            args: Args::NONE,
            doc: "Runs no further lines of this module here.",
            set: set!(Raw, |raw, _line| {
                raw.codes.push(Code::Break);
                Ok(())
            }),
            ..Directive::NONE
        },
        Directive {
            doc: "Logging of rewrites.",
            ..FLAG_OFF.line("rewrite_log", ANY_HTTP.or(HERE), Answer::Accepted("rewrites are not logged"))
        },
        Directive {
            doc: "Warnings about variables without a value.",
            ..FLAG_OFF.line(
                "uninitialized_variable_warn",
                ANY_HTTP.or(HERE),
                Answer::Accepted("variables without a value are empty and not logged"),
            )
        },
    ],
    conf: Some(conf_of::<Raw>()),
    install: Some(|conf, install| {
        if let Ok(codes) = conf.clone().downcast::<Codes>() {
            put_in(codes, install);
        }
    }),
    ..Module::NONE
};

/// What a block wrote.
#[derive(Default)]
pub struct Raw {
    codes: Vec<Code>,
}

/// The lines of a block, in order.
#[derive(Default)]
pub struct Codes(Vec<Code>);

enum Code {
    Set(VarId, Template),
    /// `set $args` changes the request itself.
    SetArgs(Template),
    SetLimitRate(Template),
    If(Condition, LocationId),
    Return(u16, Option<Template>),
    Rewrite(Rewrite),
    Break,
}

impl ModuleConf for Raw {
    type Merged = Codes;

    fn merge(self, _outer: &Codes, _at: &mut Merge<'_>) -> Result<Codes, Problem> {
        Ok(Codes(self.codes))
    }

    fn inherit(_outer: &Arc<Codes>, _at: &mut Merge<'_>) -> Arc<Codes> {
        Arc::default()
    }
}

fn put_in(codes: Arc<Codes>, install: &mut Install<'_>) {
    // The lines of an `if` are run by the block around it.
    let phase = match install.place {
        Place::SERVER => Phase::ServerRewrite,
        Place::LOCATION => Phase::Rewrite,
        _ => return,
    };
    if !codes.0.is_empty() {
        install.handler(phase, move |request| match run(&codes, request) {
            Step::Answer(flow) => flow,
            Step::On | Step::Stop => Flow::Next,
        });
    }
}

/// What a line decided.
enum Step {
    On,
    Stop,
    Answer(Flow),
}

fn run(codes: &Codes, request: &mut Request) -> Step {
    for code in &codes.0 {
        match step(code, request) {
            Step::On => {}
            step => return step,
        }
    }
    Step::On
}

fn step(code: &Code, request: &mut Request) -> Step {
    match code {
        Code::Set(id, template) => {
            let value = template.value(request);
            request.values.keep(*id, Some(&value));
            Step::On
        }
        Code::SetArgs(template) => {
            request.args = template.value(request);
            Step::On
        }
        Code::SetLimitRate(template) => {
            let value = template.value(request);
            request.limit_rate = conf::value::size(&value).or(request.limit_rate);
            Step::On
        }
        Code::If(condition, block) => {
            if !condition.holds(request) {
                return Step::On;
            }
            let snapshot = request.snapshot.clone();
            let inside = snapshot.location(*block);
            // A server's `if` only runs its lines: the location is looked for afterwards.
            if request.location != request.server().root {
                request.location = *block;
            }
            match inside.conf::<Codes>() {
                Some(codes) => run(&codes, request),
                None => Step::On,
            }
        }
        Code::Return(status, text) => Step::Answer(returned(*status, text.as_ref(), request)),
        Code::Rewrite(rewrite) => rewrite.run(request),
        Code::Break => {
            request.uri_changed = false;
            Step::Stop
        }
    }
}

fn returned(status: u16, text: Option<&Template>, request: &mut Request) -> Flow {
    // A text may hold `$status`.
    request.response.status = status;
    let text = text.map(|text| text.value(request));
    match (status, text) {
        (301 | 302 | 303 | 307 | 308, text) => {
            request.response.location = Some(text.unwrap_or_default());
            Flow::Status(status)
        }
        (400.., None) => Flow::Status(status),
        (status, text) => {
            request.response.status = status;
            request.response.content_type = Some(http::files::content_type(request));
            request.response.body = match text {
                Some(text) => Body::Bytes(text),
                None => Body::Empty,
            };
            Flow::Respond
        }
    }
}

fn set(raw: &mut Raw, line: &mut Line<'_>) -> Result<(), Problem> {
    let name = line.variable_name(0)?;
    let id = line.define(&name, Source::Slot)?;
    let value = line.template(1)?;
    raw.codes.push(match name.as_str() {
        "args" => Code::SetArgs(value),
        "limit_rate" => Code::SetLimitRate(value),
        _ => Code::Set(id, value),
    });
    Ok(())
}

fn answer(raw: &mut Raw, line: &mut Line<'_>) -> Result<(), Problem> {
    let invalid = |line: &Line<'_>| {
        Problem::new(format!("invalid return code \"{}\"", line.text(0)))
            .at(line.word(0))
            .note("it is a status, a status and a text or URL, or a URL that begins with http://, https:// or $scheme")
    };
    let first = line.text(0);
    let code = match conf::value::number(line.bytes(0)) {
        Some(code) => u16::try_from(code).ok().filter(|code| *code <= 999).ok_or_else(|| invalid(line))?,
        None => {
            let is_url = ["http://", "https://", "$scheme"].iter().any(|start| first.starts_with(start));
            if line.count() != 1 || !is_url {
                return Err(invalid(line));
            }
            let url = line.template(0)?;
            raw.codes.push(Code::Return(302, Some(url)));
            return Ok(());
        }
    };
    let text = if line.count() > 1 { Some(line.template(1)?) } else { None };
    raw.codes.push(Code::Return(code, text));
    Ok(())
}
