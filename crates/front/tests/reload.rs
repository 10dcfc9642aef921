//! Configurations and listeners that come and go while clients are there.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;

use http::Snapshot;
use support::{House, Plan, Talk, wait};
use tidegate_front::Leave;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const CLOSE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn conf(body: &str) -> String {
    format!(
        "server {{ listen ADDR; access_log access.log \"$request $status\"; error_log error.log;
           location / {{ answer text 200 {body}; }} location /soon {{ answer wait 300; }}
           location /wait {{ answer wait 60000; }} }}"
    )
}

/// Waits until every worker let go of the snapshot, and drops what they gave back: only then may it be freed.
fn freed(house: &House, snapshot: &Weak<Snapshot>, workers: usize) {
    wait(|| {
        let given = house.retired.lock().expect("no panic");
        given.iter().filter(|given| Weak::ptr_eq(&Arc::downgrade(given), snapshot)).count() == workers
    });
    assert!(snapshot.upgrade().is_some(), "no worker frees a snapshot");
    house.retired.lock().expect("no panic").clear();
    assert!(snapshot.upgrade().is_none(), "somebody else holds it");
}

fn install(house: &House, text: &str) -> Weak<Snapshot> {
    let snapshot = house.load(text);
    house.fleet().install(&snapshot);
    house.fleet().listen(vec![house.listening(None)]);
    Arc::downgrade(&snapshot)
}

#[test]
fn an_old_snapshot_is_given_back_with_its_last_request() {
    let text = conf("first");
    let house = House::of(&Plan { text: &text, workers: 3, ..Plan::default() });
    let second = install(&house, &conf("second"));
    let mut idle: Vec<Talk> = (0..6).map(|_| house.connect()).collect();
    for talk in &mut idle {
        talk.send(GET);
        assert_eq!(talk.until("second"), "200 OK|len 6|keep-alive||second");
    }
    let mut running = house.connect();
    running.send(b"GET /soon HTTP/1.1\r\nHost: a\r\n\r\n");
    wait(|| house.counts().requests == 1);
    let third = install(&house, &conf("third"));
    // Idle keep-alive connections hold nothing; the running request does until it ends, which on a busy machine may be
    // before we look.
    wait(|| {
        house
            .retired
            .lock()
            .expect("no panic")
            .iter()
            .filter(|old| Weak::ptr_eq(&Arc::downgrade(old), &second))
            .count()
            >= 2
    });
    assert_eq!(running.until("waited"), "200 OK|len 6|keep-alive||waited");
    freed(&house, &second, 3);
    running.send(GET);
    assert_eq!(running.until("third"), "200 OK|len 5|keep-alive||third");
    for talk in &mut idle {
        talk.send(CLOSE);
        assert_eq!(talk.rest(), "200 OK|len 5|close||third");
    }
    assert!(third.upgrade().is_some());
}

#[test]
fn what_outstays_the_shutdown_timeout_is_cut() {
    let house = House::new(&conf("first"));
    let old = install(&house, &conf("second"));
    let mut running = house.connect();
    running.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut head = house.connect();
    head.send(b"GET / HTTP/1.1\r\nHo");
    let mut silent = house.connect();
    let mut idle = house.connect();
    idle.send(GET);
    assert_eq!(idle.until("second"), "200 OK|len 6|keep-alive||second");
    wait(|| house.counts().connections == 4 && house.counts().requests == 1);
    let new = install(&house, &conf("third"));
    let generation = new.upgrade().expect("it serves").generation;
    house.fleet().retire(generation, &Leave::default());
    assert!(running.is_closed());
    assert!(head.is_closed());
    assert!(silent.is_closed());
    idle.send(CLOSE);
    assert_eq!(idle.rest(), "200 OK|len 5|close||third");
    freed(&house, &old, 1);
}

#[test]
fn a_listener_that_leaves_serves_who_came_before() {
    let house = House::new(&conf("first"));
    let mut silent = house.connect();
    let mut idle = house.connect();
    idle.send(GET);
    assert_eq!(idle.until("first"), "200 OK|len 5|keep-alive||first");
    wait(|| house.counts().connections == 2);
    // Another address: the old one is not in the new configuration.
    let snapshot = house.load("server { listen 127.0.0.2:1; answer text 200 other; }");
    house.fleet().install(&snapshot);
    assert!(idle.is_closed());
    let mut between = house.connect();
    house.fleet().listen(Vec::new());
    between.send(GET);
    // Its listener is gone, so it closes afterwards.
    assert_eq!(between.rest(), "200 OK|len 5|keep-alive||first");
    silent.send(GET);
    assert_eq!(silent.rest(), "200 OK|len 5|keep-alive||first");
    wait(|| house.retired.lock().expect("no panic").len() == 1);
    assert!(std::net::TcpStream::connect(house.addr).is_err());
}

#[test]
fn nobody_is_refused_while_listeners_come_and_go() {
    let text = conf("x");
    let house = House::of(&Plan { text: &text, workers: 3, connections: Some(1000), ..Plan::default() });
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(house.say(&[GET, CLOSE]), "200 OK|len 1|keep-alive||x200 OK|len 1|close||x");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..40 {
            let snapshot = house.load(&conf("x"));
            house.fleet().install(&snapshot);
            // Another listener joins and leaves; ours stays.
            let mut listening = vec![house.listening(None)];
            if round % 2 == 0 {
                listening.push(house.other_listening());
            }
            house.fleet().listen(listening);
            let before = served.load(Ordering::Relaxed);
            wait(|| served.load(Ordering::Relaxed) > before + 3);
        }
        stop.store(true, Ordering::Relaxed);
    });
    wait(|| house.counts().connections == 0);
    wait(|| house.retired.lock().expect("no panic").len() == 40 * 3);
}
