//! Splice edits: a body as it will be sent, without copying the body.
//!
//! Invariants: edits are sorted by place and never overlap; the pieces concatenate to exactly
//! `len_after` bytes.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// How many edits one body can take.
pub const EDIT_COUNT_MAX: usize = 8;

/// Replacements over a body that stays as it is. No allocation while there are none.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    sorted: Vec<Edit>,
}

#[derive(Clone, Debug)]
struct Edit {
    range: Range<usize>,
    bytes: Cow<'static, [u8]>,
}

/// Why an edit was not taken: a fault of the program, never of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditError {
    /// There are [`EDIT_COUNT_MAX`] already.
    Full,
    /// It touches bytes that an earlier edit replaces.
    Overlap,
}

impl Edits {
    /// No edits.
    pub const fn new() -> Self {
        Self { sorted: Vec::new() }
    }

    /// Whether the body goes out as it came.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// Puts `bytes` in the place of `range` (offsets in the original body).
    pub fn replace(
        &mut self,
        range: Range<usize>,
        bytes: impl Into<Cow<'static, [u8]>>,
    ) -> Result<(), EditError> {
        let range = range.start..range.end.max(range.start);
        if self.sorted.len() == EDIT_COUNT_MAX {
            return Err(EditError::Full);
        }
        if self.sorted.iter().any(|edit| overlap(&edit.range, &range)) {
            return Err(EditError::Overlap);
        }
        let order = |edit: &Edit| (edit.range.start, edit.range.end) <= (range.start, range.end);
        let at = self.sorted.partition_point(order);
        self.sorted.insert(at, Edit { range, bytes: bytes.into() });
        Ok(())
    }

    /// Puts `bytes` before offset `at`; a later insertion at the same offset comes after it.
    pub fn insert(
        &mut self,
        at: usize,
        bytes: impl Into<Cow<'static, [u8]>>,
    ) -> Result<(), EditError> {
        self.replace(at..at, bytes)
    }

    /// The length, in bytes, of a body of `body_len` bytes after the edits.
    pub fn len_after(&self, body_len: usize) -> usize {
        let clamp = |at: usize| at.min(body_len);
        self.sorted.iter().fold(body_len, |len, edit| {
            len - (clamp(edit.range.end) - clamp(edit.range.start)) + edit.bytes.len()
        })
    }

    /// The edited body, piece by piece, none of them empty. Edits past its end are appended.
    pub fn pieces<'a>(&'a self, body: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut kept_from = 0;
        let mut edits = self.sorted.iter();
        let mut inserted: Option<&'a [u8]> = None;
        let mut done = false;
        std::iter::from_fn(move || {
            if let Some(bytes) = inserted.take() {
                return Some(bytes);
            }
            if done {
                return None;
            }
            let next = edits.next();
            let end = body.len();
            let kept_to = next.map_or(end, |edit| edit.range.start.min(end));
            let kept = &body[kept_from..kept_to];
            kept_from = next.map_or(end, |edit| edit.range.end.min(end));
            inserted = next.map(|edit| edit.bytes.as_ref());
            done = next.is_none();
            Some(kept)
        })
        .filter(|piece| !piece.is_empty())
    }
}

/// Whether two edits claim the same byte, or one inserts inside the other.
fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "too many edits of one body",
            Self::Overlap => "two edits of one body overlap",
        })
    }
}

impl std::error::Error for EditError {}
