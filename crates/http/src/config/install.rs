//! What a module may put into a location while it is compiled.

use std::path::Path;

use conf::Span;

use crate::LocationId;
use crate::config::load::State;
use crate::config::{CoreConf, Modifier, Place, Prefixes, Problem, Registry, ServerTls, World};
use crate::log::LogProgram;
use crate::output::{BodyFilter, HeaderFilter};
use crate::phase::{Flow, Handler, LocalFuture, PHASES, Phase, Waits};
use crate::{Client, Request};

/// A location under construction.
pub struct Install<'a> {
    /// What kind of block it is.
    pub place: Place,
    /// Its id.
    pub id: LocationId,
    /// The text it matches; of an `if` or `limit_except`, its location's.
    pub text: &'a [u8],
    /// How it matches.
    pub modifier: &'a Modifier,
    /// The limits that hold here.
    pub core: &'a std::sync::Arc<CoreConf>,
    /// The first `server_name`.
    pub server_name: &'a [u8],
    pub(crate) state: &'a mut State,
    pub(crate) world: &'a dyn World,
    pub(crate) parts: &'a mut Parts,
}

/// What modules put in.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) handlers: [Vec<Handler>; PHASES],
    pub(crate) header_filters: Vec<HeaderFilter>,
    pub(crate) body_filters: Vec<BodyFilter>,
    pub(crate) auto_redirect: bool,
    pub(crate) access_log: Vec<std::sync::Arc<LogProgram>>,
    pub(crate) tls: Option<std::sync::Arc<ServerTls>>,
}

impl Install<'_> {
    /// Adds a handler that answers at once.
    pub fn handler(&mut self, phase: Phase, call: impl Fn(&mut Request) -> Flow + Send + Sync + 'static) {
        self.parts.handlers[phase as usize].push(Handler::Plain(Box::new(call)));
    }

    /// Adds a handler that waits for something.
    pub fn waiting_handler(
        &mut self,
        phase: Phase,
        call: impl for<'r> Fn(&'r mut Request, &'r mut dyn Client) -> LocalFuture<'r, Flow>
        + Send
        + Sync
        + 'static,
    ) {
        self.parts.handlers[phase as usize].push(Handler::Waits(Box::new(call)));
    }

    /// The handler that answers instead of index and files (`proxy_pass`): put before all others of the content phase.
    pub fn content(&mut self, handler: impl Waits + 'static) {
        self.parts.handlers[Phase::Content as usize].insert(0, Handler::Waits(Box::new(handler)));
    }

    /// Adds a filter of response heads; they run in the order they were added.
    pub fn header_filter(&mut self, filter: HeaderFilter) {
        self.parts.header_filters.push(filter);
    }

    /// Adds a filter of response bodies; they run in the order they were added.
    pub fn body_filter(&mut self, filter: BodyFilter) {
        self.parts.body_filters.push(filter);
    }

    /// `/x` is redirected to this location when its text is `/x/`: for locations that pass requests on.
    pub fn auto_redirect(&mut self) {
        self.parts.auto_redirect = self.text.ends_with(b"/") && self.text.len() > 1;
    }

    /// Adds an access log.
    pub fn access_log(&mut self, program: std::sync::Arc<LogProgram>) {
        self.parts.access_log.push(program);
    }

    /// The TLS settings of the server that is compiled.
    pub fn tls(&mut self, tls: ServerTls) {
        self.parts.tls = Some(std::sync::Arc::new(tls));
    }

    /// What modules registered.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.state.registry
    }

    /// The variables of the configuration.
    pub fn variables(&mut self) -> &mut crate::variable::Variables {
        &mut self.state.variables
    }

    /// The outside.
    pub fn world(&self) -> &dyn World {
        self.world
    }

    /// Where relative names are looked up.
    pub fn prefixes(&self) -> &Prefixes {
        &self.state.prefixes
    }

    /// The prefix directory.
    pub fn prefix(&self) -> &Path {
        &self.state.prefixes.prefix
    }

    /// Reports what makes the configuration unusable.
    pub fn error(&mut self, span: Span, problem: Problem) {
        self.state.report(problem, span);
    }

    /// A warning that does not stop the load.
    pub fn warn(&mut self, span: Span, message: impl Into<String>) {
        self.state.diagnostics.warn(Some(span), message.into());
    }
}
