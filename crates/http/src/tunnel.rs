//! What a handler hands over when a request becomes a tunnel.

use std::fmt;
use std::sync::Arc;

use reactor::Source;
use wire::tls::TlsEnd;

/// Something of which a tunnel holds a unit: a connection count, a limit's slots.
pub trait Counted: Send + Sync {
    /// Takes one unit back.
    fn give_back(&self);
}

/// A unit held for a tunnel's life, given back by its drop. What counts it is kept alive; a guard allocates nothing.
pub struct Guard(Arc<dyn Counted>);

impl Guard {
    /// Holds a unit that the caller has taken.
    pub fn new(counted: Arc<dyn Counted>) -> Guard {
        Guard(counted)
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

/// The guards of a tunnel.
pub type Guards = Vec<Guard>;

/// The upstream half of a hand-over, with the rules that hold for the tunnel. Nothing in it points into the snapshot (D3).
pub struct TunnelPlan {
    /// The upstream connection, registered in this worker's loop.
    pub upstream: Source,
    /// TLS towards the upstream, beyond its handshake, and bytes received that are not decrypted yet.
    pub upstream_tls: Option<(Box<dyn TlsEnd + Send>, Vec<u8>)>,
    /// Bytes the upstream sent past its 101 head, decrypted.
    pub leftover: Vec<u8>,
    /// Close after so long without a byte in either direction (`proxy_read_timeout`, `websocket_idle_timeout`).
    pub idle_ms: u64,
    /// Close when a write to the upstream is blocked so long (`proxy_send_timeout`).
    pub send_upstream_ms: u64,
    /// Close when a write to the client is blocked so long (`send_timeout`).
    pub send_client_ms: u64,
    /// Close a half-closed tunnel after so long without progress (`websocket_fin_timeout`).
    pub fin_ms: u64,
    /// Most bytes a direction may hold for a slow reader (`websocket_buffer`).
    pub buffer_bytes_max: usize,
    /// Whether frames are followed: a WebSocket, not another protocol.
    pub websocket: bool,
    /// `websocket_reload close`
    pub close_on_reload: bool,
    /// Bytes exchanged with the upstream before the tunnel began: heads.
    pub upstream_received: u64,
    /// See `upstream_received`.
    pub upstream_sent: u64,
    /// When the upstream was first written to, [`crate::clock::monotonic_ms`].
    pub upstream_started_ms: u64,
    /// URL of the upstream in text, for messages.
    pub upstream_name: Vec<u8>,
    /// Counts and slots that the tunnel keeps.
    pub guards: Guards,
}
