//! When an attempt gave no response: another peer, or an answer of our own.

use http::log::Level;
use http::{BodyError, Flow, Request};
use sys::clock::{self, monotonic_ms};
use upstream::{Failure, Health};

use crate::proxy::Upstreamed;
use crate::proxy::connect::Live;
use crate::proxy::exchange::Exchange;
use crate::proxy::next::status_of;

/// How an attempt on one peer went on after it failed.
pub(super) enum Then {
    Again,
    Answer(Flow),
}

/// Why no head came.
pub(super) enum Lost {
    Failed(Failure),
    ClientGone,
    BadBody(BodyError),
}

impl Exchange<'_> {
    pub(super) fn lost(&mut self, lost: Lost, live: &Live, request: &mut Request) -> Then {
        let has_begun = self.count(live, request).received > 0;
        match lost {
            Lost::Failed(failure) => self.failed(failure, live.reused, request),
            Lost::ClientGone => {
                let action = match has_begun {
                    true => "reading response header from upstream",
                    false => "sending request to upstream",
                };
                self.say_gone(request, action);
                Then::Answer(client_is_gone(request))
            }
            Lost::BadBody(BodyError::Gone) => Then::Answer(body_is_cut(request)),
            Lost::BadBody(error) => {
                request.keepalive = false;
                Then::Answer(Flow::Status(error.status()))
            }
        }
    }

    /// Reports a failure and says whether another peer is tried.
    pub(super) fn failed(&mut self, failure: Failure, reused: bool, request: &mut Request) -> Then {
        if self.attempt.failed(failure, clock::instant()) == Health::Disabled {
            self.log(request, Level::Warn, format_args!("upstream server temporarily disabled"));
        }
        if reused && failure == Failure::Error {
            self.attempt.give_back_try();
        }
        let status = status_of(failure);
        let state = request.slots.of::<Upstreamed>().now();
        state.response_ms = Some(state.since_start());
        state.status = status;
        if self.attempt.tries_left() > 0 && self.goes_on(failure, request) {
            return Then::Again;
        }
        request.response.reset_head();
        Then::Answer(Flow::Status(status))
    }

    /// Whether `proxy_next_upstream` sends the request on after this failure.
    pub(super) fn goes_on(&self, failure: Failure, request: &Request) -> bool {
        let limit = self.conf.next_timeout_ms;
        self.conf.next.allows(failure, request.method, self.was_sent)
            && !(self.was_sent && self.body.streams)
            && (limit == 0 || monotonic_ms().saturating_sub(self.started_ms) < limit)
    }
}

/// The client left before all of its request came: a bad one, for the log only.
pub(super) fn body_is_cut(request: &mut Request) -> Flow {
    request.response.status = 400;
    request.keepalive = false;
    Flow::Abort
}

/// 499: written to the log only, there is nobody to read it.
pub(super) fn client_is_gone(request: &mut Request) -> Flow {
    request.response.status = 499;
    request.keepalive = false;
    Flow::Abort
}
