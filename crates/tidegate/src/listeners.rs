//! Listening sockets across reloads: opened by the monitor, kept by address, never closed while anybody may connect.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::net::sockopt;
use sys::listen::{self, Address, ListenError, ListenOptions};
use sys::options;

use crate::engine::Level;
use crate::engine::ListenSpec;
use crate::error_log::{ErrorLog, reason};

/// nginx's patience with an address that is still in use, typically by the process this one replaces.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// The open sockets of one address.
#[derive(Clone)]
pub struct Listener {
    /// The address.
    pub address: Address,
    /// What the sockets were opened or last set with.
    options: ListenOptions,
    sockets: Vec<Arc<OwnedFd>>,
    /// The file of a unix socket goes with its last listener.
    _file: Option<Arc<SocketFile>>,
}

/// Listeners for a configuration that is not served yet.
pub struct Prepared {
    listeners: Vec<Listener>,
    specs: Vec<ListenSpec>,
}

/// Open what `specs` asks for and `kept` does not have. `None` was explained in the log, and leaves `kept` untouched.
pub fn prepare(specs: &[ListenSpec], workers: usize, kept: &[Listener], log: &ErrorLog) -> Option<Prepared> {
    let mut listeners: Vec<Option<Listener>> = specs.iter().map(|spec| keep(spec, kept)).collect();
    for attempt in 1..=TRIES {
        let mut in_use = false;
        for (spec, listener) in specs.iter().zip(&mut listeners) {
            match complete(listener.take(), spec, workers) {
                Ok(complete) => *listener = Some(complete),
                Err(error) => {
                    log.emerg(&error.to_string());
                    if !is_in_use(&error) {
                        return None;
                    }
                    *listener = keep(spec, kept);
                    in_use = true;
                }
            }
        }
        if !in_use {
            let listeners = listeners.into_iter().flatten().collect();
            return Some(Prepared { listeners, specs: specs.to_vec() });
        }
        if attempt < TRIES {
            log.notice("try again to bind() after 500ms");
            thread::sleep(PAUSE);
        }
    }
    log.emerg("still could not bind()");
    None
}

/// `-t`: can the sockets be opened? An address in use is no fault of the configuration.
pub fn test(specs: &[ListenSpec], log: &ErrorLog) -> bool {
    for spec in specs {
        match complete(None, spec, 1) {
            Err(error) if !is_in_use(&error) => {
                log.emerg(&error.to_string());
                return false;
            }
            _ => {}
        }
    }
    true
}

impl Prepared {
    /// The sockets, before they are in use.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// The configuration is served: set on kept sockets what can be set, say what can't.
    pub fn commit(mut self, log: &ErrorLog) -> Vec<Listener> {
        for (listener, spec) in self.listeners.iter_mut().zip(&self.specs) {
            if listener.options != spec.options {
                listener.change(&spec.options, log);
            }
        }
        self.listeners
    }
}

impl Listener {
    /// A second descriptor of each socket that `old` does not have, for the serving process.
    pub fn duplicate_without(&self, old: &[Self]) -> io::Result<Vec<(Address, OwnedFd)>> {
        let had = old.iter().find(|old| old.address == self.address);
        let is_new = |socket: &&Arc<OwnedFd>| {
            !had.is_some_and(|had| had.sockets.iter().any(|other| Arc::ptr_eq(other, socket)))
        };
        let fresh = self.sockets.iter().filter(is_new);
        fresh.map(|socket| Ok((self.address.clone(), socket.try_clone()?))).collect()
    }

    /// What a reload may change on a socket that goes on listening. nginx does the same few, others want a new socket.
    fn change(&mut self, new: &ListenOptions, log: &ErrorLog) {
        let old = self.options.clone();
        for socket in &self.sockets {
            if let Err(error) = change_socket(socket, &old, new) {
                let address = &self.address;
                log.write(
                    Level::Warn,
                    &format!("new options of {address} failed {}, ignored", reason(&error)),
                );
            }
        }
        for (changed, name) in [
            (old.ipv6_only != new.ipv6_only, "ipv6only"),
            (old.reuse_port && !new.reuse_port, "reuseport"),
            (old.deferred != new.deferred, "deferred"),
            (old.fast_open != new.fast_open, "fastopen"),
        ] {
            if changed {
                let address = &self.address;
                let text = format!(
                    "\"{name}\" of {address} changed, it takes effect when the address is opened anew"
                );
                log.notice(&text);
            }
        }
        self.options = new.clone();
    }
}

fn keep(spec: &ListenSpec, kept: &[Listener]) -> Option<Listener> {
    kept.iter().find(|listener| listener.address == spec.address).cloned()
}

/// Open what is missing: everything of a new address, the other sockets of one that became `reuseport`.
fn complete(listener: Option<Listener>, spec: &ListenSpec, workers: usize) -> Result<Listener, ListenError> {
    let wanted = if spec.options.reuse_port { workers.max(1) } else { 1 };
    let mut listener = match listener {
        Some(mut listener) => {
            if spec.options.reuse_port && !listener.options.reuse_port {
                allow_others(&listener).map_err(|source| ListenError {
                    call: "setsockopt(SO_REUSEPORT)",
                    address: spec.address.clone(),
                    source,
                })?;
                listener.options.reuse_port = true;
            } else {
                return Ok(listener);
            }
            listener
        }
        None => {
            let first = listen::listen(&spec.address, &spec.options)?;
            Listener {
                address: spec.address.clone(),
                options: spec.options.clone(),
                sockets: vec![Arc::new(first)],
                _file: SocketFile::of(&spec.address),
            }
        }
    };
    while listener.sockets.len() < wanted {
        listener.sockets.push(Arc::new(listen::listen(&spec.address, &spec.options)?));
    }
    Ok(listener)
}

/// The first socket must allow others on its address before they can be bound.
fn allow_others(listener: &Listener) -> io::Result<()> {
    listener.sockets.iter().try_for_each(|socket| Ok(sockopt::set_socket_reuseport(socket, true)?))
}

fn change_socket(socket: &OwnedFd, old: &ListenOptions, new: &ListenOptions) -> io::Result<()> {
    let socket = socket.as_fd();
    if old.backlog != new.backlog && !new.datagram {
        listen::set_backlog(socket, new.backlog)?;
    }
    if let Some(bytes) = new.receive_buffer.filter(|_| old.receive_buffer != new.receive_buffer) {
        options::set_receive_buffer(socket, bytes)?;
    }
    if let Some(bytes) = new.send_buffer.filter(|_| old.send_buffer != new.send_buffer) {
        options::set_send_buffer(socket, bytes)?;
    }
    if let Some(keepalive) = new.keepalive.filter(|_| old.keepalive != new.keepalive) {
        options::set_keepalive(socket, keepalive)?;
    }
    Ok(())
}

fn is_in_use(error: &ListenError) -> bool {
    error.source.kind() == io::ErrorKind::AddrInUse
}

/// Removes the file of a unix socket when nobody listens on it any more.
struct SocketFile(PathBuf);

impl SocketFile {
    fn of(address: &Address) -> Option<Arc<Self>> {
        match address {
            Address::Unix(path) => Some(Arc::new(Self(path.clone()))),
            Address::Inet(_) => None,
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(address: Address) -> ListenSpec {
        ListenSpec { address, options: ListenOptions::default() }
    }

    fn loopback() -> Address {
        Address::Inet("127.0.0.1:0".parse().unwrap())
    }

    fn quiet() -> ErrorLog {
        ErrorLog::of(&Arc::default(), false)
    }

    #[test]
    fn an_address_that_stays_keeps_its_socket() {
        let path = std::env::temp_dir().join(format!("tidegate-listen-{}.sock", std::process::id()));
        let unix = Address::Unix(path.clone());
        let old = prepare(&[spec(unix.clone())], 1, &[], &quiet()).unwrap().commit(&quiet());
        assert!(path.exists());
        let both = [spec(loopback()), spec(unix)];
        let new = prepare(&both, 1, &old, &quiet()).unwrap().commit(&quiet());
        let fresh: Vec<_> = new.iter().flat_map(|one| one.duplicate_without(&old).unwrap()).collect();
        assert_eq!(fresh.len(), 1, "only the new address is handed over");
        drop(old);
        assert!(path.exists(), "the new configuration still listens there");
        drop(new);
        assert!(!path.exists());
    }

    #[test]
    fn reuseport_opens_a_socket_for_each_worker_also_later() {
        let plain = spec(Address::Inet("127.0.0.1:0".parse().unwrap()));
        let mut shared = plain.clone();
        shared.options.reuse_port = true;
        let old = prepare(std::slice::from_ref(&plain), 3, &[], &quiet()).unwrap().commit(&quiet());
        let new = prepare(&[shared], 3, &old, &quiet()).unwrap().commit(&quiet());
        assert_eq!(new[0].duplicate_without(&[]).unwrap().len(), 3);
        assert_eq!(new[0].duplicate_without(&old).unwrap().len(), 2);
    }

    #[test]
    fn an_address_in_use_passes_the_test_and_a_foreign_one_does_not() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(test(&[spec(Address::Inet(taken.local_addr().unwrap()))], &quiet()));
        assert!(!test(&[spec(Address::Inet("192.0.2.1:80".parse().unwrap()))], &quiet()));
        assert!(prepare(&[spec(Address::Inet("192.0.2.1:80".parse().unwrap()))], 1, &[], &quiet()).is_none());
    }
}
