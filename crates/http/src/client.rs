//! The client's side of one request, whatever the protocol: implemented by `front` for HTTP/1, later h2 and h3.

use std::task::{Context, Poll};

use crate::chunk::Chunk;
use crate::message::Request;

/// The client went away, or its connection failed, or it was too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Why a request body cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The client closed or the connection failed: nobody to answer; nginx logs 400.
    Gone,
    /// `client_body_timeout`: 408.
    Timeout,
    /// Bad chunks: 400.
    Malformed,
    /// More than `client_max_body_size`: 413.
    TooLarge,
}

impl BodyError {
    /// The status it is answered with.
    pub fn status(self) -> u16 {
        match self {
            BodyError::Timeout => 408,
            BodyError::Gone | BodyError::Malformed => 400,
            BodyError::TooLarge => 413,
        }
    }
}

/// What a handler may do with the client.
pub trait Client {
    /// The next piece of the request body; `None` at its end. The first call answers `Expect: 100-continue`.
    ///
    /// # Errors
    /// As [`BodyError`] says.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut Request,
    ) -> Poll<Result<Option<Chunk>, BodyError>>;

    /// Nobody wants the rest of the request body: it is dropped when it comes, also while the response is sent. A client
    /// that waits for `100 Continue` gets it if the response is a success.
    ///
    /// # Errors
    /// What has come already is not a body.
    fn drop_body(&mut self, cx: &mut Context<'_>, request: &mut Request) -> Result<(), BodyError> {
        let _ = (cx, request);
        Ok(())
    }

    /// Queues the response head as `request.response` says and fixes its framing. Once per request; 1xx heads may precede it.
    fn head(&mut self, request: &mut Request);

    /// Queues a piece of the response body, framed as the head promised.
    fn body(&mut self, request: &mut Request, chunk: Chunk);

    /// Writes what is queued; ready when at most `keep` bytes are still queued.
    ///
    /// # Errors
    /// The client is gone, or took nothing for `send_timeout`.
    fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut Request,
        keep: usize,
    ) -> Poll<Result<(), Gone>>;

    /// Ready when the client has closed its connection while a response is made.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Whether the client is known to be gone: nothing can be sent any more.
    fn is_gone(&self) -> bool {
        false
    }
}
