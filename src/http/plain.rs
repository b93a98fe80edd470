//! Heads without anything unusual, in one pass of eight bytes at a time. Most are like that.
//!
//! Invariant: nothing is refused here, and nothing is taken that httparse, with the rules on top of it,
//! would not take with the same result; whatever is not plain is left to it. `tests/plain.rs` compares the
//! two over heads of all kinds.

use super::chars::{self, TOKEN};
use super::fields::Digest;
use super::head::{Field, Method};
use super::known::Known;
use super::span::Span;

const ONES: u64 = 0x0101_0101_0101_0101;
/// The top bit of each byte.
const TOPS: u64 = 0x8080_8080_8080_8080;

/// `GET /… HTTP/1.1` or `POST /… HTTP/1.1`: the method, the target, and where the fields begin.
pub(super) fn request_line(buf: &[u8]) -> Option<(Method, Span, usize)> {
    let (method, start) = match buf {
        [b'P', b'O', b'S', b'T', b' ', b'/', ..] => (Method::Post, 5),
        [b'G', b'E', b'T', b' ', b'/', ..] => (Method::Get, 4),
        _ => return None,
    };
    let end = run::<b'!'>(buf, start);
    let after = end + b" HTTP/1.1\r\n".len();
    (buf.get(end..after)? == b" HTTP/1.1\r\n").then(|| (method, Span::new(start, end), after))
}

/// `HTTP/1.1 200 reason`: the status, and where the fields begin.
pub(super) fn status_line(buf: &[u8]) -> Option<(u16, usize)> {
    let rest = buf.strip_prefix(b"HTTP/1.1 ")?;
    let [a, b, c, b' ', ..] = rest else { return None };
    let digits = [a, b, c].map(|byte| u16::from(byte.wrapping_sub(b'0')));
    let end = run::<b' '>(buf, buf.len() - rest.len() + 4);
    let plain = digits.iter().all(|digit| *digit < 10) && buf.get(end..end + 2)? == b"\r\n";
    plain.then_some((digits[0] * 100 + digits[1] * 10 + digits[2], end + 2))
}

/// The fields from `at` to the blank line, and where that ends. What `fields` holds after `None` means
/// nothing.
pub(super) fn fields(
    buf: &[u8],
    mut at: usize,
    count_max: usize,
    once: u64,
    fields: &mut Vec<Field>,
) -> Option<(Digest, usize)> {
    let mut digest = Digest::default();
    while buf.get(at..at + 2)? != b"\r\n" {
        let (field, next) = line(buf, at)?;
        if fields.len() == count_max || digest.seen & once & field.known.bit() != 0 {
            return None;
        }
        digest.add(field.known, &buf[field.value.range()]).ok()?;
        fields.push(field);
        at = next;
    }
    digest.mark_named(buf, fields);
    Some((digest, at + 2))
}

/// One field line, and where the next one begins.
#[inline(always)]
fn line(buf: &[u8], at: usize) -> Option<(Field, usize)> {
    let colon = name_end(buf, at)?;
    let name = &buf[at..colon];
    let known = Known::recognise(name);
    // Of a name that is known, nothing is left to prove.
    if matches!(known, Known::Other | Known::XForwarded) && !is_token(name) {
        return None;
    }
    let mut start = colon + 1;
    while *buf.get(start)? == b' ' {
        start += 1;
    }
    let line_end = run::<b' '>(buf, start);
    if line_end == start || buf.get(line_end..line_end + 2)? != b"\r\n" {
        return None;
    }
    let mut end = line_end;
    // The first byte is not blank.
    while buf[end - 1] == b' ' {
        end -= 1;
    }
    let (name, value) = (Span::new(at, colon), Span::new(start, end));
    Some((Field { name, value, known, hop: false }, line_end + 2))
}

fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && chars::all(name, TOKEN)
}

/// Where the colon stands, if visible characters and blanks alone stand before it.
#[inline(always)]
fn name_end(buf: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let word = word(buf, at);
        let other = word ^ (ONES * b':' as u64);
        let colon = other.wrapping_sub(ONES) & !other & TOPS;
        let ends = colon | outside::<b' '>(word);
        // What borrows and carries mark wrongly stands behind what is marked rightly.
        if ends != 0 {
            let first = ends & ends.wrapping_neg();
            return (colon & first != 0).then(|| at + first.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
}

/// The first byte from `at` on that is less than `LEAST` or no visible ASCII; the end if there is none.
#[inline(always)]
fn run<const LEAST: u8>(buf: &[u8], mut at: usize) -> usize {
    loop {
        let ends = outside::<LEAST>(word(buf, at));
        if ends != 0 {
            return at + ends.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
}

/// Marks the bytes that are less than `LEAST` or more than `~`; of those marked, the first is right.
#[inline(always)]
fn outside<const LEAST: u8>(word: u64) -> u64 {
    let less = word.wrapping_sub(ONES * LEAST as u64);
    (less | word.wrapping_add(ONES) | word) & TOPS
}

/// Eight bytes from `at` on, the first one lowest; zeros stand for what is beyond the end.
#[inline(always)]
fn word(buf: &[u8], at: usize) -> u64 {
    let rest = buf.get(at..).unwrap_or_default();
    match rest.first_chunk::<8>() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => last_word(rest),
    }
}

#[cold]
fn last_word(rest: &[u8]) -> u64 {
    rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}
