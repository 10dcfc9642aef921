//! Fields: spans with an id for the names somebody in the house asks for.

use crate::{Span, same};

/// One field line of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name as it was sent.
    pub name: Span,
    /// The value without the spaces around it.
    pub value: Span,
    /// Which known name it is.
    pub id: FieldId,
}

/// The fields of a head in the order they came, with a quick answer to "is it there at all".
///
/// Cleared and reused, it allocates nothing once it has grown to the usual number of fields.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    list: Vec<Field>,
    seen: FieldIds,
}

impl Fields {
    /// Forgets all fields and keeps the memory.
    pub fn clear(&mut self) {
        self.list.clear();
        self.seen = FieldIds::NONE;
    }

    /// Adds a field at the end.
    #[inline]
    pub fn push(&mut self, field: Field) {
        self.seen.add(field.id);
        self.list.push(field);
    }

    /// All fields in order.
    pub fn as_slice(&self) -> &[Field] {
        &self.list
    }

    /// All fields in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Field> {
        self.list.iter()
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True if there is no field.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// True if a field with this name came. Not for [`FieldId::Unknown`].
    #[inline]
    pub fn has(&self, id: FieldId) -> bool {
        self.seen.has(id)
    }

    /// The first field with this name.
    #[inline]
    pub fn first(&self, id: FieldId) -> Option<&Field> {
        if self.has(id) { self.list.iter().find(|field| field.id == id) } else { None }
    }

    /// The first value with this name.
    pub fn value<'b>(&self, id: FieldId, buf: &'b [u8]) -> Option<&'b [u8]> {
        self.first(id).map(|field| field.value.of(buf))
    }

    /// All fields with this known name, in order.
    pub fn all(&self, id: FieldId) -> impl Iterator<Item = &Field> {
        let list = if self.has(id) { self.list.as_slice() } else { &[] };
        list.iter().filter(move |field| field.id == id)
    }

    /// All fields with this name, known or not, whatever its case.
    pub fn named<'a>(&'a self, name: &'a [u8], buf: &'a [u8]) -> impl Iterator<Item = &'a Field> {
        self.list.iter().filter(move |field| same(field.name.of(buf), name))
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = &'a Field;
    type IntoIter = std::slice::Iter<'a, Field>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

/// A set of names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldIds([u64; 2]);

impl FieldIds {
    /// No name.
    pub const NONE: FieldIds = FieldIds([0; 2]);

    /// These names.
    pub const fn of(ids: &[FieldId]) -> FieldIds {
        let mut set = FieldIds::NONE;
        let mut i = 0;
        while i < ids.len() {
            set.0[ids[i] as usize / 64] |= 1 << (ids[i] as usize % 64);
            i += 1;
        }
        set
    }

    /// Both.
    pub const fn and(self, other: FieldIds) -> FieldIds {
        FieldIds([self.0[0] | other.0[0], self.0[1] | other.0[1]])
    }

    /// Adds a name.
    #[inline]
    pub fn add(&mut self, id: FieldId) {
        self.0[id as usize / 64 % 2] |= 1 << (id as usize % 64);
    }

    /// Whether the name is in it.
    #[inline]
    pub fn has(self, id: FieldId) -> bool {
        self.0[id as usize / 64 % 2] >> (id as usize % 64) & 1 == 1
    }
}

macro_rules! field_ids {
    ($($id:ident $name:literal,)*) => {
        /// A name that some part of the house asks for, so that asking is a comparison of bytes rather than of strings.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum FieldId {
            /// A name nobody has an id for.
            Unknown,
            $(#[doc = concat!("`", $name, "`")] $id,)*
        }

        static NAMES: &[&str] = &["", $($name,)*];
        static IDS: &[FieldId] = &[FieldId::Unknown, $(FieldId::$id,)*];
        const NAME_LIST: &[&str] = &["", $($name,)*];
    };
}

field_ids! {
    Accept "Accept",
    AcceptCharset "Accept-Charset",
    AcceptEncoding "Accept-Encoding",
    AcceptLanguage "Accept-Language",
    AcceptRanges "Accept-Ranges",
    AccessControlAllowOrigin "Access-Control-Allow-Origin",
    Age "Age",
    Allow "Allow",
    AltSvc "Alt-Svc",
    Authorization "Authorization",
    CacheControl "Cache-Control",
    Connection "Connection",
    ContentDisposition "Content-Disposition",
    ContentEncoding "Content-Encoding",
    ContentLanguage "Content-Language",
    ContentLength "Content-Length",
    ContentRange "Content-Range",
    ContentType "Content-Type",
    Cookie "Cookie",
    Date "Date",
    Depth "Depth",
    Destination "Destination",
    EarlyData "Early-Data",
    Etag "ETag",
    Expect "Expect",
    Expires "Expires",
    Forwarded "Forwarded",
    Host "Host",
    Http2Settings "HTTP2-Settings",
    IfMatch "If-Match",
    IfModifiedSince "If-Modified-Since",
    IfNoneMatch "If-None-Match",
    IfRange "If-Range",
    IfUnmodifiedSince "If-Unmodified-Since",
    KeepAlive "Keep-Alive",
    LastModified "Last-Modified",
    Link "Link",
    Location "Location",
    Origin "Origin",
    Overwrite "Overwrite",
    Pragma "Pragma",
    ProxyAuthenticate "Proxy-Authenticate",
    ProxyAuthorization "Proxy-Authorization",
    ProxyConnection "Proxy-Connection",
    Range "Range",
    Referer "Referer",
    Refresh "Refresh",
    RetryAfter "Retry-After",
    SecWebSocketAccept "Sec-WebSocket-Accept",
    SecWebSocketExtensions "Sec-WebSocket-Extensions",
    SecWebSocketKey "Sec-WebSocket-Key",
    SecWebSocketProtocol "Sec-WebSocket-Protocol",
    SecWebSocketVersion "Sec-WebSocket-Version",
    Server "Server",
    SetCookie "Set-Cookie",
    Status "Status",
    StrictTransportSecurity "Strict-Transport-Security",
    Te "TE",
    Trailer "Trailer",
    TransferEncoding "Transfer-Encoding",
    Upgrade "Upgrade",
    UpgradeInsecureRequests "Upgrade-Insecure-Requests",
    UserAgent "User-Agent",
    Vary "Vary",
    Via "Via",
    WwwAuthenticate "WWW-Authenticate",
    XAccelBuffering "X-Accel-Buffering",
    XAccelCharset "X-Accel-Charset",
    XAccelExpires "X-Accel-Expires",
    XAccelLimitRate "X-Accel-Limit-Rate",
    XAccelRedirect "X-Accel-Redirect",
    XForwardedFor "X-Forwarded-For",
    XForwardedHost "X-Forwarded-Host",
    XForwardedPort "X-Forwarded-Port",
    XForwardedProto "X-Forwarded-Proto",
    XPoweredBy "X-Powered-By",
    XRealIp "X-Real-IP",
    XRequestId "X-Request-ID",
}

impl FieldId {
    /// The id of a name, whatever its case.
    #[inline]
    pub fn of(name: &[u8]) -> FieldId {
        if name.len() < NAME_BYTES_MIN || name.len() > NAME_BYTES_MAX {
            return FieldId::Unknown;
        }
        let mut slot = hash(name);
        loop {
            let index = SLOTS[slot] as usize;
            if index == 0 {
                return FieldId::Unknown;
            }
            if same(NAMES[index].as_bytes(), name) {
                return IDS[index];
            }
            slot = (slot + 1) % SLOT_COUNT;
        }
    }

    /// The name as it is usually spelled; empty for [`FieldId::Unknown`].
    pub fn name(self) -> &'static str {
        NAMES[self as usize]
    }
}

const NAME_BYTES_MIN: usize = 2;
const NAME_BYTES_MAX: usize = 27;
const SLOT_COUNT: usize = 512;
static SLOTS: [u8; SLOT_COUNT] = slots();

/// Length and three letters tell nearly all known names apart; what still collides sits in the next slot.
#[inline]
const fn hash(name: &[u8]) -> usize {
    let len = name.len();
    let first = (name[0] | 0x20) as usize;
    let middle = (name[len / 2] | 0x20) as usize;
    let last = (name[len - 1] | 0x20) as usize;
    (len * 67 + first * 5 + middle * 131 + last * 29) % SLOT_COUNT
}

const fn slots() -> [u8; SLOT_COUNT] {
    assert!(NAME_LIST.len() <= 128, "one bit each in FieldIds");
    let mut table = [0; SLOT_COUNT];
    let mut i = 1;
    while i < NAME_LIST.len() {
        let name = NAME_LIST[i].as_bytes();
        assert!(name.len() >= NAME_BYTES_MIN && name.len() <= NAME_BYTES_MAX);
        let mut slot = hash(name);
        while table[slot] != 0 {
            slot = (slot + 1) % SLOT_COUNT;
        }
        table[slot] = i as u8;
        i += 1;
    }
    table
}

/// The members of a comma-separated list, without white space and without empty ones (RFC 9110 section 5.6.1).
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// True if the comma-separated list has this member, whatever its case.
pub fn has_token(value: &[u8], token: &[u8]) -> bool {
    tokens(value).any(|member| same(member, token))
}

/// True if `needle` stands anywhere in `value`, whatever its case: how nginx looks for "close" in `Connection`.
pub fn contains_ignore_case(value: &[u8], needle: &[u8]) -> bool {
    let Some(first) = needle.first() else { return true };
    let last = value.len().saturating_sub(needle.len() - 1);
    memchr::memchr2_iter(first.to_ascii_lowercase(), first.to_ascii_uppercase(), &value[..last])
        .any(|at| same(&value[at..at + needle.len()], needle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case() {
        for (index, name) in NAMES.iter().enumerate().skip(1) {
            let id = IDS[index];
            assert_eq!(id as usize, index);
            assert_eq!(id.name(), *name);
            assert_eq!(FieldId::of(name.as_bytes()), id, "{name}");
            assert_eq!(FieldId::of(name.to_ascii_lowercase().as_bytes()), id, "{name}");
            assert_eq!(FieldId::of(name.to_ascii_uppercase().as_bytes()), id, "{name}");
            let mut other = name.as_bytes().to_vec();
            other[0] ^= 1;
            assert_eq!(FieldId::of(&other), FieldId::Unknown, "{name}");
        }
        for name in
            ["", "a", "Hos", "Hostt", "X-Custom", "Content_Length", "Content-Length-Of-Something-Else"]
        {
            assert_eq!(FieldId::of(name.as_bytes()), FieldId::Unknown, "{name}");
        }
    }

    #[test]
    fn few_names_share_a_slot() {
        let shared =
            NAMES[1..].iter().filter(|name| SLOTS[hash(name.as_bytes())] as usize != IDS.len()).count();
        let moved =
            NAMES.iter().enumerate().skip(1).filter(|(i, name)| SLOTS[hash(name.as_bytes())] as usize != *i);
        assert_eq!(shared, NAMES.len() - 1);
        assert!(moved.count() <= 8);
    }

    #[test]
    fn lists() {
        let all: Vec<&[u8]> = tokens(b" keep-alive ,,\tUpgrade,").collect();
        assert_eq!(all, [&b"keep-alive"[..], b"Upgrade"]);
        assert!(has_token(b"keep-alive, Upgrade", b"upgrade"));
        assert!(!has_token(b"upgraded", b"upgrade"));
        assert!(contains_ignore_case(b"xClosey", b"close"));
        assert!(contains_ignore_case(b"clclose", b"close"));
        assert!(contains_ignore_case(b"CLOSE", b"close"));
        assert!(!contains_ignore_case(b"clos", b"close"));
        assert!(!contains_ignore_case(b"", b"close"));
    }
}
