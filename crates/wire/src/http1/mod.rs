//! HTTP/1 as nginx 1.31 reads and writes it.
//!
//! A head is one contiguous block of bytes that the caller keeps, and spans into it ([`RequestHead`], [`ResponseHead`]).
//! The tokeniser is our own rather than `httparse`: nginx takes spaces around the version, lines without a colon, several
//! CRs before the LF, any byte above 0x7f in a target and a bare LF, and it refuses things `httparse` lets through, each
//! as soon as the byte is seen, with its own status and its own words in the log. Those are the compatibility.
//!
//! What is left to others: which server a host belongs to, reading and writing sockets, timeouts, the Date line.

mod chunked;
mod error;
mod field;
mod head;
mod host;
mod line;
mod request;
mod request_line;
mod response;
mod uri;
mod write;

pub use chunked::{BadChunk, Chunk, ChunkDecoder, ChunkPrefix, LAST_CHUNK, Trailers};
pub use error::{RequestError, ResponseError, Shown};
pub use field::{Field, FieldId, FieldIds, Fields, contains_ignore_case, has_token, tokens};
pub use head::{HeadLimits, Resume, Step};
pub use host::{BadHost, Host, validate_host};
pub use request::{Connection, RequestHead, leading_blank, request};
pub use request_line::{Method, Version};
pub use response::{Body, ResponseHead, ResponseLimits, response};
pub use uri::{BadPath, Escape, Unescape, escape_uri, escaped_len, normalise_path, unescape_uri};
pub use write::{field, one_line, one_line_uri, reason, request_line, status_line, status_text};
