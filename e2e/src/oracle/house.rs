//! One proxy with several lanes, each a server with an upstream of its own, so that trials run side by side.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::config;
use super::parts::Then;
use super::trial::Trial;
use crate::outcome::normalise;
use crate::proxy::{Kind, Place, Proxy, whole};
use crate::raw::{End, Socket};

/// Between two pieces that are to be read apart.
const APART: Duration = Duration::from_millis(6);

/// A running proxy.
pub struct House {
    /// The process.
    pub proxy: Proxy,
    lanes: Vec<Ports>,
}

struct Ports {
    listener: TcpListener,
    names: [&'static str; 2],
    read: [usize; 2],
}

impl House {
    /// Starts a proxy with one lane for each configuration.
    pub fn start(kind: Kind, configs: &[String]) -> House {
        let names: Vec<[&'static str; 2]> = (0..configs.len()).map(port_names).collect();
        let place = Place::new(&names.concat());
        for (name, content) in config::FILES {
            place.dir.write(name, content.as_bytes());
        }
        place.dir.write("html/s/big.bin", &b"0123456789".repeat(7000));
        let listeners: Vec<TcpListener> = names.iter().map(|names| place.port(names[1]).listen()).collect();
        let text: String = configs.iter().enumerate().map(|(lane, text)| in_lane(lane, text)).collect();
        let proxy = Proxy::start(kind, place, &whole(&format!("{}{text}", config::FORMAT)));
        let lanes = listeners.into_iter().zip(names).map(|(listener, names)| {
            listener.set_nonblocking(true).expect("our own listener");
            Ports { listener, names, read: [0, 0] }
        });
        House { proxy, lanes: lanes.collect() }
    }

    /// Begins a trial in a lane.
    pub fn begin(&mut self, lane: usize, trial: &Trial) -> Side {
        let address = self.proxy.place.port(self.lanes[lane].names[0]).address();
        let client = Socket::connect(address).expect("the proxy listens");
        let pieces = trial.pieces();
        let pieces = pieces.iter().map(|piece| self.filled(lane, piece)).collect();
        let filled = |pieces: Vec<Vec<u8>>| pieces.iter().map(|piece| self.filled(lane, piece)).collect();
        let answers = trial.answers.iter().map(|answer| Reply {
            early: answer.early,
            pieces: filled(answer.pieces()),
            to_head: filled(answer.pieces_to_head()),
            then: answer.then,
        });
        let answers = answers.collect();
        Side {
            client: Some(client),
            sending: Sending::new(pieces),
            fin: trial.fin,
            got: Vec::new(),
            end: End::Open,
            ups: Vec::new(),
            answers,
            answered: 0,
        }
    }

    /// Accepts what has come for a lane and moves it on; false when nothing is left to send.
    pub fn turn(&mut self, lane: usize, side: &mut Side) -> bool {
        while let Ok((stream, _)) = self.lanes[lane].listener.accept() {
            side.ups.push(Up::new(Socket::over(stream).expect("an accepted stream takes options")));
        }
        side.turn()
    }

    /// What was seen so far.
    pub fn seen(&self, lane: usize, side: &Side) -> Seen {
        Seen {
            client: (self.text(lane, &side.got), side.end),
            ups: side.ups.iter().map(|up| (self.text(lane, up.socket.received()), up.end)).collect(),
            access: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// Access log and error log of the lane since the last time.
    pub fn logs(&mut self, lane: usize, keep: bool) -> [Vec<String>; 2] {
        let mut read = self.lanes[lane].read;
        let logs = [0, 1].map(|at| {
            let text = self.proxy.place.dir.read(&format!("{}-{lane}.log", ["access", "error"][at]));
            let new = text.get(read[at]..).unwrap_or_default().to_owned();
            read[at] = text.len();
            new.lines().map(|line| self.line(lane, line, at == 1)).collect()
        });
        if keep {
            self.lanes[lane].read = read;
        }
        logs
    }

    /// The listener of a lane, to wait for.
    pub fn listener(&self, lane: usize) -> &TcpListener {
        &self.lanes[lane].listener
    }

    fn line(&self, lane: usize, line: &str, is_error: bool) -> String {
        let line = self.without_names(lane, line.to_owned());
        if !is_error {
            return line;
        }
        // `2026/01/01 00:00:00 [info] 1#2: *3 client: 127.0.0.1:4`
        let from = line.find(" [").map_or(0, |at| at + 1);
        let line = &line[from..];
        let Some((level, rest)) = line.split_once("] ") else { return line.to_owned() };
        let rest = rest.split_once(": ").map_or(rest, |(_, rest)| rest);
        let rest =
            if rest.starts_with('*') { rest.split_once(' ').map_or(rest, |(_, rest)| rest) } else { rest };
        format!("{level}] {rest}")
    }

    fn text(&self, lane: usize, bytes: &[u8]) -> String {
        self.without_names(lane, normalise(bytes, &self.proxy.place))
    }

    fn without_names(&self, lane: usize, text: String) -> String {
        let text = crate::outcome::without_ports(text, &self.proxy.place);
        let [port, up] = self.lanes[lane].names;
        text.replace(&format!("%%{port}%%"), "%%PORT%%")
            .replace(&format!("%%{up}%%"), "%%U%%")
            .replace(&up_name(lane), "%%UP%%")
    }

    fn filled(&self, lane: usize, bytes: &[u8]) -> Vec<u8> {
        if !bytes.windows(2).any(|pair| pair == b"%%") {
            return bytes.to_vec();
        }
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        let text = self.proxy.place.fill(&in_lane(lane, &text));
        text.chars().map(|char| char as u32 as u8).collect()
    }
}

fn port_names(lane: usize) -> [&'static str; 2] {
    if lane == 0 {
        return ["PORT", "U"];
    }
    ["PORT", "U"].map(|name| &*Box::leak(format!("{name}{lane}").into_boxed_str()))
}

fn up_name(lane: usize) -> String {
    format!("up{lane:02}")
}

fn in_lane(lane: usize, text: &str) -> String {
    let [port, up] = port_names(lane);
    text.replace("%%PORT%%", &format!("%%{port}%%"))
        .replace("%%U%%", &format!("%%{up}%%"))
        .replace("%%UP%%", &up_name(lane))
        .replace("%%LANE%%", &lane.to_string())
}

/// What both neighbours saw, and what was logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The client.
    pub client: (String, End),
    /// The upstream's connections.
    pub ups: Vec<(String, End)>,
    /// Lines of the access log.
    pub access: Vec<String>,
    /// Lines of the error log, without time and numbers.
    pub errors: Vec<String>,
}

/// A trial as it goes at one proxy.
pub struct Side {
    client: Option<Socket>,
    sending: Sending,
    fin: bool,
    got: Vec<u8>,
    end: End,
    ups: Vec<Up>,
    answers: Vec<Reply>,
    answered: usize,
}

/// An answer, ready to be sent.
struct Reply {
    early: bool,
    pieces: Vec<Vec<u8>>,
    to_head: Vec<Vec<u8>>,
    then: Then,
}

struct Up {
    socket: Socket,
    /// Bytes of requests that were answered.
    consumed: usize,
    sending: Sending,
    then: Then,
    end: End,
    finished: bool,
    is_tunnel: bool,
}

impl Up {
    fn new(socket: Socket) -> Up {
        Up {
            socket,
            consumed: 0,
            sending: Sending::new(Vec::new()),
            then: Then::Stay,
            end: End::Open,
            finished: false,
            is_tunnel: false,
        }
    }
}

struct Sending {
    pieces: std::collections::VecDeque<Vec<u8>>,
    last: Option<Instant>,
}

impl Sending {
    fn new(pieces: Vec<Vec<u8>>) -> Sending {
        Sending { pieces: pieces.into(), last: None }
    }

    /// True when all is sent.
    fn turn(&mut self, socket: &mut Socket) -> bool {
        let now = Instant::now();
        if self.last.is_none_or(|last| now >= last + APART) {
            if let Some(piece) = self.pieces.pop_front() {
                socket.send(&piece);
                self.last = Some(now);
            }
        }
        self.pieces.is_empty()
    }
}

impl Side {
    /// Sockets to wait for.
    pub fn sockets(&self) -> impl Iterator<Item = &Socket> {
        self.client.iter().chain(self.ups.iter().map(|up| &up.socket))
    }

    /// Bytes and ends so far, to see whether anything happens.
    pub fn progress(&self) -> (usize, usize) {
        let bytes = self.got.len() + self.ups.iter().map(|up| up.socket.received().len()).sum::<usize>();
        let ends =
            usize::from(self.end != End::Open) + self.ups.iter().filter(|up| up.end != End::Open).count();
        (bytes, ends * 100 + self.ups.len())
    }

    /// Whether the proxy has left the client.
    pub fn is_ended(&self) -> bool {
        self.end != End::Open
    }

    /// The client goes; then the upstream ends what is still open, so that nothing stays in the proxy's pool.
    pub fn leave(&mut self) {
        if let Some(mut client) = self.client.take() {
            client.pump();
            self.got = client.received().to_vec();
        }
    }

    /// The upstream's directions end; true when the proxy has ended them too.
    pub fn leave_upstream(&mut self) -> bool {
        for up in &mut self.ups {
            up.socket.pump();
            if !up.finished {
                up.socket.fin();
                up.finished = true;
            }
        }
        self.ups.iter().all(|up| up.socket.end() != End::Open)
    }

    fn turn(&mut self) -> bool {
        let mut is_done = true;
        if let Some(client) = &mut self.client {
            is_done = self.sending.turn(client);
            if is_done && self.fin {
                client.fin();
                self.fin = false;
            }
            client.pump();
            self.got = client.received().to_vec();
            self.end = client.end();
        }
        for up in &mut self.ups {
            up.socket.pump();
            up.end = up.socket.end();
            if !up.sending.turn(&mut up.socket) {
                is_done = false;
                continue;
            }
            if up.then == Then::Close && up.sending.last.is_some() && !up.finished {
                up.socket.fin();
                up.finished = true;
            }
            if up.finished || up.is_tunnel {
                continue;
            }
            let reply = &self.answers[self.answered.min(self.answers.len() - 1)];
            if let Some(length) = request_length(&up.socket.received()[up.consumed..], reply.early) {
                let is_head = up.socket.received()[up.consumed..].starts_with(b"HEAD ");
                let pieces = if is_head { &reply.to_head } else { &reply.pieces };
                up.consumed = if reply.early { up.socket.received().len() } else { up.consumed + length };
                up.sending = Sending::new(pieces.clone());
                up.then = reply.then;
                up.is_tunnel = pieces.first().is_some_and(|piece| piece.starts_with(b"HTTP/1.1 101"));
                self.answered += 1;
                is_done = false;
            }
        }
        is_done
    }
}

/// Length of a whole request; of the head when that is enough or the body cannot be understood.
fn request_length(bytes: &[u8], head_only: bool) -> Option<usize> {
    let head = find(bytes, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    if head_only {
        return Some(head);
    }
    if field("transfer-encoding:").is_some_and(|value| value.contains("chunked")) {
        let rest = &bytes[head..];
        if rest.starts_with(b"0\r\n\r\n") {
            return Some(head + 5);
        }
        return find(rest, b"\r\n0\r\n\r\n").map(|at| head + at + 7);
    }
    let length = field("content-length:").and_then(|value| value.parse::<usize>().ok()).unwrap_or(0);
    (bytes.len() >= head + length).then_some(head + length)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|part| part == what)
}
