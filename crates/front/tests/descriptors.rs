//! All descriptors used up. Alone in its process, because the limit is the process's.

mod support;

use std::fs::File;
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{House, Talk, wait};

#[test]
fn accepting_pauses_and_goes_on() {
    let house = House::new("server { listen ADDR; location / { answer text 200 hi; } }");
    let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(house.say(&[get]), "200 OK|len 2|keep-alive||hi");
    wait(|| house.counts().connections == 0);
    setrlimit(Resource::Nofile, Rlimit { current: Some(200), ..getrlimit(Resource::Nofile) })
        .expect("a lower limit");
    // The client's own descriptor is the last one.
    let mut hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    drop(hoard.pop());
    let mut waiting = Talk::new(TcpStream::connect(house.addr).expect("the kernel accepts"));
    waiting.send(get);
    // Reading the log would take a descriptor. Two pauses of 500 ms fit in here, and they are to leave one line.
    std::thread::park_timeout(Duration::from_millis(1200));
    drop(hoard);
    assert_eq!(waiting.finish(), "200 OK|len 2|keep-alive||hi");
    assert_eq!(house.say(&[get]), "200 OK|len 2|keep-alive||hi");
    let log = house.log("accept.log");
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(
        log.contains("[crit]") && log.contains("accept4() failed (24: Too many open files) on 127.0.0.1:"),
        "{log}"
    );
}
