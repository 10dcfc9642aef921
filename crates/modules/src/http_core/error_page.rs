//! `error_page`: codes, an optional `=code`, and where to go.

use http::config::{ErrorPage, Line, Problem};

/// The setter.
pub(super) fn error_page(pages: &mut Option<Vec<ErrorPage>>, line: &mut Line<'_>) -> Result<(), Problem> {
    let last = line.count() - 1;
    let before = line.text(last - 1);
    let answer = match before.strip_prefix('=') {
        None => None,
        Some("") => Some(0),
        Some(code) => Some(
            conf::value::number(code.as_bytes())
                .and_then(|code| u16::try_from(code).ok())
                .ok_or_else(|| invalid(line, last - 1))?,
        ),
    };
    let codes = if answer.is_some() { last - 1 } else { last };
    if codes == 0 {
        return Err(invalid(line, 0));
    }
    let uri = line.template(last)?;
    let pages = pages.get_or_insert_default();
    for index in 0..codes {
        let code = conf::value::number(line.bytes(index)).ok_or_else(|| invalid(line, index))?;
        if code == 499 {
            return Err(invalid(line, index));
        }
        let code = u16::try_from(code).ok().filter(|code| (300..=599).contains(code)).ok_or_else(|| {
            Problem::new(format!("value \"{}\" must be between 300 and 599", line.text(index)))
                .at(line.word(index))
        })?;
        // A request that is too long for its buffers has codes of its own inside; `400` and `414` mean the wire's.
        pages.push(ErrorPage { code, answer, uri: uri.clone() });
    }
    Ok(())
}

fn invalid(line: &Line<'_>, index: usize) -> Problem {
    Problem::new(format!("invalid value \"{}\"", line.text(index))).at(line.word(index))
}
