//! A request on its way through the phases.

use std::fmt;
use std::rc::Rc;

use wire::http1::{FieldId, Method, RequestHead};

use crate::config::{Location, Server};
use crate::log::Level;
use crate::message::{Captures, Connection, Response, Slots, SnapshotRef};
use crate::pool::Buf;
use crate::variable::Values;
use crate::{LocationId, ServerId};

/// Most internal redirects of one request (nginx's `NGX_HTTP_MAX_URI_CHANGES`).
pub const REDIRECTS_MAX: u8 = 10;

/// Who asked for a request (D11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Lineage {
    /// A client.
    #[default]
    Main,
    /// Another request, so many steps below the main one.
    Sub {
        /// 1 for a child of the main request.
        depth: u8,
    },
}

/// One request, by a client or by another request.
pub struct Request {
    /// The configuration it started under; it ends under the same.
    pub snapshot: SnapshotRef,
    /// Where it came from.
    pub connection: Rc<Connection>,
    /// The head: spans into [`Request::bytes`].
    pub head: RequestHead,
    /// The head's bytes.
    pub bytes: Buf,
    /// The server that answers.
    pub server: ServerId,
    /// The block that answers.
    pub location: LocationId,
    /// The method as it is now (an error page may make it GET).
    pub method: Method,
    /// `$uri`: normalised, and changed by rewrites.
    pub uri: Vec<u8>,
    /// `$args`
    pub args: Vec<u8>,
    /// `$host` from the head: lower-cased, without port. Empty when the client sent none.
    pub host: Vec<u8>,
    /// Whether `uri` is still what the client sent.
    pub uri_valid_raw: bool,
    /// Set by a rewrite: the location is looked up again.
    pub uri_changed: bool,
    /// Internal redirects and rewrites left.
    pub redirects_left: u8,
    /// Whether an internal redirect or an error page led here.
    pub internal: bool,
    /// The status that an error page is shown for.
    pub error_status: Option<u16>,
    /// Whether no further `error_page` is looked for (`recursive_error_pages off`).
    pub error_page_shown: bool,
    /// Main or sub.
    pub lineage: Lineage,
    /// When its first byte came, [`crate::clock::monotonic_ms`].
    pub started_ms: u64,
    /// `$request_length`: head and body bytes received.
    pub received: u64,
    /// Whether the connection may serve another request.
    pub keepalive: bool,
    /// Whether the whole request body was read.
    pub body_read: bool,
    /// Whether its first bytes came together with the request before it.
    pub pipelined: bool,
    /// Bytes a second the client gets, once it is known: by `$limit_rate`, by the upstream, at the head by `limit_rate`;
    /// 0 is no limit.
    pub limit_rate: Option<u64>,
    /// Bytes that go out before the limit holds.
    pub limit_rate_after: u64,
    /// What variables keep.
    pub values: Values,
    /// What the last regular expression captured.
    pub captures: Captures,
    /// What modules remember.
    pub slots: Slots,
    /// The answer.
    pub response: Response,
}

impl Request {
    /// A request without a head yet.
    pub fn new(snapshot: SnapshotRef, connection: Rc<Connection>) -> Request {
        Request {
            snapshot,
            connection,
            head: RequestHead::default(),
            bytes: Buf::default(),
            server: ServerId(0),
            location: LocationId(0),
            method: Method::of(b"GET"),
            uri: Vec::new(),
            args: Vec::new(),
            host: Vec::new(),
            uri_valid_raw: true,
            uri_changed: false,
            redirects_left: REDIRECTS_MAX + 1,
            internal: false,
            error_status: None,
            error_page_shown: false,
            lineage: Lineage::Main,
            started_ms: 0,
            received: 0,
            keepalive: false,
            body_read: false,
            pipelined: false,
            limit_rate: None,
            limit_rate_after: 0,
            values: Values::default(),
            captures: Captures::default(),
            slots: Slots::default(),
            response: Response::default(),
        }
    }

    /// Makes it ready for the next request of its connection, keeping memory.
    pub fn clear(&mut self) {
        self.head.clear();
        self.bytes = Buf::default();
        self.uri.clear();
        self.args.clear();
        self.host.clear();
        self.uri_valid_raw = true;
        self.uri_changed = false;
        self.redirects_left = REDIRECTS_MAX + 1;
        self.internal = false;
        self.error_status = None;
        self.error_page_shown = false;
        self.lineage = Lineage::Main;
        self.received = 0;
        self.keepalive = false;
        self.body_read = false;
        self.pipelined = false;
        self.limit_rate = None;
        self.limit_rate_after = 0;
        self.values.clear();
        self.captures.clear();
        self.slots.clear();
        self.response.clear();
    }

    /// Fills what follows from the parsed head: URI, arguments, host.
    pub fn head_is_read(&mut self) {
        self.method = self.head.method;
        self.uri.clear();
        self.uri.extend_from_slice(self.head.path(&self.bytes));
        self.args.clear();
        self.args.extend_from_slice(self.head.args(&self.bytes));
        self.host.clear();
        if let Some(host) = self.head.host {
            host.lower_to(&self.bytes, &mut self.host);
        }
    }

    /// The server that answers, under a borrow of its own so that the request can change meanwhile.
    pub fn server(&self) -> &Server {
        self.snapshot.server(self.server)
    }

    /// The block that answers.
    pub fn location(&self) -> &Location {
        self.snapshot.location(self.location)
    }

    /// The first value of a known request field.
    pub fn field(&self, id: FieldId) -> Option<&[u8]> {
        self.head.fields.value(id, &self.bytes)
    }

    /// The method as sent, or what an error page or X-Accel-Redirect made of it.
    pub fn method_name(&self) -> &[u8] {
        match self.method {
            Method::Get if self.head.method != Method::Get => b"GET",
            Method::Head if self.head.method != Method::Head => b"HEAD",
            _ => self.head.method_name.of(&self.bytes),
        }
    }

    /// The request line without its end, as sent: `$request`.
    pub fn line(&self) -> &[u8] {
        self.head.line.of(&self.bytes)
    }

    /// The target as sent, without scheme and authority: `$request_uri`.
    pub fn target(&self) -> &[u8] {
        self.head.target.of(&self.bytes)
    }

    /// The status that the client sees: that of `error_page ... =code`, or of the page's error, before the response's own.
    pub fn shown_status(&self) -> u16 {
        let of_page = self.error_status.filter(|status| *status > 0 && !self.response.has_final_status);
        of_page.unwrap_or(self.response.status)
    }

    /// Whether a client asked, not another request.
    pub fn is_main(&self) -> bool {
        self.lineage == Lineage::Main
    }

    /// Appends a capture of the last regular expression.
    pub fn capture(&self, number: u8, out: &mut Vec<u8>) {
        out.extend_from_slice(self.captures.group(usize::from(number)).unwrap_or_default());
    }

    /// Writes to the error log of this request's location, with nginx's context behind the message.
    pub fn log(&self, level: Level, message: fmt::Arguments<'_>) {
        let log = &self.location().core.error_log;
        if log.takes(level) {
            log.write_for(level, self, message);
        }
    }
}
