//! Classifying 64 bytes at a time into bit masks, and the portable way to do it.
//!
//! Invariant: bit `i` of a mask tells of byte `i` of the block and of no other, whichever
//! implementation made it.

use super::strings::{self, Failed, StringEnd, Window};

/// Bytes classified in one step.
pub const BLOCK_BYTES: usize = 64;

/// One block of text.
pub type Block = [u8; BLOCK_BYTES];

/// What ends or breaks a run of plain string bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Masks {
    /// `"`
    pub quote: u64,
    /// `"`, `\`, and the bytes below 0x20, which a JSON string may not hold.
    pub stop: u64,
}

/// What escapes consist of. Of the bytes that may follow a backslash, only those are surely marked
/// that do, or that are the first of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EscapeMasks {
    /// `\`
    pub backslash: u64,
    /// What may follow it: `"` `\` `/` `b` `f` `n` `r` `t` `u`
    pub valid: u64,
    /// `u`
    pub unicode: u64,
}

/// What makes up `\u` escapes. All bits clear and all bits set, respectively, is a correct answer: it
/// says that each escape must be looked at by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HexMasks {
    /// Surely a hexadecimal digit.
    pub digit: u64,
    /// Possibly `d` or `D`, the first digit of every surrogate.
    pub maybe_d: u64,
}

/// One way of classifying blocks.
pub trait Lanes: Copy {
    /// Finds where strings end or break.
    fn classify(self, block: &Block) -> Masks;

    /// Whether a string goes on through the whole block.
    fn plain(self, block: &Block) -> bool {
        self.classify(block).stop == 0
    }

    /// Finds backslashes and what may follow them.
    fn escapes(self, block: &Block) -> EscapeMasks;

    /// Finds hexadecimal digits.
    fn hex(self, block: &Block) -> HexMasks;

    /// [`strings::walk`] with this implementation's instructions switched on.
    fn string(self, body: &[u8], window: &mut Window, from: usize) -> Result<StringEnd, Failed>;
}

/// Eight bytes at a time in ordinary registers, for processors without something better.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

const ONES: u64 = 0x0101_0101_0101_0101;
const LOW_7: u64 = 0x7f7f_7f7f_7f7f_7f7f;

impl Lanes for Portable {
    #[inline]
    fn classify(self, block: &Block) -> Masks {
        let mut masks = Masks::default();
        for (i, word) in words(block) {
            let quote = equal(word, b'"');
            let control = zero_bytes(word & (ONES * 0xe0));
            masks.quote |= quote << (8 * i);
            masks.stop |= (quote | control | equal(word, b'\\')) << (8 * i);
        }
        masks
    }

    #[inline]
    fn escapes(self, block: &Block) -> EscapeMasks {
        let slash = words(block).fold(0, |bits, (i, word)| bits | (equal(word, b'\\') << (8 * i)));
        let mut masks = EscapeMasks { backslash: slash, valid: 0, unicode: 0 };
        let mut after = (slash << 1) | 1;
        while after != 0 {
            let here = after & after.wrapping_neg();
            let byte = block[here.trailing_zeros() as usize];
            masks.unicode |= if byte == b'u' { here } else { 0 };
            masks.valid |= if b"\"\\/bfnrtu".contains(&byte) { here } else { 0 };
            after ^= here;
        }
        masks
    }

    fn hex(self, _: &Block) -> HexMasks {
        HexMasks { digit: 0, maybe_d: u64::MAX }
    }

    fn string(self, body: &[u8], window: &mut Window, from: usize) -> Result<StringEnd, Failed> {
        strings::walk(self, body, window, from)
    }
}

fn words(block: &Block) -> impl Iterator<Item = (usize, u64)> {
    let (words, _) = block.as_chunks::<8>();
    words.iter().map(|word| u64::from_le_bytes(*word)).enumerate()
}

/// One bit for each byte of `word` that equals `byte`.
fn equal(word: u64, byte: u8) -> u64 {
    zero_bytes(word ^ (ONES * u64::from(byte)))
}

/// One bit for each byte of `word` that is zero. Exact: no carry crosses a byte.
fn zero_bytes(word: u64) -> u64 {
    let high = !(((word & LOW_7) + LOW_7) | word | LOW_7);
    // Gathers the top bit of each byte: byte i's lands in bit 56 + i of the product.
    (high >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}
