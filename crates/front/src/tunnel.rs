//! The hand-over: a request that became a tunnel leaves the request machine for good (D3).

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use http::log::{Ending, ErrorLog, FrozenLine, Level};
use http::{Guards, Request, TunnelPlan};
use relay::{EndedBy, Goodbye, Handover, Keep, Leave, Limits, Plan, Remote, Report, Side, Timers, Token};

use crate::shared::{Seat, Shared};

/// Tunnels that a reload closes (`websocket_reload close`); all others are known to their loop alone.
#[derive(Default)]
pub(crate) struct Closing {
    tunnels: Mutex<HashMap<u64, Born>>,
    serial: AtomicU64,
}

/// A tunnel, the loop it is in, and the generation it was born in. A token alone names a tunnel of one loop only.
struct Born {
    generation: u64,
    token: Token,
    remote: Remote,
}

impl Closing {
    /// Enters a tunnel; the number is for [`Closing::remove`].
    fn add(&self, born: Born) -> u64 {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(serial, born);
        serial
    }

    fn remove(&self, serial: u64) {
        self.lock().remove(&serial);
    }

    /// Closes those of generations before `generation`.
    pub(crate) fn close_before(&self, generation: u64, how: &Leave) {
        for born in self.lock().values().filter(|born| born.generation < generation) {
            born.remote.close(born.token, how.clone());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Born>> {
        self.tunnels.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

/// What a worker needs to hand a tunnel over.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) remote: Remote,
    pub(crate) closing: Arc<Closing>,
    pub(crate) shared: Arc<Shared>,
    /// What one end of a WebSocket is told when the other was lost (`websocket_close lost`).
    pub(crate) goodbye: Arc<Goodbye>,
}

/// Both sides of a hand-over as the request machine gives them up.
pub(crate) struct GivenUp {
    pub(crate) client: OwnedFd,
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
    /// Hands a tunnel to the loop. Nothing of the request or its snapshot is kept beyond this call.
    pub(crate) fn hand_over(&self, request: &mut Request, given: GivenUp, plan: TunnelPlan) {
        let snapshot = request.snapshot.clone();
        let location = snapshot.location(request.location);
        let lines: Vec<FrozenLine> =
            location.access_log.iter().filter_map(|log| log.freeze(request)).collect();
        let keep = Kept {
            lines: lines.into_boxed_slice(),
            error_log: location.core.error_log.clone(),
            who: who(request, &plan.upstream_name),
            guards: plan.guards,
            _seats: (given.seat, self.shared.extra_seat()),
            shared: self.shared.clone(),
            closing: plan
                .close_on_reload
                .then(|| (self.closing.clone(), self.remote.clone(), snapshot.generation)),
            closing_serial: None,
            started_before_ms: http::clock::monotonic_ms().saturating_sub(request.started_ms),
            connected_before_ms: http::clock::monotonic_ms().saturating_sub(request.connection.started_ms),
            upstream_before_ms: http::clock::monotonic_ms().saturating_sub(plan.upstream_started_ms),
            head_bytes: request.response.bytes_sent,
            unsent_bytes: given.unsent_bytes as u64,
            received: request.received,
            upstream_received: plan.upstream_received.saturating_sub(plan.leftover.len() as u64),
            upstream_sent: plan.upstream_sent,
        };
        self.shared.tunnels.fetch_add(1, Ordering::Relaxed);
        let handover = Handover {
            client: relay::End {
                unsent: given.unsent,
                leftover: given.leftover,
                tls: given.tls,
                ..relay::End::new(given.client)
            },
            upstream: relay::End {
                leftover: plan.leftover,
                tls: plan.upstream_tls.map(|(end, input)| relay::Tls { end, input }),
                ..relay::End::new(plan.upstream)
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
        };
        if let Err(handover) = self.remote.insert(handover) {
            // The process is stopping: the tunnel ends before it began, and says so in its log.
            handover.plan.keep.ended(Report {
                client: relay::EndReport::default(),
                upstream: relay::EndReport::default(),
                ended_by: EndedBy::Shutdown,
                first_eof: None,
                lasted_ms: 0,
            });
        }
    }
}

/// `client: 1.2.3.4, server: name, request: "GET / HTTP/1.1", upstream: "..."` for the one line a tunnel may log at its end.
fn who(request: &Request, upstream: &str) -> Box<str> {
    let text = String::from_utf8_lossy;
    format!(
        "client: {}, server: {}, request: \"{}\", upstream: \"{upstream}\"",
        request.connection.peer_text(),
        text(&request.server().name),
        text(request.line())
    )
    .into()
}

/// What is kept of a request for the tunnel's end.
struct Kept {
    lines: Box<[FrozenLine]>,
    error_log: Arc<ErrorLog>,
    who: Box<str>,
    guards: Guards,
    _seats: (Seat, Seat),
    shared: Arc<Shared>,
    closing: Option<(Arc<Closing>, Remote, u64)>,
    /// Its number among those a reload closes.
    closing_serial: Option<u64>,
    started_before_ms: u64,
    connected_before_ms: u64,
    upstream_before_ms: u64,
    head_bytes: u64,
    unsent_bytes: u64,
    received: u64,
    upstream_received: u64,
    upstream_sent: u64,
}

impl Keep for Kept {
    fn started(&mut self, token: Token) {
        if let Some((closing, remote, generation)) = &self.closing {
            let born = Born { generation: *generation, token, remote: remote.clone() };
            self.closing_serial = Some(closing.add(born));
        }
    }

    fn ended(self: Box<Self>, report: Report) {
        self.say_why(&report);
        let to_client = report.client.bytes_sent;
        let ending = Ending {
            bytes_sent: self.head_bytes + to_client,
            body_bytes_sent: to_client.saturating_sub(self.unsent_bytes),
            request_length: self.received,
            request_time_ms: self.started_before_ms + report.lasted_ms,
            connection_time_ms: self.connected_before_ms + report.lasted_ms,
            upstream_bytes_received: self.upstream_received + report.upstream.bytes_received,
            upstream_bytes_sent: self.upstream_sent + report.upstream.bytes_sent,
            upstream_response_length: report.upstream.bytes_received,
            upstream_response_time_ms: self.upstream_before_ms + report.lasted_ms,
        };
        for line in &self.lines {
            line.write(&ending);
        }
        if let (Some((closing, ..)), Some(serial)) = (&self.closing, self.closing_serial) {
            closing.remove(serial);
        }
        self.shared.tunnels.fetch_sub(1, Ordering::Relaxed);
        drop(self.guards);
    }
}

impl Kept {
    /// One line for an end that was nobody's wish, in nginx's words and at its levels.
    fn say_why(&self, report: &Report) {
        let who = &self.who;
        let say = |level: Level, text: &str| {
            self.error_log.write(level, format_args!("{text} while proxying upgraded connection, {who}"))
        };
        match &report.ended_by {
            EndedBy::ClientClosed | EndedBy::UpstreamClosed | EndedBy::Shutdown => {}
            EndedBy::IdleTimeout => say(Level::Info, "upstream timed out (110: Connection timed out)"),
            EndedBy::SendTimeout(Side::Client) => {
                say(Level::Info, "client timed out (110: Connection timed out)")
            }
            EndedBy::SendTimeout(Side::Upstream) => {
                say(Level::Info, "upstream timed out (110: Connection timed out) in sending");
            }
            EndedBy::FinTimeout => {
                say(
                    Level::Info,
                    "half-closed connection timed out (websocket_fin_timeout, 110: Connection timed out)",
                );
            }
            EndedBy::ClientReset(errno) => say(Level::Info, &failed("client", *errno)),
            EndedBy::UpstreamReset(errno) => say(Level::Error, &failed("upstream", *errno)),
            EndedBy::TlsFailed(side, why) => say(Level::Info, &format!("TLS failed with {side:?}: {why}")),
            EndedBy::Failed(what) => say(Level::Alert, &format!("tunnel failed: {what}")),
        }
    }
}

fn failed(side: &str, errno: i32) -> String {
    let error = std::io::Error::from_raw_os_error(errno).to_string();
    let text = error.split(" (os error").next().unwrap_or_default();
    format!("recv() failed ({errno}: {text}) from {side}")
}
