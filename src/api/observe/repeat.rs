//! The quickest look at an event: is it the last one again, with another text?
//!
//! Most events of a stream are equal up to one string. An event that begins and ends as a known
//! content event did, and has nothing between that could end the string, is a content event and
//! carries nothing else: that is proven, not guessed, by two comparisons and a short search.

use memchr::{memchr2, memchr3};

/// Longer events are not worth remembering.
const SAMPLE_BYTES_MAX: usize = 1024;

/// Samples taken in a row without a single later event being like them, before giving up (some
/// servers count something up in every event).
const TRIES: u8 = 4;

/// What the last content event looked like.
#[derive(Debug)]
pub struct Repeat {
    /// The event without its text.
    sample: Vec<u8>,
    /// Where in the sample the text stood.
    text_at: usize,
    /// Nothing that comes after an event like it can belong to its last line end.
    ends_in_lf: bool,
    tries_left: u8,
}

impl Repeat {
    /// Knows no event yet.
    pub const fn new() -> Repeat {
        Repeat { sample: Vec::new(), text_at: 0, ends_in_lf: false, tries_left: TRIES }
    }

    /// Whether `event` is the sample with another text that is not empty.
    #[inline]
    pub fn matches(&mut self, event: &[u8]) -> bool {
        let hit = self.text_of(event).is_some_and(|text| {
            // A quote or a line end could end the string or the data. After a backslash the quote
            // that follows might not end it.
            !matches!(text, [] | [.., b'\\']) && memchr3(b'"', b'\n', b'\r', text).is_none()
        });
        if hit {
            self.tries_left = TRIES;
        }
        hit
    }

    /// The length of the event that `stream` begins with, if that is the sample with another text and no
    /// longer than `bytes_max`. No line ends in its text, so it ends where the sample's blank line stands.
    #[inline]
    pub fn begins(&mut self, stream: &[u8], bytes_max: usize) -> Option<usize> {
        let (before, after) = self.sample.split_at_checked(self.text_at)?;
        let (begin, rest) = stream.split_at_checked(before.len())?;
        if begin != before {
            return None;
        }
        let length = plain_text(rest)?;
        let (text, rest) = rest.split_at(length);
        let whole = before.len() + length + after.len();
        let again = self.ends_in_lf
            && !matches!(text, [] | [.., b'\\'])
            && rest.get(..after.len()) == Some(after)
            && whole <= bytes_max;
        again.then(|| {
            self.tries_left = TRIES;
            whole
        })
    }

    #[inline]
    fn text_of<'a>(&self, event: &'a [u8]) -> Option<&'a [u8]> {
        let (before, after) = self.sample.split_at_checked(self.text_at)?;
        if after.is_empty() {
            return None;
        }
        event.strip_prefix(before)?.strip_suffix(after)
    }

    /// Remembers a content event by the offset where its text begins, after the quote.
    pub fn learn(&mut self, event: &[u8], text_at: usize) {
        if self.tries_left == 0 || event.len() > SAMPLE_BYTES_MAX {
            return;
        }
        let Some(text_end) = string_end(event, text_at) else { return };
        self.tries_left -= 1;
        self.sample.clear();
        self.sample.extend_from_slice(&event[..text_at]);
        self.sample.extend_from_slice(&event[text_end..]);
        self.text_at = text_at;
        self.ends_in_lf = event.ends_with(b"\n");
    }
}

/// How many bytes come before the first quote or control character, eight at a time: most texts are short.
#[inline]
pub(super) fn plain_text(stream: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let (words, rest) = stream.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let other = word ^ (ONES * b'"' as u64);
        let ends =
            (other.wrapping_sub(ONES) & !other | word.wrapping_sub(ONES * 32) & !word) & TOPS;
        // What a borrow marks wrongly stands behind what is marked rightly.
        if ends != 0 {
            return Some(at * 8 + ends.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|byte| *byte == b'"' || *byte < b' ')?;
    Some(words.len() * 8 + at)
}

/// The offset of the quote that ends the JSON string whose inside begins at `at`.
fn string_end(event: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr2(b'"', b'\\', event.get(at..)?)?;
        match event[at] {
            b'"' => return Some(at),
            _ => at += 2,
        }
    }
}
