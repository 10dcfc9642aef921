//! `include`: the text of other files in place of the directive. Bounded, because nginx's own bound is the number of
//! files it can open.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sys::errno;

use crate::diagnostics::{Diagnostic, Level};
use crate::files::FILE_BYTES_MAX;
use crate::glob;
use crate::tree::{Directive, FileId, Span, Word};

use super::{FAULTS_MAX, Parser};

/// Longest chain of files that include one another.
const INCLUDE_DEPTH_MAX: usize = 50;
/// Most inclusions in all: a handful of files that include the next one twice would otherwise never end.
const INCLUDES_MAX: usize = 1_000_000;
/// Most bytes parsed in all, each inclusion counted.
const BYTES_MAX: u64 = FILE_BYTES_MAX;

impl Parser<'_> {
    pub(super) fn include(&mut self, word: &Word, into: &mut Vec<Directive>) {
        let path = self.prefix.join(OsStr::from_bytes(&word.bytes));
        if !glob::is_pattern(path.as_os_str().as_bytes()) {
            return self.include_file(&path, word.span, into);
        }
        match self.files.glob(&path) {
            Ok(paths) => {
                for path in paths {
                    self.include_file(&path, word.span, into);
                }
            }
            Err(error) => self.fault(
                word.span,
                format!("glob() \"{}\" failed ({})", path.display(), errno::text(&error)),
                None,
            ),
        }
    }

    fn include_file(&mut self, path: &Path, site: Span, into: &mut Vec<Directive>) {
        if self.stopped {
            return;
        }
        let Some(file) = self.load(path, Some(site)) else { return };
        self.includes += 1;
        if self.chain.contains(&file) {
            let chain = self.chain_text(file);
            return self.fault(site, format!("include loop: {chain}"), None);
        }
        if self.chain.len() > INCLUDE_DEPTH_MAX {
            let chain = self.chain_text(file);
            return self.fault(
                site,
                format!("includes are nested more than {INCLUDE_DEPTH_MAX} deep: {chain}"),
                None,
            );
        }
        if self.includes > INCLUDES_MAX || self.bytes > BYTES_MAX {
            self.fault(site, "too much is included: does a file include others again and again?", None);
            self.stopped = true;
            return;
        }
        self.file(file, into);
    }

    /// The file, read unless it was before.
    pub(super) fn load(&mut self, path: &Path, site: Option<Span>) -> Option<FileId> {
        if let Some(file) = self.sources.find(path) {
            return Some(file);
        }
        let read = self.files.read(path);
        let text = match read.and_then(check_size) {
            Ok(text) => text,
            Err(error) => {
                self.unreadable(path, &error, site);
                return None;
            }
        };
        let Some(file) = self.sources.add(Some(path), text, site) else {
            self.faults += 1;
            self.diagnostics.error(site, "too many configuration files");
            self.stopped = true;
            return None;
        };
        self.inspect(file);
        Some(file)
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error, site: Option<Span>) {
        self.faults += 1;
        self.stopped |= self.faults >= FAULTS_MAX;
        let (path, text) = (path.display(), errno::text(error));
        if error.kind() != io::ErrorKind::IsADirectory {
            self.diagnostics.error(site, format!("open() \"{path}\" failed ({text})"));
            return;
        }
        // nginx opens a directory happily, fails to read it, and then names no place.
        let hint =
            |place| format!("included in {place}; \"{path}/*.conf\" would read the files in the directory");
        let notes = site.map(|site| hint(self.place(site))).into_iter().collect();
        let message = format!("pread() \"{path}\" failed ({text})");
        self.diagnostics.push(Diagnostic { level: Level::Crit, message, span: None, look_at: None, notes });
    }

    /// Warns about what an editor may have put into a file unseen.
    fn inspect(&mut self, file: FileId) {
        let text = self.sources.text(file);
        let bom = text.starts_with(b"\xef\xbb\xbf");
        let nul = memchr::memchr(0, text);
        if bom {
            let span = Span { file, line: 1, start: 0, len: 3 };
            self.diagnostics
                .warn(span, "the file begins with a byte order mark, which becomes part of the first word")
                .note("save the file as UTF-8 without a byte order mark");
        }
        if let Some(start) = nul {
            let line = 1 + memchr::memchr_iter(b'\n', &text[..start]).count() as u32;
            let span = Span { file, line, start: start as u32, len: 1 };
            self.diagnostics
                .warn(span, "the file contains a NUL byte")
                .note("is it damaged, or saved as UTF-16? It should be UTF-8");
        }
    }

    fn chain_text(&self, last: FileId) -> String {
        let from = self.chain.iter().position(|&file| file == last).unwrap_or(0);
        let paths: Vec<String> = (self.chain[from..].iter().chain([&last]))
            .map(|&file| self.sources.path(file).display().to_string())
            .collect();
        paths.join(" -> ")
    }
}

/// Offsets are 32 bits.
fn check_size(text: Vec<u8>) -> io::Result<Vec<u8>> {
    if text.len() as u64 > FILE_BYTES_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}
