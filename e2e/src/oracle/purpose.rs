//! Differences on purpose, as `docs/compatibility.md` has them, and what neither of the two promises: when the end of a
//! client is noticed. A reason accounts for the kinds it names alone.

use super::house::Seen;
use super::parts::Then;
use super::trial::Trial;
use crate::raw::End;

/// Why differences of some kinds are none, for each reason that the trial met.
pub fn of(
    trial: &Trial,
    ours: &Seen,
    theirs: &Seen,
) -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    let met = ON_PURPOSE.iter().filter(move |(_, _, applies)| applies(trial, ours, theirs));
    met.map(|(why, kinds, _)| (*why, *kinds))
}

type Applies = fn(&Trial, &Seen, &Seen) -> bool;

/// All that is compared.
const ALL: &[&str] = &["client", "client end", "upstream", "upstream ends", "access log", "error log"];
/// All but what the upstream gets.
const AT_CLIENT: &[&str] = &["client", "client end", "access log", "error log"];
/// All but what the client gets.
const BUT_CLIENT: &[&str] = &["client end", "upstream", "upstream ends", "access log", "error log"];

/// Each with its reason and the kinds of differences that it accounts for.
const ON_PURPOSE: &[(&str, &[&str], Applies)] = &[
    (
        "what came of an answer that is not complete is passed on, where nginx holds it back",
        &["client", "client end", "access log"],
        |_, ours, theirs| is_held_back(ours, theirs),
    ),
    ("line ends in values are not sent", AT_CLIENT, |trial, _, _| {
        trial.client.iter().any(|part| {
            let text = String::from_utf8_lossy(&part.bytes).to_ascii_lowercase();
            text.contains("%0d") || text.contains("%0a")
        })
    }),
    ("when a client's end is noticed is a matter of luck", ALL, |trial, _, theirs| {
        trial.fin
            && (theirs.access.iter().any(|line| line.contains("status=[499]")) || !theirs.ups.is_empty())
    }),
    ("an interim answer is not the answer", ALL, |trial, _, _| {
        trial.answers.iter().any(|answer| {
            let text: Vec<u8> = answer.parts.iter().flat_map(|part| part.bytes.clone()).collect();
            let status = text.splitn(2, |byte| *byte == b' ').nth(1).unwrap_or_default();
            status.starts_with(b"1") && !status.starts_with(b"101")
        })
    }),
    (
        "a bad body is not the answer where an error page or a redirect is; the connection closes behind it",
        ALL,
        |_, ours, theirs| {
            let is_bad = theirs.errors.iter().any(|line| line.contains("client sent invalid chunked body"));
            is_bad && ours.client.1 == End::Fin && ours.ups.len() == theirs.ups.len()
        },
    ),
    ("a 412 does not end the connection", ALL, |_, ours, theirs| {
        let has_more = ours.ups.len() > theirs.ups.len() || ours.access.len() > theirs.access.len();
        theirs.client.0.contains(" 412 Precondition Failed") && has_more
    }),
    ("a 204 has no length", &["client", "access log"], |_, _, theirs| {
        theirs.client.0.contains("HTTP/1.1 204 ") && theirs.client.0.contains("Content-Length: ")
    }),
    ("an error page of a bad request goes upstream without the body", ALL, |_, _, theirs| {
        let has_body = |up: &(String, End)| up.0.contains("\nContent-Length: ");
        let is_bad = theirs.errors.iter().any(|line| line.contains("client sent invalid"));
        theirs.ups.iter().any(|up| up.0.contains(" /p/err ") && (is_bad || has_body(up)))
    }),
    (
        "what filters added to what is not sent is not on the page of a 416",
        &["client", "access log"],
        |_, ours, theirs| {
            ours.client.0.contains(" 416 ") && theirs.client.0.contains("\nX-") && !theirs.access.is_empty()
        },
    ),
    ("h2c is not passed on", &["upstream", "access log"], |_, _, theirs| {
        theirs.ups.iter().any(|up| {
            up.0.contains("\nUpgrade: h2c") || up.0.contains("\nUpgrade: TLS") || up.0.contains(", h2c")
        })
    }),
    ("a tunnel's other direction runs on when one has ended", BUT_CLIENT, |trial, ours, _| {
        let ends = trial.answers.iter().any(|answer| answer.then == Then::Close);
        ends && ours.client.0.contains("HTTP/1.1 101")
    }),
    ("a 101 has no length and leads nowhere else", ALL, |_, ours, theirs| {
        let has_more =
            theirs.client.0.contains("HTTP/1.1 101") && theirs.client.0.contains("\nContent-Length: ");
        has_more || ours.client.0.contains("HTTP/1.1 101") && !theirs.client.0.contains("HTTP/1.1 101")
    }),
    ("a 101 that nobody asked for is no tunnel", ALL, |trial, ours, theirs| {
        let has_switched = ours.client.0.contains("HTTP/1.1 101") || theirs.client.0.contains("HTTP/1.1 101");
        let is_answered = trial
            .answers
            .iter()
            .any(|answer| answer.parts.first().is_some_and(|part| part.bytes.get(9..12) == Some(b"101")));
        (has_switched || is_answered && !theirs.ups.is_empty())
            && !ours.ups.iter().any(|up| up.0.contains("\nUpgrade: "))
    }),
    ("an answer that is no HTTP/1 is 502, not HTTP/0.9", ALL, |_, _, theirs| {
        theirs.errors.iter().any(|line| line.contains("upstream sent no valid HTTP/1.0 header"))
    }),
];

/// Whether ours is nginx's and then more of one answer, which its upstream broke off or has not ended yet.
fn is_held_back(ours: &Seen, theirs: &Seen) -> bool {
    const BROKEN: [&str; 2] =
        ["upstream prematurely closed connection", "upstream sent invalid chunked response"];
    let is_broken = theirs.errors.iter().any(|line| BROKEN.iter().any(|broken| line.contains(broken)));
    let is_waiting = theirs.access.last().is_some_and(|line| line.contains("status=[499]"));
    let are_others_same = ours.ups.iter().map(|up| &up.0).eq(theirs.ups.iter().map(|up| &up.0))
        && ours.access.len() == theirs.access.len();
    // One answer to each request, and behind what is the same no second one.
    let answers = |text: &str| text.matches("HTTP/1.1 ").count() - text.matches("HTTP/1.1 100 ").count();
    let more = ours.client.0.strip_prefix(theirs.client.0.trim_end_matches('⟧'));
    let is_one = more.is_some_and(|more| {
        !more.is_empty() && !more.chars().skip(1).collect::<String>().contains("HTTP/1.")
    });
    (is_broken || is_waiting) && are_others_same && is_one && answers(&ours.client.0) <= theirs.access.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    const CUT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok";
    const BROKEN: &str = "[error] upstream prematurely closed connection while reading upstream";

    fn seen(client: &str, requests: usize, access: &[&str], errors: &[&str]) -> Seen {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        Seen {
            client: (client.to_owned(), End::Fin),
            ups: vec![("GET / HTTP/1.1\r\n\r\n".repeat(requests), End::Fin)],
            access: lines(access),
            errors: lines(errors),
        }
    }

    #[test]
    fn what_is_held_back_is_one_answer() {
        let check = |ours: Seen, theirs: Seen, expected| {
            assert_eq!(is_held_back(&ours, &theirs), expected, "{ours:?} {theirs:?}");
        };
        let ok = "status=[200] x=[1]";
        check(seen(CUT, 1, &[ok], &[]), seen("", 1, &[ok], &[BROKEN]), true);
        check(seen(CUT, 1, &[ok], &[]), seen(&CUT[..30], 1, &[ok], &[BROKEN]), true);
        check(seen(CUT, 1, &[ok], &[]), seen("", 1, &["status=[499] x=[1]"], &[]), true);
        // Silence is an answer, too.
        check(seen(ONE, 1, &[ok], &[]), seen("", 1, &["status=[444] x=[1]"], &[]), false);
        check(seen(CUT, 1, &[ok], &[]), seen("", 1, &[ok], &[]), false);
        // Two where nginx says one: seen, asked for, or logged.
        let two = ONE.repeat(2);
        check(seen(&two, 1, &[ok], &[]), seen(ONE, 1, &[ok], &[BROKEN]), false);
        check(seen(&two, 1, &[ok], &[]), seen("", 1, &[ok], &[BROKEN]), false);
        check(seen(CUT, 2, &[ok], &[]), seen("", 1, &[ok], &[BROKEN]), false);
        check(seen(CUT, 1, &[ok, ok], &[]), seen("", 1, &[ok], &[BROKEN]), false);
    }
}
