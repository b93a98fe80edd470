//! Parsing of response heads (RFC 9112 sections 4 and 6), as strict as for requests.

use std::mem::MaybeUninit;

use super::fields::{self, Digest};
use super::head::{
    Framing, HEAD_BYTES_CAP, HEADER_COUNT_CAP, HeadLimits, Parsed, ResponseHead, Version,
};
use super::known::{Known, same};
use super::plain;
use super::reject::{BadResponse, Malformed, bare_lf, diagnose};

/// Parses the response head at the start of `buf` into `out`.
///
/// Interim responses (1xx) are complete heads without body: skip `out.bytes` and parse again.
/// `request_was_head` says that no body follows, whatever the fields say.
pub fn parse_response(
    buf: &[u8],
    limits: &HeadLimits,
    request_was_head: bool,
    out: &mut ResponseHead,
) -> Result<Parsed, BadResponse> {
    out.renew();
    let window = &buf[..buf.len().min(limits.head_bytes_max.min(HEAD_BYTES_CAP))];
    if plain_response(window, limits, request_was_head, out)? {
        return Ok(Parsed::Complete);
    }
    out.fields.clear();
    by_httparse(buf, limits, request_was_head, out)
}

/// Parses any head, into an `out` that is clear.
pub(super) fn by_httparse(
    buf: &[u8],
    limits: &HeadLimits,
    request_was_head: bool,
    out: &mut ResponseHead,
) -> Result<Parsed, BadResponse> {
    // httparse would skip empty lines; nothing may stand before a status line.
    if matches!(buf, [b'\r' | b'\n', ..]) {
        return Err(BadResponse::StatusLine);
    }
    let head_bytes_max = limits.head_bytes_max.min(HEAD_BYTES_CAP);
    let window = &buf[..buf.len().min(head_bytes_max)];
    let mut slots = [const { MaybeUninit::uninit() }; HEADER_COUNT_CAP];
    let slots = &mut slots[..limits.header_count_max.min(HEADER_COUNT_CAP)];
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    match parser.parse_response_with_uninit_headers(&mut response, window, slots) {
        Ok(httparse::Status::Complete(bytes)) => {
            out.bytes = bytes;
            complete(window, &response, request_was_head, out)?;
            Ok(Parsed::Complete)
        }
        Ok(httparse::Status::Partial) => {
            bare_lf(window)?;
            if buf.len() >= head_bytes_max {
                return Err(Malformed::HeadBytes.into());
            }
            Ok(Parsed::Partial)
        }
        Err(error) => Err(refuse(window, error)),
    }
}

fn complete(
    buf: &[u8],
    response: &httparse::Response<'_, '_>,
    request_was_head: bool,
    out: &mut ResponseHead,
) -> Result<(), BadResponse> {
    if !buf[..out.bytes].ends_with(b"\r\n\r\n") {
        return Err(Malformed::BareLf.into());
    }
    out.status = response.code.unwrap_or_default();
    out.version = if response.version == Some(0) { Version::Http10 } else { Version::Http11 };
    check_status(out.status)?;
    let digest = fields::collect(buf, response.headers, 0, &mut out.fields)?;
    conclude(buf, digest, request_was_head, out)
}

/// Takes a head that is whole and plain; `false`: httparse must look at it.
fn plain_response(
    buf: &[u8],
    limits: &HeadLimits,
    request_was_head: bool,
    out: &mut ResponseHead,
) -> Result<bool, BadResponse> {
    let before = std::mem::take(&mut out.before);
    let Some((status, at)) = plain::status_line(buf) else { return Ok(false) };
    let bounds =
        plain::Bounds { count_max: limits.header_count_max.min(HEADER_COUNT_CAP), once: 0 };
    let Some((digest, bytes)) = plain::fields(buf, at, bounds, &before, &mut out.fields) else {
        return Ok(false);
    };
    (out.status, out.bytes) = (status, bytes);
    check_status(status)?;
    conclude(buf, digest, request_was_head, out)?;
    out.before = plain::kept(before, &buf[..bytes]);
    Ok(true)
}

fn check_status(status: u16) -> Result<(), BadResponse> {
    match status {
        101 => Err(BadResponse::SwitchingProtocols),
        100..=599 => Ok(()),
        _ => Err(BadResponse::Status),
    }
}

/// What the fields say together.
fn conclude(
    buf: &[u8],
    digest: Digest,
    request_was_head: bool,
    out: &mut ResponseHead,
) -> Result<(), BadResponse> {
    out.seen = digest.seen;
    out.content_length = digest.content_length;
    out.framing = framing(&digest, request_was_head, out)?;
    out.keep_alive = digest.persistent(out.version) && out.framing != Framing::UntilClose;
    out.keep_alive_timeout_s = out.value(buf, Known::KeepAlive).and_then(timeout_of);
    Ok(())
}

/// RFC 9112 section 6.3, in its order; contradictions are refused even where no body follows.
fn framing(
    digest: &Digest,
    request_was_head: bool,
    out: &ResponseHead,
) -> Result<Framing, Malformed> {
    let declared = digest.framing(out.version)?;
    if request_was_head || matches!(out.status, 100..=199 | 204 | 304) {
        return Ok(Framing::None);
    }
    Ok(declared.unwrap_or(Framing::UntilClose))
}

#[cold]
fn refuse(head: &[u8], error: httparse::Error) -> BadResponse {
    use httparse::Error;
    match error {
        Error::NewLine => diagnose(head).map_or(BadResponse::StatusLine, BadResponse::from),
        Error::HeaderName => diagnose(head).unwrap_or(Malformed::FieldName).into(),
        Error::HeaderValue => diagnose(head).unwrap_or(Malformed::FieldValue).into(),
        Error::TooManyHeaders => Malformed::HeaderCount.into(),
        Error::Status | Error::Token | Error::Version => BadResponse::StatusLine,
    }
}

/// `timeout=N` of a Keep-Alive field, in seconds.
fn timeout_of(value: &[u8]) -> Option<u32> {
    value.split(|&byte| byte == b',').find_map(|parameter| {
        let (name, digits) = fields::trim(parameter).split_at_checked(8)?;
        if !same(name, b"timeout=") {
            return None;
        }
        std::str::from_utf8(digits).ok()?.parse().ok()
    })
}
