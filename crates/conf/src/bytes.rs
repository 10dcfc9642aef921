//! [`Bytes`]: the text of a word, kept inside the word itself when it is short.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// Longest text that needs no allocation of its own.
const INLINE_MAX: usize = 22;

/// An immutable byte string that reads like a `Vec<u8>` of the same size, without the allocation for up to 22 bytes.
///
/// Nearly every word of a configuration is that short, and a map file has millions of them: this halves their cost.
#[derive(Clone)]
pub struct Bytes(Repr);

#[derive(Clone)]
enum Repr {
    Inline { len: u8, data: [u8; INLINE_MAX] },
    Heap(Box<[u8]>),
}

impl Bytes {
    /// The text as a slice.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, data } => &data[..usize::from(*len)],
            Repr::Heap(data) => data,
        }
    }

    /// The text as a vector of its own.
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Repr::Inline { len, data } => data[..usize::from(len)].to_vec(),
            Repr::Heap(data) => data.into_vec(),
        }
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self(Repr::Inline { len: 0, data: [0; INLINE_MAX] })
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Borrow<[u8]> for Bytes {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl From<&[u8]> for Bytes {
    fn from(text: &[u8]) -> Self {
        if text.len() > INLINE_MAX {
            return Self(Repr::Heap(text.into()));
        }
        let mut data = [0; INLINE_MAX];
        data[..text.len()].copy_from_slice(text);
        Self(Repr::Inline { len: text.len() as u8, data })
    }
}

impl<const N: usize> From<&[u8; N]> for Bytes {
    fn from(text: &[u8; N]) -> Self {
        Self::from(&text[..])
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(text: Vec<u8>) -> Self {
        if text.len() > INLINE_MAX {
            Self(Repr::Heap(text.into_boxed_slice()))
        } else {
            Self::from(&text[..])
        }
    }
}

impl From<Bytes> for Vec<u8> {
    fn from(text: Bytes) -> Self {
        text.into_vec()
    }
}

impl<'a> IntoIterator for &'a Bytes {
    type Item = &'a u8;
    type IntoIter = std::slice::Iter<'a, u8>;

    fn into_iter(self) -> Self::IntoIter {
        self.as_slice().iter()
    }
}

impl Eq for Bytes {}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<&T> for Bytes {
    fn eq(&self, other: &&T) -> bool {
        self.as_slice() == (*other).as_ref()
    }
}

impl<const N: usize> PartialEq<[u8; N]> for Bytes {
    fn eq(&self, other: &[u8; N]) -> bool {
        self.as_slice() == other
    }
}

impl PartialEq<[u8]> for Bytes {
    fn eq(&self, other: &[u8]) -> bool {
        self.as_slice() == other
    }
}

impl PartialEq<str> for Bytes {
    fn eq(&self, other: &str) -> bool {
        self.as_slice() == other.as_bytes()
    }
}

impl PartialEq<Vec<u8>> for Bytes {
    fn eq(&self, other: &Vec<u8>) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Hash for Bytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_slice().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_it_was_given_at_every_length() {
        for len in 0..100 {
            let text: Vec<u8> = (0..len).collect();
            let bytes = Bytes::from(&text[..]);
            assert_eq!(bytes, text);
            assert_eq!(Bytes::from(text.clone()), bytes);
            assert_eq!(bytes.into_vec(), text);
        }
    }

    #[test]
    fn is_no_larger_than_a_vec() {
        assert_eq!(size_of::<Bytes>(), size_of::<Vec<u8>>());
    }

    #[test]
    fn compares_with_every_kind_of_text() {
        let bytes = Bytes::from("on");
        assert!(
            bytes == b"on"
                && bytes == *b"on"
                && bytes == "on"
                && bytes == b"on"[..]
                && bytes == vec![b'o', b'n']
        );
        assert!(bytes != "off");
    }
}
