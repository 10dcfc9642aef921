//! Text with variables in it, `"$host:${port}"`, taken apart by nginx's rules.

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Plain bytes.
    Text(Vec<u8>),
    /// `$name` or `${name}`, as written; nginx looks names up in lower case.
    Variable(String),
    /// `$1` to `$9`: a group of the last regular expression.
    Capture(u8),
}

/// Takes `text` apart. The error is nginx's message.
pub fn parse(text: &[u8]) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let plain = memchr::memchr(b'$', rest).unwrap_or(rest.len());
        if plain > 0 {
            pieces.push(Piece::Text(rest[..plain].to_vec()));
            rest = &rest[plain..];
            continue;
        }
        let (piece, tail) = variable(&rest[1..])?;
        pieces.push(piece);
        rest = tail;
    }
    Ok(pieces)
}

/// Reads what follows a `$`.
fn variable(text: &[u8]) -> Result<(Piece, &[u8]), String> {
    const INVALID: &str = "invalid variable name";
    let (bracket, text) = match text {
        [digit @ b'1'..=b'9', rest @ ..] => return Ok((Piece::Capture(digit - b'0'), rest)),
        [b'{', rest @ ..] if !rest.is_empty() => (true, rest),
        [] | [b'{'] => return Err(INVALID.into()),
        _ => (false, text),
    };
    let len = text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    let (name, mut rest) = text.split_at(len);
    let name = String::from_utf8_lossy(name).into_owned();
    if bracket {
        rest = rest
            .strip_prefix(b"}")
            .ok_or_else(|| format!("the closing bracket in \"{name}\" variable is missing"))?;
    }
    if name.is_empty() { Err(INVALID.into()) } else { Ok((Piece::Variable(name), rest)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_come_apart_as_in_nginx() {
        let check = |text: &str, expected: &str| {
            let seen = match parse(text.as_bytes()) {
                Err(message) => format!("! {message}"),
                Ok(pieces) => {
                    let texts = pieces.iter().map(|piece| match piece {
                        Piece::Text(text) => format!("'{}'", String::from_utf8_lossy(text)),
                        Piece::Variable(name) => name.clone(),
                        Piece::Capture(n) => format!("#{n}"),
                    });
                    texts.collect::<Vec<_>>().join(" ")
                }
            };
            assert_eq!(seen, expected, "{text}");
        };
        check("", "");
        check("plain", "'plain'");
        check("$host", "host");
        check("$Host_9x", "Host_9x");
        check("a$host:$server_port/", "'a' host ':' server_port '/'");
        check("${host}name", "host 'name'");
        check("$a$b", "a b");
        check("$1$12", "#1 #1 '2'");
        check("${1}", "1");
        check("$0", "0");
        check("a$", "! invalid variable name");
        check("$ a", "! invalid variable name");
        check("$$a", "! invalid variable name");
        check("$-", "! invalid variable name");
        check("${", "! invalid variable name");
        check("${}", "! invalid variable name");
        check("${host", "! the closing bracket in \"host\" variable is missing");
        check("${ho-st}", "! the closing bracket in \"ho\" variable is missing");
        check("${-}", "! the closing bracket in \"\" variable is missing");
    }
}
