//! A piece of a buffer, by position.

use std::ops::Range;

/// A byte range of the buffer that a head was parsed from. Heads are far smaller than 4 GiB
/// ([`super::HEAD_BYTES_CAP`]), so two `u32` do, and the buffer may move between parse and use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// The span `start..end`; both must lie within [`super::HEAD_BYTES_CAP`].
    pub(super) fn new(start: usize, end: usize) -> Span {
        debug_assert!(start <= end && end <= super::HEAD_BYTES_CAP);
        Span { start: start as u32, end: end as u32 }
    }

    /// Where `part`, a subslice of `whole`, lies within it.
    pub(super) fn within(whole: &[u8], part: &[u8]) -> Span {
        let start = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
        Span::new(start, start + part.len())
    }

    /// The bytes of this span. Empty when `buf` is not the buffer that was parsed and is too short.
    pub fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.range()).unwrap_or_default()
    }

    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}
