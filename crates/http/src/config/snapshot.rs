//! One configuration, compiled: immutable, shared by all workers, replaced whole by a reload (D2).

use std::any::{Any, TypeId};
use std::sync::Arc;

use crate::config::{Core, CoreConf, ListenAddr, ListenOptions, Modifier, Registry, ServerTls, TlsServers};
use crate::location::LocationTable;
use crate::log::LogProgram;
use crate::output::{BodyFilter, HeaderFilter};
use crate::phase::{Handler, PHASES, Phase};
use crate::server_name::ServerNames;
use crate::variable::Variables;

/// Index of a block in [`Snapshot::locations`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct LocationId(pub u32);

/// Index of a server in [`Snapshot::servers`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ServerId(pub u32);

/// A compiled configuration.
pub struct Snapshot {
    /// Counts up with every configuration that served.
    pub generation: u64,
    /// The process.
    pub core: Core,
    /// Sockets to accept on, and which servers answer there.
    pub listeners: Vec<Listener>,
    /// The servers, in the order of the file.
    pub servers: Vec<Server>,
    /// Every block that can serve a request: servers, locations, ifs.
    pub locations: Vec<Location>,
    /// All variables.
    pub variables: Variables,
    /// Groups, formats, zones.
    pub registry: Registry,
}

impl Snapshot {
    /// The block of that id.
    pub fn location(&self, id: LocationId) -> &Location {
        &self.locations[id.0 as usize]
    }

    /// The server of that id.
    pub fn server(&self, id: ServerId) -> &Server {
        &self.servers[id.0 as usize]
    }
}

/// A socket, and the servers behind it.
pub struct Listener {
    /// What it is bound to.
    pub addr: ListenAddr,
    /// Socket options.
    pub options: ListenOptions,
    /// The addresses it answers for: one, or for a wildcard also those named beside it on the same port.
    /// The wildcard itself is last.
    pub addresses: Vec<(ListenAddr, VirtualServers)>,
}

impl Listener {
    /// The servers for a connection whose own address is `local`.
    pub fn servers_for(&self, local: &ListenAddr) -> &VirtualServers {
        let exact = self.addresses.iter().find(|(addr, _)| addr == local);
        &exact.or(self.addresses.last()).expect("a listener has at least its own address").1
    }
}

/// The servers of one address.
pub struct VirtualServers {
    /// Who answers when no name fits.
    pub default: ServerId,
    /// `proxy_protocol`
    pub proxy_protocol: bool,
    /// `ssl`: connections begin with a handshake.
    pub tls: Option<Arc<TlsServers>>,
    pub(crate) names: Arc<ServerNames>,
}

impl VirtualServers {
    /// The server for a `Host`, lower-cased and without port; regular expressions leave captures in `captures`.
    pub fn lookup(&self, host: &[u8], captures: &mut crate::message::Captures) -> ServerId {
        self.names.lookup(host, captures).unwrap_or(self.default)
    }
}

/// A `server` block.
pub struct Server {
    /// Its first `server_name`.
    pub name: Box<[u8]>,
    /// The block that serves when no location matches, with the server's own phase handlers.
    pub root: LocationId,
    /// Its TLS settings, if it has any.
    pub tls: Option<Arc<ServerTls>>,
    /// Its top-level locations.
    pub(crate) locations: LocationTable,
    /// Named locations.
    pub(crate) named: Vec<(Box<[u8]>, LocationId)>,
}

impl Server {
    /// The location called `@name`; the name with its `@`.
    pub fn named(&self, name: &[u8]) -> Option<LocationId> {
        self.named.iter().find(|(have, _)| &**have == name).map(|(_, id)| *id)
    }
}

/// A block that can serve a request, compiled to straight lists (D9).
pub struct Location {
    /// Its own id.
    pub id: LocationId,
    /// The server it belongs to.
    pub server: ServerId,
    /// What a location matches; of an `if`, its location's. Empty for a server's own.
    pub text: Box<[u8]>,
    /// How it matches.
    pub modifier: Modifier,
    /// The limits and habits that hold here.
    pub core: Arc<CoreConf>,
    /// Whether `/x` is redirected here when the text is `/x/` (a location that passes requests on).
    pub auto_redirect: bool,
    /// The access log of requests that end here.
    pub access_log: Vec<Arc<LogProgram>>,
    pub(crate) handlers: [Vec<Handler>; PHASES],
    pub(crate) header_filters: Vec<HeaderFilter>,
    pub(crate) body_filters: Vec<BodyFilter>,
    pub(crate) inner: LocationTable,
    pub(crate) confs: Vec<(TypeId, Arc<dyn Any + Send + Sync>)>,
}

impl Location {
    /// The handlers of a phase, in order.
    pub fn handlers(&self, phase: Phase) -> &[Handler] {
        &self.handlers[phase as usize]
    }

    /// A module's merged configuration here.
    pub fn conf<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let (_, conf) = self.confs.iter().find(|(id, _)| *id == TypeId::of::<T>())?;
        conf.clone().downcast().ok()
    }
}
