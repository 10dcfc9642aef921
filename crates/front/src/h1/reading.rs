//! Reading a request's head.

use std::io;

use http::config::CoreConf;
use http::log::Level;
use http::{Request, Snapshot};
use wire::http1::{self, HeadLimits, Method, RequestError, RequestHead, Resume, Step, Version};

use crate::h1::client::H1Client;
use crate::h1::session::{NoHead, ROOM, Session};
use crate::h1::socket::{Socket, receive_failed};

impl Session {
    /// Reads a head and chooses its server.
    pub(super) async fn read_head(
        &mut self,
        client: &mut H1Client,
        request: &mut Request,
    ) -> Result<(), NoHead> {
        let (limits, header_timeout) = {
            let core = &request.location().core;
            (limits(core), core.client_header_timeout)
        };
        let mut resume = Resume::default();
        client.socket.align();
        if self.connection.requests.get() > 1 || !self.timer.is_set() {
            // On the first request the time runs since the connection was accepted.
            self.timer.set(header_timeout);
        }
        loop {
            match http1::request(client.socket.unread(), &mut request.head, &mut resume, &limits) {
                Ok(Step::Done(used)) => {
                    self.head_done(client, request, used);
                    return self.check_tls(&client.socket, request).await;
                }
                Ok(Step::More) => {}
                Err(error) => return Err(self.bad_head(&mut client.socket, request, &resume, &error)),
            }
            let room = client.socket.unread().len().clamp(ROOM, limits.head_bytes_max().max(ROOM));
            let more = self.in_time(request.snapshot.generation, |cx| client.socket.poll_fill(cx, room));
            match more.await {
                Ok(0) => {
                    let text = "client prematurely closed connection";
                    return Err(self.cut_short(client, request, &resume, 400, text));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    client.timed_out = true;
                    let text = "client timed out (110: Connection timed out)";
                    return Err(self.cut_short(client, request, &resume, 408, text));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(NoHead::Cut),
                Err(error) => {
                    let text = receive_failed(&error);
                    return Err(self.cut_short(client, request, &resume, 400, &text));
                }
            }
        }
    }

    fn head_done(&mut self, client: &mut H1Client, request: &mut Request, used: usize) {
        // The head stays where it is; what follows it moves to a buffer of its own, which is usually nothing.
        request.bytes = client.socket.take_front(used);
        request.received = (used - request.head.line.start as usize) as u64;
        request.head_is_read();
        self.choose_server(request);
        say_dropped(request);
        client.begin(request);
        request.keepalive = request.head.keepalive() && !self.worker.is_quitting();
        if self.connection.requests.get() == 1 && !request.location().core.tcp_nodelay {
            client.socket.stream.unset_nodelay();
        }
    }

    fn choose_server(&mut self, request: &mut Request) {
        let snapshot = request.snapshot.clone();
        let snapshot: &Snapshot = &snapshot;
        let Some(listener) = self.listener(snapshot) else { return };
        let servers = listener.servers_for(&self.connection.local);
        let mut captures = std::mem::take(&mut request.captures);
        request.server = servers.lookup(&request.host, &mut captures);
        request.captures = captures;
        request.location = snapshot.server(request.server).root;
    }

    fn bad_head(
        &mut self,
        socket: &mut Socket,
        request: &mut Request,
        resume: &Resume,
        error: &RequestError,
    ) -> NoHead {
        self.keep_head(socket, request, resume);
        if error.is_in_line() {
            // nginx has no URI before all of the line is good.
            request.uri.clear();
            request.args.clear();
            request.head.target = wire::Span::EMPTY;
            if *error == RequestError::InvalidMethod09 {
                request.head.method_name = wire::Span::EMPTY;
            }
            if request.head.method_name.is_empty() {
                // An error page may go upstream: with its own method, not with the name of none.
                request.head.method = Method::default();
                if request.method != Method::Head {
                    request.method = Method::default();
                }
            }
        }
        // Where its body would end is not known: an error page that goes upstream goes without.
        (request.head.content_length, request.head.chunked) = (None, false);
        say_dropped(request);
        let text = error.message(&request.bytes);
        let action = match error.action() {
            "reading client request line" if request.pipelined => "reading client pipelined request line",
            action => action,
        };
        request.log(Level::Info, format_args!("{text} while {action}"));
        if request.head.version == Version::default() {
            // The line itself is bad: nginx answers it as HTTP/1.0 would be.
            request.head.version = Version::V10;
        }
        NoHead::Status(error.status())
    }

    /// A head that will never be whole.
    fn cut_short(
        &mut self,
        client: &mut H1Client,
        request: &mut Request,
        resume: &Resume,
        status: u16,
        what: &str,
    ) -> NoHead {
        let part = match (request.head.line.is_empty(), request.pipelined) {
            (true, false) => "request line",
            (true, true) => "pipelined request line",
            (false, _) => "request headers",
        };
        self.keep_head(&mut client.socket, request, resume);
        if request.head.line.is_empty() {
            // The log shows as much of the line as there is.
            let start = http1::leading_blank(&request.bytes);
            let rest = &request.bytes[start..];
            let len = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
            request.head.line = wire::Span::between(start, start + len);
        }
        say_dropped(request);
        request.log(Level::Info, format_args!("{what} while reading client {part}"));
        NoHead::Unanswered(status)
    }

    /// Keeps what was received of a bad head, for the log and for the choice of the server whose pages answer.
    fn keep_head(&mut self, socket: &mut Socket, request: &mut Request, resume: &Resume) {
        request.bytes = socket.take_front(socket.unread().len());
        // As nginx counts it: what is in good lines, without blank ones before the first.
        let start = http1::leading_blank(&request.bytes);
        request.received = resume.good_bytes().saturating_sub(start) as u64;
        request.head_is_read();
        if request.head.host.is_some() {
            self.choose_server(request);
        }
    }
}

/// The field lines that count as not sent.
fn say_dropped(request: &Request) {
    for line in &request.head.dropped {
        let text = RequestHead::dropped_text(*line, &request.bytes);
        request.log(Level::Info, format_args!("{text} while reading client request headers"));
    }
}

fn limits(core: &CoreConf) -> HeadLimits {
    let (buffers_max, line_bytes_max) = core.large_client_header_buffers;
    HeadLimits {
        first_buffer_bytes: core.client_header_buffer_size,
        line_bytes_max,
        buffers_max,
        count_max: core.max_headers,
        underscores: core.underscores_in_headers,
        ignore_invalid: core.ignore_invalid_headers,
        merge_slashes: core.merge_slashes,
        allow_connect: false,
    }
}
