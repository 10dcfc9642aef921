//! What `nginx -t` of nginx 1.31 says of the lines in `testdata/language.tsv`, and what we say: accepted or not, the first
//! error and its line, and nginx's warnings. A row is a place, the lines that stand there, and nginx's answer.
//!
//! `NGINX_BIN=/path/to/nginx UPDATE_LANGUAGE=1 cargo test -p tidegate-modules language` records the answers anew.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use http::testing::{TestWorld, load_text, messages};

use super::Directory;
use crate::MODULES;

const ROWS: &str = include_str!("../../testdata/language.tsv");

#[test]
fn lines_are_taken_as_nginx_takes_them() {
    if let Some(nginx) =
        std::env::var_os("NGINX_BIN").filter(|_| std::env::var_os("UPDATE_LANGUAGE").is_some())
    {
        return record(Path::new(&nginx));
    }
    let mut wrong = String::new();
    for row in ROWS.lines() {
        let [place, lines, expected] = cells(row);
        let messages = messages(&file(place, &unescaped(lines)), MODULES);
        let seen = answer(&messages, "/test/nginx.conf");
        if !agree(&seen, expected) {
            let _ = writeln!(wrong, "{place}: {lines}\n  nginx {expected}\n  ours  {seen}");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// All of nginx's answer is in ours, which may warn of more.
fn agree(seen: &str, expected: &str) -> bool {
    let (mut seen, mut expected) = (seen.split(" | "), expected.split(" | "));
    seen.next() == expected.next() && {
        let seen: Vec<&str> = seen.collect();
        expected.all(|warning| seen.contains(&warning))
    }
}

/// `[emerg] ... in LINE` or `ok`, and behind that the warnings, each after ` | `.
fn answer(messages: &str, main: &str) -> String {
    let lines = || messages.lines().map(|line| line.replace(&format!("{main}:"), ""));
    let words = |line: String, level: &str| Some(line[line.find(level)?..].to_owned());
    let errors: Vec<String> = lines().filter_map(|line| words(line, "[emerg]")).collect();
    if let Some(first) = errors.first() {
        return without_process(first);
    }
    let warnings = lines().filter_map(|line| words(line, "[warn]"));
    warnings.fold("ok".to_owned(), |all, warning| format!("{all} | {}", without_process(&warning)))
}

/// Without `12#34: ` behind the level, where nginx writes to a log.
fn without_process(line: &str) -> String {
    let (level, rest) = line.split_once("] ").unwrap_or((line, ""));
    let message = match rest.split_once(": ") {
        Some((process, message)) if process.contains('#') && !process.contains(' ') => message,
        _ => rest,
    };
    format!("{level}] {message}")
}

fn record(nginx: &Path) {
    let directory = Directory::new(&[("nginx.conf", "")]);
    let main = directory.0.join("nginx.conf");
    let mut rows = String::new();
    for row in ROWS.lines() {
        let [place, lines, _] = cells(row);
        std::fs::write(&main, file(place, &unescaped(lines))).expect("a temporary directory can be written");
        let mut command = Command::new(nginx);
        command.args(["-t", "-e", "stderr", "-p"]).arg(&directory.0).args(["-c", "nginx.conf"]);
        let output = command.output().expect("NGINX_BIN names a program");
        let messages = String::from_utf8_lossy(&output.stderr);
        let answer = answer(&messages, main.to_str().expect("temporary directories have plain names"));
        let _ = writeln!(rows, "{place}\t{lines}\t{answer}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/language.tsv");
    std::fs::write(path, rows).expect("the source tree can be written");
}

fn cells(row: &str) -> [&str; 3] {
    let cells: Vec<&str> = row.split('\t').collect();
    cells.try_into().expect("a row has three cells")
}

/// `\n`, `\r`, `\t` and `\\` as the characters they stand for.
fn unescaped(text: &str) -> String {
    let mut chars = text.chars();
    let mut out = String::new();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                _ => '\\',
            },
            c => c,
        });
    }
    out
}

/// A whole file with `lines` in their place.
fn file(place: &str, lines: &str) -> String {
    let around: &[&str] = match place {
        "file" => return lines.to_owned(),
        "main" => return format!("events {{}}\nhttp {{}}\n{lines}\n"),
        "events" => return format!("events {{\n{lines}\n}}\n"),
        "http" => &[],
        "server" => &["server"],
        "location" => &["server", "location /"],
        "if in server" => &["server", "if ($host = a)"],
        "if in location" => &["server", "location /", "if ($host = a)"],
        "limit_except" => &["server", "location /", "limit_except GET"],
        "upstream" => &["upstream u"],
        other => panic!("no such place: {other}"),
    };
    let mut text = String::from("events {}\nhttp {\n");
    for block in around {
        let first = match *block {
            "server" => "listen 127.0.0.1:8201;\n",
            "upstream u" => "server 127.0.0.1:1;\n",
            _ => "",
        };
        let _ = write!(text, "{block} {{\n{first}");
    }
    text.push_str(lines);
    text.push_str(&"\n}".repeat(around.len() + 1));
    text.push('\n');
    text
}

/// Mutations of real files: whatever stands there, the load ends, it either serves or says why not, and says it in lines
/// that can be shown.
#[test]
fn mutations_are_answered() {
    const SEEDS: [&str; 4] = [
        include_str!("../../../../examples/websocket-map.conf"),
        include_str!("../../../../examples/single-page-app.conf"),
        include_str!("../../../../examples/many-tunnels.conf"),
        include_str!("../../../../examples/wss.conf"),
    ];
    let mut random = Random(0x7469_6465);
    for round in 0..600 {
        let text = mutated(SEEDS[round % SEEDS.len()], &mut random);
        let loaded = load_text(&text, MODULES, &mut TestWorld::default());
        assert_eq!(loaded.snapshot.is_none(), loaded.diagnostics.has_errors(), "round {round}\n{text}");
        for style in [conf::Style::Plain, conf::Style::Terminal { color: true }] {
            let shown = conf::render(&loaded.diagnostics, &loaded.sources, style);
            assert_eq!(shown.contains("emerg"), loaded.diagnostics.has_errors(), "round {round}\n{text}");
            assert!(
                !shown.bytes().any(|byte| byte.is_ascii_control() && !b"\n\x1b".contains(&byte)),
                "{shown:?}"
            );
        }
    }
}

/// A generator of its own, so that a round is the same everywhere (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end.max(1) as u64).expect("below a usize")
    }

    fn one_of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

fn mutated(text: &str, random: &mut Random) -> String {
    const PIECES: [&str; 24] = [
        ";",
        "{",
        "}",
        "\"",
        "'",
        "\\",
        "${",
        "$",
        "~(",
        "#",
        "\0",
        "\u{feff}",
        "\u{80}",
        "on",
        "-1",
        "1g",
        "include x;",
        "if (",
        "location ~ ^/(?<n>a)(?<n>b) { }",
        "return 301;",
        "99999999999999999999",
        "proxy_pass http://$nosuch/;",
        "server { listen 1; listen 1; }",
        "map $a $b { ~* 1; default; }",
    ];
    let mut words: Vec<&str> =
        text.split_inclusive(|c: char| c.is_whitespace() || ";{}".contains(c)).collect();
    for _ in 0..=random.below(3) {
        let (at, other) = (random.below(words.len()), random.below(words.len()));
        match random.below(5) {
            0 => words[at] = "",
            1 => words.swap(at, other),
            2 => words.insert(at, words[other]),
            3 => words.insert(at, random.one_of(&PIECES)),
            _ => words[at] = random.one_of(&PIECES),
        }
    }
    words.concat()
}
