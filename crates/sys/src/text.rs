//! Strings on their way into C.

use std::ffi::CString;
use std::io;

/// A C string; text with a NUL inside names nothing the kernel or libc could know.
pub(crate) fn c_string(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "NUL byte in a name"))
}
