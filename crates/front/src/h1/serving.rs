//! Serving a request whose head was read, and giving up its sockets when it became a tunnel.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use http::log::Level;
use http::{Outcome, Request, TunnelPlan};

use crate::h1::client::H1Client;
use crate::h1::session::Session;
use crate::shared::Tally;
use crate::tunnel::GivenUp;

impl Session {
    /// Walks the request through its phases; given up when its generation is.
    pub(super) async fn serve(&self, client: &mut H1Client, request: &mut Request) -> Outcome {
        let _tally = Tally::new(&self.worker.shared.requests);
        let generation = request.snapshot.generation;
        let outcome = {
            let mut serve = pin!(http::serve(request, client));
            poll_fn(|cx| {
                if generation < self.worker.snapshots.cutoff() {
                    return Poll::Ready(None);
                }
                serve.as_mut().poll(cx).map(Some)
            })
            .await
        };
        outcome.unwrap_or_else(|| {
            request
                .log(Level::Info, format_args!("request given up after a reload (worker_shutdown_timeout)"));
            Outcome::Abort
        })
    }

    /// Sends what the socket takes of the 101 at once and gives both sockets to the relay. The relay sends the rest, and
    /// finds out when the client is gone. The connection ends here as far as this room is concerned.
    pub(super) async fn hand_over(
        &mut self,
        mut client: Box<H1Client>,
        mut request: Box<Request>,
        plan: TunnelPlan,
    ) {
        http::output::head(&mut request, &mut *client);
        let flush =
            |cx: &mut Context<'_>| http::Client::poll_flush(&mut *client, cx, &mut request, usize::MAX);
        if poll_fn(flush).await.is_err() {
            // The client is gone, and the log says so.
            log(&mut request);
            return self.worker.give_back(request);
        }
        let plain = client.take_unsent();
        let mut socket = client.into_socket();
        let leftover = socket.take_unread();
        let Some(seat) = self.seat.take() else { return };
        let (stream, layer) = socket.into_parts();
        let parts = match layer {
            Some(layer) => {
                // The relay does not count what is encrypted already.
                request.response.bytes_sent += plain.len() as u64;
                layer.into_parts(&plain).map(|(tls, unsent)| (Some(tls), unsent, 0))
            }
            None => {
                let count = plain.len();
                Ok((None, plain, count))
            }
        };
        match parts {
            Ok((tls, unsent, unsent_bytes)) => {
                let given = GivenUp { client: stream.lend(), tls, unsent, unsent_bytes, leftover, seat };
                self.worker.relay.hand_over(&mut request, given, plan);
            }
            Err(error) => {
                request.log(Level::Alert, format_args!("TLS does not give a socket up: {error}"));
                log(&mut request);
            }
        }
        self.worker.give_back(request);
    }
}

/// Writes the request's access log lines.
pub(super) fn log(request: &mut Request) {
    let snapshot = request.snapshot.clone();
    for program in &snapshot.location(request.location).access_log {
        program.write(request);
    }
}
