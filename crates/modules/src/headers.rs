//! `add_header`, `add_trailer`, `expires`: fields of our own on responses.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use http::config::{
    ANY_HTTP, Answer, Args, Context, Directive, Install, Line, Merge, Module, ModuleConf, Problem, conf_of,
};
use http::{Request, Template, clock, set};

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
            doc: "Trailer fields.",
            answer: Answer::Accepted("trailer fields are not sent"),
            ..Directive::NONE
        },
        Directive {
            name: "add_trailer_inherit",
            at: HERE,
            doc: "Inheritance of trailer fields.",
            answer: Answer::Accepted("trailer fields are not sent"),
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
    expires: Option<Expires>,
    inherit: Option<Inherit>,
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
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Expires {
    #[default]
    Off,
    Epoch,
    Max,
    Access(i64),
    Modified(i64),
    /// `@15h30m`: at that time of the day.
    Daily(i64),
}

/// What holds in a block.
#[derive(Default)]
pub struct Headers {
    headers: Arc<[Header]>,
    expires: Expires,
    inherit: Inherit,
}

impl ModuleConf for Raw {
    type Merged = Headers;

    fn merge(self, outer: &Headers, _at: &mut Merge<'_>) -> Result<Headers, Problem> {
        let inherit = self.inherit.unwrap_or(outer.inherit);
        let headers = match inherit {
            Inherit::Merge => outer.headers.iter().cloned().chain(self.headers).collect(),
            Inherit::On if self.headers.is_empty() => outer.headers.clone(),
            _ => self.headers.into(),
        };
        Ok(Headers { headers, expires: self.expires.unwrap_or(outer.expires), inherit })
    }

    fn inherit(outer: &Arc<Headers>, _at: &mut Merge<'_>) -> Arc<Headers> {
        match outer.inherit {
            Inherit::Off => {
                Arc::new(Headers { headers: Arc::default(), expires: outer.expires, inherit: Inherit::Off })
            }
            _ => outer.clone(),
        }
    }
}

fn put_in(headers: &Headers, install: &mut Install<'_>) {
    if !headers.headers.is_empty() || headers.expires != Expires::Off {
        install.header_filter(filter);
    }
}

fn filter(request: &mut Request) {
    if !request.is_main() {
        return;
    }
    let Some(conf) = request.location().conf::<Headers>() else { return };
    let good = matches!(request.response.status, 200 | 201 | 204 | 206 | 301..=304 | 307 | 308);
    if good {
        set_expires(request, conf.expires);
    }
    for header in conf.headers.iter().filter(|header| good || header.always) {
        let value = header.value.value(request);
        put(request, &header.name, value);
    }
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

fn set_expires(request: &mut Request, expires: Expires) {
    let now = i64::try_from(clock::unix_ms() / 1000).unwrap_or_default();
    let modified = request.response.modified().and_then(clock::parse_http_date);
    let (until, control): (i64, String) = match expires {
        Expires::Off => return,
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

fn expires(line: &Line<'_>) -> Result<Expires, Problem> {
    let (index, modified) = match (line.count(), line.bytes(0)) {
        (2, b"modified") => (1, true),
        (2, _) => return Err(Problem::new("\"expires\" directive invalid value").at(line.word(0))),
        _ => (0, false),
    };
    let text = line.bytes(index);
    match text {
        b"off" if !modified => return Ok(Expires::Off),
        b"epoch" if !modified => return Ok(Expires::Epoch),
        b"max" if !modified => return Ok(Expires::Max),
        _ => {}
    }
    if text.contains(&b'$') {
        return Err(Problem::new(
            "variables in \"expires\" are not supported: they come with a later version",
        )
        .at(line.word(index)));
    }
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+' | b'@', rest @ ..] => (1, rest),
        rest => (1, rest),
    };
    let seconds = conf::value::time_s(digits).and_then(|seconds| i64::try_from(seconds).ok());
    let invalid = |what: &str| Problem::new(format!("\"expires\" directive {what}")).at(line.word(index));
    let seconds = sign * seconds.ok_or_else(|| invalid("invalid value"))?;
    match (text.first(), modified) {
        (Some(b'@'), true) => Err(invalid("daily time cannot be used with \"modified\" parameter")),
        (Some(b'@'), false) if seconds > 86_400 => {
            Err(invalid("daily time value must be less than 24 hours"))
        }
        (Some(b'@'), false) => Ok(Expires::Daily(seconds)),
        (_, true) => Ok(Expires::Modified(seconds)),
        (_, false) => Ok(Expires::Access(seconds)),
    }
}
