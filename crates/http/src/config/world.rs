//! The world outside a configuration file: other files, host names, log files.
//!
//! The monitor loads through a world that reads the disk and records; the serving process loads the same text
//! through one that answers from that record (D1), so it needs no rights.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tls::config::sessions::TicketKeys;

use crate::config::{FilePattern, LateFiles, OwnRights};
use crate::log::LogFile;

/// What a configuration may ask of the outside.
pub trait World: conf::Files {
    /// All addresses of a host name, in the resolver's order, each with `port`.
    ///
    /// # Errors
    /// The name is unknown: nginx's `host not found`.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;

    /// Opens a log file for appending, creating it. The same path gives the same file (D8), also over reloads.
    ///
    /// # Errors
    /// As open(2).
    fn open_log(&self, path: &Path) -> io::Result<Arc<LogFile>>;

    /// Whether a `user` line means anything, which it does for root.
    ///
    /// # Errors
    /// There is no such user or group: nginx's `getpwnam("x") failed`.
    fn knows_user(&self, user: &(String, Option<String>)) -> Result<bool, String> {
        let _ = user;
        Ok(true)
    }

    /// Who reads files that fit this pattern while the configuration serves. Others are read with the rights of the process,
    /// as on nginx, whose workers read them.
    fn late_files(&self, pattern: FilePattern) -> Arc<dyn LateFiles> {
        let _ = pattern;
        Arc::new(OwnRights)
    }

    /// What encrypts session tickets of servers that have no keys of their own, when sessions live so long. All servers share
    /// it: a ticket is good with the server's [`tls::config::sessions::Context`] alone.
    fn ticket_keys(&self, lifetime: Duration) -> Arc<TicketKeys> {
        let _ = lifetime;
        Arc::new(TicketKeys::random())
    }
}

/// The real world.
#[derive(Default)]
pub struct DiskWorld {
    logs: std::sync::Mutex<Vec<Arc<LogFile>>>,
}

impl conf::Files for DiskWorld {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        conf::DiskFiles.read(path)
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        conf::DiskFiles.glob(pattern)
    }
}

impl World for DiskWorld {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        (host, port).to_socket_addrs().map(Iterator::collect)
    }

    fn open_log(&self, path: &Path) -> io::Result<Arc<LogFile>> {
        let mut logs = self.logs.lock().unwrap_or_else(|poison| poison.into_inner());
        if let Some(log) = logs.iter().find(|log| log.path() == path) {
            return Ok(log.clone());
        }
        let log = Arc::new(LogFile::open(path)?);
        logs.push(log.clone());
        Ok(log)
    }
}
