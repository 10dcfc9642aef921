//! `proxy_cookie_domain`, `proxy_cookie_path`, `proxy_cookie_flags`: attributes of cookies that upstreams set.

use std::sync::Arc;

use http::config::{Line, Problem};
use http::message::Pattern;
use http::{Request, Template};

/// What holds in a block; each kind is inherited for itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cookies {
    domains: Rules<Rewrite>,
    paths: Rules<Rewrite>,
    flags: Rules<Flags>,
}

/// Lines of one directive.
#[derive(Debug, Default)]
enum Rules<R> {
    #[default]
    Unset,
    Off,
    Are(Arc<Vec<R>>),
}

impl<R> Clone for Rules<R> {
    fn clone(&self) -> Rules<R> {
        match self {
            Rules::Unset => Rules::Unset,
            Rules::Off => Rules::Off,
            Rules::Are(rules) => Rules::Are(rules.clone()),
        }
    }
}

#[derive(Debug)]
enum Match {
    Text(Template),
    Regex(Pattern),
}

#[derive(Debug)]
struct Rewrite {
    from: Match,
    to: Template,
}

#[derive(Debug)]
struct Flags {
    cookie: Match,
    flags: Vec<Template>,
}

impl Cookies {
    /// Reads `proxy_cookie_domain`.
    pub(crate) fn read_domain(&mut self, line: &mut Line<'_>) -> Result<(), Problem> {
        self.domains.read(line, |line| {
            let from = match line.bytes(0).first() {
                Some(b'~') => Match::read(line, false)?,
                _ => Match::Text(undotted(line, 0)?),
            };
            let to = if matches!(from, Match::Text(_)) { undotted(line, 1)? } else { line.template(1)? };
            Ok(Rewrite { from, to })
        })
    }

    /// Reads `proxy_cookie_path`.
    pub(crate) fn read_path(&mut self, line: &mut Line<'_>) -> Result<(), Problem> {
        self.paths.read(line, |line| Ok(Rewrite { from: Match::read(line, true)?, to: line.template(1)? }))
    }

    /// Reads `proxy_cookie_flags`.
    pub(crate) fn read_flags(&mut self, line: &mut Line<'_>) -> Result<(), Problem> {
        self.flags.read(line, |line| {
            let cookie = Match::read(line, false)?;
            let flags = (1..line.count()).map(|index| line.template(index)).collect::<Result<_, _>>()?;
            Ok(Flags { cookie, flags })
        })
    }

    /// What holds here, given what holds outside.
    pub(crate) fn merge(self, outer: &Cookies) -> Cookies {
        Cookies {
            domains: self.domains.or(&outer.domains),
            paths: self.paths.or(&outer.paths),
            flags: self.flags.or(&outer.flags),
        }
    }

    /// The value of a `Set-Cookie` with its attributes rewritten; `None` when nothing changes.
    pub(crate) fn rewrite(&self, value: &[u8], request: &mut Request) -> Option<Vec<u8>> {
        if let (Rules::Unset | Rules::Off, Rules::Unset | Rules::Off, Rules::Unset | Rules::Off) =
            (&self.domains, &self.paths, &self.flags)
        {
            return None;
        }
        let mut cookie = Cookie::parse(value)?;
        let mut changed = false;
        for (key, value) in cookie.attributes.iter_mut().skip(1) {
            let Some(value) = value else { continue };
            let new = if key.eq_ignore_ascii_case(b"domain") {
                first(&self.domains, |rule| rule.domain(value, request))
            } else if key.eq_ignore_ascii_case(b"path") {
                first(&self.paths, |rule| rule.prefix(value, request))
            } else {
                None
            };
            if let Some(new) = new {
                *value = new;
                changed = true;
            }
        }
        let name = cookie.attributes[0].0.clone();
        let flags = first(&self.flags, |rule| rule.cookie.is(&name, request).then_some(rule));
        if let Some(rule) = flags {
            let flags: Vec<Vec<u8>> = rule.flags.iter().map(|flag| flag.value(request)).collect();
            changed |= cookie.edit(&flags);
        }
        changed.then(|| cookie.print())
    }
}

/// What the first line that fits makes of it.
fn first<'r, R, T>(rules: &'r Rules<R>, each: impl FnMut(&'r R) -> Option<T>) -> Option<T> {
    match rules {
        Rules::Are(rules) => rules.iter().find_map(each),
        _ => None,
    }
}

impl<R> Rules<R> {
    fn read(
        &mut self,
        line: &mut Line<'_>,
        rule: impl FnOnce(&mut Line<'_>) -> Result<R, Problem>,
    ) -> Result<(), Problem> {
        if line.count() == 1 {
            if line.bytes(0) != b"off" {
                return Err(line.invalid_parameter(0));
            }
            if !matches!(self, Rules::Unset) {
                return Err(line.duplicate());
            }
            *self = Rules::Off;
            return Ok(());
        }
        let rule = rule(line)?;
        match self {
            Rules::Off => return Err(line.duplicate()),
            Rules::Unset => *self = Rules::Are(Arc::new(vec![rule])),
            Rules::Are(rules) => {
                // The block is still being read: nobody else has these.
                if let Some(rules) = Arc::get_mut(rules) {
                    rules.push(rule);
                }
            }
        }
        Ok(())
    }

    fn or(self, outer: &Rules<R>) -> Rules<R> {
        match self {
            Rules::Unset => outer.clone(),
            rules => rules,
        }
    }
}

/// A domain is compared without the dot in front of it.
fn undotted(line: &mut Line<'_>, index: usize) -> Result<Template, Problem> {
    let mut word = line.word(index).clone();
    if word.bytes.first() == Some(&b'.') {
        word.bytes = word.bytes[1..].into();
    }
    line.template_of(&word)
}

impl Match {
    /// With `star` there are `~` and `~*`; without, as for domains and names, `~` is all there is, and cares for no case.
    fn read(line: &mut Line<'_>, star: bool) -> Result<Match, Problem> {
        let text = line.text(0);
        let Some(pattern) = text.strip_prefix('~') else {
            return Ok(Match::Text(line.template(0)?));
        };
        let (pattern, caseless) = match pattern.strip_prefix('*').filter(|_| star) {
            Some(pattern) => (pattern, true),
            None => (pattern, !star),
        };
        Pattern::new(pattern, caseless).map(Match::Regex).map_err(|why| Problem::new(why).at(line.word(0)))
    }

    /// Whether it is all of `text`, or its pattern is in it.
    fn is(&self, text: &[u8], request: &mut Request) -> bool {
        match self {
            Match::Text(template) => template.value(request).eq_ignore_ascii_case(text),
            Match::Regex(pattern) => {
                let mut captures = std::mem::take(&mut request.captures);
                let found = pattern.matches(text, &mut captures);
                request.captures = captures;
                found
            }
        }
    }
}

impl Rewrite {
    fn domain(&self, value: &[u8], request: &mut Request) -> Option<Vec<u8>> {
        if let Match::Regex(_) = self.from {
            return self.from.is(value, request).then(|| self.to.value(request));
        }
        let (dot, rest) = match value {
            [b'.', rest @ ..] => (&b"."[..], rest),
            rest => (&b""[..], rest),
        };
        self.from.is(rest, request).then(|| [dot, &self.to.value(request)].concat())
    }

    fn prefix(&self, value: &[u8], request: &mut Request) -> Option<Vec<u8>> {
        match &self.from {
            Match::Regex(_) => self.from.is(value, request).then(|| self.to.value(request)),
            Match::Text(prefix) => {
                let rest = value.strip_prefix(&*prefix.value(request))?;
                Some([&self.to.value(request), rest].concat())
            }
        }
    }
}

/// A `Set-Cookie` taken apart; the first attribute is the cookie itself.
struct Cookie {
    attributes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Cookie {
    /// `None` for one without `name=value` in front.
    fn parse(text: &[u8]) -> Option<Cookie> {
        let attributes: Vec<_> = text
            .split(|byte| *byte == b';')
            .map(|part| {
                let part = part.trim_ascii();
                match part.iter().position(|byte| *byte == b'=') {
                    Some(at) => (
                        part[..at].trim_ascii_end().to_vec(),
                        Some(part[at + 1..].trim_ascii_start().to_vec()),
                    ),
                    None => (part.to_vec(), None),
                }
            })
            .collect();
        attributes.first()?.1.as_ref()?;
        Some(Cookie { attributes })
    }

    fn print(&self) -> Vec<u8> {
        let parts: Vec<Vec<u8>> = self
            .attributes
            .iter()
            .map(|(key, value)| match value {
                Some(value) => [&key[..], b"=", value].concat(),
                None => key.clone(),
            })
            .collect();
        parts.join(&b"; "[..])
    }

    /// Adds, changes and removes flags; false when none of them has a meaning.
    fn edit(&mut self, flags: &[Vec<u8>]) -> bool {
        let mut known = false;
        for flag in flags {
            let flag = flag.to_ascii_lowercase();
            known |= match &flag[..] {
                b"secure" => self.set(b"Secure", None),
                b"nosecure" => self.remove(b"secure"),
                b"httponly" => self.set(b"HttpOnly", None),
                b"nohttponly" => self.remove(b"httponly"),
                b"samesite=strict" => self.set(b"SameSite", Some(b"Strict")),
                b"samesite=lax" => self.set(b"SameSite", Some(b"Lax")),
                b"samesite=none" => self.set(b"SameSite", Some(b"None")),
                b"nosamesite" => self.remove(b"samesite"),
                _ => false,
            };
        }
        known
    }

    fn set(&mut self, name: &[u8], value: Option<&[u8]>) -> bool {
        let have = self.attributes.iter_mut().skip(1).find(|(key, _)| key.eq_ignore_ascii_case(name));
        match have {
            None => self.attributes.push((name.to_vec(), value.map(<[u8]>::to_vec))),
            Some((key, old)) => {
                let same = match (&old, value) {
                    (Some(old), Some(value)) => old.eq_ignore_ascii_case(value),
                    (_, value) => value.is_none(),
                };
                if !same {
                    (*key, *old) = (name.to_vec(), value.map(<[u8]>::to_vec));
                }
            }
        }
        true
    }

    fn remove(&mut self, name: &[u8]) -> bool {
        let mut index = 0;
        self.attributes.retain(|(key, _)| {
            index += 1;
            index == 1 || !key.eq_ignore_ascii_case(name)
        });
        true
    }
}
