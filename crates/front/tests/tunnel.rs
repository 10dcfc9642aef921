//! The hand-over: what was sent early arrives, and the log line knows the end.

mod support;

use std::net::Shutdown;

use support::{House, Plan, wait};
use tidegate_front::Leave;

const CONF: &str = r#"server {
    listen ADDR;
    access_log access.log "$request $status $request_length $bytes_sent $body_bytes_sent $upstream_bytes_received $upstream_bytes_sent $complete";
    error_log error.log;
    location / { answer tunnel ""; }
    location /early { answer tunnel early; }
    location /large { answer tunnel "" 16000000; }
    location /text { answer text 200 hi; }
}"#;

const HEAD: &str = "101 Switching Protocols|upgrade|Upgrade: test||";

fn upgrade(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: test\r\nConnection: upgrade\r\n\r\n")
}

/// Length of a 101 on the wire.
fn head_bytes() -> usize {
    "HTTP/1.1 101 Switching Protocols\r\nServer: nginx/1.31.5\r\nDate: Mon, 23 Nov 2026 01:15:45 GMT\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\n".len()
}

fn house() -> House {
    House::of(&Plan { text: CONF, workers: 2, connections: Some(100), ..Plan::default() })
}

#[track_caller]
fn check(path: &str, pieces: &[&str], came: &str, early: usize) {
    let house = house();
    let mut talk = house.connect();
    let head = upgrade(path);
    talk.send(format!("{head}{}", pieces[0]).as_bytes());
    for piece in &pieces[1..] {
        talk.send(piece.as_bytes());
    }
    assert_eq!(talk.finish(), format!("{HEAD}{came}"), "{path} {pieces:?}");
    let line = house.lines("access.log", 1);
    let (sent, echoed) = (head_bytes() + came.len(), came.len() - early);
    let expected = format!(
        "GET {path} HTTP/1.1 101 {} {sent} {} {} {} OK\n",
        head.len(),
        came.len(),
        100 + came.len(),
        10 + echoed
    );
    assert_eq!(line, expected);
    wait(|| house.counts() == tidegate_front::Counts::default());
    wait(|| house.fleet().loads() == [0, 0]);
}

#[test]
fn early_bytes_of_both_sides_arrive() {
    check("/", &[""], "", 0);
    check("/", &["hello"], "hello", 0);
    check("/", &["", "hello"], "hello", 0);
    check("/early", &[""], "early", 5);
    check("/early", &["and", " late"], "earlyand late", 5);
    let large = "x".repeat(200_000);
    check("/", &["", &large], &large, 0);
    check("/", &[&large], &large, 0);
}

#[test]
fn a_tunnel_behind_other_requests() {
    let house = house();
    let text = "GET /text HTTP/1.1\r\nHost: a\r\n\r\n";
    let came = house.say(&[format!("{text}{text}{}ping", upgrade("/")).as_bytes()]);
    assert_eq!(came, format!("200 OK|len 2|keep-alive||hi200 OK|len 2|keep-alive||hi{HEAD}ping"));
}

/// The client reads nothing at first, and the 101 is larger than its socket takes: the rest goes through the relay.
#[test]
fn a_101_that_the_socket_does_not_take() {
    let house = house();
    let mut talk = house.connect();
    talk.send(format!("{}early", upgrade("/large")).as_bytes());
    wait(|| house.counts().tunnels == 1);
    talk.send(b" and late");
    let came = talk.finish();
    assert!(came.starts_with("101 Switching Protocols|upgrade|Upgrade: test|X: xxx"), "{}", &came[..100]);
    assert!(came.ends_with("xxx||early and late"), "{}", came.len());
    assert!(came.len() > LARGE);
    let line = house.lines("access.log", 1);
    let sent = head_bytes() + "X: \r\n".len() + LARGE + "early and late".len();
    assert!(line.contains(&format!(" {sent} {} ", "early and late".len())), "{line}");
}

const LARGE: usize = 16_000_000;

/// A tunnel is work for its worker as a connection is: they are spread also when they come one by one.
#[test]
fn tunnels_are_spread_over_the_workers() {
    let house = house();
    let talks: Vec<_> = (1..=6)
        .map(|count| {
            let mut talk = house.connect();
            talk.send(upgrade("/").as_bytes());
            talk.until("\r\n\r\n");
            wait(|| house.fleet().tunnels().iter().sum::<u64>() == count);
            wait(|| house.fleet().loads() == [0, 0]);
            talk
        })
        .collect();
    assert_eq!(house.fleet().tunnels(), [3, 3]);
    drop(talks);
}

#[test]
fn counts_and_stop() {
    let house = house();
    let talks: Vec<_> = (0..5)
        .map(|_| {
            let mut talk = house.connect();
            talk.send(upgrade("/").as_bytes());
            talk.until("\r\n\r\n");
            talk
        })
        .collect();
    wait(|| house.counts().tunnels == 5);
    assert_eq!((house.counts().connections, house.counts().requests), (0, 0));
    wait(|| house.fleet().loads() == [0, 0]);
    // One goes by its own wish, the others are told to.
    talks[0].0.shutdown(Shutdown::Both).expect("a socket");
    wait(|| house.counts().tunnels == 4);
    house.fleet().quit(&Leave::default());
    wait(|| house.counts() == tidegate_front::Counts::default());
    assert_eq!(house.log("access.log").lines().count(), 5);
}
