//! The two outsides a configuration can be loaded against: the disk, with every answer written down, and the notes.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use conf::{DiskFiles, Files};
use http::config::{FilePattern, LateFiles, OwnRights, World};
use http::log::LogFile;
use tls::config::sessions::TicketKeys;

use crate::bundle::{Answer, Answers, Refusal};
use crate::credentials;
use crate::late_files::Asker;

/// The monitor's: real files, real names, recorded. The second question gets the first one's answer, so that what is
/// compiled here and in the serving process can't differ.
#[derive(Default)]
pub struct DiskWorld {
    answers: RefCell<Answers>,
    logs: RefCell<BTreeMap<PathBuf, Arc<LogFile>>>,
    patterns: RefCell<BTreeSet<FilePattern>>,
    ticket_lifetime: Cell<Option<Duration>>,
    logs_lead_nowhere: bool,
}

/// What a configuration has asked of its world.
pub struct Record {
    /// What was asked, and the answers.
    pub answers: Answers,
    /// What was opened.
    pub logs: Vec<Arc<LogFile>>,
    /// Which files may be asked for later.
    pub patterns: BTreeSet<FilePattern>,
    /// How long sessions live whose tickets it has keys for; nothing if it wants none.
    pub ticket_lifetime: Option<Duration>,
}

impl DiskWorld {
    /// A world in which `path` holds `text`, whatever is on disk.
    pub fn with_file(path: &Path, text: &str) -> Self {
        let world = Self::default();
        world.answers.borrow_mut().files.insert(path.to_owned(), Ok(text.as_bytes().to_vec()));
        world
    }

    /// A world whose logs lead nowhere: for a look at a configuration by somebody who may not write them.
    pub fn without_logs() -> Self {
        Self { logs_lead_nowhere: true, ..Self::default() }
    }

    /// What was asked of it.
    pub fn into_record(self) -> Record {
        Record {
            answers: self.answers.into_inner(),
            logs: self.logs.into_inner().into_values().collect(),
            patterns: self.patterns.into_inner(),
            ticket_lifetime: self.ticket_lifetime.into_inner(),
        }
    }
}

impl Files for DiskWorld {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let files = &mut self.answers.borrow_mut().files;
        repeat(files.entry(path.to_owned()).or_insert_with(|| keep(DiskFiles.read(path))))
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let globs = &mut self.answers.borrow_mut().globs;
        repeat(globs.entry(pattern.to_owned()).or_insert_with(|| keep(DiskFiles.glob(pattern))))
    }
}

impl World for DiskWorld {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let hosts = &mut self.answers.borrow_mut().hosts;
        let asked = (host.to_owned(), port);
        repeat(
            hosts.entry(asked).or_insert_with(|| keep((host, port).to_socket_addrs().map(Iterator::collect))),
        )
    }

    fn open_log(&self, path: &Path) -> io::Result<Arc<LogFile>> {
        let mut logs = self.logs.borrow_mut();
        if let Some(log) = logs.get(path) {
            return Ok(log.clone());
        }
        let place = if self.logs_lead_nowhere { Path::new("/dev/null") } else { path };
        let log = Arc::new(LogFile::from_file(path, LogFile::open(place)?.duplicate()?));
        logs.insert(path.to_owned(), log.clone());
        Ok(log)
    }

    fn knows_user(&self, user: &(String, Option<String>)) -> Result<bool, String> {
        credentials::wanted(Some(user)).map(|identity| identity.is_some())
    }

    fn late_files(&self, pattern: FilePattern) -> Arc<dyn LateFiles> {
        self.patterns.borrow_mut().insert(pattern);
        // Nothing is served from here.
        Arc::new(OwnRights)
    }

    fn ticket_keys(&self, lifetime: Duration) -> Arc<TicketKeys> {
        self.ticket_lifetime.set(self.ticket_lifetime.get().max(Some(lifetime)));
        Arc::new(TicketKeys::given(&[]))
    }
}

/// Log files by path, of all configurations that still live (DESIGN D8).
#[derive(Default)]
pub struct LogTable {
    files: RefCell<BTreeMap<PathBuf, Weak<LogFile>>>,
}

impl LogTable {
    /// Put new files behind paths that are in use; others are closed.
    pub fn replace(&self, logs: impl IntoIterator<Item = (PathBuf, OwnedFd)>) {
        let files = &mut *self.files.borrow_mut();
        files.retain(|_, file| file.strong_count() > 0);
        for (path, fd) in logs {
            if let Some(file) = files.get(&path).and_then(Weak::upgrade) {
                file.replace(File::from(fd));
            }
        }
    }

    /// Whether lines may wait in a buffer for their time (`access_log ... flush=`).
    pub fn may_wait(&self) -> bool {
        self.files.borrow().values().filter_map(Weak::upgrade).any(|file| file.may_wait())
    }

    /// Write out what has waited long enough.
    pub fn flush_due(&self) {
        let now_ms = http::clock::monotonic_ms();
        self.files.borrow().values().filter_map(Weak::upgrade).for_each(|file| file.flush_due(now_ms));
    }

    /// Write out what buffers hold.
    pub fn flush(&self) {
        self.files.borrow().values().filter_map(Weak::upgrade).for_each(|file| file.flush());
    }
}

/// The serving process's: only what the monitor handed over.
pub struct BundleWorld<'a> {
    answers: Arc<Answers>,
    fresh: RefCell<BTreeMap<PathBuf, OwnedFd>>,
    table: &'a LogTable,
    asker: Asker,
    tickets: Arc<TicketKeys>,
}

impl<'a> BundleWorld<'a> {
    /// A world of `answers` and open `logs`. Files already in `table` go on being used until [`BundleWorld::commit`].
    /// What is wanted later goes to `asker`; `tickets` are the process's.
    pub fn new(
        answers: Arc<Answers>,
        logs: Vec<(PathBuf, OwnedFd)>,
        table: &'a LogTable,
        asker: Asker,
        tickets: Arc<TicketKeys>,
    ) -> Self {
        Self { answers, fresh: RefCell::new(logs.into_iter().collect()), table, asker, tickets }
    }

    /// The configuration is served: its files replace those of the same paths, as nginx opens all logs anew.
    pub fn commit(self) {
        self.table.replace(self.fresh.into_inner());
    }
}

impl Files for BundleWorld<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        recall(self.answers.files.get(path), path)
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        recall(self.answers.globs.get(pattern), pattern)
    }
}

impl World for BundleWorld<'_> {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        recall(self.answers.hosts.get(&(host.to_owned(), port)), Path::new(host))
    }

    fn open_log(&self, path: &Path) -> io::Result<Arc<LogFile>> {
        let mut files = self.table.files.borrow_mut();
        if let Some(log) = files.get(path).and_then(Weak::upgrade) {
            return Ok(log);
        }
        let fd = self.fresh.borrow_mut().remove(path).ok_or_else(|| not_handed_over(path))?;
        let log = Arc::new(LogFile::from_file(path, File::from(fd)));
        files.insert(path.to_owned(), Arc::downgrade(&log));
        Ok(log)
    }

    fn late_files(&self, pattern: FilePattern) -> Arc<dyn LateFiles> {
        self.asker.of(pattern)
    }

    fn ticket_keys(&self, _lifetime: Duration) -> Arc<TicketKeys> {
        self.tickets.clone()
    }
}

fn keep<T>(result: io::Result<T>) -> Answer<T> {
    result.map_err(|error| Refusal::of(&error))
}

fn repeat<T: Clone>(answer: &Answer<T>) -> io::Result<T> {
    answer.clone().map_err(|refusal| refusal.error())
}

fn recall<T: Clone>(answer: Option<&Answer<T>>, asked: &Path) -> io::Result<T> {
    answer.map_or_else(|| Err(not_handed_over(asked)), repeat)
}

/// Both processes run the same loader over the same bytes, so this is a bug in it: it asked something it had not asked
/// the first time.
fn not_handed_over(asked: &Path) -> io::Error {
    io::Error::other(format!("\"{}\" was not handed over by the monitor", asked.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_disk_said_is_said_again_from_the_bundle() {
        let dir = std::env::temp_dir().join(format!("tidegate-world-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (a, gone, log) = (dir.join("a.conf"), dir.join("gone"), dir.join("error.log"));
        std::fs::write(&a, "one").unwrap();
        std::fs::write(dir.join(".hidden.conf"), "").unwrap();

        let disk = DiskWorld::default();
        assert_eq!(disk.read(&a).unwrap(), b"one");
        std::fs::write(&a, "two").unwrap();
        assert_eq!(disk.read(&a).unwrap(), b"one", "one load sees one text");
        assert_eq!(disk.read(&gone).unwrap_err().raw_os_error(), Some(2));
        let mask = dir.join("*.conf");
        assert_eq!(disk.glob(&mask).unwrap(), std::slice::from_ref(&a));
        let local = disk.resolve("127.0.0.1", 80).unwrap();
        assert!(Arc::ptr_eq(&disk.open_log(&log).unwrap(), &disk.open_log(&log).unwrap()));

        for seconds in [60, 300, 5] {
            disk.ticket_keys(Duration::from_secs(seconds));
        }

        let Record { answers, logs, ticket_lifetime, .. } = disk.into_record();
        assert_eq!(ticket_lifetime, Some(Duration::from_secs(300)), "the longest counts");
        let logs = logs.iter().map(|log| (log.path().to_owned(), log.duplicate().unwrap().into())).collect();
        let table = LogTable::default();
        let bundled = BundleWorld::new(
            Arc::new(answers),
            logs,
            &table,
            crate::late_files::questions().unwrap().0,
            Arc::new(TicketKeys::random()),
        );
        assert_eq!(bundled.read(&a).unwrap(), b"one");
        assert_eq!(bundled.read(&gone).unwrap_err().raw_os_error(), Some(2));
        assert_eq!(bundled.glob(&mask).unwrap(), std::slice::from_ref(&a));
        assert_eq!(bundled.resolve("127.0.0.1", 80).unwrap(), local);
        bundled.open_log(&log).unwrap().append(b"line\n");
        assert_eq!(std::fs::read(&log).unwrap(), b"line\n");
        let error = bundled.read(Path::new("/etc/passwd")).unwrap_err().to_string();
        assert_eq!(error, "\"/etc/passwd\" was not handed over by the monitor");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_file_in_memory_hides_the_disk() {
        let world = DiskWorld::with_file(Path::new("/etc/passwd"), "events {}");
        assert_eq!(world.read(Path::new("/etc/passwd")).unwrap(), b"events {}");
    }
}
