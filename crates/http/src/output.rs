//! Response bytes on their way out: through the location's filters to the client (D11).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;

use crate::client::{Client, Gone};
use crate::message::{Body, Request};
use crate::pool::Buf;
use crate::range::{self, Parts};

pub use crate::chunk::Chunk;

/// What a body filter passes on.
pub type Out = VecDeque<Chunk>;

/// Changes a response head before it is sent.
pub type HeaderFilter = fn(&mut Request);

/// Takes a chunk and passes on what comes of it, keeping state in the request's slots.
pub type BodyFilter = fn(&mut Request, Chunk, &mut Out);

/// Most bytes queued for a client before its source waits.
pub const QUEUE_MAX: usize = 64 * 1024;

/// Sends the response head through the header filters. A second head is not sent; an error page takes the status it is
/// shown for, or the one of `error_page ... =code`.
pub fn head(request: &mut Request, client: &mut dyn Client) {
    if request.response.head_sent {
        return;
    }
    if let Some(carried) = request.response.carried_type.take() {
        request.response.content_type = Some(carried);
    }
    if let Some(status @ 1..) = request.error_status
        && !request.response.has_final_status
    {
        request.response.status = status;
        request.response.status_line = None;
    }
    let snapshot = request.snapshot.clone();
    for filter in &snapshot.location(request.location).header_filters {
        filter(request);
    }
    range::head(request);
    set_rate(request);
    request.response.head_sent = true;
    client.head(request);
}

/// `limit_rate` and `limit_rate_after`
fn set_rate(request: &mut Request) {
    let core = &request.location().core;
    if core.limit_rate.is_none() && request.limit_rate.is_none() {
        return;
    }
    let (rate, after) = (core.limit_rate.clone(), core.limit_rate_after.clone());
    let mut size = |template: Option<Arc<crate::Template>>| {
        template.and_then(|template| conf::value::size(&template.value(request))).unwrap_or_default()
    };
    let (rate, after) = (size(rate), size(after));
    request.limit_rate.get_or_insert(rate);
    request.limit_rate_after = after;
}

/// Sends a piece of the body through the body filters.
pub fn body(request: &mut Request, client: &mut dyn Client, chunk: Chunk) {
    let snapshot = request.snapshot.clone();
    let filters = &snapshot.location(request.location).body_filters;
    if filters.is_empty() {
        return client.body(request, chunk);
    }
    let mut now: Out = VecDeque::from([chunk]);
    for filter in filters {
        let mut next = Out::new();
        for chunk in now {
            filter(request, chunk, &mut next);
        }
        now = next;
    }
    for chunk in now {
        client.body(request, chunk);
    }
}

/// Waits until at most `keep` bytes are queued for the client.
///
/// # Errors
/// The client is gone.
pub async fn flush(request: &mut Request, client: &mut dyn Client, keep: usize) -> Result<(), Gone> {
    poll_fn(|cx| client.poll_flush(cx, request, keep)).await
}

/// Sends head and body as a handler left them in `request.response`.
///
/// # Errors
/// The client is gone.
pub async fn respond(request: &mut Request, client: &mut dyn Client) -> Result<(), Gone> {
    let prepared = std::mem::take(&mut request.response.body);
    let shown = request.shown_status();
    let response = &mut request.response;
    if response.content_length.is_none() && !matches!(shown, 100..200 | 204 | 304) {
        response.content_length = Some(prepared.len());
    }
    if shown == 204 {
        response.content_type = None;
    }
    head(request, client);
    if !request.response.header_only {
        match request.slots.find_mut::<Parts>().map(std::mem::take).filter(|parts| !parts.parts.is_empty()) {
            // Boxed: few are asked for in parts, and every request would carry room for it.
            Some(parts) => Box::pin(send_parts(request, client, prepared, parts)).await?,
            None => send_whole(request, client, prepared).await?,
        }
    }
    flush(request, client, 0).await?;
    request.response.complete = true;
    Ok(())
}

async fn send_whole(request: &mut Request, client: &mut dyn Client, prepared: Body) -> Result<(), Gone> {
    match prepared {
        Body::Empty => body(request, client, Chunk::end()),
        Body::Bytes(bytes) => body(request, client, Chunk::owned(bytes).last()),
        Body::Shared(bytes) => body(request, client, Chunk::shared(bytes).last()),
        Body::File(_, 0) => body(request, client, Chunk::end()),
        Body::File(file, len) => send_file(request, client, &file, 0..len, &mut 0, true).await?,
    }
    Ok(())
}

/// The parts of a body that a client asked for.
async fn send_parts(
    request: &mut Request,
    client: &mut dyn Client,
    prepared: Body,
    parts: Parts,
) -> Result<(), Gone> {
    let mut in_turn = 0;
    for part in parts.parts {
        if !part.head.is_empty() {
            body(request, client, Chunk::owned(part.head));
        }
        let range = part.start..part.end;
        match &prepared {
            Body::Empty => {}
            Body::Bytes(bytes) => body(request, client, Chunk::owned(cut(bytes, range).to_vec())),
            Body::Shared(bytes) => body(request, client, Chunk::owned(cut(bytes, range).to_vec())),
            Body::File(file, _) => send_file(request, client, file, range, &mut in_turn, false).await?,
        }
    }
    body(request, client, Chunk::owned(parts.tail).last());
    Ok(())
}

fn cut(bytes: &[u8], range: Range<u64>) -> &[u8] {
    let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    &bytes[at(range.start)..at(range.end)]
}

/// A range of a file; `in_turn`: what was sent of it since others had their turn.
async fn send_file(
    request: &mut Request,
    client: &mut dyn Client,
    file: &std::fs::File,
    range: Range<u64>,
    in_turn: &mut u64,
    is_last: bool,
) -> Result<(), Gone> {
    let mut at = range.start;
    while at < range.end {
        if *in_turn >= FILE_TURN {
            // A client that takes all we write must not keep the others of this worker waiting.
            reactor::yield_now().await;
            *in_turn = 0;
        }
        let mut buf = Buf::with_capacity(FILE_READ);
        let want = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(FILE_READ);
        buf.resize(want, 0);
        let read = match std::os::unix::fs::FileExt::read_at(file, &mut buf, at) {
            Ok(0) => {
                request.log(crate::log::Level::Alert, format_args!("file was truncated while it was sent"));
                return Err(Gone);
            }
            Ok(read) => read,
            Err(error) => {
                request.log(crate::log::Level::Crit, format_args!("read() failed: {error}"));
                return Err(Gone);
            }
        };
        at += read as u64;
        *in_turn += read as u64;
        let chunk = Chunk::pooled(buf, 0..read);
        body(request, client, if is_last && at == range.end { chunk.last() } else { chunk });
        flush(request, client, QUEUE_MAX).await?;
    }
    Ok(())
}

/// Bytes of a file sent before others get their turn.
const FILE_TURN: u64 = 1024 * 1024;
/// Bytes of a file read at once.
const FILE_READ: usize = 32 * 1024;
