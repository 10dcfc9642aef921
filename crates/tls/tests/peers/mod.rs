//! Both sides of a test: an authority made with openssl, a server and a client on ends, and openssl's own.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use tidegate_tls::config::{self, Client, Server};
use tidegate_tls::end::{Choice, ClientEnd, ServerEnd};
use tidegate_tls::files;
use wire::tls::{State, TlsEnd};

pub(crate) const EC: &str = "ec -pkeyopt ec_paramgen_curve:P-256";
pub(crate) const RSA: &str = "rsa:2048";

/// Longest time anything may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Issues certificates in a directory of its own.
pub(crate) struct Authority {
    dir: String,
    name: String,
    serial: AtomicU32,
}

/// Files of a certificate and its key.
pub(crate) struct Pair {
    pub(crate) path: String,
    pub(crate) key_path: String,
    serial: u32,
}

impl Pair {
    pub(crate) fn certified(&self) -> CertifiedKey {
        let chain = files::certificates(&self.path, &fs::read(&self.path).unwrap()).unwrap();
        let key = files::key(&self.key_path, &fs::read(&self.key_path).unwrap(), &[]).unwrap();
        files::pair(&self.path, chain, &self.key_path, &key).unwrap()
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let dir = format!("{}/{name}", env!("CARGO_TARGET_TMPDIR"));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let authority = Authority { dir, name: name.to_owned(), serial: AtomicU32::new(16) };
        authority.openssl(&format!(
            "req -x509 -newkey {EC} -nodes -subj /CN=ca-{name} -days 3 -keyout ca.key -out ca.pem"
        ));
        authority
    }

    /// The path of a new file.
    pub(crate) fn file(&self, name: &str) -> String {
        format!("{}/{name}-{}", self.dir, self.serial.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn path(&self) -> String {
        format!("{}/ca.pem", self.dir)
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }

    /// The authority's own certificate.
    pub(crate) fn own(&self) -> Pair {
        Pair { path: self.path(), key_path: format!("{}/ca.key", self.dir), serial: 0 }
    }

    /// A certificate with that name as subject and alternative name.
    pub(crate) fn pair(&self, kind: &str, name: &str) -> Pair {
        self.issue(kind, name, &format!("subjectAltName=DNS:{name}\n"))
    }

    /// A certificate without extensions: openssl then makes one of version 1.
    pub(crate) fn version_1(&self, name: &str) -> Pair {
        self.issue(EC, name, "")
    }

    fn issue(&self, kind: &str, name: &str, extensions: &str) -> Pair {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let file = format!("leaf-{serial}");
        fs::write(format!("{}/{file}.ext", self.dir), extensions).unwrap();
        self.openssl(&format!(
            "req -new -newkey {kind} -nodes -subj /CN={name} -keyout {file}.key -out {file}.csr"
        ));
        let with = if extensions.is_empty() { String::new() } else { format!("-extfile {file}.ext") };
        self.openssl(&format!(
            "x509 -req -in {file}.csr -CA ca.pem -CAkey ca.key -set_serial {serial} -days 2 {with} -out {file}.pem"
        ));
        let path = |end| format!("{}/{file}.{end}", self.dir);
        Pair { path: path("pem"), key_path: path("key"), serial }
    }

    /// A list on which that certificate stands.
    pub(crate) fn revoke(&self, pair: &Pair) -> Vec<u8> {
        let dir = &self.dir;
        fs::write(
            format!("{dir}/ca.conf"),
            format!("[ca]\ndefault_ca=c\n[c]\ndatabase={dir}/index.txt\ndefault_md=sha256\ncrlnumber={dir}/number\n"),
        )
        .unwrap();
        fs::write(format!("{dir}/number"), "01\n").unwrap();
        let entry = format!("R\t401231235959Z\t200101000000Z\t{:02X}\tunknown\t/CN=x\n", pair.serial);
        fs::write(format!("{dir}/index.txt"), entry).unwrap();
        self.openssl("ca -config ca.conf -gencrl -crldays 2 -keyfile ca.key -cert ca.pem -out crl.pem");
        fs::read(format!("{dir}/crl.pem")).unwrap()
    }

    fn openssl(&self, args: &str) {
        let output =
            Command::new("openssl").args(args.split_whitespace()).current_dir(&self.dir).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: openssl {args}: {said}", self.name);
    }
}

/// A connection as the server saw it.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Protocol, cipher, curve.
    pub(crate) agreed: String,
    pub(crate) text: String,
    /// What of the text came before the handshake was complete.
    pub(crate) early: String,
    pub(crate) resumed: bool,
    pub(crate) closed: bool,
    pub(crate) alpn: Option<String>,
    pub(crate) server_name: Option<String>,
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}

/// A server on ends that answers a line in capitals and says goodbye.
pub(crate) struct Serving {
    pub(crate) port: u16,
    heard: Receiver<Option<Heard>>,
}

impl Serving {
    /// The next connection; nothing if its handshake failed.
    pub(crate) fn next(&self) -> Option<Heard> {
        self.heard.recv_timeout(DEADLINE).expect("a connection in time")
    }
}

pub(crate) fn serve(settings: &Server) -> Serving {
    let config = config::server(settings).unwrap().config;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, heard) = channel();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let config = config.clone();
            let end = ServerEnd::choosing(Box::new(move |_| Choice::Serve(config)));
            if sender.send(answer(end, socket.unwrap())).is_err() {
                return;
            }
        }
    });
    Serving { port, heard }
}

fn answer(mut end: ServerEnd, mut socket: TcpStream) -> Option<Heard> {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let (mut input, mut plain) = (Vec::new(), Vec::new());
    let mut heard = Heard::default();
    let mut answered = false;
    loop {
        let mut reply = Vec::new();
        let before = plain.len();
        let done = match end.decrypt(&mut input, &mut plain, &mut reply) {
            Ok(done) => done,
            Err(_) => {
                let _ = socket.write_all(&reply);
                return None;
            }
        };
        input.drain(..done.used);
        let facts = end.facts();
        if facts.is_some_and(|facts| facts.early) {
            heard.early.push_str(std::str::from_utf8(&plain[before..]).unwrap());
        }
        // A line that is no early data, of a handshake that is complete.
        if plain.ends_with(b"hello\n") && !answered && facts.is_some_and(|facts| !facts.early) {
            answered = true;
            end.encrypt(&plain.to_ascii_uppercase(), &mut reply).unwrap();
            end.close(&mut reply).unwrap();
        }
        let _ = socket.write_all(&reply);
        let mut buffer = [0; 4096];
        let received = match done.state {
            State::PeerClosed => 0,
            _ => socket.read(&mut buffer).unwrap_or(0),
        };
        if received == 0 {
            let facts = end.facts()?;
            heard.agreed = format!("{} {} {}", facts.protocol, facts.cipher, facts.curve.unwrap_or("-"));
            heard.resumed = facts.resumed;
            heard.alpn = facts.alpn.map(|alpn| String::from_utf8(alpn.to_vec()).unwrap());
            heard.text = String::from_utf8(plain).unwrap();
            heard.closed = done.state == State::PeerClosed;
            heard.server_name = end.server_name().map(str::to_owned);
            heard.certificates = end.peer_certificates().to_vec();
            return answered.then_some(heard);
        }
        input.extend_from_slice(&buffer[..received]);
    }
}

/// Runs openssl's client: it says hello, and goes when it's told to. All it prints.
pub(crate) fn s_client(port: u16, args: &str) -> String {
    let mut child = Command::new("timeout")
        .args(["30", "openssl", "s_client", "-connect", &format!("127.0.0.1:{port}")])
        .args(args.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may have gone already.
    let _ = stdin.write_all(b"hello\n");
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
}

/// Openssl's server, which turns each line around.
pub(crate) struct Theirs {
    pub(crate) port: u16,
    child: Child,
}

impl Drop for Theirs {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn s_server(args: &str) -> Theirs {
    let mut child = Command::new("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-rev"])
        .args(args.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let accept = lines.map(Result::unwrap).find(|line| line.starts_with("ACCEPT")).expect("it listens");
    let port = accept.rsplit(':').next().unwrap().parse().unwrap();
    Theirs { port, child }
}

/// Connects an end, says hello, and tells what was agreed and what came back.
pub(crate) fn connect(port: u16, settings: Client, name: &str) -> Result<String, String> {
    let config = config::client(settings)?.config;
    let mut end = ClientEnd::new(config, name).map_err(|error| error.to_string())?;
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let (mut input, mut plain, mut said) = (Vec::new(), Vec::new(), false);
    loop {
        let mut reply = Vec::new();
        let done = end.decrypt(&mut input, &mut plain, &mut reply);
        if done.is_ok() && end.state() == State::Open && !said {
            said = true;
            end.encrypt(b"hello\n", &mut reply).unwrap();
        }
        let _ = socket.write_all(&reply);
        input.drain(..done.map_err(|error| error.to_string())?.used);
        if plain.ends_with(b"\n") {
            let facts = end.facts().ok_or("no facts")?;
            let text = String::from_utf8_lossy(&plain);
            return Ok(format!(
                "{} {} {}, {}",
                facts.protocol,
                facts.cipher,
                facts.curve.unwrap_or("-"),
                text.trim()
            ));
        }
        let mut buffer = [0; 4096];
        match socket.read(&mut buffer) {
            Ok(received) if received > 0 => input.extend_from_slice(&buffer[..received]),
            other => return Err(format!("ended: {other:?}")),
        }
    }
}
