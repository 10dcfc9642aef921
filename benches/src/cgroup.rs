//! A proxy's memory as its cgroup counts it: with the kernel's part, sockets above all, which PSS does not know.
//!
//! Only inside a cgroup v2 directory that the caller names (`--cgroup`), with `memory` in its `cgroup.subtree_control`:
//! nothing is made in a hierarchy that belongs to somebody else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A cgroup of our own; removed with this value, once its processes are gone.
pub(crate) struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    /// Makes one below `parent`.
    pub(crate) fn create(parent: &Path, name: &str) -> io::Result<Self> {
        let dir = parent.join(format!("tidegate-bench-{}-{name}", std::process::id()));
        fs::create_dir(&dir)?;
        let group = Self { dir };
        group.bytes().map_err(|error| io::Error::other(format!("{}: {error}", group.dir.display())))?;
        Ok(group)
    }

    /// A command that starts in it: a shell moves itself there and becomes the program, so that not one byte is
    /// allocated outside.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]).arg(&self.dir).arg(program);
        command
    }

    /// Memory it is charged for now, without file pages: those are the access log's, and the kernel drops them at will.
    pub(crate) fn bytes(&self) -> io::Result<u64> {
        let current = fs::read_to_string(self.dir.join("memory.current"))?;
        let stat = fs::read_to_string(self.dir.join("memory.stat"))?;
        without_files(&current, &stat)
            .ok_or_else(|| io::Error::other("memory.current or memory.stat is no number"))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.dir);
    }
}

fn without_files(current: &str, stat: &str) -> Option<u64> {
    let files = stat.lines().find_map(|line| line.strip_prefix("file "))?;
    Some(current.trim().parse::<u64>().ok()?.saturating_sub(files.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_pages_do_not_count() {
        let check = |current: &str, stat: &str, expected| assert_eq!(without_files(current, stat), expected);
        check("9000\n", "anon 4000\nfile 1000\nfile_mapped 7\nsock 10\n", Some(8000));
        check("9000\n", "anon 4000\n", None);
        check("max\n", "file 0\n", None);
    }
}
