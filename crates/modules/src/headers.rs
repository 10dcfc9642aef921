//! `add_header`, `add_trailer`, `expires`: fields of our own on responses.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use http::config::{
    ANY_HTTP, Args, Context, Directive, Install, Line, Merge, Module, ModuleConf, Problem, conf_of,
};
use http::output::{Chunk, Out};
use http::{Request, Template, clock, set};
use wire::http1::{field, one_line};

const HERE: Context = ANY_HTTP.or(Context::LOCATION_IF);

/// nginx's `ngx_http_headers_module`.
pub static MODULE: Module = Module {
    name: "headers",
    doc: "Fields of our own on responses.",
    directives: &[
        Directive {
            name: "add_header",
            at: HERE,
            args: Args::Between(2, 3),
            doc: "Adds a field to answers with a good status, with `always` to all.",
            set: set!(Raw, |raw, line| {
                let header = header(line)?;
                raw.headers.push(header);
                Ok(())
            }),
            ..Directive::NONE
        },
        Directive {
            name: "expires",
            at: HERE,
            args: Args::Between(1, 2),
            default: "off",
            doc: "Sends `Expires` and `Cache-Control`.",
            set: set!(Raw, |raw, line| {
                let expires = expires(line)?;
                line.once(&mut raw.expires, expires)
            }),
            ..Directive::NONE
        },
        Directive {
            name: "add_header_inherit",
            at: HERE,
            default: "on",
            doc: "Whether fields of the outer block are kept beside one's own.",
            set: set!(Raw, |raw, line| {
                let inherit =
                    [Inherit::On, Inherit::Off, Inherit::Merge][line.one_of(0, &["on", "off", "merge"])?];
                line.once(&mut raw.inherit, inherit)
            }),
            ..Directive::NONE
        },
        Directive {
            name: "add_trailer",
            at: HERE,
            args: Args::Between(2, 3),
            doc: "Adds a field behind the body of chunked answers, as add_header adds one before it.",
            set: set!(Raw, |raw, line| {
                let trailer = header(line)?;
                raw.trailers.push(trailer);
                Ok(())
            }),
            ..Directive::NONE
        },
        Directive {
            name: "add_trailer_inherit",
            at: HERE,
            default: "on",
            doc: "The same as add_header_inherit for trailer fields.",
            set: set!(Raw, |raw, line| {
                let inherit =
                    [Inherit::On, Inherit::Off, Inherit::Merge][line.one_of(0, &["on", "off", "merge"])?];
                line.once(&mut raw.inherit_trailers, inherit)
            }),
            ..Directive::NONE
        },
    ],
    conf: Some(conf_of::<Raw>()),
    install: Some(|conf, install| {
        if let Ok(headers) = conf.clone().downcast::<Headers>() {
            put_in(&headers, install);
        }
    }),
    ..Module::NONE
};

/// What a block wrote.
#[derive(Default)]
pub struct Raw {
    headers: Vec<Header>,
    trailers: Vec<Header>,
    expires: Option<Expires>,
    inherit: Option<Inherit>,
    inherit_trailers: Option<Inherit>,
}

#[derive(Clone)]
struct Header {
    name: Box<[u8]>,
    value: Template,
    always: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Inherit {
    #[default]
    On,
    Off,
    Merge,
}

/// Seconds, from now or from the file's time.
#[derive(Clone, PartialEq, Default)]
enum Expires {
    #[default]
    Off,
    Epoch,
    Max,
    Access(i64),
    Modified(i64),
    /// `@15h30m`: at that time of the day.
    Daily(i64),
    /// Any of these by a variable's value; true: from the file's time.
    Varies(Template, bool),
}

/// What holds in a block.
#[derive(Default)]
pub struct Headers {
    headers: Arc<[Header]>,
    trailers: Arc<[Header]>,
    expires: Expires,
    inherit: Inherit,
    inherit_trailers: Inherit,
}

impl ModuleConf for Raw {
    type Merged = Headers;

    fn merge(self, outer: &Headers, _at: &mut Merge<'_>) -> Result<Headers, Problem> {
        let inherit = self.inherit.unwrap_or(outer.inherit);
        let inherit_trailers = self.inherit_trailers.unwrap_or(outer.inherit_trailers);
        Ok(Headers {
            headers: inherited(inherit, &outer.headers, self.headers),
            trailers: inherited(inherit_trailers, &outer.trailers, self.trailers),
            expires: self.expires.unwrap_or_else(|| outer.expires.clone()),
            inherit,
            inherit_trailers,
        })
    }

    fn inherit(outer: &Arc<Headers>, _at: &mut Merge<'_>) -> Arc<Headers> {
        if outer.inherit != Inherit::Off && outer.inherit_trailers != Inherit::Off {
            return outer.clone();
        }
        Arc::new(Headers {
            headers: inherited(outer.inherit, &outer.headers, Vec::new()),
            trailers: inherited(outer.inherit_trailers, &outer.trailers, Vec::new()),
            expires: outer.expires.clone(),
            inherit: outer.inherit,
            inherit_trailers: outer.inherit_trailers,
        })
    }
}

/// What holds in a block that wrote `own`, inside one where `outer` holds.
fn inherited(inherit: Inherit, outer: &Arc<[Header]>, own: Vec<Header>) -> Arc<[Header]> {
    match inherit {
        Inherit::Merge if !own.is_empty() => outer.iter().cloned().chain(own).collect(),
        Inherit::On | Inherit::Merge if own.is_empty() => outer.clone(),
        _ => own.into(),
    }
}

fn put_in(headers: &Headers, install: &mut Install<'_>) {
    if !headers.headers.is_empty() || !headers.trailers.is_empty() || headers.expires != Expires::Off {
        install.header_filter(filter);
    }
    if !headers.trailers.is_empty() {
        install.body_filter(trailers);
    }
}

/// Answers that get every field; others get those with `always`.
fn is_good(status: u16) -> bool {
    matches!(status, 200 | 201 | 204 | 206 | 301..=304 | 307 | 308)
}

fn filter(request: &mut Request) {
    if !request.is_main() {
        return;
    }
    let Some(conf) = request.location().conf::<Headers>() else { return };
    let good = is_good(request.response.status);
    if good {
        set_expires(request, &conf.expires);
    }
    for header in conf.headers.iter().filter(|header| good || header.always) {
        let value = header.value.value(request);
        put(request, &header.name, value);
    }
    let is_written = |trailer: &Header| (good || trailer.always) && trailer.value.as_literal() != Some(b"");
    request.response.expects_trailers |= conf.trailers.iter().any(is_written);
}

/// The values are those at the end of the body.
fn trailers(request: &mut Request, chunk: Chunk, out: &mut Out) {
    if chunk.last && request.is_main() && request.response.expects_trailers {
        let Some(conf) = request.location().conf::<Headers>() else { return };
        let good = is_good(request.response.status);
        for trailer in conf.trailers.iter().filter(|trailer| good || trailer.always) {
            let mut value = trailer.value.value(request);
            if !value.is_empty() {
                one_line(&mut value);
                field(&trailer.name, &value, &mut request.response.trailers);
            }
        }
    }
    out.push_back(chunk);
}

fn put(request: &mut Request, name: &[u8], value: Vec<u8>) {
    if name.eq_ignore_ascii_case(b"Last-Modified") {
        request.response.last_modified = None;
        request.response.remove(name);
    }
    if name.eq_ignore_ascii_case(b"ETag") {
        request.response.remove(name);
    }
    if !value.is_empty() {
        request.response.add(name, &value);
    }
}

fn header(line: &mut Line<'_>) -> Result<Header, Problem> {
    let always = match line.count() {
        3 if line.bytes(2) == b"always" => true,
        3 => return Err(line.invalid_parameter(2)),
        _ => false,
    };
    Ok(Header { name: line.bytes(0).into(), value: line.template(1)?, always })
}

fn set_expires(request: &mut Request, expires: &Expires) {
    let by_value;
    let expires = match expires {
        Expires::Varies(template, modified) => {
            // A value that is no time sends nothing, as on nginx.
            let Ok(read) = when(&template.value(request), *modified) else { return };
            by_value = read;
            &by_value
        }
        fixed => fixed,
    };
    let now = i64::try_from(clock::unix_ms() / 1000).unwrap_or_default();
    let modified = request.response.modified().and_then(clock::parse_http_date);
    let (until, control): (i64, String) = match *expires {
        Expires::Off | Expires::Varies(..) => return,
        Expires::Epoch => (1, "no-cache".to_owned()),
        Expires::Max => (2_145_916_555, "max-age=315360000".to_owned()),
        Expires::Access(seconds) => (now + seconds, max_age(seconds)),
        Expires::Modified(seconds) => {
            let from = modified.and_then(|modified| i64::try_from(modified).ok()).unwrap_or(now);
            (from + seconds, max_age(from + seconds - now))
        }
        Expires::Daily(second) => {
            let today = now - now.rem_euclid(86_400) + second;
            let until = if today > now { today } else { today + 86_400 };
            (until, max_age(until - now))
        }
    };
    let until = clock::http_date(UNIX_EPOCH + Duration::from_secs(u64::try_from(until).unwrap_or_default()));
    request.response.remove(b"Expires");
    request.response.remove(b"Cache-Control");
    request.response.add(b"Expires", until.as_bytes());
    request.response.add(b"Cache-Control", control.as_bytes());
}

fn max_age(seconds: i64) -> String {
    if seconds < 0 { "no-cache".to_owned() } else { format!("max-age={seconds}") }
}

fn expires(line: &mut Line<'_>) -> Result<Expires, Problem> {
    let (index, modified) = match (line.count(), line.bytes(0)) {
        (2, b"modified") => (1, true),
        (2, _) => return Err(Problem::new("\"expires\" directive invalid value").at(line.word(0))),
        _ => (0, false),
    };
    let template = line.template(index)?;
    if template.varies() {
        return Ok(Expires::Varies(template, modified));
    }
    when(line.bytes(index), modified)
        .map_err(|what| Problem::new(format!("\"expires\" directive {what}")).at(line.word(index)))
}

/// What a value means; `modified`: it counts from the file's time.
fn when(text: &[u8], modified: bool) -> Result<Expires, &'static str> {
    match text {
        b"off" if !modified => return Ok(Expires::Off),
        b"epoch" if !modified => return Ok(Expires::Epoch),
        b"max" if !modified => return Ok(Expires::Max),
        _ => {}
    }
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+' | b'@', rest @ ..] => (1, rest),
        rest => (1, rest),
    };
    let seconds = conf::value::time_s(digits).and_then(|seconds| i64::try_from(seconds).ok());
    let seconds = sign * seconds.ok_or("invalid value")?;
    match (text.first(), modified) {
        (Some(b'@'), true) => Err("daily time cannot be used with \"modified\" parameter"),
        (Some(b'@'), false) if seconds > 86_400 => Err("daily time value must be less than 24 hours"),
        (Some(b'@'), false) => Ok(Expires::Daily(seconds)),
        (_, true) => Ok(Expires::Modified(seconds)),
        (_, false) => Ok(Expires::Access(seconds)),
    }
}
