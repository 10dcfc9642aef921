//! One HTTP/1 connection: wait, read a head, serve, log, again.
//!
//! While it waits for a request it holds no buffer, and no snapshot once it has served a request. A panic while a request
//! is served costs this connection alone (D13).

mod body;
mod client;
mod closing;
mod head;
mod proxied;
mod reading;
mod secured;
mod serving;
mod session;
mod socket;
mod waiting;

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Poll;

use http::log::Level;
use http::{Connection, Outcome};

use crate::h1::client::H1Client;
use crate::h1::session::{Idle, NoHead, Proxied, Secured, Session};
use crate::h1::socket::Socket;
use crate::handle::{Accepted, Burden};
use crate::stream::Stream;
use crate::worker::Worker;

/// Serves a connection in a task of its own.
pub(crate) fn serve(worker: &Rc<Worker>, accepted: Accepted) {
    let stream = match Stream::new(accepted.socket, accepted.unix) {
        Ok(stream) => stream,
        Err(error) => {
            let log = &worker.snapshots.current().core.error_log;
            return log.write(Level::Alert, format_args!("a connection cannot be watched: {error}"));
        }
    };
    let connection = Connection::new(accepted.peer, accepted.local, accepted.listener);
    let session = Session::new(worker.clone(), connection, accepted.seat);
    reactor::spawn(run(session, Socket::new(stream), accepted.burden));
}

/// Serves a connection until it closes or becomes a tunnel.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` keeps room for its arguments beside the variables they move to"
)]
fn run(mut session: Session, mut socket: Socket, burden: Burden) -> impl Future<Output = ()> {
    async move {
        let _burden = burden;
        while session.wait(&mut socket).await {
            // All that only a running request needs is in this future, so that an idle connection is small.
            match guarded(Box::pin(session.one(socket))).await {
                Ok(Some(back)) => socket = back,
                Ok(None) => return,
                Err(what) => return session.say_panic(&what),
            }
        }
        socket.goodbye();
    }
}

/// Runs a future to its end; a panic inside is an error with its message, and the future is not touched again.
async fn guarded<T>(mut future: std::pin::Pin<Box<impl Future<Output = T>>>) -> Result<T, String> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(what) => {
            let text = what.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| what.downcast_ref::<String>().cloned());
            Poll::Ready(Err(text.unwrap_or_else(|| "without a message".to_owned())))
        }
    })
    .await
}

impl Session {
    /// One request, from its head to its log line and what follows; the socket comes back when another may come on it.
    async fn one(&mut self, mut socket: Socket) -> Option<Socket> {
        if self.proxied == Proxied::Awaited {
            return self.read_proxy_header(&mut socket).await.then_some(socket);
        }
        if self.secured == Secured::Awaited {
            return self.shake_hands(&mut socket).await.then_some(socket);
        }
        self.connection.requests.set(self.connection.requests.get() + 1);
        let mut request = self.open()?;
        // Bytes that no wait of this connection brought.
        request.pipelined = !std::mem::take(&mut self.waited);
        // Boxed: the future would keep room for it in each of the steps it is handed to.
        let mut client = Box::new(H1Client::new(socket, self.worker.clone()));
        let head = self.read_head(&mut client, &mut request).await;
        self.timer.clear();
        let outcome = match head {
            Ok(()) => self.serve(&mut client, &mut request).await,
            Err(NoHead::Status(status)) => http::refuse(&mut request, &mut *client, status).await,
            Err(NoHead::Unanswered(status)) => {
                request.response.status = status;
                Outcome::Abort
            }
            Err(NoHead::Cut) => return None,
        };
        let snapshot = request.snapshot.clone();
        let core = &*snapshot.location(request.location).core;
        self.idle = Idle { max_ms: core.keepalive_timeout, min_ms: core.keepalive_min_timeout };
        match outcome {
            Outcome::Tunnel(plan) => {
                self.hand_over(client, request, *plan).await;
                None
            }
            outcome => {
                let back = self.close_or_keep(client, &mut request, core, outcome).await;
                self.worker.give_back(request);
                back
            }
        }
    }

    fn say_panic(&mut self, what: &str) {
        let snapshot = self.worker.snapshots.current();
        let text = format_args!("a panic ended the connection: {what}");
        self.log_of(&snapshot).write_for_connection(Level::Alert, &self.connection, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an idle connection costs beside its socket, timer and task; a wider field in a running request is free.
    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Session>() <= 160, "{}", size_of::<Session>());
        assert!(size_of::<Socket>() <= 88, "{}", size_of::<Socket>());
        fn size<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
            size_of::<F>()
        }
        let future = size(run);
        assert!(future <= 400, "{future}");
    }
}
