//! `ssl_stapling` without a file: OCSP answers are fetched from the responder and renewed before they expire.
//!
//! As on nginx, a handshake that uses the certificate has it looked after: the first one finds no answer, and none waits for
//! one. What was fetched is kept over reloads. Fetching is done by a thread that lives as long as it takes; whatever a
//! responder does, it costs no request anything.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use ::tls::config::certificates::{Certificates, Watch};
use ::tls::config::verify::Trust;
use ::tls::ocsp::{Question, Status};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::log::{ErrorLog, Level};
use rustls::pki_types::UnixTime;
use wire::http1::{self, ResponseHead, ResponseLimits, Resume, Step};

/// How long a responder may take in all.
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);
/// How long one of its addresses may take to be connected to.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer, head and body, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Threads at a time; who finds them all busy tries again with the next handshake.
const FETCHES_MAX: usize = 8;
/// A stack for one of them.
const STACK_BYTES: usize = 256 * 1024;
/// No answer is asked for again sooner, seconds; also after a failure.
const PAUSE_S: u64 = 300;
/// Nor later, as long as the certificate is used.
const AGE_MAX_S: u64 = 3600;

static FETCHES: AtomicUsize = AtomicUsize::new(0);

/// Where a responder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Responder {
    pub(super) host: String,
    pub(super) port: u16,
    /// Begins with a slash.
    pub(super) uri: String,
    /// The host's addresses when the configuration was read: for when it has none any more.
    pub(super) addresses: Vec<SocketAddr>,
}

impl Responder {
    /// From a URL. The error is nginx's words between `"ssl_stapling" ignored,` and ` in OCSP responder`.
    pub(super) fn parse(url: &str) -> Result<Responder, &'static str> {
        let rest = url.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://"));
        let rest = rest.and_then(|_| url.get(7..)).ok_or("invalid URL prefix")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let colon = authority.rfind(':').filter(|colon| !authority[*colon..].contains(']'));
        let (host, port) = match colon {
            Some(colon) => {
                let port = authority[colon + 1..].parse().ok().filter(|port| *port > 0);
                (&authority[..colon], port.ok_or("invalid port")?)
            }
            None => (authority, 80),
        };
        if host.is_empty() || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("no host");
        }
        let uri = if path.is_empty() { "/" } else { path };
        Ok(Responder { host: host.to_owned(), port, uri: uri.to_owned(), addresses: Vec::new() })
    }

    /// The host without the brackets of an address.
    pub(super) fn host_name(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }
}

/// One certificate whose answer is fetched.
#[derive(Debug)]
pub(super) struct Stapler {
    pub(super) certificates: Weak<Certificates>,
    /// The certificate, DER.
    pub(super) leaf: Box<[u8]>,
    /// What messages call it.
    pub(super) name: String,
    pub(super) question: Question,
    pub(super) responder: Responder,
    /// `ssl_stapling_verify`: whom delegates of the issuer must come from.
    pub(super) verify: Option<Trust>,
    pub(super) log: Arc<ErrorLog>,
    /// When the answer is asked for again, and when the one there is expires, Unix seconds.
    due_s: AtomicU64,
    until_s: AtomicU64,
    fetching: AtomicBool,
}

/// An answer that outlives its configuration.
struct Kept {
    answer: Vec<u8>,
    due_s: u64,
    until_s: u64,
}

/// A certificate, and whether its answer was verified.
type Key = (Box<[u8]>, bool);

/// What was fetched, of all servers and configurations.
static KEPT: Mutex<BTreeMap<Key, Kept>> = Mutex::new(BTreeMap::new());

impl Stapler {
    pub(super) fn new(
        certificates: &Arc<Certificates>,
        leaf: &[u8],
        name: String,
        question: Question,
        responder: Responder,
        verify: Option<Trust>,
        log: Arc<ErrorLog>,
    ) -> Arc<Stapler> {
        let stapler = Stapler {
            certificates: Arc::downgrade(certificates),
            leaf: leaf.into(),
            name,
            question,
            responder,
            verify,
            log,
            due_s: AtomicU64::new(0),
            until_s: AtomicU64::new(0),
            fetching: AtomicBool::new(false),
        };
        stapler.take_kept(now_s());
        Arc::new(stapler)
    }

    fn key(&self) -> Key {
        (self.leaf.clone(), self.verify.is_some())
    }

    /// Staples what was fetched for another server or configuration; whether that is new enough.
    fn take_kept(&self, now: u64) -> bool {
        let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(kept) = kept.get(&self.key()).filter(|kept| kept.until_s > now) else { return false };
        self.put(Some(kept.answer.clone()));
        self.due_s.store(kept.due_s, Ordering::Relaxed);
        self.until_s.store(kept.until_s, Ordering::Relaxed);
        kept.due_s > now
    }

    /// A handshake uses the certificate: takes an expired answer away, and has a new one fetched when it is time.
    fn used(self: &Arc<Stapler>) {
        let now = now_s();
        if now < self.due_s.load(Ordering::Relaxed) || self.fetching.swap(true, Ordering::Relaxed) {
            return;
        }
        let until = self.until_s.load(Ordering::Relaxed);
        if until > 0 && until <= now {
            self.put(None);
            self.until_s.store(0, Ordering::Relaxed);
        }
        let may = |count: usize| (count < FETCHES_MAX).then_some(count + 1);
        let started = !self.take_kept(now)
            && FETCHES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, may).is_ok()
            && {
                let own = self.clone();
                let begun = thread::Builder::new()
                    .name("ocsp".to_owned())
                    .stack_size(STACK_BYTES)
                    .spawn(move || own.renew());
                if begun.is_err() {
                    FETCHES.fetch_sub(1, Ordering::Relaxed);
                }
                begun.is_ok()
            };
        if !started {
            self.fetching.store(false, Ordering::Relaxed);
        }
    }

    /// Fetches and judges, in a thread of its own.
    fn renew(&self) {
        // A panic of a parser would be the end of this certificate's answers, no more; the count must not suffer.
        let _running = Running(self);
        let judged = self.fetch().and_then(|answer| {
            let judged = self.question.judge(&answer, self.verify.as_ref(), UnixTime::now());
            let judged = judged.and_then(|judged| match judged.status {
                Status::Good => Ok(judged),
                other => Err(format!("certificate status \"{}\" in the OCSP response", other.word())),
            });
            judged.map(|good| (answer, good)).map_err(|why| (Level::Error, why))
        });
        let now = now_s();
        match judged {
            Ok((answer, good)) => {
                let until_s = good.until_s.unwrap_or(u64::MAX);
                let due_s = (now + AGE_MAX_S).min(until_s.saturating_sub(PAUSE_S)).max(now + PAUSE_S);
                self.put(Some(answer.clone()));
                self.until_s.store(until_s, Ordering::Relaxed);
                self.due_s.store(due_s, Ordering::Relaxed);
                let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
                kept.retain(|_, kept| kept.until_s > now);
                kept.insert(self.key(), Kept { answer, due_s, until_s });
            }
            Err((level, why)) => {
                self.due_s.store(now + PAUSE_S, Ordering::Relaxed);
                let (host, name) = (&self.responder.host, &self.name);
                self.log.write(
                    level,
                    format_args!(
                        "{why} while requesting certificate status, responder: {host}, certificate: \"{name}\""
                    ),
                );
            }
        }
    }

    fn put(&self, answer: Option<Vec<u8>>) {
        if let Some(certificates) = self.certificates.upgrade() {
            certificates.staple(&self.leaf, answer);
        }
    }

    fn fetch(&self) -> Result<Vec<u8>, (Level, String)> {
        let question =
            self.question.request().ok_or((Level::Crit, "i2d_OCSP_REQUEST() failed".to_owned()))?;
        ask(&self.responder, &question, Instant::now() + TIMEOUT)
            .map_err(|error| (Level::Error, words(&error)))
    }
}

/// nginx's words for a responder that gave no answer.
pub(super) fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "OCSP responder timed out".to_owned(),
        io::ErrorKind::UnexpectedEof => "OCSP responder prematurely closed connection".to_owned(),
        io::ErrorKind::InvalidData => format!("OCSP responder {error}"),
        _ => format!("connect() failed ({})", sys::errno::text(error)),
    }
}

/// A fetch, until it is over however it ends.
struct Running<'a>(&'a Stapler);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetching.store(false, Ordering::Relaxed);
        FETCHES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All of one server's.
#[derive(Debug)]
pub(super) struct Staplers(pub(super) Vec<Arc<Stapler>>);

impl Watch for Staplers {
    fn used(&self) {
        self.0.iter().for_each(Stapler::used);
    }
}

pub(super) fn now_s() -> u64 {
    http::clock::unix_ms() / 1000
}

/// Asks a responder, by GET as nginx does.
pub(super) fn ask(responder: &Responder, question: &[u8], deadline: Instant) -> io::Result<Vec<u8>> {
    let mut stream = connect(responder)?;
    let slash = if responder.uri.ends_with('/') { "" } else { "/" };
    let text = STANDARD.encode(question).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let (uri, host) = (&responder.uri, &responder.host);
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(format!("GET {uri}{slash}{text} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes())?;
    let mut received = Vec::new();
    let mut piece = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let count = stream.read(&mut piece)?;
        received.extend_from_slice(&piece[..count]);
        match body(&received, count == 0)? {
            Some(body) => return Ok(body),
            None if count == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            None if received.len() > ANSWER_BYTES_MAX => return Err(invalid("sent too long response")),
            None => {}
        }
    }
}

fn connect(responder: &Responder) -> io::Result<TcpStream> {
    // A name may have moved since the configuration was read.
    let found = (responder.host_name(), responder.port).to_socket_addrs().map(Iterator::collect);
    let addresses: Vec<SocketAddr> = found.unwrap_or_default();
    let addresses = if addresses.is_empty() { &responder.addresses } else { &addresses };
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect_timeout(address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The body, when all of it is there.
fn body(received: &[u8], is_all: bool) -> io::Result<Option<Vec<u8>>> {
    let mut head = ResponseHead::default();
    let limits = ResponseLimits { head_bytes_max: ANSWER_BYTES_MAX };
    let read = http1::response(received, &mut head, &mut Resume::default(), &limits);
    let start = match read {
        Ok(Step::Done(start)) => start,
        Ok(Step::More) => return Ok(None),
        Err(_) => return Err(invalid("sent invalid response")),
    };
    if head.status != 200 {
        return Err(invalid("sent a response that is not 200"));
    }
    if head.chunked {
        return Err(invalid("sent a chunked response"));
    }
    let rest = &received[start..];
    Ok(match head.content_length.and_then(|length| usize::try_from(length).ok()) {
        Some(length) => rest.get(..length).map(<[u8]>::to_vec),
        None => is_all.then(|| rest.to_vec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_responders() {
        let check = |url: &str, expected: Result<(&str, u16, &str), &str>| {
            let parsed = Responder::parse(url).map(|it| (it.host, it.port, it.uri));
            let expected = expected.map(|(host, port, uri)| (host.to_owned(), port, uri.to_owned()));
            assert_eq!(parsed, expected, "{url}");
        };
        check("http://ocsp.test", Ok(("ocsp.test", 80, "/")));
        check("HTTP://ocsp.test:8080/a/b", Ok(("ocsp.test", 8080, "/a/b")));
        check("http://[::1]:1/", Ok(("[::1]", 1, "/")));
        check("http://[::1]/x", Ok(("[::1]", 80, "/x")));
        check("https://ocsp.test/", Err("invalid URL prefix"));
        check("http:/", Err("invalid URL prefix"));
        check("http://a:0/", Err("invalid port"));
        check("http://a:x/", Err("invalid port"));
        check("http:///x", Err("no host"));
        check("http://a b/", Err("no host"));
        check("http://a/x\r\nY: z", Err("no host"));
    }

    #[test]
    fn bodies_of_answers() {
        let check = |received: &str, is_all: bool, expected: Result<Option<&str>, &str>| {
            let body = body(received.as_bytes(), is_all).map_err(|error| error.to_string());
            let expected = expected.map(|body| body.map(|body| body.as_bytes().to_vec()));
            assert_eq!(body, expected.map_err(str::to_owned), "{received}");
        };
        check("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", false, Ok(Some("abc")));
        check("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nab", true, Ok(None));
        check("HTTP/1.1 200 OK\r\n\r\nabc", false, Ok(None));
        check("HTTP/1.1 200 OK\r\n\r\nabc", true, Ok(Some("abc")));
        check("HTTP/1.1 200 OK\r\n", true, Ok(None));
        check("HTTP/1.1 404 No\r\n\r\n", false, Err("sent a response that is not 200"));
        check("nonsense\r\n\r\n", false, Err("sent invalid response"));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, Err("sent a chunked response"));
    }
}
