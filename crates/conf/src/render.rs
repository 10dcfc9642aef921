//! Diagnostics as text: nginx's lines for logs and scripts, and more than that for a person at a terminal.

use std::collections::HashSet;
use std::fmt::Write;

use crate::diagnostics::{Diagnostic, Diagnostics, Level};
use crate::sources::Sources;
use crate::tree::Span;

/// How to show diagnostics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// nginx's lines: `nginx: [emerg] unknown directive "foo" in /path/nginx.conf:3`.
    Plain,
    /// The same, followed by the line of the file, a mark under the place, and help.
    Terminal {
        /// Whether to use colours.
        color: bool,
    },
}

/// Most characters of a source line that are shown.
const SHOWN_MAX: usize = 160;
/// Bytes before and after a place that may hold so many characters.
const LOOKED_AT_MAX: usize = 4 * SHOWN_MAX;

/// The diagnostics as text that ends with a line feed, stage by stage in the order a reader of the files would meet them,
/// so that the first error is the one nginx would name. Repetitions (of a file included many times) are left out.
pub fn render(diagnostics: &Diagnostics, sources: &Sources, style: Style) -> String {
    let mut seen = HashSet::new();
    let mut list: Vec<(usize, &Diagnostic)> = diagnostics.staged().collect();
    list.retain(|(_, diagnostic)| seen.insert((diagnostic.level, &diagnostic.message, diagnostic.span)));
    list.sort_by_cached_key(|(stage, diagnostic)| (*stage, reading_order(diagnostic.span, sources)));
    let mut text = String::new();
    let mut lines = LineCounter::default();
    for (_, diagnostic) in list {
        headline(diagnostic, sources, style, &mut text);
        if let Style::Terminal { color } = style {
            details(diagnostic, sources, &mut lines, Paint(color), &mut text);
        }
    }
    if diagnostics.left_out() > 0 {
        let _ = writeln!(text, "nginx: [notice] {} more messages are not shown", diagnostics.left_out());
    }
    text
}

/// The way to a place: offsets of the includes that lead there, then its own. What has no place comes last.
fn reading_order(span: Option<Span>, sources: &Sources) -> (bool, Vec<u32>) {
    let mut way = Vec::new();
    let mut next = span;
    while let Some(span) = next {
        // One include may name many files, in the order of their ids.
        way.extend([span.start, u32::from(span.file.0)]);
        next = sources.included_at(span.file);
    }
    way.reverse();
    (span.is_none(), way)
}

fn headline(diagnostic: &Diagnostic, sources: &Sources, style: Style, text: &mut String) {
    let paint = Paint(style == Style::Terminal { color: true });
    let level = format!("[{}]", diagnostic.level);
    let _ = write!(text, "nginx: {} ", paint.level(diagnostic.level, &level));
    let mut message = diagnostic.message.clone();
    if let Some(span) = diagnostic.span {
        let _ = match sources.is_command_line(span.file) {
            true => write!(message, " in command line"),
            false => write!(message, " in {}:{}", sources.path(span.file).display(), span.line),
        };
    }
    push_visible(&message, text);
    text.push('\n');
}

fn details(
    diagnostic: &Diagnostic,
    sources: &Sources,
    lines: &mut LineCounter,
    paint: Paint,
    text: &mut String,
) {
    if let Some(span) = diagnostic.look_at.filter(|span| !sources.is_command_line(span.file)) {
        let _ = writeln!(
            text,
            "  {}",
            paint.dim(&format!("{}:{}", sources.path(span.file).display(), span.line))
        );
        excerpt(span, sources, lines, paint, text);
    } else if let Some(span) = diagnostic.span {
        excerpt(span, sources, lines, paint, text);
    }
    for note in &diagnostic.notes {
        text.push_str("  ");
        text.push_str(&paint.bold("help:"));
        text.push(' ');
        push_visible(note, text);
        text.push('\n');
    }
}

/// The source line and a mark under the place. Nothing at the end of a file, where there is nothing to see.
fn excerpt(span: Span, sources: &Sources, lines: &mut LineCounter, paint: Paint, text: &mut String) {
    let source = sources.text(span.file);
    let at = source.len().min(span.start as usize);
    // A line may be as long as the file: only what can be shown is looked at.
    let first = at.saturating_sub(LOOKED_AT_MAX);
    let last = source.len().min(at + LOOKED_AT_MAX);
    let start = memchr::memrchr(b'\n', &source[first..at]).map_or(first, |feed| first + feed + 1);
    let end = memchr::memchr(b'\n', &source[at..last]).map_or(last, |feed| at + feed);
    let line = &source[start..end];
    if line.trim_ascii().is_empty() {
        return;
    }
    let (before, rest) = line.split_at(at - start);
    let (marked, after) = rest.split_at(rest.len().min(span.len.max(1) as usize));
    let [before, marked, after] = [before, marked, after].map(shown);
    // A place far into a long line is shown with what stands just before it.
    let skipped = before.chars().count().saturating_sub(SHOWN_MAX / 2);
    let before: String = before.chars().skip(skipped).collect();
    let line: String = format!("{before}{marked}{after}").chars().take(SHOWN_MAX).collect();
    let room = SHOWN_MAX - before.chars().count();
    let mark = "^".repeat(marked.trim_end().chars().count().clamp(1, room));
    let number = lines.line_of(span, source).to_string();
    let margin = " ".repeat(number.len());
    let blank = " ".repeat(before.chars().count());
    let _ = writeln!(text, "  {} {}", paint.dim(&format!("{number} |")), line.trim_end());
    let _ = writeln!(text, "  {} {blank}{}", paint.dim(&format!("{margin} |")), paint.mark(&mark));
}

/// Bytes of a file as they may go to a terminal: every character one column, none that does something.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .map(|c| {
            if c == '\t' {
                ' '
            } else if c.is_control() {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// Words of a configuration appear in messages; they shall not draw on the terminal or forge a line of the log.
fn push_visible(message: &str, text: &mut String) {
    for c in message.chars() {
        match c {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push(c),
            _ if c.is_control() => {
                let _ = write!(text, "\\x{:02x}", u32::from(c));
            }
            _ => text.push(c),
        }
    }
}

/// Counts lines onwards from the place before, so that many messages about a large file stay linear.
#[derive(Default)]
struct LineCounter {
    last: Span,
    line: u32,
}

impl LineCounter {
    fn line_of(&mut self, span: Span, source: &[u8]) -> u32 {
        if self.line == 0 || self.last.file != span.file || self.last.start > span.start {
            self.line = 1;
            self.last = Span { start: 0, ..span };
        }
        let between = self.last.start as usize..source.len().min(span.start as usize);
        self.line += memchr::memchr_iter(b'\n', source.get(between).unwrap_or_default()).count() as u32;
        self.last = span;
        self.line
    }
}

/// Colours, if wanted.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn level(self, level: Level, text: &str) -> String {
        match level {
            Level::Emerg | Level::Alert | Level::Crit | Level::Error => self.wrap("1;31", text),
            Level::Warn => self.wrap("1;33", text),
            Level::Notice | Level::Info | Level::Debug => self.wrap("1;36", text),
        }
    }

    fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    fn mark(self, text: &str) -> String {
        self.wrap("31", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::tree::FileId;

    fn source(text: &str) -> Sources {
        let mut sources = Sources::default();
        sources.add(Some(Path::new("/n.conf")), text.into(), None);
        sources
    }

    fn at(line: u32, start: u32, len: u32) -> Span {
        Span { file: FileId(0), line, start, len }
    }

    #[test]
    fn lines_come_in_reading_order_and_once() {
        let mut diagnostics = Diagnostics::new();
        diagnostics.error(None, "no \"events\" section in configuration");
        for _ in 0..2 {
            diagnostics.error(at(2, 3, 1), "second");
            diagnostics.warn(at(2, 3, 1), "third");
            diagnostics.error(at(1, 0, 1), "first");
        }
        let expected = "nginx: [emerg] first in /n.conf:1\nnginx: [emerg] second in /n.conf:2\n\
            nginx: [warn] third in /n.conf:2\nnginx: [emerg] no \"events\" section in configuration\n";
        assert_eq!(render(&diagnostics, &source("a\nb c\n"), Style::Plain), expected);
    }

    #[test]
    fn a_terminal_sees_the_place_and_is_not_drawn_on() {
        let mut diagnostics = Diagnostics::new();
        diagnostics.error(at(2, 4, 4), "unknown directive \"f\x1b[1mo\n\"").note("did you mean \"for\"?");
        let text = render(&diagnostics, &source("a;\n\tfoö bär\x07;\n"), Style::Terminal { color: false });
        let expected = "nginx: [emerg] unknown directive \"f\\x1b[1mo\\n\" in /n.conf:2\n  2 |  foö bär\u{fffd};\n    \
            |  ^^^\n  help: did you mean \"for\"?\n";
        assert_eq!(text, expected);
        let text = render(&diagnostics, &source("a;\n\tfoo;"), Style::Terminal { color: true });
        assert!(text.starts_with("nginx: \x1b[1;31m[emerg]\x1b[0m unknown"), "{text}");
    }

    #[test]
    fn a_terminal_sees_where_to_look_for_what_has_no_place() {
        let mut diagnostics = Diagnostics::new();
        diagnostics.error(None, "no key for \"c.pem\"").look_at = Some(at(2, 3, 11));
        let (sources, plain) = (source("a;\ncertificate c.pem;\n"), "nginx: [emerg] no key for \"c.pem\"\n");
        assert_eq!(render(&diagnostics, &sources, Style::Plain), plain);
        let expected = "  /n.conf:2\n  2 | certificate c.pem;\n    | ^^^^^^^^^^^\n";
        let text = render(&diagnostics, &sources, Style::Terminal { color: false });
        assert_eq!(text, format!("{plain}{expected}"));
    }

    #[test]
    fn many_messages_about_one_endless_line_are_cheap() {
        let mut diagnostics = Diagnostics::new();
        for n in 0..5000 {
            diagnostics.error(at(1, n * 1000, 5), format!("wrong {n}"));
        }
        // Looking at the whole line each time would be 25 GB.
        let text = render(&diagnostics, &source(&"x ".repeat(2_500_000)), Style::Terminal { color: false });
        assert_eq!(text.lines().count(), 15_000);
    }
}
