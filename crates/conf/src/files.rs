//! [`Files`]: where the text comes from. The disk, or a table in a test.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::glob;

/// Largest file that is read, in bytes. Offsets are 32 bits; nobody has such a file on purpose.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 30;

/// What the reader needs of a file system.
pub trait Files {
    /// The whole file. The error is shown to the user as `open() "path" failed (…)`, a directory as `pread()`.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The paths that match, in the order of glob(3): bytewise by whole path. None is not an error.
    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>>;
}

/// The real files.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFiles;

impl Files for DiskFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        // nginx reads as many bytes as fstat() reports: from /dev/null, /dev/zero or a terminal none.
        if metadata.file_type().is_char_device() {
            return Ok(Vec::new());
        }
        let mut text = Vec::with_capacity(metadata.len().min(FILE_BYTES_MAX) as usize);
        // One byte too many is enough for the reader to refuse it.
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
        Ok(text)
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(glob::expand(pattern))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_devices_are_empty_files() {
        assert_eq!(DiskFiles.read(Path::new("/dev/zero")).unwrap(), b"");
    }
}
