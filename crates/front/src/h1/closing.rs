//! After a request: its log line, the rest of its body, and whether the connection goes on.

use std::future::poll_fn;
use std::task::Poll;

use http::clock::monotonic_ms;
use http::config::{CoreConf, Lingering};
use http::{Outcome, Request};

use crate::h1::client::H1Client;
use crate::h1::serving;
use crate::h1::session::Session;
use crate::h1::socket::Socket;

/// Bytes dropped at once while a close lingers (nginx's `NGX_HTTP_LINGERING_BUFFER_SIZE`).
const SCRAP: usize = 4 * 1024;

impl Session {
    /// Ends a request; the socket comes back when the next may come on it.
    pub(super) async fn close_or_keep(
        &mut self,
        mut client: Box<H1Client>,
        request: &mut Request,
        core: &CoreConf,
        outcome: Outcome,
    ) -> Option<Socket> {
        // The log line says "close", as nginx's does, whatever follows.
        let keepalive = std::mem::take(&mut request.keepalive);
        serving::log(request);
        let generation = request.snapshot.generation;
        if matches!(outcome, Outcome::Abort) || !client.is_answered() {
            // 444 counts as a connection that timed out, as on nginx.
            if core.reset_timedout_connection && (client.timed_out || request.response.status == 444) {
                client.socket.stream.reset_on_close();
            } else if !client.timed_out {
                client.socket.goodbye();
            }
            return None;
        }
        if keepalive {
            let whole = client.body.is_read() || self.drop_body(&mut client, core, generation).await;
            if !whole {
                client.socket.goodbye();
            }
            return whole.then(|| client.into_socket());
        }
        if self.is_to_linger(&client, core, request.response.status).await {
            self.linger(client.into_socket(), core, generation).await;
        } else {
            client.socket.goodbye();
        }
        None
    }

    /// Reads and drops what is left of a body so that the connection can go on (`lingering_time`, `lingering_timeout`).
    async fn drop_body(&mut self, client: &mut H1Client, core: &CoreConf, generation: u64) -> bool {
        let until = monotonic_ms().saturating_add(core.lingering_time);
        self.timer.set(core.lingering_timeout.min(core.lingering_time));
        poll_fn(|cx| {
            let before = client.body.received;
            if let Poll::Ready(whole) = client.poll_drop_body(cx) {
                return Poll::Ready(whole);
            }
            if generation < self.worker.snapshots.cutoff() {
                return Poll::Ready(false);
            }
            if client.body.received > before {
                self.timer.set(core.lingering_timeout.min(until.saturating_sub(monotonic_ms())));
            }
            self.timer.poll(cx).map(|()| false)
        })
        .await
    }

    /// Whether to wait for the client's end before closing. A socket closed with bytes unread sends a RST, and that may
    /// overtake the response.
    async fn is_to_linger(&self, client: &H1Client, core: &CoreConf, status: u16) -> bool {
        match core.lingering_close {
            Lingering::Off => false,
            Lingering::Always => true,
            // After these statuses the rest of what the client sends was not understood, so more may be on its way.
            Lingering::On => {
                !client.body.is_read()
                    || !client.socket.unread().is_empty()
                    || matches!(status, 400 | 413 | 414 | 501 | 505)
                    || poll_fn(|cx| Poll::Ready(client.socket.stream.poll_readable(cx).is_ready())).await
            }
        }
    }

    /// Sends a FIN, then drops what comes until the client closes (`lingering_timeout`, `lingering_time`).
    async fn linger(&mut self, mut socket: Socket, core: &CoreConf, generation: u64) {
        socket.goodbye();
        socket.stream.shutdown_write();
        let until = monotonic_ms().saturating_add(core.lingering_time);
        self.timer.set(core.lingering_timeout.min(core.lingering_time));
        poll_fn(|cx| {
            socket.forget();
            while let Poll::Ready(read) = socket.poll_fill(cx, SCRAP) {
                let left = until.saturating_sub(monotonic_ms());
                if read.is_err() || read.is_ok_and(|count| count == 0) || left == 0 {
                    return Poll::Ready(());
                }
                socket.forget();
                self.timer.set(core.lingering_timeout.min(left));
            }
            if generation < self.worker.snapshots.cutoff() {
                return Poll::Ready(());
            }
            self.timer.poll(cx)
        })
        .await;
    }
}
