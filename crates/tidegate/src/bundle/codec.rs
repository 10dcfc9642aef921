//! The bytes of a bundle: numbers of eight bytes, everything else behind its length. Both ends are the same program.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Answer, Refusal};

/// Puts values one after the other.
#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
}

/// Takes them out again in the same order.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

/// The bytes are not what [`Writer`] writes.
pub(crate) fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a broken message between monitor and serving process")
}

impl Writer {
    pub(crate) fn number(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_ne_bytes());
    }

    pub(crate) fn blob(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.blob(text.as_bytes());
    }

    pub(crate) fn path(&mut self, path: &Path) {
        self.blob(path.as_os_str().as_bytes());
    }

    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.number(u64::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(crate) fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.number(items.len() as u64);
        for item in items {
            write(self, item);
        }
    }

    pub(crate) fn map<K, V>(
        &mut self,
        map: &BTreeMap<K, Answer<V>>,
        mut key: impl FnMut(&mut Self, &K),
        mut value: impl FnMut(&mut Self, &V),
    ) {
        self.number(map.len() as u64);
        for (asked, answer) in map {
            key(self, asked);
            self.answer(answer, &mut value);
        }
    }

    pub(crate) fn answer<V>(&mut self, answer: &Answer<V>, value: impl FnOnce(&mut Self, &V)) {
        self.number(u64::from(answer.is_ok()));
        match answer {
            Ok(answer) => value(self, answer),
            Err(refusal) => {
                self.option(refusal.code, |out, code| out.number(code as u64));
                self.text(&refusal.text);
            }
        }
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn number(&mut self) -> io::Result<u64> {
        let (number, rest) = self.rest.split_first_chunk::<8>().ok_or_else(broken)?;
        self.rest = rest;
        Ok(u64::from_ne_bytes(*number))
    }

    /// A number of a narrower type.
    pub(crate) fn small<T: TryFrom<u64>>(&mut self) -> io::Result<T> {
        T::try_from(self.number()?).map_err(|_| broken())
    }

    pub(crate) fn blob(&mut self) -> io::Result<&'a [u8]> {
        let length = self.small::<usize>()?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(broken)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(crate) fn text(&mut self) -> io::Result<String> {
        String::from_utf8(self.blob()?.to_vec()).map_err(|_| broken())
    }

    pub(crate) fn path(&mut self) -> io::Result<PathBuf> {
        Ok(PathBuf::from(OsStr::from_bytes(self.blob()?)))
    }

    pub(crate) fn socket_addr(&mut self) -> io::Result<SocketAddr> {
        self.text()?.parse().map_err(|_| broken())
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        if self.number()? == 0 { Ok(None) } else { read(self).map(Some) }
    }

    pub(crate) fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> io::Result<T>) -> io::Result<Vec<T>> {
        let count = self.number()?;
        (0..count).map(|_| read(self)).collect()
    }

    pub(crate) fn map<K: Ord, V>(
        &mut self,
        mut key: impl FnMut(&mut Self) -> io::Result<K>,
        mut value: impl FnMut(&mut Self) -> io::Result<V>,
    ) -> io::Result<BTreeMap<K, Answer<V>>> {
        let count = self.number()?;
        (0..count)
            .map(|_| {
                let asked = key(self)?;
                Ok((asked, self.answer(&mut value)?))
            })
            .collect()
    }

    pub(crate) fn answer<V>(
        &mut self,
        value: impl FnOnce(&mut Self) -> io::Result<V>,
    ) -> io::Result<Answer<V>> {
        if self.number()? == 1 { value(self).map(Ok) } else { self.refusal().map(Err) }
    }

    pub(crate) fn end(&self) -> io::Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(broken()) }
    }

    fn refusal(&mut self) -> io::Result<Refusal> {
        let code = self.option(|input| Ok(input.number()? as i32))?;
        Ok(Refusal { code, text: self.text()? })
    }
}
