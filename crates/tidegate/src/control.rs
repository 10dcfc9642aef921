//! The serving process's control thread: takes orders from the monitor, gives up root, and runs the fleet.
//!
//! It loads each configuration from the monitor's bundle alone. Old snapshots are dropped here, never on a thread that
//! carries traffic.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::parent_id;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use sys::limits;
use sys::passing::{Bounds, Channel, Inbox, Taken};
use sys::signals::{Signal, Signals};
use tls::config::sessions::TicketKeys;

use crate::bundle::Bundle;
use crate::credentials;
use crate::engine::Level;
use crate::engine::{Counts, Engine, Fleet, FleetEvent, ProcessConf, Snapshot};
use crate::error_log::{ErrorLog, reason};
use crate::late_files::{self, Asker, Questions};
use crate::local_time;
use crate::mailbox::{self, Receiver};
use crate::message::{Order, Report};
use crate::monitor::lines::signal_line;
use crate::world::{BundleWorld, LogTable};

/// Descriptors beside those of connections: listeners, logs, files being sent, epoll.
const OTHER_DESCRIPTORS: u64 = 1024;
/// How often a graceful stop looks whether anything is still open.
const IDLE_CHECK: Duration = Duration::from_millis(20);
/// How much longer than `flush=` says a log line may wait.
const LOG_CHECK: Duration = Duration::from_millis(500);
const FAILED: u8 = 1;
/// Descriptors held back for what the monitor sends: logs, and listeners that are new.
const SPARE: usize = 16;
/// How often it is tried to get those that are missing.
const SPARE_CHECK: Duration = Duration::from_secs(1);

/// Serve until told to stop, or until the monitor is gone. `signals` come with a process of its own; without them this
/// is a thread beside the monitor, and the process keeps its identity.
pub fn serve(engine: &'static dyn Engine, channel: Channel, signals: Option<Signals>) -> u8 {
    let table = LogTable::default();
    let Ok(Some(Order::Install(number, bundle))) = Order::receive(&channel) else { return FAILED };
    match Control::start(engine, &channel, signals, &table, number, *bundle) {
        Ok(mut control) => control.run(),
        Err(why) => {
            let _ = Report::Refused(number, why).send(&channel);
            FAILED
        }
    }
}

struct Control<'c> {
    engine: &'static dyn Engine,
    channel: &'c Channel,
    /// The order that comes in.
    inbox: Inbox,
    signals: Option<Signals>,
    table: &'c LogTable,
    log: ErrorLog,
    fleet: Box<dyn Fleet>,
    events: Receiver<FleetEvent>,
    /// Closed when connections have used up all others.
    spare: Vec<OwnedFd>,
    /// They were given up for an order that was asked for again and is not here yet.
    is_making_room: bool,
    /// Files that configurations want while they serve.
    questions: Questions,
    asker: Asker,
    /// What session tickets are encrypted with, under all configurations.
    tickets: Arc<TicketKeys>,
    shutdown_timeout: Option<Duration>,
    /// When to give up what runs under generations before the one of that number. Also when these are freed by then:
    /// tunnels of `websocket_reload close` hold nothing of them.
    retire_at: Vec<(Instant, u64)>,
    /// A graceful stop is under way, until then if there is a limit.
    quitting: Option<Option<Instant>>,
}

impl<'c> Control<'c> {
    /// From the first bundle to a fleet that accepts.
    fn start(
        engine: &'static dyn Engine,
        channel: &'c Channel,
        signals: Option<Signals>,
        table: &'c LogTable,
        number: u64,
        mut bundle: Bundle,
    ) -> Result<Self, String> {
        let parent = parent_id();
        let sockets = std::mem::take(&mut bundle.sockets);
        let identity = bundle.identity.take();
        let (asker, questions) =
            late_files::questions().map_err(|error| format!("eventfd() failed {}", reason(&error)))?;
        let tickets = Arc::new(TicketKeys::given(&bundle.tickets));
        let (snapshot, world) = load(engine, number, bundle, table, &asker, &tickets)?;
        let log = ErrorLog::of(&snapshot.core.error_log, false);
        prepare_limits(&snapshot, &log);
        if let (Some(identity), true) = (&identity, signals.is_some()) {
            credentials::become_identity(identity)?;
        }
        if signals.is_some() {
            // Until now it died with the monitor; from now on there may be tunnels to say goodbye to.
            sys::process::outlive_parent_briefly(parent)
                .map_err(|error| format!("prctl(PR_SET_PDEATHSIG) failed {}", reason(&error)))?;
            enter_directory(&snapshot.process)?;
        }
        let (sender, events) =
            mailbox::mailbox().map_err(|error| format!("eventfd() failed {}", reason(&error)))?;
        let started = engine.start(&snapshot, sender);
        let mut fleet = started.map_err(|error| format!("workers can't start {}", reason(&error)))?;
        fleet.install(number, &snapshot, sockets)?;
        world.commit();
        let mut control = Self {
            engine,
            channel,
            inbox: Inbox::new(Bounds::NONE),
            signals,
            table,
            log,
            fleet,
            events,
            spare: Vec::new(),
            is_making_room: false,
            questions,
            asker,
            tickets,
            shutdown_timeout: shutdown_timeout(&snapshot),
            retire_at: Vec::new(),
            quitting: None,
        };
        control.hold_back();
        control.tell(&Report::Ready(number));
        control.redirect_stderr();
        Ok(control)
    }

    fn run(&mut self) -> u8 {
        loop {
            self.wait();
            while let Some(event) = self.events.next() {
                if let Some(code) = self.on_event(event) {
                    return code;
                }
            }
            if let Some(code) = self.on_signals() {
                return code;
            }
            while let Some((number, path)) = self.questions.next_asked() {
                self.tell(&Report::Wanted(number, path));
            }
            match Order::take(&mut self.inbox, self.channel) {
                Ok(Taken::Message(order)) => {
                    if let Some(code) = self.on_order(order) {
                        return code;
                    }
                }
                // A monitor that stands still in the middle of an order keeps nobody from serving.
                Ok(Taken::Nothing) => {}
                // The monitor is dead, or as good as: nobody could ever stop us otherwise.
                Ok(Taken::Closed) | Err(_) => {
                    self.log.write(Level::Alert, "the monitor is gone");
                    return self.stop();
                }
            }
            if let Some(code) = self.on_time(Instant::now()) {
                return code;
            }
        }
    }

    fn wait(&self) {
        let mut fds = vec![
            PollFd::new(self.channel, PollFlags::IN),
            PollFd::new(&self.events, PollFlags::IN),
            PollFd::new(&self.questions, PollFlags::IN),
        ];
        if let Some(signals) = &self.signals {
            fds.push(PollFd::new(signals, PollFlags::IN));
        }
        let now = Instant::now();
        let retire = self.retire_at.iter().map(|(at, _)| at.saturating_duration_since(now)).min();
        let idle = self.quitting.map(|_| IDLE_CHECK);
        let clock = Some(local_time::until_change());
        let logs = self.table.may_wait().then_some(LOG_CHECK);
        let spare = self.lacks_spare().then_some(SPARE_CHECK);
        let timeout = [retire, idle, clock, logs, spare].into_iter().flatten().min().map(|left| Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        let _ = poll(&mut fds, timeout.as_ref());
    }

    fn on_time(&mut self, now: Instant) -> Option<u8> {
        local_time::set();
        self.table.flush_due();
        if self.lacks_spare() {
            self.hold_back();
        }
        let (due, later) = std::mem::take(&mut self.retire_at).into_iter().partition(|(at, _)| *at <= now);
        self.retire_at = later;
        for (_, generation) in due {
            self.fleet.retire(generation);
        }
        let deadline = self.quitting?;
        let is_late = deadline.is_some_and(|at| at <= now);
        (is_late || self.fleet.counts() == Counts::default()).then(|| self.stop())
    }

    fn on_event(&mut self, event: FleetEvent) -> Option<u8> {
        match event {
            FleetEvent::Released { snapshot, retired } => {
                drop(snapshot);
                if let Some(number) = retired {
                    self.log.notice(&format!("generation {number} exited with code 0"));
                }
            }
            FleetEvent::ListenersClosed(addresses) => self.tell(&Report::ListenersClosed(addresses)),
            FleetEvent::Fatal(why) => {
                self.log.write(Level::Alert, &why);
                self.fleet.stop();
                return Some(FAILED);
            }
        }
        None
    }

    fn on_order(&mut self, order: Order) -> Option<u8> {
        match order {
            Order::Install(number, bundle) => {
                let answer = match self.install(number, *bundle) {
                    Ok(()) => Report::Ready(number),
                    Err(why) => Report::Refused(number, why),
                };
                self.tell(&answer);
                self.hold_back();
            }
            Order::Reopen(logs) => {
                self.log.notice("reopening logs");
                self.table.replace(logs);
                self.redirect_stderr();
                self.hold_back();
            }
            Order::Bereft(generation) => self.make_room(generation),
            Order::Tickets(keys) => self.tickets.replace(&keys),
            Order::File(number, answer) => self.questions.answered(number, answer),
            Order::Quit => self.quit(),
            Order::Stop => return Some(self.stop()),
        }
        None
    }

    /// Somebody signals this process and not the monitor: as nginx's worker does, it goes, and the monitor starts
    /// another. A Ctrl-C reaches both; then the monitor decides.
    fn on_signals(&mut self) -> Option<u8> {
        while let Some(received) = self.signals.as_ref().and_then(|signals| signals.try_next().ok().flatten())
        {
            let action = match received.signal {
                Signal::TERM => ", exiting",
                Signal::QUIT => ", shutting down",
                Signal::CHILD | Signal::INT => continue,
                _ => ", ignoring",
            };
            self.log.notice(&signal_line(received.signal, received.pid, action));
            match received.signal {
                Signal::TERM => return Some(self.stop()),
                Signal::QUIT => self.quit(),
                _ => {}
            }
        }
        None
    }

    fn install(&mut self, number: u64, mut bundle: Bundle) -> Result<(), String> {
        let sockets = std::mem::take(&mut bundle.sockets);
        let (snapshot, world) = load(self.engine, number, bundle, self.table, &self.asker, &self.tickets)?;
        self.fleet.install(number, &snapshot, sockets)?;
        world.commit();
        self.log = ErrorLog::of(&snapshot.core.error_log, false);
        self.shutdown_timeout = shutdown_timeout(&snapshot);
        if let Some(timeout) = self.shutdown_timeout {
            self.retire_at.push((Instant::now() + timeout, number));
        }
        self.redirect_stderr();
        Ok(())
    }

    /// An order came without its descriptors: what was held back is for the second try. There is no third.
    fn make_room(&mut self, generation: Option<u64>) {
        if !self.spare.is_empty() {
            self.spare.clear();
            self.is_making_room = true;
            return self.tell(&Report::Again(generation));
        }
        let why = format!("recvmsg() failed {}", reason(&Errno::MFILE.into()));
        match generation {
            Some(number) => self.tell(&Report::Refused(number, why)),
            None => self.log.write(Level::Alert, &format!("{why}, logs are not reopened")),
        }
        self.hold_back();
    }

    fn lacks_spare(&self) -> bool {
        self.spare.len() < SPARE && !self.is_making_room
    }

    /// As many as there are: the others when some are free again.
    fn hold_back(&mut self) {
        self.is_making_room = false;
        while self.spare.len() < SPARE
            && let Ok(one) = self.channel.as_fd().try_clone_to_owned()
        {
            self.spare.push(one);
        }
    }

    fn quit(&mut self) {
        if self.quitting.is_none() {
            self.log.notice("gracefully shutting down");
            self.quitting = Some(self.shutdown_timeout.map(|timeout| Instant::now() + timeout));
            self.fleet.quit(self.shutdown_timeout);
        }
    }

    fn stop(&mut self) -> u8 {
        self.log.notice("exiting");
        self.fleet.stop();
        self.table.flush();
        0
    }

    fn redirect_stderr(&self) {
        // A thread shares stderr with the monitor, who has done it.
        if self.signals.is_some() {
            self.log.redirect_stderr();
        }
    }

    /// A monitor that can't be told is noticed when it is read.
    fn tell(&self, report: &Report) {
        let _ = report.send(self.channel);
    }
}

fn load<'t>(
    engine: &dyn Engine,
    number: u64,
    bundle: Bundle,
    table: &'t LogTable,
    asker: &Asker,
    tickets: &Arc<TicketKeys>,
) -> Result<(Arc<Snapshot>, BundleWorld<'t>), String> {
    let world = BundleWorld::new(bundle.answers, bundle.logs, table, asker.clone(), tickets.clone());
    let loaded = engine.load(&bundle.options, number, &world);
    // What there is to say was said by the monitor; an error here is one it did not have.
    let why = || match loaded.diagnostics.iter().find(|one| one.level <= conf::Level::Error) {
        Some(one) => one.message.clone(),
        None => "the configuration can't be loaded again".to_owned(),
    };
    let snapshot = loaded.snapshot.as_ref().ok_or_else(why)?;
    Ok((snapshot.clone(), world))
}

/// Raise the limits while root may, and let the descriptor table grow before threads make that slow.
fn prepare_limits(snapshot: &Snapshot, log: &ErrorLog) {
    let core = &snapshot.core;
    let wanted = core.rlimit_nofile.map(|one| one.saturating_mul(core.workers as u64));
    if let Some(count) = wanted
        && let Err(error) = limits::set_descriptor_limit(count)
    {
        log.write(Level::Warn, &format!("setrlimit(RLIMIT_NOFILE, {count}) failed {}", reason(&error)));
    }
    if wanted.is_none() {
        // Refused only where a container forbids it; what is there must do then.
        let _ = limits::raise_descriptor_limit();
    }
    if let Some(bytes) = snapshot.process.rlimit_core
        && let Err(error) = limits::set_core_limit(bytes)
    {
        log.write(Level::Warn, &format!("setrlimit(RLIMIT_CORE, {bytes}) failed {}", reason(&error)));
    }
    let connections = (core.workers as u64).saturating_mul(core.connections as u64);
    if let Some(soft) = limits::descriptor_limit().soft.filter(|soft| *soft < connections) {
        log.write(
            Level::Warn,
            &format!("{connections} worker_connections exceed open file resource limit: {soft}"),
        );
    }
    // Not the whole limit: containers set it to a thousand million.
    let _ = limits::grow_descriptor_table(connections.saturating_add(OTHER_DESCRIPTORS));
}

fn shutdown_timeout(snapshot: &Snapshot) -> Option<Duration> {
    snapshot.core.shutdown_timeout_ms.filter(|ms| *ms > 0).map(Duration::from_millis)
}

fn enter_directory(process: &ProcessConf) -> Result<(), String> {
    let Some(path) = &process.working_directory else { return Ok(()) };
    std::env::set_current_dir(path)
        .map_err(|error| format!("chdir(\"{}\") failed {}", path.display(), reason(&error)))
}
