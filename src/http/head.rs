//! What a parsed head is made of.

use super::known::Known;
use super::span::Span;

/// No head may be longer, whatever the configuration says: positions are `u32`.
pub const HEAD_BYTES_CAP: usize = 1 << 20;

/// No head may have more fields, whatever the configuration says: they are parsed on the stack.
pub const HEADER_COUNT_CAP: usize = 256;

/// Limits on a head; each is clamped to its cap above.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// The whole head in bytes: an empty line before it and the blank line after it included.
    pub head_bytes_max: usize,
    pub header_count_max: usize,
    pub target_bytes_max: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    #[default]
    Other,
}

impl Method {
    /// Methods are case-sensitive (RFC 9110 section 9.1).
    pub(super) fn recognise(name: &str) -> Method {
        match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "OPTIONS" => Method::Options,
            "PATCH" => Method::Patch,
            _ => Method::Other,
        }
    }

    /// The name on the request line; `OTHER` for a method that has no variant.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Patch => "PATCH",
            Method::Other => "OTHER",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    Http10,
    #[default]
    Http11,
}

/// How the end of a body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// Content-Length, in bytes.
    Length(u64),
    Chunked,
    /// The body is all that comes until the connection ends; responses only.
    UntilClose,
}

impl Framing {
    /// Whether body bytes follow the head.
    pub fn has_body(self) -> bool {
        !matches!(self, Framing::None | Framing::Length(0))
    }
}

/// One header field. The value is trimmed and free of control characters except tab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: Span,
    pub value: Span,
    pub known: Known,
    /// The Connection field names this one, so it goes no further (RFC 9110 section 7.6.1).
    pub hop: bool,
}

/// Whether a head stands whole in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    Complete,
    Partial,
}

/// A parsed request head; spans point into the buffer that was parsed. Reuse it from one request
/// to the next. After `Partial` or an error the content means nothing.
#[derive(Debug, Default)]
pub struct RequestHead {
    pub method: Method,
    /// The method as sent.
    pub method_name: Span,
    /// The request target as sent: `/path?query`, `http://host/path?query` or `*`.
    pub target: Span,
    /// The target's path without query; empty for `*` and for `http://host`.
    pub path: Span,
    /// The query with its question mark; empty when there is none.
    pub query: Span,
    pub version: Version,
    pub framing: Framing,
    /// Whether the client wants the connection kept.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends its body.
    pub expect_continue: bool,
    pub fields: Vec<Field>,
    /// Length of the head, blank line (and an empty line before the request line) included.
    pub bytes: usize,
    /// Names present, by [`Known::bit`].
    pub(super) seen: u64,
    /// The head before this one, whose fields these were until it is known how far they repeat.
    pub(super) before: Vec<u8>,
}

impl RequestHead {
    /// The path to route by; `*` for `OPTIONS *`, `/` for a target without a path.
    pub fn path<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        match self.path.of(buf) {
            [] if self.target.of(buf) == b"*" => b"*",
            [] => b"/",
            path => path,
        }
    }

    pub fn has(&self, known: Known) -> bool {
        self.seen & known.bit() != 0
    }

    /// The value of the first field of this name.
    pub fn value<'b>(&self, buf: &'b [u8], known: Known) -> Option<&'b [u8]> {
        first_value(&self.fields, self.seen, buf, known)
    }

    /// Gives back the memory that is kept for the next head.
    pub fn forget(&mut self) {
        self.before = Vec::new();
    }

    /// Readies it for the next head; the fields of the last one stay where they are.
    pub(super) fn renew(&mut self) {
        let (fields, before) = (std::mem::take(&mut self.fields), std::mem::take(&mut self.before));
        *self = RequestHead { fields, before, ..RequestHead::default() };
    }
}

/// A parsed response head; see [`RequestHead`] for its use.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// 100..=599, never 101.
    pub status: u16,
    pub version: Version,
    pub framing: Framing,
    /// Content-Length as declared, also where there is no body to go with it (HEAD, 304).
    pub content_length: Option<u64>,
    /// Whether the connection may be used again after the body's end.
    pub keep_alive: bool,
    /// `Keep-Alive: timeout=N`, in seconds.
    pub keep_alive_timeout_s: Option<u32>,
    pub fields: Vec<Field>,
    /// Length of the head, blank line included.
    pub bytes: usize,
    pub(super) seen: u64,
    pub(super) before: Vec<u8>,
}

impl ResponseHead {
    /// An interim response (1xx): skip its bytes and parse again.
    pub fn interim(&self) -> bool {
        self.status < 200
    }

    pub fn has(&self, known: Known) -> bool {
        self.seen & known.bit() != 0
    }

    /// The value of the first field of this name.
    pub fn value<'b>(&self, buf: &'b [u8], known: Known) -> Option<&'b [u8]> {
        first_value(&self.fields, self.seen, buf, known)
    }

    /// Gives back the memory that is kept for the next head.
    pub fn forget(&mut self) {
        self.before = Vec::new();
    }

    /// Readies it for the next head; the fields of the last one stay where they are.
    pub(super) fn renew(&mut self) {
        let (fields, before) = (std::mem::take(&mut self.fields), std::mem::take(&mut self.before));
        *self = ResponseHead { fields, before, ..ResponseHead::default() };
    }
}

fn first_value<'b>(fields: &[Field], seen: u64, buf: &'b [u8], known: Known) -> Option<&'b [u8]> {
    if seen & known.bit() == 0 {
        return None;
    }
    fields.iter().find(|field| field.known == known).map(|field| field.value.of(buf))
}
