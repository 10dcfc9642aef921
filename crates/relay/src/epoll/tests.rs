//! Real sockets, real time.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sys::epoll::Events;

use super::*;
use crate::alone::Loop;
use crate::handover::{End, Goodbye, Keep, Limits, Plan, Report, Timers};

const DEADLINE: Duration = Duration::from_secs(20);

struct Tell(Sender<Report>);

impl Keep for Tell {
    fn ended(self: Box<Self>, report: Report) {
        // The receiver may be gone in tests that look at bytes only.
        let _ = self.0.send(report);
    }
}

struct Rig {
    remote: Remote,
    budget: Arc<Budget>,
    thread: Option<JoinHandle<()>>,
}

impl Rig {
    fn new() -> Rig {
        let budget = Budget::new(64 << 20);
        let (looped, remote) = Loop::new(budget.clone()).unwrap();
        Rig { remote, budget, thread: Some(std::thread::spawn(move || looped.run())) }
    }

    /// Starts a tunnel and returns the peers' sockets and where its report comes.
    fn tunnel(
        &self,
        plan: impl FnOnce(&mut Plan, &mut End, &mut End),
    ) -> (TcpStream, TcpStream, Receiver<Report>) {
        let (client, near_client) = connected();
        let (upstream, near_upstream) = connected();
        let (tell, told) = channel();
        let mut handed = Plan {
            limits: Limits { buffer_bytes_max: 65_536 },
            timers: Timers {
                idle_ms: 60_000,
                send_client_ms: 60_000,
                send_upstream_ms: 60_000,
                fin_ms: 10_000,
            },
            scan: false,
            goodbye: None,
            keep: Box::new(Tell(tell)),
        };
        let (mut client_end, mut upstream_end) =
            (End::new(near_client.into()), End::new(near_upstream.into()));
        plan(&mut handed, &mut client_end, &mut upstream_end);
        let handover = Handover { client: client_end, upstream: upstream_end, plan: handed };
        assert!(self.remote.insert(handover).is_ok());
        (client, upstream, told)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.remote.stop();
        let thread = self.thread.take().unwrap();
        assert!(thread.join().is_ok());
        assert_eq!(self.remote.counts().live, 0);
        if !std::thread::panicking() {
            assert_eq!(self.budget.used(), 0, "everything borrowed came back");
        }
    }
}

fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    for socket in [&near, &far] {
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
    }
    (far, near)
}

fn expect(socket: &mut TcpStream, bytes: &[u8]) {
    let mut buffer = vec![0; bytes.len()];
    socket.read_exact(&mut buffer).unwrap();
    assert!(buffer == bytes, "{:?}", String::from_utf8_lossy(&buffer[..buffer.len().min(80)]));
}

fn expect_eof(socket: &mut TcpStream) {
    assert_eq!(socket.read(&mut [0; 16]).unwrap(), 0);
}

fn report(told: &Receiver<Report>) -> Report {
    told.recv_timeout(DEADLINE).expect("a report")
}

/// Bytes that differ at every position modulo a prime.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

/// Resets the connection when dropped.
fn reset(socket: TcpStream) {
    sys::options::set_reset_on_close(&socket).unwrap();
}

#[test]
fn bytes_go_both_ways_and_the_report_counts_them() {
    let rig = Rig::new();
    let (mut client, mut upstream, told) = rig.tunnel(|_, _, _| {});
    client.write_all(b"ping").unwrap();
    expect(&mut upstream, b"ping");
    upstream.write_all(b"pong!").unwrap();
    expect(&mut client, b"pong!");
    drop(client);
    expect_eof(&mut upstream);
    drop(upstream);
    let report = report(&told);
    assert_eq!(report.ended_by, EndedBy::ClientClosed);
    assert_eq!(report.first_eof, Some(Side::Client));
    assert_eq!((report.client.bytes_received, report.client.bytes_sent), (4, 5));
    assert_eq!((report.upstream.bytes_received, report.upstream.bytes_sent), (5, 4));
}

#[test]
fn what_was_under_way_at_the_hand_over_comes_first_and_in_order() {
    let rig = Rig::new();
    let big = pattern(3 << 20);
    let (mut client, mut upstream, told) = rig.tunnel(|_, client, upstream| {
        client.unsent = b"rest of the 101|".to_vec();
        client.leftover = b"early from the client|".to_vec();
        upstream.unsent = b"rest of the request|".to_vec();
        upstream.leftover = pattern(3 << 20);
    });
    client.write_all(b"later").unwrap();
    upstream.write_all(b"much later").unwrap();
    expect(&mut upstream, b"rest of the request|early from the client|later");
    expect(&mut client, b"rest of the 101|");
    expect(&mut client, &big);
    expect(&mut client, b"much later");
    drop(upstream);
    expect_eof(&mut client);
    drop(client);
    let report = report(&told);
    assert_eq!(report.ended_by, EndedBy::UpstreamClosed);
    assert_eq!(report.client.bytes_received, 27);
    assert_eq!(report.client.bytes_sent, 16 + (3 << 20) + 10);
}

#[test]
fn each_direction_ends_by_itself() {
    let rig = Rig::new();
    let (mut client, mut upstream, told) = rig.tunnel(|_, _, _| {});
    client.write_all(b"last words").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    expect(&mut upstream, b"last words");
    expect_eof(&mut upstream);
    upstream.write_all(&pattern(1 << 20)).unwrap();
    expect(&mut client, &pattern(1 << 20));
    upstream.shutdown(std::net::Shutdown::Write).unwrap();
    expect_eof(&mut client);
    let report = report(&told);
    assert_eq!((report.ended_by, report.first_eof), (EndedBy::ClientClosed, Some(Side::Client)));
}

#[test]
fn behind_a_closing_handshake_the_first_fin_ends_both_directions() {
    let rig = Rig::new();
    for first in [Side::Client, Side::Upstream] {
        let (mut client, mut upstream, told) = rig.tunnel(|plan, _, _| plan.scan = true);
        client.write_all(b"\x88\x82abcd\x62\x8a").unwrap();
        expect(&mut upstream, b"\x88\x82abcd\x62\x8a");
        upstream.write_all(b"\x88\x02\x03\xe8").unwrap();
        expect(&mut client, b"\x88\x02\x03\xe8");
        let (closing, mut other) = match first {
            Side::Client => (&client, &upstream),
            Side::Upstream => (&upstream, &client),
        };
        closing.shutdown(std::net::Shutdown::Write).unwrap();
        let report = report(&told);
        assert_eq!(report.first_eof, Some(first));
        assert!(matches!(report.ended_by, EndedBy::ClientClosed | EndedBy::UpstreamClosed));
        assert_eq!(other.read(&mut [0; 16]).unwrap(), 0, "it has not closed itself, and is closed");
        let mut closing = closing;
        assert_eq!(closing.read(&mut [0; 16]).unwrap(), 0);
    }
}

#[test]
fn a_slow_reader_gets_everything_while_the_tunnel_holds_little() {
    let rig = Rig::new();
    let (mut client, upstream, _told) = rig.tunnel(|_, _, _| {});
    let bytes = pattern(32 << 20);
    std::thread::scope(|scope| {
        let (budget, sent) = (&rig.budget, &bytes);
        scope.spawn(move || (&upstream).write_all(sent).unwrap());
        let deadline = Instant::now() + DEADLINE;
        while budget.used() == 0 {
            assert!(Instant::now() < deadline, "32 MB don't fit the kernel's buffers");
            std::thread::yield_now();
        }
        for part in bytes.chunks(100_000) {
            expect(&mut client, part);
            assert!(budget.used() <= 2 * 65_536, "{}", budget.used());
        }
    });
}

#[test]
fn resets_end_the_tunnel_and_say_whose() {
    let rig = Rig::new();
    let (client, mut upstream, told) = rig.tunnel(|_, _, _| {});
    reset(client);
    expect_eof(&mut upstream);
    let first = report(&told);
    assert!(matches!(first.ended_by, EndedBy::ClientReset(104)), "{first:?}");

    let (mut client, upstream, told) = rig.tunnel(|_, _, _| {});
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut far = upstream;
    expect_eof(&mut far);
    reset(far);
    expect_eof(&mut client);
    let second = report(&told);
    assert!(matches!(second.ended_by, EndedBy::UpstreamReset(104)), "{second:?}");
    assert_eq!(second.first_eof, Some(Side::Client));
}

#[test]
fn the_last_words_of_a_broken_end_are_delivered() {
    let rig = Rig::new();
    let (mut client, mut upstream, told) = rig.tunnel(|_, _, _| {});
    client.write_all(b"never read").unwrap();
    // Closing with unread bytes makes the kernel send a reset behind the goodbye.
    let deadline = Instant::now() + DEADLINE;
    while upstream.peek(&mut [0; 16]).unwrap() == 0 {
        assert!(Instant::now() < deadline);
    }
    upstream.write_all(b"goodbye").unwrap();
    drop(upstream);
    expect(&mut client, b"goodbye");
    expect_eof(&mut client);
    drop(client);
    assert!(matches!(report(&told).ended_by, EndedBy::UpstreamReset(_)));
}

#[test]
fn timers_fire_at_their_time_and_say_which() {
    let rig = Rig::new();
    let check = |set: fn(&mut Timers), run: fn(&mut TcpStream, &mut TcpStream), expected: EndedBy| {
        let start = Instant::now();
        let (mut client, mut upstream, told) = rig.tunnel(|plan, _, _| {
            plan.timers = Timers::default();
            set(&mut plan.timers);
        });
        run(&mut client, &mut upstream);
        assert_eq!(report(&told).ended_by, expected);
        assert!(start.elapsed() >= Duration::from_millis(300), "{expected:?} after {:?}", start.elapsed());
    };
    check(|timers| timers.idle_ms = 300, |_, _| {}, EndedBy::IdleTimeout);
    check(
        |timers| timers.fin_ms = 300,
        |client, _| client.shutdown(std::net::Shutdown::Write).unwrap(),
        EndedBy::FinTimeout,
    );
    check(
        |timers| timers.send_client_ms = 300,
        |_, upstream| overfill(upstream),
        EndedBy::SendTimeout(Side::Client),
    );
    check(
        |timers| timers.send_upstream_ms = 300,
        |client, _| overfill(client),
        EndedBy::SendTimeout(Side::Upstream),
    );
}

/// Writes until the tunnel is cut: nobody reads at the other end.
fn overfill(socket: &mut TcpStream) {
    while socket.write_all(&[0; 65_536]).is_ok() {}
}

#[test]
fn traffic_in_either_direction_keeps_an_idle_timer_off() {
    let rig = Rig::new();
    let (mut client, mut upstream, told) = rig.tunnel(|plan, _, _| plan.timers.idle_ms = 600);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1_500) {
        upstream.write_all(b"tick").unwrap();
        expect(&mut client, b"tick");
    }
    assert!(told.try_recv().is_err());
    assert_eq!(report(&told).ended_by, EndedBy::IdleTimeout);
}

#[test]
fn who_comes_after_all_were_asked_to_leave_is_asked_too() {
    let rig = Rig::new();
    rig.remote.shutdown(Leave { client_frame: b"\x88\x02\x03\xe9".to_vec(), ..Leave::default() });
    let (mut client, _upstream, told) = rig.tunnel(|plan, _, _| plan.scan = true);
    expect(&mut client, b"\x88\x02\x03\xe9");
    assert_eq!(report(&told).ended_by, EndedBy::Shutdown);
}

/// What comes after the loop has waited is not stamped with the time before.
#[test]
fn an_idle_timer_counts_from_the_last_byte_and_not_from_the_turn_before_it() {
    let rig = Rig::new();
    let (mut client, mut upstream, told) = rig.tunnel(|plan, _, _| plan.timers.idle_ms = 600);
    client.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    assert!(client.read(&mut [0]).is_err(), "nothing to read");
    let last_byte = Instant::now();
    upstream.write_all(b"tick").unwrap();
    assert_eq!(report(&told).ended_by, EndedBy::IdleTimeout);
    // The clock is coarse.
    assert!(last_byte.elapsed() >= Duration::from_millis(580), "{:?}", last_byte.elapsed());
}

#[test]
fn a_panic_ends_its_own_tunnel_only() {
    struct Bomb(Sender<Report>);
    impl Keep for Bomb {
        fn started(&mut self, _: Token) {
            std::panic::resume_unwind(Box::new("boom"));
        }
        fn ended(self: Box<Self>, report: Report) {
            self.0.send(report).unwrap();
            std::panic::resume_unwind(Box::new("boom again"));
        }
    }
    let rig = Rig::new();
    let (mut client, mut upstream, _told) = rig.tunnel(|_, _, _| {});
    let (tell, told) = channel();
    let (mut bombed, _far, _) = rig.tunnel(|plan, _, _| plan.keep = Box::new(Bomb(tell)));
    assert_eq!(report(&told).ended_by, EndedBy::Failed("boom".into()));
    expect_eof(&mut bombed);
    client.write_all(b"still here").unwrap();
    expect(&mut upstream, b"still here");
}

#[test]
fn frames_are_counted_and_ours_come_between_them() {
    struct Named(Sender<Token>);
    impl Keep for Named {
        fn started(&mut self, token: Token) {
            self.0.send(token).unwrap();
        }
        fn ended(self: Box<Self>, _: Report) {}
    }
    let rig = Rig::new();
    let (tell, named) = channel();
    let (mut client, mut upstream, _) = rig.tunnel(|plan, _, _| {
        plan.scan = true;
        plan.keep = Box::new(Named(tell));
    });
    let token = named.recv_timeout(DEADLINE).unwrap();
    let ping = b"\x89\x02hi";
    rig.remote.inject(token, Side::Client, ping.to_vec());
    expect(&mut client, ping);
    // Half a frame is under way: ours waits for its end.
    upstream.write_all(b"\x82\x05abc").unwrap();
    expect(&mut client, b"\x82\x05abc");
    rig.remote.inject(token, Side::Client, ping.to_vec());
    rig.remote.inject(token, Side::Client, ping.to_vec());
    // The other direction shows that both commands were obeyed.
    rig.remote.inject(token, Side::Upstream, b"\x89\x80abcd".to_vec());
    expect(&mut upstream, b"\x89\x80abcd");
    upstream.write_all(b"de\x82\x01f\x82").unwrap();
    expect(&mut client, b"de\x89\x02hi\x89\x02hi\x82\x01f\x82");
}

#[test]
fn tunnels_leave_with_a_goodbye_and_then_are_cut() {
    let rig = Rig::new();
    let mut tunnels: Vec<_> = (0..20).map(|_| rig.tunnel(|plan, _, _| plan.scan = true)).collect();
    let (client_frame, upstream_frame) = (b"\x88\x02\x03\xe9".to_vec(), b"\x88\x82abcd\x62\x8b".to_vec());
    rig.remote.shutdown(Leave {
        over_ms: 500,
        grace_ms: 400,
        client_frame: client_frame.clone(),
        upstream_frame: upstream_frame.clone(),
    });
    for (client, upstream, told) in &mut tunnels {
        expect(client, &client_frame);
        expect(upstream, &upstream_frame);
        expect_eof(client);
        expect_eof(upstream);
        assert_eq!(report(told).ended_by, EndedBy::Shutdown);
    }
}

#[test]
fn the_client_is_told_when_a_timer_or_a_reset_takes_its_upstream() {
    let rig = Rig::new();
    let told = b"\x88\x02\x03\xf4";
    let plan = |plan: &mut Plan, _: &mut End, _: &mut End| {
        plan.scan = true;
        plan.timers.idle_ms = 300;
        plan.goodbye = Some(Arc::new(Goodbye { client_frame: told.to_vec(), ..Goodbye::default() }));
    };
    let (mut client, mut upstream, ended) = rig.tunnel(plan);
    expect(&mut client, told);
    expect_eof(&mut client);
    expect_eof(&mut upstream);
    assert_eq!(report(&ended).ended_by, EndedBy::IdleTimeout);

    let (mut client, upstream, ended) = rig.tunnel(|a, b, c| {
        plan(a, b, c);
        a.timers.idle_ms = 0;
    });
    reset(upstream);
    expect(&mut client, told);
    expect_eof(&mut client);
    assert!(ended.try_recv().is_err(), "the client may answer");
    client.write_all(b"\x88\x80abcd").unwrap();
    drop(client);
    assert!(matches!(report(&ended).ended_by, EndedBy::UpstreamReset(104)));
}

#[test]
fn open_tunnels_can_be_looked_at() {
    let rig = Rig::new();
    let (mut client, mut upstream, _told) = rig.tunnel(|_, _, _| {});
    let (_client, _upstream, _told_too) = rig.tunnel(|_, _, _| {});
    client.write_all(b"12345").unwrap();
    expect(&mut upstream, b"12345");
    let (tell, progress) = channel();
    rig.remote.progress(None, move |all| tell.send(all).unwrap());
    let all = progress.recv_timeout(DEADLINE).unwrap();
    assert_eq!(all.len(), 2);
    let (token, first) = &all[0];
    assert_eq!((first.client.bytes_received, first.upstream.bytes_sent), (5, 5));
    let (tell, progress) = channel();
    rig.remote.progress(Some(*token), move |all| tell.send(all).unwrap());
    assert_eq!(progress.recv_timeout(DEADLINE).unwrap().len(), 1);
}

#[test]
fn a_lost_turn_is_made_up_for() {
    let (mut looped, _remote) = Loop::new(Budget::new(1 << 20)).unwrap();
    let (client, near_client) = socket::pair().unwrap();
    let (upstream, near_upstream) = socket::pair().unwrap();
    let plan = Plan {
        limits: Limits { buffer_bytes_max: 65_536 },
        timers: Timers::default(),
        scan: false,
        goodbye: None,
        keep: Box::new(Tell(channel().0)),
    };
    looped.tunnels.insert(Handover {
        client: End::new(near_client),
        upstream: End::new(near_upstream),
        plan,
    });
    assert_eq!(socket::send(&client, b"hello"), Moved::Bytes(5));
    assert!(looped.epoll.wait(&mut looped.events, Some(DEADLINE)).unwrap().count() > 0);
    // The edge is gone with the turn that should have handled it.
    looped.tunnels.distrust();
    let mut buffer = [0; 16];
    assert_eq!(socket::recv(&upstream, &mut buffer), Moved::Bytes(5));
}

#[test]
fn a_stopped_loop_reports_what_it_had_and_takes_no_more() {
    let rig = Rig::new();
    let (mut client, _upstream, told) = rig.tunnel(|_, _, _| {});
    let remote = rig.remote.clone();
    drop(rig);
    assert_eq!(report(&told).ended_by, EndedBy::Shutdown);
    expect_eof(&mut client);
    let (a, b) = socket::pair().unwrap();
    let plan = Plan {
        limits: Limits { buffer_bytes_max: 1 },
        timers: Timers::default(),
        scan: false,
        goodbye: None,
        keep: Box::new(Tell(channel().0)),
    };
    assert!(remote.insert(Handover { client: End::new(a), upstream: End::new(b), plan }).is_err());
}

#[test]
fn tunnels_live_in_the_loop_of_another() {
    let epoll = Arc::new(Epoll::new().unwrap());
    let (mut tunnels, remote) = Tunnels::new(Budget::new(1 << 20), epoll.clone()).unwrap();
    let (client, near_client) = socket::pair().unwrap();
    let (upstream, near_upstream) = socket::pair().unwrap();
    // The loop had one of them for something else, and has heard of what is there to be read.
    epoll.add(&near_client, 7, WATCHED).unwrap();
    assert_eq!(socket::send(&client, b"hello"), Moved::Bytes(5));
    let mut events = Events::with_capacity(8);
    assert_eq!(
        epoll.wait(&mut events, Some(DEADLINE)).unwrap().map(|event| event.token).collect::<Vec<_>>(),
        [7]
    );
    let plan = Plan {
        limits: Limits { buffer_bytes_max: 65_536 },
        timers: Timers { idle_ms: 5_000, ..Timers::default() },
        scan: false,
        goodbye: None,
        keep: Box::new(Tell(channel().0)),
    };
    tunnels.insert(Handover { client: End::new(near_client), upstream: End::new(near_upstream), plan });
    assert_eq!(remote.counts().live, 1);
    assert!(tunnels.wait_ms().is_some_and(|due| due <= 6_000));
    let mut buffer = [0; 16];
    let deadline = Instant::now() + DEADLINE;
    while socket::recv(&upstream, &mut buffer) == Moved::Blocked {
        assert!(Instant::now() < deadline);
        let happened = epoll.wait(&mut events, Some(DEADLINE)).unwrap();
        tunnels.awake();
        for event in happened {
            assert!(event.token & Tunnels::TOKENS != 0, "nobody else's are left");
            tunnels.event(event);
        }
        assert!(tunnels.turn());
    }
    assert_eq!(&buffer[..5], b"hello");
    assert_eq!(remote.counts().bytes_received, 5);
}

#[test]
fn two_hundred_tunnels_at_once_carry_everything() {
    let rig = Rig::new();
    let tunnels: Vec<_> = (0..200).map(|_| rig.tunnel(|_, _, _| {})).collect();
    std::thread::scope(|scope| {
        for (index, (client, upstream, _)) in tunnels.iter().enumerate() {
            // Sizes that are no one's multiple; some small enough for one receive, some not.
            let length = [1, 64, 4_095, 70_001, 400_003][index % 5] + index;
            scope.spawn(move || {
                let (mut client, mut upstream) = (client, upstream);
                let (up, down) = (pattern(length), pattern(length / 2 + 1));
                std::thread::scope(|both| {
                    both.spawn(|| {
                        for part in up.chunks(1 + index * 97) {
                            (&*client).write_all(part).unwrap();
                        }
                        client.shutdown(std::net::Shutdown::Write).unwrap();
                    });
                    both.spawn(|| {
                        let mut got = Vec::new();
                        upstream.read_to_end(&mut got).unwrap();
                        assert!(got == up, "tunnel {index}");
                        upstream.write_all(&down).unwrap();
                        upstream.shutdown(std::net::Shutdown::Write).unwrap();
                    });
                });
                let mut got = Vec::new();
                client.read_to_end(&mut got).unwrap();
                assert!(got == down, "tunnel {index}");
            });
        }
    });
    let total: u64 = tunnels.iter().map(|(_, _, told)| report(told).client.bytes_received).sum();
    assert!(total > 1_000_000);
    let deadline = Instant::now() + DEADLINE;
    while rig.remote.counts().live > 0 {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    assert_eq!(rig.remote.counts().started, 200);
}

#[test]
fn idle_tunnels_are_small() {
    let slot = size_of::<Slot>();
    assert!(slot <= 368, "a slot takes {slot} bytes");
}
