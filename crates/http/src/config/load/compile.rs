//! From blocks to a snapshot: variables are bound, raw becomes merged from the outside in, and every block that serves
//! becomes a [`Location`].

use std::any::{Any, TypeId};
use std::sync::Arc;

use conf::Span;

use super::{Loader, default_words};
use crate::config::install::Parts;
use crate::config::{
    AnyConf, Context, Core, CoreConf, Install, Listener, Location, Merge, Modifier, Problem, RawSet,
    Registry, Server, ServerTls, Snapshot,
};
use crate::location::LocationTable;
use crate::variable::Variables;
use crate::{LocationId, ServerId};

impl Loader<'_> {
    pub(super) fn compile(&mut self, main: LocationId) -> Option<Compiled> {
        let unknown = self.state.variables.bind();
        let mut compiled = Compiled {
            locations: Vec::new(),
            servers: Vec::new(),
            core: None,
            listeners: Vec::new(),
            generation: self.options.generation,
        };
        compiled.locations.resize_with(self.blocks.blocks.len(), || None);
        let root = self.defaults();
        self.compile_block(main, &root, None, &mut compiled);
        self.state.diagnostics.next_stage();
        for (name, span) in unknown {
            let problem = self.unknown_variable(&name);
            self.state.report(problem, span);
        }
        if self.state.diagnostics.has_errors() {
            return None;
        }
        compiled.listeners = self.listeners(&compiled);
        Some(compiled)
    }

    fn unknown_variable(&self, name: &str) -> Problem {
        let problem = Problem::new(format!("unknown \"{name}\" variable"));
        if name == "connection_upgrade" {
            return problem
                .note("nginx's WebSocket page defines it with a map, which belongs into the http block:")
                .note("map $http_upgrade $connection_upgrade { default upgrade; '' close; }")
                .note("or leave both proxy_set_header lines out: WebSocket handshakes are upgraded without them");
        }
        match conf::nearest(name, self.state.variables.names()) {
            Some(near) => problem.note(format!("did you mean \"${near}\"?")),
            None => problem,
        }
    }

    /// What holds before the first line: the defaults of the tables, put through their own setters.
    fn defaults(&mut self) -> Vec<Option<AnyConf>> {
        let scratch = self.blocks.open(Context::HTTP, None, Span::default());
        let mut confs = Vec::new();
        for module in self.options.modules {
            let Some(conf) = &module.conf else {
                confs.push(None);
                continue;
            };
            for directive in module.directives {
                let sets_conf = directive.set.raw.is_some_and(|(id, _)| id() == (conf.raw)());
                if directive.default.is_empty() || !sets_conf || directive.block.is_some() {
                    continue;
                }
                let words = default_words(directive);
                if let Err(problem) = self.set(directive, &words, scratch, Context::HTTP, None) {
                    panic!("the default of \"{}\" is wrong: {}", directive.name, problem.message);
                }
            }
            let mut raws = std::mem::take(&mut self.blocks.get_mut(scratch).raws);
            confs.push(Some(self.merge(conf, &mut raws, &(conf.root)(), scratch)));
        }
        confs
    }

    fn merge(
        &mut self,
        conf: &crate::config::Conf,
        raws: &mut RawSet,
        outer: &AnyConf,
        id: LocationId,
    ) -> AnyConf {
        let (place, span) = (self.blocks.get(id).place, self.blocks.get(id).span);
        let mut at = Merge {
            place,
            location: id,
            registry: &mut self.state.registry,
            variables: &mut self.state.variables,
            prefixes: &self.state.prefixes,
            world: self.world,
            diagnostics: &mut self.state.diagnostics,
        };
        match (conf.merge)(raws, outer, &mut at) {
            Ok(merged) => merged,
            Err(problem) => {
                self.state.report_merge(problem, span, self.http_close);
                outer.clone()
            }
        }
    }

    fn compile_block(
        &mut self,
        id: LocationId,
        outer: &[Option<AnyConf>],
        server: Option<ServerId>,
        compiled: &mut Compiled,
    ) {
        let place = self.blocks.get(id).place;
        let mut raws = std::mem::take(&mut self.blocks.get_mut(id).raws);
        let modules = self.options.modules;
        let confs: Vec<Option<AnyConf>> = modules
            .iter()
            .zip(outer)
            .map(|(module, outer)| {
                let (conf, outer) = (module.conf.as_ref()?, outer.as_ref()?);
                Some(self.merge(conf, &mut raws, outer, id))
            })
            .collect();
        if place == Context::MAIN {
            compiled.core = find_conf::<Core>(&confs).map(|core| Core::clone(&core));
            if let (Some(core), Some(outermost)) = (&mut compiled.core, find_conf::<CoreConf>(&confs)) {
                core.error_log = outermost.error_log.clone();
            }
        }
        if place == Context::HTTP {
            self.prepare(id);
        }
        let server = match place {
            Context::SERVER => {
                compiled.servers.push(None);
                Some(ServerId(u32::try_from(compiled.servers.len() - 1).expect("fewer than 2^32 servers")))
            }
            _ => server,
        };
        for child in self.blocks.get(id).children.clone() {
            self.compile_block(child, &confs, server, compiled);
        }
        let Some(server) = server else { return };
        let location = self.location(id, server, &confs, compiled);
        compiled.locations[id.0 as usize] = Some(location);
        if place == Context::SERVER {
            let server_block = self.server(id, compiled);
            compiled.servers[server.0 as usize] = Some(server_block);
        }
    }

    fn prepare(&mut self, id: LocationId) {
        for module in self.options.modules {
            if let Some(prepare) = module.prepare {
                let core = Arc::default();
                let mut parts = Parts::default();
                prepare(&mut Install {
                    place: Context::HTTP,
                    id,
                    text: b"",
                    modifier: &Modifier::Prefix,
                    core: &core,
                    server_name: b"",
                    state: &mut self.state,
                    world: self.world,
                    parts: &mut parts,
                });
            }
        }
    }

    fn location(
        &mut self,
        id: LocationId,
        server: ServerId,
        confs: &[Option<AnyConf>],
        compiled: &Compiled,
    ) -> Location {
        let mut parts = Parts::default();
        let core = find_conf::<CoreConf>(confs).unwrap_or_default();
        let server_name = self.server_name_of(id);
        let block = self.blocks.get(id);
        let (place, text, modifier) = (block.place, block.text.clone(), block.modifier.clone());
        for (module, conf) in self.options.modules.iter().zip(confs) {
            let (Some(install), Some(conf)) = (module.install, conf) else { continue };
            install(
                conf,
                &mut Install {
                    place,
                    id,
                    text: &text,
                    modifier: &modifier,
                    core: &core,
                    server_name: &server_name,
                    state: &mut self.state,
                    world: self.world,
                    parts: &mut parts,
                },
            );
        }
        let confs = confs.iter().flatten().map(|conf| (type_of(&**conf), conf.clone()));
        let tls = parts.tls.map(|tls| (TypeId::of::<ServerTls>(), tls as AnyConf));
        let confs = confs.chain(tls).collect();
        let inner = self.table(id, compiled);
        Location {
            id,
            server,
            text,
            modifier,
            core,
            auto_redirect: parts.auto_redirect,
            access_log: parts.access_log,
            handlers: parts.handlers,
            header_filters: parts.header_filters,
            body_filters: parts.body_filters,
            inner,
            confs,
        }
    }

    fn server_name_of(&self, mut id: LocationId) -> Box<[u8]> {
        loop {
            let block = self.blocks.get(id);
            if block.place == Context::SERVER {
                return block.names.first().map(|name| name.text().into()).unwrap_or_default();
            }
            match block.parent {
                Some(parent) => id = parent,
                None => return Box::default(),
            }
        }
    }

    /// The locations directly inside a block.
    fn table(&mut self, id: LocationId, _compiled: &Compiled) -> LocationTable {
        let mut table = LocationTable::default();
        for child in self.blocks.get(id).children.clone() {
            let block = self.blocks.get(child);
            if block.place != Context::LOCATION {
                continue;
            }
            if let Err(message) = table.add(child, &block.modifier, &block.text, &self.state.variables) {
                let span = block.span;
                self.state.report(Problem::new(message), span);
            }
        }
        table.finish();
        table
    }

    fn server(&mut self, id: LocationId, compiled: &Compiled) -> Server {
        let locations = self.table(id, compiled);
        let block = self.blocks.get(id);
        let named = block
            .children
            .iter()
            .filter(|child| self.blocks.get(**child).modifier == Modifier::Named)
            .map(|child| (self.blocks.get(*child).text.clone(), *child))
            .collect();
        let tls = compiled.locations[id.0 as usize].as_ref().and_then(Location::conf);
        Server { name: self.server_name_of(id), root: id, tls, locations, named }
    }
}

/// A snapshot while it is put together.
pub(super) struct Compiled {
    pub(super) generation: u64,
    pub(super) locations: Vec<Option<Location>>,
    pub(super) servers: Vec<Option<Server>>,
    pub(super) core: Option<Core>,
    pub(super) listeners: Vec<Listener>,
}

impl Compiled {
    pub(super) fn finish(self, variables: Variables, registry: Registry) -> Snapshot {
        // Blocks that never serve (main, http, upstream) keep an empty seat, so that an id is an index.
        let locations = self
            .locations
            .into_iter()
            .enumerate()
            .map(|(at, location)| location.unwrap_or_else(|| vacant(at)))
            .collect();
        Snapshot {
            generation: self.generation,
            core: self.core.unwrap_or_default(),
            listeners: self.listeners,
            servers: self.servers.into_iter().flatten().collect(),
            locations,
            variables,
            registry,
        }
    }
}

fn vacant(at: usize) -> Location {
    let parts = Parts::default();
    Location {
        id: LocationId(u32::try_from(at).expect("a file has fewer than 2^32 blocks")),
        server: ServerId(0),
        text: Box::default(),
        modifier: Modifier::Prefix,
        core: Arc::default(),
        auto_redirect: parts.auto_redirect,
        access_log: parts.access_log,
        handlers: parts.handlers,
        header_filters: parts.header_filters,
        body_filters: parts.body_filters,
        inner: LocationTable::default(),
        confs: Vec::new(),
    }
}

fn type_of(conf: &(dyn Any + Send + Sync)) -> TypeId {
    conf.type_id()
}

fn find_conf<T: Send + Sync + 'static>(confs: &[Option<AnyConf>]) -> Option<Arc<T>> {
    confs.iter().flatten().find_map(|conf| conf.clone().downcast::<T>().ok())
}
