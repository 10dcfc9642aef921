//! A loop with real sockets, real threads and real time.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use sys::epoll::{EDGE, Event, Flags};
use tidegate_reactor::{
    Died, Elapsed, Guest, Reactor, Source, Timer, blocking, is_behind, sleep, spawn, timeout, yield_now,
};

const LIMIT: Duration = Duration::from_secs(20);

/// Runs a test in a loop of its own; it fails rather than hangs.
fn run<T>(test: impl Future<Output = T>) -> T {
    Reactor::new().unwrap().run(&(), async { timeout(LIMIT, test).await.expect("it comes to an end") })
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        sleep(ms(1)).await;
    }
}

fn pair() -> (Source, OwnedFd) {
    let (near, far) = sys::socket::pair().unwrap();
    (Source::stream(near).unwrap(), far)
}

fn tcp() -> (Source, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let near = listener.accept().unwrap().0;
    near.set_nonblocking(true).unwrap();
    (Source::stream(near.into()).unwrap(), far)
}

async fn read(source: &Source, room: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(room);
    poll_fn(|cx| source.poll_read(cx, &mut bytes)).await.unwrap();
    bytes
}

async fn write_all(source: &Source, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let count = poll_fn(|cx| source.poll_write(cx, &[IoSlice::new(bytes)])).await.unwrap();
        bytes = &bytes[count..];
    }
}

/// Whether a poll finds nothing now.
async fn is_pending<T>(mut poll: impl FnMut(&mut std::task::Context<'_>) -> Poll<T>) -> bool {
    poll_fn(|cx| Poll::Ready(poll(cx).is_pending())).await
}

#[test]
fn tasks_run_in_order_and_start_others() {
    let seen = Rc::new(RefCell::new(String::new()));
    let say = |what: &'static str| {
        let seen = seen.clone();
        move || seen.borrow_mut().push_str(what)
    };
    let (a, b, c, d) = (say("a"), say("b"), say("c"), say("d"));
    run(async {
        spawn(async move {
            a();
            spawn(async move { c() });
            yield_now().await;
            d();
        });
        spawn(async move { b() });
        until(|| seen.borrow().len() == 4).await;
    });
    assert_eq!(*seen.borrow(), "abcd");
}

#[test]
fn a_loop_drops_what_is_left_when_it_ends() {
    struct Last(Rc<Cell<u32>>);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            if self.0.get() == 1 {
                let more = Last(self.0.clone());
                spawn(async move {
                    let _more = more;
                    std::future::pending::<()>().await;
                });
            }
        }
    }
    let dropped = Rc::new(Cell::new(0));
    let last = Last(dropped.clone());
    let result = run(async {
        let (source, _far) = pair();
        spawn(async move {
            let _last = last;
            read(&source, 1).await;
        });
        yield_now().await;
        7
    });
    assert_eq!((result, dropped.get()), (7, 2));
    // The thread can have another.
    assert_eq!(run(async { 8 }), 8);
}

#[test]
fn a_panic_costs_its_own_task() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("in drop"));
        }
    }
    run(async {
        let done = Rc::new(Cell::new(0));
        for kind in 0..9 {
            let done = done.clone();
            spawn(async move {
                yield_now().await;
                match kind % 3 {
                    0 => std::panic::resume_unwind(Box::new("in poll")),
                    1 => drop(Bomb),
                    _ => done.set(done.get() + 1),
                }
            });
        }
        until(|| done.get() == 3).await;
    });
    let main = std::panic::catch_unwind(|| run(async { std::panic::resume_unwind(Box::new("main")) }));
    assert!(main.is_err());
    assert_eq!(run(async { 1 }), 1);
}

#[test]
fn timers_fire_at_their_time_and_can_be_moved() {
    let since = |start: Instant, from: u64| {
        let took = start.elapsed();
        // The coarse clock is behind by a tick, at both ends.
        assert!(took + ms(10) >= ms(from), "{took:?} and not {from} ms");
        assert!(took < ms(from) + Duration::from_secs(10), "{took:?} and not {from} ms");
    };
    run(async {
        let start = Instant::now();
        sleep(ms(40)).await;
        since(start, 40);
        assert_eq!(timeout(ms(20), std::future::pending::<()>()).await, Err(Elapsed));
        assert_eq!(timeout(LIMIT, async { 5 }).await, Ok(5));

        let start = Instant::now();
        let mut timer = Timer::default();
        assert!(!timer.is_set() && is_pending(|cx| timer.poll(cx)).await);
        // Further away, nearer, further again: the last time holds.
        for wait in [50_000, 30, 90] {
            timer.set(wait);
            assert!(is_pending(|cx| timer.poll(cx)).await);
        }
        poll_fn(|cx| timer.poll(cx)).await;
        since(start, 90);
        assert!(timer.is_set(), "it stays ready");
        poll_fn(|cx| timer.poll(cx)).await;
        timer.clear();
        assert!(is_pending(|cx| timer.poll(cx)).await);
        // Nearer without a poll in between.
        let start = Instant::now();
        timer.set(40_000);
        assert!(is_pending(|cx| timer.poll(cx)).await);
        timer.set(30);
        let mut first = true;
        poll_fn(|cx| match std::mem::take(&mut first) {
            true => Poll::Pending,
            false => timer.poll(cx),
        })
        .await;
        since(start, 30);
    });
}

#[test]
fn others_threads_wake_tasks() {
    run(async {
        let place = Arc::new(Mutex::new((0u32, None::<Waker>)));
        let other = place.clone();
        let thread = std::thread::spawn(move || {
            for _ in 0..1_000 {
                let waker = {
                    let mut place = other.lock().unwrap();
                    place.0 += 1;
                    place.1.take()
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        });
        poll_fn(|cx| {
            let mut place = place.lock().unwrap();
            place.1 = Some(cx.waker().clone());
            if place.0 == 1_000 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        thread.join().unwrap();
        assert_eq!(blocking(|| 6 * 7).await, Ok(42));
        assert_eq!(blocking(|| std::panic::resume_unwind(Box::new("boom"))).await, Err::<(), _>(Died));
        let all: Vec<_> = (0..200u32).map(|n| blocking(move || n)).collect();
        for (n, one) in all.into_iter().enumerate() {
            assert_eq!(one.await, Ok(n as u32));
        }
    });
}

#[test]
fn a_waker_outlives_its_task_and_its_loop() {
    let mut kept = None;
    run(async {
        let (put, place) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(0)));
        let (giver, counter) = (put.clone(), place.clone());
        spawn(poll_fn(move |cx| {
            giver.set(Some(cx.waker().clone()));
            Poll::Ready(())
        }));
        yield_now().await;
        kept = put.take();
        // The next task takes the place of the one that is over; its waker means nobody any more.
        spawn(poll_fn(move |_| {
            counter.set(counter.get() + 1);
            Poll::<()>::Pending
        }));
        yield_now().await;
        kept.as_ref().unwrap().wake_by_ref();
        yield_now().await;
        assert_eq!(place.get(), 1);
    });
    kept.unwrap().wake();
}

#[test]
fn bytes_come_in_parts_and_the_end_behind_them() {
    for is_tcp in [false, true] {
        run(async {
            let (source, far): (Source, OwnedFd) = match is_tcp {
                true => {
                    let (source, far) = tcp();
                    (source, far.into())
                }
                false => pair(),
            };
            assert!(is_pending(|cx| source.poll_readable(cx)).await);
            sys::socket::send(&far, b"hello world");
            // A full buffer says nothing about what is left; a short read, that nothing is.
            assert_eq!(read(&source, 5).await, b"hello");
            assert_eq!(read(&source, 5).await, b" worl");
            assert_eq!(read(&source, 5).await, b"d");
            assert!(is_pending(|cx| source.poll_readable(cx)).await);
            sys::socket::send(&far, b"exact");
            assert_eq!(read(&source, 5).await, b"exact");
            assert!(is_pending(|cx| source.poll_read_slice(cx, &mut [0; 5])).await);
            assert!(is_pending(|cx| source.poll_gone(cx)).await);
            // The end comes with the last bytes: a short read does not hide it.
            sys::socket::send(&far, b"last");
            sys::socket::shutdown(&far, sys::socket::Shutdown::Write);
            poll_fn(|cx| source.poll_gone(cx)).await;
            assert!(source.is_gone());
            assert_eq!(read(&source, 100).await, b"last");
            for _ in 0..2 {
                assert_eq!(read(&source, 100).await, b"");
            }
            assert_eq!(source.try_write(&[IoSlice::new(b"bye")]).unwrap(), 3);
            drop(source);
        });
    }
}

#[test]
fn urgent_data_hide_nothing() {
    run(async {
        let (source, far) = tcp();
        rustix::net::send(&far, b"ab", rustix::net::SendFlags::empty()).unwrap();
        rustix::net::send(&far, b"!", rustix::net::SendFlags::OOB).unwrap();
        rustix::net::send(&far, b"cd", rustix::net::SendFlags::empty()).unwrap();
        let mut all = Vec::new();
        while all.len() < 4 {
            all.extend(read(&source, 100).await);
        }
        assert_eq!(all, b"abcd");
        assert!(is_pending(|cx| source.poll_read_slice(cx, &mut [0; 5])).await);
        (&far).write_all(b"more").unwrap();
        assert_eq!(read(&source, 100).await, b"more");
    });
}

#[test]
fn a_writer_waits_for_room() {
    run(async {
        let (source, far) = tcp();
        let bytes: Vec<u8> = (0..8 << 20).map(|i| (i % 251) as u8).collect();
        let wanted = bytes.clone();
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; wanted.len()];
            (&far).read_exact(&mut got).unwrap();
            assert!(got == wanted);
            far
        });
        write_all(&source, &bytes).await;
        drop(blocking(move || reader.join().unwrap()).await.unwrap());
        poll_fn(|cx| source.poll_gone(cx)).await;
    });
}

#[test]
fn connecting_ends_well_or_not() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Not one that the kernel may give to another test.
        let closed = "127.0.0.1:1".parse().unwrap();
        for (addr, works) in [(listener.local_addr().unwrap(), true), (closed, false)] {
            let socket = rustix::net::socket_with(
                rustix::net::AddressFamily::INET,
                rustix::net::SocketType::STREAM,
                rustix::net::SocketFlags::NONBLOCK,
                None,
            );
            let socket = socket.unwrap();
            let _ = rustix::net::connect(&socket, &addr);
            let source = Source::connecting(socket).unwrap();
            poll_fn(|cx| source.poll_writable(cx)).await;
            assert_eq!(source.is_gone(), !works);
        }
    });
}

#[test]
fn a_stir_is_told_from_quiet_without_taking_bytes() {
    run(async {
        let (source, far) = pair();
        assert!(is_pending(|cx| source.poll_stirred(cx)).await);
        sys::socket::send(&far, b"four");
        assert_eq!(read(&source, 4).await, b"four");
        // Still taken for readable: the buffer was full.
        assert!(is_pending(|cx| source.poll_stirred(cx)).await);
        sys::socket::send(&far, b"x");
        poll_fn(|cx| source.poll_stirred(cx)).await;
        assert_eq!(read(&source, 4).await, b"x");
    });
}

#[test]
fn a_listener_shows_in_every_turn_unless_it_is_muted() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let source = Source::listener(listener.into()).unwrap();
        let _waiting: Vec<_> = (0..3).map(|_| TcpStream::connect(addr).unwrap()).collect();
        let mut held = Vec::new();
        for _ in 0..3 {
            poll_fn(|cx| source.poll_readable(cx)).await;
            held.push(sys::listen::accept(&source).unwrap().expect("one waits"));
            source.forget_readable();
        }
        assert!(sys::listen::accept(&source).unwrap().is_none());
        source.mute().unwrap();
        let _muted = TcpStream::connect(addr).unwrap();
        yield_now().await;
        yield_now().await;
        assert!(is_pending(|cx| source.poll_readable(cx)).await);
        source.unmute().unwrap();
        poll_fn(|cx| source.poll_readable(cx)).await;
    });
}

#[test]
fn a_loop_knows_that_it_has_more_to_do_than_a_turn_takes() {
    run(async {
        yield_now().await;
        yield_now().await;
        assert!(!is_behind());
        let working = Rc::new(Cell::new(true));
        for _ in 0..100 {
            let working = working.clone();
            spawn(async move {
                while working.get() {
                    let begun = Instant::now();
                    while begun.elapsed() < Duration::from_millis(1) {}
                    yield_now().await;
                }
            });
        }
        while !is_behind() {
            yield_now().await;
        }
        working.set(false);
        while is_behind() {
            yield_now().await;
        }
    });
}

#[test]
fn a_late_event_does_not_reach_the_next_tenant() {
    run(async {
        for _ in 0..100 {
            let (given_up, far) = pair();
            let fd = given_up.lend().fd;
            // It is still in the epoll instance, under a token that is nobody's.
            sys::socket::send(&far, b"late");
            let (tenant, quiet) = pair();
            yield_now().await;
            assert!(is_pending(|cx| tenant.poll_readable(cx)).await);
            assert!(!tenant.is_gone());
            drop((fd, far, tenant, quiet));
        }
    });
}

#[test]
fn one_task_that_always_finds_bytes_leaves_room_for_others() {
    run(async {
        let (source, far) = pair();
        let others = Rc::new(Cell::new(0u32));
        let counter = others.clone();
        spawn(async move {
            loop {
                counter.set(counter.get() + 1);
                yield_now().await;
            }
        });
        // Feeds itself: there is always something.
        sys::socket::send(&far, b"x");
        for _ in 0..10_000 {
            assert_eq!(read(&source, 1).await, b"x");
            sys::socket::send(&far, b"x");
        }
        assert!(others.get() >= 100, "{} turns of others", others.get());
    });
}

#[test]
fn tasks_that_take_long_let_the_kernel_speak_in_between() {
    run(async {
        let before = tidegate_reactor::turn();
        let left = Rc::new(Cell::new(80));
        for _ in 0..80 {
            let left = left.clone();
            spawn(async move {
                let until = Instant::now() + ms(1);
                while Instant::now() < until {}
                left.set(left.get() - 1);
            });
        }
        until(|| left.get() == 0).await;
        assert!(tidegate_reactor::turn() >= before + 3, "{} turns", tidegate_reactor::turn() - before);
    });
}

/// Counts what it is told of; answers each event with a byte.
struct Lodger {
    socket: RefCell<Option<OwnedFd>>,
    events: Cell<u32>,
    turns: Cell<u32>,
    due: Cell<Option<u64>>,
}

impl Guest for Lodger {
    fn lent_event(&self, name: u32, flags: Flags) {
        assert_eq!(name, 7);
        self.event(Event { token: Reactor::GUEST | 5, flags });
    }

    fn event(&self, event: Event) {
        assert_eq!(event.token, Reactor::GUEST | 5);
        self.events.set(self.events.get() + 1);
        if let Some(socket) = &*self.socket.borrow() {
            let mut buffer = [0; 16];
            if let sys::socket::Moved::Bytes(count) = sys::socket::recv(socket, &mut buffer) {
                sys::socket::send(socket, &buffer[..count]);
            }
        }
    }

    fn turn(&self) {
        self.turns.set(self.turns.get() + 1);
        if self.due.get().is_some_and(|due| due <= sys::clock::monotonic_ms()) {
            self.due.set(None);
        }
    }

    fn wait_ms(&self) -> Option<u64> {
        Some(self.due.get()?.saturating_sub(sys::clock::monotonic_ms()))
    }
}

#[test]
fn a_guest_gets_its_events_and_its_time() {
    let lodger = Lodger {
        socket: RefCell::default(),
        events: Cell::new(0),
        turns: Cell::new(0),
        due: Cell::new(None),
    };
    let reactor = Reactor::new().unwrap();
    let epoll = reactor.epoll();
    reactor.run(&lodger, async {
        // A socket of ours that becomes the guest's, with bytes that we had heard of and not read.
        let (source, far) = pair();
        sys::socket::send(&far, b"hello");
        poll_fn(|cx| source.poll_readable(cx)).await;
        let fd = source.lend().fd;
        epoll.modify(&fd, Reactor::GUEST | 5, EDGE).unwrap();
        lodger.socket.replace(Some(fd));
        let far = Source::stream(far).unwrap();
        assert_eq!(read(&far, 16).await, b"hello");
        write_all(&far, b"again").await;
        assert_eq!(read(&far, 16).await, b"again");
        assert!(lodger.events.get() >= 2);
        // One that is lent keeps its registration, and says what it has heard of.
        for early in [false, true] {
            let (source, far) = pair();
            if early {
                sys::socket::send(&far, b"x");
                poll_fn(|cx| source.poll_readable(cx)).await;
            }
            let lent = source.lend();
            assert_eq!(lent.readable, early);
            lent.place.point_to(7);
            lodger.socket.replace(Some(lent.fd));
            let far = Source::stream(far).unwrap();
            write_all(&far, b"lent").await;
            let wanted: &[u8] = if early { b"xlent" } else { b"lent" };
            assert_eq!(read(&far, 16).await, wanted);
            // Its place is left: what comes now is nobody's.
            drop(lent.place);
            let events = lodger.events.get();
            write_all(&far, b"unheard").await;
            yield_now().await;
            assert_eq!(lodger.events.get(), events);
        }
        lodger.due.set(Some(sys::clock::monotonic_ms() + 30));
        until(|| lodger.due.get().is_none()).await;
    });
}

/// A guest that loses the first turns it has events in.
struct Stumbles {
    socket: OwnedFd,
    times: Cell<u32>,
}

impl Guest for Stumbles {
    fn lent_event(&self, _: u32, _: Flags) {}

    fn event(&self, _: Event) {
        if sys::socket::recv(&self.socket, &mut [0; 16]) == sys::socket::Moved::Blocked {
            return;
        }
        self.times.set(self.times.get() + 1);
        std::panic::resume_unwind(Box::new("in a turn"));
    }

    fn turn(&self) {}

    fn wait_ms(&self) -> Option<u64> {
        None
    }
}

/// The bell was silenced in a turn that was lost: who was woken runs, and the bell still rings for the next.
#[test]
fn a_lost_turn_loses_nobody_another_thread_woke() {
    let (socket, far) = sys::socket::pair().unwrap();
    let far = Rc::new(far);
    let reactor = Reactor::new().unwrap();
    let epoll = reactor.epoll();
    let guest = Stumbles { socket, times: Cell::new(0) };
    reactor.run(&guest, async {
        epoll.add(&guest.socket, Reactor::GUEST | 5, EDGE).unwrap();
        for round in 0..6 {
            let runs = Rc::new(Cell::new(false));
            // A task that is lost is not woken by its own timer either.
            spawn(wakes_itself(round % 3, far.clone(), runs.clone()));
            assert!(timeout(ms(10_000), until(|| runs.get())).await.is_ok(), "round {round}");
        }
    });
    assert_eq!(guest.times.get(), 4);
}

/// Is woken by another thread in the same turn as the guest has an event: before it, behind it, or alone.
async fn wakes_itself(order: u32, guest: Rc<OwnedFd>, runs: Rc<Cell<bool>>) {
    let mut is_first = true;
    poll_fn(|cx| {
        if !std::mem::take(&mut is_first) {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        if order == 1 {
            sys::socket::send(&guest, b"x");
        }
        std::thread::spawn(move || waker.wake()).join().unwrap();
        if order == 0 {
            sys::socket::send(&guest, b"x");
        }
        Poll::Pending
    })
    .await;
    runs.set(true);
}

/// Many pairs of tasks that pass bytes through sockets, in parts of all sizes, beside threads that wake others and sockets
/// that come and go: every byte arrives, in order, and nobody is forgotten.
#[test]
fn a_busy_loop_forgets_nobody() {
    const PAIRS: u64 = 60;
    const ROUNDS: u64 = 12;
    run(async {
        let (open, woken) = (Rc::new(Cell::new(0u64)), Arc::new(AtomicU64::new(0)));
        for number in 0..PAIRS {
            let (open, woken) = (open.clone(), woken.clone());
            open.set(open.get() + 1);
            spawn(async move {
                for round in 0..ROUNDS {
                    exchange(number * ROUNDS + round).await;
                    let woken = woken.clone();
                    let answer = blocking(move || woken.fetch_add(1, Ordering::Relaxed));
                    assert!(answer.await.is_ok());
                }
                open.set(open.get() - 1);
            });
        }
        until(|| open.get() == 0).await;
        assert_eq!(woken.load(Ordering::Relaxed), PAIRS * ROUNDS);
    });
}

/// Sends a number of bytes through a socket of its own, with parts and rooms that depend on `seed`.
async fn exchange(seed: u64) {
    let mut state = seed * 2 + 1;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let (near, far) = sys::socket::pair().unwrap();
    let (near, far) = (Source::stream(near).unwrap(), Source::stream(far).unwrap());
    let reach = [10, 5_000, 600_000][random(3) as usize];
    let bytes: Vec<u8> = (0..random(reach) + 1).map(|i| ((i + seed) % 251) as u8).collect();
    let sent = bytes.clone();
    let done = Rc::new(Cell::new(false));
    let over = done.clone();
    // At most 2,000 pieces.
    let part = [1, 7, 300, 70_000][random(4) as usize].max(bytes.len() / 2_000);
    spawn(async move {
        for (number, piece) in sent.chunks(part).enumerate() {
            write_all(&near, piece).await;
            if number % 50 == 7 {
                yield_now().await;
            }
        }
        // The end behind the last byte.
        drop(near);
        over.set(true);
    });
    let mut got = Vec::new();
    let mut lazy = pin!(sleep(ms(random(4))));
    lazy.as_mut().await;
    loop {
        let piece = read(&far, 1 + random(50_000) as usize).await;
        if piece.is_empty() {
            break;
        }
        got.extend(piece);
    }
    assert!(got == bytes, "seed {seed}: {} of {} bytes", got.len(), bytes.len());
    assert!(done.get());
}
