//! What both neighbours of the proxy saw, with everything taken out that may differ from run to run.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::proxy::Place;
use crate::raw::End;

/// One connection as one neighbour saw it: `c`, `c2` are clients, `u`, `u2` connections to the first upstream in the order
/// they came, `v`, `v2` to the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The bytes it got, one char a byte.
    pub got: String,
    /// How the proxy left it.
    pub end: End,
}

/// All connections of one case, and the access log when the case writes one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// By name of the connection.
    pub seen: BTreeMap<String, Seen>,
    /// Lines of `access.log`.
    pub log: Vec<String>,
}

impl Outcome {
    /// As it is kept in `recorded/`.
    pub fn to_json(&self) -> Value {
        let seen = self.seen.iter().map(|(who, seen)| (who.clone(), seen.to_json()));
        let mut case: Map<String, Value> = seen.collect();
        if !self.log.is_empty() {
            case.insert("log".into(), json!(self.log));
        }
        Value::Object(case)
    }

    /// Back from `recorded/`. `None` when the shape is not ours.
    pub fn from_json(value: &Value) -> Option<Outcome> {
        let mut outcome = Outcome::default();
        for (who, value) in value.as_object()? {
            if who == "log" {
                outcome.log = strings(value)?;
            } else {
                outcome.seen.insert(who.clone(), Seen::from_json(value)?);
            }
        }
        Some(outcome)
    }

    /// For a person: each connection whose two sides differ, line by line; empty when nothing does.
    pub fn difference(&self, expected: &Outcome, kind: &str) -> String {
        let mut text = String::new();
        let names: std::collections::BTreeSet<_> = self.seen.keys().chain(expected.seen.keys()).collect();
        for who in names {
            let (ours, theirs) = (self.seen.get(who), expected.seen.get(who));
            if ours != theirs {
                let _ = write!(text, "{who}: recorded\n{}{who}: {kind}\n{}", shown(theirs), shown(ours));
            }
        }
        if self.log != expected.log {
            let _ = writeln!(
                text,
                "access.log: recorded\n    {:?}\naccess.log: {kind}\n    {:?}",
                expected.log, self.log
            );
        }
        text
    }
}

impl Seen {
    fn to_json(&self) -> Value {
        let got: Vec<String> = self.got.split_inclusive('\n').map(folded).collect();
        json!({ "got": got, "end": end_name(self.end) })
    }

    fn from_json(value: &Value) -> Option<Seen> {
        let end = match value.get("end")?.as_str()? {
            "open" => End::Open,
            "fin" => End::Fin,
            "rst" => End::Rst,
            "left" => End::Left,
            _ => return None,
        };
        let got = strings(value.get("got")?)?;
        Some(Seen { got: got.iter().map(|line| unfolded(line)).collect(), end })
    }
}

fn end_name(end: End) -> &'static str {
    match end {
        End::Open => "open",
        End::Fin => "fin",
        End::Rst => "rst",
        End::Left => "left",
    }
}

fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|line| line.as_str().map(str::to_owned)).collect()
}

fn shown(seen: Option<&Seen>) -> String {
    let Some(seen) = seen else { return "    (no such connection)\n".into() };
    let lines = seen.got.split_inclusive('\n').map(|line| format!("    {:?}\n", folded(line)));
    lines.collect::<String>() + &format!("    {}\n", end_name(seen.end))
}

/// Bytes of one connection as text: one char a byte, then without what may differ.
pub fn normalise(bytes: &[u8], place: &Place) -> String {
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    let text = without_server_in_body(without_ports(text, place));
    text.split_inclusive('\n').map(without_name_and_time).collect()
}

/// The names both proxies give themselves, and their clock. What an upstream put there stays: scripts date it 2024.
fn without_name_and_time(line: &str) -> String {
    if let Some(name) = line.strip_prefix("Server: ") {
        if name.starts_with("nginx") || name.starts_with("tidegate") {
            return format!("Server: SERVER{}", line_end(line));
        }
    }
    if line.starts_with("Date: ") && !line.contains(" 2024 ") {
        return format!("Date: DATE{}", line_end(line));
    }
    line.to_owned()
}

fn line_end(line: &str) -> &str {
    &line[line.trim_end_matches(['\r', '\n']).len()..]
}

/// Ports and paths of this run, by the names they have in the configuration.
pub fn without_ports(text: String, place: &Place) -> String {
    let text = text.replace(&*place.dir.path().to_string_lossy(), "%%DIR%%");
    place.ports().fold(text, |text, (name, number)| without_number(&text, &number.to_string(), name))
}

/// A number that stands alone, not as part of a longer one.
fn without_number(text: &str, number: &str, name: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(number) {
        let (before, after) = (&rest[..at], &rest[at + number.len()..]);
        let alone = !before.ends_with(|char: char| char.is_ascii_digit())
            && !after.starts_with(|char: char| char.is_ascii_digit());
        out.push_str(before);
        if alone {
            out += &format!("%%{name}%%");
        } else {
            out.push_str(number);
        }
        rest = after;
    }
    out + rest
}

/// The error pages end in the server's name and version: taken out, and `Content-Length` with it.
fn without_server_in_body(mut text: String) -> String {
    const BEFORE: &str = "<hr><center>";
    const NAME: &str = "SERVER";
    let mut from = 0;
    while let Some(at) = text[from..].find(BEFORE).map(|at| from + at + BEFORE.len()) {
        let Some(len) = text[at..].find("</center>") else { break };
        text.replace_range(at..at + len, NAME);
        lengthen(&mut text, at, NAME.len() as i64 - len as i64);
        from = at;
    }
    text
}

/// Adds to the number in the last `Content-Length` before a place.
fn lengthen(text: &mut String, before: usize, by: i64) {
    const FIELD: &str = "Content-Length: ";
    let Some(start) = text[..before].rfind(FIELD).map(|at| at + FIELD.len()) else { return };
    let len = text[start..].find('\r').unwrap_or(0);
    if let Ok(number) = text[start..start + len].parse::<i64>() {
        text.replace_range(start..start + len, &(number + by).to_string());
    }
}

/// Long runs of one char as `⟦x×8192⟧`, so that a recorded body can be read. Bytes never make these brackets.
fn folded(line: &str) -> String {
    let mut text = String::new();
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        let mut count = 1;
        while chars.next_if_eq(&char).is_some() {
            count += 1;
        }
        if count < 32 {
            text.extend(std::iter::repeat_n(char, count));
        } else {
            let _ = write!(text, "⟦{char}×{count}⟧");
        }
    }
    text
}

fn unfolded(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, run)) = rest.split_once('⟦') {
        let (inside, after) = run.split_once('⟧').unwrap_or((run, ""));
        let mut chars = inside.chars();
        let char = chars.next().unwrap_or(' ');
        let count = chars.as_str().trim_start_matches('×').parse().unwrap_or(0);
        text.push_str(before);
        text.extend(std::iter::repeat_n(char, count));
        rest = after;
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_taken_out() {
        let place = Place::new(&["PORT"]);
        let port = place.port("PORT").number();
        let check = |input: &str, expected: &str| {
            assert_eq!(normalise(input.as_bytes(), &place), expected, "{input:?}")
        };
        check("Date: Mon, 01 Jan 2026 00:00:00 GMT\r\nX: Date: 1\r\n", "Date: DATE\r\nX: Date: 1\r\n");
        check("Server: nginx/1.31.3\r\n", "Server: SERVER\r\n");
        check(
            "Server: back/1\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n",
            "Server: back/1\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n",
        );
        check(&format!("Host: 127.0.0.1:{port}\r\n"), "Host: 127.0.0.1:%%PORT%%\r\n");
        check(
            "Content-Length: 157\r\n\r\n<hr><center>nginx/1.31.3</center>",
            "Content-Length: 151\r\n\r\n<hr><center>SERVER</center>",
        );
    }

    #[test]
    fn json_keeps_every_byte() {
        let got: String = (0..=255u8).map(char::from).collect::<String>() + &"x".repeat(9000) + "\r\nend";
        let mut outcome = Outcome { log: vec!["a".into()], ..Outcome::default() };
        outcome.seen.insert("c".into(), Seen { got, end: End::Rst });
        assert_eq!(Outcome::from_json(&outcome.to_json()), Some(outcome));
    }

    #[test]
    fn a_difference_names_the_connection() {
        let with = |got: &str| {
            let mut outcome = Outcome::default();
            outcome.seen.insert("c".into(), Seen { got: got.into(), end: End::Fin });
            outcome
        };
        assert_eq!(with("a").difference(&with("a"), "tidegate"), "");
        assert!(with("a").difference(&with("b"), "tidegate").starts_with("c: recorded"));
    }
}
