//! TLS as the `ssl` directives leave it: what each server's handshakes follow, and how a name chooses among the servers of
//! an address. Plain data; nothing here knows a directive.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tls::config::ServerConfig;
use tls::config::verify::{Clients, Reason};

use crate::ServerId;
use crate::message::{Captures, Request};
use crate::server_name::ServerNames;

/// TLS of one server.
#[derive(Debug)]
pub struct ServerTls {
    /// What its handshakes follow; nothing for a server that only rejects them.
    pub config: Option<Arc<ServerConfig>>,
    /// `ssl_reject_handshake`
    pub reject: bool,
    /// How clients' certificates are judged (`ssl_verify_client`).
    pub clients: Option<Arc<Clients>>,
    /// Certificates that depend on who asks, instead of `config`.
    pub late: Option<Arc<dyn LateTls>>,
    /// Who is asked whether a client's certificate is revoked (`ssl_ocsp`).
    pub status: Option<Arc<dyn ClientStatus>>,
}

/// Asks whether certificates are revoked.
pub trait ClientStatus: Send + Sync + std::fmt::Debug {
    /// About a chain that has been verified, the client's certificate first, DER.
    fn check(&self, chain: &[Box<[u8]>]) -> CheckingStatus;
}

/// An answer on its way; the error is why the client is not trusted.
pub type CheckingStatus = Pin<Box<dyn Future<Output = Result<(), Reason>>>>;

/// Certificates with variables in their names: what a handshake follows is made for it.
pub trait LateTls: Send + Sync + std::fmt::Debug {
    /// What a handshake follows. The request has a connection and a server, and is over when this returns; its `tls` says
    /// what the ClientHello said.
    fn config(&self, request: &mut Request) -> LateConfig;
}

/// A configuration on its way; the error is nginx's words for a certificate that is of no use.
pub type LateConfig = Pin<Box<dyn Future<Output = Result<Arc<ServerConfig>, String>>>>;

impl ServerTls {
    /// Whether it says what becomes of a handshake: it is made, or rejected.
    pub(crate) fn is_known(&self) -> bool {
        self.has_certificate() || self.reject
    }

    /// Whether it can make handshakes.
    pub(crate) fn has_certificate(&self) -> bool {
        self.config.is_some() || self.late.is_some()
    }
}

/// The servers of an address that speaks TLS. Shared with handshakes under way, and holding nothing else of a snapshot.
pub struct TlsServers {
    pub(crate) names: Arc<ServerNames>,
    pub(crate) default: ServerId,
    pub(crate) servers: Vec<(ServerId, Arc<ServerTls>)>,
}

/// What a ClientHello's name led to.
pub struct TlsChoice {
    /// The server whose settings hold.
    pub tls: Arc<ServerTls>,
    /// What the handshake follows; nothing and no `late`: it is rejected.
    pub config: Option<Arc<ServerConfig>>,
    /// What makes that, where certificates have variables.
    pub late: Option<Arc<dyn LateTls>>,
    /// The server that was chosen.
    pub server: ServerId,
    /// Whether the client gave a name that a server has.
    pub named: bool,
}

impl TlsServers {
    /// The server for a name in lower case. One that has no certificate of its own takes the default server's settings.
    /// `None`: neither has any.
    pub fn choose(&self, name: Option<&str>) -> Option<TlsChoice> {
        let found = name.and_then(|name| self.names.lookup(name.as_bytes(), &mut Captures::default()));
        let server = found.unwrap_or(self.default);
        let default = self.of(self.default);
        let tls = self.of(server).or(default)?;
        let from = match tls.has_certificate() || tls.reject {
            true => Some(tls),
            false => default,
        };
        let from = from.filter(|_| !tls.reject);
        Some(TlsChoice {
            tls: tls.clone(),
            config: from.and_then(|tls| tls.config.clone()),
            late: from.and_then(|tls| tls.late.clone()),
            server,
            named: found.is_some(),
        })
    }

    fn of(&self, server: ServerId) -> Option<&Arc<ServerTls>> {
        self.servers.iter().find(|(id, _)| *id == server).map(|(_, tls)| tls)
    }
}
