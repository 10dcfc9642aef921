//! Text with variables in it: what nginx calls a complex value.

use conf::Span;
use conf::template::Piece;

use crate::message::Request;
use crate::variable::{VarId, Variables, evaluate};

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(Box<[u8]>),
    Variable(VarId),
    Capture(u8),
}

/// A compiled text with variables and captures.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Template {
    parts: Box<[Part]>,
}

impl Template {
    /// Compiles `text`, which stands at `span`.
    ///
    /// # Errors
    /// nginx's words: `invalid variable name`, `the closing bracket in "x" variable is missing`.
    pub fn compile(text: &[u8], span: Span, variables: &mut Variables) -> Result<Template, String> {
        let parts = conf::template::parse(text)?
            .into_iter()
            .map(|piece| match piece {
                Piece::Text(text) => Part::Text(text.into()),
                Piece::Variable(name) => Part::Variable(variables.intern(&name, span)),
                Piece::Capture(number) => Part::Capture(number),
            })
            .collect();
        Ok(Template { parts })
    }

    /// One behind the other; the name of a variable ends with its template.
    pub fn concat(templates: impl IntoIterator<Item = Template>) -> Template {
        let mut parts: Vec<Part> = Vec::new();
        for part in templates.into_iter().flat_map(|template| template.parts) {
            match (parts.last_mut(), part) {
                (Some(Part::Text(text)), Part::Text(more)) => *text = [&**text, &*more].concat().into(),
                (_, part) => parts.push(part),
            }
        }
        Template { parts: parts.into() }
    }

    /// A text without variables.
    pub fn literal(text: &[u8]) -> Template {
        let part = (!text.is_empty()).then(|| Part::Text(text.into()));
        Template { parts: part.into_iter().collect() }
    }

    /// The text, when nothing in it varies.
    pub fn as_literal(&self) -> Option<&[u8]> {
        match &*self.parts {
            [] => Some(b""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether a variable or capture is in it.
    pub fn varies(&self) -> bool {
        self.as_literal().is_none()
    }

    /// The variables in it.
    pub fn variables(&self) -> impl Iterator<Item = VarId> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(id) => Some(*id),
            _ => None,
        })
    }

    /// Appends the value for this request.
    pub fn render(&self, request: &mut Request, out: &mut Vec<u8>) {
        for part in &*self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Variable(id) => {
                    evaluate(request, *id, out);
                }
                Part::Capture(number) => request.capture(*number, out),
            }
        }
    }

    /// The value for this request.
    pub fn value(&self, request: &mut Request) -> Vec<u8> {
        let mut out = Vec::new();
        self.render(request, &mut out);
        out
    }

    /// Visits the parts in order, for programs that treat variables in their own way (a log's escaping).
    pub fn parts(&self) -> impl Iterator<Item = TemplatePart<'_>> {
        self.parts.iter().map(|part| match part {
            Part::Text(text) => TemplatePart::Text(text),
            Part::Variable(id) => TemplatePart::Variable(*id),
            Part::Capture(number) => TemplatePart::Capture(*number),
        })
    }
}

/// One part of a [`Template`].
#[derive(Clone, Copy, Debug)]
pub enum TemplatePart<'a> {
    /// Text as it is.
    Text(&'a [u8]),
    /// A variable.
    Variable(VarId),
    /// `$1` to `$9`.
    Capture(u8),
}
