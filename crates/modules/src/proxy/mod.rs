//! `proxy_pass` and what belongs to it: the request upstream, the exchange with a peer, the response back, tunnels.
//!
//! This file has the directives and what holds where; `exchange.rs` runs a request. Peers, pools and connecting are the
//! `upstream` crate's; the client's framing is the front's.

mod aim;
mod body;
mod connect;
mod cookie;
mod directives;
mod divert;
mod exchange;
mod failover;
mod next;
mod pace;
mod pass;
mod pool;
mod reading;
mod receive;
mod redirect;
mod request;
mod respond;
mod response;
mod ssl;
mod state;
mod switch;
#[cfg(test)]
mod tests;
mod upgrade;
mod variables;

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

use http::config::{Context, Install, Merge, Modifier, Module, ModuleConf, Problem, conf_of};
use http::{Client, Flow, LocalFuture, Request, Template, Waits, written};
use wire::http1::Version;

use pass::{Pass, To};
pub(crate) use state::Upstreamed;
use upstream::Upstreams;

/// The module.
pub const MODULE: Module = Module {
    name: "proxy",
    doc: "Passes requests to other servers.",
    directives: directives::ALL,
    variables: variables::ALL,
    conf: Some(conf_of::<Raw>()),
    prepare: Some(crate::unused::check_zones),
    install: Some(install),
};

/// What one block wrote.
#[derive(Default)]
pub(crate) struct Raw {
    pass: Option<Pass>,
    version: Option<Version>,
    method: Option<Template>,
    body: Option<Template>,
    set_headers: Vec<(Box<[u8]>, Template)>,
    hide: Vec<Box<[u8]>>,
    pass_headers: Vec<Box<[u8]>>,
    pass_request_headers: Option<bool>,
    pass_request_body: Option<bool>,
    connect_timeout_ms: Option<u64>,
    read_timeout_ms: Option<u64>,
    send_timeout_ms: Option<u64>,
    buffering: Option<bool>,
    request_buffering: Option<bool>,
    buffer_size: Option<usize>,
    buffers: Option<(usize, usize)>,
    busy_buffers: Option<usize>,
    /// Bits by the places in [`next::Next::NAMES`].
    next: Option<u32>,
    next_tries: Option<u32>,
    next_timeout_ms: Option<u64>,
    bind: Option<Bind>,
    redirect: redirect::Rules,
    ignore_client_abort: Option<bool>,
    intercept_errors: Option<bool>,
    socket_keepalive: Option<bool>,
    /// Bits by the places in [`Ignore::NAMES`].
    ignore_headers: Option<u32>,
    limit_rate: Option<Template>,
    cookies: cookie::Cookies,
    ssl: ssl::Raw,
}

/// `proxy_bind`
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) enum Bind {
    #[default]
    Off,
    To {
        address: Template,
        transparent: bool,
    },
}

/// `proxy_ignore_headers`: those that make a difference here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Ignore {
    pub(crate) redirect: bool,
    pub(crate) buffering: bool,
    pub(crate) limit_rate: bool,
}

impl Ignore {
    pub(crate) const NAMES: [&str; 9] = [
        "X-Accel-Redirect",
        "X-Accel-Buffering",
        "X-Accel-Limit-Rate",
        "X-Accel-Expires",
        "X-Accel-Charset",
        "Expires",
        "Cache-Control",
        "Set-Cookie",
        "Vary",
    ];

    fn of(words: u32) -> Ignore {
        Ignore { redirect: words & 1 != 0, buffering: words & 2 != 0, limit_rate: words & 4 != 0 }
    }
}

/// What holds in a block. Times are milliseconds, sizes bytes.
#[derive(Clone, Debug)]
pub(crate) struct Conf {
    pass: Option<Arc<Pass>>,
    version: Version,
    method: Option<Template>,
    body: Option<Template>,
    set_headers: Arc<Vec<(Box<[u8]>, Template)>>,
    headers: Arc<request::Headers>,
    hide: Arc<Vec<Box<[u8]>>>,
    pass_headers: Arc<Vec<Box<[u8]>>>,
    hidden: Arc<response::Hidden>,
    pass_request_headers: bool,
    pass_request_body: bool,
    connect_timeout_ms: u64,
    read_timeout_ms: u64,
    send_timeout_ms: u64,
    buffering: bool,
    request_buffering: bool,
    buffer_size: usize,
    buffers: (usize, usize),
    busy_buffers: Option<usize>,
    next: next::Next,
    next_tries: u32,
    next_timeout_ms: u64,
    bind: Bind,
    redirect: redirect::Rules,
    ignore_client_abort: bool,
    intercept_errors: bool,
    socket_keepalive: bool,
    ignore_headers: Ignore,
    /// `proxy_limit_rate`, unless 0.
    limit_rate: Option<Template>,
    cookies: cookie::Cookies,
    ssl: Arc<ssl::Settings>,
    ssl_texts: Arc<ssl::Texts>,
}

impl Default for Conf {
    fn default() -> Conf {
        Conf {
            pass: None,
            version: Version::V11,
            method: None,
            body: None,
            set_headers: Arc::default(),
            headers: Arc::new(request::Headers::compile(&[])),
            hide: Arc::default(),
            pass_headers: Arc::default(),
            hidden: Arc::new(response::Hidden::compile(&[], &[])),
            pass_request_headers: true,
            pass_request_body: true,
            connect_timeout_ms: 60_000,
            read_timeout_ms: 60_000,
            send_timeout_ms: 60_000,
            buffering: true,
            request_buffering: true,
            buffer_size: 4096,
            buffers: (8, 4096),
            busy_buffers: None,
            next: next::Next::default(),
            next_tries: 0,
            next_timeout_ms: 0,
            bind: Bind::Off,
            redirect: redirect::Rules::Unset,
            ignore_client_abort: false,
            intercept_errors: false,
            socket_keepalive: false,
            ignore_headers: Ignore::default(),
            limit_rate: None,
            cookies: cookie::Cookies::default(),
            ssl: Arc::default(),
            ssl_texts: Arc::default(),
        }
    }
}

impl ModuleConf for Raw {
    type Merged = Conf;

    fn merge(mut self, outer: &Conf, at: &mut Merge<'_>) -> Result<Conf, Problem> {
        let mut conf = outer.clone();
        conf.pass = match self.pass {
            Some(pass) => Some(Arc::new(pass)),
            None => outer.pass.clone().filter(|_| passes_on(at)),
        };
        conf.method = self.method.or(conf.method);
        conf.body = self.body.or(conf.body);
        if !self.set_headers.is_empty() {
            conf.headers = Arc::new(request::Headers::compile(&self.set_headers));
            conf.set_headers = Arc::new(self.set_headers);
        }
        if !self.hide.is_empty() || !self.pass_headers.is_empty() {
            if !self.hide.is_empty() {
                conf.hide = Arc::new(self.hide);
            }
            if !self.pass_headers.is_empty() {
                conf.pass_headers = Arc::new(self.pass_headers);
            }
            conf.hidden = Arc::new(response::Hidden::compile(&conf.hide, &conf.pass_headers));
        }
        conf.busy_buffers = self.busy_buffers.or(conf.busy_buffers);
        if !matches!(self.redirect, redirect::Rules::Unset) {
            conf.redirect = self.redirect;
        }
        written!(
            self => conf:
            version,
            pass_request_headers,
            pass_request_body,
            connect_timeout_ms,
            read_timeout_ms,
            send_timeout_ms,
            buffering,
            request_buffering,
            buffer_size,
            buffers,
            next_tries,
            next_timeout_ms,
            bind,
            ignore_client_abort,
            intercept_errors,
            socket_keepalive,
        );
        conf.next = self.next.map_or(conf.next, next::Next::of);
        conf.ignore_headers = self.ignore_headers.map_or(conf.ignore_headers, Ignore::of);
        let is_none =
            |rate: &Template| rate.as_literal().is_some_and(|rate| conf::value::size(rate) == Some(0));
        conf.limit_rate = self.limit_rate.or(conf.limit_rate).filter(|rate| !is_none(rate));
        conf.cookies = self.cookies.merge(&conf.cookies);
        conf.ssl_texts = Arc::new(self.ssl.merge_texts(&conf.ssl_texts));
        if !self.ssl.is_unset() {
            conf.ssl = Arc::new(self.ssl.merge(&conf.ssl));
        }
        // What stands in http is checked where a server has it, as a server may say the rest of it.
        if at.place != Context::HTTP {
            check_sizes(&conf)?;
        }
        Ok(conf)
    }

    fn inherit(outer: &Arc<Conf>, at: &mut Merge<'_>) -> Arc<Conf> {
        if outer.pass.is_none() || passes_on(at) {
            return outer.clone();
        }
        Arc::new(Conf { pass: None, ..Conf::clone(outer) })
    }
}

/// `proxy_pass` holds in the blocks without a name inside its location, and in no other.
fn passes_on(at: &Merge<'_>) -> bool {
    at.place.has(Context::LOCATION_IF.or(Context::LIMIT_EXCEPT))
}

fn check_sizes(conf: &Conf) -> Result<(), Problem> {
    let (count, size) = conf.buffers;
    if count < 2 {
        return Err(Problem::new("there must be at least 2 \"proxy_buffers\""));
    }
    let largest = conf.buffer_size.max(size);
    let busy = conf.busy_buffers.unwrap_or(2 * largest);
    if busy < largest {
        return Err(Problem::new(
            "\"proxy_busy_buffers_size\" must be equal to or greater than the maximum of the value of \
             \"proxy_buffer_size\" and one of the \"proxy_buffers\"",
        ));
    }
    if busy > (count - 1) * size {
        return Err(Problem::new(
            "\"proxy_busy_buffers_size\" must be less than the size of all \"proxy_buffers\" minus one buffer",
        ));
    }
    Ok(())
}

/// A location that passes requests on.
#[derive(Debug)]
pub(crate) struct Site {
    conf: Arc<Conf>,
    /// Group and target of a fixed URL.
    fixed: Option<(Arc<upstream::Group>, Arc<pass::Target>)>,
    /// What TLS is made with, where the URL is https or may be.
    secure: Option<Arc<ssl::Secure>>,
    /// Some variable of the configuration asks for the upstream's fields after the response.
    keep_head: bool,
}

fn install(conf: &Arc<dyn Any + Send + Sync>, install: &mut Install<'_>) {
    let Ok(conf) = conf.clone().downcast::<Conf>() else { return };
    let Some(pass) = conf.pass.clone() else { return };
    let mut fixed = None;
    if let To::Fixed { wanted, target, .. } = &pass.to {
        let unfit = matches!(install.modifier, Modifier::Regex(_) | Modifier::Named);
        if !target.uri.is_empty() && unfit && install.place.has(Context::LOCATION) {
            install.error(pass.span, Problem::new(pass::NO_URI_HERE));
        }
        let group = install.registry().of::<Upstreams>().wanted(wanted).cloned();
        fixed = group.map(|group| (group, target.clone()));
    }
    let secure = match pass.may_be_tls() {
        true => ssl::secure(&conf.ssl, &conf.ssl_texts, pass.span, install),
        false => None,
    };
    let keep_head = install
        .variables()
        .names()
        .any(|name| name.starts_with("upstream_http_") || name.starts_with("upstream_cookie_"));
    install.auto_redirect();
    install.content(Site { conf, fixed, secure, keep_head });
}

impl Waits for Site {
    fn handle<'r>(&'r self, request: &'r mut Request, client: &'r mut dyn Client) -> LocalFuture<'r, Flow> {
        Box::pin(exchange::run(self, request, client))
    }
}

/// A local address for the connection upstream, made for one request.
fn local_address(bind: &Bind, request: &mut Request) -> (Option<SocketAddr>, bool) {
    let Bind::To { address, transparent } = bind else { return (None, false) };
    let text = address.value(request);
    let text = String::from_utf8_lossy(&text);
    let parsed = text.parse::<SocketAddr>().ok().or_else(|| {
        text.trim_matches(['[', ']']).parse::<std::net::IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0))
    });
    if parsed.is_none() && !text.is_empty() {
        request.log(http::log::Level::Error, format_args!("invalid local address \"{text}\""));
    }
    (parsed, *transparent)
}
