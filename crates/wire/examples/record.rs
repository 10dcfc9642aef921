//! Asks a real nginx about a table of request heads and writes its answers down, for `tests/nginx.rs` to compare with:
//!
//! `cargo run -p tidegate-wire --example record -- /path/to/nginx > crates/wire/testdata/nginx-1.31.tsv`
//!
//! Each row is: profile, input, status, `Connection` of the answer, `$request_method`, `$request_uri`, `$uri`, `$args`,
//! `$host`, `$http_x`, `$server_protocol`, `$request`, and what the error log said. Bytes are escaped as in Rust literals.

use std::error::Error;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Profiles: a name and the directives that make it. `tests/nginx.rs` has the same as `HeadLimits`.
const PROFILES: [(&str, &str); 3] = [
    ("plain", ""),
    ("lenient", "underscores_in_headers on; ignore_invalid_headers off; merge_slashes off; max_headers 5;"),
    ("small", "client_header_buffer_size 64; large_client_header_buffers 2 512;"),
];

fn main() -> Result<()> {
    let nginx = std::env::args().nth(1).ok_or("usage: record NGINX")?;
    let dir = std::env::temp_dir().join(format!("wire-record-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let mut server = Server::start(&nginx, &dir)?;
    let mut out = std::io::stdout().lock();
    for (profile, input) in rows() {
        let answer = server.ask(profile, &input)?;
        writeln!(out, "{}\t{}\t{answer}", PROFILES[profile].0, input.escape_ascii())?;
    }
    server.child.kill()?;
    server.child.wait()?;
    fs::remove_dir_all(&dir)?;
    Ok(())
}

struct Server {
    child: Child,
    access: Log,
    errors: Log,
    ports: Vec<u16>,
}

impl Server {
    fn start(nginx: &str, dir: &Path) -> Result<Server> {
        let ports: Vec<u16> = PROFILES.iter().map(|_| free_port()).collect::<Result<_>>()?;
        let servers: String = PROFILES
            .iter()
            .zip(&ports)
            .map(|((_, directives), port)| {
                format!(
                    "server {{ listen 127.0.0.1:{port}; server_name fallback.test; {directives}
                     location / {{ return 200 ok; }} }}\n"
                )
            })
            .collect();
        let fields = [
            "remote_port",
            "connection",
            "status",
            "request_method",
            "request_uri",
            "uri",
            "args",
            "host",
            "http_x",
            "server_protocol",
            "request",
        ]
        .map(|name| format!("${name}"));
        let config = format!(
            "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log info;
             events {{ worker_connections 64; }}
             http {{ client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2;
             keepalive_timeout 60; reset_timedout_connection on; lingering_close off;
             log_format t escape=none \"{}\x1e\"; access_log {dir}/access.log t;
             {servers} }}",
            fields.join("\x1f"),
            dir = dir.display(),
        );
        let path = dir.join("nginx.conf");
        fs::write(&path, config)?;
        let child = Command::new(nginx).arg("-p").arg(dir).arg("-c").arg(&path).spawn()?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", ports[0])).is_err() {
            if Instant::now() > deadline {
                return Err("nginx does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let access = Log::new(dir.join("access.log"));
        let errors = Log::new(dir.join("error.log"));
        Ok(Server { child, access, errors, ports })
    }

    /// The answer as the rest of a row; `more` if there is none while the connection stays open.
    fn ask(&mut self, profile: usize, input: &[u8]) -> Result<String> {
        self.errors.fresh()?;
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports[profile]))?;
        let port = stream.local_addr()?.port().to_string();
        stream.write_all(input)?;
        let deadline = Instant::now() + Duration::from_millis(400);
        let mut log = Vec::new();
        // The first of this connection: bytes behind a head may be another request.
        let mut row = loop {
            log.extend(self.access.fresh()?);
            let lines =
                log.split_inclusive(|byte| *byte == 0x1e).filter_map(|line| line.strip_suffix(b"\x1e"));
            let mut rows = lines.map(|line| {
                let line = line.strip_prefix(b"\n").unwrap_or(line);
                line.split(|byte| *byte == 0x1f)
                    .map(|field| field.escape_ascii().to_string())
                    .collect::<Vec<_>>()
            });
            if let Some(row) = rows.find(|row| row[0] == port) {
                break row;
            }
            if Instant::now() > deadline {
                return Ok("more".to_string());
            }
            std::thread::yield_now();
        };
        let connection = format!("*{} client sent ", row[1]);
        row.drain(..2);
        let log = self.errors.fresh()?;
        let said: Vec<String> = log
            .split(|byte| *byte == b'\n')
            .filter_map(|line| {
                let line = line.escape_ascii().to_string();
                let (_, said) = line.split_once(&connection)?;
                let end = said.find(", client: ").unwrap_or(said.len());
                (!said.contains("reading client pipelined")).then(|| format!("client sent {}", &said[..end]))
            })
            .collect();
        row.insert(1, kept(&mut stream)?.to_string());
        row.push(said.join(" & "));
        Ok(row.join("\t"))
    }
}

/// What the answer's `Connection` says. (`$sent_http_connection` can't tell: the log is written after the decision.)
fn kept(stream: &mut TcpStream) -> Result<&'static str> {
    let mut answer = [0; 4096];
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let len = stream.read(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer[..len]).into_owned();
    Ok(if answer.contains("\r\nConnection: keep-alive\r\n") {
        "keep-alive"
    } else if answer.contains("\r\nConnection: close\r\n") {
        "close"
    } else {
        "-"
    })
}

/// A log file and how far it has been read.
struct Log {
    path: std::path::PathBuf,
    read: usize,
}

impl Log {
    fn new(path: std::path::PathBuf) -> Log {
        Log { path, read: 0 }
    }

    fn fresh(&mut self) -> Result<Vec<u8>> {
        let mut fresh = Vec::new();
        if let Ok(mut file) = fs::File::open(&self.path) {
            file.seek(SeekFrom::Start(self.read as u64))?;
            file.read_to_end(&mut fresh)?;
        }
        self.read += fresh.len();
        Ok(fresh)
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The table: lines and fields by hand, then bytes of every kind in every kind of place.
fn rows() -> Vec<(usize, Vec<u8>)> {
    let mut rows = Vec::new();
    for (lines, profiles) in [(LINES, 0..2), (FIELDS, 0..2)] {
        for profile in profiles {
            for line in lines {
                rows.push((profile, line.as_bytes().to_vec()));
            }
        }
    }
    let targets = PATHS.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    rows.extend(targets.flat_map(|text| [(0, text.clone().into_bytes()), (1, text.into_bytes())]));
    let hosts = HOSTS.iter().flat_map(|host| {
        [
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            format!("GET http://{host}/ HTTP/1.1\r\nHost: b\r\n\r\n"),
        ]
    });
    rows.extend(hosts.map(|text| (0, text.into_bytes())));
    // Without the two bytes that part the fields in the log.
    for byte in (0..=0x1d).chain(0x20..=0x81).chain([0xa0, 0xff]) {
        for (before, after) in PLACES {
            rows.push((0, [before.as_bytes(), &[byte], after.as_bytes()].concat()));
        }
        rows.push((1, [b"GET / HTTP/1.1\r\nHost: a\r\nx", &[byte][..], b"y: 1\r\nX: 2\r\n\r\n"].concat()));
        let escaped = format!("GET /a/.%{byte:02X}/b%{byte:02x}c HTTP/1.1\r\nHost: a\r\n\r\n");
        rows.push((0, escaped.into_bytes()));
    }
    rows.extend(sizes().into_iter().map(|text| (2, text.into_bytes())));
    rows.extend((0..9).map(|count| (1, many(count).into_bytes())));
    rows
}

fn many(count: usize) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(count))
}

/// Heads around the ends of a first buffer of 64 bytes and two of 512.
fn sizes() -> Vec<String> {
    let fill = |count: usize| "x".repeat(count);
    let mut all = Vec::new();
    for around in [64, 512, 576, 1024, 1088] {
        for size in around - 2..=around + 2 {
            let line = size - "GET / HTTP/1.1\r\n".len();
            all.push(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", fill(line)));
            all.push(format!("GET /{}", fill(size - 5)));
            all.push(format!("{}GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n".repeat(size / 2)));
            let field = size.saturating_sub("GET / HTTP/1.1\r\nHost: a\r\nX: \r\n".len());
            all.push(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", fill(field)));
            all.push(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", fill(size)));
            all.push(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\0", fill(size)));
            all.push(format!(
                "GET / HTTP/1.1\r\nHost: a\r\nY: {}\r\nX: {}\r\n\r\n",
                fill(400),
                fill(size - 400.min(size))
            ));
            all.push(format!("GET / HTTP/1.1\r\n{}", fill(size)));
        }
    }
    for count in [1, 3, 5, 7, 9, 11] {
        all.push(format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            format!("X: {}\r\n", fill(120)).repeat(count)
        ));
    }
    all
}

const PLACES: [(&str, &str); 14] = [
    ("", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("G", "T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("GET ", "/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("GET /", "x HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("GET /x", "y HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("GET /x?y", "z HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("GET / ", "HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("GET / HTTP/1.1", "\r\nHost: a\r\n\r\n"),
    ("GET / HTTP/1.1\r", "\nHost: a\r\n\r\n"),
    ("GET h", "//a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("GET / HTTP/1.1\r\nHost: a", "b\r\n\r\n"),
    ("GET http://a", "b/c HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("GET / HTTP/1.1\r\nHost: a\r\nx: b", "c\r\n\r\n"),
    ("GET / HTTP/1.1\r\nHost: a\r\n", "x: b\r\n\r\n"),
];

const LINES: &[&str] = &[
    "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\n\rGET / HTTP/1.1\nHost: a\n\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\r\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "GET / HTTP/0.9\r\n\r\n",
    "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.01\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.999\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1000\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.10000\r\nHost: a\r\n\r\n",
    "GET / HTTP/01.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/10.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.\r\nHost: a\r\n\r\n",
    "GET / HTTP/1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1  x\r\nHost: a\r\n\r\n",
    "GET / http/1.1\r\nHost: a\r\n\r\n",
    "GET   /  HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /\r\n",
    "GET / \r\n",
    "GET /x?y#z\n",
    "GET http://h/x\r\n",
    "GET http://h\r\n",
    "HEAD /\r\n",
    "GET",
    "GET\r\n",
    "GET \r\n",
    "GET / HTT",
    "get / HTTP/1.1\r\n",
    "G-_T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GETX / HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "PUT / HTTP/1.1\r\nHost: a\r\n\r\n",
    "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
    "TRACE / HTTP/1.1\r\n\r\n",
    "PROPPATCH / HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a:443 HTTP/1.0\r\nHost: a\r\n\r\n",
    "CONNECT a:443\r\n",
    "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a: HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT [::1]:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "\u{16}\u{3}\u{1}\u{2}\0\u{1}",
    "GET http://A.b:8080/x?y HTTP/1.1\r\nHost: other\r\n\r\n",
    "GET http://a?x HTTP/1.1\r\nHost: other\r\n\r\n",
    "GET http://a:1?x#y HTTP/1.1\r\nHost: other\r\n\r\n",
    "GET http://a#x HTTP/1.1\r\nHost: other\r\n\r\n",
    "GET http://a HTTP/1.1\r\nHost: other\r\n\r\n",
    "GET http://a:80 HTTP/1.1\r\nHost: other\r\n\r\n",
    "GET http://a:80 HTTP/1.1\r\n\r\n",
    "GET http:/a/ HTTP/1.1\r\nHost: other\r\n\r\n",
    "GET h2-x+.y://a/ HTTP/1.1\r\nHost: other\r\n\r\n",
    "GET http:///x HTTP/1.1\r\nHost: other\r\n\r\n",
    "GET http://u@a/x HTTP/1.1\r\nHost: other\r\n\r\n",
    "GET x HTTP/1.1\r\nHost: other\r\n\r\n",
    "GET http://a/../x HTTP/1.1\r\nHost: other\r\n\r\n",
];

const FIELDS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "GET / HTTP/1.1\r\nHost\r\n\r\n",
    "GET / HTTP/1.0\r\nHost: \r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\tfolded\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX:b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX:   b   c   \r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX:\tb\t\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\r\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX\n\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX:     \r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\nX: c\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHTTP/1.1 200 OK\r\nX: c\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n_x: b\r\nx_y: c\r\nX: d\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nCont(ent-Length: 5\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: b  \rc\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: \0c\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\rx",
    "GET / HTTP/1.1\r\nHost: a\r\nX: b",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 03\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3 \r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3,3\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \tchunked\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: gzip\r\n\r\nabc",
    "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: Close, keep-alive\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nConnection: x\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: disclosed\r\n\r\n",
    "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
    "GET / HTTP/1.0\r\nConnection: keepalive\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nExpect: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nAuthorization: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nProxy-Authorization: x\r\nProxy-Authorization: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nIf-Modified-Since: x\r\nIf-Modified-Since: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nIf-Unmodified-Since: x\r\nIf-Unmodified-Since: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nIf-Match: x\r\nIf-Match: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: x\r\nIf-None-Match: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nIf-Range: x\r\nIf-Range: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Range: x\r\nContent-Range: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: x\r\nUser-Agent: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nReferer: x\r\nReferer: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nCookie: x\r\nCookie: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nRange: x\r\nRange: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nUpgrade: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Type: x\r\nContent-Type: y\r\n\r\n",
];

const PATHS: &[&str] = &[
    "/",
    "//",
    "/./",
    "/.",
    "/..",
    "/../",
    "/a/..",
    "/a/../",
    "/a/../b",
    "/a/b/../../c",
    "/a/b/../../../c",
    "/a//../b",
    "//a//..//b",
    "//..",
    "//../",
    "/a/./b/./",
    "/...",
    "/a/...",
    "/a/.../b",
    "/..a/.b/c..",
    "/a/.?x",
    "/a/..?x",
    "/a/..#x",
    "/..?x",
    "/a?b?c",
    "/a?",
    "/a#",
    "/a?#",
    "/a?b#c?d",
    "/a#b?c",
    "/a?b/../c",
    "/a?b%2fc",
    "/%2e%2e/",
    "/a/%2e%2E/b",
    "/a%2f..%2fb",
    "/a/%2e/b",
    "/%2f%2f",
    "/a%3fb?c",
    "/a%23b",
    "/a%25b",
    "/a%2525b",
    "/a%00b",
    "/a%0ab",
    "/a%",
    "/a%2",
    "/a%2?x",
    "/a%?x",
    "/a%zz",
    "/a%2zb",
    "/a+b%2bc",
    "/+./+/x",
    "/a\\b",
    "/\u{e9}",
    "/a;b=c/../d",
    "/a/b.c.d",
];

const HOSTS: &[&str] = &[
    "a",
    "A.B",
    "a.",
    "a..",
    "a..b",
    ".",
    ".a",
    "a:",
    "a:80",
    "a.:80",
    "a:65535",
    "a:65536",
    "a:000080",
    "a:8x",
    "a:80:80",
    ":80",
    "",
    "[::1]",
    "[::1]:80",
    "[::1]80",
    "[::1",
    "[]",
    "[a..b]",
    "[FE80::1]:",
    "[fe80::1%25eth0]",
    "a_b",
    "a%20b",
    "a/b",
    "a?b",
    "a b",
    "a@b",
    "*",
    "192.168.0.1",
];
