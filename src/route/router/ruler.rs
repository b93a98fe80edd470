//! Turns positions in a prompt into tokens.

use crate::route::chain::Chain;
use crate::route::cost::InputRatio;
use crate::route::table::PrefixTable;

/// Blocks that are looked at for the end of a prompt whose tokens an engine told.
const LOOKS_MAX: usize = 4;

/// A position whose tokens are known, and how bytes become tokens beside it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ruler {
    known: Option<(u64, u32)>,
    ratio: InputRatio,
}

impl Ruler {
    /// For a prompt of which some endpoint has the first `depth` blocks.
    pub fn new(table: &PrefixTable, chain: &Chain, depth: usize, ratio: InputRatio) -> Self {
        let hashes = &chain.hashes()[..depth.min(chain.hashes().len())];
        let near = hashes.iter().enumerate().rev().take(LOOKS_MAX);
        let mut told = near.filter_map(|(at, hash)| Some((at + 1, table.tokens_at(*hash)?)));
        let known = told.next().map(|(blocks, tokens)| (chain.bytes_at(blocks), tokens));
        Self { known: known.filter(|(bytes, _)| *bytes > 0), ratio }
    }

    /// Tokens of the first `bytes` of the prompt.
    pub fn tokens(&self, bytes: u64) -> u32 {
        match self.known {
            Some((known, tokens)) if bytes < known => {
                (u64::from(tokens) * bytes / known).try_into().unwrap_or(u32::MAX)
            }
            known => self.ratio.tokens(bytes, known),
        }
    }
}
