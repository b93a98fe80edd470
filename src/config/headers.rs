//! An endpoint's static extra headers.

use super::plan::Endpoint;
use super::reader::{At, Section};
use super::reference;
use super::secret::Secret;

/// Bounds the request head that Sluice writes.
const HEADERS_MAX: usize = 64;
const VALUE_BYTES_MAX: usize = 8192;

/// Headers that frame the message, belong to one hop, or are Sluice's to set on every request.
const OURS: [&str; 19] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-request-id",
];

/// Headers whose value is a credential: only by reference.
const CREDENTIALS: [&str; 5] =
    ["authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// Reads `headers`: names lower-case, values proven fit for the wire.
pub fn read(s: &Section<'_>, has_api_key: bool) -> Vec<(Box<str>, Secret)> {
    let mut headers: Vec<(Box<str>, Secret)> = Vec::new();
    let pairs = s.pairs("headers");
    if pairs.len() > HEADERS_MAX {
        let at = s.given("headers").unwrap_or(s.at);
        s.fault(at, "too many `headers`", format!("keep at most {HEADERS_MAX}"));
    }
    for (name, value) in pairs.into_iter().take(HEADERS_MAX) {
        let Some(name) = check_name(s, name, has_api_key) else { continue };
        let Some(value) = read_value(s, &name, value) else { continue };
        if headers.iter().any(|(known, _)| **known == *name.value) {
            let what = format!("header {:?} stands twice (case does not matter)", name.value);
            s.fault(name.at, what, "keep one of them");
            continue;
        }
        headers.push((name.value.into(), value));
    }
    headers
}

/// Whether clients or servers prove by it who they are: never compared, counted or written down.
pub fn is_credential(name: &str) -> bool {
    CREDENTIALS.contains(&name) || matches!(name, "cookie" | "set-cookie")
}

/// Whether it is a token (RFC 9110 section 5.6.2).
pub fn is_name(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(token)
}

fn check_name(s: &Section<'_>, name: At<&str>, has_api_key: bool) -> Option<At<String>> {
    let lower = name.value.to_ascii_lowercase();
    let (what, fix) = if !is_name(&lower) {
        (format!("{:?} is no header name", name.value), "use letters, digits and hyphens")
    } else if OURS.contains(&lower.as_str()) {
        (format!("header {lower:?} is set by Sluice itself"), "remove it")
    } else if has_api_key && ["authorization", "x-api-key"].contains(&lower.as_str()) {
        (format!("header {lower:?} and `api_key` both carry a credential"), "keep one of them")
    } else {
        return Some(At { at: name.at, value: lower });
    };
    s.fault(name.at, what, fix);
    None
}

fn read_value(s: &Section<'_>, name: &At<String>, value: At<&str>) -> Option<Secret> {
    let credential = CREDENTIALS.contains(&name.value.as_str());
    if credential || reference::is_reference(value.value) {
        return reference::secret(s.reader, &format!("headers.{}", name.value), value);
    }
    // Visible characters and inner spaces or tabs (RFC 9110 section 5.5), ASCII alone: what else a
    // server makes of other bytes is anyone's guess.
    let fits = |b: u8| (0x20..0x7f).contains(&b) || b == b'\t';
    let what = if !value.value.bytes().all(fits) {
        "holds line breaks, control characters or non-ASCII letters"
    } else if value.value.trim() != value.value || value.value.is_empty() {
        "is empty or begins or ends with a space"
    } else if value.value.len() > VALUE_BYTES_MAX {
        "is longer than 8192 bytes"
    } else {
        return Some(Secret::new(value.value));
    };
    s.fault(value.at, format!("the value of header {:?} {what}", name.value), "correct the value");
    None
}

/// The headers' names, for people to read.
pub fn describe(endpoint: &Endpoint) -> String {
    let one = |(name, value): &(Box<str>, Secret)| match value.source() {
        "" => name.to_string(),
        source => format!("{name} ({source})"),
    };
    endpoint.headers.iter().map(one).collect::<Vec<_>>().join(", ")
}
