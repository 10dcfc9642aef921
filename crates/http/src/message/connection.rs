//! A client's connection, as its requests see it.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::{ListenAddr, Snapshot};
use crate::message::Tls;

/// A worker's hold on a snapshot. Clones are cheap and stay in their thread; the last one gives the snapshot back
/// to the control thread, which drops it (D2).
#[derive(Clone)]
pub struct SnapshotRef(Rc<Held>);

struct Held {
    snapshot: Option<Arc<Snapshot>>,
    give_back: Box<dyn Fn(Arc<Snapshot>)>,
}

impl SnapshotRef {
    /// Holds a snapshot; `give_back` gets it when nothing on this worker uses it any more.
    pub fn new(snapshot: Arc<Snapshot>, give_back: impl Fn(Arc<Snapshot>) + 'static) -> SnapshotRef {
        SnapshotRef(Rc::new(Held { snapshot: Some(snapshot), give_back: Box::new(give_back) }))
    }

    /// Whether both hold the same snapshot.
    pub fn same(&self, other: &SnapshotRef) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for SnapshotRef {
    type Target = Snapshot;
    fn deref(&self) -> &Snapshot {
        self.0.snapshot.as_deref().expect("taken only by drop")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(snapshot) = self.snapshot.take() {
            (self.give_back)(snapshot);
        }
    }
}

static SERIAL: AtomicU64 = AtomicU64::new(1);

/// A connection from a client.
pub struct Connection {
    /// `$connection`: counts up over the process.
    pub serial: u64,
    /// The client's address; `None` for a unix socket.
    pub peer: Option<SocketAddr>,
    /// The address it connected to.
    pub local: ListenAddr,
    /// The socket that accepted it.
    pub listener: ListenAddr,
    /// When it was accepted, [`crate::clock::monotonic_ms`].
    pub started_ms: u64,
    /// `$connection_requests`: the number of the current request, from 1.
    pub requests: std::cell::Cell<u64>,
    /// The PROXY header that came first, if it names both ends.
    pub proxy_protocol: Option<Box<wire::proxy_protocol::Received>>,
    /// What the handshake came to, if the client speaks TLS.
    pub tls: Option<Box<Tls>>,
}

impl Connection {
    /// A connection accepted now.
    pub fn new(peer: Option<SocketAddr>, local: ListenAddr, listener: ListenAddr) -> Connection {
        Connection {
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            peer,
            local,
            listener,
            started_ms: crate::clock::monotonic_ms(),
            requests: std::cell::Cell::new(0),
            proxy_protocol: None,
            tls: None,
        }
    }

    /// The client's address in text, as `$remote_addr` has it.
    pub fn peer_text(&self) -> String {
        let mut text = Vec::with_capacity(15);
        self.write_peer(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Appends the client's address in text. Every line of a log wants it, hence not by `Display`.
    pub fn write_peer(&self, out: &mut Vec<u8>) {
        match self.peer.map(|peer| peer.ip()) {
            None => out.extend_from_slice(b"unix:"),
            Some(IpAddr::V4(ip)) => {
                let (mut text, mut len) = ([0; 16], 0);
                for octet in ip.octets() {
                    for (at_least, unit) in [(100, 100), (10, 10), (0, 1)] {
                        if octet >= at_least {
                            text[len] = b'0' + octet / unit % 10;
                            len += 1;
                        }
                    }
                    text[len] = b'.';
                    len += 1;
                }
                out.extend_from_slice(&text[..len - 1]);
            }
            Some(IpAddr::V6(ip)) => out.extend_from_slice(ip.to_string().as_bytes()),
        }
    }
}
