//! Cutting a stream of bytes into blocks, and linking their hashes.
//!
//! Why blocks of 512 bytes, and why they grow: TODO measure

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

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

/// Writes a stream into a chain.
pub struct Blocks<'c, 'b> {
    chain: &'c mut Chain,
    /// The hash of all blocks so far.
    link: u64,
    /// Bytes of the stream so far.
    at: usize,
    /// Length of the block under way, and how much of it is there.
    size: usize,
    filled: usize,
    /// The last piece of the block under way; what came before it is in `digest`.
    held: &'b [u8],
    digest: Xxh3,
    digested: bool,
}

impl<'c, 'b> Blocks<'c, 'b> {
    pub fn new(root: u64, chain: &'c mut Chain) -> Self {
        let size = block_bytes(0);
        Self {
            chain,
            link: root,
            at: 0,
            size,
            filled: 0,
            held: &[],
            digest: Xxh3::new(),
            digested: false,
        }
    }

    /// What follows is of this kind.
    pub fn begin_section(&mut self, section: u64) {
        self.link = link(self.link, section);
    }

    /// Ends the block under way, if there is one.
    pub fn end_section(&mut self) {
        if self.filled > 0 {
            let digest = self.partial();
            self.close(digest);
        }
    }

    pub fn write(&mut self, bytes: &'b [u8]) {
        let mut rest = bytes;
        if self.filled > 0 {
            let (head, tail) = rest.split_at(rest.len().min(self.size - self.filled));
            self.hold(head);
            rest = tail;
            if self.filled == self.size {
                let digest = self.partial();
                self.close(digest);
            }
        }
        while self.filled == 0 && rest.len() >= self.size {
            let (block, tail) = rest.split_at(self.size);
            rest = tail;
            self.at += block.len();
            self.close(xxh3_64(block));
        }
        self.hold(rest);
    }

    /// The anchor is here.
    pub fn mark_anchor(&mut self) {
        let partial = self.partial();
        self.chain.anchor = link(link(self.link, ANCHOR), partial);
    }

    pub fn finish(self) {
        self.chain.bytes = self.at as u64;
    }

    /// Keeps a piece that does not reach beyond the block under way.
    fn hold(&mut self, piece: &'b [u8]) {
        if piece.is_empty() {
            return;
        }
        if self.filled > 0 {
            self.digest_held();
        }
        self.held = piece;
        self.filled += piece.len();
        self.at += piece.len();
    }

    fn digest_held(&mut self) {
        if !self.digested {
            self.digest.reset();
            self.digested = true;
        }
        self.digest.update(self.held);
        self.held = &[];
    }

    /// The digest of the block under way, as far as it goes.
    fn partial(&mut self) -> u64 {
        if !self.digested {
            return xxh3_64(self.held);
        }
        self.digest_held();
        self.digest.digest()
    }

    /// The block under way ends here.
    fn close(&mut self, digest: u64) {
        self.link = link(self.link, digest);
        self.filled = 0;
        self.held = &[];
        self.digested = false;
        self.size = block_bytes(self.at);
        if self.chain.hashes.len() < CHAIN_BLOCKS_MAX {
            self.chain.hashes.push(self.link);
            self.chain.ends.push(u32::try_from(self.at).unwrap_or(u32::MAX));
        }
    }
}
