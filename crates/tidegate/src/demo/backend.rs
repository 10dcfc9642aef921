//! The demo's backend: a page, its configuration's text, an echo and a chat, on a loopback port of its own.
//!
//! One thread a connection with blocking reads: plain code that a newcomer can follow, for the few dozen connections a demo
//! sees. Everything a client can grow is bounded by a named constant below. It expects a proxy in front, yet answers a
//! browser that comes straight to it.

use std::{
    collections::HashMap,
    io::{self, Read},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    answer::{Answer, Kind, Target, read_request},
    room::Room,
    socket::{self, STACK_BYTES},
};

/// Connections at a time; one more is answered 503. Two per open page, plus what a proxy keeps for reuse.
const CONNECTIONS_MAX: usize = 256;
/// How long a kept connection may wait for its next request.
const KEEPALIVE: Duration = Duration::from_secs(75);
/// How long a write may stand still.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection we end may still send, so that our last bytes are not lost to a reset.
const LINGER: Duration = Duration::from_secs(1);

/// The running backend. Dropping it ends its connections and its accepting thread.
pub(crate) struct Backend {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<thread::JoinHandle<()>>,
}

struct Shared {
    stopping: AtomicBool,
    open: Mutex<HashMap<u64, Arc<TcpStream>>>,
    config: Mutex<String>,
    room: Room,
}

impl Backend {
    /// Listens on a free loopback port and starts to serve.
    ///
    /// # Errors
    /// When no port can be bound or no thread started.
    pub(crate) fn start() -> io::Result<Backend> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            stopping: AtomicBool::new(false),
            open: Mutex::default(),
            config: Mutex::new(super::config("127.0.0.1:8080", &addr.to_string())),
            room: Room::default(),
        });
        let acceptor = thread::Builder::new().name("demo backend".into()).spawn({
            let shared = Arc::clone(&shared);
            move || accept_all(&listener, &shared)
        })?;
        Ok(Backend { addr, shared, acceptor: Some(acceptor) })
    }

    /// Where it listens: the `server` of the configuration's upstream.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sets the text behind `/nginx.conf`, which the page shows and explains. Until then it is [`super::config`] with
    /// port 8080.
    pub(crate) fn publish(&self, config: &str) {
        *lock(&self.shared.config) = config.to_owned();
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor out of `accept`; it looks at the flag before anything else.
        let woken = TcpStream::connect(self.addr).is_ok();
        for stream in lock(&self.shared.open).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(acceptor) = self.acceptor.take()
            && woken
        {
            let _ = acceptor.join();
        }
    }
}

fn accept_all(listener: &TcpListener, shared: &Arc<Shared>) {
    for id in 0.. {
        let accepted = listener.accept();
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        match accepted {
            Ok((stream, _)) => start_connection(id, Arc::new(stream), shared),
            // Out of descriptors, or a client that is gone again: wait a little and try the next.
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Gives a connection its thread, or 503 when there are too many.
fn start_connection(id: u64, stream: Arc<TcpStream>, shared: &Arc<Shared>) {
    {
        let mut open = lock(&shared.open);
        if open.len() >= CONNECTIONS_MAX {
            drop(open);
            let _ = Answer::text("503 Service Unavailable", "The demo's backend is full.\n")
                .send(&stream, Kind::LAST);
            return;
        }
        open.insert(id, Arc::clone(&stream));
    }
    let thread = thread::Builder::new().name(format!("demo {id}")).stack_size(STACK_BYTES);
    let spawned = thread.spawn({
        let shared = Arc::clone(shared);
        move || {
            // Dropped on unwinding too, so that a bug can't use up the connections.
            let _listed = Listed { id, shared: &shared };
            serve(&stream, &shared);
        }
    });
    if spawned.is_err() {
        lock(&shared.open).remove(&id);
    }
}

/// A connection's entry in the table; dropping it takes the entry out.
struct Listed<'a> {
    id: u64,
    shared: &'a Shared,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        lock(&self.shared.open).remove(&self.id);
    }
}

/// Serves one connection to its end: any number of plain requests, then perhaps a tunnel.
fn serve(stream: &Arc<TcpStream>, shared: &Shared) {
    if stream.set_nodelay(true).is_err()
        || stream.set_read_timeout(Some(KEEPALIVE)).is_err()
        || stream.set_write_timeout(Some(WRITE_TIMEOUT)).is_err()
    {
        return;
    }
    let mut unread = Vec::new();
    while let Ok(Some(request)) = read_request(stream, &mut unread) {
        let kind = request.kind;
        let sent = match request.target {
            Target::Echo(accept) => socket::echo(stream, &accept, std::mem::take(&mut unread)),
            Target::Chat(accept) => socket::chat(stream, &accept, std::mem::take(&mut unread), &shared.room),
            Target::Config => Answer::text("200 OK", &lock(&shared.config)).send(stream, kind),
            Target::Plain(answer) => answer.send(stream, kind),
        };
        if sent.is_err() || !kind.keep {
            break;
        }
    }
    linger(stream);
}

/// Ends our direction and reads the rest of the other for a moment: closing over unread bytes would reset the connection
/// and take our last frame with it.
fn linger(mut stream: &TcpStream) {
    let until = Instant::now() + LINGER;
    let mut rest = [0; 4096];
    if stream.shutdown(Shutdown::Write).is_err() || stream.set_read_timeout(Some(LINGER)).is_err() {
        return;
    }
    while Instant::now() < until && matches!(stream.read(&mut rest), Ok(1..)) {}
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
