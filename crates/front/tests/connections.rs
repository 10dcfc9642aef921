//! Time, limits, and clients that come, stall and go.

mod support;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use support::{House, Plan, Talk, wait};
use tidegate_front::Leave;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HI: &str = "200 OK|len 2|keep-alive||hi";

fn conf(limits: &str) -> String {
    format!(
        r#"server {{
            listen ADDR;
            access_log access.log "$request $status $body_bytes_sent";
            error_log error.log;
            {limits}
            location / {{ answer text 200 hi; }}
            location /echo {{ answer echo; }}
            location /wait {{ answer wait 60000; }}
            location /soon {{ answer wait 300; }}
            location /big {{ answer stream 4000 16384 0; }}
            location /large {{ answer large 20000000; }}
            location /panic {{ answer panic; }}
            location /turn {{ answer turn; }}
        }}"#
    )
}

/// Sends the pieces, waits for the server to close, and says how long that took, at least `ms`.
#[track_caller]
fn closes_after(house: &House, pieces: &[&[u8]], ms: u64, expected: &str) {
    let mut talk = house.connect();
    let started = Instant::now();
    for piece in pieces {
        talk.send(piece);
    }
    assert_eq!(talk.rest(), expected);
    // Both sides of a deadline are read off clocks that tick every few milliseconds.
    let took = started.elapsed();
    assert!(took + Duration::from_millis(10) >= Duration::from_millis(ms), "{took:?}");
    assert!(took < Duration::from_millis(ms) + Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_connection_that_is_idle_closes() {
    let house = House::new(&conf("set keepalive_timeout 150; set client_header_timeout 60000;"));
    closes_after(&house, &[GET], 150, HI);
    closes_after(&house, &[GET, GET], 150, &HI.repeat(2));
    assert_eq!(house.log("access.log").lines().count(), 3);
}

#[test]
fn a_head_that_does_not_come() {
    let house = House::new(&conf("set keepalive_timeout 60000; set client_header_timeout 150;"));
    closes_after(&house, &[], 150, "");
    assert_eq!(house.log("access.log"), "");
    closes_after(&house, &[b"GET / HT"], 150, "");
    closes_after(&house, &[GET, b"GET / HTTP/1.1\r\nHost"], 150, HI);
    assert_eq!(house.lines("access.log", 3), "GET / HT 408 0\nGET / HTTP/1.1 200 2\nGET / HTTP/1.1 408 0\n");
    let log = house.log("error.log");
    assert!(
        log.contains("client timed out (110: Connection timed out) while reading client request line"),
        "{log}"
    );
    assert!(
        log.contains("client timed out (110: Connection timed out) while reading client request headers"),
        "{log}"
    );
}

#[test]
fn a_head_that_drips_is_as_late() {
    let house = House::new(&conf("set client_header_timeout 300;"));
    let mut talk = house.connect();
    let started = Instant::now();
    talk.0.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
    talk.send(b"GET / HTTP/1.1\r\n");
    let mut byte = [0];
    while !matches!(talk.0.read(&mut byte), Ok(0)) {
        assert!(started.elapsed() < Duration::from_secs(5), "each byte gave it more time");
        if talk.0.write_all(b"a").is_err() {
            break;
        }
    }
    assert!(started.elapsed() >= Duration::from_millis(280));
}

#[test]
fn a_body_that_does_not_come() {
    let house = House::new(&conf("set client_body_timeout 150;"));
    let head = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc";
    closes_after(&house, &[head], 150, "");
    assert_eq!(house.lines("access.log", 1), "POST /echo HTTP/1.1 408 0\n");
    assert!(house.log("error.log").contains("while reading client request body"));
    // It may take longer as a whole.
    let mut talk = house.connect();
    talk.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n");
    for byte in [b"a", b"b", b"c", b"d"] {
        std::thread::park_timeout(Duration::from_millis(60));
        talk.send(byte);
    }
    assert_eq!(talk.finish(), "200 OK|len 4|keep-alive||abcd");
}

#[test]
fn a_body_nobody_reads_has_its_time() {
    let house = House::new(&conf("set lingering_timeout 150; set lingering_time 60000;"));
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc";
    closes_after(&house, &[head], 150, HI);
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 9\r\n\r\nabc";
    let mut talk = house.connect();
    talk.send(head);
    assert_eq!(talk.rest(), "200 OK|len 2|close||hi");
    wait(|| house.counts().connections == 0);
}

#[test]
fn a_client_that_never_reads() {
    let house = House::new(&conf("set send_timeout 300; set reset_timedout_connection on;"));
    let mut talk = house.connect();
    talk.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    let line = house.lines("access.log", 1);
    let sent: u64 = line.split(' ').next_back().and_then(|count| count.trim().parse().ok()).expect("a count");
    assert!(line.starts_with("GET /big HTTP/1.1 200 "), "{line}");
    // What the kernel took is bounded by its buffers, so the streamer had to wait.
    assert!(sent < 30 << 20, "{sent} bytes of 64 MB");
    assert!(
        house
            .log("error.log")
            .contains("client timed out (110: Connection timed out) while sending to client")
    );
    assert!(talk.rest().ends_with("RESET"));
}

#[test]
fn a_client_that_sends_all_before_it_reads() {
    let house = House::new(&conf("set client_max_body_size 0; set send_timeout 60000;"));
    let mut talk = house.connect();
    talk.send(b"POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 33554432\r\n\r\n");
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..32 {
        talk.0.write_all(&piece).expect("the body is taken while the response waits for its reader");
    }
    let mut all = Vec::new();
    talk.0.shutdown(std::net::Shutdown::Write).expect("a socket");
    talk.0.read_to_end(&mut all).expect("no reset");
    assert!(all.len() > 20_000_000);
}

#[test]
fn a_client_that_goes_while_a_handler_waits() {
    let house = House::new(&conf("error_log error.log;"));
    for behind in [&b""[..], b"GET / HTTP/1.1\r\n", &[b'x'; 5000]] {
        let mut talk = house.connect();
        let count = house.log("access.log").lines().count();
        talk.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
        wait(|| house.counts().requests == 1);
        talk.send(behind);
        drop(talk);
        let log = house.lines("access.log", count + 1);
        assert_eq!(log.lines().last(), Some("GET /wait HTTP/1.1 499 0"));
        wait(|| house.counts().requests == 0 && house.counts().connections == 0);
    }
}

#[test]
fn what_came_while_a_handler_waited_is_read_afterwards() {
    let house = House::new(&conf(""));
    // The last ones are more than one read takes, without a byte after them to wake anybody.
    for count in [0, 1, 3, 200, 600] {
        let mut talk = house.connect();
        talk.send(b"GET /soon HTTP/1.1\r\nHost: a\r\n\r\n");
        wait(|| house.counts().requests == 1);
        talk.send(&GET.repeat(count));
        talk.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let expected = format!("200 OK|len 6|keep-alive||waited{}200 OK|len 2|close||hi", HI.repeat(count));
        assert!(talk.rest() == expected, "{count} requests");
    }
    let mut talk = house.connect();
    talk.send(b"GET /soon HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(talk.until("waited"), "200 OK|len 6|keep-alive||waited");
    talk.send(GET);
    assert_eq!(talk.finish(), HI);
}

/// Others get their turn between requests that came in one piece.
#[test]
fn requests_that_come_together_are_served_in_several_turns() {
    const REQUESTS: usize = 400;
    const MOST: usize = 16;
    let house = House::new(&conf(""));
    let request = "GET /turn HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut talk = house.connect();
    talk.send(request.repeat(REQUESTS).as_bytes());
    let answers = talk.finish();
    let turns = answers.split("turn ").skip(1).filter_map(|rest| rest.split(';').next());
    let turns: Vec<&str> = turns.collect();
    assert_eq!(turns.len(), REQUESTS, "{answers}");
    let most = turns.chunk_by(|one, other| one == other).map(<[_]>::len).max();
    assert!(most <= Some(MOST), "{most:?} in one turn");
}

#[test]
fn a_panic_costs_one_connection() {
    let house = House::new(&conf(""));
    let mut other = house.connect();
    other.send(GET);
    assert_eq!(other.until("hi"), HI);
    for _ in 0..20 {
        assert_eq!(house.say(&[b"GET /panic HTTP/1.1\r\nHost: a\r\n\r\n"]), "");
    }
    other.send(GET);
    assert_eq!(other.finish(), HI);
    wait(|| house.counts().connections == 0 && house.counts().requests == 0);
}

#[test]
fn no_more_connections_than_allowed() {
    let text = conf("");
    let plan = Plan { text: &text, workers: 2, connections: Some(4), ..Plan::default() };
    let house = House::of(&plan);
    let mut held: Vec<Talk> = (0..8).map(|_| house.connect()).collect();
    for talk in &mut held {
        talk.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    wait(|| house.counts().connections == 8 && house.counts().requests == 8);
    let mut refused = house.connect();
    assert!(refused.is_closed());
    wait(|| {
        house.log("accept.log").contains("[alert] ")
            && house.log("accept.log").contains("8 worker_connections are not enough")
    });
    drop(held.pop());
    wait(|| house.counts().connections == 7);
    assert_eq!(house.say(&[GET]), HI);
    drop(held);
    wait(|| house.counts().connections == 0);
}

#[test]
fn who_only_waits_makes_room() {
    let text = conf("");
    let plan = Plan { text: &text, workers: 1, connections: Some(8), ..Plan::default() };
    let house = House::of(&plan);
    let mut busy = house.connect();
    busy.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    wait(|| house.counts().requests == 1);
    let mut held: Vec<Talk> = Vec::new();
    for _ in 0..20 {
        let mut talk = house.connect();
        talk.send(GET);
        assert_eq!(talk.until("hi"), HI);
        held.push(talk);
    }
    assert!(held.drain(..12).all(|mut talk| talk.is_closed()), "the oldest go first");
    wait(|| house.counts().requests == 1);
    assert!(house.log("accept.log").contains("[warn] "));
    assert!(!house.log("accept.log").contains("[alert] "));
}

#[test]
fn connections_are_spread_over_the_workers() {
    let text = conf("");
    let plan = Plan { text: &text, workers: 4, connections: Some(100), ..Plan::default() };
    let house = House::of(&plan);
    // Short ones first: their load must be gone afterwards.
    for _ in 0..40 {
        assert_eq!(house.say(&[GET]), HI);
    }
    wait(|| house.counts().connections == 0);
    assert_eq!(house.fleet().loads(), [0, 0, 0, 0]);
    let mut held: Vec<Talk> = (0..40).map(|_| house.connect()).collect();
    for talk in &mut held {
        talk.send(GET);
        assert_eq!(talk.until("hi"), HI);
    }
    assert_eq!(house.fleet().loads(), [10, 10, 10, 10]);
    drop(held);
    wait(|| house.fleet().loads() == [0, 0, 0, 0]);
}

#[test]
fn quitting_closes_what_is_idle_and_finishes_what_runs() {
    let house = House::new(&conf(""));
    let mut idle = house.connect();
    idle.send(GET);
    assert_eq!(idle.until("hi"), HI);
    let mut silent = house.connect();
    let mut running = house.connect();
    running.send(b"GET /soon HTTP/1.1\r\nHost: a\r\n\r\n");
    wait(|| house.counts().requests == 1 && house.counts().connections == 3);
    house.fleet().quit(&Leave::default());
    assert!(idle.is_closed());
    assert_eq!(running.rest(), "200 OK|len 6|close||waited");
    // Who was accepted and has said nothing yet is still answered, as on nginx.
    silent.send(GET);
    assert_eq!(silent.rest(), "200 OK|len 2|close||hi");
    wait(|| house.counts().connections == 0);
    assert!(std::net::TcpStream::connect(house.addr).is_err());
}

#[test]
fn other_kinds_of_addresses() {
    let text = "server { listen ADDR; access_log access.log $remote_addr; location / { answer text 200 hi; } location /to/ { answer text 200 hi; } }";
    // Containers commonly have no IPv6.
    let has_v6 = std::net::UdpSocket::bind("[::1]:0").is_ok();
    for (on, peer) in [("::1", "::1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1")] {
        if on.contains(':') && !has_v6 {
            continue;
        }
        let house = House::of(&Plan { text, on, ..Plan::default() });
        let at = std::net::SocketAddr::new(peer.parse().expect("an address"), house.addr.port());
        let mut talk = Talk::new(std::net::TcpStream::connect(at).expect("a connection"));
        talk.send(GET);
        assert_eq!(talk.finish(), HI, "{on}");
        assert_eq!(house.lines("access.log", 1), format!("{peer}\n"));
    }
    let house = House::of(&Plan { text, on: "unix", ..Plan::default() });
    let mut socket = std::os::unix::net::UnixStream::connect(house.unix()).expect("a connection");
    socket.write_all(GET).expect("a socket");
    socket.shutdown(std::net::Shutdown::Write).expect("a socket");
    let mut came = Vec::new();
    socket.read_to_end(&mut came).expect("a response");
    assert_eq!(support::short(&came), HI);
    assert_eq!(house.lines("access.log", 1), "unix:\n");
}

#[test]
fn a_proxy_header_comes_first() {
    let text = "server { listen ADDR proxy_protocol; access_log access.log $proxied; location / { answer text 200 hi; } }";
    let house = House::new(text);
    let header = "PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n";
    let rows = [
        (
            vec![format!("{header}{}", String::from_utf8_lossy(GET))],
            HI.to_owned(),
            "192.0.2.1:5000 192.0.2.2:80",
        ),
        (
            header
                .split_inclusive("1 ")
                .map(str::to_owned)
                .chain([String::from_utf8_lossy(&GET.repeat(2)).into_owned()])
                .collect(),
            HI.repeat(2),
            "192.0.2.1:5000 192.0.2.2:80",
        ),
        (vec!["PROXY UNKNOWN\r\n".to_owned(), String::from_utf8_lossy(GET).into_owned()], HI.to_owned(), "-"),
    ];
    for (pieces, expected, line) in rows {
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
        let count = house.log("access.log").lines().count();
        assert_eq!(house.say(&pieces), expected);
        assert_eq!(house.lines("access.log", count + 1).lines().last(), Some(line));
    }
    let count = house.log("access.log").lines().count();
    assert!(matches!(house.say(&[GET]).as_str(), "" | "RESET"));
    assert_eq!(house.say(&[header.as_bytes()]), "");
    assert_eq!(house.say(&[b"PROXY TC"]), "");
    assert_eq!(house.log("access.log").lines().count(), count);
}
