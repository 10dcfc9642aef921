//! `location`: modifiers, spaced and unspaced, and nesting.

use http::config::{Line, Modifier, Problem};

/// The setter.
pub(super) fn location(line: &mut Line<'_>) -> Result<(), Problem> {
    let (modifier, text) = match line.count() {
        2 => (spaced(line)?, line.bytes(1).to_vec()),
        _ => unspaced(line.bytes(0)),
    };
    if let Modifier::Regex(caseless) = modifier {
        // Compiled here for the sake of its line number, and because its named groups become variables.
        line.pattern(&text, caseless)?;
    }
    line.open_location(modifier, &text)
}

fn spaced(line: &Line<'_>) -> Result<Modifier, Problem> {
    match line.bytes(0) {
        b"=" => Ok(Modifier::Exact),
        b"^~" => Ok(Modifier::PrefixFinal),
        b"~" => Ok(Modifier::Regex(false)),
        b"~*" => Ok(Modifier::Regex(true)),
        _ => Err(Problem::new(format!("invalid location modifier \"{}\"", line.text(0)))
            .at(line.word(0))
            .note("it must be =, ^~, ~ or ~*")),
    }
}

/// `=/x`, `^~/x`, `~/x`, `~*/x`, `@x`, `/x`
fn unspaced(word: &[u8]) -> (Modifier, Vec<u8>) {
    match word {
        [b'=', rest @ ..] => (Modifier::Exact, rest.to_vec()),
        [b'^', b'~', rest @ ..] => (Modifier::PrefixFinal, rest.to_vec()),
        [b'~', b'*', rest @ ..] => (Modifier::Regex(true), rest.to_vec()),
        [b'~', rest @ ..] => (Modifier::Regex(false), rest.to_vec()),
        [b'@', ..] => (Modifier::Named, word.to_vec()),
        _ => (Modifier::Prefix, word.to_vec()),
    }
}
