//! The pid file: how `-s`, service managers and people find the monitor.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error_log::reason;

/// A pid file with our id in it; goes when dropped.
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Write this process's id to `path`. The error is nginx's message.
    pub fn create(path: &Path) -> Result<Self, String> {
        fs::write(path, format!("{}\n", std::process::id())).map_err(|error| open_failed(path, &error))?;
        Ok(Self { path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// `-t`: could it be written? Creates it where it is missing, as nginx does.
pub fn test(path: &Path) -> Result<(), String> {
    let opened = fs::File::options().read(true).write(true).create(true).truncate(false).open(path);
    opened.map(drop).map_err(|error| open_failed(path, &error))
}

/// The id in a pid file. The error is nginx's message.
pub fn read(path: &Path) -> Result<u32, String> {
    let bytes = fs::read(path).map_err(|error| open_failed(path, &error))?;
    let text = String::from_utf8_lossy(&bytes);
    // nginx reads as much as a pid can be long and strips the end of the line.
    let digits = text.trim_end_matches(['\r', '\n']);
    digits
        .parse()
        .ok()
        .filter(|pid| *pid > 0)
        .ok_or_else(|| format!("invalid PID number \"{digits}\" in \"{}\"", path.display()))
}

fn open_failed(path: &Path, error: &io::Error) -> String {
    format!("open() \"{}\" failed {}", path.display(), reason(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_pid_file() {
        let path = std::env::temp_dir().join(format!("tidegate-pid-{}", std::process::id()));
        let name = path.display().to_string();
        let check = |content: &str, expected: Result<u32, String>| {
            fs::write(&path, content).unwrap();
            assert_eq!(read(&path), expected, "{content:?}");
        };
        check("12\n", Ok(12));
        check("12", Ok(12));
        check("", Err(format!("invalid PID number \"\" in \"{name}\"")));
        check("abc\n", Err(format!("invalid PID number \"abc\" in \"{name}\"")));
        check("-1\n", Err(format!("invalid PID number \"-1\" in \"{name}\"")));
        let file = PidFile::create(&path).unwrap();
        assert_eq!(read(&path), Ok(std::process::id()));
        drop(file);
        assert_eq!(read(&path), Err(format!("open() \"{name}\" failed (2: No such file or directory)")));
    }
}
