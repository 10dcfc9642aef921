//! The load process: backend and client in one thread and one epoll loop, so that one core carries both, and so that
//! the proxy has its own core to itself.
//!
//! It takes orders on stdin and answers on stdout, and takes the proxy's CPU time itself at the first and the last
//! moment of a stretch, so that operations and CPU time are counted over the same one.

mod backend;
mod client;
mod handle;
mod histogram;
mod orders;
mod reloads;
mod secure;
mod socket;
mod stream;
mod text;

use std::io::{self, BufRead as _, Write as _};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

use crate::process;

pub(crate) use handle::Load;
pub(crate) use orders::{Latencies, Offer, Order, Pace, Ran, Run};
pub(crate) use secure::NAME;

use backend::Backend;
use client::Client;
use reloads::Reloads;

/// Token of the timer that wakes a paced load.
const TIMER: u64 = 1 << 61;
/// Events taken in one turn.
const BATCH: usize = 256;
/// Enough for the largest message, so that one read takes it whole.
const SCRATCH_BYTES: usize = 64 * 1024;
/// How long opening or closing all connections may take.
const SETUP_DEADLINE: Duration = Duration::from_secs(60);

/// Body of the load process: first line out says the backend's ports, then one answer per order.
pub(crate) fn serve(ports: usize) -> io::Result<()> {
    let mut engine = Engine::new(ports)?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", serde_json::to_string(&engine.ports)?)?;
    stdout.flush()?;
    for line in io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line?)?;
        let answer = engine.execute(order).map_err(|error| error.to_string());
        writeln!(stdout, "{}", serde_json::to_string(&answer)?)?;
        stdout.flush()?;
    }
    Ok(())
}

struct Engine {
    epoll: OwnedFd,
    timer: OwnedFd,
    backend: Backend,
    ports: Vec<u16>,
    held: Option<Client>,
    scratch: Vec<u8>,
    events: Vec<epoll::Event>,
}

impl Engine {
    fn new(ports: usize) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)?;
        let (backend, ports) = Backend::listen(&epoll, ports)?;
        let scratch = vec![0; SCRATCH_BYTES];
        Ok(Self { epoll, timer, backend, ports, held: None, scratch, events: Vec::with_capacity(BATCH) })
    }

    fn execute(&mut self, order: Order) -> io::Result<Ran> {
        match order {
            Order::Run(run) => self.with_client(&run, |engine, client| engine.run(client, &run)),
            Order::Hold { to, tls, tunnels, message_bytes } => {
                let run = Run { tls, tunnels, message_bytes, ..Run::against(to, Vec::new()) };
                let mut client = Client::new(&run, Instant::now())?;
                self.open(&mut client)?;
                client.echo_once(Instant::now())?;
                self.until("every echo", &mut client, |client| client.is_quiet(tunnels))?;
                self.held = Some(client);
                Ok(Ran::default())
            }
            Order::Release => {
                if let Some(client) = self.held.take() {
                    client.abort();
                }
                self.drain()?;
                Ok(Ran::default())
            }
        }
    }

    /// Runs with a client that is gone afterwards, and with it every tunnel, whatever happened.
    fn with_client(
        &mut self,
        run: &Run,
        work: impl FnOnce(&mut Self, &mut Client) -> io::Result<Ran>,
    ) -> io::Result<Ran> {
        let mut client = Client::new(run, Instant::now())?;
        let ran = self.open(&mut client).and_then(|()| work(self, &mut client));
        client.abort();
        self.tick(Duration::ZERO)?;
        let drained = self.drain();
        ran.and_then(|ran| drained.map(|()| ran))
    }

    fn run(&mut self, client: &mut Client, run: &Run) -> io::Result<Ran> {
        self.tick(stream::TICK)?;
        client.start(run, Instant::now());
        let mut reloads = Reloads::new(run)?;
        self.turns_for(client, Duration::from_millis(run.warm_ms), &mut reloads)?;
        let memory_before = reloads.memory_bytes()?;
        client.clear();
        let own = [std::process::id()];
        let (start, own_before, before) =
            (Instant::now(), process::cpu_time(&own)?, process::cpu_time(&run.pids)?);
        self.turns_for(client, Duration::from_millis(run.run_ms), &mut reloads)?;
        let after = process::cpu_time(&run.pids)?;
        let seconds = start.elapsed().as_secs_f64();
        let mut ran = Ran {
            seconds,
            proxy_cpu_us: after.ran_us - before.ran_us,
            proxy_waited: (after.waited_us - before.waited_us) / 1e6 / seconds,
            load_busy: (process::cpu_time(&own)?.ran_us - own_before.ran_us) / 1e6 / seconds,
            ..Ran::default()
        };
        client.measured(&mut ran);
        ran.grown_bytes = reloads.memory_bytes()? - memory_before;
        Ok(ran)
    }

    fn open(&mut self, client: &mut Client) -> io::Result<()> {
        self.until("every connection", client, Client::is_open)
    }

    fn until(&mut self, what: &str, client: &mut Client, done: impl Fn(&Client) -> bool) -> io::Result<()> {
        let deadline = Instant::now() + SETUP_DEADLINE;
        loop {
            client.begin_due(&self.epoll)?;
            if done(client) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "waited a minute for {what} to come through the proxy"
                )));
            }
            self.turn(Some(client))?;
        }
    }

    fn turns_for(&mut self, client: &mut Client, time: Duration, reloads: &mut Reloads) -> io::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            reloads.send_due()?;
            client.begin_due(&self.epoll)?;
            self.turn(Some(client))?;
        }
        Ok(())
    }

    /// Waits until the proxy has closed its side of all tunnels, which is work that must not fall into the next run.
    fn drain(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + SETUP_DEADLINE;
        while self.backend.tunnels() > 0 {
            if Instant::now() > deadline {
                let left = self.backend.tunnels();
                return Err(io::Error::other(format!(
                    "{left} tunnels still open a minute after their clients left"
                )));
            }
            self.turn(None)?;
        }
        Ok(())
    }

    fn turn(&mut self, mut client: Option<&mut Client>) -> io::Result<()> {
        let wait = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let token = event.data.u64();
            if token == TIMER {
                // The next tick is only counted once this one is read.
                let _ = rustix::io::read(&self.timer, &mut [0; 8]);
            } else if token & backend::TOKEN != 0 {
                self.backend.event(&self.epoll, *event, &mut self.scratch)?;
            } else if let Some(client) = client.as_deref_mut() {
                client.event(*event, &mut self.scratch)?;
            }
        }
        self.backend.batch_done();
        if let Some(client) = client {
            client.batch_done();
        }
        Ok(())
    }

    /// Wakes the loop once in `interval`; zero: no more.
    fn tick(&self, interval: Duration) -> io::Result<()> {
        let interval = Timespec { tv_sec: 0, tv_nsec: i64::from(interval.subsec_nanos()) };
        let spec = Itimerspec { it_interval: interval, it_value: interval };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::process::Command;

    use super::*;

    fn plan(port: u16) -> Run {
        let to = (Ipv4Addr::LOCALHOST, port).into();
        Run { warm_ms: 5, run_ms: 40, ..Run::against(to, vec![std::process::id()]) }
    }

    /// With no proxy between them the client talks to the backend itself.
    #[test]
    fn every_load_comes_back() {
        let mut engine = Engine::new(1).expect("engine");
        // Our own process would not do for a proxy: threads of other tests end, and with them goes what they ran.
        let mut asleep = Command::new("sleep").arg("60").spawn().expect("sleep");
        let base = Run { pids: vec![asleep.id()], ..plan(engine.ports[0]) };
        let mut check = |what: &str, run: Run, count: fn(&Ran) -> u64| {
            let ran = engine.execute(Order::Run(run)).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(count(&ran) > 0, "{what}: {ran:?}");
            assert!(ran.seconds > 0.0 && ran.proxy_cpu_us < 1e4, "{what}: {ran:?}");
        };
        let echo = |message_bytes, echo| Run { tunnels: 3, message_bytes, echo, ..base.clone() };
        let paced = Pace::PerSecond(1000.0);
        check("small", echo(64, Pace::Closed), |ran| ran.echo.count);
        check("middle", echo(16_384, Pace::Closed), |ran| ran.echo.count);
        check("large", echo(200_000, Pace::Closed), |ran| ran.echo.count);
        check("paced", echo(64, paced), |ran| ran.echo.count);
        check("visits", Run { visit: Pace::Closed, visitors: 4, ..base.clone() }, |ran| ran.visit.count);
        check("gets", Run { getters: 2, get: Pace::Closed, ..base.clone() }, |ran| ran.get.count);
        let storm = Run { visit: paced, visitors: 50, ..echo(64, paced) };
        check("storm", storm, |ran| ran.visit.count.min(ran.echo.count));
        asleep.kill().and_then(|()| asleep.wait()).expect("our own child");
    }

    #[test]
    fn held_tunnels_stay_until_released() {
        let mut engine = Engine::new(1).expect("engine");
        let to = (Ipv4Addr::LOCALHOST, engine.ports[0]).into();
        engine.execute(Order::Hold { to, tls: None, tunnels: 20, message_bytes: 64 }).expect("held");
        assert_eq!(engine.backend.tunnels(), 20);
        engine.execute(Order::Release).expect("released");
        assert_eq!(engine.backend.tunnels(), 0);
    }

    #[test]
    fn a_proxy_that_hangs_up_is_an_error() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listener");
        let port = listener.local_addr().expect("address").port();
        let proxy = std::thread::spawn(move || drop(listener.accept()));
        let mut engine = Engine::new(1).expect("engine");
        let run = Run { tunnels: 1, echo: Pace::Closed, ..plan(port) };
        assert!(engine.execute(Order::Run(run)).is_err());
        proxy.join().expect("accepted");
    }
}
