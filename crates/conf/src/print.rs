//! The way back: nginx.conf text from a tree, with quotes where they are needed.

use crate::bytes::Bytes;
use crate::lexer::{End, Lexer};
use crate::tree::{Directive, FileId, Word};

/// The directives as nginx.conf text, four blanks a level. Reading it again gives the same tree (but for places), unless
/// it holds bytes that are no UTF-8: see [`print_bytes`].
pub fn print(directives: &[Directive]) -> String {
    String::from_utf8_lossy(&print_bytes(directives)).into_owned()
}

/// As [`print()`], exact for words of any bytes.
pub fn print_bytes(directives: &[Directive]) -> Vec<u8> {
    let mut text = Vec::new();
    block(directives, 0, &mut text);
    text
}

fn block(directives: &[Directive], depth: usize, text: &mut Vec<u8>) {
    for directive in directives {
        indent(depth, text);
        word(&directive.name, text);
        for arg in &directive.args {
            text.push(b' ');
            word(arg, text);
        }
        let Some(inside) = &directive.block else {
            text.extend_from_slice(b";\n");
            continue;
        };
        text.extend_from_slice(b" {\n");
        block(inside, depth + 1, text);
        indent(depth, text);
        text.extend_from_slice(b"}\n");
    }
}

fn indent(depth: usize, text: &mut Vec<u8>) {
    text.resize(text.len() + 4 * depth, b' ');
}

fn word(word: &Word, text: &mut Vec<u8>) {
    let bare = escape(&word.bytes, None);
    if !word.quoted && reads_back(&bare, &word.bytes) {
        return text.extend_from_slice(&bare);
    }
    let quote = match word.bytes.contains(&b'"') && !word.bytes.contains(&b'\'') {
        true => b'\'',
        false => b'"',
    };
    text.push(quote);
    text.extend_from_slice(&escape(&word.bytes, Some(quote)));
    text.push(quote);
}

/// Asks the reader itself, so that the two can't disagree about when quotes are needed.
fn reads_back(bare: &[u8], bytes: &Bytes) -> bool {
    let text = [bare, b";"].concat();
    let mut words = Vec::new();
    let end = Lexer::new(FileId::default(), &text).read(&mut words);
    matches!(end, Ok(End::Semicolon(close)) if close.start as usize == bare.len())
        && matches!(&words[..], [word] if word.bytes == *bytes && !word.quoted)
}

/// Writes escapes only where the reader would otherwise see something else.
fn escape(bytes: &[u8], quote: Option<u8>) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len() + 2);
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'\t' => text.extend_from_slice(b"\\t"),
            b'\r' => text.extend_from_slice(b"\\r"),
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\\' if is_special_after_backslash(bytes.get(at + 1)) => text.extend_from_slice(b"\\\\"),
            _ if Some(byte) == quote => text.extend_from_slice(&[b'\\', byte]),
            _ => text.push(byte),
        }
    }
    text
}

fn is_special_after_backslash(next: Option<&u8>) -> bool {
    matches!(next, None | Some(b'"' | b'\'' | b'\\' | b't' | b'r' | b'n' | b'\t' | b'\r' | b'\n'))
}
