//! Users, groups, and giving up root.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;

use crate::text::c_string;

/// A line of the user database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The number of its own group.
    pub gid: u32,
}

/// A line of the group database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its number.
    pub gid: u32,
}

/// Text fields of one entry must fit in this many bytes; glibc suggests 1 KB.
const ENTRY_BYTES_MAX: usize = 1 << 20;

/// Looks a user up by name; `None` when there is none.
///
/// # Errors
/// What the database answered, `InvalidInput` for a NUL in the name.
pub fn user(name: &str) -> io::Result<Option<User>> {
    let wanted = c_string(name)?;
    with_growing_buffer(|buffer| {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found = std::ptr::null_mut();
        // SAFETY: every pointer is valid for the call, and the buffer's true length goes with it.
        let error = unsafe {
            libc::getpwnam_r(
                wanted.as_ptr(),
                entry.as_mut_ptr(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &raw mut found,
            )
        };
        if found.is_null() {
            return absent(error);
        }
        // SAFETY: a result that isn't null is `entry`, filled; its texts lie in `buffer`, which is alive.
        let (name, uid, gid) = unsafe {
            let entry = entry.assume_init_ref();
            (CStr::from_ptr(entry.pw_name).to_string_lossy().into_owned(), entry.pw_uid, entry.pw_gid)
        };
        Ok(Some(User { name, uid, gid }))
    })
}

/// Looks a group up by name; `None` when there is none.
///
/// # Errors
/// What the database answered, `InvalidInput` for a NUL in the name.
pub fn group(name: &str) -> io::Result<Option<Group>> {
    let wanted = c_string(name)?;
    with_growing_buffer(|buffer| {
        let mut entry = MaybeUninit::<libc::group>::uninit();
        let mut found = std::ptr::null_mut();
        // SAFETY: every pointer is valid for the call, and the buffer's true length goes with it.
        let error = unsafe {
            libc::getgrnam_r(
                wanted.as_ptr(),
                entry.as_mut_ptr(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &raw mut found,
            )
        };
        if found.is_null() {
            return absent(error);
        }
        // SAFETY: a result that isn't null is `entry`, filled; its texts lie in `buffer`, which is alive.
        let (name, gid) = unsafe {
            let entry = entry.assume_init_ref();
            (CStr::from_ptr(entry.gr_name).to_string_lossy().into_owned(), entry.gr_gid)
        };
        Ok(Some(Group { name, gid }))
    })
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Which call refused.
#[derive(Debug)]
pub struct DropError {
    /// The call with its arguments as nginx logs it: `setgid(33)`.
    pub call: String,
    /// The kernel's answer.
    pub source: io::Error,
}

impl std::fmt::Display for DropError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} failed ({})", self.call, self.source)
    }
}

impl std::error::Error for DropError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Becomes `user` with `gid` and the groups the database gives that user, in all threads and for good; then core
/// dumps are allowed again, as nginx does, since the change of user forbade them.
///
/// # Errors
/// The first call that failed. The process is then in between and must exit.
pub fn become_user(user: &User, gid: u32) -> Result<(), DropError> {
    let name: CString =
        c_string(&user.name).map_err(|source| DropError { call: "initgroups()".into(), source })?;
    // glibc's wrappers change all threads; the bare system calls change one.
    // SAFETY: takes and returns a number.
    checked(unsafe { libc::setgid(gid) }, || format!("setgid({gid})"))?;
    // SAFETY: the name is a C string that outlives the call.
    checked(unsafe { libc::initgroups(name.as_ptr(), gid) }, || format!("initgroups({}, {gid})", user.name))?;
    // SAFETY: takes and returns a number.
    checked(unsafe { libc::setuid(user.uid) }, || format!("setuid({})", user.uid))?;
    let dumpable = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable);
    dumpable.map_err(|error| DropError { call: "prctl(PR_SET_DUMPABLE)".into(), source: error.into() })
}

fn checked(answer: libc::c_int, call: impl FnOnce() -> String) -> Result<(), DropError> {
    if answer == 0 {
        return Ok(());
    }
    let source = io::Error::last_os_error();
    Err(DropError { call: call(), source })
}

/// What a lookup without a result means; POSIX lets several errnos say "no such entry".
fn absent<T>(error: libc::c_int) -> io::Result<Option<T>> {
    match error {
        0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => Ok(None),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Repeats a lookup with twice the room while libc answers `ERANGE`.
fn with_growing_buffer<T>(mut lookup: impl FnMut(&mut [u8]) -> io::Result<T>) -> io::Result<T> {
    let mut buffer = vec![0u8; 1024];
    loop {
        match lookup(&mut buffer) {
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) && buffer.len() < ENTRY_BYTES_MAX => {
                buffer.resize(buffer.len() * 2, 0);
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_nobody_else_is_invented() {
        let root = user("root").unwrap().unwrap();
        assert_eq!((root.name.as_str(), root.uid, root.gid), ("root", 0, 0));
        assert_eq!(group("root").unwrap().unwrap().gid, 0);
        assert_eq!(user("no-such-user-here").unwrap(), None);
        assert_eq!(group("no-such-group-here").unwrap(), None);
        assert_eq!(user("a\0b").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    // `become_user` changes the whole process for good; e2e covers it with a process of its own.
}
