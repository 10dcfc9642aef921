//! `websocket` and its timers: how handshakes are recognised and how long a tunnel may stand still.
//!
//! The rules themselves are in `proxy/upgrade.rs`; this file says what holds where.

use std::any::Any;
use std::sync::Arc;

use http::config::{
    ANY_HTTP, Args, Directive, Install, Merge, Module, ModuleConf, Problem, Websocket as Conf,
    WebsocketMode as Mode, conf_of,
};
use http::log::Level;
use http::set;
use http::{Flow, Phase, Request, written};
use wire::websocket::{Handshake, handshake};

/// The module.
pub const MODULE: Module = Module {
    name: "websocket",
    doc: "WebSocket handshakes and tunnels.",
    directives: &[
        Directive {
            name: "websocket",
            at: ANY_HTTP,
            args: Args::ONE,
            default: "auto",
            doc: "auto upgrades every valid handshake without further configuration; manual is nginx; off answers 403.",
            set: set!(Raw, |raw, line| {
                let mode =
                    [Mode::Auto, Mode::Manual, Mode::Off][line.one_of(0, &["auto", "manual", "off"])?];
                line.once(&mut raw.mode, mode)
            }),
            ..Directive::NONE
        },
        Directive {
            name: "websocket_idle_timeout",
            at: ANY_HTTP,
            args: Args::ONE,
            default: "",
            doc: "Longest time without a byte in either direction; proxy_read_timeout when it is not set.",
            set: set!(Raw, |raw, line| line.once(&mut raw.idle_ms, line.time()?)),
            ..Directive::NONE
        },
        Directive {
            name: "websocket_fin_timeout",
            at: ANY_HTTP,
            args: Args::ONE,
            default: "10s",
            doc: "Longest time without progress in the direction that is still open.",
            set: set!(Raw, |raw, line| line.once(&mut raw.fin_ms, line.time()?)),
            ..Directive::NONE
        },
        Directive {
            name: "websocket_buffer",
            at: ANY_HTTP,
            args: Args::ONE,
            default: "64k",
            doc: "Most bytes a direction may hold for a slow reader; borrowed only while it is slow.",
            set: set!(Raw, |raw, line| line.once(&mut raw.buffer_bytes_max, line.size()?)),
            ..Directive::NONE
        },
        Directive {
            name: "websocket_reload",
            at: ANY_HTTP,
            args: Args::ONE,
            default: "keep",
            doc: "Whether tunnels outlive a reload (keep) or are closed with the configuration they began under (close).",
            set: set!(Raw, |raw, line| {
                let close = line.one_of(0, &["keep", "close"])? == 1;
                line.once(&mut raw.close_on_reload, close)
            }),
            ..Directive::NONE
        },
    ],
    conf: Some(conf_of::<Raw>()),
    install: Some(install),
    ..Module::NONE
};

/// What one block wrote.
#[derive(Default)]
pub struct Raw {
    mode: Option<Mode>,
    idle_ms: Option<u64>,
    fin_ms: Option<u64>,
    buffer_bytes_max: Option<usize>,
    close_on_reload: Option<bool>,
}

impl ModuleConf for Raw {
    type Merged = Conf;

    fn merge(self, outer: &Conf, _at: &mut Merge<'_>) -> Result<Conf, Problem> {
        let mut conf = outer.clone();
        conf.idle_ms = self.idle_ms.or(outer.idle_ms);
        written!(self => conf: mode, fin_ms, buffer_bytes_max, close_on_reload);
        Ok(conf)
    }
}

fn install(conf: &Arc<dyn Any + Send + Sync>, install: &mut Install<'_>) {
    if conf.downcast_ref::<Conf>().is_some_and(|conf| conf.mode == Mode::Off) {
        install.handler(Phase::Preaccess, forbid);
    }
}

/// Also an invalid handshake is one: an upstream may be less strict than we are.
fn forbid(request: &mut Request) -> Flow {
    match handshake(&request.head, &request.bytes) {
        Handshake::NotWebSocket => Flow::Next,
        _ => {
            request.log(Level::Error, format_args!("WebSocket handshake forbidden by \"websocket off\""));
            Flow::Status(403)
        }
    }
}
