//! A connection for one attempt: one that was kept, or a new one with its handshake.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use http::log::Level;
use http::{Client, Flow, Request};
use reactor::timeout;
use sys::clock;
use upstream::{
    ConnectError, ConnectOptions, Connection, Failure, HandshakeError, Peer, PeerAddr, PeerGuard, PoolKey,
    connect,
};

use crate::proxy::body::Sender;
use crate::proxy::exchange::Exchange;
use crate::proxy::failover::{Then, client_is_gone};
use crate::proxy::ssl::{Towards, Unbegun};
use crate::proxy::{local_address, pool};

/// A connection under a request. Boxed, and [`Received`](crate::proxy::receive::Received) too: a future keeps room for each
/// of its own copies of a value that goes through its hands, and all of them together are allocated anew with every request.
pub(super) struct Live {
    pub(super) connection: Connection,
    pub(super) guard: PeerGuard,
    pub(super) key: PoolKey,
    /// It served a request before.
    pub(super) reused: bool,
    pub(super) sender: Sender,
    pub(super) received_before: u64,
    pub(super) sent_before: u64,
}

/// Why there is no connection.
enum Undialed {
    Connect(ConnectError),
    Certificate(String),
    Handshake(HandshakeError),
    TimedOut,
    /// The client left meanwhile.
    ClientGone {
        handshaking: bool,
    },
}

impl Exchange<'_> {
    /// A connection from the pool, or a new one.
    pub(super) async fn connect(
        &mut self,
        request: &mut Request,
        client: &mut dyn Client,
        peer: &Peer,
        guard: PeerGuard,
    ) -> Result<Box<Live>, Then> {
        let (local, transparent) = local_address(&self.conf.bind, request);
        let key = self.key(peer, local, request);
        let kept = match self.attempt.group().keepalive().connections {
            0 => None,
            _ => pool::of_this_thread().take(&key),
        };
        let reused = kept.is_some();
        let connection = match kept {
            Some(connection) => connection,
            None => {
                let options = ConnectOptions {
                    local,
                    transparent,
                    timeout_ms: self.conf.connect_timeout_ms,
                    nodelay: request.location().core.tcp_nodelay,
                    keepalive: self.conf.socket_keepalive.then(Default::default),
                };
                // In a box of its own: most requests find a connection that is kept, and should not carry room for this.
                match Box::pin(self.new_connection(&peer.spec.addr, options, request, client)).await {
                    Ok(connection) => connection,
                    Err(undialed) => return Err(self.not_connected(undialed, request)),
                }
            }
        };
        let (received_before, sent_before) =
            (connection.counters.received_bytes, connection.counters.sent_bytes);
        let sender = Sender::new(&self.body);
        Ok(Box::new(Live { connection, guard, key, reused, sender, received_before, sent_before }))
    }

    /// All that a kept connection must have in common with this one.
    fn key(&self, peer: &Peer, local: Option<SocketAddr>, request: &Request) -> PoolKey {
        let location = (request.snapshot.generation << 32) | u64::from(request.location.0);
        let mut key = PoolKey::new(self.attempt.group(), peer, location);
        key.local = local;
        key.tls = self.secure.as_ref().map_or(0, Towards::key);
        key
    }

    async fn new_connection(
        &self,
        addr: &PeerAddr,
        options: ConnectOptions,
        request: &Request,
        client: &mut dyn Client,
    ) -> Result<Connection, Undialed> {
        let watch = !self.conf.ignore_client_abort && request.is_main() && !self.body.streams;
        let handshaking = Cell::new(false);
        let mut connecting = pin!(dial(addr, &options, self.secure.as_ref(), &handshaking));
        poll_fn(|cx| {
            if let Poll::Ready(done) = connecting.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            if watch && client.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Undialed::ClientGone { handshaking: handshaking.get() }));
            }
            Poll::Pending
        })
        .await
    }

    fn not_connected(&mut self, undialed: Undialed, request: &mut Request) -> Then {
        match undialed {
            Undialed::Connect(error) => self.refused(&error, request),
            Undialed::Certificate(why) => {
                self.log(request, Level::Error, format_args!("{why} while SSL handshaking to upstream"));
                let _ = self.attempt.failed(Failure::Ours, clock::instant());
                Then::Answer(Flow::Status(500))
            }
            Undialed::Handshake(error) => {
                self.log(request, Level::Error, format_args!("{error} while SSL handshaking to upstream"));
                self.failed(Failure::Error, false, request)
            }
            Undialed::TimedOut => {
                let text = "upstream timed out (110: Connection timed out) while SSL handshaking to upstream";
                self.log(request, Level::Error, format_args!("{text}"));
                self.failed(Failure::Timeout, false, request)
            }
            Undialed::ClientGone { handshaking } => {
                let action = match handshaking {
                    true => "SSL handshaking to upstream",
                    false => "connecting to upstream",
                };
                self.say_gone(request, action);
                Then::Answer(client_is_gone(request))
            }
        }
    }

    fn refused(&mut self, error: &ConnectError, request: &mut Request) -> Then {
        self.log(request, error.level(), format_args!("{error} while connecting to upstream"));
        if !error.may_retry() {
            let _ = self.attempt.failed(Failure::Ours, clock::instant());
            return Then::Answer(Flow::Status(500));
        }
        let failure = match (error.is_timeout(), error.blame()) {
            (true, _) => Failure::Timeout,
            (false, upstream::Blame::Us) => Failure::Ours,
            (false, _) => Failure::Error,
        };
        self.failed(failure, false, request)
    }
}

/// Connects, and goes through the handshake of TLS in what is left of the time.
async fn dial(
    addr: &PeerAddr,
    options: &ConnectOptions,
    secure: Option<&Towards>,
    handshaking: &Cell<bool>,
) -> Result<Connection, Undialed> {
    let connection = connect(addr, options).await.map_err(Undialed::Connect)?;
    let Some(secure) = secure else { return Ok(connection) };
    handshaking.set(true);
    let limit =
        Duration::from_millis(options.timeout_ms).saturating_sub(connection.counters.created.elapsed());
    let secured = async {
        let end = secure.begin(addr).await.map_err(|unbegun| match unbegun {
            Unbegun::Certificate(why) => Undialed::Certificate(why),
            Unbegun::Tls(error) => Undialed::Handshake(HandshakeError::Tls(error)),
        })?;
        connection.secure(Box::new(end)).await.map_err(Undialed::Handshake)
    };
    // In a box: plain connections need no room for it.
    Box::pin(timeout(limit, secured)).await.unwrap_or(Err(Undialed::TimedOut))
}
