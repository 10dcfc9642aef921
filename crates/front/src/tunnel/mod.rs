//! The hand-over: a request that became a tunnel leaves the request machine for good (D3).

mod closing;
mod guests;
mod kept;

use std::rc::Rc;
use std::sync::Arc;

use http::{Request, TunnelPlan};
use reactor::Lent;
use relay::{Goodbye, Handover, Limits, Plan, Remote, Timers, Watch};

use crate::shared::Seat;
use crate::tunnel::closing::Leaver;
use crate::tunnel::kept::{Kept, Upstream};

pub(crate) use crate::tunnel::closing::Closing;
pub(crate) use crate::tunnel::guests::Guests;

/// The tunnels of a worker, as its requests know them.
pub(crate) struct Relay {
    pub(crate) guests: Rc<Guests>,
    pub(crate) remote: Remote,
    pub(crate) closing: Arc<Closing>,
    /// What one end of a WebSocket is told when the other was lost (`websocket_close lost`).
    pub(crate) goodbye: Arc<Goodbye>,
}

/// The client's half of a hand-over, as the request machine gives it up.
pub(crate) struct GivenUp {
    pub(crate) client: Lent,
    /// Bytes of the 101 the client's socket did not take at once.
    pub(crate) unsent: Vec<u8>,
    /// How many of them are of the response: less than all when they are encrypted.
    pub(crate) unsent_bytes: usize,
    /// The client's TLS.
    pub(crate) tls: Option<relay::Tls>,
    /// Bytes the client sent behind its head.
    pub(crate) leftover: Vec<u8>,
    pub(crate) seat: Seat,
}

impl Relay {
    /// Hands a tunnel over. Nothing of the request or its snapshot is kept beyond this call. To be called from a task, so
    /// never within a tunnel's own step.
    pub(crate) fn hand_over(&self, request: &mut Request, given: GivenUp, plan: TunnelPlan) {
        let (client, upstream) = (given.client, plan.upstream.lend());
        let leaver = plan
            .close_on_reload
            .then(|| Leaver::new(&self.closing, &self.remote, request.snapshot.generation));
        let keep = Kept::new(
            request,
            Upstream {
                name: &plan.upstream_name,
                started_ms: plan.upstream_started_ms,
                received: plan.upstream_received.saturating_sub(plan.leftover.len() as u64),
                sent: plan.upstream_sent,
            },
            given.unsent_bytes,
            kept::Holds::new([client.place, upstream.place], given.seat, plan.guards, leaver),
        );
        self.guests.insert(Handover {
            client: relay::End {
                unsent: given.unsent,
                leftover: given.leftover,
                tls: given.tls,
                watch: Watch::Passed { readable: client.readable },
                ..relay::End::new(client.fd)
            },
            upstream: relay::End {
                leftover: plan.leftover,
                tls: plan.upstream_tls.map(|(end, input)| relay::Tls { end, input }),
                watch: Watch::Passed { readable: upstream.readable },
                ..relay::End::new(upstream.fd)
            },
            plan: Plan {
                limits: Limits { buffer_bytes_max: plan.buffer_bytes_max },
                timers: Timers {
                    idle_ms: plan.idle_ms,
                    send_client_ms: plan.send_client_ms,
                    send_upstream_ms: plan.send_upstream_ms,
                    fin_ms: plan.fin_ms,
                },
                scan: plan.websocket,
                goodbye: plan.websocket.then(|| self.goodbye.clone()),
                keep: Box::new(keep),
            },
        });
    }
}
