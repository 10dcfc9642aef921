//! Between two requests: no buffer is held, and the worker may want to be rid of the connection.

use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};

use http::clock::monotonic_ms;

use crate::h1::session::{ROOM, Session};
use crate::h1::socket::Socket;
use crate::sleepers::Sleeper;

/// Requests that came together and are served before others get their turn: a fraction of a millisecond's work.
const PIPELINED_MAX: u8 = 16;

impl Session {
    /// Waits for the first bytes of a request; false when the connection is to close.
    pub(super) async fn wait(&mut self, socket: &mut Socket) -> bool {
        if !socket.unread().is_empty() {
            self.in_a_row += 1;
            if self.in_a_row == PIPELINED_MAX {
                self.in_a_row = 0;
                reactor::yield_now().await;
            }
            return true;
        }
        self.waited = true;
        self.in_a_row = 0;
        socket.forget();
        let since = monotonic_ms();
        // Before the first request one time is for all: a PROXY header, a handshake, and the head.
        if self.first.is_none() || !self.timer.is_set() {
            self.timer.set(self.idle.max_ms);
        }
        if let Some(sleeper) = &self.sleeper {
            sleeper.is_idle();
        }
        let has_request = poll_fn(|cx| {
            if self.sleeper.is_none() {
                let sleeper = self.worker.sleepers.add(cx.waker().clone());
                sleeper.is_idle();
                self.sleeper = Some(sleeper);
            }
            if let Poll::Ready(read) = socket.poll_fill(cx, ROOM) {
                if !matches!(read, Ok(1..)) {
                    self.say_no_request(&read);
                }
                return Poll::Ready(read.is_ok_and(|count| count > 0));
            }
            if let Some(left) = self.dismissed_in(since) {
                if left == 0 {
                    return Poll::Ready(false);
                }
                self.timer.set(left);
            }
            ready!(self.timer.poll(cx));
            self.say_no_request(&Err(io::ErrorKind::TimedOut.into()));
            Poll::Ready(false)
        })
        .await;
        if let Some(sleeper) = &self.sleeper {
            sleeper.is_busy();
        }
        has_request
    }

    /// How long a connection that has waited `since` may still wait, when the worker wants to be rid of it.
    fn dismissed_in(&mut self, since: u64) -> Option<u64> {
        if self.sleeper.as_ref().is_some_and(Sleeper::is_dismissed) {
            return Some(0);
        }
        if let Some(first) = &self.first {
            // As nginx, a connection that has not sent anything yet gets its time, also when the worker quits.
            return (first.generation < self.worker.snapshots.cutoff()).then_some(0);
        }
        let worker = self.worker.clone();
        let mut homeless = || self.listener(&worker.snapshots.current()).is_none();
        if !(worker.is_quitting() || worker.snapshots.lost_listeners() && homeless()) {
            return None;
        }
        Some((since + self.idle.min_ms).saturating_sub(monotonic_ms()))
    }
}
