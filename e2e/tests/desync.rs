//! Requests that are right and requests that are wrong, one behind the other: whatever comes, each answer belongs to its
//! request, the upstream sees whole requests somebody sent, and nginx would have answered the same.
//!
//! Random; a failure prints the seed. `TIDEGATE_SEED` plays one again.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tidegate_e2e::places;
use tidegate_e2e::proxy::{Kind, Place, Proxy, whole};
use tidegate_e2e::random::{self, Random};
use tidegate_e2e::raw::{End, Socket, escape};

const CONFIG: &str = "
    upstream u { server 127.0.0.1:%%U%%; keepalive 4; }
    server {
        listen 127.0.0.1:%%PORT%%;
        client_body_buffer_size 64;
        location / { proxy_pass http://u; }
        location /off/ { proxy_pass http://u/; proxy_request_buffering off; }
        location /else/ { proxy_pass http://u/; proxy_intercept_errors on; error_page 503 = @again; }
        location @again { rewrite ^/else/503(.*)$ /cl$1 break; proxy_pass http://u; }
        location /here { return 200 here; }
    }";

/// Trials of one run; each is a connection with up to six requests.
const TRIALS: u64 = 250;

/// A request nobody sent by itself: it stands in bodies.
const BAIT: &str = "GET /cl/bait HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn answers_belong_to_their_requests() {
    let seed = random::seed();
    let ours = House::start(Kind::Tidegate);
    let theirs = places::nginx().map(|_| House::start(Kind::Nginx));
    let mut random = Random::new(seed);
    for number in 0..TRIALS {
        let trial = Trial::new(number, &mut random);
        let came = ours.play(&trial, &mut random);
        if let Some(theirs) = theirs.as_ref().filter(|_| trial.is_comparable) {
            let expected = theirs.play(&trial, &mut random);
            assert_eq!(came, expected, "seed {seed}, trial {number}\n{}", trial.text());
        }
    }
}

struct House {
    proxy: Proxy,
    backend: Arc<Backend>,
}

impl House {
    fn start(kind: Kind) -> House {
        let place = Place::new(&["PORT", "U"]);
        let backend = Arc::<Backend>::default();
        let (listener, seen) = (place.port("U").listen(), backend.clone());
        thread::spawn(move || seen.run(&listener));
        House { proxy: Proxy::start(kind, place, &whole(CONFIG)), backend }
    }

    /// Sends a trial in random pieces; the statuses that came, with the number of the request each belongs to.
    fn play(&self, trial: &Trial, random: &mut Random) -> Vec<String> {
        self.backend.expect(trial);
        let mut client = self.proxy.client();
        for piece in cut(&trial.bytes(), random) {
            client.send(piece);
            if random.below(4) == 0 {
                thread::yield_now();
            }
        }
        let end = client.wait_end(Duration::from_secs(15));
        let fault = || {
            let came = escape(client.received());
            format!("{}: {}\ncame {came}\n{}", self.proxy.kind, trial.text(), self.proxy.logs())
        };
        assert_ne!(end, End::Open, "nothing ended the connection\n{}", fault());
        assert_eq!(self.backend.faults(), Vec::<String>::new(), "{}", fault());
        self.answers(trial, &client).unwrap_or_else(|why| panic!("{why}\n{}", fault()))
    }

    fn answers(&self, trial: &Trial, client: &Socket) -> Result<Vec<String>, String> {
        let mut rest = client.received();
        let mut came = Vec::new();
        for request in &trial.requests {
            while rest.starts_with(b"HTTP/1.1 100 ") {
                rest = &rest[find(rest, b"\r\n\r\n").ok_or("100 without an end")? + 4..];
            }
            if rest.is_empty() {
                break;
            }
            let answer = Answer::read(rest, request.method == "HEAD")?;
            rest = &rest[answer.len..];
            let id = request.id.to_string();
            if answer.from_upstream.as_ref().is_some_and(|from| *from != id) {
                return Err(format!("request {id} got the answer to {:?}", answer.from_upstream));
            }
            if request.is_wrong && answer.from_upstream.is_none() && answer.status < 400 {
                return Err(format!("request {id} is wrong and got {}", answer.status));
            }
            came.push(format!("{} {}", answer.status, answer.from_upstream.unwrap_or_default()));
            if answer.is_cut {
                break;
            }
        }
        Ok(came)
    }
}

/// One answer as it came.
struct Answer {
    status: u16,
    from_upstream: Option<String>,
    is_cut: bool,
    len: usize,
}

impl Answer {
    fn read(bytes: &[u8], to_head: bool) -> Result<Answer, String> {
        let head_len = find(bytes, b"\r\n\r\n").ok_or("an answer without an end")? + 4;
        let head = String::from_utf8_lossy(&bytes[..head_len]).into_owned();
        let status =
            head.get(9..12).and_then(|text| text.parse().ok()).ok_or(format!("no answer: {head}"))?;
        if !head.starts_with("HTTP/1.1 ") {
            return Err(format!("no answer: {head}"));
        }
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let body = &bytes[head_len..];
        let (body_len, is_cut) = if to_head || matches!(status, 204 | 304) {
            (0, false)
        } else if let Some(length) = field("Content-Length: ").and_then(|text| text.parse::<usize>().ok()) {
            (length.min(body.len()), length > body.len())
        } else if field("Transfer-Encoding: ").is_some() {
            find(body, b"0\r\n\r\n").map_or((body.len(), true), |at| (at + 5, false))
        } else {
            (body.len(), true)
        };
        Ok(Answer { status, from_upstream: field("X-Id: "), is_cut, len: head_len + body_len })
    }
}

struct Trial {
    requests: Vec<Wish>,
    is_comparable: bool,
}

struct Wish {
    id: String,
    method: &'static str,
    bytes: Vec<u8>,
    body: Vec<u8>,
    is_wrong: bool,
}

impl Trial {
    fn new(number: u64, random: &mut Random) -> Trial {
        let count = 1 + random.below(6);
        let mut is_comparable = true;
        let mut requests: Vec<Wish> = (0..count)
            .map(|at| {
                let id = format!("{number}-{at}");
                match random.below(5) {
                    0 => wrong(id, random),
                    _ => right(id, random, &mut is_comparable),
                }
            })
            .collect();
        let id = format!("{number}-last");
        let bytes = format!("GET /cl/{id} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").into_bytes();
        requests.push(Wish { id, method: "GET", bytes, body: Vec::new(), is_wrong: false });
        Trial { requests, is_comparable }
    }

    fn bytes(&self) -> Vec<u8> {
        self.requests.iter().flat_map(|request| request.bytes.clone()).collect()
    }

    fn text(&self) -> String {
        escape(&self.bytes())
    }
}

/// What the upstream does with a request, named in its path. Of the last three the timing decides how much arrives.
const DEEDS: [&str; 9] = ["cl", "ch", "204", "304", "503", "close", "extra", "early", "cut"];

fn right(id: String, random: &mut Random, is_comparable: &mut bool) -> Wish {
    let deed = DEEDS[random.below(DEEDS.len())];
    *is_comparable &= !matches!(deed, "extra" | "early" | "cut");
    let place = ["", "", "/off", "/else"][random.below(4)];
    // Where nginx has a whole file to send again, we may have passed a part on.
    *is_comparable &= place != "/else" || deed != "503";
    let target = format!("{place}/{deed}/{id}");
    let body = match random.below(4) {
        0 => BAIT.as_bytes().to_vec(),
        1 => BAIT.repeat(random.below(200)).into_bytes(),
        2 => b"0\r\n\r\n".to_vec(),
        _ => Vec::new(),
    };
    let fields = ["", "X-Folded: a\tb\r\n", "Cookie: a=b; c=d\r\n", "_odd: 1\r\n"][random.below(4)];
    let head =
        |method: &str, more: &str| format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}{more}\r\n");
    let (method, bytes, body) = match random.below(5) {
        0 => ("GET", head("GET", "").into_bytes(), Vec::new()),
        1 => ("HEAD", head("HEAD", "").into_bytes(), Vec::new()),
        2 => {
            let mut bytes = head("POST", "Transfer-Encoding: chunked\r\n").into_bytes();
            for piece in cut(&body, random) {
                let extension = ["", ";x=y", " ;a=\"b\"", ";\t"][random.below(4)];
                bytes.extend(format!("{:x}{extension}\r\n", piece.len()).bytes());
                bytes.extend(piece.iter().chain(b"\r\n"));
            }
            bytes.extend(
                ["0\r\n\r\n", "0;e\r\nContent-Length: 5\r\n\r\n", "000\r\nHost: b\r\n\r\n"][random.below(3)]
                    .bytes(),
            );
            ("POST", bytes, body)
        }
        _ => {
            let mut bytes = head("POST", &format!("Content-Length: {}\r\n", body.len())).into_bytes();
            bytes.extend(&body);
            ("POST", bytes, body)
        }
    };
    Wish { id, method, bytes, body, is_wrong: false }
}

/// Each has been a way to make two parsers disagree. Nothing that waits for more: what follows must be refused or read.
const WRONG: [&str; 34] = [
    "GET /here HTTP/1.1\r\n\r\n",
    "GET /here HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET /here HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "GET /here HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "GET /here HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "GET /here HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nabcde",
    "GET /here HTTP/1.1\r\nHost: a\r\n Content-Length: 5\r\n\r\nabcde",
    "GET /here HTTP/1.1\r\nHost: a\r\nX: a\r\n folded: b\r\n\r\n",
    "GET /here HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
    "GET /here HTTP/2.0\r\nHost: a\r\n\r\n",
    "GET /here HTTP/1.1x\r\nHost: a\r\n\r\n",
    "GET /../here HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /here%00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /he\x01re HTTP/1.1\r\nHost: a\r\n\r\n",
    "get /here HTTP/1.1\r\nHost: a\r\n\r\n",
    "TRACE /here HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /cl/ID HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    "POST /cl/ID HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nabcde",
    "POST /cl/ID HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nabcde",
    "POST /cl/ID HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nabcde",
    "POST /cl/ID HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nabcde",
    "POST /cl/ID HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\nabcde",
    "POST /cl/ID HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nBAIT",
    "POST /cl/ID HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nBAIT",
    "POST /cl/ID HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\nBAIT",
    "POST /cl/ID HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\nBAIT",
    "POST /cl/ID HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\nBAIT",
    "POST /cl/ID HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nBAIT",
    "POST /cl/ID HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nBAIT",
    "POST /cl/ID HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcBAIT",
    "POST /cl/ID HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\nab\n0\n\nBAIT",
    "POST /cl/ID HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nBAIT",
    "POST /cl/ID HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nBAIT",
];

fn wrong(id: String, random: &mut Random) -> Wish {
    let text = WRONG[random.below(WRONG.len())].replace("ID", &id).replace("BAIT", BAIT);
    Wish { id, method: "GET", bytes: text.into_bytes(), body: Vec::new(), is_wrong: true }
}

/// An upstream that reads strictly and remembers what is wrong with what it reads.
#[derive(Default)]
struct Backend {
    /// The bodies of the requests it may see, by number; `None` for one that must not come whole.
    bodies: Mutex<HashMap<String, Option<Vec<u8>>>>,
    faults: Mutex<Vec<String>>,
}

impl Backend {
    fn expect(&self, trial: &Trial) {
        let bodies = trial
            .requests
            .iter()
            .map(|request| (request.id.clone(), (!request.is_wrong).then(|| request.body.clone())));
        *self.bodies.lock().expect("no thread panics with it") = bodies.collect();
    }

    fn faults(&self) -> Vec<String> {
        std::mem::take(&mut *self.faults.lock().expect("no thread panics with it"))
    }

    fn fault(&self, what: String) {
        self.faults.lock().expect("no thread panics with it").push(what);
    }

    fn run(self: Arc<Self>, listener: &TcpListener) {
        while let Ok((socket, _)) = listener.accept() {
            let backend = self.clone();
            thread::spawn(move || backend.connection(socket));
        }
    }

    fn connection(&self, mut socket: TcpStream) {
        let mut buf = Vec::new();
        while let Some(goes_on) = self.one(&mut socket, &mut buf) {
            if !goes_on {
                return;
            }
        }
    }

    /// One request; `None` when no more come, false when the connection is to close.
    fn one(&self, socket: &mut TcpStream, buf: &mut Vec<u8>) -> Option<bool> {
        let head_len = loop {
            if let Some(at) = find(buf, b"\r\n\r\n") {
                break at + 4;
            }
            more(socket, buf)?;
        };
        let head = String::from_utf8_lossy(&buf[..head_len]).into_owned();
        let mut words = head.lines().next().unwrap_or_default().split(' ');
        let (method, target) =
            (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default());
        let mut parts = target.trim_start_matches('/').split('/');
        let (deed, id) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default().to_owned());
        let known = self.bodies.lock().expect("no thread panics with it").get(&id).cloned();
        let Some(body) = known else {
            self.fault(format!("a request nobody sent: {head}"));
            return Some(false);
        };
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let length = field("Content-Length: ").and_then(|text| text.parse::<usize>().ok());
        let chunked = field("Transfer-Encoding: ").is_some();
        if length.is_some() && chunked {
            self.fault(format!("two lengths: {head}"));
        }
        if deed == "early" {
            let _ = answer(socket, &method, deed, &id);
        }
        let got = if chunked {
            chunks(socket, buf, head_len)?
        } else {
            plain(socket, buf, head_len, length.unwrap_or(0))?
        };
        if body.as_ref().is_none_or(|body| *body != got) {
            self.fault(format!("not the body that was sent: {head}{}", escape(&got)));
        }
        if deed != "early" {
            answer(socket, &method, deed, &id)?;
        }
        Some(!matches!(deed, "close" | "cut"))
    }
}

fn answer(socket: &mut TcpStream, method: &str, deed: &str, id: &str) -> Option<()> {
    let status = match deed {
        "204" => "204 No Content",
        "304" => "304 Not Modified",
        "503" => "503 No",
        _ => "200 OK",
    };
    let rest = match (deed, method) {
        ("204" | "304", _) => "\r\n",
        ("ch", "HEAD") => "Transfer-Encoding: chunked\r\n\r\n",
        ("ch", _) => "Transfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n2\r\nde\r\n0\r\nX-Id: bait\r\n\r\n",
        ("close", "HEAD") => "Connection: close\r\n\r\n",
        ("close", _) => "Connection: close\r\n\r\nuntil the end",
        ("extra", "GET" | "POST") => {
            "Content-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nX-Id: bait\r\nContent-Length: 0\r\n\r\n"
        }
        ("cut", _) => "Content-Length: 9\r\n\r\ncut",
        (_, "HEAD") => "Content-Length: 2\r\n\r\n",
        _ => "Content-Length: 2\r\n\r\nok",
    };
    socket.write_all(format!("HTTP/1.1 {status}\r\nX-Id: {id}\r\n{rest}").as_bytes()).ok()
}

fn plain(socket: &mut TcpStream, buf: &mut Vec<u8>, start: usize, len: usize) -> Option<Vec<u8>> {
    while buf.len() < start + len {
        more(socket, buf)?;
    }
    let body = buf[start..start + len].to_vec();
    buf.drain(..start + len);
    Some(body)
}

fn chunks(socket: &mut TcpStream, buf: &mut Vec<u8>, start: usize) -> Option<Vec<u8>> {
    let (mut at, mut body) = (start, Vec::new());
    loop {
        let line = loop {
            match find(&buf[at..], b"\r\n") {
                Some(len) => break len,
                None => more(socket, buf)?,
            }
        };
        let size = usize::from_str_radix(std::str::from_utf8(&buf[at..at + line]).ok()?, 16).ok()?;
        at += line + 2;
        while buf.len() < at + size + 2 {
            more(socket, buf)?;
        }
        body.extend_from_slice(&buf[at..at + size]);
        at += size + 2;
        if size == 0 {
            buf.drain(..at);
            return Some(body);
        }
    }
}

fn more(socket: &mut TcpStream, buf: &mut Vec<u8>) -> Option<()> {
    let mut bytes = [0; 16 * 1024];
    let count = socket.read(&mut bytes).ok().filter(|count| *count > 0)?;
    buf.extend_from_slice(&bytes[..count]);
    Some(())
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|part| part == what)
}

/// Into a few pieces; sometimes one, sometimes single bytes.
fn cut<'a>(bytes: &'a [u8], random: &mut Random) -> Vec<&'a [u8]> {
    let most = match random.below(6) {
        0 => 3,
        1 | 2 => 600,
        _ => usize::MAX / 2,
    };
    let mut rest = bytes;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rest.len().min(1 + random.below(most)));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}
