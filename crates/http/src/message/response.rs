//! A response on its way to the client.

use std::sync::Arc;

use wire::http1::FieldId;

/// What follows a response head that a handler prepared without sending it.
#[derive(Default, Debug)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// Bytes made for this response.
    Bytes(Vec<u8>),
    /// Bytes many responses share.
    Shared(Arc<[u8]>),
    /// A file from its current position, so many bytes.
    File(std::fs::File, u64),
}

impl Body {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Body::Empty => 0,
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Shared(bytes) => bytes.len() as u64,
            Body::File(_, len) => *len,
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A response head. What every response has stands in fields of its own; the rest are lines ready to be sent.
#[derive(Default, Debug)]
pub struct Response {
    /// The status; 0 until it is known.
    pub status: u16,
    /// The upstream's status line behind the version (`200 Fine`), sent in place of our own words.
    pub status_line: Option<Vec<u8>>,
    /// `Content-Type`, whole.
    pub content_type: Option<Vec<u8>>,
    /// `Content-Length`; without one HTTP/1.1 gets chunks and HTTP/1.0 the end of the connection.
    pub content_length: Option<u64>,
    /// `Last-Modified` of a file, as text. An upstream's is among the added fields; see [`Response::modified`].
    pub last_modified: Option<Vec<u8>>,
    /// `Location`, whole. A path is completed to a URL when `absolute_redirect` says so.
    pub location: Option<Vec<u8>>,
    /// Our own `Server` is left out: the upstream's is among the added fields, if it sent one.
    pub has_server: bool,
    /// The same of `Date`.
    pub has_date: bool,
    /// Whether a client may have parts of it.
    pub allow_ranges: bool,
    /// `Connection: upgrade` on a 101.
    pub upgrade: bool,
    /// What a handler prepared; sent by the machine for [`crate::Flow::Respond`].
    pub body: Body,
    /// Trailer fields, `Name: value\r\n` each; sent behind the last chunk.
    pub trailers: Vec<u8>,
    /// Trailer fields may follow: HTTP/1.1 gets chunks even where the length is known.
    pub expects_trailers: bool,
    /// Whether the head was given to the client.
    pub head_sent: bool,
    /// No body follows whatever the head says: HEAD, 204, 304, 1xx.
    pub header_only: bool,
    /// The status stands, also of an error page shown as another.
    pub has_final_status: bool,
    /// The body is sent in chunks; decided when the head is.
    pub is_chunked: bool,
    /// Length of the head.
    pub head_bytes: u64,
    /// Bytes the client's socket took beyond the head: `$body_bytes_sent`. As on nginx the chunked coding counts.
    pub body_bytes: u64,
    /// All bytes the client's socket took: `$bytes_sent`.
    pub bytes_sent: u64,
    /// Whether the response came to its end: `$request_completion`.
    pub complete: bool,
    /// The type that an internal redirect keeps (`X-Accel-Redirect`): it wins over what the page there says.
    pub carried_type: Option<Vec<u8>>,
    carried: Vec<Carried>,
    /// Memory for a type.
    spare: Vec<u8>,
    lines: Vec<u8>,
    fields: Vec<Line>,
}

/// A field kept for the answer that an internal redirect makes: id, name, value.
type Carried = (FieldId, Box<[u8]>, Box<[u8]>);

#[derive(Debug, Clone, Copy)]
struct Line {
    id: FieldId,
    start: u32,
    name_len: u32,
    value_len: u32,
}

impl Line {
    fn end(self) -> usize {
        (self.start + self.name_len + self.value_len) as usize + 4
    }
}

impl Response {
    /// Makes it as new, keeping its memory.
    pub fn clear(&mut self) {
        let (mut lines, mut fields) = (std::mem::take(&mut self.lines), std::mem::take(&mut self.fields));
        lines.clear();
        fields.clear();
        let spare = self.content_type.take().unwrap_or_else(|| std::mem::take(&mut self.spare));
        *self = Response { lines, fields, spare, ..Response::default() };
    }

    /// Sets `Content-Type` to a copy.
    pub fn set_content_type(&mut self, value: &[u8]) {
        let mut text = self.content_type.take().unwrap_or_else(|| std::mem::take(&mut self.spare));
        text.clear();
        text.extend_from_slice(value);
        self.content_type = Some(text);
    }

    /// Drops a head that was prepared but not sent, with what a handler put behind it; the counts and what is carried
    /// stay.
    pub fn reset_head(&mut self) {
        let (head, body, bytes) = (self.head_bytes, self.body_bytes, self.bytes_sent);
        let (carried, carried_type) = (std::mem::take(&mut self.carried), self.carried_type.take());
        self.clear();
        (self.head_bytes, self.body_bytes, self.bytes_sent) = (head, body, bytes);
        for (id, name, value) in &carried {
            self.add_known(*id, name, value);
        }
        (self.carried, self.carried_type) = (carried, carried_type);
    }

    /// Forgets what an internal redirect kept, with all fields.
    pub fn drop_carried(&mut self) {
        (self.carried, self.carried_type) = (Vec::new(), None);
        self.reset_head();
    }

    /// Adds a field that stays through internal redirects.
    pub fn carry(&mut self, id: FieldId, name: &[u8], value: &[u8]) {
        self.add_known(id, name, value);
        self.carried.push((id, name.into(), value.into()));
    }

    /// Drops a body that was prepared but not sent, with what describes it. What handlers added to the head stays, also
    /// where a redirect leads: `WWW-Authenticate` is part of a built-in 401.
    pub fn reset_body(&mut self) {
        let location = self.location.take();
        let (lines, fields) = (std::mem::take(&mut self.lines), std::mem::take(&mut self.fields));
        self.reset_head();
        (self.location, self.lines, self.fields) = (location, lines, fields);
        self.remove(b"ETag");
        self.remove(b"Accept-Ranges");
    }

    /// Adds a field whose value may be anything: see [`wire::http1::one_line`].
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        let start = self.lines.len() + name.len() + 2;
        self.add_known(FieldId::of(name), name, value);
        if let Some(value) = self.lines.get_mut(start..start + value.len()) {
            wire::http1::one_line(value);
        }
    }

    /// Adds a field whose id is known and whose value has no line end.
    pub fn add_known(&mut self, id: FieldId, name: &[u8], value: &[u8]) {
        let Ok(start) = u32::try_from(self.lines.len()) else { return };
        self.lines.extend_from_slice(name);
        self.lines.extend_from_slice(b": ");
        self.lines.extend_from_slice(value);
        self.lines.extend_from_slice(b"\r\n");
        self.fields.push(Line { id, start, name_len: name.len() as u32, value_len: value.len() as u32 });
    }

    /// Removes all fields of that name.
    pub fn remove(&mut self, name: &[u8]) {
        while let Some(at) = self.fields.iter().position(|line| self.name_of(line).eq_ignore_ascii_case(name))
        {
            let line = self.fields.remove(at);
            let removed = line.end() - line.start as usize;
            self.lines.drain(line.start as usize..line.end());
            for later in &mut self.fields[at..] {
                later.start -= removed as u32;
            }
        }
    }

    /// When what is sent was changed: `Last-Modified`, whoever set it.
    pub fn modified(&self) -> Option<&[u8]> {
        let listed = || self.fields().find(|(id, ..)| *id == FieldId::LastModified).map(|(.., value)| value);
        self.last_modified.as_deref().or_else(listed)
    }

    /// The added fields: id, name, value, in order.
    pub fn fields(&self) -> impl Iterator<Item = (FieldId, &[u8], &[u8])> {
        self.fields.iter().map(|line| (line.id, self.name_of(line), self.value_of(line)))
    }

    /// The added fields as they go on an HTTP/1 connection.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    fn name_of(&self, line: &Line) -> &[u8] {
        &self.lines[line.start as usize..(line.start + line.name_len) as usize]
    }

    fn value_of(&self, line: &Line) -> &[u8] {
        let start = (line.start + line.name_len) as usize + 2;
        &self.lines[start..start + line.value_len as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_added_and_removed_in_place() {
        let mut response = Response::default();
        for (name, value) in [("A", "1"), ("B", "22"), ("a", "333"), ("C", "")] {
            response.add(name.as_bytes(), value.as_bytes());
        }
        response.remove(b"a");
        assert_eq!(response.lines(), b"B: 22\r\nC: \r\n");
        let fields: Vec<_> =
            response.fields().map(|(_, name, value)| (name.to_vec(), value.to_vec())).collect();
        assert_eq!(fields, [(b"B".to_vec(), b"22".to_vec()), (b"C".to_vec(), Vec::new())]);
    }
}
