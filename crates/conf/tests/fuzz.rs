//! Any bytes: the reader ends, never panics, its places lie inside the text, and what it understood survives printing.
//!
//! A short, seeded run of what `fuzz/` does for hours. `SEED` repeats a run, `ROUNDS` lengthens it.

mod support;

use std::fs;
use std::path::Path;

use tidegate_conf as conf;

use conf::{Diagnostics, Directive, Options, Parsed, Style, Word};

use support::Table;

#[test]
fn any_bytes_are_read_safely() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number("SEED").unwrap_or(20_260_721);
    let mut random = Random(seed);
    let good = samples();
    for round in 0..number("ROUNDS").unwrap_or(1500) {
        let text = if round % 3 == 0 { noise(&mut random) } else { mutated(&good, &mut random) };
        let result = std::panic::catch_unwind(|| check(&text));
        assert!(result.is_ok(), "SEED={seed} round {round}: {}", text.escape_ascii());
    }
}

/// The samples are read without a word of complaint, so printing must give back the whole tree.
#[test]
fn good_files_survive_printing() {
    for text in samples() {
        check(&text);
    }
}

fn check(text: &[u8]) {
    let files =
        Table::of([("/conf/nginx.conf", text), ("/conf/a", b"x y;\nz {"), ("/conf/b", b"include a;")]);
    let (parsed, diagnostics) = read(&files, text);
    for style in [Style::Plain, Style::Terminal { color: true }] {
        let lines = conf::render(&diagnostics, &parsed.sources, style);
        assert_eq!(lines.is_empty(), diagnostics.is_empty());
    }
    walk(&parsed.directives, &mut |word| {
        let text = parsed.sources.text(word.span.file);
        let end = (word.span.start + word.span.len) as usize;
        assert!(end <= text.len() && word.span.len as usize >= word.bytes.len());
        let _ = conf::template::parse(&word.bytes);
        let _ = conf::value::time_ms(&word.bytes);
        let _ = conf::value::offset(&word.bytes);
    });
    let printed = Table::one(conf::print_bytes(&parsed.directives));
    let (again, complaints) = read(&printed, b"");
    assert!(!complaints.has_errors(), "{:?}", complaints.iter().collect::<Vec<_>>());
    assert!(same(&parsed.directives, &again.directives), "{}", conf::print(&parsed.directives));
}

fn read(files: &Table, command_line: &[u8]) -> (Parsed, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    let main = Path::new("/conf/nginx.conf");
    // Now and then the text is tried as an argument of -g as well.
    if command_line.first().is_some_and(|byte| byte % 2 == 0) {
        let options = Options { main, command_line: Some(command_line), files };
        conf::parse(&options, &mut diagnostics);
        diagnostics = Diagnostics::new();
    }
    let parsed = conf::parse(&Options { main, command_line: None, files }, &mut diagnostics);
    (parsed, diagnostics)
}

fn walk(directives: &[Directive], visit: &mut impl FnMut(&Word)) {
    for directive in directives {
        visit(&directive.name);
        directive.args.iter().for_each(&mut *visit);
        walk(directive.block.as_deref().unwrap_or_default(), visit);
    }
}

/// Equal but for places.
fn same(a: &[Directive], b: &[Directive]) -> bool {
    let word = |(a, b): (&Word, &Word)| a.bytes == b.bytes;
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            word((&a.name, &b.name))
                && a.args.len() == b.args.len()
                && a.args.iter().zip(&b.args).all(word)
                && a.block.is_some() == b.block.is_some()
                && same(a.block.as_deref().unwrap_or_default(), b.block.as_deref().unwrap_or_default())
        })
}

fn samples() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/good");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Mostly the bytes that mean something, so that noise gets beyond the first word.
fn noise(random: &mut Random) -> Vec<u8> {
    const MARKS: &[u8] = b";;{}{}\"'\\$#() \t\r\n\n=a0b*?[]-.,include a;include b;\0\xc3\xa9\xff";
    let len = random.below(200);
    (0..len)
        .map(
            |_| {
                if random.below(20) == 0 { random.below(256) as u8 } else { MARKS[random.below(MARKS.len())] }
            },
        )
        .collect()
}

fn mutated(samples: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut text = samples[random.below(samples.len())].clone();
    for _ in 0..=random.below(8) {
        let at = random.below(text.len() + 1);
        let piece = noise(random);
        match random.below(4) {
            0 => text.truncate(at),
            1 => text.insert(at, *piece.first().unwrap_or(&b';')),
            2 => drop(text.drain(at..(at + random.below(30)).min(text.len()))),
            _ => drop(text.splice(at..at, piece)),
        }
    }
    text
}

/// xorshift64*: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }
}
