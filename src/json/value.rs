//! What a scanned value says.
//!
//! Everything here expects a value that a scan of the same body gave out. With another body the
//! answers are meaningless, but nothing panics.

use std::borrow::Cow;
use std::ops::Range;

use super::scan::{is_space, value_at};
use super::{Kind, Value};

/// The string that `value` means, borrowed from the body unless it has escapes. A value that is no
/// string gives its text as it stands.
pub fn string_value<'a>(body: &'a [u8], value: &Value) -> Cow<'a, str> {
    let text = body.get(value.span.clone()).unwrap_or_default();
    let text = match std::str::from_utf8(text) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(text),
    };
    let (Kind::String { escaped }, Cow::Borrowed(text)) = (value.kind, &text) else {
        return text;
    };
    let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
    if escaped { unescaped(inner) } else { Cow::Borrowed(inner) }
}

/// The whole number that `value` is, if it is written as one (no fraction, no exponent, no sign) and
/// fits.
pub fn u64_value(body: &[u8], value: &Value) -> Option<u64> {
    if value.kind != Kind::Number {
        return None;
    }
    let digits = body.get(value.span.clone())?;
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The elements of the array at `span` of an already scanned `body`, in order. Spans count from the
/// start of the body. Ends early if the text there is no array.
pub fn elements(body: &[u8], span: Range<usize>) -> Elements<'_> {
    let body = body.get(..span.end).unwrap_or(body);
    Elements { body, at: span.start, before: b'[' }
}

/// See [`elements`].
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    /// The body up to the end of the array.
    body: &'a [u8],
    at: usize,
    /// What must stand before the next element: the bracket, or a comma.
    before: u8,
}

impl Iterator for Elements<'_> {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        self.skip_space();
        if *self.body.get(self.at)? != self.before {
            return None;
        }
        self.at += 1;
        self.before = b',';
        self.skip_space();
        let value = value_at(self.body, self.at..self.body.len()).ok()?;
        self.at = value.span.end;
        Some(value)
    }
}

impl Elements<'_> {
    fn skip_space(&mut self) {
        while self.body.get(self.at).copied().is_some_and(is_space) {
            self.at += 1;
        }
    }
}

/// What the inside of a JSON string means. Escapes that a scan would have refused come out as U+FFFD.
pub(super) fn unescaped(inner: &str) -> Cow<'_, str> {
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.push_str(plain);
        let (meaning, len) = escape_meaning(escape);
        out.push(meaning);
        rest = escape.get(len..).unwrap_or_default();
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The character that an escape stands for, and its length in bytes, both without the backslash.
fn escape_meaning(escape: &str) -> (char, usize) {
    match escape.as_bytes().first() {
        Some(b'b') => ('\u{8}', 1),
        Some(b'f') => ('\u{c}', 1),
        Some(b'n') => ('\n', 1),
        Some(b'r') => ('\r', 1),
        Some(b't') => ('\t', 1),
        Some(b'u') => unicode_meaning(escape),
        Some(byte @ (b'"' | b'\\' | b'/')) => (char::from(*byte), 1),
        _ => (char::REPLACEMENT_CHARACTER, 0),
    }
}

/// The same for an escape that begins with `u`: one code unit, or two that form a pair.
fn unicode_meaning(escape: &str) -> (char, usize) {
    let unit = |at: usize| u16::from_str_radix(escape.get(at..at + 4)?, 16).ok();
    let low = if escape.get(5..7) == Some("\\u") { unit(7) } else { None };
    match (unit(1), low) {
        (Some(high @ 0xd800..=0xdbff), Some(low)) => {
            let meaning = char::decode_utf16([high, low]).next().and_then(Result::ok);
            meaning.map_or((char::REPLACEMENT_CHARACTER, 5), |meaning| (meaning, 11))
        }
        (Some(unit), _) => (char::from_u32(unit.into()).unwrap_or(char::REPLACEMENT_CHARACTER), 5),
        (None, _) => (char::REPLACEMENT_CHARACTER, 1),
    }
}
