//! `proxy_redirect`: `Location` and `Refresh` of upstreams, rewritten to what the client can reach.

use http::config::{Line, Problem};
use http::message::Pattern;
use http::{Request, Template};

use crate::proxy::Conf;
use crate::proxy::pass::{Pass, To};

/// One `proxy_redirect` line.
#[derive(Debug, Clone)]
pub(crate) enum Rule {
    /// `default`: the URL of `proxy_pass` becomes the location.
    Default,
    /// A prefix and what replaces it.
    Prefix(Template, Template),
    /// A regular expression and what replaces the whole value.
    Regex(Box<Pattern>, Template),
}

/// What the lines of one block wrote.
#[derive(Debug, Default, Clone)]
pub(crate) enum Rules {
    #[default]
    Unset,
    Off,
    Are(Vec<Rule>),
}

/// Reads the line.
pub(crate) fn read(rules: &mut Rules, pass: Option<&Pass>, line: &mut Line<'_>) -> Result<(), Problem> {
    if matches!(rules, Rules::Off) {
        return Err(line.duplicate());
    }
    let rule = match (line.count(), line.bytes(0)) {
        (1, b"off") => {
            if matches!(rules, Rules::Are(_)) {
                return Err(line.duplicate());
            }
            *rules = Rules::Off;
            return Ok(());
        }
        (1, b"default") => match pass {
            Some(pass) if pass.varies() => {
                let words =
                    "\"proxy_redirect default\" cannot be used with \"proxy_pass\" directive with variables";
                return Err(Problem::new(words).at(line.word(0)));
            }
            Some(_) => Rule::Default,
            None => {
                let words = "\"proxy_redirect default\" should be placed after the \"proxy_pass\" directive";
                return Err(Problem::new(words).at(line.word(0)));
            }
        },
        (1, _) => return Err(line.invalid_parameter(0)),
        (_, [b'~', ..]) => {
            let text = line.text(0);
            let (caseless, text) = match text.strip_prefix("~*") {
                Some(text) => (true, text),
                None => (false, &text[1..]),
            };
            let pattern = Pattern::new(text, caseless).map_err(|why| Problem::new(why).at(line.word(0)))?;
            Rule::Regex(Box::new(pattern), line.template(1)?)
        }
        _ => Rule::Prefix(line.template(0)?, line.template(1)?),
    };
    match rules {
        Rules::Are(list) => list.push(rule),
        _ => *rules = Rules::Are(vec![rule]),
    }
    Ok(())
}

/// The value with the part behind `prefix` rewritten; `None` when no rule fits.
pub(crate) fn rewrite(conf: &Conf, value: &[u8], prefix: usize, request: &mut Request) -> Option<Vec<u8>> {
    let rules = match &conf.redirect {
        Rules::Off => return None,
        Rules::Unset => &[Rule::Default][..],
        Rules::Are(rules) => rules,
    };
    rules.iter().find_map(|rule| apply(conf, rule, value, prefix, request))
}

/// The same for the URL of a `Refresh`.
pub(crate) fn refresh(conf: &Conf, value: &[u8], request: &mut Request) -> Option<Vec<u8>> {
    let at = value.windows(4).position(|part| part.eq_ignore_ascii_case(b"url="))?;
    rewrite(conf, value, at + 4, request)
}

fn apply(conf: &Conf, rule: &Rule, value: &[u8], prefix: usize, request: &mut Request) -> Option<Vec<u8>> {
    let rest = &value[prefix..];
    let (len, replacement) = match rule {
        Rule::Default => default(conf, rest, request)?,
        Rule::Prefix(pattern, replacement) => {
            let pattern = pattern.value(request);
            rest.starts_with(&pattern).then_some(())?;
            (pattern.len(), replacement.value(request))
        }
        Rule::Regex(pattern, replacement) => {
            let mut captures = std::mem::take(&mut request.captures);
            let found = pattern.matches(rest, &mut captures);
            request.captures = captures;
            found.then_some(())?;
            (rest.len(), replacement.value(request))
        }
    };
    Some([&value[..prefix], &replacement, &rest[len..]].concat())
}

fn default(conf: &Conf, rest: &[u8], request: &Request) -> Option<(usize, Vec<u8>)> {
    let Some(To::Fixed { target, url, .. }) = conf.pass.as_ref().map(|pass| &pass.to) else { return None };
    if !rest.starts_with(url) {
        return None;
    }
    if !target.uri.is_empty() {
        return Some((url.len(), request.location().text.to_vec()));
    }
    (rest.get(url.len()) == Some(&b'/')).then(|| (url.len() + 1, b"/".to_vec()))
}
