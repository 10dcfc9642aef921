//! One trial: what a client sends and what the upstream answers, part by part.

use std::fmt::Write as _;

use super::parts::{Answer, Part, Then, pieces};
use super::{answers, requests};
use crate::random::Random;

/// What both proxies are put through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// The client's bytes.
    pub client: Vec<Part>,
    /// Half close behind them.
    pub fin: bool,
    /// What the upstream answers to the first request it sees, to the second, and so on; then the last again.
    pub answers: Vec<Answer>,
}

impl Trial {
    /// The trial of a number.
    pub fn new(random: &mut Random) -> Trial {
        let client = requests::conversation(random);
        let count = 1 + random.below(3);
        Trial {
            client,
            fin: random.percent(3),
            answers: (0..count).map(|_| answers::answer(random)).collect(),
        }
    }

    /// The client's bytes in the pieces they are sent in.
    pub fn pieces(&self) -> Vec<Vec<u8>> {
        pieces(&self.client)
    }

    /// Every trial that is this one without one of its parts, or with one thing made plainer.
    pub fn simpler(&self) -> Vec<Trial> {
        let mut trials = Vec::new();
        let mut push = |change: &dyn Fn(&mut Trial)| {
            let mut trial = self.clone();
            change(&mut trial);
            if trial != *self {
                trials.push(trial);
            }
        };
        let last = self.answers.len() - 1;
        push(&|trial| trial.fin = false);
        for at in 0..=last {
            if last > 0 {
                push(&|trial| drop(trial.answers.remove(at)));
            }
            push(&|trial| trial.answers[at] = answers::plain());
            push(&|trial| trial.answers[at].early = false);
            push(&|trial| trial.answers[at].then = Then::Stay);
            push(&|trial| trial.answers[at].parts.iter_mut().for_each(|part| part.apart = false));
            for part in 0..self.answers[at].parts.len() {
                push(&|trial| drop(trial.answers[at].parts.remove(part)));
            }
        }
        push(&|trial| trial.client.iter_mut().for_each(|part| part.apart = false));
        for run in [6, 3, 1] {
            for at in 0..(self.client.len() + 1).saturating_sub(run) {
                push(&|trial| drop(trial.client.drain(at..at + run)));
            }
        }
        trials
    }

    /// As steps of a `.case` file.
    pub fn text(&self) -> String {
        let mut text = String::new();
        lines(&mut text, "c", &self.client);
        if self.fin {
            text += "  c fin\n";
        }
        for (at, answer) in self.answers.iter().enumerate() {
            let who = if at == 0 { "u".to_owned() } else { format!("u{}", at + 1) };
            if answer.early {
                text += "  # at once\n";
            }
            lines(&mut text, &who, &answer.parts);
            if answer.then == Then::Close {
                let _ = writeln!(text, "  {who} fin");
            }
        }
        text
    }
}

fn lines(text: &mut String, who: &str, parts: &[Part]) {
    for (at, piece) in pieces(parts).iter().enumerate() {
        if at > 0 {
            text.push_str("  pause 20\n");
        }
        let _ = writeln!(text, "  {who}> {}", shown(piece));
    }
}

/// As a `.case` file reads it, long runs shortened.
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        let count = bytes[at..].iter().take_while(|next| **next == byte).count();
        let one = match byte {
            b'\r' => "\\r".to_owned(),
            b'\n' => "\\n".to_owned(),
            b'\t' => "\\t".to_owned(),
            b'\\' => "\\\\".to_owned(),
            32..=126 => char::from(byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        };
        if count > 20 {
            let _ = write!(text, "{{{one}*{count}}}");
            at += count;
        } else {
            text += &one;
            at += 1;
        }
    }
    text
}
