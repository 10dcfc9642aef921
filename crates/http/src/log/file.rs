//! A log file: one per path, shared by all configurations that name it (D8).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, RwLock};

/// A file lines are appended to. A line is one write(2), so lines of several threads do not mix.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: RwLock<File>,
    buffer: Mutex<Buffer>,
    waits: AtomicBool,
}

/// Lines that wait to be written.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// When the oldest line came, [`crate::clock::monotonic_ms`].
    since_ms: u64,
    /// How long it may wait; 0: for ever.
    flush_ms: u64,
}

impl LogFile {
    /// Opens for appending, and creates with mode 644.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(path: &Path) -> io::Result<LogFile> {
        let file = match path.to_str() {
            Some("stderr" | "/dev/stderr") => File::from(io::stderr().as_fd().try_clone_to_owned()?),
            // A pipe or socket behind /dev/stdout cannot be opened by name.
            Some("/dev/stdout") => File::from(io::stdout().as_fd().try_clone_to_owned()?),
            _ => OpenOptions::new().append(true).create(true).mode(0o644).open(path)?,
        };
        Ok(LogFile::from_file(path, file))
    }

    /// A log on a descriptor that somebody else opened.
    pub fn from_file(path: &Path, file: File) -> LogFile {
        LogFile {
            path: path.to_owned(),
            file: RwLock::new(file),
            buffer: Mutex::default(),
            waits: AtomicBool::new(false),
        }
    }

    /// Its identity.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A second descriptor of the file as it is now, to hand to another process.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn duplicate(&self) -> io::Result<File> {
        self.with_fd(|fd| fd.try_clone_to_owned().map(File::from))
    }

    /// Puts a newly opened file in place of the old (USR1).
    pub fn replace(&self, file: File) {
        self.flush();
        *self.file.write().unwrap_or_else(|poison| poison.into_inner()) = file;
    }

    /// Appends bytes at once. A full disk must not stop the service: errors are dropped, as nginx does.
    pub fn append(&self, bytes: &[u8]) {
        let file = self.file.read().unwrap_or_else(|poison| poison.into_inner());
        let _ = (&*file).write_all(bytes);
    }

    /// Appends through a buffer of `size` bytes (`access_log ... buffer=`) in which a line waits `flush_ms` at most, 0 for
    /// any time, as long as somebody calls [`LogFile::flush_due`].
    pub fn append_buffered(&self, bytes: &[u8], size: usize, flush_ms: u64) {
        let mut buffer = self.buffer.lock().unwrap_or_else(|poison| poison.into_inner());
        if buffer.bytes.len() + bytes.len() > size {
            self.write_out(&mut buffer);
        }
        if bytes.len() > size {
            return self.append(bytes);
        }
        if buffer.bytes.is_empty() {
            buffer.since_ms = crate::clock::monotonic_ms();
        }
        buffer.flush_ms = flush_ms;
        buffer.bytes.extend_from_slice(bytes);
    }

    /// Writes out what is buffered.
    pub fn flush(&self) {
        self.write_out(&mut self.buffer.lock().unwrap_or_else(|poison| poison.into_inner()));
    }

    /// Says that some log writes here with `flush=`, so that somebody looks at the file every second.
    pub fn will_wait(&self) {
        self.waits.store(true, Ordering::Relaxed);
    }

    /// Whether lines may wait here for a time to come.
    pub fn may_wait(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// Writes out what has waited for its `flush=` time at `now`, [`crate::clock::monotonic_ms`].
    pub fn flush_due(&self, now_ms: u64) {
        let mut buffer = self.buffer.lock().unwrap_or_else(|poison| poison.into_inner());
        if buffer.flush_ms > 0 && now_ms.saturating_sub(buffer.since_ms) >= buffer.flush_ms {
            self.write_out(&mut buffer);
        }
    }

    fn write_out(&self, buffer: &mut Buffer) {
        if !buffer.bytes.is_empty() {
            self.append(&buffer.bytes);
            buffer.bytes.clear();
        }
    }

    fn with_fd<R>(&self, f: impl FnOnce(BorrowedFd<'_>) -> R) -> R {
        f(self.file.read().unwrap_or_else(|poison| poison.into_inner()).as_fd())
    }
}
