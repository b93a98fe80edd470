//! Classifying blocks with AVX2.
//!
//! Why this file exists: bodies are mostly strings, and there ordinary registers take five to six times
//! as long (measured on Zen 5, 32 KB: plain text 7.1 against 1.1 µs, heavily escaped 15 against 3.0;
//! searching from one quote or backslash to the next takes 8).
//!
//! All that is unsafe is calling functions compiled for AVX2 and reading 32 bytes from an array of
//! that size. Invariant: an [`Avx2`] exists only if the processor has what its functions use.

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, __m256i, _mm_set_epi64x, _mm256_and_si256, _mm256_broadcastsi128_si256,
    _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256,
    _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16,
};

use super::lanes::{Block, EscapeMasks, HexMasks, Lanes, Masks};
use super::strings::{self, Failed, StringEnd, Window};

/// Proof that the processor has AVX2 and BMI1: [`Avx2::detect`] alone makes one.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// Asks the processor (the answer is cached by the standard library).
    #[inline]
    pub fn detect() -> Option<Self> {
        let present = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1");
        present.then_some(Self(()))
    }
}

impl Lanes for Avx2 {
    #[inline(always)]
    fn classify(self, block: &Block) -> Masks {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { classify(block) }
    }

    #[inline(always)]
    fn plain(self, block: &Block) -> bool {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { plain(block) }
    }

    #[inline(always)]
    fn escapes(self, block: &Block) -> EscapeMasks {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { escapes(block) }
    }

    #[inline(always)]
    fn hex(self, block: &Block) -> HexMasks {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { hex(block) }
    }

    #[inline]
    fn string(self, body: &[u8], window: &mut Window, from: usize) -> Result<StringEnd, Failed> {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { string(self, body, window, from) }
    }
}

#[target_feature(enable = "avx2,bmi1")]
fn string(lanes: Avx2, body: &[u8], window: &mut Window, from: usize) -> Result<StringEnd, Failed> {
    strings::walk(lanes, body, window, from)
}

#[target_feature(enable = "avx2,bmi1")]
#[inline]
fn classify(block: &Block) -> Masks {
    let [low, high] = halves(block);
    let quote = _mm256_set1_epi8(b'"'.cast_signed());
    let backslash = _mm256_set1_epi8(b'\\'.cast_signed());
    let last_control = _mm256_set1_epi8(0x1f);
    let other = |half| {
        let control = _mm256_cmpeq_epi8(_mm256_min_epu8(half, last_control), half);
        _mm256_or_si256(control, _mm256_cmpeq_epi8(half, backslash))
    };
    let quote = mask([_mm256_cmpeq_epi8(low, quote), _mm256_cmpeq_epi8(high, quote)]);
    Masks { quote, stop: quote | mask([other(low), other(high)]) }
}

#[target_feature(enable = "avx2,bmi1")]
#[inline]
fn plain(block: &Block) -> bool {
    let [low, high] = halves(block);
    let other = |half| {
        let quote = _mm256_cmpeq_epi8(half, _mm256_set1_epi8(b'"'.cast_signed()));
        let backslash = _mm256_cmpeq_epi8(half, _mm256_set1_epi8(b'\\'.cast_signed()));
        let control = _mm256_cmpeq_epi8(_mm256_min_epu8(half, _mm256_set1_epi8(0x1f)), half);
        _mm256_or_si256(_mm256_or_si256(quote, backslash), control)
    };
    _mm256_movemask_epi8(_mm256_or_si256(other(low), other(high))) == 0
}

#[target_feature(enable = "avx2,bmi1")]
#[inline]
fn escapes(block: &Block) -> EscapeMasks {
    let halves = halves(block);
    // Bit 0: 0x2_ (`"` `/`), bit 1: 0x5_ (`\`), bit 2: 0x6_ (`b` `f` `n`), bit 3: 0x7_ (`r` `t` `u`).
    let by_high = [0, 0, 1, 0, 0, 2, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    let by_low = [0, 0, 13, 0, 8, 8, 4, 0, 0, 0, 0, 0, 2, 0, 4, 1];
    let valid = in_class(halves, by_high, by_low);
    EscapeMasks { backslash: equal(halves, b'\\'), valid, unicode: equal(halves, b'u') }
}

#[target_feature(enable = "avx2,bmi1")]
#[inline]
fn hex(block: &Block) -> HexMasks {
    let halves = halves(block);
    // Bit 0: 0x3_ (`0` to `9`), bit 1: 0x4_ and 0x6_ (`A` to `F`, `a` to `f`).
    let by_high = [0, 0, 0, 1, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let by_low = [1, 3, 3, 3, 3, 3, 3, 1, 1, 1, 0, 0, 0, 0, 0, 0];
    let maybe_d = equal(halves, b'd') | equal(halves, b'D');
    HexMasks { digit: in_class(halves, by_high, by_low), maybe_d }
}

/// The bytes whose high and low nibble share a bit in these two tables.
#[target_feature(enable = "avx2,bmi1")]
#[inline]
fn in_class([low, high]: [__m256i; 2], by_high: [u8; 16], by_low: [u8; 16]) -> u64 {
    let by_high = _mm256_broadcastsi128_si256(table(by_high));
    let by_low = _mm256_broadcastsi128_si256(table(by_low));
    let nibble = _mm256_set1_epi8(0x0f);
    let outside = |half| {
        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(half), nibble);
        let low = _mm256_and_si256(half, nibble);
        let high = _mm256_shuffle_epi8(by_high, high);
        let shared = _mm256_and_si256(high, _mm256_shuffle_epi8(by_low, low));
        _mm256_cmpeq_epi8(shared, _mm256_setzero_si256())
    };
    !mask([outside(low), outside(high)])
}

#[target_feature(enable = "avx2,bmi1")]
#[inline]
fn table(bytes: [u8; 16]) -> __m128i {
    let (low, high) =
        (u128::from_le_bytes(bytes) as u64, (u128::from_le_bytes(bytes) >> 64) as u64);
    _mm_set_epi64x(high.cast_signed(), low.cast_signed())
}

#[target_feature(enable = "avx2,bmi1")]
#[inline]
fn equal([low, high]: [__m256i; 2], byte: u8) -> u64 {
    let wanted = _mm256_set1_epi8(byte.cast_signed());
    mask([_mm256_cmpeq_epi8(low, wanted), _mm256_cmpeq_epi8(high, wanted)])
}

/// The top bit of each of 64 bytes.
#[target_feature(enable = "avx2,bmi1")]
#[inline]
fn mask([low, high]: [__m256i; 2]) -> u64 {
    let low = _mm256_movemask_epi8(low).cast_unsigned();
    let high = _mm256_movemask_epi8(high).cast_unsigned();
    u64::from(low) | (u64::from(high) << 32)
}

#[target_feature(enable = "avx2,bmi1")]
#[inline]
fn halves(block: &Block) -> [__m256i; 2] {
    let at: *const __m256i = block.as_ptr().cast();
    // SAFETY: the block is 64 readable bytes, so both 32-byte reads stay within it, and `loadu` asks
    // for no alignment.
    unsafe { [_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))] }
}
