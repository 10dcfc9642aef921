//! The directive contract: a module is a table of directives, a raw and a merged configuration, variables and
//! an `install` function that puts handlers into the locations where they are configured.
//!
//! The loader ([`load()`]) knows no directive by name. It walks the tree, calls the setters with a [`Line`],
//! merges block into block the way nginx does, and compiles every block to a [`Location`].

mod address;
mod block;
mod contract;
mod core_conf;
mod install;
mod late;
mod line;
mod load;
mod registry;
mod snapshot;
mod tls;
mod websocket;
mod world;

pub use address::{Listen, ListenAddr, ListenOptions, SocketKeepalive};
pub use block::{BlockKind, Modifier, RawSet};
pub use contract::{
    ANY_HTTP, Answer, AnyConf, Args, Conf, Context, Directive, HTTP_SERVER, Merge, Module, ModuleConf, Place,
    RawType, Setter, conf_of,
};
pub use core_conf::{
    Core, CoreConf, ErrorPage, IfModifiedSince, KeepaliveDisable, Lingering, Prefixes, ServerTokens,
    TypeTable,
};
pub use install::Install;
pub use late::{
    FilePattern, LateFiles, LateName, OwnRights, Reading, certificate_cache, read_regular, shown,
};
pub use line::{Line, Problem};
pub use load::{LoadOptions, Loaded, load};
pub use registry::Registry;
pub use snapshot::{Listener, Location, LocationId, Server, ServerId, Snapshot, VirtualServers};
pub use tls::{CheckingStatus, ClientStatus, LateConfig, LateTls, ServerTls, TlsChoice, TlsServers};
pub use websocket::{Websocket, WebsocketMode};
pub use world::{DiskWorld, World};
