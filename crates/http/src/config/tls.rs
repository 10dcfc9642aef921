//! TLS as the `ssl` directives leave it: what each server's handshakes follow, and how a name chooses among the servers of
//! an address. Plain data; nothing here knows a directive.

use std::sync::Arc;

use tls::config::ServerConfig;
use tls::config::verify::Clients;

use crate::ServerId;
use crate::message::Captures;
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
}

impl ServerTls {
    /// Whether it says what becomes of a handshake: it is made, or rejected.
    pub(crate) fn is_known(&self) -> bool {
        self.config.is_some() || self.reject
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
    /// What the handshake follows; nothing: it is rejected.
    pub config: Option<Arc<ServerConfig>>,
    /// Whether the client gave a name that a server has.
    pub named: bool,
}

impl TlsServers {
    /// The server for a name in lower case. One that has no certificate of its own takes the default server's settings.
    /// `None`: neither has any.
    pub fn choose(&self, name: Option<&str>) -> Option<TlsChoice> {
        let found = name.and_then(|name| self.names.lookup(name.as_bytes(), &mut Captures::default()));
        let default = self.of(self.default);
        let tls = self.of(found.unwrap_or(self.default)).or(default)?;
        let config = match (&tls.config, tls.reject) {
            (_, true) => None,
            (Some(config), _) => Some(config.clone()),
            (None, _) => default.and_then(|default| default.config.clone()),
        };
        Some(TlsChoice { tls: tls.clone(), config, named: found.is_some() })
    }

    fn of(&self, server: ServerId) -> Option<&Arc<ServerTls>> {
        self.servers.iter().find(|(id, _)| *id == server).map(|(_, tls)| tls)
    }
}
