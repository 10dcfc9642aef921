//! `rewrite`: a regular expression and what takes the URI's place.

use http::config::{Line, Problem};
use http::log::Level;
use http::message::Pattern;
use http::variable::evaluate;
use http::{Flow, Request, Template, TemplatePart};
use wire::http1::{Escape, Unescape, escape_uri, unescape_uri};

use super::Step;

/// A `rewrite` line.
pub(super) struct Rewrite {
    pattern: Pattern,
    path: Template,
    /// What stands behind the replacement's `?`.
    args: Option<Template>,
    /// Whether the request's own arguments follow; a replacement that ends in `?` says no.
    keep_args: bool,
    then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// No flag: the next line.
    NextLine,
    /// `last`: a new location.
    Last,
    /// `break`: on in this location.
    Break,
    /// `redirect`, `permanent`, or a URL.
    Redirect(u16),
}

/// Reads a line.
pub(super) fn read(line: &mut Line<'_>) -> Result<Rewrite, Problem> {
    let pattern = line.bytes(0).to_vec();
    let pattern = line.pattern(&pattern, false).map_err(|problem| problem.at(line.word(0)))?;
    let mut text = line.bytes(1).to_vec();
    if text.is_empty() {
        return Err(Problem::new("empty replacement").at(line.word(1)));
    }
    let is_url = [&b"http://"[..], b"https://", b"$scheme"].iter().any(|start| text.starts_with(start));
    let mut then = if is_url { Then::Redirect(302) } else { Then::NextLine };
    if line.count() > 2 {
        then = match (line.bytes(2), then) {
            (b"last", Then::NextLine) => Then::Last,
            (b"break", Then::NextLine) => Then::Break,
            (b"last" | b"break", then) => then,
            (b"redirect", _) => Then::Redirect(302),
            (b"permanent", _) => Then::Redirect(301),
            _ => return Err(line.invalid_parameter(2).note("it must be last, break, redirect or permanent")),
        };
    }
    let keep_args = text.pop_if(|byte| *byte == b'?').is_none();
    let question = text.iter().position(|byte| *byte == b'?');
    let args = match question {
        Some(at) => Some(line.template_text(&text[at + 1..])?),
        None => None,
    };
    let path = line.template_text(&text[..question.unwrap_or(text.len())])?;
    Ok(Rewrite { pattern, path, args, keep_args, then })
}

impl Rewrite {
    pub(super) fn run(&self, request: &mut Request) -> Step {
        let uri = std::mem::take(&mut request.uri);
        let matched = self.pattern.matches(&uri, &mut request.captures);
        request.uri = uri;
        if !matched {
            return Step::On;
        }
        if let Then::Redirect(status) = self.then {
            request.response.location = Some(self.target(request));
            return Step::Answer(Flow::Status(status));
        }
        self.replace(request)
    }

    fn replace(&self, request: &mut Request) -> Step {
        let path = render(&self.path, request, false);
        match &self.args {
            Some(args) => {
                let mut args = render(args, request, true);
                if self.keep_args && !request.args.is_empty() {
                    args.push(b'&');
                    args.extend_from_slice(&request.args);
                }
                request.args = args;
            }
            None if !self.keep_args => request.args.clear(),
            None => {}
        }
        if path.is_empty() {
            request.log(Level::Error, format_args!("the rewritten URI has a zero length"));
            return Step::Answer(Flow::Status(500));
        }
        request.uri = path;
        request.uri_valid_raw = false;
        request.internal = true;
        request.uri_changed = self.then != Then::Break;
        if self.then == Then::NextLine { Step::On } else { Step::Stop }
    }

    /// The `Location` of a redirect.
    fn target(&self, request: &mut Request) -> Vec<u8> {
        let escaped = render(&self.path, request, true);
        let mut target = Vec::with_capacity(escaped.len());
        let used = unescape_uri(&escaped, Unescape::Redirect, &mut target);
        target.extend_from_slice(&escaped[used..]);
        let own = if self.keep_args { request.args.clone() } else { Vec::new() };
        if let Some(args) = &self.args {
            target.push(b'?');
            target.extend_from_slice(&render(args, request, true));
        }
        if !own.is_empty() {
            target.push(if self.args.is_some() { b'&' } else { b'?' });
            target.extend_from_slice(&own);
        }
        target
    }
}

/// Captures that leave the path are escaped again if the client had escaped anything.
fn render(template: &Template, request: &mut Request, escape: bool) -> Vec<u8> {
    let raw = request.head.raw_path.of(&request.bytes);
    let escape = escape && raw.iter().any(|byte| matches!(byte, b'%' | b'+'));
    let mut out = Vec::new();
    for part in template.parts() {
        match part {
            TemplatePart::Text(text) => out.extend_from_slice(text),
            TemplatePart::Variable(id) => {
                evaluate(request, id, &mut out);
            }
            TemplatePart::Capture(number) if escape => {
                let mut value = Vec::new();
                request.capture(number, &mut value);
                escape_uri(&value, Escape::Args, &mut out);
            }
            TemplatePart::Capture(number) => request.capture(number, &mut out),
        }
    }
    out
}
