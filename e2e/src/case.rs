//! The case files: a configuration and what both neighbours do, one step a line. `cases/README.md` is the user's guide.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::places;
use crate::proxy::Kind;
use crate::raw::End;

/// One scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    /// File stem under `cases/`.
    pub area: String,
    /// Unique in its file.
    pub name: String,
    /// Lines inside `http {}`, placeholders not yet filled in.
    pub config: String,
    /// Why tidegate does something else than nginx here, on purpose. Such a case is judged by its own waits alone.
    pub differs: Option<String>,
    /// Files under the prefix, made before the start.
    pub files: Vec<(String, Vec<u8>)>,
    /// Listeners (`u`, `v`) that refuse.
    pub down: Vec<char>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// One line of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Only with this proxy, when set: `ours`, `nginx`.
    pub only: Option<Kind>,
    /// The connection: `c`, `u2`; empty for `pause`.
    pub who: String,
    /// What it does.
    pub act: Act,
}

/// What a connection does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A client connects to the port of that name (`PORT` when the script does not say).
    Connect(String),
    /// An upstream takes the next connection without reading from it.
    Accept,
    /// Sends bytes. An upstream's first `Send` waits for a request head, unless it has waited already.
    Send(Vec<u8>),
    /// Waits for bytes after those waited for last.
    Wait(Vec<u8>),
    /// No more from us; the other direction stays.
    Fin,
    /// Closes both directions.
    Close,
    /// Resets.
    Reset,
    /// Waits until the proxy has left.
    End,
    /// Asserts how it left, or with `Open` that it has not.
    Ended(End),
    /// Nothing for a while: so that the proxy reads what was sent so far by itself, or a timer of its own runs out.
    Pause(Duration),
}

/// All cases of all files, in order.
pub fn all() -> Vec<Case> {
    areas().iter().flat_map(|area| of_area(area)).collect()
}

/// The stems of the case files.
pub fn areas() -> Vec<String> {
    let files = fs::read_dir(folder()).expect("e2e/cases exists").flatten();
    let cases =
        files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|ext| ext == "case"));
    let mut areas: Vec<String> =
        cases.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    areas.sort();
    areas
}

/// All cases of one file. Panics with place and line when it cannot be read.
pub fn of_area(area: &str) -> Vec<Case> {
    let path = folder().join(format!("{area}.case"));
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    parse(area, &text).unwrap_or_else(|error| panic!("{}:{error}", path.display()))
}

/// One case by name.
pub fn one(area: &str, name: &str) -> Case {
    let found = of_area(area).into_iter().find(|case| case.name == name);
    found.unwrap_or_else(|| panic!("{area}.case has no case {name}"))
}

fn folder() -> std::path::PathBuf {
    Path::new(places::workspace()).join("e2e/cases")
}

/// Reads a file's text; an error is `line: what`.
pub fn parse(area: &str, text: &str) -> Result<Vec<Case>, String> {
    let mut file = File { configs: vec![Config::default()], ..File::default() };
    for (number, line) in text.lines().enumerate() {
        file.line(area, line).map_err(|error| format!("{}: {error}: {line}", number + 1))?;
    }
    file.finish_case();
    Ok(file.cases)
}

/// Lines for `server {}` and for `http {}`; a case that writes none of a kind has those of the file or of `use NAME`.
#[derive(Clone, Debug, Default)]
struct Config {
    name: String,
    server: Option<String>,
    http: Option<String>,
}

impl Config {
    /// The text for `http {}`: a server is made around the server lines, none when these are empty.
    fn text(&self, outer: &Config) -> String {
        let of =
            |own: &Option<String>, outer: &Option<String>| own.clone().or(outer.clone()).unwrap_or_default();
        let (server, http) = (of(&self.server, &outer.server), of(&self.http, &outer.http));
        if server.trim().is_empty() {
            return http;
        }
        format!("{http}server {{\nlisten 127.0.0.1:%%PORT%%;\nserver_name localhost;\n{server}}}\n")
    }
}

#[derive(Default)]
struct File {
    configs: Vec<Config>,
    case: Option<(Case, Config, usize)>,
    cases: Vec<Case>,
}

impl File {
    fn line(&mut self, area: &str, line: &str) -> Result<(), String> {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            return Ok(());
        }
        if let Some(name) = line.strip_prefix("config ") {
            self.finish_case();
            self.configs.push(Config { name: name.trim().to_owned(), ..Config::default() });
        } else if let Some(name) = line.strip_prefix("case ") {
            self.finish_case();
            let name = name.split(':').next().unwrap_or_default().trim().to_owned();
            if self.cases.iter().any(|case| case.name == name) {
                return Err("second case of that name".into());
            }
            self.case = Some((Case { area: area.into(), name, ..Case::default() }, Config::default(), 0));
        } else if let Some(text) = line.trim_start().strip_prefix("||") {
            let config = self.config();
            *config.http.get_or_insert_default() += &format!("{}\n", text.trim());
        } else if let Some(text) = line.trim_start().strip_prefix('|') {
            let config = self.config();
            *config.server.get_or_insert_default() += &format!("{}\n", text.trim());
        } else {
            self.script(line.trim_start())?;
        }
        Ok(())
    }

    fn config(&mut self) -> &mut Config {
        match &mut self.case {
            Some((_, config, _)) => config,
            None => self.configs.last_mut().expect("the file's own is always there"),
        }
    }

    fn script(&mut self, line: &str) -> Result<(), String> {
        let Some((case, _, base)) = &mut self.case else { return Err("a step before the first case".into()) };
        if let Some(name) = line.strip_prefix("use ") {
            let found = self.configs.iter().position(|config| config.name == name.trim());
            *base = found.ok_or("no config of that name")?;
        } else if let Some(reason) = line.strip_prefix("differs:") {
            case.differs = Some(reason.trim().to_owned());
        } else if let Some(file) = line.strip_prefix("file ") {
            let (name, content) = file.split_once(' ').unwrap_or((file, ""));
            case.files.push((name.to_owned(), bytes(content)?));
        } else if let Some(who) = line.strip_suffix(" down") {
            case.down.push(who.chars().next().ok_or("who is down?")?);
        } else {
            case.steps.push(step(line)?);
        }
        Ok(())
    }

    fn finish_case(&mut self) {
        if let Some((mut case, config, base)) = self.case.take() {
            case.config = config.text(&self.configs[base]);
            self.cases.push(case);
        }
    }
}

fn step(line: &str) -> Result<Step, String> {
    if let Some(rest) = line.strip_prefix("ours ") {
        return Ok(Step { only: Some(Kind::Tidegate), ..step(rest)? });
    }
    if let Some(rest) = line.strip_prefix("nginx ") {
        return Ok(Step { only: Some(Kind::Nginx), ..step(rest)? });
    }
    let (who, rest) = line.split_at(line.find([' ', '>', '<']).ok_or("not a step")?);
    let act = act(who, rest)?;
    let who = if matches!(act, Act::Pause(_)) { String::new() } else { who.to_owned() };
    let number = who.get(1..).unwrap_or_default();
    let known = who.is_empty()
        || who.starts_with(['c', 'u', 'v']) && number.chars().all(|char| char.is_ascii_digit());
    if known { Ok(Step { only: None, who, act }) } else { Err("connections are c, u, v and a number".into()) }
}

fn act(who: &str, rest: &str) -> Result<Act, String> {
    if let Some(text) = rest.strip_prefix('>') {
        return Ok(Act::Send(bytes(text.strip_prefix(' ').unwrap_or(text))?));
    }
    if let Some(text) = rest.strip_prefix('<') {
        return Ok(Act::Wait(bytes(text.strip_prefix(' ').unwrap_or(text))?));
    }
    let (word, rest) = rest.trim_start().split_once(' ').unwrap_or((rest.trim(), ""));
    match word {
        _ if who == "pause" => word
            .parse()
            .map(|ms| Act::Pause(Duration::from_millis(ms)))
            .map_err(|_| "pause MILLISECONDS".into()),
        "get" => Ok(Act::Send(get(rest)?)),
        "ok" => {
            let body = bytes(rest)?;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            Ok(Act::Send([head.into_bytes(), body].concat()))
        }
        "connect" => Ok(Act::Connect(if rest.is_empty() { "PORT".into() } else { rest.into() })),
        "accept" => Ok(Act::Accept),
        "fin" => Ok(Act::Fin),
        "close" => Ok(Act::Close),
        "rst" => Ok(Act::Reset),
        "end" => Ok(Act::End),
        "ended" => match rest {
            "fin" => Ok(Act::Ended(End::Fin)),
            "rst" => Ok(Act::Ended(End::Rst)),
            "open" => Ok(Act::Ended(End::Open)),
            _ => Err("ended fin|rst|open".into()),
        },
        _ => Err("unknown step".into()),
    }
}

/// `c get /path | Name: value | ...`: a whole request that asks for the connection to be closed.
fn get(rest: &str) -> Result<Vec<u8>, String> {
    let mut parts = rest.split(" | ");
    let path = parts.next().unwrap_or("/");
    let fields: Vec<&str> = parts.collect();
    let host =
        if fields.iter().any(|field| field.starts_with("Host:")) { "" } else { "Host: localhost\\r\\n" };
    let fields: String = fields.iter().map(|field| format!("{field}\\r\\n")).collect();
    bytes(&format!("GET {path} HTTP/1.1\\r\\n{host}{fields}Connection: close\\r\\n\\r\\n"))
}

/// `\r \n \t \0 \\ \xHH` and `{text*count}`; everything else is itself.
fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        if let Some((part, count, after)) = repeated(rest) {
            out.extend(bytes(part)?.repeat(count));
            rest = after;
            continue;
        }
        rest = &rest[char.len_utf8()..];
        if char != '\\' {
            out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let code = rest.chars().next().ok_or("a backslash at the end")?;
        rest = &rest[code.len_utf8()..];
        match code {
            'r' => out.push(b'\r'),
            'n' => out.push(b'\n'),
            't' => out.push(b'\t'),
            '0' => out.push(0),
            '\\' => out.push(b'\\'),
            'x' => {
                let digits = rest.get(..2).ok_or("\\x wants two digits")?;
                out.push(u8::from_str_radix(digits, 16).map_err(|_| "\\x wants two hex digits")?);
                rest = &rest[2..];
            }
            _ => return Err(format!("unknown escape \\{code}")),
        }
    }
    Ok(out)
}

/// `{part*count}` at the start of a text.
fn repeated(text: &str) -> Option<(&str, usize, &str)> {
    let (inside, after) = text.strip_prefix('{')?.split_once('}')?;
    let (part, count) = inside.rsplit_once('*')?;
    Some((part, count.parse().ok()?, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_bytes() {
        let check = |text: &str, expected: &[u8]| assert_eq!(bytes(text).as_deref(), Ok(expected), "{text}");
        check(r"a\r\n\t\0\\\xff", b"a\r\n\t\0\\\xff");
        check("{ab*3}c", b"abababc");
        check(r"{X-{a}: 1\r\n*2}", b"{X-{a}: 1\r\n*2}");
        check(r"{a: 1\r\n*2}", b"a: 1\r\na: 1\r\n");
        check("{}", b"{}");
        assert!(bytes(r"\q").is_err());
    }

    #[test]
    fn a_case_inherits_what_it_does_not_write() {
        let text = "| location / { a; }\n|| map x;\ncase one\n  c get /\ncase two: title\n  | location / { b; }\n  u down\n  c> x\n";
        let cases = parse("x", text).expect("good");
        assert!(cases[0].config.contains("a; }") && cases[0].config.starts_with("map x;\nserver {"));
        assert!(cases[1].config.contains("b; }") && !cases[1].config.contains("a; }"));
        assert_eq!((cases[1].name.as_str(), &cases[1].down[..]), ("two", &['u'][..]));
        assert_eq!(cases[1].steps[0].act, Act::Send(b"x".to_vec()));
    }

    #[test]
    fn a_bad_line_is_named() {
        let check = |text: &str, expected: &str| {
            let error = parse("x", text).expect_err("bad");
            assert!(error.starts_with(expected), "{error}");
        };
        check("c> x", "1: a step before the first case");
        check("case a\n  z> x", "2: connections are");
        check("case a\n  c dance", "2: unknown step");
        check("case a\ncase a", "2: second case");
        check("case a\n  use b", "2: no config");
    }
}
