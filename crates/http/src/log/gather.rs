//! Lines of one turn of a worker, written together: one write(2) a file instead of one a line.
//!
//! A thread that calls [`gather`] promises to call [`end_of_turn`] before it waits; then no line is older than the turn
//! it was made in. Lines of all other threads are written as they come.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use crate::log::LogFile;

/// Most bytes that wait: PIPE_BUF, so that lines stay whole where a log is a pipe that others write to as well.
const WAIT_MAX: usize = 4096;

thread_local! {
    static GATHERS: Cell<bool> = const { Cell::new(false) };
    static LINES: RefCell<Lines> = const { RefCell::new(Lines { waiting: Vec::new(), spare: Vec::new() }) };
}

/// Lines that wait, by file; what is left when the thread ends is written then.
struct Lines {
    waiting: Vec<Waiting>,
    spare: Vec<Vec<u8>>,
}

struct Waiting {
    file: Arc<LogFile>,
    bytes: Vec<u8>,
}

/// Lets the lines of this thread wait for [`end_of_turn`] from now on.
pub fn gather() {
    GATHERS.set(true);
}

/// Writes what was gathered. Called whenever a worker has nothing more to do, before it waits.
pub fn end_of_turn() {
    LINES.with_borrow_mut(Lines::write_out);
}

/// Appends the line that `write` makes, now or at the end of the turn.
pub(crate) fn append(file: &Arc<LogFile>, write: impl FnOnce(&mut Vec<u8>)) {
    let gathers = GATHERS.get();
    // Taken out, because variables are evaluated meanwhile.
    let mut bytes = LINES.with_borrow_mut(|lines| lines.take(file));
    let start = bytes.len();
    // A panic in a variable costs its own line, not those that wait.
    let panicked = catch_unwind(AssertUnwindSafe(|| write(&mut bytes))).err();
    if panicked.is_some() {
        bytes.truncate(start);
    }
    if bytes.len() > WAIT_MAX && start > 0 {
        file.append(&bytes[..start]);
        bytes.drain(..start);
    }
    if !gathers || bytes.len() > WAIT_MAX {
        file.append(&bytes);
        bytes.clear();
    }
    LINES.with_borrow_mut(|lines| lines.put(file, bytes));
    if let Some(panic) = panicked {
        resume_unwind(panic);
    }
}

impl Lines {
    /// What waits for this file, or an empty buffer.
    fn take(&mut self, file: &Arc<LogFile>) -> Vec<u8> {
        match self.waiting.iter_mut().find(|waiting| Arc::ptr_eq(&waiting.file, file)) {
            Some(waiting) => std::mem::take(&mut waiting.bytes),
            None => self.spare.pop().unwrap_or_default(),
        }
    }

    fn put(&mut self, file: &Arc<LogFile>, bytes: Vec<u8>) {
        match self.waiting.iter_mut().find(|waiting| Arc::ptr_eq(&waiting.file, file)) {
            Some(waiting) => waiting.bytes = bytes,
            None if bytes.is_empty() => self.spare.push(bytes),
            None => self.waiting.push(Waiting { file: file.clone(), bytes }),
        }
    }

    fn write_out(&mut self) {
        // The files are let go of: a reload may have closed them.
        for Waiting { file, mut bytes } in self.waiting.drain(..) {
            if !bytes.is_empty() {
                file.append(&bytes);
                bytes.clear();
            }
            self.spare.push(bytes);
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.write_out();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};
    use std::path::Path;

    use super::*;

    /// A log whose writes can be told apart: each comes out of a pipe as one read.
    fn log() -> (Arc<LogFile>, impl FnMut() -> String) {
        let (mut reader, writer) = pipe().expect("a pipe");
        let writer = std::fs::File::from(std::os::fd::OwnedFd::from(writer));
        let mut read = move || {
            let mut bytes = [0; 64 * 1024];
            let count = reader.read(&mut bytes).expect("something was written");
            String::from_utf8_lossy(&bytes[..count]).into_owned()
        };
        let file = Arc::new(LogFile::from_file(Path::new("log"), writer));
        // A first line, so that a read never blocks on an empty pipe where nothing is expected.
        file.append(b"first\n");
        assert_eq!(read(), "first\n");
        (file, read)
    }

    fn line(file: &Arc<LogFile>, text: &str) {
        append(file, |bytes| bytes.extend_from_slice(text.as_bytes()));
    }

    #[test]
    fn lines_wait_for_the_end_of_the_turn() {
        let ((one, mut read_one), (two, mut read_two)) = (log(), log());
        line(&one, "at once\n");
        assert_eq!(read_one(), "at once\n");
        gather();
        line(&one, "a\n");
        line(&two, "b\n");
        line(&one, "c\n");
        one.append(b"error\n");
        end_of_turn();
        end_of_turn();
        assert_eq!(read_one(), "error\na\nc\n");
        assert_eq!(read_two(), "b\n");
        assert_eq!((Arc::strong_count(&one), Arc::strong_count(&two)), (1, 1));
    }

    #[test]
    fn a_panic_costs_its_own_line_alone() {
        gather();
        let (file, mut read) = log();
        line(&file, "before\n");
        let half = catch_unwind(AssertUnwindSafe(|| {
            append(&file, |bytes| {
                bytes.extend_from_slice(b"half a li");
                resume_unwind(Box::new("a variable"));
            });
        }));
        assert!(half.is_err());
        line(&file, "after\n");
        end_of_turn();
        assert_eq!(read(), "before\nafter\n");
    }

    #[test]
    fn what_waits_is_bounded_and_lines_stay_whole() {
        gather();
        let (file, mut read) = log();
        let long = format!("{}\n", "x".repeat(3000));
        line(&file, &long);
        line(&file, &long);
        assert_eq!(read(), long);
        let huge = format!("{}\n", "y".repeat(WAIT_MAX));
        line(&file, &huge);
        assert_eq!(read(), format!("{long}{huge}"));
        end_of_turn();
        line(&file, "end\n");
        end_of_turn();
        assert_eq!(read(), "end\n");
    }

    #[test]
    fn a_thread_that_ends_leaves_no_line_behind() {
        let (file, mut read) = log();
        let there = file.clone();
        std::thread::spawn(move || {
            gather();
            line(&there, "last\n");
        })
        .join()
        .expect("no panic");
        assert_eq!(read(), "last\n");
    }
}
