//! "Did you mean": the known name closest to a misspelt one.

/// The candidate that differs from `name` by the fewest edits (insert, delete, replace, swap two neighbours), if it is
/// close enough to be a plausible slip: about a third of the name. The first of equals wins.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.chars().take(LONGEST + 1).collect();
    if name.len() > LONGEST {
        return None;
    }
    let mut best = None;
    let mut allowed = name.len().div_ceil(3);
    for candidate in candidates {
        let chars: Vec<char> = candidate.chars().collect();
        if chars.len().abs_diff(name.len()) > allowed {
            continue;
        }
        let edits = distance(&name, &chars);
        if edits <= allowed && edits < name.len() {
            best = Some(candidate);
            let Some(fewer) = edits.checked_sub(1) else { break };
            allowed = fewer;
        }
    }
    best
}

/// Nobody misspells a longer name; a damaged file may contain one.
const LONGEST: usize = 100;

/// Edits between two words, a swap of neighbours counting one (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_slip_and_nothing_far_fetched() {
        const NAMES: &[&str] =
            &["listen", "server", "server_name", "proxy_pass", "proxy_set_header", "return", "root"];
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(nearest(name, NAMES.iter().copied()), expected, "{name}");
        };
        check("lsiten", Some("listen"));
        check("servername", Some("server_name"));
        check("proxypass", Some("proxy_pass"));
        check("proxy_set_headers", Some("proxy_set_header"));
        check("retrun", Some("return"));
        check("rot", Some("root"));
        check("upstream", None);
        check("x", None);
        check("", None);
        check(&"x".repeat(100_000), None);
    }
}
