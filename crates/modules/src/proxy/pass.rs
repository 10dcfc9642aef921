//! `proxy_pass`: its URL, checked by nginx's rules.

use std::sync::Arc;

use conf::Span;
use http::Template;
use http::config::{Context, Line, Problem};
use upstream::{Address, Url, parse_url};

use upstream::{Upstreams, Wanted};

/// Where a location passes requests.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) to: To,
    pub(crate) span: Span,
}

#[derive(Debug)]
pub(crate) enum To {
    /// Known when the file was read.
    Fixed { wanted: Wanted, target: Arc<Target>, url: Box<[u8]> },
    /// A text with variables.
    Varies(Template),
}

impl Pass {
    /// Whether the URL has variables in it.
    pub(crate) fn varies(&self) -> bool {
        matches!(self.to, To::Varies(_))
    }

    /// Whether requests are passed on over TLS, as far as is known.
    pub(crate) fn may_be_tls(&self) -> bool {
        match &self.to {
            To::Fixed { target, .. } => target.tls,
            To::Varies(_) => true,
        }
    }
}

/// What a URL says beside the group: `$proxy_host`, `$proxy_port`, the URI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// Host and, when it is not the scheme's own, port: `$proxy_host` and the `Host` sent by default.
    pub(crate) host: Arc<str>,
    /// `$proxy_port`; empty for a unix socket.
    pub(crate) port: Arc<str>,
    /// What replaces the matched part of the request's URI; empty: nothing is replaced.
    pub(crate) uri: Arc<[u8]>,
    /// The URL began with `https://`.
    pub(crate) tls: bool,
}

impl Target {
    pub(crate) fn of(url: &Url<'_>, scheme: Scheme) -> Target {
        let (host, port) = match &url.address {
            Address::Unix(_) => ("localhost".to_owned(), String::new()),
            Address::Ip(_) | Address::Host { .. } => match url.port {
                Some(port) if port.parse() != Ok(scheme.port()) => {
                    (format!("{}:{port}", url.host), port.to_owned())
                }
                _ => (url.host.to_owned(), scheme.port().to_string()),
            },
        };
        let tls = scheme == Scheme::Https;
        Target { host: host.into(), port: port.into(), uri: url.uri.as_bytes().into(), tls }
    }
}

/// Reads the line.
pub(crate) fn read(slot: &mut Option<Pass>, line: &mut Line<'_>) -> Result<(), Problem> {
    if slot.is_some() {
        return Err(line.duplicate());
    }
    let span = line.span();
    let template = line.template(0)?;
    let to = match template.as_literal() {
        None => To::Varies(template),
        Some(text) => fixed(text, line)?,
    };
    *slot = Some(Pass { to, span });
    Ok(())
}

fn fixed(text: &[u8], line: &mut Line<'_>) -> Result<To, Problem> {
    let url = String::from_utf8_lossy(text).into_owned();
    let wrong = |message: String| Problem::new(message).at(line.word(0));
    let Some(scheme) = scheme(&url) else {
        return Err(wrong("invalid URL prefix".into())
            .note("it must begin with http:// or https://, also for WebSockets"));
    };
    let parsed = parse_url(&url[scheme.prefix().len()..], scheme.port()).map_err(wrong)?;
    let target = Target::of(&parsed, scheme);
    if !target.uri.is_empty() && line.place.has(Context::LOCATION_IF.or(Context::LIMIT_EXCEPT)) {
        return Err(Problem::new(NO_URI_HERE));
    }
    let span = line.span();
    let wanted = line.registry().of::<Upstreams>().want(&parsed, span);
    Ok(To::Fixed { wanted, target: Arc::new(target), url: text.into() })
}

/// What a URL begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// The port of a URL without one.
    pub(crate) fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }

    /// As it is written.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Scheme::Http => "http://",
            Scheme::Https => "https://",
        }
    }
}

/// The scheme a URL begins with.
pub(crate) fn scheme(url: &str) -> Option<Scheme> {
    let has = |prefix: &str| url.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    if has("http://") {
        Some(Scheme::Http)
    } else if has("https://") {
        Some(Scheme::Https)
    } else {
        None
    }
}

/// nginx's words for a URI part where no text was matched that it could replace.
pub(crate) const NO_URI_HERE: &str = "\"proxy_pass\" cannot have URI part in location given by regular expression, \
     or inside named location, or inside \"if\" statement, or inside \"limit_except\" block";
