//! A fleet on a port of its own, and clients that speak raw bytes.
#![allow(dead_code, unreachable_pub)]

mod module;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Snapshot;
use http::config::{DiskWorld, ListenAddr, LoadOptions, World, load};
use http::log::LogFile;
use sys::listen::{Address, ListenOptions, listen, local_address};
use tidegate_front::{Counts, Fleet, FleetOptions, Leave, Listening};

/// How long anything may take.
pub const LIMIT: Duration = Duration::from_secs(20);

pub struct House {
    pub fleet: Option<Fleet>,
    pub addr: SocketAddr,
    unix: Option<PathBuf>,
    pub directory: PathBuf,
    pub retired: Arc<Mutex<Vec<Arc<Snapshot>>>>,
    world: Arc<OneFile>,
    generation: AtomicU64,
    id: u64,
}

/// How a house is made; the text is the inside of `http`, `ADDR` in it the address.
pub struct Plan<'a> {
    pub text: &'a str,
    pub workers: usize,
    pub connections: Option<usize>,
    /// An IP address, or `unix`.
    pub on: &'a str,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Plan { text: "", workers: 1, connections: None, on: "127.0.0.1" }
    }
}

impl House {
    pub fn new(text: &str) -> House {
        House::of(&Plan { text, ..Plan::default() })
    }

    pub fn of(plan: &Plan<'_>) -> House {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("tidegate-front-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let any = match plan.on {
            "unix" => Address::Unix(directory.join("socket")),
            ip => Address::Inet(SocketAddr::new(ip.parse().expect("an address"), 0)),
        };
        let socket = listen(&any, &ListenOptions::default()).expect("a listener");
        let (addr, unix) = match local_address(&socket) {
            Ok(Address::Inet(addr)) => (addr, None),
            _ => ("0.0.0.0:0".parse().expect("an address"), Some(directory.join("socket"))),
        };
        let retired = Arc::<Mutex<Vec<Arc<Snapshot>>>>::default();
        let (world, sink) = (Arc::<OneFile>::default(), retired.clone());
        let mut house = House {
            fleet: None,
            addr,
            unix,
            directory,
            retired,
            world,
            generation: AtomicU64::new(0),
            id: 1,
        };
        let mut snapshot = house.load(plan.text);
        if let Some(connections) = plan.connections {
            let core = &mut Arc::get_mut(&mut snapshot).expect("nobody else has it").core;
            (core.workers, core.connections) = (plan.workers, connections);
        }
        let options = FleetOptions {
            workers: plan.workers,
            buffers_total: 1 << 24,
            lost: Arc::default(),
            retired: Arc::new(move |snapshot| sink.lock().expect("no panic").push(snapshot)),
        };
        let fleet = Fleet::start(&options, &snapshot).expect("a fleet");
        house.fleet = Some(fleet);
        house.fleet().listen(vec![house.listening(Some(socket))]);
        house
    }

    pub fn fleet(&self) -> &Fleet {
        self.fleet.as_ref().expect("it runs until the house is dropped")
    }

    fn listen_addr(&self) -> ListenAddr {
        self.unix.clone().map_or(ListenAddr::Tcp(self.addr), ListenAddr::Unix)
    }

    pub fn unix(&self) -> &Path {
        self.unix.as_deref().expect("a house on a unix socket")
    }

    pub fn listening(&self, socket: Option<std::os::fd::OwnedFd>) -> Listening {
        Listening {
            id: self.id,
            addr: self.listen_addr(),
            socket,
            log: Arc::new(http::log::ErrorLog::new(vec![(
                http::log::Level::Info,
                self.world.open_log(&self.directory.join("accept.log")).expect("a log"),
            )])),
            spread: true,
            worker: 0,
        }
    }

    /// A second listener, new each time.
    pub fn other_listening(&self) -> Listening {
        let any = Address::Inet("127.0.0.1:0".parse().expect("an address"));
        let socket = listen(&any, &ListenOptions::default()).expect("a listener");
        let id = 100 + self.generation.load(Ordering::Relaxed);
        Listening { id, worker: 1, ..self.listening(Some(socket)) }
    }

    pub fn load(&self, text: &str) -> Arc<Snapshot> {
        let text = text.replace("ADDR", &self.listen_addr().to_string());
        *self.world.text.lock().expect("no panic") = format!("http {{ {text} }}").into_bytes();
        let loaded = load(
            &LoadOptions {
                main: "/test.conf".into(),
                prefix: self.directory.clone(),
                error_log: "error.log".into(),
                command_line: None,
                modules: module::MODULES,
                generation: self.generation.fetch_add(1, Ordering::Relaxed) + 1,
            },
            &*self.world,
        );
        match loaded.snapshot {
            Some(snapshot) => Arc::new(snapshot),
            None => panic!("{:?}", loaded.diagnostics),
        }
    }

    pub fn connect(&self) -> Talk {
        Talk::new(TcpStream::connect(self.addr).expect("a connection"))
    }

    /// Sends the pieces one by one, then a FIN, and returns all that comes back, made short.
    pub fn say(&self, pieces: &[&[u8]]) -> String {
        let mut talk = self.connect();
        for piece in pieces {
            talk.send(piece);
        }
        talk.finish()
    }

    pub fn counts(&self) -> Counts {
        self.fleet().counts()
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(name)).unwrap_or_default()
    }

    /// Waits until the log has so many lines, and takes them.
    pub fn lines(&self, name: &str, count: usize) -> String {
        wait(|| self.log(name).lines().count() >= count);
        self.log(name)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(fleet) = self.fleet.take() {
            fleet.stop(&Leave::default());
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Waits until something holds.
#[track_caller]
pub fn wait(mut until: impl FnMut() -> bool) {
    let started = Instant::now();
    while !until() {
        assert!(started.elapsed() < LIMIT, "it never came to hold");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

pub struct Talk(pub TcpStream);

impl Talk {
    pub fn new(stream: TcpStream) -> Talk {
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        stream.set_write_timeout(Some(LIMIT)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Talk(stream)
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        // A server that answered and closed may refuse the rest.
        let _ = self.0.write_all(bytes);
    }

    /// What comes until the server closes, made short. A reset shows as `RESET`.
    pub fn finish(&mut self) -> String {
        let _ = self.0.shutdown(Shutdown::Write);
        self.rest()
    }

    pub fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let end = self.0.read_to_end(&mut bytes);
        let mut text = short(&bytes);
        match end {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => text.push_str("RESET"),
            Err(error) => text.push_str(&format!("{error}")),
        }
        text
    }

    /// Reads until what came ends with `end`, and returns it made short.
    #[track_caller]
    pub fn until(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        let mut byte = [0; 1];
        while !bytes.ends_with(end.as_bytes()) {
            match self.0.read(&mut byte) {
                Ok(1) => bytes.push(byte[0]),
                other => panic!("{other:?} behind {:?}", String::from_utf8_lossy(&bytes)),
            }
        }
        short(&bytes)
    }

    /// Whether the server has closed.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 64]), Ok(0) | Err(_))
    }
}

/// Bytes as a test reads them: line ends as `|`, without what is the same in all responses, pages by their heading.
pub fn short(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "|");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("Server: nginx/") {
        out.push_str(&rest[..at]);
        let after = rest[at..].find("Date: ").expect("a date behind the server") + at;
        rest = &rest[after + rest[after..].find('|').expect("a line end") + 1..];
    }
    out.push_str(rest);
    while let (Some(from), Some(to)) = (out.find("<html>"), out.find("</html>|")) {
        let title =
            out[from..to].split("<title>").nth(1).and_then(|text| text.split('<').next()).unwrap_or("?");
        let page = format!("[{title}]");
        out.replace_range(from..to + 8, &page);
    }
    out.replace("HTTP/1.1 ", "")
        .replace("Connection: ", "")
        .replace("Content-Length: ", "len ")
        .replace("Transfer-Encoding: ", "")
}

/// A configuration that is one text, on a disk that has its logs.
#[derive(Default)]
struct OneFile {
    text: Mutex<Vec<u8>>,
    disk: DiskWorld,
}

impl conf::Files for OneFile {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(self.text.lock().expect("no panic").clone())
    }
    fn glob(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

impl World for OneFile {
    fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn open_log(&self, path: &Path) -> io::Result<Arc<LogFile>> {
        self.disk.open_log(path)
    }
}
