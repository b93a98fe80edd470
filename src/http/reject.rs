//! Why a head is refused.

use super::chars::{self, TEXT, TOKEN};

/// What is wrong with a head in either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    BareLf,
    BareCr,
    Nul,
    ObsFold,
    SpaceBeforeColon,
    FieldName,
    FieldValue,
    /// A field that must stand once stands twice.
    DoubledField,
    ContentLength,
    DoubledContentLength,
    /// Content-Length together with Transfer-Encoding.
    LengthAndCoding,
    /// Transfer-Encoding in HTTP/1.0.
    CodingInHttp10,
    /// A Transfer-Encoding that is no list of codings, or where chunked is not last and once.
    TransferEncoding,
    /// A transfer coding other than chunked.
    UnknownCoding,
    /// More Connection options than anyone needs.
    ConnectionOptions,
    HeadBytes,
    HeaderCount,
}

impl Malformed {
    pub const fn message(self) -> &'static str {
        match self {
            Malformed::BareLf => "a line of the head ends with a bare LF",
            Malformed::BareCr => "the head contains a CR without LF",
            Malformed::Nul => "the head contains a NUL byte",
            Malformed::ObsFold => "a header field is folded over several lines",
            Malformed::SpaceBeforeColon => "white space stands between a header name and its colon",
            Malformed::FieldName => "a header name contains an invalid character",
            Malformed::FieldValue => "a header value contains a control character",
            Malformed::DoubledField => "a header field that must stand once stands twice",
            Malformed::ContentLength => "Content-Length is not a number of bytes",
            Malformed::DoubledContentLength => "Content-Length stands twice",
            Malformed::LengthAndCoding => "Content-Length and Transfer-Encoding stand together",
            Malformed::CodingInHttp10 => "Transfer-Encoding does not exist in HTTP/1.0",
            Malformed::TransferEncoding => "Transfer-Encoding does not end with a single chunked",
            Malformed::UnknownCoding => "the only transfer coding supported is chunked",
            Malformed::ConnectionOptions => "the Connection field has too many options",
            Malformed::HeadBytes => "the head is too long",
            Malformed::HeaderCount => "the head has too many header fields",
        }
    }

    const fn status(self) -> u16 {
        match self {
            Malformed::UnknownCoding => 501,
            Malformed::HeadBytes | Malformed::HeaderCount => 431,
            _ => 400,
        }
    }
}

/// Why a request head is refused: the client's fault, never retried. Answer with
/// [`Reject::status`], then close: the next request's start is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    Malformed(Malformed),
    /// More than one empty line before the request line.
    EmptyLines,
    Method,
    Target,
    TargetBytes,
    /// No `HTTP/1.x` where the version belongs.
    RequestLine,
    Version,
    Connect,
    MissingHost,
    DoubledHost,
    Host,
    /// The target names another host than the Host field, or the only one.
    OtherHost,
    Expectation,
}

impl From<Malformed> for Reject {
    fn from(fault: Malformed) -> Reject {
        Reject::Malformed(fault)
    }
}

impl Reject {
    /// The HTTP status to answer with.
    pub const fn status(self) -> u16 {
        match self {
            Reject::Malformed(fault) => fault.status(),
            Reject::TargetBytes => 414,
            Reject::Expectation => 417,
            Reject::Connect => 501,
            Reject::Version => 505,
            _ => 400,
        }
    }

    /// One sentence for the client, without a full stop.
    pub const fn message(self) -> &'static str {
        match self {
            Reject::Malformed(fault) => fault.message(),
            Reject::EmptyLines => "more than one empty line stands before the request line",
            Reject::Method => "the method is not a token",
            Reject::Target => "the request target is not a path or an http URL",
            Reject::TargetBytes => "the request target is too long",
            Reject::RequestLine => "the request line does not end with an HTTP version",
            Reject::Version => "the HTTP version is not supported",
            Reject::Connect => "CONNECT is not supported",
            Reject::MissingHost => "the Host field is missing",
            Reject::DoubledHost => "the Host field stands twice",
            Reject::Host => "the Host field is not a host with an optional port",
            Reject::OtherHost => "the request target and the Host field do not name the same host",
            Reject::Expectation => "the only expectation supported is 100-continue",
        }
    }
}

/// Why an upstream's response head is refused: the backend's fault. The connection must be
/// closed; the request may be tried elsewhere, and the client sees 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadResponse {
    Malformed(Malformed),
    /// The status line is not `HTTP/1.x NNN reason`.
    StatusLine,
    /// A status outside 100..=599.
    Status,
    /// 101: nobody asked to switch protocols.
    SwitchingProtocols,
}

impl From<Malformed> for BadResponse {
    fn from(fault: Malformed) -> BadResponse {
        BadResponse::Malformed(fault)
    }
}

impl BadResponse {
    pub const fn message(self) -> &'static str {
        match self {
            BadResponse::Malformed(fault) => fault.message(),
            BadResponse::StatusLine => "the status line is malformed",
            BadResponse::Status => "the status is not between 100 and 599",
            BadResponse::SwitchingProtocols => "the upstream switched protocols unasked",
        }
    }
}

impl std::fmt::Display for Reject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.message())
    }
}

impl std::fmt::Display for BadResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Reject {}
impl std::error::Error for BadResponse {}

/// Names the first thing wrong with the lines of `head` (which may hold a body's start behind the
/// head), once httparse has refused it. Off the hot path.
pub(super) fn diagnose(head: &[u8]) -> Option<Malformed> {
    head.split_inclusive(|&byte| byte == b'\n')
        .take_while(|line| *line != b"\r\n" && *line != b"\n")
        .enumerate()
        .find_map(|(number, line)| line_fault(line, number > 0))
}

/// What is wrong with one line, which may be the start of one. Of a first line only its end and
/// its control characters are looked at here.
fn line_fault(line: &[u8], is_field: bool) -> Option<Malformed> {
    let text = match line {
        [text @ .., b'\r', b'\n'] => text,
        [.., b'\n'] => return Some(Malformed::BareLf),
        [text @ .., b'\r'] => text,
        text => text,
    };
    match text {
        _ if text.contains(&b'\r') => Some(Malformed::BareCr),
        _ if text.contains(&0) => Some(Malformed::Nul),
        [b' ' | b'\t', ..] if is_field => Some(Malformed::ObsFold),
        _ if is_field => field_fault(text, line.ends_with(b"\n")),
        _ => None,
    }
}

/// What is wrong with the text of a field line.
fn field_fault(text: &[u8], whole: bool) -> Option<Malformed> {
    let colon = memchr::memchr(b':', text);
    let (name, value) = text.split_at(colon.unwrap_or(text.len()));
    let named = chars::all(name, TOKEN) && !(name.is_empty() && colon.is_some());
    match name {
        [.., b' ' | b'\t'] if colon.is_some() => Some(Malformed::SpaceBeforeColon),
        _ if !named || (whole && colon.is_none()) => Some(Malformed::FieldName),
        _ if !chars::all(value, TEXT) => Some(Malformed::FieldValue),
        _ => None,
    }
}

/// Refuses a bare LF anywhere in the start of a head.
pub(super) fn bare_lf(head: &[u8]) -> Result<(), Malformed> {
    let bare = memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r');
    if bare { Err(Malformed::BareLf) } else { Ok(()) }
}
