//! From text to a [`Snapshot`]: walk the tree, call setters, merge, compile.
//!
//! Nothing is started here and nothing of a running configuration is touched, so a failed load leaves no trace. Every
//! error is collected; a load that has one returns no snapshot.

use std::any::{Any, TypeId};
use std::path::PathBuf;
use std::sync::Arc;

use conf::{Diagnostics, Directive as Words, Sources, Span};

use crate::config::address::ListenAddr;
use crate::config::block::RawSet;
use crate::config::install::Parts;
use crate::config::{
    Answer, Args, BlockKind, Context, Core, CoreConf, Directive, Install, Line, Listen, ListenOptions,
    Listener, Location, Merge, Modifier, Module, Place, Prefixes, Problem, Registry, Server, Snapshot,
    VirtualServers, World,
};
use crate::location::LocationTable;
use crate::server_name::{ServerName, ServerNames};
use crate::variable::Variables;
use crate::{LocationId, ServerId};

/// What to load.
pub struct LoadOptions<'a> {
    /// `-c`, absolute.
    pub main: PathBuf,
    /// `-p`, absolute.
    pub prefix: PathBuf,
    /// `-e`, or where errors go when the configuration names no `error_log`.
    pub error_log: PathBuf,
    /// `-g`
    pub command_line: Option<&'a [u8]>,
    /// The modules, in their order.
    pub modules: &'a [&'static Module],
    /// Number of this configuration.
    pub generation: u64,
}

/// What came of it.
pub struct Loaded {
    /// The configuration, when there was no error.
    pub snapshot: Option<Snapshot>,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
    /// The files, for rendering diagnostics and for `-T`.
    pub sources: Sources,
}

/// What grows while the file is read.
pub(crate) struct State {
    pub(crate) variables: Variables,
    pub(crate) registry: Registry,
    pub(crate) diagnostics: Diagnostics,
    pub(crate) prefixes: Prefixes,
}

impl State {
    pub(crate) fn report(&mut self, problem: Problem, span: Span) {
        let place = (!problem.placeless).then(|| problem.span.unwrap_or(span));
        let diagnostic = self.diagnostics.error(place, problem.message);
        diagnostic.notes.extend(problem.notes);
    }
}

/// A block as it was read.
struct Block {
    place: Place,
    raws: RawSet,
    parent: Option<LocationId>,
    children: Vec<LocationId>,
    modifier: Modifier,
    text: Box<[u8]>,
    span: Span,
    listens: Vec<Listen>,
    names: Vec<ServerName>,
}

/// All blocks that serve, by id.
#[derive(Default)]
pub(crate) struct Blocks {
    blocks: Vec<Block>,
}

impl Blocks {
    fn open(&mut self, place: Place, parent: Option<LocationId>, span: Span) -> LocationId {
        let id = LocationId(u32::try_from(self.blocks.len()).expect("a file has fewer than 2^32 blocks"));
        // An `if` matches what its location matches.
        let (modifier, text) = match parent {
            Some(parent) if place.has(Context::LOCATION_IF.or(Context::LIMIT_EXCEPT)) => {
                (self.get(parent).modifier.clone(), self.get(parent).text.clone())
            }
            _ => (Modifier::Prefix, Box::default()),
        };
        let (listens, names) = (Vec::new(), Vec::new());
        self.blocks.push(Block {
            place,
            raws: RawSet::default(),
            parent,
            children: Vec::new(),
            modifier,
            text,
            span,
            listens,
            names,
        });
        if let Some(parent) = parent {
            self.blocks[parent.0 as usize].children.push(id);
        }
        id
    }

    fn get(&self, id: LocationId) -> &Block {
        &self.blocks[id.0 as usize]
    }

    fn get_mut(&mut self, id: LocationId) -> &mut Block {
        &mut self.blocks[id.0 as usize]
    }

    pub(crate) fn matches(&self, id: LocationId) -> (&Modifier, &[u8]) {
        let block = self.get(id);
        (&block.modifier, &block.text)
    }

    pub(crate) fn name_location(
        &mut self,
        parent: LocationId,
        id: LocationId,
        modifier: Modifier,
        text: &[u8],
    ) -> Result<(), Problem> {
        let shown = String::from_utf8_lossy(text).into_owned();
        let outer = self.get(parent);
        if outer.place == Context::LOCATION {
            let outer_shown = String::from_utf8_lossy(&outer.text);
            let inside = |what: &str| Problem::new(format!("location \"{shown}\" {what} \"{outer_shown}\""));
            match (&outer.modifier, &modifier) {
                (Modifier::Exact, _) => return Err(inside("cannot be inside the exact location")),
                (Modifier::Named, _) => return Err(inside("cannot be inside the named location")),
                (_, Modifier::Named) => {
                    return Err(Problem::new(format!(
                        "named location \"{shown}\" can be on the server level only"
                    )));
                }
                (Modifier::Prefix | Modifier::PrefixFinal, Modifier::Regex(_)) => {}
                (Modifier::Prefix | Modifier::PrefixFinal, _) if !text.starts_with(&outer.text) => {
                    return Err(inside("is outside location"));
                }
                _ => {}
            }
        }
        // Prefix and final prefix of one text are the same place in nginx's tree; exact ones stand apart. Of two named
        // ones nginx takes the first without a word.
        let same = |a: &Modifier, b: &Modifier| {
            matches!(
                (a, b),
                (Modifier::Exact, Modifier::Exact)
                    | (Modifier::Prefix | Modifier::PrefixFinal, Modifier::Prefix | Modifier::PrefixFinal)
            )
        };
        let twin = self.get(parent).children.iter().any(|sibling| {
            let block = self.get(*sibling);
            *sibling != id
                && block.place == Context::LOCATION
                && same(&block.modifier, &modifier)
                && *block.text == *text
        });
        if twin {
            return Err(Problem::new(format!("duplicate location \"{shown}\"")));
        }
        let block = self.get_mut(id);
        block.modifier = modifier;
        block.text = text.into();
        Ok(())
    }

    pub(crate) fn add_listen(&mut self, server: LocationId, listen: Listen) -> Result<(), Problem> {
        let listens = &mut self.get_mut(server).listens;
        if listens.iter().any(|have| have.addr == listen.addr) {
            return Err(Problem::new(format!("a duplicate listen {}", listen.addr)));
        }
        listens.push(listen);
        Ok(())
    }

    pub(crate) fn add_server_name(&mut self, server: LocationId, name: ServerName) {
        self.get_mut(server).names.push(name);
    }
}

/// Loads a configuration.
pub fn load(options: &LoadOptions<'_>, world: &dyn World) -> Loaded {
    let mut diagnostics = Diagnostics::default();
    let parsed = conf::parse(
        &conf::Options { main: &options.main, command_line: options.command_line, files: world },
        &mut diagnostics,
    );
    let prefixes = Prefixes {
        prefix: options.prefix.clone(),
        conf: options.main.parent().map(PathBuf::from).unwrap_or_default(),
        error_log: options.error_log.clone(),
    };
    let state = State {
        variables: Variables::new(options.modules),
        registry: Registry::default(),
        diagnostics,
        prefixes,
    };
    let mut loader = Loader { options, world, state, blocks: Blocks::default(), sizing: Vec::new() };
    let main = loader.blocks.open(Context::MAIN, None, Span::default());
    loader.walk(&parsed.directives, main, Context::MAIN);
    loader.say_sizing();
    let snapshot = loader.compile(main);
    let state = loader.state;
    let snapshot = snapshot
        .filter(|_| !state.diagnostics.has_errors())
        .map(|compiled| compiled.finish(state.variables, state.registry));
    Loaded { snapshot, diagnostics: state.diagnostics, sources: parsed.sources }
}

struct Loader<'a> {
    options: &'a LoadOptions<'a>,
    world: &'a dyn World,
    state: State,
    blocks: Blocks,
    sizing: Vec<(String, Span)>,
}

impl Loader<'_> {
    fn walk(&mut self, lines: &[Words], block: LocationId, place: Place) {
        for words in lines {
            self.line(words, block, place);
        }
    }

    fn line(&mut self, words: &Words, block: LocationId, place: Place) {
        match self.find(words, place) {
            Ok(Some(directive)) => {
                if let Err(problem) = self.apply(directive, words, block, place) {
                    self.state.report(problem, words.name.span);
                }
            }
            Ok(None) => {}
            Err(problem) => self.state.report(problem, words.name.span),
        }
    }

    /// The directive of that name that may stand here; `None` when an answer (D14) was all it needs.
    fn find(&mut self, words: &Words, place: Place) -> Result<Option<&'static Directive>, Problem> {
        let name = words.name.text();
        let of_name = || directives(self.options.modules).filter(|directive| directive.name == name);
        let Some(first) = of_name().next() else {
            return Err(self.unknown(&name));
        };
        let Some(directive) = of_name().find(|directive| directive.at.has(place)) else {
            if let Answer::Refused(why) = first.answer {
                return Err(refused(&name, why));
            }
            let places = of_name().flat_map(|directive| directive.at.names()).collect::<Vec<_>>().join(", ");
            return Err(Problem::new(format!("\"{name}\" directive is not allowed here"))
                .note(format!("it may stand in: {places}")));
        };
        if directive.answer != Answer::Works && says_off(directive, words) {
            return Ok(None);
        }
        if let Answer::Refused(why) = directive.answer {
            return Err(refused(&name, why));
        }
        match (directive.block.is_some(), words.block.is_some()) {
            (true, false) => return Err(Problem::new(format!("directive \"{name}\" has no opening \"{{\""))),
            (false, true) => {
                return Err(Problem::new(format!("directive \"{name}\" is not terminated by \";\"")));
            }
            _ => {}
        }
        if !directive.args.allow(words.args.len()) {
            return Err(arity(&name, directive.args, words.args.len()));
        }
        match directive.answer {
            Answer::Accepted(why) => {
                self.state
                    .diagnostics
                    .warn(Some(words.name.span), format!("\"{name}\" directive is accepted: {why}"));
                Ok(None)
            }
            Answer::Sizing => {
                self.sizing.push((name.into_owned(), words.name.span));
                Ok(None)
            }
            _ => Ok(Some(directive)),
        }
    }

    fn unknown(&self, name: &str) -> Problem {
        let problem = Problem::new(format!("unknown directive \"{name}\""));
        match conf::nearest(name, directives(self.options.modules).map(|directive| directive.name)) {
            Some(near) => problem.note(format!("did you mean \"{near}\"?")),
            None => problem,
        }
    }

    fn apply(
        &mut self,
        directive: &'static Directive,
        words: &Words,
        block: LocationId,
        place: Place,
    ) -> Result<(), Problem> {
        match directive.block {
            None | Some(BlockKind::Lines) => self.set(directive, words, block, place, None),
            Some(BlockKind::Skipped) => Ok(()),
            Some(BlockKind::Serves(inner)) => {
                let inner = inner_place(inner, place);
                let opened = self.blocks.open(inner, Some(block), words.name.span);
                let set = self.set(directive, words, block, place, Some(opened));
                self.walk(words.block.as_deref().unwrap_or_default(), opened, inner);
                set
            }
            Some(BlockKind::Collects(inner, end)) => {
                self.set(directive, words, block, place, None)?;
                // The lines inside write to raws of their own, kept in a block that never serves.
                let scratch = self.blocks.open(inner, None, words.name.span);
                self.walk(words.block.as_deref().unwrap_or_default(), scratch, inner);
                let mut raws = std::mem::take(&mut self.blocks.get_mut(scratch).raws);
                end(&mut raws, &mut self.line_of(words, block, place, None))
            }
        }
    }

    fn line_of<'s>(
        &'s mut self,
        words: &'s Words,
        block: LocationId,
        place: Place,
        opens: Option<LocationId>,
    ) -> Line<'s> {
        Line {
            words,
            place,
            state: &mut self.state,
            world: self.world,
            blocks: &mut self.blocks,
            block,
            opens,
        }
    }

    fn set(
        &mut self,
        directive: &'static Directive,
        words: &Words,
        block: LocationId,
        place: Place,
        opens: Option<LocationId>,
    ) -> Result<(), Problem> {
        // The raws leave their block while the setter runs, because a line may also name blocks.
        let mut raws = std::mem::take(&mut self.blocks.get_mut(block).raws);
        let result = {
            let mut line = self.line_of(words, block, place, opens);
            match directive.set.raw {
                Some((id, make)) => (directive.set.call)(raws.entry(id(), make), &mut line),
                None => (directive.set.call)(&mut (), &mut line),
            }
        };
        self.blocks.get_mut(block).raws = raws;
        result
    }

    /// All sizing directives share one line (D14).
    fn say_sizing(&mut self) {
        let Some((_, first)) = self.sizing.first() else { return };
        let mut names: Vec<&str> = self.sizing.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let message = format!(
            "accepted and not needed here, sizes and events are chosen by the server itself: {}",
            names.join(", ")
        );
        self.state.diagnostics.push(conf::Diagnostic {
            level: conf::Level::Info,
            message,
            span: Some(*first),
            notes: Vec::new(),
        });
    }

    fn compile(&mut self, main: LocationId) -> Option<Compiled> {
        for (name, span) in self.state.variables.bind() {
            let problem = self.unknown_variable(&name);
            self.state.report(problem, span);
        }
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
    fn defaults(&mut self) -> Vec<Option<Arc<dyn Any + Send + Sync>>> {
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
        outer: &Arc<dyn Any + Send + Sync>,
        id: LocationId,
    ) -> Arc<dyn Any + Send + Sync> {
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
                self.state.report(problem, span);
                outer.clone()
            }
        }
    }

    fn compile_block(
        &mut self,
        id: LocationId,
        outer: &[Option<Arc<dyn Any + Send + Sync>>],
        server: Option<ServerId>,
        compiled: &mut Compiled,
    ) {
        let place = self.blocks.get(id).place;
        let mut raws = std::mem::take(&mut self.blocks.get_mut(id).raws);
        let modules = self.options.modules;
        let confs: Vec<Option<Arc<dyn Any + Send + Sync>>> = modules
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
        confs: &[Option<Arc<dyn Any + Send + Sync>>],
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
        let confs = confs.iter().flatten().map(|conf| (type_of(&**conf), conf.clone())).collect();
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
        Server { name: self.server_name_of(id), root: id, locations, named }
    }

    /// Sorts the `listen` lines of all servers into sockets: a wildcard takes the connections of its port's other
    /// addresses too, unless those say `bind` or set options of their own.
    fn listeners(&mut self, compiled: &Compiled) -> Vec<Listener> {
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
                if let Err(problem) = AddressServers::add(&mut addresses, listen.clone(), id, &names) {
                    self.state.report(problem, listen.span);
                }
            }
        }
        let mut warnings = Vec::new();
        let mut listeners: Vec<Listener> = Vec::new();
        let finished: Vec<(ListenAddr, ListenOptions, VirtualServers)> =
            addresses.into_iter().map(|address| address.finish(&mut warnings)).collect();
        for message in warnings {
            self.state.diagnostics.warn(None, message);
        }
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
    proxy_protocol: bool,
    names: Vec<(ServerName, ServerId)>,
}

impl AddressServers {
    fn add(
        all: &mut Vec<Self>,
        listen: Listen,
        server: ServerId,
        names: &[ServerName],
    ) -> Result<(), Problem> {
        let at = match all.iter().position(|have| have.addr == listen.addr) {
            Some(at) => at,
            None => {
                all.push(AddressServers {
                    addr: listen.addr.clone(),
                    options: None,
                    default: None,
                    first: server,
                    proxy_protocol: false,
                    names: Vec::new(),
                });
                all.len() - 1
            }
        };
        let entry = &mut all[at];
        entry.names.extend(names.iter().map(|name| (name.clone(), server)));
        entry.proxy_protocol |= listen.proxy_protocol;
        if let Some(options) = listen.options {
            if entry.options.is_some() {
                return Err(Problem::new(format!("duplicate listen options for {}", listen.addr)));
            }
            entry.options = Some(options);
        }
        if listen.default_server {
            if entry.default.is_some() {
                return Err(Problem::new(format!("a duplicate default server for {}", listen.addr)));
            }
            entry.default = Some(server);
        }
        Ok(())
    }

    fn finish(self, warnings: &mut Vec<String>) -> (ListenAddr, ListenOptions, VirtualServers) {
        let mut names = ServerNames::default();
        for (name, server) in self.names {
            if !names.add(&name, server) {
                let text = String::from_utf8_lossy(name.text()).into_owned();
                warnings.push(format!("conflicting server name \"{text}\" on {}, ignored", self.addr));
            }
        }
        let servers = VirtualServers {
            default: self.default.unwrap_or(self.first),
            proxy_protocol: self.proxy_protocol,
            names,
        };
        (self.addr, self.options.unwrap_or_default(), servers)
    }
}

/// A snapshot while it is put together.
struct Compiled {
    generation: u64,
    locations: Vec<Option<Location>>,
    servers: Vec<Option<Server>>,
    core: Option<Core>,
    listeners: Vec<Listener>,
}

impl Compiled {
    fn finish(self, variables: Variables, registry: Registry) -> Snapshot {
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

fn find_conf<T: Send + Sync + 'static>(confs: &[Option<Arc<dyn Any + Send + Sync>>]) -> Option<Arc<T>> {
    confs.iter().flatten().find_map(|conf| conf.clone().downcast::<T>().ok())
}

fn directives(modules: &[&'static Module]) -> impl Iterator<Item = &'static Directive> {
    modules.iter().flat_map(|module| module.directives)
}

/// `if` is one directive with two meanings, by where it stands.
fn inner_place(inner: Context, place: Place) -> Place {
    if inner.has(Context::SERVER_IF) && inner.has(Context::LOCATION_IF) {
        return if place.has(Context::SERVER.or(Context::SERVER_IF)) {
            Context::SERVER_IF
        } else {
            Context::LOCATION_IF
        };
    }
    inner
}

/// What a server without `listen` gets: port 80, or 8000 for who may not open that.
fn default_listen(span: Span) -> Listen {
    let port = if rustix::process::geteuid().is_root() { 80 } else { 8000 };
    Listen {
        addr: ListenAddr::Tcp((std::net::Ipv4Addr::UNSPECIFIED, port).into()),
        default_server: false,
        proxy_protocol: false,
        options: None,
        span,
    }
}

/// Whether a line only says what holds anyway: `gzip off`.
fn says_off(directive: &Directive, words: &Words) -> bool {
    let [word] = words.args.as_slice() else { return false };
    directive.default == "off" && &*word.bytes == b"off"
}

fn refused(name: &str, why: &str) -> Problem {
    Problem::new(format!("the \"{name}\" directive is not supported: {why}"))
}

fn arity(name: &str, args: Args, count: usize) -> Problem {
    let wants = match args {
        Args::Exactly(0) => "no argument".to_owned(),
        Args::Exactly(1) => "one argument".to_owned(),
        Args::Exactly(n) => format!("{n} arguments"),
        Args::Between(low, high) => format!("{low} to {high} arguments"),
        Args::AtLeast(n) => format!("{n} arguments or more"),
        Args::Flag => "\"on\" or \"off\"".to_owned(),
    };
    Problem::new(format!("invalid number of arguments in \"{name}\" directive"))
        .note(format!("it takes {wants}, here are {count}"))
}

fn default_words(directive: &Directive) -> Words {
    let word = |text: &str| conf::Word {
        bytes: text.as_bytes().to_vec().into(),
        span: Span::default(),
        quoted: false,
    };
    Words {
        name: word(directive.name),
        args: directive.default.split_whitespace().map(word).collect(),
        block: None,
        close: Span::default(),
    }
}
