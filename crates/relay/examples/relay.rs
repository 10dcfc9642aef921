//! A bare relay, to measure the engine without a proxy around it: it passes the two heads of a handshake on as they are and
//! gives the tunnel to a loop.
//!
//! `relay LISTEN UPSTREAM...` (ports on 127.0.0.1), or `relay -c nginx.conf` for the benchmark: then the ports are those
//! of the file's `listen` and of its `upstream sockets`.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use tidegate_relay::{Budget, End, Handover, Keep, Limits, Loop, Plan, Remote, Report, Timers};

struct Forget;

impl Keep for Forget {
    fn ended(self: Box<Self>, _: Report) {}
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "-V") {
        println!("relay engine alone");
        return Ok(());
    }
    let (listen, upstreams) = ports(&arguments)?;
    sys::limits::raise_descriptor_limit()?;
    sys::limits::grow_descriptor_table(20_000)?;
    let listener = TcpListener::bind(("127.0.0.1", listen))?;
    sys::listen::set_backlog(&listener, 4096)?;
    let (looped, remote) = Loop::new(Budget::new(64 << 20))?;
    std::thread::spawn(move || looped.run());
    let mut turn = 0;
    for client in listener.incoming() {
        turn += 1;
        // Whoever sends nonsense loses its connection and nobody else's.
        let _ = hand_over(client?, upstreams[turn % upstreams.len()], &remote);
    }
    Ok(())
}

fn hand_over(mut client: TcpStream, upstream: u16, remote: &Remote) -> io::Result<()> {
    let (request, early) = head(&mut client)?;
    if !request.starts_with(b"GET /ws/") {
        return Ok(());
    }
    let mut upstream = TcpStream::connect(("127.0.0.1", upstream))?;
    upstream.set_nodelay(true)?;
    client.set_nodelay(true)?;
    upstream.write_all(&request)?;
    let (response, leftover) = head(&mut upstream)?;
    client.write_all(&response)?;
    let hour = 3_600_000;
    let timers = Timers { idle_ms: hour, send_client_ms: 60_000, send_upstream_ms: 60_000, fin_ms: 10_000 };
    let limits = Limits { buffer_bytes_max: 65_536 };
    let plan = Plan { limits, timers, scan: true, goodbye: None, keep: Box::new(Forget) };
    let client = End { leftover: early, ..End::new(client.into()) };
    let upstream = End { leftover, ..End::new(upstream.into()) };
    let _ = remote.insert(Handover { client, upstream, plan });
    Ok(())
}

/// A head with its empty line, and what came behind it.
fn head(stream: &mut TcpStream) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer)?;
        bytes.extend_from_slice(&buffer[..count]);
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(at + 4);
            return Ok((bytes, rest));
        }
        if count == 0 || bytes.len() > 65_536 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

fn ports(arguments: &[String]) -> io::Result<(u16, Vec<u16>)> {
    let text = match arguments {
        [flag, file, ..] if flag == "-c" => std::fs::read_to_string(file)?,
        [listen, upstreams @ ..] => {
            let servers: String = upstreams.iter().map(|port| format!("server 127.0.0.1:{port}; ")).collect();
            format!("listen 127.0.0.1:{listen}; upstream sockets {{ {servers} }}")
        }
        [] => String::new(),
    };
    let port = |text: &str| text.split([';', ' ', '\n']).next().and_then(|port| port.parse::<u16>().ok());
    let after = |text: &str, word: &str| -> Vec<u16> { text.split(word).skip(1).filter_map(port).collect() };
    let sockets = text.split("upstream sockets {").nth(1).and_then(|text| text.split('}').next());
    let upstreams = after(sockets.unwrap_or_default(), "server 127.0.0.1:");
    match after(&text, "listen 127.0.0.1:").first() {
        Some(listen) if !upstreams.is_empty() => Ok((*listen, upstreams)),
        _ => Err(io::Error::other("usage: relay LISTEN UPSTREAM... | relay -c nginx.conf")),
    }
}
