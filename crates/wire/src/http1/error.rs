//! Why a head is refused: the status that answers it and nginx's words for the log.

use std::borrow::Cow;

use crate::Span;

/// A name and a value that the log shows.
pub type Shown = (Span, Span);

/// Why a request head is refused. All are the client's fault, logged at `info`, and the connection closes after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RequestError {
    InvalidMethod,
    InvalidRequest,
    InvalidVersion,
    InvalidMethod09,
    InvalidHostInLine,
    UriTooLong,
    /// No buffer was left when a field line was to begin.
    TooLarge,
    /// The bytes of the line that did fit.
    LineTooLong(Span),
    TooManyFields,
    /// The line up to the byte that made it invalid, and that byte.
    InvalidField(Span, u8),
    DuplicateHost(Shown, Shown),
    /// The second and the first.
    DuplicateField(Shown, Shown),
    InvalidHost,
    NoHost,
    InvalidContentLength,
    TransferEncoding10,
    BothLengths,
    UnknownTransferEncoding(Span),
    Connect,
    ConnectBody,
    Trace,
}

impl RequestError {
    /// The status to answer with. 494 is nginx's own, known to `error_page` only: the client and the access log see 400.
    pub fn status(&self) -> u16 {
        match self {
            RequestError::InvalidVersion => 505,
            RequestError::UriTooLong => 414,
            RequestError::TooLarge | RequestError::LineTooLong(_) | RequestError::TooManyFields => 494,
            RequestError::UnknownTransferEncoding(_) => 501,
            RequestError::Connect | RequestError::Trace => 405,
            _ => 400,
        }
    }

    /// Whether the request line itself is broken: method, target or version.
    pub fn is_in_line(&self) -> bool {
        matches!(
            self,
            RequestError::InvalidMethod
                | RequestError::InvalidRequest
                | RequestError::InvalidVersion
                | RequestError::InvalidMethod09
                | RequestError::UriTooLong
        )
    }

    /// What the proxy was doing, as nginx's log says it after "while".
    pub fn action(&self) -> &'static str {
        match self {
            RequestError::InvalidMethod
            | RequestError::InvalidRequest
            | RequestError::InvalidVersion
            | RequestError::InvalidMethod09
            | RequestError::InvalidHostInLine
            | RequestError::UriTooLong => "reading client request line",
            _ => "reading client request headers",
        }
    }

    /// nginx's message without what follows it ("while", client, server). `buf` is the buffer the head was read from.
    pub fn message(&self, buf: &[u8]) -> String {
        let text = match self {
            RequestError::InvalidMethod => "client sent invalid method",
            RequestError::InvalidRequest => "client sent invalid request",
            RequestError::InvalidVersion => "client sent invalid version",
            RequestError::InvalidMethod09 => "client sent invalid method in HTTP/0.9 request",
            RequestError::InvalidHostInLine => "client sent invalid host in request line",
            RequestError::UriTooLong => "client sent too long URI",
            RequestError::TooLarge => "client sent too large request",
            RequestError::TooManyFields => "client sent too many header lines",
            RequestError::InvalidHost => "client sent invalid host header",
            RequestError::NoHost => "client sent HTTP/1.1 request without \"Host\" header",
            RequestError::InvalidContentLength => "client sent invalid \"Content-Length\" header",
            RequestError::TransferEncoding10 => {
                "client sent HTTP/1.0 request with \"Transfer-Encoding\" header"
            }
            RequestError::BothLengths => {
                "client sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time"
            }
            RequestError::Connect => "client sent CONNECT method",
            RequestError::ConnectBody => "client sent CONNECT request with body",
            RequestError::Trace => "client sent TRACE method",
            RequestError::LineTooLong(line) => {
                let shown = Span { start: line.start, len: line.len.min(LINE_SHOWN_MAX) };
                return format!("client sent too long header line: \"{}...\"", text_of(shown, buf));
            }
            RequestError::InvalidField(line, byte) => {
                return format!(
                    "client sent invalid header line: \"{}\\x{byte:02x}...\"",
                    text_of(*line, buf)
                );
            }
            RequestError::DuplicateHost(now, first) => {
                return format!("client sent duplicate host header: {}", pair(now, first, buf));
            }
            RequestError::DuplicateField(now, first) => {
                return format!("client sent duplicate header line: {}", pair(now, first, buf));
            }
            RequestError::UnknownTransferEncoding(value) => {
                return format!("client sent unknown \"Transfer-Encoding\": \"{}\"", text_of(*value, buf));
            }
        };
        text.to_string()
    }

    /// The message as nginx's error log has it up to the client's address.
    pub fn log_text(&self, buf: &[u8]) -> String {
        format!("{} while {}", self.message(buf), self.action())
    }
}

/// Why a response head is refused. All are the upstream's fault and logged at `error`; the client gets 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ResponseError {
    /// No status line. nginx would pass it on as HTTP/0.9; we don't.
    NoStatusLine,
    /// The head does not fit the buffer (`proxy_buffer_size`).
    TooBig,
    /// The line up to the byte that made it invalid, and that byte.
    InvalidField(Span, u8),
    /// The second and the first.
    DuplicateField(Shown, Shown),
    BothLengths,
    InvalidContentLength(Shown),
    UnknownTransferEncoding(Span),
    EarlyHints10,
    TooBigTrailers,
    /// The line up to the byte that made it invalid, and that byte.
    InvalidTrailer(Span, u8),
}

impl ResponseError {
    /// What the proxy was doing, as nginx's log says it after "while".
    pub fn action(&self) -> &'static str {
        match self {
            ResponseError::TooBigTrailers | ResponseError::InvalidTrailer(..) => "reading upstream",
            _ => "reading response header from upstream",
        }
    }

    /// nginx's message without what follows it.
    pub fn message(&self, buf: &[u8]) -> String {
        match self {
            ResponseError::NoStatusLine => "upstream sent no valid HTTP/1.0 header".to_string(),
            ResponseError::TooBig => "upstream sent too big header".to_string(),
            ResponseError::InvalidField(line, byte) => {
                format!("upstream sent invalid header: \"{}\\x{byte:02x}...\"", text_of(*line, buf))
            }
            ResponseError::DuplicateField(now, first) => {
                format!("upstream sent duplicate header line: {}", pair(now, first, buf))
            }
            ResponseError::BothLengths => {
                "upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time"
                    .to_string()
            }
            ResponseError::InvalidContentLength((name, value)) => {
                let (name, value) = (text_of(*name, buf), text_of(*value, buf));
                format!("upstream sent invalid \"Content-Length\" header: \"{name}: {value}\"")
            }
            ResponseError::UnknownTransferEncoding(value) => {
                format!("upstream sent unknown \"Transfer-Encoding\": \"{}\"", text_of(*value, buf))
            }
            ResponseError::InvalidTrailer(line, byte) => {
                format!("upstream sent invalid trailer: \"{}\\x{byte:02x}...\"", text_of(*line, buf))
            }
            ResponseError::TooBigTrailers => "upstream sent too big trailers".to_string(),
            ResponseError::EarlyHints10 => "upstream sent HTTP/1.0 response with early hints".to_string(),
        }
    }

    /// The message as nginx's error log has it up to the client's address.
    pub fn log_text(&self, buf: &[u8]) -> String {
        format!("{} while {}", self.message(buf), self.action())
    }
}

/// nginx's longest log line less what surrounds the shown bytes.
const LINE_SHOWN_MAX: u32 = 2048 - 300;

pub(crate) fn text_of(span: Span, buf: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(span.of(buf))
}

pub(crate) fn pair(now: &Shown, first: &Shown, buf: &[u8]) -> String {
    let [name, value, first_name, first_value] =
        [now.0, now.1, first.0, first.1].map(|span| text_of(span, buf));
    format!("\"{name}: {value}\", previous value: \"{first_name}: {first_value}\"")
}
