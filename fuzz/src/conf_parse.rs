//! nginx.conf of any bytes: reading ends, nothing panics, and what was understood survives printing.
//!
//! The input is the main file; `include part` reads what follows the first 0xFF byte, so that includes take part.

use std::io;
use std::path::{Path, PathBuf};

use conf::{Diagnostics, Directive, Files, Options, Style, Word};

use crate::{Target, texts};

pub(crate) const TARGET: Target =
    Target { name: "conf_parse", run, samples: || texts(SAMPLES), words: WORDS };

fn run(input: &[u8]) {
    let mut halves = input.splitn(2, |&byte| byte == 0xff);
    let files = Pair { main: halves.next().unwrap_or_default(), part: halves.next().unwrap_or_default() };
    let mut diagnostics = Diagnostics::new();
    let options = Options { main: Path::new(MAIN), command_line: Some(files.part), files: &files };
    let parsed = conf::parse(&options, &mut diagnostics);
    for style in [Style::Plain, Style::Terminal { color: true }] {
        let lines = conf::render(&diagnostics, &parsed.sources, style);
        assert_eq!(lines.is_empty(), diagnostics.is_empty());
    }
    each_word(&parsed.directives, &mut |word| {
        let text = parsed.sources.text(word.span.file);
        assert!((word.span.start + word.span.len) as usize <= text.len());
        assert!(word.span.len as usize >= word.bytes.len());
        values(&word.bytes);
    });

    let printed = conf::print_bytes(&parsed.directives);
    let mut complaints = Diagnostics::new();
    let files = Pair { main: &printed, part: b"" };
    let options = Options { main: Path::new(MAIN), command_line: None, files: &files };
    let again = conf::parse(&options, &mut complaints);
    assert!(!complaints.has_errors(), "{:?}", complaints.iter().collect::<Vec<_>>());
    assert!(is_same(&parsed.directives, &again.directives), "{}", conf::print(&parsed.directives));
}

const MAIN: &str = "/nginx.conf";

fn each_word(directives: &[Directive], visit: &mut impl FnMut(&Word)) {
    for directive in directives {
        visit(&directive.name);
        directive.args.iter().for_each(&mut *visit);
        each_word(directive.block.as_deref().unwrap_or_default(), visit);
    }
}

fn values(word: &[u8]) {
    let _ = conf::template::parse(word);
    conf::value::time_ms(word);
    conf::value::time_s(word);
    conf::value::size(word);
    conf::value::offset(word);
}

/// Equal but for places.
fn is_same(a: &[Directive], b: &[Directive]) -> bool {
    let word = |(a, b): (&Word, &Word)| a.bytes == b.bytes;
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            word((&a.name, &b.name))
                && a.args.len() == b.args.len()
                && a.args.iter().zip(&b.args).all(word)
                && a.block.is_some() == b.block.is_some()
                && is_same(a.block.as_deref().unwrap_or_default(), b.block.as_deref().unwrap_or_default())
        })
}

struct Pair<'a> {
    main: &'a [u8],
    part: &'a [u8],
}

impl Files for Pair<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some(MAIN) => Ok(self.main.to_vec()),
            Some("/part") => Ok(self.part.to_vec()),
            _ => Err(io::Error::from_raw_os_error(2)),
        }
    }

    fn glob(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(vec!["/part".into()])
    }
}

/// What reads well, in nginx's way or in Lua's.
const SAMPLES: &[&[u8]] = &[
    include_bytes!("../../crates/conf/testdata/good/bom.conf"),
    include_bytes!("../../crates/conf/testdata/good/crlf.conf"),
    include_bytes!("../../crates/conf/testdata/good/lua.conf"),
    include_bytes!("../../crates/conf/testdata/good/quotes.conf"),
    include_bytes!("../../crates/conf/testdata/good/websocket.conf"),
];

const WORDS: &[&[u8]] = &[
    b";",
    b"{",
    b"}",
    b"\"",
    b"'",
    b"\\",
    b"$",
    b"${",
    b"#",
    b"(",
    b")",
    b" ",
    b"\t",
    b"\n",
    b"\r\n",
    b"=",
    b"~",
    b"*",
    b"[",
    b"]",
    b"?",
    b"a",
    b"10s",
    b"4k",
    b"include part;",
    b"include ",
    b"_by_lua_block {",
    b"\0",
    b"\xc3\xa9",
    b"\xff",
    b"\xef\xbb\xbf",
    b"-1",
    b"99999999999999999999",
    b"1h30m",
];
