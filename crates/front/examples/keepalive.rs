//! What a keep-alive GET costs: `keepalive serve` prints its address; `keepalive load ADDRESS PID CONNECTIONS REQUESTS`
//! asks it that often and prints the server's CPU time a request, read from schedstat. `keepalive idle ADDRESS PID COUNT`
//! holds so many connections that have sent one request, and prints the memory of each.
#![allow(unreachable_pub, clippy::print_stdout)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use support::House;

const GET: &[u8] = b"GET /some/path?with=args HTTP/1.1\r\nHost: example.com\r\nUser-Agent: keepalive/1.0\r\nAccept: */*\r\n\r\n";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["serve"] => serve(),
        ["load", addr, pid, connections, requests] => load(addr, pid, number(connections), number(requests)),
        ["idle", addr, pid, count] => idle(addr, pid, number(count)),
        _ => eprintln!("serve | load ADDRESS PID CONNECTIONS REQUESTS | idle ADDRESS PID COUNT"),
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

fn serve() {
    let conf =
        "server { listen ADDR; set keepalive_requests 1000000000; location / { answer text 200 hello; } }";
    let plan = support::Plan { text: conf, connections: Some(100_000), ..Default::default() };
    let house = House::of(&plan);
    println!("{} {}", house.addr, std::process::id());
    let _ = std::io::stdin().read(&mut [0]);
}

fn load(addr: &str, pid: &str, connections: usize, requests: usize) {
    let mut streams: Vec<TcpStream> =
        (0..connections).map(|_| TcpStream::connect(addr).expect("a server")).collect();
    let mut round = |count: usize| {
        for _ in 0..count / connections {
            streams.iter_mut().for_each(|stream| stream.write_all(GET).expect("a server"));
            streams.iter_mut().for_each(answer);
        }
    };
    round(requests / 10);
    let (before, started) = (cpu_ns(pid), Instant::now());
    round(requests);
    let each = (cpu_ns(pid) - before) as f64 / requests as f64 / 1000.0;
    println!(
        "{each:.2} us of CPU a request, {:.0} requests a second",
        requests as f64 / started.elapsed().as_secs_f64()
    );
}

fn idle(addr: &str, pid: &str, count: usize) {
    let before = resident(pid);
    let streams: Vec<TcpStream> = (0..count)
        .map(|_| {
            let mut stream = TcpStream::connect(addr).expect("a server");
            stream.write_all(GET).expect("a server");
            answer(&mut stream);
            stream
        })
        .collect();
    println!("{} bytes a connection", (resident(pid) - before) / streams.len() as u64);
}

fn answer(stream: &mut TcpStream) {
    let mut bytes = [0; 1024];
    let mut have = 0;
    while !bytes[..have].ends_with(b"hello") {
        have += stream.read(&mut bytes[have..]).expect("an answer");
    }
}

/// CPU time of all threads of a process, ns.
fn cpu_ns(pid: &str) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let each = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok());
    each.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum()
}

fn resident(pid: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("a process");
    let line = text.lines().find(|line| line.starts_with("Rss:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("a number") * 1024
}
