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
    let end = start + run::<b'!'>(&buf[start..]);
    let after = end + b" HTTP/1.1\r\n".len();
    (buf.get(end..after)? == b" HTTP/1.1\r\n").then(|| (method, Span::new(start, end), after))
}

/// `HTTP/1.1 200 reason`: the status, and where the fields begin.
pub(super) fn status_line(buf: &[u8]) -> Option<(u16, usize)> {
    let rest = buf.strip_prefix(b"HTTP/1.1 ")?;
    let [a, b, c, b' ', ..] = rest else { return None };
    let digits = [a, b, c].map(|byte| u16::from(byte.wrapping_sub(b'0')));
    let end = buf.len() - rest.len() + 4 + run::<b' '>(&rest[4..]);
    let plain = digits.iter().all(|digit| *digit < 10) && buf.get(end..end + 2)? == b"\r\n";
    plain.then_some((digits[0] * 100 + digits[1] * 10 + digits[2], end + 2))
}

/// What bounds the fields of a head.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub count_max: usize,
    /// Names that must not stand twice, by [`Known::bit`].
    pub once: u64,
}

/// The fields from `at` to the blank line, and where that ends. Senders repeat themselves: the lines with
/// which the head `before`, whose fields `fields` has, began are not read again. What `fields` holds after
/// `None` means nothing.
pub(super) fn fields(
    buf: &[u8],
    mut at: usize,
    bounds: Bounds,
    before: &[u8],
    fields: &mut Vec<Field>,
) -> Option<(Digest, usize)> {
    let mut digest = Digest::default();
    let common = common(buf, before);
    fields.truncate(fields.iter().take_while(|field| line_end(field) <= common).count());
    for field in fields.iter_mut() {
        field.hop = false;
        digest.add(field.known, field.value.of(buf)).ok()?;
        at = line_end(field);
    }
    loop {
        let rest = buf.get(at..)?;
        if let [b'\r', b'\n', ..] = rest {
            break;
        }
        let Line { name, start, end, known } = line(rest)?;
        if fields.len() >= bounds.count_max || digest.seen & bounds.once & known.bit() != 0 {
            return None;
        }
        digest.add(known, &rest[start..end]).ok()?;
        let (name, value) = (Span::new(at, at + name), Span::new(at + start, at + end));
        fields.push(Field { name, value, known, hop: false });
        at += end + 2;
    }
    if fields.len() > bounds.count_max {
        return None;
    }
    digest.mark_named(buf, fields);
    Some((digest, at + 2))
}

/// Where the line of a plain field ends.
fn line_end(field: &Field) -> usize {
    field.value.end as usize + 2
}

/// Longest head that is kept for the next one, bytes.
const KEPT_BYTES_MAX: usize = 1024;

/// `head` in the memory of the one before it.
pub(super) fn kept(mut before: Vec<u8>, head: &[u8]) -> Vec<u8> {
    if head.len() > KEPT_BYTES_MAX {
        return Vec::new();
    }
    before.clear();
    before.reserve_exact(head.len());
    before.extend_from_slice(head);
    before
}

/// With how many bytes both begin.
fn common(a: &[u8], b: &[u8]) -> usize {
    let blocks = common_chunks::<32>(a, b);
    let words = blocks + common_chunks::<8>(&a[blocks..], &b[blocks..]);
    words + common_chunks::<1>(&a[words..], &b[words..])
}

#[inline(always)]
fn common_chunks<const N: usize>(a: &[u8], b: &[u8]) -> usize {
    let (a, b) = (a.as_chunks::<N>().0, b.as_chunks::<N>().0);
    let differ = a.iter().zip(b).position(|(a, b)| a != b);
    differ.unwrap_or(a.len().min(b.len())) * N
}

/// One field line: the length of its name, and where its value starts and ends.
struct Line {
    name: usize,
    start: usize,
    end: usize,
    known: Known,
}

/// The line that `text` begins with, if it is `name:value` or `name: value` without more blanks.
#[inline(always)]
fn line(text: &[u8]) -> Option<Line> {
    let (name, rest) = text.split_at(name_end(text)?);
    let known = Known::recognise(name);
    // Of a name that is known, nothing is left to prove.
    if matches!(known, Known::Other | Known::XForwarded) && !is_token(name) {
        return None;
    }
    let value = match rest {
        [b':', b' ', value @ ..] | [_, value @ ..] => value,
        [] => return None,
    };
    let length = run::<b' '>(value);
    let (value, rest) = value.split_at(length);
    let blank_or_empty = matches!(value, [] | [b' ', ..] | [.., b' ']);
    if blank_or_empty || !matches!(rest, [b'\r', b'\n', ..]) {
        return None;
    }
    let end = text.len() - rest.len();
    Some(Line { name: name.len(), start: end - length, end, known })
}

fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && chars::all(name, TOKEN)
}

/// The first colon, if visible characters and blanks alone stand before it.
#[inline(always)]
fn name_end(text: &[u8]) -> Option<usize> {
    let (words, _) = text.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let other = word ^ (ONES * b':' as u64);
        let colon = other.wrapping_sub(ONES) & !other & TOPS;
        let ends = colon | outside::<b' '>(word);
        // What borrows and carries mark wrongly stands behind what is marked rightly.
        if ends != 0 {
            let first = ends & ends.wrapping_neg();
            return (colon & first != 0).then(|| at * 8 + first.trailing_zeros() as usize / 8);
        }
    }
    None
}

/// How many bytes come before the first that is less than `LEAST` or no visible ASCII.
#[inline(always)]
fn run<const LEAST: u8>(text: &[u8]) -> usize {
    let (words, rest) = text.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let ends = outside::<LEAST>(u64::from_le_bytes(*word));
        if ends != 0 {
            return at * 8 + ends.trailing_zeros() as usize / 8;
        }
    }
    let rest = rest.iter().take_while(|byte| (LEAST..=b'~').contains(*byte)).count();
    words.len() * 8 + rest
}

/// Marks the bytes that are less than `LEAST` or more than `~`; of those marked, the first is right.
#[inline(always)]
fn outside<const LEAST: u8>(word: u64) -> u64 {
    let less = word.wrapping_sub(ONES * LEAST as u64);
    (less | word.wrapping_add(ONES) | word) & TOPS
}
