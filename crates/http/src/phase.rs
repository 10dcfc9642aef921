//! One request through the phases of its location.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use wire::http1::{FieldId, Method};

use crate::client::Client;
use crate::config::KeepaliveDisable;
use crate::location::{Found, find};
use crate::log::Level;
use crate::message::Request;
use crate::tunnel::TunnelPlan;
use crate::{LocationId, conditional, output, range};

mod special;

pub use special::NGINX_VERSION;

/// When a handler runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// `set`, `if`, `return`, `rewrite` of the server block, before a location is looked for.
    ServerRewrite,
    /// The same of the location.
    Rewrite,
    /// `limit_conn`, `limit_req`
    Preaccess,
    /// `allow`, `auth_basic`, `auth_request`
    Access,
    /// `try_files`, `mirror`
    Precontent,
    /// `proxy_pass`, `index`, files
    Content,
}

/// How many phases there are.
pub(crate) const PHASES: usize = 6;

/// A future that stays in its worker.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What a module put into a location (D9): a plain function, or a boxed future for one that waits.
pub enum Handler {
    /// Answers at once.
    Plain(Box<dyn Fn(&mut Request) -> Flow + Send + Sync>),
    /// Waits for a peer, a file, a client.
    Waits(Box<dyn Waits>),
}

/// A handler that waits. It lives as long as the request's snapshot, so its future may look into it.
pub trait Waits: Send + Sync {
    /// Handles a request.
    fn handle<'r>(&'r self, request: &'r mut Request, client: &'r mut dyn Client) -> LocalFuture<'r, Flow>;
}

impl<F> Waits for F
where
    F: for<'r> Fn(&'r mut Request, &'r mut dyn Client) -> LocalFuture<'r, Flow> + Send + Sync,
{
    fn handle<'r>(&'r self, request: &'r mut Request, client: &'r mut dyn Client) -> LocalFuture<'r, Flow> {
        self(request, client)
    }
}

/// What a handler decided.
pub enum Flow {
    /// Not mine: the next handler.
    Next,
    /// `request.response` is ready, with its body; send it.
    Respond,
    /// The response was sent, to its end.
    Done,
    /// The answer is this status: an error page, or the built-in one.
    Status(u16),
    /// Start again with this URI, inside.
    Redirect(Redirect),
    /// The request becomes a tunnel; the 101 is in `request.response`.
    Tunnel(Box<TunnelPlan>),
    /// The connection cannot be used on: close it without another byte.
    Abort,
}

/// Where an internal redirect leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirect {
    /// A URI and arguments.
    Uri(Vec<u8>, Vec<u8>),
    /// `@name`
    Named(Vec<u8>),
}

/// How a request ended.
pub enum Outcome {
    /// Answered; the connection goes on as `request.keepalive` says.
    Finished,
    /// Becomes a tunnel.
    Tunnel(Box<TunnelPlan>),
    /// The connection must be closed, the response may be cut.
    Abort,
}

/// Takes a request whose head was read to its answer.
pub async fn serve(request: &mut Request, client: &mut dyn Client) -> Outcome {
    let mut flow = from_server(request, client).await;
    loop {
        flow = match flow {
            Flow::Done => return done(request, client).await,
            Flow::Tunnel(plan) => return Outcome::Tunnel(plan),
            Flow::Abort => return Outcome::Abort,
            Flow::Respond => match respond(request, client).await {
                Ok(outcome) => return outcome,
                Err(status) => Flow::Status(status),
            },
            Flow::Next => Flow::Status(404),
            Flow::Status(_) if request.response.head_sent => return Outcome::Abort,
            Flow::Status(status) if client.is_gone() => return unanswered(request, status),
            Flow::Status(status) if is_unanswered(status) => return unanswered(request, status),
            Flow::Status(status) => special::answer(request, status),
            Flow::Redirect(redirect) => redirected(request, client, redirect).await,
        };
    }
}

/// A client that was too slow or went away gets no answer, and 444 asks for none: the status is for the log alone.
fn is_unanswered(status: u16) -> bool {
    matches!(status, 408 | 444 | 499)
}

/// Sends what a handler prepared. Nobody reads the rest of the request body then; if it is bad, that is the answer.
async fn respond(request: &mut Request, client: &mut dyn Client) -> Result<Outcome, u16> {
    let dropped = poll_fn(|cx| Poll::Ready(client.drop_body(cx, request))).await;
    if let Err(error) = dropped {
        request.keepalive = false;
        if request.error_status.is_none() {
            return Err(error.status());
        }
    }
    conditional::check(request)?;
    range::plan(request)?;
    Ok(match output::respond(request, client).await {
        Ok(()) => Outcome::Finished,
        Err(_) => Outcome::Abort,
    })
}

/// A handler sent the response itself: what it left in the queue goes out.
async fn done(request: &mut Request, client: &mut dyn Client) -> Outcome {
    match output::flush(request, client, 0).await {
        Ok(()) => {
            request.response.complete = true;
            Outcome::Finished
        }
        Err(_) => Outcome::Abort,
    }
}

fn unanswered(request: &mut Request, status: u16) -> Outcome {
    request.response.status = status;
    Outcome::Abort
}

/// Answers a request whose head could not be used.
pub async fn refuse(request: &mut Request, client: &mut dyn Client, status: u16) -> Outcome {
    request.keepalive = false;
    if is_unanswered(status) {
        return unanswered(request, status);
    }
    let mut flow = special::answer(request, status);
    loop {
        flow = match flow {
            Flow::Respond => match respond(request, client).await {
                Ok(outcome) => return outcome,
                Err(status) => Flow::Status(status),
            },
            Flow::Status(status) => special::built_in(request, status),
            Flow::Redirect(redirect) => redirected(request, client, redirect).await,
            Flow::Done => return done(request, client).await,
            _ => return Outcome::Abort,
        };
    }
}

async fn redirected(request: &mut Request, client: &mut dyn Client, redirect: Redirect) -> Flow {
    request.redirects_left = request.redirects_left.saturating_sub(1);
    if request.redirects_left == 0 {
        let to = match &redirect {
            Redirect::Uri(uri, _) => uri,
            Redirect::Named(name) => name,
        };
        let to = String::from_utf8_lossy(to);
        request.log(
            Level::Error,
            format_args!("rewrite or internal redirection cycle while internally redirecting to \"{to}\""),
        );
        return Flow::Status(500);
    }
    request.internal = true;
    request.response.reset_body();
    match redirect {
        Redirect::Uri(uri, args) => {
            request.uri = uri;
            request.args = args;
            request.uri_valid_raw = false;
            from_server(request, client).await
        }
        Redirect::Named(name) => match request.server().named(&name) {
            Some(location) => {
                request.location = location;
                limit_keepalive(request);
                from_rewrite(request, client).await
            }
            None => {
                let name = String::from_utf8_lossy(&name).into_owned();
                request.log(Level::Error, format_args!("could not find named location \"{name}\""));
                Flow::Status(500)
            }
        },
    }
}

async fn from_server(request: &mut Request, client: &mut dyn Client) -> Flow {
    request.location = request.server().root;
    match run(Phase::ServerRewrite, request, client).await {
        Flow::Next => {}
        flow => return flow,
    }
    if let Some(flow) = find_location(request) {
        return flow;
    }
    from_rewrite(request, client).await
}

async fn from_rewrite(request: &mut Request, client: &mut dyn Client) -> Flow {
    loop {
        match run(Phase::Rewrite, request, client).await {
            Flow::Next => {}
            flow => return flow,
        }
        if !std::mem::take(&mut request.uri_changed) {
            break;
        }
        request.redirects_left = request.redirects_left.saturating_sub(1);
        if request.redirects_left == 0 {
            let uri = String::from_utf8_lossy(&request.uri).into_owned();
            request.log(
                Level::Error,
                format_args!("rewrite or internal redirection cycle while processing \"{uri}\""),
            );
            return Flow::Status(500);
        }
        if let Some(flow) = find_location(request) {
            return flow;
        }
    }
    for phase in [Phase::Preaccess, Phase::Access, Phase::Precontent, Phase::Content] {
        if request.location().handlers(phase).is_empty() {
            continue;
        }
        match run(phase, request, client).await {
            Flow::Next => {}
            flow => return flow,
        }
    }
    Flow::Status(404)
}

async fn run(phase: Phase, request: &mut Request, client: &mut dyn Client) -> Flow {
    let snapshot = request.snapshot.clone();
    let mut at = 0;
    // The location may change under way (an `if` that held), and its list with it.
    let mut location = request.location;
    loop {
        let Some(handler) = snapshot.location(location).handlers(phase).get(at) else { return Flow::Next };
        let flow = match handler {
            Handler::Plain(call) => call(request),
            Handler::Waits(handler) => handler.handle(request, client).await,
        };
        match flow {
            Flow::Next => at += 1,
            flow => return flow,
        }
        if phase != Phase::Rewrite {
            location = request.location;
        }
    }
}

fn find_location(request: &mut Request) -> Option<Flow> {
    let snapshot = request.snapshot.clone();
    request.uri_changed = false;
    let found = find(&snapshot, request.server, &request.uri, &mut request.captures);
    let (Found::Location(id) | Found::Slash(id)) = found;
    request.location = id;
    limit_keepalive(request);
    let core = &snapshot.location(id).core;
    if core.internal && !request.internal {
        return Some(Flow::Status(404));
    }
    let length = request.head.content_length.unwrap_or_default();
    if request.is_main()
        && core.client_max_body_size != 0
        && length > core.client_max_body_size
        && !request.internal
    {
        request.log(Level::Error, format_args!("client intended to send too large body: {length} bytes"));
        request.keepalive = false;
        return Some(Flow::Status(413));
    }
    match found {
        Found::Slash(id) => Some(slash(request, id)),
        Found::Location(_) => None,
    }
}

/// `keepalive_timeout`, `keepalive_requests` and `keepalive_time` of the location.
fn limit_keepalive(request: &mut Request) {
    let core = &request.location().core;
    let connection = &request.connection;
    let age_ms = crate::clock::monotonic_ms().saturating_sub(connection.started_ms);
    request.keepalive &= core.keepalive_timeout > 0
        && connection.requests.get() < core.keepalive_requests
        && age_ms <= core.keepalive_time
        && !is_disabled(core.keepalive_disable, request);
}

/// `keepalive_disable`
fn is_disabled(disable: KeepaliveDisable, request: &Request) -> bool {
    let asks_msie6 = disable.msie6 && request.method == Method::Post;
    if !asks_msie6 && !disable.safari {
        return false;
    }
    let Some(agent) = request.head.fields.value(FieldId::UserAgent, &request.bytes) else { return false };
    let has = |what: &[u8]| memchr::memmem::find(agent, what).is_some();
    let msie = memchr::memmem::find(agent, b"MSIE ").filter(|_| !has(b"Opera"));
    match msie.and_then(|at| agent.get(at + 5..at + 8)) {
        Some([version, b'.', _]) if asks_msie6 => {
            matches!(version, b'4' | b'5') || *version == b'6' && !has(b"SV1")
        }
        Some(_) => false,
        None => {
            let others: [&[u8]; 3] = [b"Opera", b"Gecko/", b"Chrome/"];
            disable.safari && has(b"Safari/") && has(b"Mac OS X") && !others.into_iter().any(has)
        }
    }
}

/// `/x` to `/x/`, because the location is `/x/` and passes requests on.
fn slash(request: &mut Request, id: LocationId) -> Flow {
    let snapshot = request.snapshot.clone();
    let mut target = Vec::new();
    wire::http1::escape_uri(&snapshot.location(id).text, wire::http1::Escape::Uri, &mut target);
    if !request.args.is_empty() {
        target.push(b'?');
        target.extend_from_slice(&request.args);
    }
    request.response.location = Some(target);
    Flow::Status(301)
}

/// Whether a method's answer has no body.
pub fn is_head(request: &Request) -> bool {
    request.method == Method::of(b"HEAD")
}
