//! Paths: a normalised one has nothing left to resolve, and escaping is undone by unescaping.

use wire::http1::{Escape, Unescape, escape_uri, escaped_len, normalise_path, unescape_uri};

use crate::{Target, texts};

pub(crate) const TARGET: Target = Target { name: "wire_path", run, samples: || texts(SAMPLES), words: WORDS };

fn run(data: &[u8]) {
    let raw = [b"/", data].concat();
    for merge_slashes in [true, false] {
        let mut path = Vec::new();
        if normalise_path(&raw, merge_slashes, &mut path).is_ok() {
            assert_eq!(path.first(), Some(&b'/'));
            assert!(path.len() <= raw.len());
            assert!(path.split(|byte| *byte == b'/').all(|part| part != b"." && part != b".."));
        }
    }
    for kind in [Escape::Uri, Escape::Args, Escape::UriComponent, Escape::Html, Escape::Memcached] {
        let (mut escaped, mut back) = (Vec::new(), Vec::new());
        escape_uri(data, kind, &mut escaped);
        assert_eq!(escaped.len(), escaped_len(data, kind));
        unescape_uri(&escaped, Unescape::All, &mut back);
        if kind != Escape::Html {
            assert_eq!(back, data);
        }
    }
    let _ = unescape_uri(data, Unescape::Redirect, &mut Vec::new());
}

const SAMPLES: &[&[u8]] =
    &[b"a/./b/../c//d/%2e%2e/e?f", b"%41%zz%%00/..", b"../../..", b"caf\xc3\xa9 <b>&\"'"];

const WORDS: &[&[u8]] = &[
    b"/", b"//", b".", b"..", b"/./", b"/../", b"%", b"%2e", b"%2F", b"%00", b"%zz", b"?", b"#", b"+", b" ",
    b"\xff", b"\0",
];
