//! Tunnels that a reload closes (`websocket_reload close`); all others are known to their loop alone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use relay::{Leave, Remote, Token};

/// Those of all workers.
#[derive(Default)]
pub(crate) struct Closing {
    known: Mutex<Known>,
    serial: AtomicU64,
}

#[derive(Default)]
struct Known {
    tunnels: HashMap<u64, Born>,
    /// Those of generations before this were closed, and how: one of them may still come.
    closed_before: u64,
    how: Leave,
}

/// A tunnel, the loop it is in, and the generation it was born in. A token alone names a tunnel of one loop only.
struct Born {
    generation: u64,
    token: Token,
    remote: Remote,
}

impl Closing {
    /// Enters a tunnel; the number is for [`Closing::remove`].
    fn add(&self, born: Born) -> u64 {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let mut known = self.lock();
        if born.generation < known.closed_before {
            born.remote.close(born.token, known.how.clone());
        }
        known.tunnels.insert(serial, born);
        serial
    }

    fn remove(&self, serial: u64) {
        self.lock().tunnels.remove(&serial);
    }

    /// Closes those of generations before `generation`.
    pub(crate) fn close_before(&self, generation: u64, how: &Leave) {
        let mut known = self.lock();
        for born in known.tunnels.values().filter(|born| born.generation < generation) {
            born.remote.close(born.token, how.clone());
        }
        // A worker may not have heard of it, and still hand one over.
        known.closed_before = known.closed_before.max(generation);
        known.how = how.clone();
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What such a tunnel needs to be found; known from its start until this is dropped.
pub(super) struct Leaver {
    closing: Arc<Closing>,
    remote: Remote,
    /// The generation it was born under.
    born: u64,
    /// Its number among those a reload closes.
    serial: Option<u64>,
}

impl Leaver {
    pub(super) fn new(closing: &Arc<Closing>, remote: &Remote, born: u64) -> Box<Leaver> {
        Box::new(Leaver { closing: closing.clone(), remote: remote.clone(), born, serial: None })
    }

    /// The tunnel has started.
    pub(super) fn started(&mut self, token: Token) {
        let born = Born { generation: self.born, token, remote: self.remote.clone() };
        self.serial = Some(self.closing.add(born));
    }
}

impl Drop for Leaver {
    fn drop(&mut self) {
        if let Some(serial) = self.serial {
            self.closing.remove(serial);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::{Sender, channel};
    use std::time::{Duration, Instant};

    use relay::{EndedBy, Handover, Keep, Limits, Plan, Report, Timers};

    use super::*;

    /// A tunnel of generation 1 that `websocket_reload close` is about, and where it says that it ended.
    struct Old {
        leaver: Box<Leaver>,
        told: Sender<EndedBy>,
    }

    impl Keep for Old {
        fn started(&mut self, token: Token) {
            self.leaver.started(token);
        }

        fn ended(self: Box<Self>, report: Report) {
            let _ = self.told.send(report.ended_by);
        }
    }

    /// Whether it was handed over before the reload closed its like or behind that.
    #[test]
    fn no_tunnel_escapes_a_reload_that_closes() {
        for late in [false, true] {
            let closing = Arc::new(Closing::default());
            let (looped, remote) = relay::Loop::new(relay::Budget::new(1 << 20)).expect("a loop");
            let thread = std::thread::spawn(move || looped.run());
            let (told, ended) = channel();
            let ((_client, near), (_upstream, far)) = (pair(), pair());
            let keep = Old { leaver: Leaver::new(&closing, &remote, 1), told };
            let plan = Plan {
                limits: Limits { buffer_bytes_max: 65_536 },
                timers: Timers::default(),
                scan: false,
                goodbye: None,
                keep: Box::new(keep),
            };
            let handover = Handover { client: relay::End::new(near), upstream: relay::End::new(far), plan };
            if late {
                closing.close_before(2, &Leave::default());
            }
            assert!(remote.insert(handover).is_ok());
            if !late {
                let deadline = Instant::now() + Duration::from_secs(20);
                while closing.lock().tunnels.is_empty() {
                    assert!(Instant::now() < deadline, "the tunnel does not start");
                    std::thread::yield_now();
                }
                closing.close_before(2, &Leave::default());
            }
            assert_eq!(ended.recv_timeout(Duration::from_secs(20)), Ok(EndedBy::Shutdown), "late: {late}");
            remote.stop();
            thread.join().expect("the loop ends");
        }
    }

    fn pair() -> (UnixStream, OwnedFd) {
        let (far, near) = UnixStream::pair().expect("sockets");
        near.set_nonblocking(true).expect("a socket");
        (far, near.into())
    }
}
