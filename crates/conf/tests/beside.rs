//! The reader beside nginx: what nginx answered to a table of files, good and broken, and what we answer.
//!
//! nginx stops at its first mistake, so the first line of ours is compared. nginx's words about directives (rather than
//! text) belong to the room above; a few are spoken here by [`judge`], so that the line numbers of good text are compared too.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use tidegate_conf as conf;

use conf::{Diagnostics, Directive, DiskFiles, Options, Style};

use support::Directory;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/beside-nginx.txt");

/// Where we know better and differ on purpose: the input and our answer.
const DIFFERENT: &[(&str, &str)] = &[
    // The whole character, not its first byte.
    (r#""a"\xc3\xa9;"#, "nginx: [emerg] unexpected \"é\" in /conf/nginx.conf:1"),
    // A long comment is a comment.
    (r"#<x*5000>\n;", "nginx: [emerg] unexpected \";\" in /conf/nginx.conf:2"),
];

#[test]
fn beside_nginx() {
    let table = fs::read_to_string(TABLE).unwrap();
    let nginx = std::env::var_os("BESIDE_NGINX");
    let record = std::env::var_os("RECORD").is_some();
    let mut recorded = String::new();
    let mut wrong = Vec::new();
    let mut lines = table.lines().peekable();
    let mut rows = 0;
    while let Some(line) = lines.next() {
        recorded += &format!("{line}\n");
        if line.starts_with("# ") || line.is_empty() {
            continue;
        }
        rows += 1;
        let mut answer = lines.next_if(|line| line.starts_with("    ")).map_or("", str::trim).to_owned();
        let case = Case::new(line);
        if let Some(nginx) = &nginx {
            let said = case.ask(Path::new(nginx));
            if record {
                answer = said;
            } else if said != answer {
                wrong.push(format!("{line}\n    recorded {answer}\n    nginx    {said}"));
            }
        }
        recorded += &format!("    {answer}\n");
        let expected = DIFFERENT.iter().find(|(input, _)| *input == line).map_or(&*answer, |(_, ours)| ours);
        let ours = case.parse();
        if ours != expected {
            wrong.push(format!("{line}\n    expected {expected}\n    ours     {ours}"));
        }
    }
    if record {
        fs::write(TABLE, recorded).unwrap();
    }
    assert!(rows > 150, "the table has shrunk to {rows} rows");
    assert!(wrong.is_empty(), "{} of {rows} differ\n{}", wrong.len(), wrong.join("\n"));
}

/// One row: files and a command line.
struct Case {
    directory: Directory,
    command_line: Option<Vec<u8>>,
}

impl Case {
    fn new(line: &str) -> Self {
        let directory = Directory::new();
        let mut command_line = None;
        let mut columns = line.split('\t');
        directory.write("nginx.conf", &bytes_of(columns.next().unwrap()));
        for column in columns {
            let (name, text) = column.split_once('=').expect("NAME=TEXT");
            match name {
                "-g" => command_line = Some(bytes_of(text)),
                _ => directory.write(name, &bytes_of(text)),
            }
        }
        Self { directory, command_line }
    }

    /// Our first complaint, or `ok`.
    fn parse(&self) -> String {
        let mut diagnostics = Diagnostics::new();
        let main = self.directory.path().join("nginx.conf");
        let options = Options { main: &main, command_line: self.command_line.as_deref(), files: &DiskFiles };
        let parsed = conf::parse(&options, &mut diagnostics);
        judge(&parsed.directives, &mut diagnostics);
        let text = conf::render(&diagnostics, &parsed.sources, Style::Plain);
        self.first_complaint(&text)
    }

    /// nginx's first complaint, or `ok`.
    fn ask(&self, nginx: &Path) -> String {
        let mut command = Command::new(nginx);
        let directory = self.directory.path();
        command
            .args(["-t", "-e", "/dev/null", "-c"])
            .arg(directory.join("nginx.conf"))
            .arg("-p")
            .arg(directory);
        if let Some(text) = &self.command_line {
            command.arg("-g").arg(OsStr::from_bytes(text));
        }
        let output = command.output().expect("BESIDE_NGINX names an nginx");
        self.first_complaint(&String::from_utf8_lossy(&output.stderr))
    }

    fn first_complaint(&self, text: &str) -> String {
        let directory = self.directory.path().to_str().unwrap();
        // nginx prints the control characters of a name as they are.
        let visible = |line: &str| line.replace('\n', r"\n").replace('\r', r"\r");
        let mut lines = text.trim_end().split("\nnginx: ").map(visible);
        let line = lines.find(|line| line.contains("[emerg]") || line.contains("[crit]"));
        // Everything about text is right by then: what is missing is not our business.
        let line = line.filter(|line| !line.contains("section in configuration"));
        line.map_or("ok".into(), |line| {
            let line = line.replace(directory, "/conf").replace('\x0b', r"\x0b").replace('\x0c', r"\x0c");
            if line.starts_with("nginx: ") { line } else { format!("nginx: {line}") }
        })
    }
}

/// Says the few things about directives that nginx would say first.
fn judge(directives: &[Directive], diagnostics: &mut Diagnostics) {
    const KNOWN: &[&str] = &[
        "events",
        "http",
        "server",
        "location",
        "types",
        "map",
        "geo",
        "worker_connections",
        "worker_processes",
        "listen",
        "return",
        "if",
        "set",
        "log_format",
        "add_header",
    ];
    for directive in directives {
        let name = directive.name.text();
        if !KNOWN.contains(&&*name) {
            let name = name.split('\0').next().unwrap();
            diagnostics.error(directive.name.span, format!("unknown directive \"{name}\""));
        } else if matches!(&*name, "listen" | "worker_connections") && directive.block.is_some() {
            let message = format!("directive \"{name}\" is not terminated by \";\"");
            diagnostics.error(directive.name.span, message);
        } else if matches!(&*name, "events" | "http" | "server" | "location") && directive.block.is_none() {
            diagnostics.error(directive.name.span, format!("directive \"{name}\" has no opening \"{{\""));
        }
        if !matches!(&*name, "types" | "map" | "geo") {
            judge(directive.block.as_deref().unwrap_or_default(), diagnostics);
        }
    }
}

fn bytes_of(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' => bytes.push(match rest.next().expect("something after the backslash") {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b'0' => 0,
                b'\\' => b'\\',
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => panic!("\\{} means nothing", char::from(other)),
            }),
            b'<' => {
                let inside: Vec<u8> = rest.by_ref().take_while(|&byte| byte != b'>').collect();
                let inside = String::from_utf8(inside).unwrap();
                let (what, times) = inside.split_once('*').unwrap();
                bytes.extend(what.repeat(times.parse().unwrap()).bytes());
            }
            _ => bytes.push(byte),
        }
    }
    bytes
}
