//! The directives of `proxy_...`, in nginx's order of topics.

use http::config::{ANY_HTTP, Answer, Args, Context, Directive, Line, Problem, certificate_cache};
use http::set;
use wire::http1::Version;

use crate::proxy::next::Next;
use crate::proxy::{Bind, Ignore, Raw, pass, redirect, ssl};
use crate::unused::{
    self, ANY, CACHE, CACHE_METHODS, CACHE_PATH, CACHE_STALE, CACHE_VALID, FLAG, FLAG_OFF, NUMBER, OFFSET,
    SEND_LOWAT, SIZE, STORE_ACCESS, TEMP_PATH, TEMPLATE, TEMPLATES, TEXT, TIME,
};

const NO_CACHE: &str = "nothing is cached yet, requests are passed on";
const NO_FILES: &str =
    "responses and request bodies are kept in memory or streamed, never in temporary files";
const NOT_YET: &str = "not there yet, served without";

pub(crate) const ALL: &[Directive] = &[
    Directive {
        name: "proxy_pass",
        at: Context::LOCATION.or(Context::LOCATION_IF).or(Context::LIMIT_EXCEPT),
        doc: "The server or group a location's requests are passed to, and what replaces the matched part of the URI.",
        set: set!(Raw, |raw, line| pass::read(&mut raw.pass, line)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_http_version",
        default: "1.1",
        doc: "Version of HTTP towards the upstream.",
        set: set!(Raw, |raw, line| version(raw, line)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_method",
        doc: "Method of requests upstream, in place of the client's.",
        set: set!(Raw, |raw, line| {
            let method = line.template(0)?;
            line.once(&mut raw.method, method)
        }),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_set_body",
        doc: "Body of requests upstream, in place of the client's.",
        set: set!(Raw, |raw, line| {
            let body = line.template(0)?;
            line.once(&mut raw.body, body)
        }),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_set_header",
        args: Args::Exactly(2),
        doc: "Sets a header field of requests upstream. One line at a level replaces all of the outer levels.",
        set: set!(Raw, |raw, line| {
            let value = line.template(1)?;
            raw.set_headers.push((line.bytes(0).into(), value));
            Ok(())
        }),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_pass_request_headers",
        args: Args::Flag,
        default: "on",
        doc: "Whether the client's header fields are passed on.",
        set: set!(Raw, |raw, line| line.once(&mut raw.pass_request_headers, line.flag()?)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_pass_request_body",
        args: Args::Flag,
        default: "on",
        doc: "Whether the client's body is passed on.",
        set: set!(Raw, |raw, line| line.once(&mut raw.pass_request_body, line.flag()?)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_hide_header",
        doc: "A field of responses that is not passed to the client.",
        set: set!(Raw, |raw, line| {
            raw.hide.push(line.bytes(0).into());
            Ok(())
        }),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_pass_header",
        doc: "A field of responses that is passed to the client though it is hidden otherwise.",
        set: set!(Raw, |raw, line| {
            raw.pass_headers.push(line.bytes(0).into());
            Ok(())
        }),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_ignore_headers",
        args: Args::AtLeast(1),
        doc: "X-Accel fields of responses that have no effect.",
        set: set!(Raw, |raw, line| ignore(raw, line)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_connect_timeout",
        default: "60s",
        doc: "Longest time to connect.",
        set: set!(Raw, |raw, line| line.once(&mut raw.connect_timeout_ms, line.time()?)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_read_timeout",
        default: "60s",
        doc: "Longest time between two reads from the upstream; of a tunnel, between any two reads.",
        set: set!(Raw, |raw, line| line.once(&mut raw.read_timeout_ms, line.time()?)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_send_timeout",
        default: "60s",
        doc: "Longest time between two writes to the upstream.",
        set: set!(Raw, |raw, line| line.once(&mut raw.send_timeout_ms, line.time()?)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_buffering",
        args: Args::Flag,
        default: "on",
        doc: "Whether the upstream may be ahead of the client by a queue's length.",
        set: set!(Raw, |raw, line| line.once(&mut raw.buffering, line.flag()?)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_request_buffering",
        args: Args::Flag,
        default: "on",
        doc: "Whether a small request body is read whole before it is passed on; larger ones are streamed.",
        set: set!(Raw, |raw, line| line.once(&mut raw.request_buffering, line.flag()?)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_buffer_size",
        default: "4k",
        doc: "Most bytes of a response head.",
        set: set!(Raw, |raw, line| line.once(&mut raw.buffer_size, line.size()?)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_buffers",
        args: Args::Exactly(2),
        default: "8 4k",
        doc: "Number and size of buffers for a response. Checked, and not needed: buffers come from the worker's pool.",
        set: set!(Raw, |raw, line| {
            let buffers = unused::buffers(line)?;
            line.once(&mut raw.buffers, buffers)
        }),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_busy_buffers_size",
        doc: "Checked against the other sizes as nginx does, and not needed.",
        set: set!(Raw, |raw, line| line.once(&mut raw.busy_buffers, line.size()?)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_next_upstream",
        args: Args::AtLeast(1),
        default: "error timeout",
        doc: "When a request is passed to the next server.",
        set: set!(Raw, |raw, line| {
            let have = raw.next.unwrap_or_default();
            raw.next = Some(line.mask(have, &Next::NAMES)?);
            Ok(())
        }),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_next_upstream_tries",
        default: "0",
        doc: "Most servers a request is passed to; 0: all.",
        set: set!(Raw, |raw, line| {
            let tries = line.number(0..=u64::MAX)?;
            line.once(&mut raw.next_tries, u32::try_from(tries).unwrap_or(u32::MAX))
        }),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_next_upstream_timeout",
        default: "0",
        doc: "Longest time during which the next server may be tried; 0: no limit.",
        set: set!(Raw, |raw, line| line.once(&mut raw.next_timeout_ms, line.time()?)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_bind",
        args: Args::Between(1, 2),
        doc: "Local address of connections to the upstream.",
        set: set!(Raw, |raw, line| bind(raw, line)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_socket_keepalive",
        args: Args::Flag,
        default: "off",
        doc: "Whether TCP probes idle connections to the upstream.",
        set: set!(Raw, |raw, line| line.once(&mut raw.socket_keepalive, line.flag()?)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_redirect",
        args: Args::Between(1, 2),
        default: "",
        doc: "Rewrites Location and Refresh of responses.",
        set: set!(Raw, |raw, line| redirect::read(&mut raw.redirect, raw.pass.as_ref(), line)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_ignore_client_abort",
        args: Args::Flag,
        default: "off",
        doc: "Whether the exchange goes on when the client is gone.",
        set: set!(Raw, |raw, line| line.once(&mut raw.ignore_client_abort, line.flag()?)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_intercept_errors",
        args: Args::Flag,
        default: "off",
        doc: "Whether error_page answers for the upstream's errors.",
        set: set!(Raw, |raw, line| line.once(&mut raw.intercept_errors, line.flag()?)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_cookie_domain",
        args: Args::Between(1, 2),
        doc: "Rewrites the domain of cookies that upstreams set.",
        set: set!(Raw, |raw, line| raw.cookies.read_domain(line)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_cookie_path",
        args: Args::Between(1, 2),
        doc: "Rewrites the path of cookies that upstreams set.",
        set: set!(Raw, |raw, line| raw.cookies.read_path(line)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_cookie_flags",
        args: Args::Between(1, 4),
        doc: "Adds and removes Secure, HttpOnly and SameSite of cookies that upstreams set.",
        set: set!(Raw, |raw, line| raw.cookies.read_flags(line)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_limit_rate",
        default: "0",
        doc: "Bytes a second read of a response, where responses are buffered; 0 is no limit.",
        set: set!(Raw, |raw, line| {
            let rate = line.template(0)?;
            if rate.as_literal().is_some() {
                line.size()?;
            }
            line.once(&mut raw.limit_rate, rate)
        }),
        ..Directive::NONE
    },
    ANY.line(
        "proxy_allow_upstream",
        ANY_HTTP,
        Answer::Accepted("a feature of nginx's forward proxy, without effect here"),
    ),
    FLAG_OFF.line(
        "proxy_bind_dynamic",
        ANY_HTTP,
        Answer::Accepted("proxy_bind is evaluated for each request anyway"),
    ),
    FLAG_OFF.line("proxy_force_ranges", ANY_HTTP, Answer::Accepted(NOT_YET)),
    NUMBER.line("proxy_headers_hash_bucket_size", ANY_HTTP, Answer::Sizing),
    NUMBER.line("proxy_headers_hash_max_size", ANY_HTTP, Answer::Sizing),
    SIZE.line("proxy_max_temp_file_size", ANY_HTTP, Answer::Accepted(NO_FILES)),
    FLAG_OFF.line("proxy_pass_trailers", ANY_HTTP, Answer::Accepted("trailers are not passed on yet")),
    FLAG_OFF.line(
        "proxy_request_dynamic",
        ANY_HTTP,
        Answer::Accepted("the request is made once for all servers tried"),
    ),
    SEND_LOWAT.line("proxy_send_lowat", ANY_HTTP, Answer::Sizing),
    SIZE.line("proxy_socket_rcvbuf", ANY_HTTP, Answer::Sizing),
    SIZE.line("proxy_socket_sndbuf", ANY_HTTP, Answer::Sizing),
    refused("proxy_store", Args::ONE, "responses are not stored in files"),
    STORE_ACCESS.line("proxy_store_access", ANY_HTTP, Answer::Accepted("responses are not stored in files")),
    SIZE.line("proxy_temp_file_write_size", ANY_HTTP, Answer::Accepted(NO_FILES)),
    TEMP_PATH.line("proxy_temp_path", ANY_HTTP, Answer::Accepted(NO_FILES)),
    CACHE.line("proxy_cache", ANY_HTTP, Answer::Accepted(NO_CACHE)),
    FLAG_OFF.line("proxy_cache_background_update", ANY_HTTP, Answer::Accepted(NO_CACHE)),
    TEMPLATES.line("proxy_cache_bypass", ANY_HTTP, Answer::Accepted(NO_CACHE)),
    FLAG.line("proxy_cache_convert_head", ANY_HTTP, Answer::Accepted(NO_CACHE)),
    TEMPLATE.line("proxy_cache_key", ANY_HTTP, Answer::Accepted(NO_CACHE)),
    FLAG_OFF.line("proxy_cache_lock", ANY_HTTP, Answer::Accepted(NO_CACHE)),
    TIME.line("proxy_cache_lock_age", ANY_HTTP, Answer::Accepted(NO_CACHE)),
    TIME.line("proxy_cache_lock_timeout", ANY_HTTP, Answer::Accepted(NO_CACHE)),
    OFFSET.line("proxy_cache_max_range_offset", ANY_HTTP, Answer::Accepted(NO_CACHE)),
    CACHE_METHODS.line("proxy_cache_methods", ANY_HTTP, Answer::Accepted(NO_CACHE)),
    NUMBER.line("proxy_cache_min_uses", ANY_HTTP, Answer::Accepted(NO_CACHE)),
    CACHE_PATH.line("proxy_cache_path", Context::HTTP, Answer::Accepted(NO_CACHE)),
    ANY.line("proxy_cache_purge", ANY_HTTP, Answer::Accepted(NO_CACHE)),
    FLAG_OFF.line("proxy_cache_revalidate", ANY_HTTP, Answer::Accepted(NO_CACHE)),
    CACHE_STALE.line("proxy_cache_use_stale", ANY_HTTP, Answer::Accepted(NO_CACHE)),
    CACHE_VALID.line("proxy_cache_valid", ANY_HTTP, Answer::Accepted(NO_CACHE)),
    TEMPLATES.line("proxy_no_cache", ANY_HTTP, Answer::Accepted(NO_CACHE)),
    Directive {
        name: "proxy_ssl_certificate",
        doc: "A certificate shown to the upstream: a file with it and what goes with it, or `data:` and the text.",
        set: set!(Raw, |raw, line| ssl::pem(&mut raw.ssl.certificate, line)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_ssl_certificate_cache",
        args: Args::Between(1, 3),
        doc: "How many files of certificates and keys with variables are kept: max=number [valid=time] [inactive=time], or off.",
        set: set!(Raw, |raw, line| {
            let cache = certificate_cache(line)?;
            line.once(&mut raw.ssl.cache, cache)
        }),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_ssl_certificate_key",
        doc: "The key of proxy_ssl_certificate.",
        set: set!(Raw, |raw, line| ssl::pem(&mut raw.ssl.key, line)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_ssl_ciphers",
        default: "DEFAULT",
        doc: "Cipher suites offered to the upstream up to TLS 1.2, in OpenSSL's words; those we lack are left out with a warning.",
        set: set!(Raw, |raw, line| {
            let ciphers = line.text(0);
            line.once(&mut raw.ssl.ciphers, ciphers)
        }),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_ssl_conf_command",
        args: Args::Exactly(2),
        doc: "A configuration command of OpenSSL; those that mean something here are followed, the others get a warning.",
        set: set!(Raw, |raw, line| {
            raw.ssl.commands.push((line.text(0), line.text(1)));
            Ok(())
        }),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_ssl_crl",
        doc: "A file of revocation lists for proxy_ssl_verify.",
        set: set!(Raw, |raw, line| ssl::file(&mut raw.ssl.crl, line)),
        ..Directive::NONE
    },
    TEXT.line(
        "proxy_ssl_key_log",
        ANY_HTTP,
        Answer::Accepted("keys of connections are not written to files"),
    ),
    Directive {
        name: "proxy_ssl_name",
        doc: "The name the upstream's certificate is verified for and, with proxy_ssl_server_name, asked for; a port is left out. $proxy_host without it.",
        set: set!(Raw, |raw, line| {
            let name = line.template(0)?;
            line.once(&mut raw.ssl.name, name)
        }),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_ssl_password_file",
        doc: "A file of passwords for proxy_ssl_certificate_key, one a line.",
        set: set!(Raw, |raw, line| {
            ssl::file(&mut raw.ssl.passwords, line)?;
            if line.bytes(0).is_empty() { Ok(()) } else { line.readable(0) }
        }),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_ssl_protocols",
        args: Args::AtLeast(1),
        default: "TLSv1.2 TLSv1.3",
        doc: "Protocols offered to the upstream; older ones are left out with a warning.",
        set: set!(Raw, |raw, line| ssl::protocols(&mut raw.ssl.protocols, line)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_ssl_server_name",
        args: Args::Flag,
        default: "off",
        doc: "Whether the upstream is told the name it is asked for (SNI).",
        set: set!(Raw, |raw, line| line.once(&mut raw.ssl.server_name, line.flag()?)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_ssl_session_reuse",
        args: Args::Flag,
        default: "on",
        doc: "Whether sessions with the upstream are taken up again.",
        set: set!(Raw, |raw, line| line.once(&mut raw.ssl.reuse, line.flag()?)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_ssl_trusted_certificate",
        doc: "A file of certificates that are trusted by proxy_ssl_verify.",
        set: set!(Raw, |raw, line| ssl::file(&mut raw.ssl.trusted, line)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_ssl_verify",
        args: Args::Flag,
        default: "off",
        doc: "Whether the upstream's certificate is verified.",
        set: set!(Raw, |raw, line| line.once(&mut raw.ssl.verify, line.flag()?)),
        ..Directive::NONE
    },
    Directive {
        name: "proxy_ssl_verify_depth",
        default: "1",
        doc: "Most certificates between the upstream's and an authority's.",
        set: set!(Raw, |raw, line| line.once(&mut raw.ssl.depth, line.number(0..=u64::MAX)?)),
        ..Directive::NONE
    },
];

const fn refused(name: &'static str, args: Args, why: &'static str) -> Directive {
    Directive { name, at: ANY_HTTP, args, answer: Answer::Refused(why), ..Directive::NONE }
}

fn version(raw: &mut Raw, line: &mut Line<'_>) -> Result<(), Problem> {
    let version = match line.one_of(0, &["1.0", "1.1", "2"])? {
        0 => Version::V10,
        1 => Version::V11,
        _ => return Err(Problem::new("HTTP/2 towards upstreams is not there yet").at(line.word(0))),
    };
    line.once(&mut raw.version, version)
}

fn ignore(raw: &mut Raw, line: &mut Line<'_>) -> Result<(), Problem> {
    raw.ignore_headers = Some(line.mask(raw.ignore_headers.unwrap_or_default(), &Ignore::NAMES)?);
    Ok(())
}

fn bind(raw: &mut Raw, line: &mut Line<'_>) -> Result<(), Problem> {
    if line.bytes(0) == b"off" && line.count() == 1 {
        return line.once(&mut raw.bind, Bind::Off);
    }
    let address = line.template(0)?;
    if let Some(text) = address.as_literal() {
        let text = String::from_utf8_lossy(text);
        let known = text.parse::<std::net::SocketAddr>().is_ok()
            || text.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        if !known {
            return Err(Problem::new(format!("invalid address \"{text}\"")).at(line.word(0)));
        }
    }
    let transparent = line.count() == 2;
    if transparent && line.bytes(1) != b"transparent" {
        return Err(line.invalid_parameter(1));
    }
    line.once(&mut raw.bind, Bind::To { address, transparent })
}
