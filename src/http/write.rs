//! Writing heads and chunk framing. What is written is proven well-formed by its type, so that no
//! value can smuggle a line end into a head.

use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use httpdate::HttpDate;

use super::chars::{self, TARGET, TEXT, TOKEN};
use super::head::{Field, Method, RequestHead};

/// A header name: a non-empty token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldName<'a>(&'a [u8]);

impl<'a> FieldName<'a> {
    pub const fn new(name: &'a [u8]) -> Option<FieldName<'a>> {
        if name.is_empty() || !chars::all(name, TOKEN) { None } else { Some(FieldName(name)) }
    }

    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// A header value: visible characters, blanks and bytes beyond ASCII; no blank at either end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldValue<'a>(&'a [u8]);

impl<'a> FieldValue<'a> {
    pub const fn new(value: &'a [u8]) -> Option<FieldValue<'a>> {
        if matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t']) || !chars::all(value, TEXT) {
            return None;
        }
        Some(FieldValue(value))
    }

    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// A piece of a request target: visible ASCII without a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetPart<'a>(&'a [u8]);

impl<'a> TargetPart<'a> {
    pub const fn new(text: &'a [u8]) -> Option<TargetPart<'a>> {
        if chars::all(text, TARGET) { Some(TargetPart(text)) } else { None }
    }

    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// The last second that has four digits for its year.
const DATE_SECONDS_MAX: u64 = 253_402_300_799;

/// Appends the field that says when an answer was made (RFC 9110 section 6.6.1).
pub fn date(out: &mut Vec<u8>, unix_seconds: u64) {
    let since = Duration::from_secs(unix_seconds.min(DATE_SECONDS_MAX));
    out.extend_from_slice(b"date: ");
    // Writing into a Vec cannot fail.
    let _ = write!(out, "{}", HttpDate::from(UNIX_EPOCH + since));
    out.extend_from_slice(b"\r\n");
}

/// The query of a parsed request, question mark included: the parser proved it.
pub fn parsed_query<'a>(buf: &'a [u8], head: &RequestHead) -> TargetPart<'a> {
    TargetPart(head.query.of(buf))
}

/// Appends `METHOD target HTTP/1.1`; the target is its parts in a row.
pub fn request_line(out: &mut Vec<u8>, method: Method, target: &[TargetPart<'_>]) {
    out.extend_from_slice(method.name().as_bytes());
    out.push(b' ');
    target.iter().for_each(|part| out.extend_from_slice(part.0));
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Appends `HTTP/1.1 status reason`.
pub fn status_line(out: &mut Vec<u8>, status: u16) {
    if status == 200 {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends `name: value`.
pub fn field(out: &mut Vec<u8>, name: FieldName<'_>, value: FieldValue<'_>) {
    line(out, name.0, value.0);
}

/// Appends `name: number`.
pub fn number_field(out: &mut Vec<u8>, name: FieldName<'_>, value: u64) {
    out.extend_from_slice(name.0);
    out.extend_from_slice(b": ");
    number(out, value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a parsed field of `buf` as it was sent: the parser proved it.
pub fn parsed_field(out: &mut Vec<u8>, buf: &[u8], field: &Field) {
    let (name, value) = (field.name.range(), field.value.range());
    // Written as we would write it, as most are, it is copied in one piece.
    if let Some(whole) = buf.get(name.start..value.end + 2)
        && buf.get(name.end..value.start) == Some(b": ")
        && whole.ends_with(b"\r\n")
    {
        return out.extend_from_slice(whole);
    }
    line(out, field.name.of(buf), field.value.of(buf));
}

/// Ends a head.
pub fn end_of_head(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends `number` in decimal.
pub fn number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut count = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' | (number % 10) as u8;
        number /= 10;
        count += 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[digits.len() - count..]);
}

/// After the data of each chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// The end of a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Length of [`chunk_line`], so that room can be left in front of data whose length is not known.
pub const CHUNK_LINE_BYTES: usize = 10;

/// The line before a chunk of `size` bytes, of fixed width. A size of zero would end the body, so
/// write no chunk for empty data.
pub const fn chunk_line(size: u32) -> [u8; CHUNK_LINE_BYTES] {
    let mut line = *b"00000000\r\n";
    let mut at = 0;
    while at < 8 {
        line[at] = b"0123456789abcdef"[(size >> (28 - 4 * at) & 15) as usize];
        at += 1;
    }
    line
}

/// Appends `data` as one chunk; nothing for empty data.
pub fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    for piece in data.chunks(u32::MAX as usize) {
        out.extend_from_slice(&chunk_line(piece.len() as u32));
        out.extend_from_slice(piece);
        out.extend_from_slice(CHUNK_END);
    }
}

/// The usual reason phrase (RFC 9110 section 15); empty for a status without one.
pub const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        424 => "Failed Dependency",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        499 => "Client Closed Request",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        529 => "Overloaded",
        _ => "",
    }
}
