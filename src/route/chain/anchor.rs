//! Where the anchor of a prompt stands: at the end of its first user message.
//!
//! Invariants: the same offset for every longer conversation that begins with the same bytes, unless
//! there is no user message yet; at most [`SCAN_BYTES_MAX`] are read.

use std::ops::Range;

use crate::json::{Bounds, DEPTH_CEILING, Keys, Kind, elements, scan_nested, string_value};

/// How far the end of the first user message is looked for; if it is not there, the anchor is here.
const SCAN_BYTES_MAX: usize = 256 << 10;
/// The anchor of a prompt without messages.
const PLAIN_BYTES: usize = 2 << 10;

const BOUNDS: Bounds = Bounds { depth_max: DEPTH_CEILING };
const KEYS: Keys<1> = Keys::new(["role"]);

/// The offset in `body` of the anchor of the section at `span`, whose closing bracket may be missing.
pub fn offset(body: &[u8], span: &Range<usize>) -> usize {
    let plain = span.end.min(span.start + PLAIN_BYTES);
    let scanned = span.start..span.end.min(span.start + SCAN_BYTES_MAX);
    let mut after = span.start;
    for element in elements(body, scanned.clone()) {
        if element.kind != Kind::Object {
            return plain;
        }
        after = element.span.end;
        if is_user(body, element.span) {
            return after;
        }
    }
    let messages = after > span.start || begins_with_object(body, span);
    if messages && scanned.end < span.end { scanned.end } else { plain }
}

/// A first message that is longer than what is scanned is no element.
fn begins_with_object(body: &[u8], span: &Range<usize>) -> bool {
    let text = body.get(span.clone()).and_then(|text| text.strip_prefix(b"["));
    text.is_some_and(|text| text.trim_ascii_start().starts_with(b"{"))
}

/// Whether the message at `span` is a user's. Most clients write the role first, so that the message
/// need not be read again.
fn is_user(body: &[u8], span: Range<usize>) -> bool {
    let text = body.get(span.clone()).unwrap_or_default();
    match first_role(text) {
        Some(role) => role.starts_with(b"\"user\""),
        None => scan_nested(body, span, &KEYS, &BOUNDS)
            .ok()
            .and_then(|members| members.get(0).map(|role| string_value(body, role) == "user"))
            .unwrap_or(false),
    }
}

/// What follows the key of a role that stands first.
fn first_role(message: &[u8]) -> Option<&[u8]> {
    let members = message.strip_prefix(b"{")?.trim_ascii_start();
    let value = members.strip_prefix(b"\"role\"")?.trim_ascii_start();
    Some(value.strip_prefix(b":")?.trim_ascii_start())
}
