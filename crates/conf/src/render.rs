//! Diagnostics as text: nginx's lines for logs and scripts, and more than that for a person at a terminal.

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

/// The diagnostics as text that ends with a line feed, in the order a reader of the files would meet them, so that the
/// first error is the one nginx would name. Repetitions (of a file included many times) are left out.
pub fn render(diagnostics: &Diagnostics, sources: &Sources, style: Style) -> String {
    let mut list: Vec<&Diagnostic> = diagnostics.iter().collect();
    list.sort_by_cached_key(|diagnostic| reading_order(diagnostic.span, sources));
    list.dedup();
    let mut text = String::new();
    for diagnostic in list {
        headline(diagnostic, sources, style, &mut text);
        if let Style::Terminal { color } = style {
            details(diagnostic, sources, Paint(color), &mut text);
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
        way.push(span.start);
        next = sources.included_at(span.file);
        if next.is_none() {
            way.push(u32::from(span.file.0));
        }
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

fn details(diagnostic: &Diagnostic, sources: &Sources, paint: Paint, text: &mut String) {
    if let Some(span) = diagnostic.span {
        excerpt(span, sources, paint, text);
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
fn excerpt(span: Span, sources: &Sources, paint: Paint, text: &mut String) {
    let source = sources.text(span.file);
    let at = source.len().min(span.start as usize);
    let start = memchr::memrchr(b'\n', &source[..at]).map_or(0, |feed| feed + 1);
    let end = memchr::memchr(b'\n', &source[at..]).map_or(source.len(), |feed| at + feed);
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
    let number = sources.line_of(span).to_string();
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
        if c.is_control() && c != '\t' {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
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
            Level::Notice | Level::Info => self.wrap("1;36", text),
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
