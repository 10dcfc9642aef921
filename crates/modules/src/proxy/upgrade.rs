//! The WebSocket rules (design section 2): which requests ask the upstream to switch protocols, and which answers start
//! a tunnel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::config::{Websocket, WebsocketMode as Mode};
use http::log::Level;
use http::{Request, TunnelPlan};
use wire::http1::{FieldId, ResponseHead, Version, has_token, tokens};
use wire::websocket::{Handshake, check_101, handshake};

use crate::proxy::Conf;

/// What is sent of `Upgrade` and `Connection`, and what the answer is held against.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Upgrade {
    /// The value of `Upgrade`; empty: not sent.
    pub(crate) protocol: Vec<u8>,
    /// The value of `Connection`; empty: not sent.
    pub(crate) connection: Vec<u8>,
    /// The client sent a valid handshake.
    pub(crate) valid: bool,
    /// Automatic mode: a 101 is checked.
    pub(crate) auto: bool,
}

impl Upgrade {
    /// Whether the upstream is asked to switch protocols.
    pub(crate) fn is_sent(&self) -> bool {
        !self.protocol.is_empty()
    }

    /// Decides for one request.
    pub(crate) fn plan(conf: &Conf, request: &mut Request) -> Upgrade {
        let mut plan = Upgrade::default();
        if request.head.fields.has(FieldId::Upgrade) {
            plan.valid = matches!(handshake(&request.head, &request.bytes), Handshake::Valid { .. });
            plan.auto = plan.valid && request.is_main() && conf.may_upgrade() && mode(request) == Mode::Auto;
        }
        if let Some(value) = &conf.headers.upgrade {
            value.render(request, &mut plan.protocol);
        }
        if let Some(value) = &conf.headers.connection {
            value.render(request, &mut plan.connection);
        }
        if plan.auto {
            plan.fill_in();
        }
        let from_variables = conf.headers.upgrade.as_ref().is_some_and(http::Template::varies);
        if from_variables && tokens(&plan.protocol).any(is_foreign) {
            plan.drop_protocol(request);
        }
        plan
    }

    /// A header the configuration says nothing of, or nothing for this request.
    fn fill_in(&mut self) {
        if self.protocol.is_empty() {
            self.protocol.extend_from_slice(b"websocket");
        }
        if self.connection.is_empty() {
            self.connection.extend_from_slice(b"upgrade");
        }
    }

    /// A client that chooses the protocol could talk past every rule here (h2c smuggling).
    fn drop_protocol(&mut self, request: &Request) {
        static SAID: AtomicBool = AtomicBool::new(false);
        if !SAID.swap(true, Ordering::Relaxed) {
            let protocol = String::from_utf8_lossy(&self.protocol);
            request.log(
                Level::Warn,
                format_args!(
                    "\"Upgrade: {protocol}\" of the client is not passed to the upstream, \
                     only WebSocket is upgraded through variables (said once)"
                ),
            );
        }
        self.protocol.clear();
        let kept: Vec<&[u8]> =
            tokens(&self.connection).filter(|token| !token.eq_ignore_ascii_case(b"upgrade")).collect();
        self.connection = kept.join(&b", "[..]);
    }
}

/// Protocols that would carry requests we never see.
fn is_foreign(token: &[u8]) -> bool {
    let starts = |name: &[u8]| token.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name));
    starts(b"h2c") || starts(b"HTTP/2") || starts(b"TLS")
}

fn mode(request: &Request) -> Mode {
    websocket_conf(request).map_or(Mode::default(), |conf| conf.mode)
}

fn websocket_conf(request: &Request) -> Option<Arc<Websocket>> {
    request.location().conf::<Websocket>()
}

impl Conf {
    /// Whether automatic mode is possible here at all.
    fn may_upgrade(&self) -> bool {
        let switched_off = self.headers.upgrade.as_ref().and_then(http::Template::as_literal) == Some(b"");
        !switched_off
            && self.version >= Version::V11
            && self.method.is_none()
            && self.body.is_none()
            && self.pass_request_headers
    }
}

/// What an upstream's 101 means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    /// A tunnel; true: of WebSocket frames.
    Tunnel(bool),
    /// Nobody asked for it: relayed as it is, and that is all.
    Relay,
    /// 502, for this reason.
    Bad(String),
}

/// Looks at a 101.
pub(crate) fn switch(
    conf: &Conf,
    plan: &Upgrade,
    head: &ResponseHead,
    bytes: &[u8],
    request: &Request,
) -> Switch {
    // A client that asked for something we did not pass on gets no tunnel either.
    if !request.head.fields.has(FieldId::Upgrade) || !plan.is_sent() {
        return Switch::Relay;
    }
    if !request.is_main() {
        return Switch::Bad("connection upgrade in subrequest".into());
    }
    let is_websocket =
        || head.fields.value(FieldId::Upgrade, bytes).is_some_and(|value| has_token(value, b"websocket"));
    if !plan.auto {
        return Switch::Tunnel(plan.valid && is_websocket());
    }
    // Automatic mode is for valid handshakes, and those have one key.
    let key = request.head.fields.value(FieldId::SecWebSocketKey, &request.bytes).unwrap_or_default();
    match check_101(head, bytes, key.trim_ascii()) {
        Err(wire::websocket::Bad101::Accept) if conf.headers.own_key => Switch::Tunnel(true),
        Err(bad) => Switch::Bad(format!("{}; \"websocket manual\" passes it on unchecked", bad.message())),
        Ok(()) => Switch::Tunnel(true),
    }
}

/// One line that says why a handshake failed when this configuration is why.
pub(crate) fn explain_refusal(conf: &Conf, plan: &Upgrade, status: u16, request: &Request) {
    if !plan.valid || !matches!(status, 400 | 426) {
        return;
    }
    let names_upgrade = has_token(&plan.connection, b"upgrade");
    let why = if plan.is_sent() && names_upgrade {
        return;
    } else if plan.is_sent() {
        "\"proxy_set_header Connection\" sends a value without \"upgrade\": remove it or write \
         proxy_set_header Connection \"upgrade\""
    } else if conf.version < Version::V11 {
        "\"proxy_http_version 1.0\" cannot upgrade: write proxy_http_version 1.1"
    } else if conf.headers.upgrade.is_some() {
        "\"proxy_set_header Upgrade\" is empty here: remove it or write proxy_set_header Upgrade $http_upgrade"
    } else if mode(request) == Mode::Manual {
        "\"websocket manual\" sends no Upgrade header by itself: write proxy_set_header Upgrade $http_upgrade and \
         proxy_set_header Connection \"upgrade\", or websocket auto"
    } else {
        "automatic upgrade is not possible with proxy_method, proxy_set_body or proxy_pass_request_headers off"
    };
    request.log(
        Level::Error,
        format_args!("the upstream answered a WebSocket handshake with {status}, because it was not asked to upgrade: {why}"),
    );
}

/// The rules that hold for the tunnel of this location.
pub(crate) fn tunnel_plan(conf: &Conf, request: &Request, upstream: reactor::Source) -> TunnelPlan {
    let websocket = websocket_conf(request).unwrap_or_default();
    TunnelPlan {
        upstream,
        upstream_tls: None,
        leftover: Vec::new(),
        idle_ms: websocket.idle_ms.unwrap_or(conf.read_timeout_ms),
        send_upstream_ms: conf.send_timeout_ms,
        send_client_ms: request.location().core.send_timeout,
        fin_ms: websocket.fin_ms,
        buffer_bytes_max: websocket.buffer_bytes_max,
        websocket: false,
        close_on_reload: websocket.close_on_reload,
        upstream_received: 0,
        upstream_sent: 0,
        upstream_started_ms: 0,
        upstream_name: Vec::new(),
        // For one, the peer's count: a tunnel keeps what it is given.
        guards: Vec::with_capacity(1),
    }
}
