//! nginx.conf of any bytes: reading ends, nothing panics, and what was understood survives printing.
//!
//! The input is the main file; `include part` reads what follows the first 0xFF byte, so that includes take part.
#![no_main]

use std::io;
use std::path::{Path, PathBuf};

use conf::{Diagnostics, Directive, Files, Options, Style};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut halves = input.splitn(2, |&byte| byte == 0xff);
    let files = Pair { main: halves.next().unwrap_or_default(), part: halves.next().unwrap_or_default() };
    let mut diagnostics = Diagnostics::new();
    let options = Options { main: Path::new("/nginx.conf"), command_line: Some(files.part), files: &files };
    let parsed = conf::parse(&options, &mut diagnostics);
    for style in [Style::Plain, Style::Terminal { color: true }] {
        conf::render(&diagnostics, &parsed.sources, style);
    }
    values(&parsed.directives);

    let printed = conf::print_bytes(&parsed.directives);
    let mut complaints = Diagnostics::new();
    let files = Pair { main: &printed, part: b"" };
    let options = Options { main: Path::new("/nginx.conf"), command_line: None, files: &files };
    let again = conf::parse(&options, &mut complaints);
    assert!(!complaints.has_errors());
    assert_eq!(conf::print_bytes(&again.directives), printed);
});

fn values(directives: &[Directive]) {
    for directive in directives {
        for word in &directive.args {
            let _ = conf::template::parse(&word.bytes);
            conf::value::time_ms(&word.bytes);
            conf::value::time_s(&word.bytes);
            conf::value::size(&word.bytes);
            conf::value::offset(&word.bytes);
        }
        values(directive.block.as_deref().unwrap_or_default());
    }
}

struct Pair<'a> {
    main: &'a [u8],
    part: &'a [u8],
}

impl Files for Pair<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("/nginx.conf") => Ok(self.main.to_vec()),
            Some("/part") => Ok(self.part.to_vec()),
            _ => Err(io::Error::from_raw_os_error(2)),
        }
    }

    fn glob(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(vec!["/part".into()])
    }
}
