//! A request head: nginx's request line and field rules, and what they decide about body, host and connection.

use crate::{Span, same};

use super::error::RequestError;
use super::field::{Field, FieldId, FieldIds, Fields, contains_ignore_case, has_token};
use super::head::{Full, HeadLimits, Part, Resume, Step};
use super::host::{Host, validate_host};
use super::line::{self, Line, NameRules};
use super::request_line::{self, Marks, Method, Version};
use super::uri::normalise_path;

/// What the `Connection` fields ask for; the last one that says either wins, as in nginx.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connection {
    /// Neither word: the version decides.
    #[default]
    Unsaid,
    /// The word "close" stands in it.
    Close,
    /// The word "keep-alive" stands in it.
    KeepAlive,
}

/// A request head: spans into the buffer the caller keeps, and what follows from them.
///
/// Filled by [`request`]; the fields are right once that has said `Done`. Reuse it: after a few requests it allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method, if nginx has a name for it.
    pub method: Method,
    /// The method as sent (`$request_method`).
    pub method_name: Span,
    /// The request line without its line end (`$request`).
    pub line: Span,
    /// The version.
    pub version: Version,
    /// The version as sent (`$server_protocol`); empty in HTTP/0.9.
    pub protocol: Span,
    /// The target without scheme and authority (`$request_uri`).
    pub target: Span,
    /// The scheme of an absolute-form target.
    pub scheme: Option<Span>,
    /// Host and port of an absolute-form target or of CONNECT.
    pub authority: Option<Span>,
    /// The path as sent, before `?` and `#`; see [`RequestHead::path`] for the normalised one.
    pub raw_path: Span,
    /// What stands between the first `?` and a `#` (`$args`).
    pub query: Option<Span>,
    /// The host: that of the target, else that of the `Host` field; `None` if the head names none.
    pub host: Option<Host>,
    /// All fields but those dropped for their names.
    pub fields: Fields,
    /// Field lines dropped for their names (`ignore_invalid_headers`), to be logged at `info`: [`RequestHead::dropped_text`].
    pub dropped: Vec<Span>,
    /// The body's length in bytes, if `Content-Length` said it.
    pub content_length: Option<u64>,
    /// The body is chunked.
    pub chunked: bool,
    /// What the `Connection` fields ask for.
    pub connection: Connection,
    /// A `Connection` field has the member `upgrade`.
    pub connection_upgrade: bool,
    /// The client waits for `100 Continue` before it sends the body. Never true before HTTP/1.1.
    pub expect_continue: bool,
    pub(crate) is_complex: bool,
    pub(crate) is_empty_path: bool,
    normalised: Vec<u8>,
    marks: Marks,
}

impl RequestHead {
    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        // Field by field: the whole would be made anew and copied over.
        let RequestHead { method, method_name, line, version, protocol, target, scheme, authority, .. } =
            self;
        (*method, *method_name, *line) = (Method::default(), Span::EMPTY, Span::EMPTY);
        (*version, *protocol, *target) = (Version::default(), Span::EMPTY, Span::EMPTY);
        (*scheme, *authority) = (None, None);
        let RequestHead { raw_path, query, host, fields, dropped, content_length, chunked, .. } = self;
        (*raw_path, *query, *host) = (Span::EMPTY, None, None);
        fields.clear();
        dropped.clear();
        (*content_length, *chunked) = (None, false);
        let RequestHead { connection, connection_upgrade, expect_continue, .. } = self;
        (*connection, *connection_upgrade, *expect_continue) = (Connection::default(), false, false);
        let RequestHead { is_complex, is_empty_path, normalised, marks, .. } = self;
        (*is_complex, *is_empty_path) = (false, false);
        normalised.clear();
        *marks = Marks::default();
    }

    /// The normalised path: what `$uri` starts as and locations are matched against.
    #[inline]
    pub fn path<'a>(&'a self, buf: &'a [u8]) -> &'a [u8] {
        if self.normalised.is_empty() { self.raw_path.of(buf) } else { &self.normalised }
    }

    /// True if the path is not as it was sent: it was decoded, resolved, or missing.
    pub fn is_path_changed(&self) -> bool {
        !self.normalised.is_empty()
    }

    /// False if the target had no path (`GET http://host?x`): then it can't be passed on as it was sent.
    pub fn is_target_valid(&self) -> bool {
        !self.is_empty_path
    }

    /// The arguments; empty if there are none.
    #[inline]
    pub fn args<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        self.query.map_or(&[], |query| query.of(buf))
    }

    /// True if a body follows the head.
    pub fn has_body(&self) -> bool {
        self.chunked || self.content_length.is_some_and(|length| length > 0)
    }

    /// True if the connection may be kept for another request as far as the client is concerned.
    pub fn keepalive(&self) -> bool {
        match self.connection {
            _ if self.method == Method::Connect => false,
            Connection::Unsaid => self.version > Version::V10,
            Connection::Close => false,
            Connection::KeepAlive => true,
        }
    }

    /// Sets the target of a head that did not come as HTTP/1 text: HTTP/2 and HTTP/3 fill the same form from their own
    /// blocks, with method and version set by hand, then this, [`RequestHead::push_field`] and [`RequestHead::finish`].
    pub fn set_target(&mut self, buf: &[u8], target: Span, limits: &HeadLimits) -> Result<(), RequestError> {
        let mut marks = Marks::default();
        request_line::read_target(buf, target, &mut marks)?;
        request_line::finish_target(&marks, self);
        self.normalise(buf, limits)
    }

    /// Adds a field with a valid name, and does what it says: see [`RequestHead::set_target`].
    pub fn push_field(
        &mut self,
        buf: &[u8],
        name: Span,
        value: Span,
        limits: &HeadLimits,
    ) -> Result<(), RequestError> {
        self.push(buf, Field { name, value, id: FieldId::of(name.of(buf)) }, limits)
    }

    #[inline]
    fn push(&mut self, buf: &[u8], field: Field, limits: &HeadLimits) -> Result<(), RequestError> {
        if self.fields.len() >= limits.count_max {
            return Err(RequestError::TooManyFields);
        }
        if KNOWN.has(field.id) {
            if let Err(error) = known_field(buf, self, &field) {
                if !matches!(error, RequestError::DuplicateHost(..)) {
                    // Variables show it.
                    self.fields.push(field);
                }
                return Err(error);
            }
        }
        self.fields.push(field);
        Ok(())
    }

    /// Decides what needs all fields, host, body and method: see [`RequestHead::set_target`].
    pub fn finish(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<(), RequestError> {
        decide(buf, self, limits)
    }

    fn normalise(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<(), RequestError> {
        self.normalised.clear();
        if !self.is_complex && !self.is_empty_path {
            return Ok(());
        }
        let raw = if self.is_empty_path { b"/" } else { self.raw_path.of(buf) };
        normalise_path(raw, limits.merge_slashes, &mut self.normalised)
            .map_err(|_| RequestError::InvalidRequest)
    }

    /// nginx's log text for a dropped field line.
    pub fn dropped_text(line: Span, buf: &[u8]) -> String {
        format!("client sent invalid header line: \"{}\"", super::error::text_of(line, buf))
    }
}

/// The number of bytes at the front of `buf` that a request can't start with and that are skipped: CR and LF.
///
/// [`request`] skips them itself; a caller that wants to give their room back does so with this before it starts a head.
pub fn leading_blank(buf: &[u8]) -> usize {
    buf.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(buf.len())
}

/// Reads a request head from the front of `buf`. `Done` has the number of bytes it took, blank lines before it included.
///
/// Call it again with more bytes behind the same ones until it is done; each byte is looked at once. An error comes as soon
/// as the byte that causes it, as in nginx. The settings of the virtual server are not known before its name is: a caller
/// whose server has other limits than those given reads the head again with them and a fresh `resume`.
pub fn request(
    buf: &[u8],
    head: &mut RequestHead,
    resume: &mut Resume,
    limits: &HeadLimits,
) -> Result<Step<usize>, RequestError> {
    if resume.part == Part::FirstLine {
        if resume.at == 0 {
            head.clear();
            resume.buffer.open(limits);
        }
        let Some(next) = first_line(buf, head, resume, limits)? else { return Ok(Step::More) };
        resume.at = next;
        request_line::finish(buf, &{ head.marks }, head)?;
        resume.good = next;
        line_done(buf, head, limits)?;
        if head.version < Version::V10 {
            return Ok(Step::Done(next));
        }
        resume.part = Part::Fields;
    }
    fields(buf, head, resume, limits)
}

fn first_line(
    buf: &[u8],
    head: &mut RequestHead,
    resume: &mut Resume,
    limits: &HeadLimits,
) -> Result<Option<usize>, RequestError> {
    let outcome = request_line::read(buf, resume.at, &mut resume.first, &mut head.marks);
    let start = head.marks.start();
    let fits = match &outcome {
        Ok(None) if !resume.is_started() => {
            resume.buffer.blank(buf.len());
            Ok(())
        }
        Ok(None) => resume.buffer.line_waits(start, buf.len(), limits),
        Ok(Some(next)) => {
            resume.buffer.blank(start);
            resume.buffer.line_ends(start, *next, limits)
        }
        Err((_, at)) => {
            resume.buffer.blank(start);
            resume.buffer.line_ends(start, at + 1, limits)
        }
    };
    if let Err(full) = fits {
        head.line = Span::between(start, full.end);
        head.method = request_line::method_so_far(buf, &head.marks);
        return Err(RequestError::UriTooLong);
    }
    match outcome {
        Ok(None) => {
            resume.at = buf.len();
            Ok(None)
        }
        Ok(Some(next)) => Ok(Some(next)),
        Err((error, _)) => {
            head.line = partial_line(buf, start);
            // Whoever asked with HEAD gets no body, also of an error.
            head.method = request_line::method_so_far(buf, &head.marks);
            Err(error)
        }
    }
}

/// What the access log shows of a line that was refused.
fn partial_line(buf: &[u8], start: usize) -> Span {
    let rest = buf.get(start..).unwrap_or_default();
    Span::between(start, start + memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len()))
}

fn line_done(buf: &[u8], head: &mut RequestHead, limits: &HeadLimits) -> Result<(), RequestError> {
    head.normalise(buf, limits)?;
    if let Some(authority) = head.authority {
        head.host = Some(validate_host(buf, authority).map_err(|_| RequestError::InvalidHostInLine)?);
    }
    Ok(())
}

fn fields(
    buf: &[u8],
    head: &mut RequestHead,
    resume: &mut Resume,
    limits: &HeadLimits,
) -> Result<Step<usize>, RequestError> {
    let rules = NameRules { underscores: limits.underscores, skip_status: false };
    loop {
        if resume.line.state == line::At::Start {
            resume.buffer.line_starts(resume.at, limits).map_err(|full| no_room(head, resume, full))?;
        }
        match line::read(buf, resume.at, &mut resume.line, rules) {
            Ok(Line::Field { name, id, value, invalid, next }) => {
                let start = name.start as usize;
                resume.buffer.line_ends(start, next, limits).map_err(|full| too_long(start, full))?;
                (resume.at, resume.good) = (next, next);
                if invalid && limits.ignore_invalid {
                    head.dropped.push(Span::between(start, value.end()));
                    continue;
                }
                head.push(buf, Field { name, value, id }, limits)?;
            }
            Ok(Line::End { next }) => {
                let start = resume.line.start as usize;
                resume.buffer.line_ends(start, next, limits).map_err(|full| too_long(start, full))?;
                (resume.at, resume.good) = (next, next);
                decide(buf, head, limits)?;
                return Ok(Step::Done(next));
            }
            Ok(Line::More) => {
                resume.at = buf.len();
                let start = resume.line.start as usize;
                if resume.line.state != line::At::Start {
                    let fits = resume.buffer.line_waits(start, buf.len(), limits);
                    fits.map_err(|full| too_long(start, full))?;
                }
                return Ok(Step::More);
            }
            Err(bad) => {
                let start = bad.line.start as usize;
                resume.buffer.line_ends(start, bad.at + 1, limits).map_err(|full| too_long(start, full))?;
                return Err(RequestError::InvalidField(bad.line, bad.byte_in(buf)));
            }
        }
    }
}

/// Out of buffers where a line was to begin: nginx shows the line before it, whose last buffer is the full one.
fn no_room(head: &RequestHead, resume: &Resume, full: Full) -> RequestError {
    if head.fields.is_empty() && head.dropped.is_empty() {
        return RequestError::TooLarge;
    }
    too_long(resume.line.start as usize, full)
}

/// nginx shows as much of the line as its buffer holds.
fn too_long(start: usize, full: Full) -> RequestError {
    RequestError::LineTooLong(Span::between(start, full.end))
}

/// The fields that come once.
const SINGLE: [FieldId; 11] = [
    FieldId::IfModifiedSince,
    FieldId::IfUnmodifiedSince,
    FieldId::IfMatch,
    FieldId::IfNoneMatch,
    FieldId::ContentLength,
    FieldId::ContentRange,
    FieldId::IfRange,
    FieldId::TransferEncoding,
    FieldId::Expect,
    FieldId::Authorization,
    FieldId::ProxyAuthorization,
];
/// The fields [`known_field`] acts on.
const KNOWN: FieldIds = FieldIds::of(&SINGLE).and(FieldIds::of(&[FieldId::Host, FieldId::Connection]));

/// Acts on a field nginx knows, before it is added to the others.
fn known_field(buf: &[u8], head: &mut RequestHead, field: &Field) -> Result<(), RequestError> {
    match field.id {
        FieldId::Host => host_field(buf, head, field),
        FieldId::Connection => {
            let value = field.value.of(buf);
            if same(value, b"upgrade") {
                // The one member of every handshake.
                head.connection_upgrade = true;
                return Ok(());
            }
            if contains_ignore_case(value, b"close") {
                head.connection = Connection::Close;
            } else if contains_ignore_case(value, b"keep-alive") {
                head.connection = Connection::KeepAlive;
            }
            head.connection_upgrade |= has_token(value, b"upgrade");
            Ok(())
        }
        _ => match head.fields.first(field.id) {
            None => Ok(()),
            Some(first) => {
                Err(RequestError::DuplicateField((field.name, field.value), (first.name, first.value)))
            }
        },
    }
}

fn host_field(buf: &[u8], head: &mut RequestHead, field: &Field) -> Result<(), RequestError> {
    if let Some(first) = head.fields.first(FieldId::Host) {
        return Err(RequestError::DuplicateHost((field.name, field.value), (first.name, first.value)));
    }
    let host = validate_host(buf, field.value).map_err(|_| RequestError::InvalidHost)?;
    head.host.get_or_insert(host);
    Ok(())
}

/// What can be decided only when all fields are there, in nginx's order.
fn decide(buf: &[u8], head: &mut RequestHead, limits: &HeadLimits) -> Result<(), RequestError> {
    if head.version > Version::V10 && !head.fields.has(FieldId::Host) {
        return Err(RequestError::NoHost);
    }
    if let Some(value) = head.fields.value(FieldId::ContentLength, buf) {
        head.content_length = Some(content_length(value).ok_or(RequestError::InvalidContentLength)?);
    }
    if let Some(field) = head.fields.first(FieldId::TransferEncoding) {
        if head.version < Version::V11 {
            return Err(RequestError::TransferEncoding10);
        }
        if !same(field.value.of(buf), b"chunked") {
            return Err(RequestError::UnknownTransferEncoding(field.value));
        }
        if head.content_length.is_some() {
            return Err(RequestError::BothLengths);
        }
        head.chunked = true;
    }
    if let Some(value) = head.fields.value(FieldId::Expect, buf) {
        head.expect_continue = head.version >= Version::V11 && same(value, b"100-continue");
    }
    match head.method {
        Method::Connect if head.version != Version::V11 || !limits.allow_connect => {
            Err(RequestError::Connect)
        }
        Method::Connect if head.has_body() => Err(RequestError::ConnectBody),
        Method::Trace => Err(RequestError::Trace),
        _ => Ok(()),
    }
}

/// Digits only, up to the largest file offset, as ngx_atoof.
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let length = value.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })?;
    (length <= i64::MAX as u64).then_some(length)
}
