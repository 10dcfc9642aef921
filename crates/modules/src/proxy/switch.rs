//! A 101: the request becomes a tunnel, or the answer is wrong.

use http::log::Level;
use http::{Flow, Request};
use wire::tls::TlsEnd;

use crate::proxy::connect::Live;
use crate::proxy::exchange::Exchange;
use crate::proxy::receive::Received;
use crate::proxy::upgrade::{self, Switch};
use crate::proxy::{Upstreamed, response};

impl Exchange<'_> {
    /// A 101.
    pub(super) fn switch(&mut self, live: Box<Live>, received: &Received, request: &mut Request) -> Flow {
        let switch = match live.sender.is_done(&self.head, &self.body) {
            true => upgrade::switch(self.conf, &self.upgrade, &received.head, &received.buf, request),
            // What is left of the body would go down the tunnel as if it were its first bytes.
            false => Switch::Bad("upstream switched protocols before it had the request body".into()),
        };
        match switch {
            Switch::Bad(why) => {
                let action = "while reading response header from upstream";
                self.log(request, Level::Error, format_args!("{why} {action}"));
                self.close(live, false, request);
                request.slots.of::<Upstreamed>().now().status = 502;
                Flow::Status(502)
            }
            Switch::Relay => {
                response::translate(self.conf, &received.head, &received.buf, request);
                request.response.header_only = true;
                request.keepalive = false;
                self.close(live, false, request);
                Flow::Respond
            }
            Switch::Tunnel(is_websocket) => self.tunnel(live, received, is_websocket, request),
        }
    }

    fn tunnel(
        &mut self,
        live: Box<Live>,
        received: &Received,
        is_websocket: bool,
        request: &mut Request,
    ) -> Flow {
        response::translate(self.conf, &received.head, &received.buf, request);
        request.response.upgrade = true;
        let (scheme, uri) = (self.scheme().as_bytes(), self.uri_bytes(request));
        let state = self.count(&live, request);
        let (upstream_received, upstream_sent, upstream_started_ms) =
            (state.received, state.sent, state.started_ms);
        let name = [scheme, state.name().as_bytes(), uri].concat();
        let live = *live;
        let (socket, tls) = match live.connection.into_parts() {
            Ok(parts) => parts,
            Err(error) => {
                let text = format_args!("TLS does not give a socket up: {error}");
                self.log(request, Level::Alert, text);
                return Flow::Status(500);
            }
        };
        let mut plan = upgrade::tunnel_plan(self.conf, request, socket);
        plan.leftover = received.buf[received.body_at..].to_vec();
        plan.upstream_tls = tls.map(|(end, input)| (end as Box<dyn TlsEnd + Send>, input));
        plan.websocket = is_websocket;
        (plan.upstream_received, plan.upstream_sent) = (upstream_received, upstream_sent);
        plan.upstream_started_ms = upstream_started_ms;
        plan.upstream_name = name;
        plan.guards.push(live.guard.into());
        Flow::Tunnel(Box::new(plan))
    }
}
