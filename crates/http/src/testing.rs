//! For the tests of modules: load a configuration from text and ask it, without a socket.

use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Seek};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use wire::http1::{self, HeadLimits, RequestHead, Resume, Step};

use crate::config::{ListenAddr, LoadOptions, Loaded, Module, Snapshot, World, load};
use crate::log::LogFile;
use crate::message::{Connection, Request, SnapshotRef};
use crate::output::Chunk;
use crate::{BodyError, Client, Gone, Outcome, phase};

/// The prefix of test configurations.
pub const PREFIX: &str = "/test";

/// A world of files in memory.
#[derive(Default)]
pub struct TestWorld {
    /// Readable files.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    logs: Mutex<Vec<Arc<LogFile>>>,
}

impl TestWorld {
    /// What was written to a log.
    pub fn log(&self, path: &str) -> String {
        let logs = self.logs.lock().expect("no test panics while it opens a log");
        let Some(log) = logs.iter().find(|log| log.path() == Path::new(path)) else { return String::new() };
        log.flush();
        let mut text = String::new();
        let mut file = log.duplicate().expect("a descriptor is free");
        file.rewind().and_then(|()| file.read_to_string(&mut text)).expect("a log in memory can be read");
        text
    }
}

impl conf::Files for TestWorld {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = self.files.iter().find(|(have, _)| have == path);
        found.map(|(_, text)| text.clone()).ok_or_else(|| io::Error::from_raw_os_error(2))
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.files.iter().map(|(path, _)| path.clone()).filter(|path| path == pattern).collect())
    }
}

impl World for TestWorld {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match host {
            "localhost" => Ok(vec![(Ipv4Addr::LOCALHOST, port).into()]),
            _ => match host.parse::<Ipv4Addr>() {
                Ok(ip) => Ok(vec![(ip, port).into()]),
                Err(_) => Err(io::ErrorKind::NotFound.into()),
            },
        }
    }

    fn open_log(&self, path: &Path) -> io::Result<Arc<LogFile>> {
        if path.starts_with("/missing") {
            return Err(io::Error::from_raw_os_error(2));
        }
        let mut logs = self.logs.lock().expect("no test panics while it opens a log");
        if let Some(log) = logs.iter().find(|log| log.path() == path) {
            return Ok(log.clone());
        }
        let memory = rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC)?;
        let log = Arc::new(LogFile::from_file(path, File::from(memory)));
        logs.push(log.clone());
        Ok(log)
    }
}

/// The text as a whole file: lines of an `http` block get one around them, lines of a `server` block both.
pub fn whole(text: &str) -> String {
    let has =
        |word: &str| text.split(|c: char| c.is_whitespace() || c == '{' || c == ';').any(|have| have == word);
    if has("events") {
        return text.to_owned();
    }
    if has("http") {
        return format!("events {{ }} {text}");
    }
    if has("server") {
        return format!("events {{ }} http {{ {text}\n }}");
    }
    format!("events {{ }} http {{ server {{ {text}\n }} }}")
}

/// Loads a text with these modules; see [`whole`] for what it may leave out.
pub fn load_text(text: &str, modules: &[&'static Module], world: &mut TestWorld) -> Loaded {
    let main = Path::new(PREFIX).join("nginx.conf");
    world.files.push((main.clone(), whole(text).into_bytes()));
    let options = LoadOptions {
        main,
        prefix: PREFIX.into(),
        command_line: None,
        modules,
        generation: 1,
        error_log: "stderr".into(),
    };
    load(&options, world)
}

/// The messages of a load, as nginx prints them.
pub fn messages(text: &str, modules: &[&'static Module]) -> String {
    let loaded = load_text(text, modules, &mut TestWorld::default());
    conf::render(&loaded.diagnostics, &loaded.sources, conf::Style::Plain)
}

/// A configuration that serves, and what it logged.
pub struct TestServer {
    snapshot: SnapshotRef,
    /// For its logs.
    pub world: TestWorld,
}

/// What a request got.
#[derive(Debug, Default)]
pub struct Answer {
    /// Head and body as text, the head without what every response has (Server, Date, Connection).
    pub text: String,
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// What became of the connection: `keepalive`, `close`, `abort`, `tunnel`.
    pub end: &'static str,
}

impl TestServer {
    /// Loads a configuration.
    ///
    /// # Panics
    /// When it has errors.
    pub fn new(text: &str, modules: &[&'static Module]) -> TestServer {
        TestServer::with_files(text, modules, Vec::new())
    }

    /// The same where there are files.
    ///
    /// # Panics
    /// When it has errors.
    pub fn with_files(text: &str, modules: &[&'static Module], files: Vec<(PathBuf, Vec<u8>)>) -> TestServer {
        let mut world = TestWorld { files, ..TestWorld::default() };
        let loaded = load_text(text, modules, &mut world);
        let Some(snapshot) = loaded.snapshot else {
            panic!("{}", conf::render(&loaded.diagnostics, &loaded.sources, conf::Style::Plain));
        };
        TestServer { snapshot: SnapshotRef::new(Arc::new(snapshot), drop), world }
    }

    /// The configuration.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// A request without a head, for tests of what only reads or writes one.
    pub fn request(&self) -> Request {
        let addr = ListenAddr::Tcp((Ipv4Addr::LOCALHOST, 80).into());
        Request::new(self.snapshot.clone(), Rc::new(Connection::new(None, addr.clone(), addr)))
    }

    /// Sends one request, with its body behind the head, to the first listener.
    pub fn ask(&self, request: &[u8]) -> Answer {
        block_on(self.serve(request))
    }

    /// The same for handlers that wait for more than the client: run it in a runtime.
    pub async fn serve(&self, bytes: &[u8]) -> Answer {
        let Some(listener) = self.snapshot.listeners.first() else { return Answer::default() };
        let peer = SocketAddr::from(([127, 0, 0, 1], 40000));
        let local = match &listener.addr {
            ListenAddr::Tcp(addr) => ListenAddr::Tcp((Ipv4Addr::LOCALHOST, addr.port()).into()),
            addr => addr.clone(),
        };
        let connection = Rc::new(Connection::new(Some(peer), local.clone(), listener.addr.clone()));
        connection.requests.set(1);
        let mut request = Request::new(self.snapshot.clone(), connection);
        request.started_ms = crate::clock::monotonic_ms();
        let root = self.snapshot.server(listener.servers_for(&local).default).root;
        request.location = root;
        let used = match parse(bytes, &mut request.head) {
            Ok(used) => used,
            Err(status) => return self.refuse(request, status).await,
        };
        request.bytes.extend_from_slice(&bytes[..used]);
        request.received = bytes.len() as u64;
        request.head_is_read();
        let mut captures = std::mem::take(&mut request.captures);
        request.server = listener.servers_for(&local).lookup(&request.host, &mut captures);
        request.captures = captures;
        request.location = self.snapshot.server(request.server).root;
        request.keepalive = request.head.keepalive();
        let mut client = Collected { body: bytes[used..].to_vec(), ..Collected::default() };
        let outcome = phase::serve(&mut request, &mut client).await;
        self.answered(request, client, &outcome)
    }

    async fn refuse(&self, mut request: Request, status: u16) -> Answer {
        let mut client = Collected::default();
        let outcome = phase::refuse(&mut request, &mut client, status).await;
        self.answered(request, client, &outcome)
    }

    fn answered(&self, mut request: Request, client: Collected, outcome: &Outcome) -> Answer {
        for program in &self.snapshot.location(request.location).access_log {
            program.write(&mut request);
        }
        let end = match outcome {
            Outcome::Tunnel(_) => "tunnel",
            Outcome::Abort => "abort",
            Outcome::Finished if request.keepalive => "keepalive",
            Outcome::Finished => "close",
        };
        let mut text = client.head;
        text.push_str(&String::from_utf8_lossy(&client.sent));
        Answer { text, status: request.response.status, body: client.sent, end }
    }
}

/// Asks once and returns head and body as text.
pub fn ask(text: &str, modules: &[&'static Module], request: &[u8]) -> String {
    TestServer::new(text, modules).ask(request).text
}

/// `GET target` of a host.
pub fn get(host: &str, target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

fn parse(bytes: &[u8], head: &mut RequestHead) -> Result<usize, u16> {
    match http1::request(bytes, head, &mut Resume::default(), &HeadLimits::default()) {
        Ok(Step::Done(used)) => Ok(used),
        Ok(Step::More) => Err(400),
        Err(error) => Err(error.status()),
    }
}

/// Runs a future that never has to wait.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
        std::thread::yield_now();
    }
}

/// A client that keeps what it gets.
#[derive(Default)]
struct Collected {
    head: String,
    sent: Vec<u8>,
    body: Vec<u8>,
    body_given: bool,
    queue: VecDeque<Chunk>,
}

impl Client for Collected {
    fn poll_body(
        &mut self,
        _cx: &mut Context<'_>,
        request: &mut Request,
    ) -> Poll<Result<Option<Chunk>, BodyError>> {
        if std::mem::replace(&mut self.body_given, true) || self.body.is_empty() {
            request.body_read = true;
            return Poll::Ready(Ok(None));
        }
        Poll::Ready(Ok(Some(Chunk::owned(std::mem::take(&mut self.body)))))
    }

    fn head(&mut self, request: &mut Request) {
        let is_head = crate::is_head(request);
        let response = &mut request.response;
        response.header_only |= is_head || response.status < 200 || matches!(response.status, 204 | 304);
        let mut lines = vec![response.status.to_string()];
        let mut field = |name: &str, value: Option<&[u8]>| {
            if let Some(value) = value {
                lines.push(format!("{name}: {}", String::from_utf8_lossy(value)));
            }
        };
        if response.status != 204 && response.status != 304 {
            field("Content-Type", response.content_type.as_deref());
            let length = response.content_length.map(|length| length.to_string());
            field("Content-Length", length.as_deref().map(str::as_bytes));
        }
        field("Last-Modified", response.last_modified.as_deref());
        field("Location", response.location.as_deref());
        let mut head = lines.join("\n");
        head.push('\n');
        head.push_str(&String::from_utf8_lossy(response.lines()).replace("\r\n", "\n"));
        head.push('\n');
        response.head_bytes += head.len() as u64;
        response.bytes_sent += head.len() as u64;
        self.head.push_str(&head);
    }

    fn body(&mut self, request: &mut Request, chunk: Chunk) {
        if request.response.header_only {
            return;
        }
        request.response.body_bytes += chunk.len() as u64;
        request.response.bytes_sent += chunk.len() as u64;
        self.queue.push_back(chunk);
    }

    fn poll_flush(
        &mut self,
        _cx: &mut Context<'_>,
        _request: &mut Request,
        _keep: usize,
    ) -> Poll<Result<(), Gone>> {
        for chunk in self.queue.drain(..) {
            self.sent.extend_from_slice(chunk.bytes());
        }
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}
