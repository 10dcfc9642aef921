//! A module for tests: blocks, limits, logs, and handlers that do one thing each.

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::config::{
    ANY_HTTP, Args, BlockKind, Context, CoreConf, Directive, ErrorPage, Line, Lingering, Listen, ListenAddr,
    Merge, Modifier, Module, ModuleConf, Problem, conf_of,
};
use http::log::{ErrorLog, Escaping, Format, Level, LogProgram, Steps};
use http::message::Body;
use http::output::{self, Chunk};
use http::variable::{Late, Variable};
use http::{Client, Flow, Phase, Redirect, Request, Template, TunnelPlan, set};

pub static MODULES: &[&Module] = &[&LIMITS, &ANSWERS];

type Change = Box<dyn FnOnce(&mut CoreConf)>;

#[derive(Default)]
struct Limits(Vec<Change>);

impl ModuleConf for Limits {
    type Merged = CoreConf;
    fn merge(self, outer: &CoreConf, _: &mut Merge<'_>) -> Result<CoreConf, Problem> {
        let mut core = outer.clone();
        core.internal = false;
        self.0.into_iter().for_each(|change| change(&mut core));
        Ok(core)
    }
}

static LIMITS: Module = Module {
    name: "limits",
    directives: &[
        Directive {
            name: "set",
            at: ANY_HTTP,
            args: Args::Exactly(2),
            set: set!(Limits, |raw, line| limit(raw, line)),
            ..Directive::NONE
        },
        Directive {
            name: "error_log",
            at: ANY_HTTP,
            set: set!(Limits, |raw, line| {
                let file =
                    line.world().open_log(&line.path(0)).map_err(|error| Problem::new(error.to_string()))?;
                let log = Arc::new(ErrorLog::new(vec![(Level::Info, file)]));
                raw.0.push(Box::new(move |core| core.error_log = log));
                Ok(())
            }),
            ..Directive::NONE
        },
        Directive {
            name: "error_page",
            at: ANY_HTTP,
            args: Args::Between(2, 3),
            set: set!(Limits, |raw, line| {
                let code = line.number_at(0, 300..=599)? as u16;
                let last = line.count() - 1;
                let answer = (last == 2).then(|| line.text(1).trim_start_matches('=').parse().unwrap_or(0));
                let uri = line.template(last)?;
                raw.0.push(Box::new(move |core| {
                    let mut pages = Vec::clone(&core.error_pages);
                    pages.push(ErrorPage { code, answer, uri });
                    core.error_pages = Arc::new(pages);
                }));
                Ok(())
            }),
            ..Directive::NONE
        },
    ],
    conf: Some(conf_of::<Limits>()),
    ..Module::NONE
};

fn limit(raw: &mut Limits, line: &mut Line<'_>) -> Result<(), Problem> {
    let (name, value) = (line.text(0), line.text(1));
    let number: u64 = value.parse().unwrap_or_default();
    raw.0.push(Box::new(move |core| match name.as_str() {
        "keepalive_timeout" => core.keepalive_timeout = number,
        "keepalive_requests" => core.keepalive_requests = number,
        "keepalive_min_timeout" => core.keepalive_min_timeout = number,
        "client_header_timeout" => core.client_header_timeout = number,
        "client_body_timeout" => core.client_body_timeout = number,
        "client_max_body_size" => core.client_max_body_size = number,
        "send_timeout" => core.send_timeout = number,
        "lingering_timeout" => core.lingering_timeout = number,
        "lingering_time" => core.lingering_time = number,
        "lingering_close" => {
            core.lingering_close = match value.as_str() {
                "off" => Lingering::Off,
                "always" => Lingering::Always,
                _ => Lingering::On,
            }
        }
        "reset_timedout_connection" => core.reset_timedout_connection = value == "on",
        "chunked_transfer_encoding" => core.chunked_transfer_encoding = value == "on",
        "internal" => core.internal = value == "on",
        other => panic!("no limit is called {other}"),
    }));
    Ok(())
}

#[derive(Default)]
struct Raw {
    answer: Option<(String, Vec<Template>)>,
    log: Option<Arc<LogProgram>>,
}

#[derive(Default)]
struct Conf {
    answer: Option<(String, Vec<Template>)>,
    log: Option<Arc<LogProgram>>,
}

impl ModuleConf for Raw {
    type Merged = Conf;
    fn merge(self, outer: &Conf, _: &mut Merge<'_>) -> Result<Conf, Problem> {
        Ok(Conf { answer: self.answer, log: self.log.or_else(|| outer.log.clone()) })
    }
    fn inherit(outer: &Arc<Conf>, _: &mut Merge<'_>) -> Arc<Conf> {
        Arc::new(Conf { answer: None, log: outer.log.clone() })
    }
}

const fn block(
    name: &'static str,
    at: Context,
    args: usize,
    inner: Context,
    setter: http::config::Setter,
) -> Directive {
    Directive {
        name,
        at,
        args: Args::Exactly(args),
        block: Some(BlockKind::Serves(inner)),
        set: setter,
        ..Directive::NONE
    }
}

static ANSWERS: Module = Module {
    name: "answers",
    directives: &[
        block("http", Context::MAIN, 0, Context::HTTP, http::config::Setter::NOTHING),
        block("server", Context::HTTP, 0, Context::SERVER, http::config::Setter::NOTHING),
        block(
            "location",
            Context::SERVER,
            1,
            Context::LOCATION,
            set!(|line| {
                let text = line.bytes(0).to_vec();
                let modifier = if text[0] == b'@' { Modifier::Named } else { Modifier::Prefix };
                line.open_location(modifier, &text)
            }),
        ),
        Directive {
            name: "listen",
            args: Args::Between(1, 2),
            at: Context::SERVER,
            set: set!(|line| listen(line)),
            ..Directive::NONE
        },
        Directive {
            name: "answer",
            at: ANY_HTTP,
            args: Args::AtLeast(1),
            set: set!(Raw, |raw, line| {
                let args = (1..line.count()).map(|at| line.template(at)).collect::<Result<_, _>>()?;
                raw.answer = Some((line.text(0), args));
                Ok(())
            }),
            ..Directive::NONE
        },
        Directive {
            name: "access_log",
            at: ANY_HTTP,
            args: Args::Exactly(2),
            set: set!(Raw, |raw, line| {
                let file =
                    line.world().open_log(&line.path(0)).map_err(|error| Problem::new(error.to_string()))?;
                let template = line.template(1)?;
                let format = Arc::new(Format { name: "test".into(), escaping: Escaping::Default, template });
                raw.log = Some(Arc::new(LogProgram {
                    format,
                    file,
                    buffer: 0,
                    flush_ms: 0,
                    condition: None,
                    steps: Steps::default(),
                }));
                Ok(())
            }),
            ..Directive::NONE
        },
    ],
    variables: &[
        variable("status", None, |request, _, out| number(out, request.response.status.into())),
        variable("bytes_sent", Some(Late::BytesSent), |request, _, out| {
            number(out, request.response.bytes_sent)
        }),
        variable("body_bytes_sent", Some(Late::BodyBytesSent), |request, _, out| {
            number(out, request.response.body_bytes)
        }),
        variable("request_length", Some(Late::RequestLength), |request, _, out| {
            number(out, request.received)
        }),
        variable("upstream_bytes_received", Some(Late::UpstreamBytesReceived), |_, _, _| false),
        variable("upstream_bytes_sent", Some(Late::UpstreamBytesSent), |_, _, _| false),
        variable("connection_requests", None, |request, _, out| {
            number(out, request.connection.requests.get())
        }),
        variable("complete", Some(Late::RequestCompletion), |request, _, out| {
            out.extend_from_slice(if request.response.complete { b"OK" } else { b"" });
            true
        }),
        variable("proxied", None, |request, _, out| {
            let ends = request.connection.proxy_protocol.as_ref().and_then(|header| header.ends());
            out.extend_from_slice(ends.map_or(String::new(), |(from, to)| format!("{from} {to}")).as_bytes());
            ends.is_some()
        }),
        variable("remote_addr", None, |request, _, out| {
            out.extend_from_slice(request.connection.peer_text().as_bytes());
            true
        }),
        variable("request", None, |request, _, out| {
            out.extend_from_slice(request.line());
            !request.line().is_empty()
        }),
        variable("uri", None, |request, _, out| {
            out.extend_from_slice(&request.uri);
            true
        }),
    ],
    conf: Some(conf_of::<Raw>()),
    install: Some(|conf, install| {
        let conf = conf.clone().downcast::<Conf>().expect("this module's own");
        if let Some(log) = &conf.log {
            let steps = Steps::compile(&log.format, install.variables());
            let (format, file) = (log.format.clone(), log.file.clone());
            install.access_log(Arc::new(LogProgram {
                format,
                file,
                buffer: 0,
                flush_ms: 0,
                condition: None,
                steps,
            }));
        }
        if conf.answer.is_some() {
            install.waiting_handler(Phase::Content, move |request, client| {
                let conf = conf.clone();
                Box::pin(async move {
                    let (what, args) = conf.answer.as_ref().expect("checked when it was installed");
                    let args = args
                        .iter()
                        .map(|arg| String::from_utf8_lossy(&arg.value(request)).into_owned())
                        .collect();
                    answer(what, args, request, client).await
                })
            });
        }
    }),
    ..Module::NONE
};

const fn variable(name: &'static str, late: Option<Late>, value: http::variable::Getter) -> Variable {
    Variable { name, late, value, ..Variable::NONE }
}

fn number(out: &mut Vec<u8>, number: u64) -> bool {
    out.extend_from_slice(number.to_string().as_bytes());
    true
}

fn listen(line: &mut Line<'_>) -> Result<(), Problem> {
    let text = line.text(0);
    let addr = match text.strip_prefix("unix:") {
        Some(path) => ListenAddr::Unix(path.into()),
        None => ListenAddr::Tcp(text.parse().map_err(|_| Problem::new("no address"))?),
    };
    let span = line.span();
    line.listen(Listen {
        ssl: false,
        addr,
        default_server: false,
        proxy_protocol: line.count() == 2,
        options: None,
        span,
    })
}

async fn answer(what: &str, args: Vec<String>, request: &mut Request, client: &mut dyn Client) -> Flow {
    let arg = |at: usize| args.get(at).map_or("", String::as_str);
    let count = |at: usize| arg(at).parse::<usize>().unwrap_or_default();
    match what {
        // A status and a body.
        "text" => {
            request.response.status = count(0) as u16;
            request.response.body = Body::Bytes(arg(1).as_bytes().to_vec());
            Flow::Respond
        }
        "large" => {
            request.response.status = 200;
            request.response.body = Body::Bytes(vec![b'x'; count(0)]);
            Flow::Respond
        }
        // The request body, as it comes.
        "echo" => {
            let mut body = Vec::new();
            loop {
                match poll_fn(|cx| client.poll_body(cx, request)).await {
                    Ok(Some(chunk)) => body.extend_from_slice(chunk.bytes()),
                    Ok(None) => break,
                    Err(error) => return Flow::Status(error.status()),
                }
            }
            request.response.status = 200;
            request.response.body = Body::Bytes(body);
            Flow::Respond
        }
        // So many pieces of so many bytes, so many milliseconds apart; the length promised, if it is.
        "stream" => {
            request.response.status = 200;
            request.response.content_length = arg(3).parse().ok();
            output::head(request, client);
            for piece in 0..count(0) {
                pause(count(2)).await;
                let chunk = Chunk::owned(vec![b'a' + (piece % 26) as u8; count(1)]);
                output::body(request, client, chunk);
                if output::flush(request, client, output::QUEUE_MAX).await.is_err() {
                    return Flow::Abort;
                }
            }
            output::body(request, client, Chunk::end());
            Flow::Done
        }
        // A head and no end.
        "cut" => {
            request.response.status = 200;
            output::head(request, client);
            output::body(request, client, Chunk::fixed(b"cut"));
            Flow::Done
        }
        // As long as promised, though nothing says that it was the last piece.
        "exact" => {
            request.response.status = 200;
            request.response.content_length = Some(3);
            output::head(request, client);
            output::body(request, client, Chunk::fixed(b"abc"));
            Flow::Done
        }
        // Early hints, then a body.
        "hints" => {
            request.response.status = 103;
            request.response.add(b"Link", b"</a.css>");
            client.head(request);
            request.response.reset_head();
            request.response.status = 200;
            request.response.body = Body::Bytes(b"later".to_vec());
            Flow::Respond
        }
        // Waits so many milliseconds, or until the client is gone.
        "wait" => {
            let mut sleep = pin!(pause(count(0)));
            let gone = poll_fn(|cx| match client.poll_gone(cx) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending => sleep.as_mut().poll(cx).map(|()| false),
            });
            if gone.await {
                return Flow::Status(499);
            }
            request.response.status = 200;
            request.response.body = Body::Bytes(b"waited".to_vec());
            Flow::Respond
        }
        "field" => {
            request.response.add(b"WWW-Authenticate", b"Basic");
            request.response.add(b"ETag", b"x");
            Flow::Status(count(0) as u16)
        }
        "twice" => {
            request.response.status = 200;
            request.response.content_length = Some(1);
            output::head(request, client);
            output::body(request, client, Chunk::fixed(b"1"));
            request.response.status = 500;
            request.response.body = Body::Bytes(b"2".to_vec());
            Flow::Respond
        }
        // The number of the worker's turn.
        "turn" => {
            request.response.status = 200;
            request.response.body = Body::Bytes(format!("turn {};", reactor::turn()).into_bytes());
            Flow::Respond
        }
        "panic" => panic!("as asked"),
        "status" => Flow::Status(count(0) as u16),
        "next" => Flow::Next,
        "abort" => Flow::Abort,
        "redirect" => match arg(0).strip_prefix('@') {
            Some(_) => Flow::Redirect(Redirect::Named(arg(0).into())),
            None => Flow::Redirect(Redirect::Uri(arg(0).into(), Vec::new())),
        },
        // A tunnel to a socket that echoes what it gets; the argument came behind the upstream's head.
        "tunnel" => {
            let flow = tunnel(arg(0), request);
            if count(1) > 0 {
                request.response.add(b"X", &vec![b'x'; count(1)]);
            }
            flow
        }
        other => panic!("no answer is called {other}"),
    }
}

/// Sleeps on the worker's own timer.
async fn pause(ms: usize) {
    reactor::sleep(Duration::from_millis(ms as u64)).await;
}

fn tunnel(leftover: &str, request: &mut Request) -> Flow {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    std::thread::spawn(move || {
        let mut reader = theirs.try_clone().expect("a descriptor");
        let mut writer = theirs;
        let _ = std::io::copy(&mut reader, &mut writer);
        let _ = writer.shutdown(std::net::Shutdown::Write);
    });
    ours.set_nonblocking(true).expect("a socket");
    request.response.status = 101;
    request.response.upgrade = true;
    request.response.add(b"Upgrade", b"test");
    Flow::Tunnel(Box::new(TunnelPlan {
        upstream_tls: None,
        upstream: reactor::Source::stream(OwnedFd::from(ours)).expect("a worker's loop"),
        leftover: leftover.as_bytes().to_vec(),
        idle_ms: 60_000,
        send_upstream_ms: 60_000,
        send_client_ms: 60_000,
        fin_ms: 60_000,
        buffer_bytes_max: 65536,
        websocket: false,
        close_on_reload: false,
        upstream_received: 100 + leftover.len() as u64,
        upstream_sent: 10,
        upstream_started_ms: http::clock::monotonic_ms(),
        upstream_name: b"echo".to_vec(),
        guards: Vec::new(),
    }))
}
