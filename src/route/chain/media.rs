//! Media within the stream: hashed like text, but counted as so much text a piece.

use crate::api::media::Piece;
use crate::route::size::MEDIUM_TEXT_BYTES;

/// The media of a section, and how far the stream has passed them.
#[derive(Debug, Default)]
pub struct Media {
    pieces: Vec<Piece>,
    /// Pieces passed, and their bytes.
    passed: usize,
    bytes: usize,
    /// What was last told: it never falls.
    last: u64,
}

impl Media {
    /// They stand in the body in this order.
    pub fn new(pieces: Vec<Piece>) -> Self {
        Self { pieces, ..Self::default() }
    }

    /// What `at` bytes of the stream count as, whose last one is before `end` in the body.
    pub fn weigh(&mut self, at: usize, end: usize) -> u64 {
        if self.pieces.is_empty() {
            return at as u64;
        }
        while let Some(piece) = self.pieces.get(self.passed).filter(|piece| piece.span.end <= end) {
            self.bytes += piece.span.len();
            self.passed += 1;
        }
        let under_way = self.pieces.get(self.passed);
        let under_way = under_way.map_or(0, |piece| end.saturating_sub(piece.span.start));
        let text = at.saturating_sub(self.bytes + under_way) as u64;
        self.last = self.last.max(text + self.passed as u64 * MEDIUM_TEXT_BYTES);
        self.last
    }
}
