//! Parsing of request heads (RFC 9112 sections 2, 3 and 6), stricter than httparse.

use std::mem::MaybeUninit;

use super::chars::{self, HOST};
use super::fields::{self, Digest};
use super::head::{
    Framing, HEAD_BYTES_CAP, HEADER_COUNT_CAP, HeadLimits, Method, Parsed, RequestHead, Version,
};
use super::known::{Known, same};
use super::plain;
use super::reject::{Malformed, Reject, bare_lf, diagnose};
use super::span::Span;

/// Fields that two readers of one request would read differently if they stood twice.
const ONCE: u64 = Known::Authorization.bit()
    | Known::XApiKey.bit()
    | Known::ApiKey.bit()
    | Known::ContentType.bit();

/// Parses the request head at the start of `buf` into `out`.
///
/// `Partial` asks for more bytes; call again with all bytes so far. A head that is beyond a limit
/// or already wrong is refused without waiting for its end.
pub fn parse_request(
    buf: &[u8],
    limits: &HeadLimits,
    out: &mut RequestHead,
) -> Result<Parsed, Reject> {
    out.renew();
    let window = &buf[..buf.len().min(limits.head_bytes_max.min(HEAD_BYTES_CAP))];
    if plain_request(window, limits, out)? {
        return Ok(Parsed::Complete);
    }
    out.fields.clear();
    by_httparse(buf, limits, out)
}

/// Parses any head, into an `out` that is clear.
pub(super) fn by_httparse(
    buf: &[u8],
    limits: &HeadLimits,
    out: &mut RequestHead,
) -> Result<Parsed, Reject> {
    let Some(skip) = empty_line(buf)? else { return Ok(Parsed::Partial) };
    let head_bytes_max = limits.head_bytes_max.min(HEAD_BYTES_CAP);
    let window = &buf[..buf.len().min(head_bytes_max)];
    let line = window.get(skip..).unwrap_or_default();

    let mut slots = [const { MaybeUninit::uninit() }; HEADER_COUNT_CAP];
    let slots = &mut slots[..limits.header_count_max.min(HEADER_COUNT_CAP)];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(line, slots) {
        Ok(httparse::Status::Complete(bytes)) => {
            out.bytes = skip + bytes;
            complete(window, limits, &request, out)?;
            Ok(Parsed::Complete)
        }
        Ok(httparse::Status::Partial) => {
            partial(line, limits, &request)?;
            if buf.len() >= head_bytes_max {
                return Err(Malformed::HeadBytes.into());
            }
            Ok(Parsed::Partial)
        }
        Err(error) => Err(refuse(line, limits, &request, error)),
    }
}

/// How many bytes of an empty line to skip before the request line: one is forgiven (RFC 9112
/// section 2.2). `None` while that cannot be told.
fn empty_line(buf: &[u8]) -> Result<Option<usize>, Reject> {
    match buf {
        [] | [b'\r'] | [b'\r', b'\n'] => Ok(None),
        [b'\r', b'\n', b'\r' | b'\n', ..] => Err(Reject::EmptyLines),
        [b'\r', b'\n', ..] => Ok(Some(2)),
        [b'\r', ..] => Err(Malformed::BareCr.into()),
        [b'\n', ..] => Err(Malformed::BareLf.into()),
        _ => Ok(Some(0)),
    }
}

fn complete(
    buf: &[u8],
    limits: &HeadLimits,
    request: &httparse::Request<'_, '_>,
    out: &mut RequestHead,
) -> Result<(), Reject> {
    if !buf[..out.bytes].ends_with(b"\r\n\r\n") {
        return Err(Malformed::BareLf.into());
    }
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    out.method = Method::recognise(method);
    out.method_name = Span::within(buf, method.as_bytes());
    out.target = Span::within(buf, target.as_bytes());
    out.version = if request.version == Some(0) { Version::Http10 } else { Version::Http11 };
    read_target(buf, limits, out)?;
    let digest = fields::collect(buf, request.headers, ONCE, &mut out.fields)?;
    conclude(buf, digest, out)
}

/// Takes a head that is whole and plain; `false`: httparse must look at it.
fn plain_request(buf: &[u8], limits: &HeadLimits, out: &mut RequestHead) -> Result<bool, Reject> {
    let before = std::mem::take(&mut out.before);
    let Some((method, target, at)) = plain::request_line(buf) else { return Ok(false) };
    let bounds =
        plain::Bounds { count_max: limits.header_count_max.min(HEADER_COUNT_CAP), once: ONCE };
    let Some((digest, bytes)) = plain::fields(buf, at, bounds, &before, &mut out.fields) else {
        return Ok(false);
    };
    (out.method, out.target, out.bytes) = (method, target, bytes);
    out.method_name = Span::new(0, target.start as usize - 1);
    read_target(buf, limits, out)?;
    conclude(buf, digest, out)?;
    out.before = plain::kept(before, &buf[..bytes]);
    Ok(true)
}

/// What the fields say together.
fn conclude(buf: &[u8], digest: Digest, out: &mut RequestHead) -> Result<(), Reject> {
    check_host(buf, out, &digest)?;
    out.framing = digest.framing(out.version)?.unwrap_or(Framing::None);
    out.keep_alive = digest.persistent(out.version);
    out.seen = digest.seen;
    out.expect_continue = expectation(buf, out)?;
    Ok(())
}

/// What can be said of a head whose end has not come.
fn partial(
    line: &[u8],
    limits: &HeadLimits,
    request: &httparse::Request<'_, '_>,
) -> Result<(), Reject> {
    if target_so_far(line, request) > limits.target_bytes_max {
        return Err(Reject::TargetBytes);
    }
    Ok(bare_lf(line)?)
}

/// Bytes of the request target that have come.
fn target_so_far(line: &[u8], request: &httparse::Request<'_, '_>) -> usize {
    match (request.method, request.path) {
        (_, Some(target)) => target.len(),
        (Some(method), None) => {
            let rest = line.get(method.len() + 1..).unwrap_or_default();
            memchr::memchr2(b' ', b'\r', rest).unwrap_or(rest.len())
        }
        (None, None) => 0,
    }
}

#[cold]
fn refuse(
    line: &[u8],
    limits: &HeadLimits,
    request: &httparse::Request<'_, '_>,
    error: httparse::Error,
) -> Reject {
    use httparse::Error;
    if target_so_far(line, request) > limits.target_bytes_max {
        return Reject::TargetBytes;
    }
    match error {
        Error::Token if request.method.is_none() => Reject::Method,
        Error::Token if line_ends_after_target(line, request) => Reject::RequestLine,
        Error::Token => Reject::Target,
        Error::Version | Error::Status => version_fault(line, request),
        Error::NewLine => diagnose(line).map_or(Reject::RequestLine, Reject::from),
        Error::HeaderName => diagnose(line).unwrap_or(Malformed::FieldName).into(),
        Error::HeaderValue => diagnose(line).unwrap_or(Malformed::FieldValue).into(),
        Error::TooManyHeaders => Malformed::HeaderCount.into(),
    }
}

/// Whether the request line has no version at all, as in HTTP/0.9.
fn line_ends_after_target(line: &[u8], request: &httparse::Request<'_, '_>) -> bool {
    let target = line.get(request.method.map_or(0, str::len) + 1..).unwrap_or_default();
    let end = target.iter().find(|byte| !byte.is_ascii_graphic());
    matches!(end, Some(b'\r' | b'\n'))
}

/// A version that we do not speak, or something that is no version.
fn version_fault(line: &[u8], request: &httparse::Request<'_, '_>) -> Reject {
    let before = request.method.map_or(0, str::len) + request.path.map_or(0, str::len) + 2;
    match line.get(before..) {
        Some([b'H', b'T', b'T', b'P', b'/', digit, ..]) if digit.is_ascii_digit() => {
            Reject::Version
        }
        _ => Reject::RequestLine,
    }
}

/// Splits the target into path and query (RFC 9112 section 3.2).
fn read_target(buf: &[u8], limits: &HeadLimits, out: &mut RequestHead) -> Result<(), Reject> {
    let target = out.target.of(buf);
    if target.len() > limits.target_bytes_max {
        return Err(Reject::TargetBytes);
    }
    // A fragment is no part of a request target, and readers differ on what to do with one.
    if !target.is_ascii() || memchr::memchr(b'#', target).is_some() {
        return Err(Reject::Target);
    }
    let start = out.target.start as usize;
    let path_at = match target {
        [b'/', ..] => 0,
        b"*" if out.method == Method::Options => {
            (out.path, out.query) = (Span::new(start, start), Span::new(start + 1, start + 1));
            return Ok(());
        }
        _ => authority_end(out.method_name.of(buf), target)?,
    };
    let end = out.target.end as usize;
    let query_at = memchr::memchr(b'?', target).map_or(end, |at| start + at);
    out.path = Span::new(start + path_at, query_at);
    out.query = Span::new(query_at, end);
    Ok(())
}

/// Where the path (or the query) starts in `http://host[:port]/path`.
#[cold]
fn authority_end(method: &[u8], target: &[u8]) -> Result<usize, Reject> {
    if method == b"CONNECT" {
        return Err(Reject::Connect);
    }
    let scheme = ["http://", "https://"].into_iter().find(|scheme| {
        target.get(..scheme.len()).is_some_and(|start| same(start, scheme.as_bytes()))
    });
    let authority_at = scheme.ok_or(Reject::Target)?.len();
    let authority = &target[authority_at..];
    let len = memchr::memchr2(b'/', b'?', authority).unwrap_or(authority.len());
    if !is_host(&authority[..len]) {
        return Err(Reject::Target);
    }
    Ok(authority_at + len)
}

fn check_host(buf: &[u8], out: &RequestHead, digest: &Digest) -> Result<(), Reject> {
    let meant = authority(buf, out);
    if digest.seen & Known::Host.bit() == 0 {
        return match (out.version, meant) {
            (Version::Http11, _) => Err(Reject::MissingHost),
            (_, Some(_)) => Err(Reject::OtherHost),
            (_, None) => Ok(()),
        };
    }
    let mut hosts = out.fields.iter().filter(|field| field.known == Known::Host);
    let host = hosts.next().map_or(&b""[..], |field| field.value.of(buf));
    if hosts.next().is_some() {
        return Err(Reject::DoubledHost);
    }
    match meant {
        _ if !is_host(host) => Err(Reject::Host),
        // The target would prevail (RFC 9112 section 3.2.2), but not with every reader.
        Some(meant) if !meant.eq_ignore_ascii_case(host) => Err(Reject::OtherHost),
        _ => Ok(()),
    }
}

/// The `host[:port]` of a target in absolute form.
#[inline]
fn authority<'b>(buf: &'b [u8], out: &RequestHead) -> Option<&'b [u8]> {
    if out.path.start == out.target.start {
        return None;
    }
    let before = &buf[out.target.start as usize..out.path.start as usize];
    memchr::memmem::find(before, b"://").map(|at| &before[at + 3..])
}

/// `host [":" port]` (RFC 3986 section 3.2.2) without user information. An empty host must be
/// rejected (RFC 9110 section 4.2.1).
fn is_host(text: &[u8]) -> bool {
    let (host, rest) = match text {
        [b'[', ..] => {
            let Some(close) = memchr::memchr(b']', text) else { return false };
            let literal = &text[1..close];
            let inside = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            if !literal.iter().all(inside) {
                return false;
            }
            (literal, &text[close + 1..])
        }
        _ => {
            let end = text.iter().position(|&byte| !chars::is(byte, HOST)).unwrap_or(text.len());
            text.split_at(end)
        }
    };
    let port_fits = match rest {
        [] => true,
        [b':', port @ ..] => port.len() <= 5 && port.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    !host.is_empty() && port_fits
}

/// Whether the client waits for `100 Continue` (RFC 9110 section 10.1.1: an expectation in
/// HTTP/1.0 is ignored, and without a body there is nothing to wait for).
fn expectation(buf: &[u8], out: &RequestHead) -> Result<bool, Reject> {
    if !out.has(Known::Expect) {
        return Ok(false);
    }
    let mut values = out.fields.iter().filter(|field| field.known == Known::Expect);
    if !values.all(|field| same(field.value.of(buf), b"100-continue")) {
        return Err(Reject::Expectation);
    }
    Ok(out.version == Version::Http11 && out.framing.has_body())
}
