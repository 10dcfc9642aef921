//! Which server a `Host` belongs to: exact names, then the longest `*.suffix`, the longest `prefix.*`, then regular
//! expressions in the order of the file.

use std::collections::HashMap;

use crate::ServerId;
use crate::hash::BuildQuickHasher;
use crate::message::{Captures, Pattern};

/// One `server_name`.
#[derive(Clone, Debug)]
pub enum ServerName {
    /// `example.com`, and `""` for requests without a name.
    Exact(Box<[u8]>),
    /// `*.example.com` as `example.com`
    Suffix(Box<[u8]>, Box<[u8]>),
    /// `.example.com`: the name and everything under it
    SuffixOrExact(Box<[u8]>, Box<[u8]>),
    /// `www.*` as `www`
    Prefix(Box<[u8]>, Box<[u8]>),
    /// `~^www\d+`: text as written and pattern
    Regex(Box<[u8]>, Pattern),
}

impl ServerName {
    /// Reads a name as `server_name` writes it.
    ///
    /// # Errors
    /// nginx's `server name "x" is invalid`, or what is wrong with a regular expression.
    pub fn parse(text: &[u8]) -> Result<ServerName, String> {
        let shown = || String::from_utf8_lossy(text);
        if let [b'~', pattern @ ..] = text {
            if pattern.is_empty() {
                return Err(format!("empty regex in server name \"{}\"", shown()));
            }
            let pattern = String::from_utf8_lossy(pattern);
            let caseless = pattern.bytes().any(|byte| byte.is_ascii_uppercase());
            return Ok(ServerName::Regex(text.into(), Pattern::new(&pattern, caseless)?));
        }
        let lower = text.to_ascii_lowercase();
        Ok(match lower.as_slice() {
            [b'*'] | [b'*', b'.'] | [b'.'] => return Err(format!("server name \"{}\" is invalid", shown())),
            [b'*', b'.', rest @ ..] => ServerName::Suffix(lower.as_slice().into(), rest.into()),
            [b'*', ..] => return Err(format!("server name \"{}\" is invalid", shown())),
            [b'.', rest @ ..] => ServerName::SuffixOrExact(lower.as_slice().into(), rest.into()),
            [rest @ .., b'.', b'*'] => ServerName::Prefix(lower.as_slice().into(), rest.into()),
            _ => ServerName::Exact(lower.as_slice().into()),
        })
    }

    /// Whether it can be looked up where several servers share an address: nginx looks at the rest of a name only there.
    /// Behind its dot a `.name` may have a `*`, which is a letter like others.
    pub(crate) fn is_of_use(&self) -> bool {
        let (text, wildcard) = match self {
            ServerName::Exact(text) => (text, false),
            ServerName::Regex(..) => return true,
            ServerName::Suffix(text, _)
            | ServerName::SuffixOrExact(text, _)
            | ServerName::Prefix(text, _) => (text, true),
        };
        let stars = text.iter().filter(|byte| **byte == b'*').count();
        stars <= usize::from(wildcard) && !text.contains(&0) && !text.windows(2).any(|pair| pair == b"..")
    }

    /// The name as it stands in the file, in lower case.
    pub(crate) fn written(&self) -> &[u8] {
        match self {
            ServerName::Exact(text)
            | ServerName::Suffix(text, _)
            | ServerName::SuffixOrExact(text, _)
            | ServerName::Prefix(text, _)
            | ServerName::Regex(text, _) => text,
        }
    }

    /// The name as `$server_name` shows it: `*.` stays, a leading dot does not, as on nginx.
    pub fn text(&self) -> &[u8] {
        match self {
            ServerName::Exact(text) | ServerName::SuffixOrExact(_, text) => text,
            ServerName::Suffix(text, _) | ServerName::Prefix(text, _) | ServerName::Regex(text, _) => text,
        }
    }
}

type Names = HashMap<Box<[u8]>, ServerId, BuildQuickHasher>;

/// The names of all servers of one address.
#[derive(Default)]
pub(crate) struct ServerNames {
    exact: Names,
    suffix: Names,
    prefix: Names,
    regex: Vec<(Pattern, ServerId)>,
}

impl ServerNames {
    /// Adds a name; false when another server has it already.
    pub(crate) fn add(&mut self, name: &ServerName, server: ServerId) -> bool {
        match name {
            ServerName::Exact(text) => claim(&mut self.exact, text, server),
            ServerName::Suffix(_, rest) => claim(&mut self.suffix, rest, server),
            ServerName::SuffixOrExact(_, rest) => {
                let suffix = claim(&mut self.suffix, rest, server);
                claim(&mut self.exact, rest, server) && suffix
            }
            ServerName::Prefix(_, rest) => claim(&mut self.prefix, rest, server),
            ServerName::Regex(_, pattern) => {
                self.regex.push((pattern.clone(), server));
                true
            }
        }
    }

    pub(crate) fn lookup(&self, host: &[u8], captures: &mut Captures) -> Option<ServerId> {
        if let Some(server) = self.exact.get(host) {
            return Some(*server);
        }
        if !self.suffix.is_empty() {
            let dots = host.iter().enumerate().filter(|(_, byte)| **byte == b'.');
            for (dot, _) in dots {
                // A host that is nothing but dot and name belongs to `.name`, which has both entries; not to `*.name`.
                if (dot > 0 || self.exact.contains_key(&host[1..]))
                    && let Some(server) = self.suffix.get(&host[dot + 1..])
                {
                    return Some(*server);
                }
            }
        }
        if !self.prefix.is_empty() {
            for dot in (1..host.len()).rev().filter(|at| host[*at] == b'.') {
                if let Some(server) = self.prefix.get(&host[..dot]) {
                    return Some(*server);
                }
            }
        }
        if host.is_empty() {
            return None;
        }
        self.regex.iter().find(|(pattern, _)| pattern.matches(host, captures)).map(|(_, server)| *server)
    }
}

fn claim(map: &mut Names, name: &[u8], server: ServerId) -> bool {
    if map.contains_key(name) {
        return false;
    }
    map.insert(name.into(), server);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are given to servers 0, 1, 2 ... in turn.
    fn check(names: &[&str], host: &str, expected: Option<u32>) {
        let mut table = ServerNames::default();
        for (at, name) in names.iter().enumerate() {
            let name = ServerName::parse(name.as_bytes()).expect("a valid name");
            assert!(table.add(&name, ServerId(at as u32)));
        }
        let found = table.lookup(host.as_bytes(), &mut Captures::default());
        assert_eq!(found, expected.map(ServerId), "{host} among {names:?}");
    }

    #[test]
    fn exact_then_wildcards_then_regex() {
        let names = &["example.com", "*.example.com", "www.example.*", "~^(?<x>a)b", ".both.org"];
        check(names, "example.com", Some(0));
        check(names, "a.b.example.com", Some(1));
        check(names, "www.example.net", Some(2));
        check(names, "ab", Some(3));
        check(names, "both.org", Some(4));
        check(names, "x.both.org", Some(4));
        check(names, ".both.org", Some(4));
        check(names, "nobody", None);
        check(names, "", None);
        check(&["*.a.b", "*.b"], "x.a.b", Some(0));
        check(&["*.a.b", "*.b"], "a.b", Some(1));
        check(&[""], "", Some(0));
    }

    #[test]
    fn bad_names_are_named() {
        for name in ["*", "*.", "*a", "."] {
            let error = ServerName::parse(name.as_bytes()).expect_err(name);
            assert_eq!(error, format!("server name \"{name}\" is invalid"));
        }
    }

    #[test]
    fn wildcards_are_shown_in_lower_case() {
        for (written, shown) in [("*.Example.com", "*.example.com"), ("WWW.*", "www.*"), (".A.b", "a.b")] {
            assert_eq!(ServerName::parse(written.as_bytes()).unwrap().text(), shown.as_bytes());
        }
    }
}
