use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use reactor::{Reactor, Source, sleep, spawn, timeout, yield_now};

use super::*;
use crate::{ConnectOptions, connect};

/// A connection and the peer's side of it.
async fn pair() -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = PeerAddr::Tcp(listener.local_addr().unwrap());
    let connection = connect(&addr, &ConnectOptions::default()).await.unwrap();
    (connection, listener.accept().unwrap().0)
}

fn key(upstream: &str) -> PoolKey {
    PoolKey {
        upstream: upstream.into(),
        addr: PeerAddr::Tcp("127.0.0.1:80".parse().unwrap()),
        local: None,
        tls: 0,
        http: 11,
        proxy_header: false,
        location: None,
    }
}

fn keep(connections: usize) -> KeepaliveSpec {
    KeepaliveSpec { connections, ..KeepaliveSpec::default() }
}

fn now() -> Instant {
    Instant::now()
}

/// Runs `test` on a worker of its own, with the pool's watcher beside it.
fn with_watcher<T>(test: impl AsyncFnOnce(Pool) -> T) -> T {
    Reactor::new().unwrap().run(&(), async {
        let pool = Pool::new();
        let (watch, over) = (pool.watch(), Rc::new(Cell::new(false)));
        let done = over.clone();
        spawn(async move {
            watch.await;
            done.set(true);
        });
        let result = test(pool).await;
        until("the watcher ends with its pool", || over.get()).await;
        result
    })
}

/// Runs `test` with a pool nobody watches.
fn unwatched<T>(test: impl AsyncFnOnce(Pool) -> T) -> T {
    Reactor::new().unwrap().run(&(), test(Pool::new()))
}

const DEADLINE: Duration = Duration::from_secs(10);

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// `+a1` keeps a connection named a1 of upstream a, `-a` takes one of upstream a. What each `-` got.
#[track_caller]
fn check(connections: usize, steps: &str, expected: &str) {
    let got = unwatched(async |pool| {
        let mut names = HashMap::new();
        let mut peers = Vec::new();
        let mut got = Vec::new();
        for step in steps.split(' ') {
            let (step, name) = step.split_at(1);
            let key = key(&name[..1]);
            if step == "+" {
                let (connection, peer) = pair().await;
                names.insert(peer.peer_addr().unwrap(), name);
                peers.push(peer);
                pool.put(key, connection, &keep(connections), now()).unwrap();
            } else {
                got.push(pool.take(&key).map_or("none", |connection| {
                    let local = rustix::net::getsockname(connection.as_fd()).unwrap();
                    names[&local.try_into().unwrap()]
                }));
            }
        }
        got.join(" ")
    });
    assert_eq!(got, expected, "{steps}");
}

#[test]
fn the_latest_connection_is_lent_first() {
    check(9, "-a", "none");
    check(9, "+a1 -a -a", "a1 none");
    check(9, "+a1 +a2 +a3 -a -a -a -a", "a3 a2 a1 none");
    check(9, "+a1 +b1 -b -b -a", "b1 none a1");
    check(9, "+a1 +a2 -a +a3 -a -a", "a2 a3 a1");
}

#[test]
fn beyond_the_limit_the_longest_idle_is_closed() {
    check(1, "+a1 +a2 -a -a", "a2 none");
    check(2, "+a1 +a2 +a3 -a -a -a", "a3 a2 none");
    check(2, "+a1 +a2 +b1 +b2 +b3 -a -a -b -b -b", "a2 a1 b3 b2 none");
    check(2, "+a1 +a2 -a +a3 +a4 -a -a -a", "a2 a4 a3 none");
}

#[test]
fn only_an_equal_key_fits() {
    unwatched(async |pool| {
        let (connection, _peer) = pair().await;
        pool.put(key("a"), connection, &keep(9), now()).unwrap();
        let same = key("a");
        let others = [
            PoolKey { upstream: "b".into(), ..same.clone() },
            PoolKey { addr: PeerAddr::Tcp("127.0.0.1:81".parse().unwrap()), ..same.clone() },
            PoolKey { addr: PeerAddr::Unix(std::path::Path::new("/a").into()), ..same.clone() },
            PoolKey { local: Some("127.0.0.2:0".parse().unwrap()), ..same.clone() },
            PoolKey { tls: 1, ..same.clone() },
            PoolKey { http: 10, ..same.clone() },
            PoolKey { proxy_header: true, ..same.clone() },
            PoolKey { location: Some(1), ..same.clone() },
        ];
        for other in others {
            assert!(pool.take(&other).is_none(), "{other:?}");
        }
        assert!(pool.take(&same).is_some());
    });
}

#[test]
fn locations_share_only_where_the_upstream_says_so() {
    for (local, expected) in [(true, Some(7)), (false, None)] {
        let peer = crate::PeerSpec::new("p", PeerAddr::Tcp("127.0.0.1:80".parse().unwrap()));
        let mut spec = crate::GroupSpec::new("a", vec![peer]);
        spec.keepalive.local = local;
        let group = Group::build(spec, &crate::Registry::default()).unwrap();
        let peer = group.peers().next().unwrap();
        assert_eq!(PoolKey::new(&group, peer, 7), PoolKey { location: expected, ..key("a") });
    }
}

#[test]
fn what_may_not_be_kept() {
    type Change = fn(&mut Connection, &mut KeepaliveSpec);
    let rows: [(Change, Result<(), Refused>); 7] = [
        (|_, _| {}, Ok(())),
        (|_, spec| spec.connections = 0, Err(Refused::Off)),
        (|connection, _| connection.never_keep(), Err(Refused::Unfit)),
        (|connection, spec| connection.counters.requests = spec.requests - 1, Ok(())),
        (|connection, spec| connection.counters.requests = spec.requests, Err(Refused::Requests)),
        (|connection, _| connection.counters.created -= Duration::from_secs(3599), Ok(())),
        (|connection, _| connection.counters.created -= Duration::from_secs(3601), Err(Refused::Age)),
    ];
    for (index, (change, expected)) in rows.into_iter().enumerate() {
        unwatched(async |pool| {
            let (mut connection, mut peer) = pair().await;
            let mut spec = keep(9);
            change(&mut connection, &mut spec);
            assert_eq!(pool.put(key("a"), connection, &spec, now()), expected, "row {index}");
            assert_eq!(pool.len(), usize::from(expected.is_ok()));
            if expected.is_err() {
                assert_eq!(peer.read(&mut [0]).unwrap(), 0, "closed");
            }
        });
    }
}

/// What the peer does to an idle connection.
const STIRS: [fn(TcpStream) -> Option<TcpStream>; 3] = [
    |_| None,
    |mut peer| {
        peer.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").unwrap();
        Some(peer)
    },
    |peer| {
        socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        None
    },
];

#[test]
fn a_connection_that_stirs_is_closed_at_once() {
    for stir in STIRS {
        with_watcher(async |pool| {
            let (connection, peer) = pair().await;
            let (other, _other_peer) = pair().await;
            pool.put(key("a"), connection, &keep(9), now()).unwrap();
            pool.put(key("b"), other, &keep(9), now()).unwrap();
            yield_now().await;
            let peer = stir(peer);
            until("closed", || pool.len() == 1).await;
            if let Some(mut peer) = peer {
                // Closed with unread bytes: the kernel says so with RST, or the FIN came first.
                assert!(matches!(peer.read(&mut [0]), Ok(0) | Err(_)));
            }
            assert!(pool.take(&key("a")).is_none());
            assert!(pool.take(&key("b")).is_some());
        });
    }
}

#[test]
fn a_fin_is_seen_after_a_read_that_filled_its_buffer() {
    // Then the event loop still takes the socket for readable when it is kept.
    with_watcher(async |pool| {
        let (mut connection, mut peer) = pair().await;
        peer.write_all(b"full").unwrap();
        let mut bytes = [0; 4];
        assert_eq!(connection.read(&mut bytes).await.unwrap(), 4);
        assert_eq!(pool.put(key("a"), connection, &keep(9), now()), Ok(()));
        for _ in 0..3 {
            yield_now().await;
        }
        assert_eq!(pool.len(), 1);
        drop(peer);
        until("closed", || pool.is_empty()).await;
    });
}

#[test]
fn unix_connections_are_watched_too() {
    with_watcher(async |pool| {
        let (ours, peer) = sys::socket::pair().unwrap();
        let ours = Connection::new(Source::stream(ours).unwrap(), now());
        pool.put(key("a"), ours, &keep(9), now()).unwrap();
        yield_now().await;
        assert_eq!(pool.len(), 1);
        drop(peer);
        until("closed", || pool.is_empty()).await;
    });
}

#[test]
fn a_peer_that_restarts_empties_its_pool() {
    // More than one task may read in a turn.
    const MANY: usize = 400;
    with_watcher(async |pool| {
        let mut peers = Vec::new();
        for _ in 0..MANY {
            let (ours, peer) = sys::socket::pair().unwrap();
            let ours = Connection::new(Source::stream(ours).unwrap(), now());
            pool.put(key("a"), ours, &keep(MANY), now()).unwrap();
            peers.push(peer);
        }
        assert_eq!(pool.len(), MANY);
        drop(peers);
        until("all closed", || pool.is_empty()).await;
    });
}

#[test]
fn a_connection_that_stirred_before_is_not_kept() {
    for stir in STIRS {
        unwatched(async |pool| {
            let (connection, peer) = pair().await;
            let _peer = stir(peer);
            // The event loop learns of it when it next looks; both orders must end with the connection closed.
            let _ = pool.put(key("a"), connection, &keep(9), now());
            until("closed", || {
                let kept = pool.take(&key("a"));
                let gone = kept.is_none();
                if let Some(connection) = kept {
                    let _ = pool.put(key("a"), connection, &keep(9), now());
                }
                gone
            })
            .await;
        });
    }
}

#[test]
fn a_lent_connection_works_and_can_be_kept_again() {
    with_watcher(async |pool| {
        let (mut connection, mut peer) = pair().await;
        for round in 1..=3u8 {
            connection.write_all(&[round]).await.unwrap();
            let mut byte = [0; 2];
            peer.read_exact(&mut byte[..1]).unwrap();
            peer.write_all(&byte[..1]).unwrap();
            assert_eq!(connection.read(&mut byte).await.unwrap(), 1);
            assert_eq!(byte[0], round);
            connection.counters.requests += 1;
            pool.put(key("a"), connection, &keep(9), now()).unwrap();
            yield_now().await;
            connection = pool.take(&key("a")).unwrap();
        }
        assert_eq!(connection.counters.requests, 3);
        assert_eq!((connection.counters.received_bytes, connection.counters.sent_bytes), (3, 3));
    });
}

#[test]
fn idle_time_is_limited() {
    unwatched(async |pool| {
        let (first, _first_peer) = pair().await;
        let (second, _second_peer) = pair().await;
        let (third, _third_peer) = pair().await;
        let (start, spec) = (now(), KeepaliveSpec { timeout_ms: 60_000, ..keep(9) });
        let after = |ms: u64| start + Duration::from_millis(ms);
        pool.put(key("a"), first, &spec, start).unwrap();
        pool.put(key("a"), second, &spec, after(30_000)).unwrap();
        pool.put(key("b"), third, &KeepaliveSpec { timeout_ms: 10_000, ..spec }, after(30_000)).unwrap();
        let steps = [(39_000, 3), (40_000, 2), (59_000, 2), (60_000, 1), (89_000, 1), (90_000, 0)];
        for (at_ms, left) in steps {
            let next = pool.shared.state.borrow_mut().close_expired(after(at_ms));
            assert_eq!(pool.len(), left, "at {at_ms}");
            assert_eq!(next.is_some(), left > 0);
        }
    });
}

#[test]
fn who_was_idle_for_too_long_is_closed_unasked() {
    with_watcher(async |pool| {
        let (first, mut first_peer) = pair().await;
        let (second, _second_peer) = pair().await;
        pool.put(key("a"), first, &KeepaliveSpec { timeout_ms: 30, ..keep(9) }, now()).unwrap();
        pool.put(key("b"), second, &KeepaliveSpec { timeout_ms: 60_000, ..keep(9) }, now()).unwrap();
        until("closed", || pool.len() == 1).await;
        assert_eq!(first_peer.read(&mut [0]).unwrap(), 0);
        assert!(pool.take(&key("b")).is_some());
    });
}

#[test]
fn a_closed_pool_keeps_nothing() {
    with_watcher(async |pool| {
        let (first, mut first_peer) = pair().await;
        let (second, mut second_peer) = pair().await;
        let (third, _third_peer) = pair().await;
        pool.put(key("a"), first, &keep(9), now()).unwrap();
        pool.clear();
        assert!(pool.is_empty());
        assert_eq!(first_peer.read(&mut [0]).unwrap(), 0);
        pool.put(key("a"), second, &keep(9), now()).unwrap();
        pool.close();
        assert_eq!(second_peer.read(&mut [0]).unwrap(), 0);
        assert_eq!(pool.put(key("a"), third, &keep(9), now()), Err(Refused::Off));
    });
}
