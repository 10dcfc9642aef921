//! What goes into the engine and what comes back.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use wire::tls::TlsEnd;
use wire::websocket::Counts;

/// A tunnel on its way from the request machine to a loop.
pub struct Handover {
    /// The side that asked.
    pub client: End,
    /// The side that answered 101.
    pub upstream: End,
    /// How it is to be run.
    pub plan: Plan,
}

/// One side of a tunnel.
pub struct End {
    /// Connected stream socket. Its blocking mode doesn't matter.
    pub socket: OwnedFd,
    /// How its events come.
    pub watch: Watch,
    /// Bytes still owed to this end, such as the rest of the 101; sent before anything else, as they are (with TLS:
    /// encrypted already), and not scanned.
    pub unsent: Vec<u8>,
    /// Plain bytes that came from this end behind its head; delivered to the other end first.
    pub leftover: Vec<u8>,
    /// What the connection speaks below.
    pub tls: Option<Tls>,
}

/// How the events of an end's socket come to its tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// The socket is to be added to the loop's epoll instance, or given a token of ours where it is there for another.
    Own,
    /// The loop has it registered, edge-triggered, for reading, writing, the FIN and urgent data, and passes its events on
    /// ([`crate::Tunnels::passed`]) from [`Keep::started`] to [`Keep::ended`].
    Passed {
        /// The loop has heard of something to read that nobody has read since.
        readable: bool,
    },
}

/// TLS of one end, beyond the handshake.
pub struct Tls {
    /// The connection's state.
    pub end: Box<dyn TlsEnd>,
    /// Bytes received and not yet decrypted.
    pub input: Vec<u8>,
}

impl End {
    /// An end that is owed nothing and has sent nothing yet.
    pub fn new(socket: OwnedFd) -> End {
        End { socket, watch: Watch::Own, unsent: Vec::new(), leftover: Vec::new(), tls: None }
    }
}

/// How a tunnel is run.
pub struct Plan {
    /// What it may hold.
    pub limits: Limits,
    /// How long it may stand still.
    pub timers: Timers,
    /// Whether frames are counted (and can be injected): both directions carry WebSocket frames.
    pub scan: bool,
    /// What one end is told when the other was lost; `None`: nothing but the FIN.
    pub goodbye: Option<Arc<Goodbye>>,
    /// Told once when it's over.
    pub keep: Box<dyn Keep>,
}

/// Close frames for an end whose opposite went without one (`websocket_close lost`): because its connection broke or a
/// timer fired. Only for tunnels that are scanned, at a frame boundary, and unless a Close frame has passed already.
///
/// An end that is told so when a connection breaks is given [`Timers::fin_ms`] to answer and close.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Goodbye {
    /// For the client: a whole frame, not masked; empty: nothing is said.
    pub client_frame: Vec<u8>,
    /// For the upstream: a whole frame, masked; empty: nothing is said.
    pub upstream_frame: Vec<u8>,
    /// Also when the opposite sent its FIN without a Close frame (`websocket_close eof`).
    pub on_eof: bool,
}

impl Goodbye {
    pub(crate) fn frame_for(&self, side: Side) -> &[u8] {
        match side {
            Side::Client => &self.client_frame,
            Side::Upstream => &self.upstream_frame,
        }
    }
}

/// What a tunnel may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes one direction may hold for a slow reader (`websocket_buffer`), within the process-wide budget. What the
    /// kernel holds comes on top. At most 4 GB; below 4 KB it counts as 4 KB.
    pub buffer_bytes_max: usize,
}

/// How long a tunnel may stand still, in milliseconds, each at most 49 days; 0 is without end. A timer never fires
/// early and at most 0.3 seconds late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timers {
    /// Without a byte in either direction (`proxy_read_timeout`, `websocket_idle_timeout`).
    pub idle_ms: u64,
    /// While a write to the client is blocked, between two successful ones (`send_timeout`).
    pub send_client_ms: u64,
    /// While a write to the upstream is blocked, between two successful ones (`proxy_send_timeout`).
    pub send_upstream_ms: u64,
    /// Once one direction has ended, without a byte in the other (`websocket_fin_timeout`).
    pub fin_ms: u64,
}

/// Names one tunnel of one loop; never reused for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub(crate) u64);

impl Token {
    /// What one of its sockets is known by in the loop, where that passes its events on ([`crate::Tunnels::passed`]), for as
    /// long as the tunnel lasts.
    pub fn name(self, side: Side) -> u32 {
        self.0 as u32 | side as u32
    }
}

/// What the giver of a tunnel keeps until its end: the log line, the guards.
pub trait Keep: Send {
    /// The tunnel is in a loop; `token` names it to [`crate::Remote`]. Runs on the loop's thread and must not block.
    fn started(&mut self, token: Token) {
        let _ = token;
    }

    /// The tunnel is over and its sockets are closed. Runs on the loop's thread and must not block.
    fn ended(self: Box<Self>, report: Report);
}

/// One side of a tunnel, or the direction that comes from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The side that asked.
    Client = 0,
    /// The side that answered.
    Upstream = 1,
}

impl Side {
    /// The opposite one.
    pub fn other(self) -> Side {
        match self {
            Side::Client => Side::Upstream,
            Side::Upstream => Side::Client,
        }
    }
}

/// What a tunnel has been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The client's side.
    pub client: EndReport,
    /// The upstream's side.
    pub upstream: EndReport,
    /// What ended it.
    pub ended_by: EndedBy,
    /// Which side sent its FIN first, if any did.
    pub first_eof: Option<Side>,
    /// From hand-over to end, in milliseconds.
    pub lasted_ms: u64,
}

/// What one end sent and was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndReport {
    /// Plain bytes that came from it, with [`End::leftover`].
    pub bytes_received: u64,
    /// Bytes its socket took, with [`End::unsent`] and injected frames. With TLS: plain bytes that were encrypted for it.
    pub bytes_sent: u64,
    /// WebSocket frames, messages and the Close code that came from it; all zero without [`Plan::scan`].
    pub frames: Counts,
}

/// What a tunnel has been so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The client's side.
    pub client: EndReport,
    /// The upstream's side.
    pub upstream: EndReport,
    /// Which side has sent its FIN, if one has.
    pub first_eof: Option<Side>,
    /// Since the hand-over, in milliseconds.
    pub lasted_ms: u64,
    /// Since a byte last moved, in milliseconds.
    pub idle_ms: u64,
}

/// Why a tunnel is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndedBy {
    /// Both directions ended with a FIN, the client's first.
    ClientClosed,
    /// Both directions ended with a FIN, the upstream's first.
    UpstreamClosed,
    /// The client's connection broke; the errno.
    ClientReset(i32),
    /// The upstream's connection broke; the errno.
    UpstreamReset(i32),
    /// This side broke the rules of TLS; which one.
    TlsFailed(Side, String),
    /// Neither side sent anything for [`Timers::idle_ms`].
    IdleTimeout,
    /// This side didn't take what it was sent for its send timeout.
    SendTimeout(Side),
    /// One direction had ended, and the other stood still for [`Timers::fin_ms`].
    FinTimeout,
    /// The loop was told to let it go.
    Shutdown,
    /// Our fault: a panic, or the kernel refused to watch its sockets; the message.
    Failed(String),
}
