//! Files that are read while the configuration serves: the serving process asks, the monitor opens.
//!
//! A certificate whose name has variables is known at the handshake only, and the serving process has no right to its key.
//! It sends the name ([`crate::message::Report::Wanted`]); the monitor opens what fits a pattern of the configuration, which
//! is the directive's text with the variables left open, if there is PEM in it, and sends the bytes
//! ([`crate::message::Order::File`]). For any other name the serving process uses the rights it has, as nginx's workers do.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::config::{FilePattern, LateFiles, OwnRights, Reading, read_regular};
use tokio::sync::oneshot;

use crate::bundle::{Answer, Refusal};
use crate::mailbox::{self, Receiver, Sender};

/// The longest name that is asked for, in bytes; the kernel opens no longer one.
const NAME_BYTES_MAX: usize = 4095;
/// Questions that are under way at once. So few short ones never fill the line, so that neither end can block the other.
const ASKED_MAX: usize = 16;
/// What a file must have in it to be handed over.
const PEM: &[u8] = b"-----BEGIN ";

/// The monitor's side: reads `path` if a pattern allows it.
pub(crate) fn answer<'p>(
    mut patterns: impl Iterator<Item = &'p FilePattern>,
    path: &Path,
) -> Answer<Vec<u8>> {
    let read = match patterns.any(|pattern| pattern.matches(path)) {
        true => read_pem(path),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    };
    read.map_err(|error| Refusal::of(&error))
}

fn read_pem(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = read_regular(path)?;
    match bytes.windows(PEM.len()).any(|window| window == PEM) {
        true => Ok(bytes),
        // Not a certificate and not a key: what is in it is nobody's business.
        false => Ok(Vec::new()),
    }
}

/// A file somebody waits for.
struct Want {
    path: PathBuf,
    answer: oneshot::Sender<Answer<Vec<u8>>>,
}

/// Where configurations of the serving process ask. Clones ask the same.
#[derive(Clone)]
pub struct Asker(Sender<Want>);

/// The control thread's side: questions on their way to the monitor.
pub struct Questions {
    wanted: Receiver<Want>,
    asked: HashMap<u64, oneshot::Sender<Answer<Vec<u8>>>>,
    last: u64,
}

/// Both sides.
pub fn questions() -> io::Result<(Asker, Questions)> {
    let (sender, wanted) = mailbox::mailbox()?;
    Ok((Asker(sender), Questions { wanted, asked: HashMap::new(), last: 0 }))
}

impl Questions {
    /// The next question to send, with its number. None while enough are under way.
    pub fn next_asked(&mut self) -> Option<(u64, PathBuf)> {
        while self.asked.len() < ASKED_MAX {
            let want = self.wanted.next()?;
            // A client that has left meanwhile wants nothing.
            if !want.answer.is_closed() {
                self.last += 1;
                self.asked.insert(self.last, want.answer);
                return Some((self.last, want.path));
            }
        }
        // An answer is what makes room, and whoever takes it asks again.
        self.wanted.hush();
        None
    }

    /// An answer came.
    pub fn answered(&mut self, number: u64, answer: Answer<Vec<u8>>) {
        if let Some(waiting) = self.asked.remove(&number) {
            let _ = waiting.send(answer);
        }
    }
}

impl AsFd for Questions {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wanted.as_fd()
    }
}

impl Asker {
    /// Who reads files of that pattern.
    pub fn of(&self, pattern: FilePattern) -> Arc<dyn LateFiles> {
        Arc::new(ByMonitor { pattern, asker: self.clone() })
    }
}

/// Files of one pattern.
struct ByMonitor {
    pattern: FilePattern,
    asker: Asker,
}

impl fmt::Debug for ByMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByMonitor").field("pattern", &self.pattern).finish_non_exhaustive()
    }
}

impl LateFiles for ByMonitor {
    fn read(&self, path: &Path) -> Reading {
        if !self.pattern.matches(path) {
            return OwnRights.read(path);
        }
        if path.as_os_str().len() > NAME_BYTES_MAX {
            return Box::pin(std::future::ready(Err(io::ErrorKind::InvalidFilename.into())));
        }
        let (answer, coming) = oneshot::channel();
        self.asker.0.send(Want { path: path.to_owned(), answer });
        Box::pin(async move {
            let gone = |_| Err(Refusal::of(&io::ErrorKind::BrokenPipe.into()));
            coming.await.unwrap_or_else(gone).map_err(|refusal| refusal.error())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn pattern(texts: &[&str]) -> FilePattern {
        FilePattern { texts: texts.iter().map(|text| (*text).to_owned()).collect() }
    }

    #[test]
    fn the_monitor_opens_only_what_a_pattern_allows_and_only_pem() {
        let dir = std::env::temp_dir().join(format!("tidegate-late-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        let write = |name: &str, text: &[u8]| std::fs::write(dir.join(name), text).unwrap();
        write("a.crt", b"-----BEGIN CERTIFICATE-----");
        write("a.key", b"-----BEGIN PRIVATE KEY-----");
        write("b.crt", b"root:x:0:0");
        write("big.crt", &[b'x'; 300_000]);
        let text = dir.to_str().unwrap();
        let allowed = [pattern(&[&format!("{text}/"), ".crt"])];
        let check = |name: &str, expected: Result<&[u8], io::ErrorKind>| {
            let got = answer(allowed.iter(), &dir.join(name));
            let kind = |refusal: &Refusal| refusal.text.clone();
            let expected = expected.map(<[u8]>::to_vec).map_err(|kind| io::Error::from(kind).to_string());
            assert_eq!(got.as_ref().map_err(kind).cloned(), expected, "{name}");
        };
        check("a.crt", Ok(b"-----BEGIN CERTIFICATE-----"));
        check("a.key", Err(io::ErrorKind::PermissionDenied));
        check("sub/../a.crt", Err(io::ErrorKind::PermissionDenied));
        check("b.crt", Ok(b""));
        check("big.crt", Err(io::ErrorKind::FileTooLarge));
        assert_eq!(answer(allowed.iter(), &dir.join("none.crt")).unwrap_err().code, Some(2));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn questions_are_few_at_once_and_none_is_lost() {
        let (asker, mut questions) = questions().unwrap();
        let files = asker.of(pattern(&["/x/", ".crt"]));
        let mut readings: Vec<Reading> =
            (0..40).map(|n| files.read(Path::new(&format!("/x/{n}.crt")))).collect();
        // Somebody leaves before it was asked for them.
        drop(readings.remove(3));
        let mut cx = Context::from_waker(Waker::noop());
        let mut seen = 0;
        loop {
            let asked: Vec<(u64, PathBuf)> = std::iter::from_fn(|| questions.next_asked()).collect();
            assert!(asked.len() <= ASKED_MAX);
            seen += asked.len();
            if asked.is_empty() {
                break;
            }
            for (number, path) in asked {
                questions.answered(number, Ok(path.to_str().unwrap().as_bytes().to_vec()));
            }
        }
        assert_eq!(seen, 39);
        for reading in &mut readings {
            let Poll::Ready(Ok(bytes)) = pin!(reading).poll(&mut cx) else { panic!("no answer") };
            assert!(bytes.starts_with(b"/x/"));
        }
        // When the control thread ends, who waits is told.
        let mut last = files.read(Path::new("/x/last.crt"));
        drop(questions);
        assert!(matches!(last.as_mut().poll(&mut cx), Poll::Ready(Err(_))));
    }
}
