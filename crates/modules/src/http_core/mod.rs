//! nginx's http core module: `http`, `server`, `listen`, `server_name`, `location`, and what holds for connections.

mod error_log;
mod error_page;
mod limits;
mod listen;
mod location;
mod variables;

use std::collections::HashMap;

use http::config::{
    ANY_HTTP, Args, BlockKind, Context, Directive, HTTP_SERVER, IfModifiedSince, KeepaliveDisable, Line,
    Lingering, Modifier, Module, Problem, ServerTokens, conf_of,
};
use http::server_name::ServerName;
use http::set;

use limits::{Raw, Root};

/// `http`, `server`, `location` and `if` in a location.
const WITH_IF: Context = ANY_HTTP.or(Context::LOCATION_IF);

/// A directive of one value that [`Line`] can read by itself: `name, where, default, field = reader, doc`.
macro_rules! one {
    ($name:literal, $at:expr, $default:literal, $field:ident = $read:ident($($arg:expr)?), $doc:literal) => {
        Directive {
            name: $name,
            at: $at,
            default: $default,
            doc: $doc,
            set: set!(Raw, |raw, line| {
                let value = line.$read($($arg)?)?;
                line.once(&mut raw.$field, value)
            }),
            ..Directive::NONE
        }
    };
}

/// The same for `on` and `off`.
macro_rules! flag {
    ($name:literal, $at:expr, $default:literal, $field:ident, $doc:literal) => {
        Directive { args: Args::Flag, ..one!($name, $at, $default, $field = flag(), $doc) }
    };
}

/// nginx's `ngx_http_core_module`.
pub static MODULE: Module = Module {
    name: "http_core",
    doc: "Servers, locations, and what holds for their connections.",
    directives: &[
        Directive {
            name: "http",
            at: Context::MAIN,
            args: Args::NONE,
            doc: "Holds the HTTP servers.",
            block: Some(BlockKind::Serves(Context::HTTP)),
            set: set!(Raw, |raw, line| {
                if std::mem::replace(&mut raw.http_seen, true) { Err(line.duplicate()) } else { Ok(()) }
            }),
            ..Directive::NONE
        },
        Directive {
            name: "server",
            at: Context::HTTP,
            args: Args::NONE,
            doc: "A server: names and addresses, and what is served there.",
            block: Some(BlockKind::Serves(Context::SERVER)),
            ..Directive::NONE
        },
        Directive {
            name: "listen",
            at: Context::SERVER,
            args: Args::AtLeast(1),
            doc: "An address the server answers on; *:80, or *:8000 without root, when there is none.",
            set: set!(|line| listen::listen(line)),
            ..Directive::NONE
        },
        Directive {
            name: "server_name",
            at: Context::SERVER,
            args: Args::AtLeast(1),
            doc: "Names of the server: exact, `*.wildcard`, `wildcard.*`, `~regex`.",
            set: set!(|line| server_name(line)),
            ..Directive::NONE
        },
        Directive {
            name: "location",
            at: Context::SERVER.or(Context::LOCATION),
            args: Args::Between(1, 2),
            doc: "What holds for requests whose URI matches.",
            block: Some(BlockKind::Serves(Context::LOCATION)),
            set: set!(|line| location::location(line)),
            ..Directive::NONE
        },
        Directive {
            name: "root",
            at: WITH_IF,
            default: "html",
            doc: "The directory of files; the URI is appended.",
            set: set!(Raw, |raw, line| root(raw, line)),
            ..Directive::NONE
        },
        Directive {
            name: "alias",
            at: Context::LOCATION,
            doc: "The path that takes the place of the location's text.",
            set: set!(Raw, |raw, line| root(raw, line)),
            ..Directive::NONE
        },
        Directive {
            name: "default_type",
            at: ANY_HTTP,
            default: "text/plain",
            doc: "The `Content-Type` of what has no known extension.",
            set: set!(Raw, |raw, line| {
                let value = line.bytes(0).to_vec();
                line.once(&mut raw.default_type, value)
            }),
            ..Directive::NONE
        },
        Directive {
            name: "types",
            at: ANY_HTTP,
            args: Args::NONE,
            doc: "Types and their extensions; text/html html, image/gif gif, image/jpeg jpg when there are none.",
            block: Some(BlockKind::Lines),
            set: set!(Raw, |raw, line| types(raw, line)),
            ..Directive::NONE
        },
        Directive {
            name: "error_page",
            at: WITH_IF,
            args: Args::AtLeast(2),
            doc: "What is answered in place of an error.",
            set: set!(Raw, |raw, line| error_page::error_page(&mut raw.error_pages, line)),
            ..Directive::NONE
        },
        Directive {
            name: "error_log",
            at: Context::MAIN.or(ANY_HTTP),
            args: Args::AtLeast(1),
            doc: "Where errors are written, from which level on: logs/error.log and error when nothing is written.",
            set: set!(Raw, |raw, line| error_log::error_log(&mut raw.error_log, line)),
            ..Directive::NONE
        },
        Directive {
            name: "internal",
            at: Context::LOCATION,
            args: Args::NONE,
            doc: "For internal redirects only; a client gets 404.",
            set: set!(Raw, |raw, line| match std::mem::replace(&mut raw.internal, true) {
                true => Err(line.duplicate()),
                false => Ok(()),
            }),
            ..Directive::NONE
        },
        Directive {
            name: "server_tokens",
            at: ANY_HTTP,
            default: "on",
            doc: "Whether `Server` and error pages show the version.",
            set: set!(Raw, |raw, line| server_tokens(raw, line)),
            ..Directive::NONE
        },
        Directive {
            name: "keepalive_timeout",
            at: ANY_HTTP,
            args: Args::Between(1, 2),
            default: "75s",
            doc: "How long an idle connection is kept; the second time goes into the `Keep-Alive` header.",
            set: set!(Raw, |raw, line| {
                let header = match line.count() {
                    1 => 0,
                    _ => conf::value::time_s(line.bytes(1))
                        .ok_or_else(|| line.invalid_value(1, "whole seconds"))?,
                };
                let value = (line.time()?, header);
                line.once(&mut raw.keepalive_timeout, value)
            }),
            ..Directive::NONE
        },
        Directive {
            name: "large_client_header_buffers",
            at: HTTP_SERVER,
            args: Args::Exactly(2),
            default: "4 8k",
            doc: "Number and size of the buffers for long request lines and fields.",
            set: set!(Raw, |raw, line| {
                let number = conf::value::number(line.bytes(0)).filter(|number| *number > 0);
                let number = number.and_then(|number| usize::try_from(number).ok());
                let number = number.ok_or_else(|| line.invalid_value(0, "a number of buffers, 1 or more"))?;
                let size = line.size_at(1)?;
                if size == 0 {
                    return Err(line.invalid_value(1, "a size of 1 byte or more"));
                }
                line.once(&mut raw.large_client_header_buffers, (number, size))
            }),
            ..Directive::NONE
        },
        Directive {
            name: "lingering_close",
            at: ANY_HTTP,
            default: "on",
            doc: "Whether the rest of a request is read before the connection is closed.",
            set: set!(Raw, |raw, line| {
                let value = [Lingering::Off, Lingering::On, Lingering::Always]
                    [line.one_of(0, &["off", "on", "always"])?];
                line.once(&mut raw.lingering_close, value)
            }),
            ..Directive::NONE
        },
        Directive {
            name: "max_headers",
            at: HTTP_SERVER,
            default: "1000",
            doc: "Most header fields of a request.",
            set: set!(Raw, |raw, line| {
                let value = usize::try_from(line.number(0..=u64::MAX)?).unwrap_or(usize::MAX);
                line.once(&mut raw.max_headers, value)
            }),
            ..Directive::NONE
        },
        Directive {
            name: "limit_rate",
            at: WITH_IF,
            default: "0",
            doc: "Bytes a second that a client gets of a response; 0 is no limit.",
            set: set!(Raw, |raw, line| {
                let rate = size_template(line)?;
                line.once(&mut raw.limit_rate, rate)
            }),
            ..Directive::NONE
        },
        Directive {
            name: "limit_rate_after",
            at: WITH_IF,
            default: "0",
            doc: "Bytes of a response that go out before limit_rate begins.",
            set: set!(Raw, |raw, line| {
                let after = size_template(line)?;
                line.once(&mut raw.limit_rate_after, after)
            }),
            ..Directive::NONE
        },
        Directive {
            name: "keepalive_disable",
            at: ANY_HTTP,
            args: Args::Between(1, 2),
            default: "msie6",
            doc: "Browsers that get no second request on a connection.",
            set: set!(Raw, |raw, line| {
                let have = raw.keepalive_disable.unwrap_or_default();
                let have = u32::from(have.msie6) << 1 | u32::from(have.safari) << 2;
                let words = line.mask(have, &["none", "msie6", "safari"])?;
                raw.keepalive_disable =
                    Some(KeepaliveDisable { msie6: words & 2 != 0, safari: words & 4 != 0 });
                Ok(())
            }),
            ..Directive::NONE
        },
        Directive {
            name: "if_modified_since",
            at: ANY_HTTP,
            default: "exact",
            doc: "How the time in `If-Modified-Since` is compared.",
            set: set!(Raw, |raw, line| {
                let value = [IfModifiedSince::Off, IfModifiedSince::Exact, IfModifiedSince::Before]
                    [line.one_of(0, &["off", "exact", "before"])?];
                line.once(&mut raw.if_modified_since, value)
            }),
            ..Directive::NONE
        },
        Directive {
            name: "max_ranges",
            at: ANY_HTTP,
            doc: "Most parts of a body sent in one answer; no limit when nothing is written, 0 is none at all.",
            set: set!(Raw, |raw, line| {
                let value = usize::try_from(line.number(0..=u64::MAX)?).unwrap_or(usize::MAX);
                line.once(&mut raw.max_ranges, value)
            }),
            ..Directive::NONE
        },
        one!(
            "client_header_buffer_size",
            HTTP_SERVER,
            "1k",
            client_header_buffer_size = size(),
            "The first buffer of a request's head."
        ),
        one!(
            "client_header_timeout",
            HTTP_SERVER,
            "60s",
            client_header_timeout = time(),
            "How long a client may take to send a head."
        ),
        one!(
            "client_body_timeout",
            ANY_HTTP,
            "60s",
            client_body_timeout = time(),
            "How long a client may pause while it sends a body."
        ),
        one!(
            "client_max_body_size",
            ANY_HTTP,
            "1m",
            client_max_body_size = offset(),
            "The largest request body; 0 is no limit."
        ),
        one!(
            "client_body_buffer_size",
            ANY_HTTP,
            "16k",
            client_body_buffer_size = size(),
            "Body bytes held in memory."
        ),
        one!(
            "send_timeout",
            ANY_HTTP,
            "60s",
            send_timeout = time(),
            "How long a client may take nothing of a response."
        ),
        one!(
            "keepalive_requests",
            ANY_HTTP,
            "1000",
            keepalive_requests = number(0..=u64::MAX),
            "Requests a connection serves."
        ),
        one!("keepalive_time", ANY_HTTP, "1h", keepalive_time = time(), "How old a kept connection may get."),
        one!(
            "keepalive_min_timeout",
            ANY_HTTP,
            "0",
            keepalive_min_timeout = time(),
            "How long an idle connection is kept at a graceful stop."
        ),
        one!(
            "lingering_time",
            ANY_HTTP,
            "30s",
            lingering_time = time(),
            "How long the rest of a request is read at most."
        ),
        one!(
            "lingering_timeout",
            ANY_HTTP,
            "5s",
            lingering_timeout = time(),
            "How long to wait for more of it."
        ),
        flag!("tcp_nodelay", ANY_HTTP, "on", tcp_nodelay, "Whether small packets are sent at once."),
        flag!(
            "reset_timedout_connection",
            ANY_HTTP,
            "off",
            reset_timedout_connection,
            "Whether a connection that timed out is reset rather than closed."
        ),
        flag!(
            "ignore_invalid_headers",
            HTTP_SERVER,
            "on",
            ignore_invalid_headers,
            "Whether fields with odd names are dropped."
        ),
        flag!(
            "underscores_in_headers",
            HTTP_SERVER,
            "off",
            underscores_in_headers,
            "Whether names of fields may have underscores."
        ),
        flag!("merge_slashes", HTTP_SERVER, "on", merge_slashes, "Whether `//` in a URI becomes `/`."),
        flag!(
            "chunked_transfer_encoding",
            ANY_HTTP,
            "on",
            chunked_transfer_encoding,
            "Whether bodies of unknown length are sent in chunks."
        ),
        flag!(
            "absolute_redirect",
            ANY_HTTP,
            "on",
            absolute_redirect,
            "Whether our own redirects name scheme and host."
        ),
        flag!(
            "server_name_in_redirect",
            ANY_HTTP,
            "off",
            server_name_in_redirect,
            "Whether they name the first server_name rather than what the client asked for."
        ),
        flag!("port_in_redirect", ANY_HTTP, "on", port_in_redirect, "Whether they name the port."),
        flag!("log_not_found", ANY_HTTP, "on", log_not_found, "Whether missing files are logged."),
        flag!(
            "msie_padding",
            ANY_HTTP,
            "on",
            msie_padding,
            "Whether short error pages are padded for browsers that would show their own."
        ),
        flag!("etag", ANY_HTTP, "on", etag, "Whether files are sent with an `ETag`."),
        flag!(
            "recursive_error_pages",
            ANY_HTTP,
            "off",
            recursive_error_pages,
            "Whether an error page that fails may have an error page."
        ),
    ],
    variables: variables::VARIABLES,
    conf: Some(conf_of::<Raw>()),
    ..Module::NONE
};

/// A size, or variables that will be one.
fn size_template(line: &mut Line<'_>) -> Result<http::Template, Problem> {
    let template = line.template(0)?;
    if !template.varies() {
        line.size()?;
    }
    Ok(template)
}

fn server_name(line: &mut Line<'_>) -> Result<(), Problem> {
    for index in 0..line.count() {
        let word = line.word(index).clone();
        let mut name = ServerName::parse(&word.bytes).map_err(|message| Problem::new(message).at(&word))?;
        match &mut name {
            ServerName::Regex(_, pattern) => line.bind(pattern)?,
            _ if word.bytes.contains(&b'/') => {
                line.warn(format!("server name \"{}\" has suspicious symbols", word.text()));
            }
            _ => {}
        }
        line.server_name(name);
    }
    Ok(())
}

fn root(raw: &mut Raw, line: &mut Line<'_>) -> Result<(), Problem> {
    let is_alias = &*line.words.name.bytes == b"alias";
    if let Some(have) = &raw.root {
        if have.alias.is_some() == is_alias {
            return Err(line.duplicate());
        }
        let other = if is_alias { "root" } else { "alias" };
        let name = line.name();
        return Err(Problem::new(format!(
            "\"{name}\" directive is duplicate, \"{other}\" directive was specified earlier"
        )));
    }
    let alias = match line.location() {
        _ if !is_alias => None,
        (Modifier::Named, _) => {
            return Err(Problem::new("the \"alias\" directive cannot be used inside the named location"));
        }
        (Modifier::Regex(_), _) => Some(usize::MAX),
        (_, text) => Some(text.len()),
    };
    for variable in ["$document_root", "${document_root}", "$realpath_root", "${realpath_root}"] {
        if line.text(0).contains(variable) {
            let variable = variable.replace(['{', '}'], "");
            return Err(Problem::new(format!(
                "the {variable} variable cannot be used in the \"{}\" directive",
                line.name()
            ))
            .at(line.word(0)));
        }
    }
    let template = Some(line.template(0)?).filter(http::Template::varies);
    let mut path = match &template {
        Some(_) => Vec::new(),
        None => line.path(0).into_os_string().into_encoded_bytes(),
    };
    if !is_alias && path.ends_with(b"/") {
        path.pop();
    }
    let template = match template {
        Some(template) if !line.bytes(0).starts_with(b"/") && !line.bytes(0).starts_with(b"$") => {
            // A relative path with variables is still relative to the prefix.
            drop(template);
            let full = line.path(0).into_os_string().into_encoded_bytes();
            Some(line.template_text(&full)?)
        }
        template => template,
    };
    raw.root = Some(Root { path, template, alias });
    Ok(())
}

fn types(raw: &mut Raw, line: &mut Line<'_>) -> Result<(), Problem> {
    let types = raw.types.get_or_insert_default();
    let mut have: HashMap<Box<[u8]>, Box<[u8]>> = types.iter().cloned().collect();
    let mut twice = Vec::new();
    for entry in line.block() {
        for extension in &entry.args {
            let pair: (Box<[u8]>, Box<[u8]>) =
                (extension.bytes.to_ascii_lowercase().into(), entry.name.bytes.to_vec().into());
            if let Some(old) = have.insert(pair.0.clone(), pair.1.clone()) {
                let [extension, new, old] =
                    [&pair.0, &pair.1, &old].map(|text| String::from_utf8_lossy(text));
                twice.push((
                    entry.name.span,
                    format!(
                        "duplicate extension \"{extension}\", content type: \"{new}\", previous content type: \"{old}\""
                    ),
                ));
            }
            types.push(pair);
        }
    }
    for (span, message) in twice {
        line.warn_at(span, message);
    }
    Ok(())
}

fn server_tokens(raw: &mut Raw, line: &mut Line<'_>) -> Result<(), Problem> {
    let value = [ServerTokens::On, ServerTokens::Off, ServerTokens::Build]
        [line.one_of(0, &["on", "off", "build"])?]
    .clone();
    line.once(&mut raw.server_tokens, value)
}
