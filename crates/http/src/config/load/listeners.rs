//! `listen` lines of all servers become sockets, and the servers behind each address.

use std::sync::Arc;

use conf::{Diagnostics, Span};

use super::compile::Compiled;
use super::{Loader, default_listen};
use crate::ServerId;
use crate::config::{
    Listen, ListenAddr, ListenOptions, Listener, Problem, ServerTls, TlsServers, VirtualServers,
};
use crate::server_name::{ServerName, ServerNames};

impl Loader<'_> {
    /// Sorts the `listen` lines of all servers into sockets: a wildcard takes the connections of its port's other
    /// addresses too, unless those say `bind` or set options of their own.
    pub(super) fn listeners(&mut self, compiled: &Compiled) -> Vec<Listener> {
        let mut addresses: Vec<AddressServers> = Vec::new();
        for server in
            compiled.servers.iter().enumerate().filter_map(|(at, server)| Some((at, server.as_ref()?)))
        {
            let (at, server) = server;
            let id = ServerId(u32::try_from(at).expect("fewer than 2^32 servers"));
            let mut listens = std::mem::take(&mut self.blocks.get_mut(server.root).listens);
            if listens.is_empty() {
                listens.push(default_listen(self.blocks.get(server.root).span));
            }
            let mut names = self.blocks.get(server.root).names.clone();
            if names.is_empty() {
                // nginx's default: the server for requests that name none.
                names.push(ServerName::Exact(Box::default()));
            }
            for listen in listens {
                if AddressServers::add(&mut addresses, listen.clone(), id, &names) {
                    let text = format!("protocol options redefined for {}", listen.addr);
                    self.state.diagnostics.warn(Some(listen.span), text);
                }
            }
        }
        for (server, problem) in addresses.iter().filter_map(|address| address.lacks_certificate(compiled)) {
            let root = compiled.servers.get(server.0 as usize).and_then(|server| Some(server.as_ref()?.root));
            let span = root.map_or_else(Span::default, |root| self.blocks.get(root).span);
            self.state.report(problem, span);
        }
        let mut listeners: Vec<Listener> = Vec::new();
        let finish = |address: AddressServers| address.finish(compiled, &mut self.state.diagnostics);
        let finished: Vec<(ListenAddr, ListenOptions, VirtualServers)> =
            addresses.into_iter().map(finish).collect();
        let (wild, exact): (Vec<_>, Vec<_>) =
            finished.into_iter().partition(|(addr, _, _)| addr.is_wildcard());
        for (addr, options, servers) in wild {
            listeners.push(Listener { addr: addr.clone(), options, addresses: vec![(addr, servers)] });
        }
        for (addr, options, servers) in exact {
            let port = |addr: &ListenAddr| match addr {
                ListenAddr::Tcp(addr) => Some((addr.is_ipv4(), addr.port())),
                ListenAddr::Unix(_) => None,
            };
            let shared = listeners
                .iter_mut()
                .find(|wild| {
                    wild.addr.is_wildcard() && port(&wild.addr).is_some() && port(&wild.addr) == port(&addr)
                })
                .filter(|_| !options.bind);
            match shared {
                Some(wild) => wild.addresses.insert(0, (addr, servers)),
                None => {
                    listeners.push(Listener { addr: addr.clone(), options, addresses: vec![(addr, servers)] })
                }
            }
        }
        listeners
    }
}

/// The servers of one address while they are gathered.
struct AddressServers {
    addr: ListenAddr,
    options: Option<ListenOptions>,
    default: Option<ServerId>,
    first: ServerId,
    protocols: Protocols,
    names: Vec<(ServerName, ServerId)>,
    /// All of them, in order.
    servers: Vec<ServerId>,
}

/// What the lines of an address say of its protocols; it speaks all of them.
#[derive(Default)]
struct Protocols {
    proxy: bool,
    ssl: bool,
    /// What the lines that say something other than the first have in common, and whether there were any.
    agreed: Option<(bool, bool)>,
    changed: bool,
}

impl Protocols {
    /// Takes a line's; true if that deserves a warning: lines of one address should agree, or one should say it all. `has`
    /// is whether one of them has set socket options, `sets` whether this one does.
    fn add(&mut self, (proxy, ssl): (bool, bool), has: bool, sets: bool) -> bool {
        let before = (self.proxy, self.ssl);
        (self.proxy, self.ssl) = (proxy || before.0, ssl || before.1);
        let all = (self.proxy, self.ssl);
        let disagrees = self.agreed.is_some_and(|agreed| agreed != (proxy, ssl));
        if all != before {
            let warns = (has && !sets) || self.changed || all != (proxy, ssl);
            (self.agreed, self.changed) = (Some(before), true);
            return warns;
        }
        let warns = disagrees || sets && (all != (proxy, ssl) || self.changed);
        self.changed |= all != (proxy, ssl);
        self.agreed = Some((proxy, ssl));
        warns
    }
}

impl AddressServers {
    /// Adds a server; whether the protocols of its line are others than those of the address.
    fn add(all: &mut Vec<Self>, listen: Listen, server: ServerId, names: &[ServerName]) -> bool {
        let mut redefined = false;
        let at = match all.iter().position(|have| have.addr == listen.addr) {
            Some(at) => {
                let (has, sets) = (all[at].options.is_some(), listen.options.is_some());
                redefined = all[at].protocols.add((listen.proxy_protocol, listen.ssl), has || sets, sets);
                at
            }
            None => {
                all.push(AddressServers {
                    addr: listen.addr.clone(),
                    options: None,
                    default: None,
                    first: server,
                    protocols: Protocols {
                        proxy: listen.proxy_protocol,
                        ssl: listen.ssl,
                        ..Protocols::default()
                    },
                    names: Vec::new(),
                    servers: Vec::new(),
                });
                all.len() - 1
            }
        };
        let entry = &mut all[at];
        entry.names.extend(names.iter().map(|name| (name.clone(), server)));
        entry.servers.push(server);
        // The lines were compared when they were read: one of them at most has options, and one is the default.
        entry.options = listen.options.or(entry.options.take());
        if listen.default_server {
            entry.default = Some(server);
        }
        redefined
    }

    /// A server on a TLS address that could not shake hands: the default one, or, if that rejects all whom it does not
    /// know, any other.
    fn lacks_certificate(&self, compiled: &Compiled) -> Option<(ServerId, Problem)> {
        if !self.protocols.ssl {
            return None;
        }
        let of = |id: ServerId| compiled.servers.get(id.0 as usize)?.as_ref()?.tls.as_deref();
        let default = self.default.unwrap_or(self.first);
        let lacking = match of(default) {
            Some(tls) if tls.has_certificate() => None,
            Some(tls) if tls.reject => {
                self.servers.iter().copied().find(|id| !of(*id).is_some_and(ServerTls::is_known))
            }
            _ => Some(default),
        };
        lacking.map(|server| {
            let words = "no \"ssl_certificate\" is defined for the \"listen ... ssl\" directive";
            let help = "each server of this listener needs one, in its block or in http, or the default server has it; \
                        without TLS leave out \"ssl\"";
            (server, Problem::new(words).note(help))
        })
    }

    /// Whether names decide anything here, so that nginx looks at them closely: there is more than one server, or the
    /// only one takes parts of its name.
    fn needs_names(&self) -> bool {
        let takes_parts =
            |name: &ServerName| matches!(name, ServerName::Regex(_, pattern) if pattern.has_groups());
        self.servers.len() > 1 || self.names.iter().any(|(name, _)| takes_parts(name))
    }

    fn finish(
        self,
        compiled: &Compiled,
        diagnostics: &mut Diagnostics,
    ) -> (ListenAddr, ListenOptions, VirtualServers) {
        let mut names = ServerNames::default();
        let needed = self.needs_names();
        for (name, server) in &self.names {
            let text = String::from_utf8_lossy(name.written());
            if needed && !name.is_of_use() {
                let text = format!("invalid server name or wildcard \"{text}\" on {}", self.addr);
                diagnostics.error(None, text);
            } else if !names.add(name, *server) && needed {
                diagnostics
                    .warn(None, format!("conflicting server name \"{text}\" on {}, ignored", self.addr));
            }
        }
        let names = Arc::new(names);
        let default = self.default.unwrap_or(self.first);
        let tls = self.protocols.ssl.then(|| {
            let tls_of = |id: &ServerId| {
                let server = compiled.servers.get(id.0 as usize)?.as_ref()?;
                Some((*id, server.tls.clone()?))
            };
            let servers = self.servers.iter().filter_map(tls_of).collect();
            Arc::new(TlsServers { names: names.clone(), default, servers })
        });
        let servers = VirtualServers { default, tls, proxy_protocol: self.protocols.proxy, names };
        (self.addr, self.options.unwrap_or_default(), servers)
    }
}
