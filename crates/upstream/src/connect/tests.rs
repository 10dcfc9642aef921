use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::task::Poll;

use super::*;

fn run<T>(future: impl Future<Output = T>) -> T {
    reactor::Reactor::new().unwrap().run(&(), future)
}

fn tcp(listener: &TcpListener) -> PeerAddr {
    PeerAddr::Tcp(listener.local_addr().unwrap())
}

fn unix(path: &Path) -> PeerAddr {
    PeerAddr::Unix(path.into())
}

/// An address nobody listens on, and not one that the kernel may give to another test.
fn closed_port() -> PeerAddr {
    PeerAddr::Tcp("127.0.0.1:1".parse().unwrap())
}

/// A path for a socket of this test.
fn socket_path(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("tidegate-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

#[track_caller]
fn check(addr: &PeerAddr, options: &ConnectOptions, text: &str, blame: Blame, level: Level, may_retry: bool) {
    let error = run(connect(addr, options)).unwrap_err();
    assert_eq!(error.to_string(), text);
    assert_eq!((error.blame(), error.level(), error.may_retry()), (blame, level, may_retry), "{text}");
}

#[test]
fn errors_in_nginx_words() {
    let plain = ConnectOptions::default();
    let refused = "connect() failed (111: Connection refused)";
    check(&closed_port(), &plain, refused, Blame::Upstream, Level::Error, true);

    let missing = socket_path("missing");
    let text = format!("connect() to unix:{} failed (2: No such file or directory)", missing.display());
    check(&unix(&missing), &plain, &text, Blame::Upstream, Level::Crit, true);

    // TEST-NET-1 is no address of this machine.
    let foreign = ConnectOptions { local: Some("192.0.2.77:0".parse().unwrap()), ..plain.clone() };
    let text = "bind(192.0.2.77) failed (99: Cannot assign requested address)";
    check(&closed_port(), &foreign, text, Blame::Us, Level::Crit, false);
}

#[test]
fn this_machine_is_not_waited_for() {
    let check = |addr: &PeerAddr, at_once: bool| {
        let socket = open(addr, &ConnectOptions::default()).unwrap();
        assert_eq!(matches!(begin(&socket, addr), Ok(Begun::Connected)), at_once, "{addr}");
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    check(&tcp(&listener), true);
    check(&closed_port(), false);
}

#[test]
fn timeouts_are_told_from_errors() {
    // A full accept queue: the kernel drops the handshake, as a peer behind a silent firewall would.
    let listener = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let addr = PeerAddr::Tcp(listener.local_addr().unwrap().as_socket().unwrap());
    let options = ConnectOptions { timeout_ms: 100, ..ConnectOptions::default() };
    let error = run(async {
        let mut queued = Vec::new();
        loop {
            match connect(&addr, &options).await {
                Ok(mut connection) if queued.len() < 8 => {
                    // Only with the first bytes the other side hears that it is connected.
                    connection.write_all(b"x").await.unwrap();
                    queued.push(connection);
                }
                Ok(_) => panic!("the queue never fills"),
                Err(error) => break error,
            }
        }
    });
    assert!(error.is_timeout());
    assert_eq!(error.to_string(), "upstream timed out (110: Connection timed out)");
    assert_eq!((error.blame(), error.level()), (Blame::Upstream, Level::Error));
}

#[test]
fn the_local_address_is_used() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = ConnectOptions { local: Some("127.0.0.9:0".parse().unwrap()), ..ConnectOptions::default() };
    let _connection =
        run(async { connect(&tcp(&listener), &options).await.map(|c| c.into_parts()) }).unwrap();
    assert_eq!(listener.accept().unwrap().1.ip().to_string(), "127.0.0.9");
}

#[test]
fn a_bound_address_shares_its_ports_between_destinations() {
    // Which port a connection gets is the kernel's business; what shows is that bind leaves the choice to connect.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = Some("127.0.0.1:0".parse().unwrap());
    let socket = open(&tcp(&listener), &ConnectOptions { local, ..ConnectOptions::default() }).unwrap();
    assert_eq!(socket.local_addr().unwrap().as_socket().unwrap().port(), 0, "bind chose no port yet");
}

#[test]
fn socket_options_are_set() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let seconds = |s| Some(Duration::from_secs(s));
    let keepalive = Keepalive { idle: seconds(33), interval: seconds(7), count: Some(3) };
    for (nodelay, keepalive) in [(true, None), (false, Some(keepalive)), (true, Some(Keepalive::default()))] {
        let options = ConnectOptions { nodelay, keepalive, ..ConnectOptions::default() };
        let fd = run(async { connect(&tcp(&listener), &options).await.unwrap().into_parts() }).unwrap().0;
        let socket = socket2::SockRef::from(&fd);
        assert_eq!(socket.tcp_nodelay().unwrap(), nodelay);
        assert_eq!(socket.keepalive().unwrap(), keepalive.is_some());
        if let Some(Keepalive { idle: Some(idle), .. }) = keepalive {
            assert_eq!(socket.tcp_keepalive_time().unwrap(), idle);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(7));
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        }
    }
}

/// Bytes go both ways, over the connection and then over the descriptor it gives up.
fn exchange(addr: &PeerAddr, accept: impl FnOnce() -> Box<dyn ReadWrite>) {
    let fd = run(async {
        let mut connection = connect(addr, &ConnectOptions::default()).await.unwrap();
        let mut peer = accept();
        connection.write_all(b"ping").await.unwrap();
        let mut bytes = [0; 8];
        peer.read_exact(&mut bytes[..4]).unwrap();
        peer.write_all(b"pong!").unwrap();
        assert_eq!(connection.read(&mut bytes).await.unwrap(), 5);
        assert_eq!(&bytes[..5], b"pong!");
        let waits = poll_fn(|cx| Poll::Ready(connection.poll_read(cx, &mut bytes).is_pending())).await;
        assert!(waits);
        drop(peer);
        assert_eq!(connection.read(&mut bytes).await.unwrap(), 0);
        assert_eq!((connection.counters.sent_bytes, connection.counters.received_bytes), (4, 5));
        connection.into_parts()
    })
    .unwrap()
    .0;
    let flags = rustix::fs::fcntl_getfl(&fd).unwrap();
    assert!(flags.contains(rustix::fs::OFlags::NONBLOCK), "the relay expects a nonblocking descriptor");
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

#[test]
fn tcp_and_unix_carry_bytes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    exchange(&tcp(&listener), || Box::new(listener.accept().unwrap().0));

    let path = socket_path("echo");
    let listener = UnixListener::bind(&path).unwrap();
    exchange(&unix(&path), || Box::new(listener.accept().unwrap().0));
    std::fs::remove_file(path).unwrap();
}
