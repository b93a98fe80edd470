//! Text that changes from turn to turn though the prompt that it belongs to does not.
//!
//! Two kinds are known. Claude Code begins its system prompt with a block of text like
//! `x-anthropic-billing-header: cc_version=2.1.88.a3f; cc_entrypoint=cli; cch=97bd6;`, whose `cch` is
//! another one in each request (engines and proxies that care about their prefix cache drop it). And
//! agents that speak Anthropic's API mark the end of what shall be cached by a `cache_control` member,
//! which moves on with every turn and is never shown to the model. It is a member of a block of content, or
//! of whatever else stands in a list; a member of that name in a tool's input is the model's own data.
//!
//! Invariants: what is left out is the inside of a JSON string or whole members, never text that merely
//! reads like it; whether something is left out depends on nothing but the bytes before it and its own.

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::Section;

/// Pieces left out of one section, at most; Anthropic allows four marks.
const GAPS_MAX: usize = 16;
/// The billing text is looked for in as many bytes, and is at most as long.
const BILLING_BYTES_MAX: usize = 512;
const BILLING: &[u8] = b"\"x-anthropic-billing-header:";
static BILLING_FINDER: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(BILLING));
const MARK: &[u8] = b"\"cache_control\"";
static MARK_FINDER: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(MARK));
/// How far before a mark its object's beginning is looked for. Further back it is taken for a block's.
const LOOK_BACK_BYTES_MAX: usize = 2048;
/// The longest value of a mark, with the white space around it.
const MARK_BYTES_MAX: usize = 96;

/// Pieces of a section that are not hashed, in order.
#[derive(Default)]
struct Gaps {
    gaps: [Range<usize>; GAPS_MAX],
    count: usize,
}

/// The runs of `span` between its volatile pieces, in order; at least one.
pub fn without(body: &[u8], section: Section, span: Range<usize>) -> Runs {
    let mut gaps = Gaps::default();
    if matches!(section, Section::System | Section::Messages) {
        gaps.push(billing(body, &span));
        marks(body, &span, &mut gaps);
    }
    Runs { gaps, next: 0, at: span.start, end: span.end, done: false }
}

/// See [`without`].
pub struct Runs {
    gaps: Gaps,
    next: usize,
    at: usize,
    end: usize,
    done: bool,
}

impl Iterator for Runs {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        if self.done {
            return None;
        }
        let start = self.at;
        let Some(gap) = self.gaps.gaps[..self.gaps.count].get(self.next) else {
            self.done = true;
            return Some(start..self.end);
        };
        self.next += 1;
        self.at = gap.end;
        Some(start..gap.start)
    }
}

impl Gaps {
    fn push(&mut self, gap: Option<Range<usize>>) {
        let Some(gap) = gap else { return };
        if let Some(slot) = self.gaps.get_mut(self.count) {
            *slot = gap;
            self.count += 1;
        }
    }

    fn end(&self) -> usize {
        self.count.checked_sub(1).map_or(0, |last| self.gaps[last].end)
    }
}

/// The billing text at the beginning of a section: up to the end of its line or of its string.
fn billing(body: &[u8], span: &Range<usize>) -> Option<Range<usize>> {
    let text = body.get(span.clone())?;
    let text = text.get(..BILLING_BYTES_MAX).unwrap_or(text);
    let quote = BILLING_FINDER.find(text)?;
    if !opens(text, quote) {
        return None;
    }
    let start = span.start + quote + 1;
    let text = body.get(start..span.end)?;
    let text = text.get(..BILLING_BYTES_MAX).unwrap_or(text);
    let len = memchr::memchr2(b'"', b'\\', text)?;
    Some(start..start + len)
}

/// The cache marks of a section.
fn marks(body: &[u8], span: &Range<usize>, gaps: &mut Gaps) {
    let Some(text) = body.get(..span.end) else { return };
    let mut at = span.start.max(gaps.end());
    while gaps.count < GAPS_MAX {
        let Some(found) = text.get(at..).and_then(|rest| MARK_FINDER.find(rest)) else { return };
        let quote = at + found;
        at = quote + MARK.len();
        if opens(text, quote)
            && let Some(mark) = mark(text, quote, span.start.max(gaps.end()))
            && !in_value(text, quote)
        {
            at = mark.end;
            gaps.push(Some(mark));
        }
    }
}

/// A quote that begins a string: one that ends a string is never followed by a letter.
fn opens(text: &[u8], quote: usize) -> bool {
    quote.checked_sub(1).and_then(|before| text.get(before)) != Some(&b'\\')
}

/// Whether the object that has the member at `quote` is the value of a member itself.
fn in_value(text: &[u8], quote: usize) -> bool {
    let first = quote.saturating_sub(LOOK_BACK_BYTES_MAX);
    let (mut at, mut closed) = (quote, 0);
    while let Some(found) = memchr::memrchr3(b'"', b'{', b'}', &text[first..at]) {
        at = first + found;
        match text[at] {
            b'"' => match string_start(&text[first..at]) {
                Some(start) => at = first + start,
                None => return false,
            },
            b'}' => closed += 1,
            _ if closed > 0 => closed -= 1,
            _ => return text[..at].trim_ascii_end().ends_with(b":"),
        }
    }
    false
}

/// Where the string begins whose closing quote follows `text`.
fn string_start(text: &[u8]) -> Option<usize> {
    let mut end = text.len();
    loop {
        end = memchr::memrchr(b'"', &text[..end])?;
        let escapes = text[..end].iter().rev().take_while(|byte| **byte == b'\\').count();
        if escapes % 2 == 0 {
            return Some(end);
        }
    }
}

/// The whole member whose key begins at `quote`, with the comma that parts it from the others. Nothing
/// before `start` belongs to it.
fn mark(text: &[u8], quote: usize, start: usize) -> Option<Range<usize>> {
    let value = after_space(text, quote + MARK.len(), b":")?;
    let open = after_space(text, value, b"{")?;
    let inside = text.get(open..)?;
    let inside = inside.get(..MARK_BYTES_MAX).unwrap_or(inside);
    let close = memchr::memchr2(b'{', b'}', inside)?;
    if inside[close] != b'}' || inside[..close].contains(&b'\\') {
        return None;
    }
    let end = open + close + 1;
    let before = text.get(start..quote)?.trim_ascii_end();
    match before.strip_suffix(b",") {
        Some(before) => Some(start + before.trim_ascii_end().len()..end),
        None => after_space(text, end, b",").map(|end| quote..end),
    }
}

/// The offset after `byte`, which white space may precede.
fn after_space(text: &[u8], at: usize, byte: &[u8]) -> Option<usize> {
    let rest = text.get(at..)?;
    let trimmed = rest.trim_ascii_start();
    trimmed.starts_with(byte).then(|| at + (rest.len() - trimmed.len()) + 1)
}
