//! The inside of JSON strings: where one ends, and that every byte and escape of it is legal.
//!
//! Blocks of 64 bytes become bit masks, and the masks are worked on whole: a block full of escapes
//! costs little more than a plain one. The masks of the current block are kept in a [`Window`], so that
//! many short strings in one block share them.
//!
//! Invariants: masks of a window tell of `body[base..base + 64]`, bytes past the end counting as
//! spaces; a backslash outside a string never reaches this file (it is a syntax error there).

use super::ScanError;
use super::lanes::{BLOCK_BYTES, Block, EscapeMasks, Lanes, Masks};

/// The block whose masks are at hand, and why a scan failed.
#[derive(Debug)]
pub struct Window {
    base: usize,
    masks: Masks,
    fault: ScanError,
}

/// The text was refused; [`Window::fault`] says why. Empty, so that results fit in registers.
#[derive(Clone, Copy, Debug)]
pub struct Failed;

/// Where a string ended.
#[derive(Clone, Copy, Debug)]
pub struct StringEnd {
    /// Offset just after the closing quote.
    pub after: usize,
    /// The string holds an escape.
    pub escaped: bool,
}

/// What a string walk carries from one block to the next.
struct Carry {
    /// 1 if the next block's first byte is escaped by this block's last.
    escape: u64,
    /// Offset of the `u` of a low surrogate that its high one has already accounted for.
    low_surrogate_at: usize,
}

impl Window {
    /// A window over no block yet.
    pub const fn unset() -> Self {
        // Further than a block from any offset a body can have.
        let masks = Masks { quote: 0, stop: 0 };
        Self { base: usize::MAX / 2, masks, fault: ScanError::NotAnObject }
    }

    /// Keeps the reason for a failure.
    #[cold]
    pub fn fail(&mut self, fault: ScanError) -> Failed {
        self.fault = fault;
        Failed
    }

    /// The reason for the last failure.
    pub const fn fault(&self) -> ScanError {
        self.fault
    }

    #[cold]
    fn fail_at(&mut self, at: usize, what: &'static str) -> Failed {
        self.fail(ScanError::Syntax { at, what })
    }

    /// Fails at the lowest bit set.
    #[cold]
    fn fail_in(&mut self, bits: u64, what: &'static str) -> Failed {
        self.fail_at(self.base + bits.trailing_zeros() as usize, what)
    }

    /// The end of the string that begins at `from`, if it is plain and within the window.
    #[inline(always)]
    pub fn plain_end(&self, from: usize) -> Option<usize> {
        let offset = from.wrapping_sub(self.base);
        if offset >= BLOCK_BYTES {
            return None;
        }
        let stops = self.masks.stop >> offset;
        let ends = lowest(stops) & (self.masks.quote >> offset) != 0;
        ends.then_some(from + stops.trailing_zeros() as usize + 1)
    }

    fn holds(&self, at: usize) -> bool {
        at.wrapping_sub(self.base) < BLOCK_BYTES
    }

    #[inline(always)]
    fn load<L: Lanes>(&mut self, lanes: L, body: &[u8], base: usize) {
        self.base = base;
        self.masks = lanes.classify(block_at(body, base, &mut [0; BLOCK_BYTES]));
    }
}

/// The 64 bytes at `base`, copied to `spare` and filled up with spaces if the body ends before.
#[inline(always)]
fn block_at<'a>(body: &'a [u8], base: usize, spare: &'a mut Block) -> &'a Block {
    let rest = body.get(base..).unwrap_or_default();
    if let Some(block) = rest.first_chunk() {
        return block;
    }
    *spare = [b' '; BLOCK_BYTES];
    spare[..rest.len()].copy_from_slice(rest);
    spare
}

/// Walks the string whose first byte after the opening quote is at `from`.
#[inline(always)]
pub fn walk<L: Lanes>(
    lanes: L,
    body: &[u8],
    window: &mut Window,
    from: usize,
) -> Result<StringEnd, Failed> {
    if !window.holds(from) {
        window.load(lanes, body, from);
    }
    let mut ours = u64::MAX << (from - window.base);
    let mut carry = Carry { escape: 0, low_surrogate_at: usize::MAX };
    let mut escaped = false;
    loop {
        let stops = window.masks.stop & ours;
        let mut quotes = window.masks.quote & ours;
        let plain = carry.escape == 0 && lowest(stops) & !quotes == 0;
        if !plain {
            let found = lanes.escapes(block_at(body, window.base, &mut [0; BLOCK_BYTES]));
            let backslashes = found.backslash & ours;
            let after = escaped_bytes(backslashes, &mut carry.escape);
            quotes &= !after;
            let within = up_to_lowest(quotes);
            let control = stops & !found.backslash & !window.masks.quote & within;
            if control != 0 {
                return Err(window.fail_in(control, "a raw control character in a string"));
            }
            check_escapes(lanes, body, window, after & within, found, &mut carry)?;
            escaped |= backslashes & within != 0;
        }
        if quotes != 0 {
            let after = window.base + quotes.trailing_zeros() as usize + 1;
            return Ok(StringEnd { after, escaped });
        }
        let mut next = window.base + BLOCK_BYTES;
        if plain {
            next = after_plain(lanes, body, next);
        }
        if next >= body.len() {
            return Err(window.fail_at(body.len(), "the string does not end"));
        }
        window.load(lanes, body, next);
        ours = u64::MAX;
    }
}

/// Skips the blocks from `at` on in which nothing stands that could end or break a string.
#[inline(always)]
fn after_plain<L: Lanes>(lanes: L, body: &[u8], mut at: usize) -> usize {
    let (blocks, _) = body.get(at..).unwrap_or_default().as_chunks::<BLOCK_BYTES>();
    for block in blocks {
        if !lanes.plain(block) {
            break;
        }
        at += BLOCK_BYTES;
    }
    at
}

/// The lowest bit set, alone.
fn lowest(bits: u64) -> u64 {
    bits & bits.wrapping_neg()
}

/// Every bit up to and including the lowest one set; all of them if none is.
fn up_to_lowest(bits: u64) -> u64 {
    bits ^ bits.wrapping_sub(1)
}

/// Checks what the bytes given, each of which follows a backslash, say.
#[inline(always)]
fn check_escapes<L: Lanes>(
    lanes: L,
    body: &[u8],
    window: &mut Window,
    after_backslash: u64,
    found: EscapeMasks,
    carry: &mut Carry,
) -> Result<(), Failed> {
    if after_backslash & !found.valid != 0 {
        let unknown = after_backslash & !found.valid;
        return Err(window.fail_in(unknown, "not an escape that JSON knows"));
    }
    let unicode = after_backslash & found.unicode;
    if unicode == 0 {
        return Ok(());
    }
    unicode_escapes(lanes, body, window, unicode, carry)
}

/// Checks the escapes whose `u`s are given: most by masks, one by one those that cross the end of the
/// block, may be surrogates, or lack a digit.
#[inline(always)]
fn unicode_escapes<L: Lanes>(
    lanes: L,
    body: &[u8],
    window: &mut Window,
    unicode: u64,
    carry: &mut Carry,
) -> Result<(), Failed> {
    const CROSSING: u64 = 0xf << 60;
    let masks = lanes.hex(block_at(body, window.base, &mut [0; BLOCK_BYTES]));
    let inside = unicode & !CROSSING;
    let digits = (inside << 1) | (inside << 2) | (inside << 3) | (inside << 4);
    let mut single = (unicode & CROSSING) | (inside & (masks.maybe_d >> 1));
    if digits & !masks.digit != 0 {
        single = unicode;
    }
    while single != 0 {
        let at = window.base + single.trailing_zeros() as usize;
        unicode_escape(body, at, carry).map_err(|what| window.fail_at(at, what))?;
        single &= single - 1;
    }
    Ok(())
}

/// The bytes that stand after an odd number of backslashes. `carry` tells whether the block before
/// ended in one, and then whether this one does.
fn escaped_bytes(backslashes: u64, carry: &mut u64) -> u64 {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let backslashes = backslashes & !*carry;
    let follows = (backslashes << 1) | *carry;
    // Runs of backslashes that begin at an odd bit: adding them carries a bit to just past the run,
    // whose parity then tells whether the run's length is odd.
    let odd_starts = backslashes & !EVEN & !follows;
    let (runs, over) = odd_starts.overflowing_add(backslashes);
    *carry = u64::from(over);
    (EVEN ^ (runs << 1)) & follows
}

/// Checks the escape whose `u` is at `at`: four hex digits, surrogates in pairs (RFC 8259 section 7).
#[inline]
fn unicode_escape(body: &[u8], at: usize, carry: &mut Carry) -> Result<(), &'static str> {
    match hex_4(body, at + 1) {
        Some(0xdc00..=0xdfff) if carry.low_surrogate_at != at => {
            Err("a low surrogate without its high one")
        }
        Some(0xd800..=0xdbff) => {
            let pair = body.get(at + 5..at + 7) == Some(b"\\u")
                && matches!(hex_4(body, at + 7), Some(0xdc00..=0xdfff));
            carry.low_surrogate_at = at + 6;
            if pair { Ok(()) } else { Err("a high surrogate without its low one") }
        }
        Some(_) => Ok(()),
        None => Err("\\u takes four hexadecimal digits"),
    }
}

/// Reads four hex digits at `at`.
#[inline]
fn hex_4(body: &[u8], at: usize) -> Option<u32> {
    let digits: &[u8; 4] = body.get(at..)?.first_chunk()?;
    let [a, b, c, d] = digits.map(|digit| i32::from(HEX[usize::from(digit)]));
    // A byte that is no digit is -1 in the table, and shifted left it stays negative.
    u32::try_from((a << 12) | (b << 8) | (c << 4) | d).ok()
}

const HEX: [i8; 256] = {
    let mut table = [-1; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value] as usize] = value as i8;
        table[b"0123456789ABCDEF"[value] as usize] = value as i8;
        value += 1;
    }
    table
};
