//! Differences on purpose. `docs/compatibility.md` has them, too.

use super::house::Seen;
use super::parts::Then;
use super::trial::Trial;
use crate::raw::End;

/// Why a trial is not judged, if it met one of them.
pub fn of(trial: &Trial, ours: &Seen, theirs: &Seen) -> Option<&'static str> {
    ON_PURPOSE.iter().find(|(_, applies)| applies(trial, ours, theirs)).map(|(why, _)| *why)
}

type Applies = fn(&Trial, &Seen, &Seen) -> bool;

/// Each with its reason.
const ON_PURPOSE: &[(&str, Applies)] = &[
    (
        "what came of an answer that is not complete is passed on, where nginx holds it back",
        |_, ours, theirs| {
            let (ours, theirs) = (&ours.client.0, &theirs.client.0);
            ours.len() > theirs.len() && ours.starts_with(theirs.trim_end_matches('⟧'))
        },
    ),
    ("line ends in values are not sent", |trial, _, _| {
        trial.client.iter().any(|part| {
            let text = String::from_utf8_lossy(&part.bytes).to_ascii_lowercase();
            text.contains("%0d") || text.contains("%0a")
        })
    }),
    ("when a client's end is noticed is a matter of luck", |trial, _, theirs| {
        trial.fin
            && (theirs.access.iter().any(|line| line.contains("status=[499]")) || !theirs.ups.is_empty())
    }),
    ("an interim answer is not the answer", |trial, _, _| {
        trial.answers.iter().any(|answer| {
            let text: Vec<u8> = answer.parts.iter().flat_map(|part| part.bytes.clone()).collect();
            let status = text.splitn(2, |byte| *byte == b' ').nth(1).unwrap_or_default();
            status.starts_with(b"1") && !status.starts_with(b"101")
        })
    }),
    (
        "a bad body is not the answer where an error page or a redirect is; the connection closes behind it",
        |_, ours, theirs| {
            let is_bad = theirs.errors.iter().any(|line| line.contains("client sent invalid chunked body"));
            is_bad && ours.client.1 == End::Fin && ours.ups.len() == theirs.ups.len()
        },
    ),
    ("a 412 does not end the connection", |_, ours, theirs| {
        theirs.client.0.contains(" 412 Precondition Failed") && ours.ups.len() > theirs.ups.len()
    }),
    ("a 204 has no length", |_, _, theirs| {
        theirs.client.0.contains("HTTP/1.1 204 ") && theirs.client.0.contains("Content-Length: ")
    }),
    ("an error page of a bad request goes upstream without the body", |_, _, theirs| {
        let has_body = |up: &(String, End)| up.0.contains("\nContent-Length: ");
        let is_bad = theirs.errors.iter().any(|line| line.contains("client sent invalid"));
        theirs.ups.iter().any(|up| up.0.contains(" /p/err ") && (is_bad || has_body(up)))
    }),
    ("what filters added to what is not sent is not on the page of a 416", |_, ours, theirs| {
        ours.client.0.contains(" 416 ") && theirs.client.0.contains("\nX-") && !theirs.access.is_empty()
    }),
    ("h2c is not passed on", |_, _, theirs| {
        theirs.ups.iter().any(|up| {
            up.0.contains("\nUpgrade: h2c") || up.0.contains("\nUpgrade: TLS") || up.0.contains(", h2c")
        })
    }),
    ("a tunnel's other direction runs on when one has ended", |trial, ours, _| {
        let ends = trial.answers.iter().any(|answer| answer.then == Then::Close);
        ends && ours.client.0.contains("HTTP/1.1 101")
    }),
    ("a 101 has no length and leads nowhere else", |_, ours, theirs| {
        let has_more =
            theirs.client.0.contains("HTTP/1.1 101") && theirs.client.0.contains("\nContent-Length: ");
        has_more || ours.client.0.contains("HTTP/1.1 101") && !theirs.client.0.contains("HTTP/1.1 101")
    }),
    ("a 101 that nobody asked for is no tunnel", |trial, ours, theirs| {
        let has_switched = ours.client.0.contains("HTTP/1.1 101") || theirs.client.0.contains("HTTP/1.1 101");
        let is_answered = trial
            .answers
            .iter()
            .any(|answer| answer.parts.first().is_some_and(|part| part.bytes.get(9..12) == Some(b"101")));
        (has_switched || is_answered && !theirs.ups.is_empty())
            && !ours.ups.iter().any(|up| up.0.contains("\nUpgrade: "))
    }),
    ("an answer that is no HTTP/1 is 502, not HTTP/0.9", |_, _, theirs| {
        theirs.errors.iter().any(|line| line.contains("upstream sent no valid HTTP/1.0 header"))
    }),
];
