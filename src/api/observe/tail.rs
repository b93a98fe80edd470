//! OpenAI answers as servers write them: the usage is the last member or nearly so. It is found from the
//! end, and nothing before it is parsed, which is most of the answer.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::prefilter::value_at;
use super::repeat::plain_text;
use crate::api::operation::Operation;
use crate::api::usage::{Finish, Usage};

static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"usage\""));
static FINISH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"finish_reason\""));

/// How far from the end most usages begin, bytes.
const USAGE_NEAR_BYTES: usize = 256;
/// How far before their usage most finish reasons begin, bytes.
const FINISH_NEAR_BYTES: usize = 128;

/// Usage and finish of an answer whose last `"usage"` is a member of the answer itself; `None` where it is
/// not so simple.
pub fn read(op: Operation, body: &[u8]) -> Option<(Usage, Option<Finish>)> {
    let generates = matches!(op, Operation::Chat | Operation::Completions);
    if !generates && !matches!(op, Operation::Embeddings | Operation::Rerank) {
        return None;
    }
    let at = place(&USAGE, body, USAGE_NEAR_BYTES)?;
    let start = value_at(body, at + USAGE.needle().len())?;
    let (counts, length) = Counts::read(&body[start..])?;
    if !closes_one_level(&body[start + length..]) {
        return None;
    }
    let mut usage = counts.usage();
    if !generates {
        // Nothing is generated: the total is the input.
        usage.input = usage.input.or(counts.0[Key::Total as usize]);
    }
    Some((usage, if generates { finish(&body[..at]) } else { None }))
}

/// Where the needle stands first near the end, or else last: what comes once has its place near the end, and
/// one search is enough to find it.
fn place(needle: &Finder<'_>, text: &[u8], near_bytes: usize) -> Option<usize> {
    let near = text.len().saturating_sub(near_bytes);
    let found = needle.find(&text[near..]).map(|at| near + at);
    found.or_else(|| needle.find_iter(text).last())
}

/// Where the needle stands last. That is near the end, or nowhere: there it is looked for first.
fn last(needle: &Finder<'_>, text: &[u8], near_bytes: usize) -> Option<usize> {
    let near = text.len().saturating_sub(near_bytes);
    let found = needle.find_iter(&text[near..]).last().map(|at| near + at);
    found.or_else(|| needle.find_iter(text).last())
}

/// The members of a usage object that are read, wherever in it they stand.
#[derive(Clone, Copy)]
enum Key {
    Prompt,
    Completion,
    Total,
    Cached,
    CacheWrite,
    /// vLLM's name for the same.
    CreatedCache,
    Reasoning,
}

/// What a usage object counts, by [`Key`].
#[derive(Default)]
struct Counts([Option<u64>; 7]);

impl Key {
    /// The key's meaning at this depth: details stand one level deeper.
    fn of(name: &[u8], depth: u32) -> Option<Key> {
        match (name, depth) {
            (b"prompt_tokens", 1) => Some(Key::Prompt),
            (b"completion_tokens", 1) => Some(Key::Completion),
            (b"total_tokens", 1) => Some(Key::Total),
            (b"cached_tokens", 2) => Some(Key::Cached),
            (b"cache_write_tokens", 2) => Some(Key::CacheWrite),
            (b"created_cache_tokens", 2) => Some(Key::CreatedCache),
            (b"reasoning_tokens", 2) => Some(Key::Reasoning),
            _ => None,
        }
    }
}

impl Counts {
    /// Reads the object that `text` begins with, and its length.
    fn read(text: &[u8]) -> Option<(Self, usize)> {
        let (mut counts, mut depth, mut key) = (Self::default(), 0u32, None);
        let mut rest = text;
        loop {
            let (byte, after) = rest.split_first()?;
            match byte {
                b'"' => {
                    let (name, behind) = string(after)?;
                    (key, rest) = (Key::of(name, depth), behind);
                    continue;
                }
                b'0'..=b'9' => {
                    let (number, behind) = number(rest)?;
                    if let Some(key) = key.take() {
                        counts.0[key as usize] = Some(number);
                    }
                    rest = behind;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 1 => return Some((counts, text.len() - after.len())),
                b'}' | b']' => depth = depth.checked_sub(1)?,
                b',' | b'-' => key = None,
                _ if depth == 0 => return None,
                _ => {}
            }
            rest = after;
        }
    }

    fn usage(&self) -> Usage {
        let count = |key: Key| self.0[key as usize];
        Usage {
            input: count(Key::Prompt),
            output: count(Key::Completion),
            cached: count(Key::Cached),
            cache_write: count(Key::CacheWrite).or(count(Key::CreatedCache)),
            reasoning: count(Key::Reasoning),
        }
    }
}

/// A whole number and what follows it; `None` for any other kind of number.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let (mut sum, mut rest) = (0u64, text);
    loop {
        let (byte, after) = rest.split_first()?;
        match byte {
            // What is too long is refused before it matters that it wrapped.
            b'0'..=b'9' => sum = sum.wrapping_mul(10).wrapping_add(u64::from(byte & 0xf)),
            b'.' | b'e' | b'E' => return None,
            _ => break,
        }
        rest = after;
    }
    (text.len() - rest.len() <= NUMBER_DIGITS_MAX).then_some((sum, rest))
}

/// Digits of a number that surely fits.
const NUMBER_DIGITS_MAX: usize = 19;

/// The last finish reason before the usage.
fn finish(body: &[u8]) -> Option<Finish> {
    let at = last(&FINISH, body, FINISH_NEAR_BYTES)?;
    let text = body.get(value_at(body, at + FINISH.needle().len())?..)?.strip_prefix(b"\"")?;
    string(text).map(|(reason, _)| Finish::from_openai(reason))
}

/// Whether one more bracket closes than opens: what came before stood directly in the outermost object. No
/// second usage may follow.
fn closes_one_level(mut rest: &[u8]) -> bool {
    let mut depth = 0i32;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b'"' => match string(after) {
                Some((text, behind)) if text != b"usage" => rest = behind,
                _ => return false,
            },
            _ => {}
        }
    }
    depth == -1
}

/// What stands before the quote that ends a string, and what behind it; `None` where that quote may be a
/// part of the string.
#[inline]
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (inside, rest) = text.split_at_checked(plain_text(text)?)?;
    let rest = rest.strip_prefix(b"\"")?;
    (!inside.ends_with(b"\\")).then_some((inside, rest))
}
