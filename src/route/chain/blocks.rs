//! Cutting a stream of bytes into blocks, and linking their hashes.
//!
//! Why blocks of 512 bytes, and 64 to every doubling from 64 KiB on: measured for a chat of 32 KB that is
//! looked up in a table of 64 MiB, 70 % full, hashing and look-up took 5.7 µs with blocks of 256 bytes,
//! 3.9 with 512 and 2.7 with 1,024, and an entry takes 16 bytes. What an endpoint holds is
//! underestimated by half a block in the mean: with 512 bytes by some 64 tokens, a few of an engine's
//! own blocks. Further on, blocks grow so that a long prompt costs the table little more than a short
//! one, and the error stays below a percent of what is held: 1 MiB has 384 blocks, 3 MiB have 480.
//!
//! Why xxhash-rust, which on x86-64 has no more than SSE2 in portable builds: in blocks of 512 bytes it
//! took 1.08 µs for 32 KB, twox-hash, which detects AVX2, 0.92; in large blocks 29 µs for 1 MB against 20.
//! Both give the same digests. A block is hashed without a seed and then linked: a seed makes xxh3
//! derive a secret for each block, and takes 1.9 µs for those 32 KB.

use std::ops::Range;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::media::Media;
use super::{CHAIN_BLOCKS_MAX, Chain};

/// Length of the blocks in the first 64 KiB of the stream.
const BLOCK_BYTES_MIN: usize = 512;
/// Binary logarithm of how many blocks make up one doubling of the stream further on.
const DOUBLING_BLOCKS_LOG2: u32 = 6;

/// Takes the place of a block's digest where the anchor is marked.
const ANCHOR: u64 = 6;

/// Length of the block that begins after `at` bytes of the stream.
fn block_bytes(at: usize) -> usize {
    let scaled = at.checked_ilog2().unwrap_or(0).saturating_sub(DOUBLING_BLOCKS_LOG2);
    BLOCK_BYTES_MIN.max(1 << scaled)
}

/// No prompt of `stream_bytes` has more blocks than this.
pub fn count_max(stream_bytes: usize) -> usize {
    // Each of two inner sections may end in a short block.
    let mut blocks = stream_bytes.min(64 << 10) / BLOCK_BYTES_MIN + 2;
    let doublings = (stream_bytes >> 16).checked_ilog2().map_or(0, |log2| log2 as usize + 1);
    blocks += doublings << DOUBLING_BLOCKS_LOG2;
    blocks.min(CHAIN_BLOCKS_MAX)
}

/// The hash of a chain that goes on from `before`.
pub fn link(before: u64, digest: u64) -> u64 {
    let mut both = [0; 16];
    both[..8].copy_from_slice(&before.to_le_bytes());
    both[8..].copy_from_slice(&digest.to_le_bytes());
    xxh3_64(&both)
}

/// Writes a stream, which is pieces of a body, into a chain.
pub struct Blocks<'a> {
    body: &'a [u8],
    chain: &'a mut Chain,
    media: Media,
    /// The hash of all blocks so far.
    link: u64,
    /// Bytes of the stream so far.
    at: usize,
    /// Length of the block under way, and how much of it is there.
    size: usize,
    filled: usize,
    /// The last piece of the block under way.
    held: Range<usize>,
    /// Of the pieces before that one, if the block has any.
    digest: Option<Xxh3>,
}

impl<'a> Blocks<'a> {
    pub fn new(root: u64, body: &'a [u8], chain: &'a mut Chain) -> Self {
        let (size, media) = (block_bytes(0), Media::default());
        Self { body, chain, media, link: root, at: 0, size, filled: 0, held: 0..0, digest: None }
    }

    /// What follows is of this kind.
    pub fn begin_section(&mut self, section: u64) {
        self.link = link(self.link, section);
    }

    /// The section that begins has these.
    pub fn expect(&mut self, media: Media) {
        self.media = media;
    }

    /// Ends the block under way, if there is one.
    pub fn end_section(&mut self) {
        if self.filled > 0 {
            self.close();
        }
    }

    /// Goes on with this piece of the body.
    pub fn write(&mut self, piece: Range<usize>) {
        let mut rest = piece;
        while !rest.is_empty() {
            let end = rest.end.min(rest.start + (self.size - self.filled));
            self.hold(rest.start..end);
            rest.start = end;
            if self.filled == self.size {
                self.close();
            }
        }
    }

    /// The anchor is here.
    pub fn mark_anchor(&mut self) {
        self.chain.anchor = link(link(self.link, ANCHOR), self.partial());
    }

    pub fn finish(mut self) {
        self.chain.bytes = self.media.weigh(self.at, self.held.end);
    }

    /// Keeps a piece that does not reach beyond the block under way. One that follows the last without
    /// a gap makes one piece with it, so that most blocks are hashed in one go.
    fn hold(&mut self, piece: Range<usize>) {
        self.at += piece.len();
        self.filled += piece.len();
        if self.held.end == piece.start {
            self.held.end = piece.end;
            return;
        }
        if !self.held.is_empty() {
            let held = self.body.get(self.held.clone()).unwrap_or_default();
            self.digest.get_or_insert_default().update(held);
        }
        self.held = piece;
    }

    /// The digest of the block under way, as far as it goes.
    fn partial(&self) -> u64 {
        let held = self.body.get(self.held.clone()).unwrap_or_default();
        let Some(digest) = &self.digest else { return xxh3_64(held) };
        let mut digest = digest.clone();
        digest.update(held);
        digest.digest()
    }

    /// The block under way ends here.
    fn close(&mut self) {
        self.link = link(self.link, self.partial());
        self.filled = 0;
        self.held.start = self.held.end;
        self.digest = None;
        self.size = block_bytes(self.at);
        if self.chain.hashes.len() < CHAIN_BLOCKS_MAX {
            self.chain.hashes.push(self.link);
            let bytes = self.media.weigh(self.at, self.held.end);
            self.chain.ends.push(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
    }
}
