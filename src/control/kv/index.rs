//! From engines' blocks to places in prompts: pure.
//!
//! An engine names its blocks by hashes of its own, and tells the tokens in them. A shard knows a prompt as a
//! chain of hashes over bytes. The two meet in a third chain, over tokens: of a block that was stored we
//! compute it from what the engine says, of a prompt from what a tokeniser says. So a block that an engine
//! stored or removed becomes a place in some prompt's chain, if that prompt was tokenised.
//!
//! Under a plan that isolates tenants an engine's word counts only for blocks whose salts it tells, or one
//! tenant would be taken to have what another one was sent.
//!
//! Prompts are the base model's: those for an adapter are not offered ([`crate::route::precise`]), since
//! older releases tell adapters by numbers that nobody else knows.
//!
//! Invariants: every table has a bound; an engine that stores more than is kept is simply known less well;
//! the same tokens under another adapter or salt, or in blocks of another size, are another chain.

use std::collections::{HashMap, VecDeque};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::batch::{BlockHash, Event, Stored};
use crate::route::precise::{ChainHash, Change};

/// Blocks kept of one engine.
const BLOCKS_MAX: usize = 1 << 20;
/// Places in prompts kept for all engines together; the oldest go first.
const PLACES_MAX: usize = 1 << 20;

/// After something was missed, an engine may hold blocks that are not known. It drops first what it has not
/// used for longest; once so many blocks on end that it dropped were known, so are all that it holds.
const KNOWN_DROPS: u32 = 1_024;

/// The adapter of blocks that have none.
const BASE: u64 = 0;

/// A link of the chain over tokens.
pub type Link = u64;

/// Where one link of a prompt's chain over bytes ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub hash: ChainHash,
    /// Tokens up to its end.
    pub tokens: u32,
}

/// Where the blocks of a prompt's chain, which end after so many of its `bytes`, end in tokens: in
/// proportion, rather later than too early.
pub fn marks(blocks: &[(ChainHash, u64)], bytes: u64, tokens: usize) -> Vec<Mark> {
    let per_byte = tokens as f64 / bytes.max(1) as f64;
    let mark = |(hash, bytes): &(ChainHash, u64)| Mark {
        hash: *hash,
        tokens: (*bytes as f64 * per_byte).ceil() as u32,
    };
    blocks.iter().map(mark).collect()
}

/// Places of prompts that were tokenised.
#[derive(Debug, Default)]
pub struct Places {
    by_link: HashMap<Link, ChainHash, ahash::RandomState>,
    oldest: VecDeque<Link>,
}

/// One engine's blocks.
#[derive(Debug, Default)]
pub struct Blocks {
    links: HashMap<BlockHash, Link, ahash::RandomState>,
    held: HashMap<Link, BlockHash, ahash::RandomState>,
    block_tokens: u32,
    /// Known blocks that it still has to drop until all that it holds are known.
    unknown: u32,
    /// Tenants are isolated: blocks without a word of their salts are left.
    pub isolates: bool,
    /// Blocks that could not be placed: their salts or what they follow were not told, or the table is full.
    pub orphans: u64,
}

fn root(block_tokens: u32, adapter: u64) -> Link {
    adapter.rotate_left(32) ^ u64::from(block_tokens)
}

/// `extra`: what else parts the block from others, or 0.
fn link(parent: Link, extra: u64, tokens: &[u32]) -> Link {
    let parent = if extra == 0 { parent } else { xxh3_64_with_seed(&extra.to_le_bytes(), parent) };
    tokens.iter().fold(parent, |seed, token| xxh3_64_with_seed(&token.to_le_bytes(), seed))
}

impl Places {
    /// Takes a tokenised prompt in, whose salt is the `extra` of its first block, or 0, for engines with
    /// blocks of `size` tokens, 1 or more. Its places are for [`Blocks::find`].
    pub fn learn(
        &mut self,
        (tokens, extra): (&[u32], u64),
        marks: &[Mark],
        size: u32,
    ) -> Vec<(Link, ChainHash)> {
        let mut found = Vec::new();
        let mut parent = root(size, BASE);
        let mut rest = marks.iter().copied().peekable();
        for (block, end) in tokens.chunks_exact(size as usize).zip((1..).map(|n: u32| n * size)) {
            parent = link(parent, if end == size { extra } else { 0 }, block);
            // The last of the chain's ends inside this block: up to there the engine has the prompt.
            let mut place = None;
            while let Some(mark) = rest.next_if(|mark| mark.tokens <= end) {
                place = Some(mark.hash);
            }
            let Some(hash) = place else { continue };
            self.insert(parent, hash);
            found.push((parent, hash));
        }
        found
    }

    fn insert(&mut self, link: Link, hash: ChainHash) {
        if self.by_link.insert(link, hash).is_some() {
            return;
        }
        self.oldest.push_back(link);
        if self.oldest.len() > PLACES_MAX
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.by_link.remove(&oldest);
        }
    }
}

impl Blocks {
    /// Tokens of each, which the first that is stored tells; 0 before.
    pub fn size(&self) -> u32 {
        self.block_tokens
    }

    /// Whether whatever the engine holds is known.
    pub fn are_whole(&self) -> bool {
        self.block_tokens > 0 && self.unknown == 0
    }

    /// Something was missed: whatever the engine holds, it may hold more.
    pub fn lose_track(&mut self) {
        self.clear();
        self.unknown = KNOWN_DROPS;
    }

    fn miss(&mut self, blocks: usize) {
        self.orphans += blocks as u64;
        self.unknown = KNOWN_DROPS;
    }

    /// Tells which places of a prompt are held.
    pub fn find(&self, places: &[(Link, ChainHash)], changes: &mut Vec<Change>) {
        let held = places.iter().filter(|(link, _)| self.held.contains_key(link));
        changes.extend(held.map(|(_, hash)| Change::Has(*hash)));
    }

    /// Blocks that are known.
    pub fn count(&self) -> usize {
        self.held.len()
    }

    /// Takes an event in; what it means for prompts goes to `changes`.
    pub fn apply(&mut self, event: &Event, places: &Places, changes: &mut Vec<Change>) {
        match event {
            Event::Stored(stored) => self.stored(stored, places, changes),
            Event::Removed { blocks } => {
                blocks.iter().for_each(|block| self.removed(*block, places, changes));
            }
            Event::Cleared => {
                self.clear();
                changes.push(Change::LostAll);
            }
        }
    }

    /// The engine's cache is empty.
    pub fn clear(&mut self) {
        self.links.clear();
        self.held.clear();
        self.unknown = 0;
    }

    fn stored(&mut self, stored: &Stored, places: &Places, changes: &mut Vec<Change>) {
        if stored.block_tokens == 0 {
            return;
        }
        if self.isolates && stored.extras.len() != stored.blocks.len() {
            return self.miss(stored.blocks.len());
        }
        if self.block_tokens != stored.block_tokens {
            let unknown = self.unknown;
            self.clear();
            (self.unknown, self.block_tokens) = (unknown, stored.block_tokens);
        }
        let parent = match stored.parent {
            None => Some(root(stored.block_tokens, stored.adapter)),
            Some(parent) => self.links.get(&parent).copied(),
        };
        let Some(mut parent) = parent else { return self.miss(stored.blocks.len()) };
        let tokens = stored.tokens.chunks_exact(stored.block_tokens as usize);
        let extras = stored.extras.iter().copied().chain(std::iter::repeat(0));
        for ((block, tokens), extra) in stored.blocks.iter().zip(tokens).zip(extras) {
            parent = link(parent, extra, tokens);
            if self.links.len() >= BLOCKS_MAX {
                self.miss(1);
                continue;
            }
            self.links.insert(*block, parent);
            self.held.insert(parent, *block);
            changes.extend(places.by_link.get(&parent).map(|hash| Change::Holds(*hash)));
        }
    }

    fn removed(&mut self, block: BlockHash, places: &Places, changes: &mut Vec<Change>) {
        let Some(link) = self.links.remove(&block) else {
            self.unknown = if self.unknown > 0 { KNOWN_DROPS } else { 0 };
            return;
        };
        self.unknown = self.unknown.saturating_sub(1);
        // The same tokens may be held under another name.
        if self.held.get(&link) == Some(&block) {
            self.held.remove(&link);
            changes.extend(places.by_link.get(&link).map(|hash| Change::Lost(*hash)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u32 = 4;

    fn stored(blocks: &[u64], parent: Option<u64>, tokens: &[u32]) -> Event {
        let (blocks, tokens) = (blocks.to_vec(), tokens.to_vec());
        let extras = Vec::new();
        Event::Stored(Stored { blocks, parent, tokens, block_tokens: SIZE, adapter: 0, extras })
    }

    fn marks(ends: &[(u64, u32)]) -> Vec<Mark> {
        ends.iter().map(|(hash, tokens)| Mark { hash: *hash, tokens: *tokens }).collect()
    }

    #[test]
    fn what_is_stored_and_removed_becomes_places_of_prompts() {
        let (mut places, mut blocks, mut changes) = (Places::default(), Blocks::default(), vec![]);
        let tokens: Vec<u32> = (0..16).collect();
        blocks.apply(&stored(&[100, 101], None, &tokens[..8]), &places, &mut changes);
        assert!(changes.is_empty(), "no prompt is known yet");
        let ends = marks(&[(1, 3), (2, 4), (3, 9), (4, 15)]);
        blocks.find(&places.learn((&tokens, 0), &ends, SIZE), &mut changes);
        assert_eq!(
            std::mem::take(&mut changes),
            [Change::Has(2)],
            "of two ends in a block, the last"
        );
        blocks.apply(&stored(&[102, 103], Some(101), &tokens[8..]), &places, &mut changes);
        assert_eq!(std::mem::take(&mut changes), [Change::Holds(3), Change::Holds(4)]);
        blocks.apply(&Event::Removed { blocks: vec![103, 999] }, &places, &mut changes);
        assert_eq!(std::mem::take(&mut changes), [Change::Lost(4)]);
        blocks.apply(&Event::Cleared, &places, &mut changes);
        assert_eq!((changes.as_slice(), blocks.count()), ([Change::LostAll].as_slice(), 0));
    }

    #[test]
    fn the_same_tokens_under_another_salt_are_other_blocks() {
        let (mut places, mut blocks, mut changes) = (Places::default(), Blocks::default(), vec![]);
        let tokens: Vec<u32> = (0..8).collect();
        let Event::Stored(mut salted) = stored(&[1, 2], None, &tokens) else { return };
        salted.extras = vec![7, 0];
        blocks.apply(&Event::Stored(salted), &places, &mut changes);
        for (extra, place) in [(0, 10), (8, 20), (7, 30)] {
            blocks.find(&places.learn((&tokens, extra), &marks(&[(place, 8)]), SIZE), &mut changes);
        }
        assert_eq!(changes, [Change::Has(30)]);
    }

    #[test]
    fn an_adapters_blocks_are_not_the_base_models() {
        let (mut places, mut blocks, mut changes) = (Places::default(), Blocks::default(), vec![]);
        let tokens: Vec<u32> = (0..8).collect();
        let adapted = |names: &[u64]| {
            let Event::Stored(stored) = stored(names, None, &tokens) else { unreachable!() };
            Event::Stored(Stored { adapter: 3, ..stored })
        };
        blocks.apply(&adapted(&[1, 2]), &places, &mut changes);
        blocks.find(&places.learn((&tokens, 0), &marks(&[(10, 8)]), SIZE), &mut changes);
        blocks.apply(&adapted(&[3, 4]), &places, &mut changes);
        assert!(changes.is_empty());
        blocks.apply(&stored(&[5, 6], None, &tokens), &places, &mut changes);
        assert_eq!(changes, [Change::Holds(10)]);
        blocks.apply(&Event::Removed { blocks: vec![1, 2, 3, 4] }, &places, &mut changes);
        assert_eq!(changes.len(), 1, "what the adapter loses the base model keeps");
    }

    #[test]
    fn ends_are_in_proportion() {
        let ends = super::marks(&[(1, 512), (2, 1_024), (3, 1_536)], 2_000, 500);
        assert_eq!(ends, marks(&[(1, 128), (2, 256), (3, 384)]));
    }

    #[test]
    fn where_tenants_are_isolated_blocks_without_a_word_of_salts_are_left() {
        let (places, mut changes) = (Places::default(), vec![]);
        let mut blocks = Blocks { isolates: true, ..Blocks::default() };
        let Event::Stored(mut told) = stored(&[1, 2], None, &[0; 8]) else { return };
        blocks.apply(&Event::Stored(told.clone()), &places, &mut changes);
        assert_eq!((blocks.count(), blocks.orphans), (0, 2));
        told.extras = vec![0, 0];
        blocks.apply(&Event::Stored(told), &places, &mut changes);
        blocks.apply(&stored(&[3], Some(2), &[0; 4]), &places, &mut changes);
        assert_eq!((blocks.count(), blocks.orphans), (2, 3));
    }

    #[test]
    fn blocks_without_their_parent_are_counted_and_left() {
        let (places, mut blocks, mut changes) = (Places::default(), Blocks::default(), vec![]);
        blocks.apply(&stored(&[7, 8], Some(6), &[0; 8]), &places, &mut changes);
        assert_eq!((blocks.count(), blocks.orphans, changes.len()), (0, 2, 0));
    }

    #[test]
    fn after_a_loss_all_is_known_once_what_was_not_is_dropped() {
        let (places, mut blocks, mut changes) = (Places::default(), Blocks::default(), vec![]);
        let names: Vec<u64> = (0..u64::from(KNOWN_DROPS) + 1).collect();
        let mut store = |blocks: &mut Blocks, names: &[u64]| {
            let tokens = vec![0; names.len() * SIZE as usize];
            blocks.apply(&stored(names, None, &tokens), &places, &mut changes);
        };
        assert!(!blocks.are_whole(), "nothing was heard yet");
        store(&mut blocks, &names[..1]);
        assert!(blocks.are_whole());
        blocks.lose_track();
        store(&mut blocks, &names);
        let (first, rest) = names.split_at(1);
        let drop = |blocks: &mut Blocks, names: &[u64]| {
            let gone = Event::Removed { blocks: names.to_vec() };
            blocks.apply(&gone, &Places::default(), &mut vec![]);
        };
        drop(&mut blocks, first);
        drop(&mut blocks, &[99_999]);
        drop(&mut blocks, &rest[1..]);
        assert!(!blocks.are_whole(), "one of them was not known, and one is not dropped yet");
        drop(&mut blocks, &rest[..1]);
        assert!(blocks.are_whole());
        blocks.apply(&stored(&[7], Some(6), &[0; 4]), &Places::default(), &mut vec![]);
        assert!(!blocks.are_whole(), "it follows something that was missed");
        blocks.apply(&Event::Cleared, &Places::default(), &mut vec![]);
        assert!(blocks.are_whole());
    }

    #[test]
    fn other_prompts_blocks_are_not_taken_for_this_ones() {
        let (mut places, mut blocks, mut changes) = (Places::default(), Blocks::default(), vec![]);
        blocks.apply(&stored(&[1], None, &[1, 2, 3, 4]), &places, &mut changes);
        blocks.find(&places.learn((&[9, 2, 3, 4], 0), &marks(&[(5, 4)]), SIZE), &mut changes);
        assert!(changes.is_empty());
    }

    proptest::proptest! {
        /// Whatever order prompts and events come in, in the end the places that are held are those whose
        /// blocks are.
        #[test]
        fn order_does_not_matter(late in proptest::bool::ANY, drop_from in 0usize..6) {
            let (mut places, mut blocks) = (Places::default(), Blocks::default());
            let mut changes = vec![];
            let tokens: Vec<u32> = (0..24).collect();
            let mark = |n| Mark { hash: u64::from(n), tokens: n * SIZE };
            let ends: Vec<Mark> = (1..=6u32).map(mark).collect();
            let names: Vec<u64> = (0..6).collect();
            blocks.apply(&stored(&names[..1], None, &tokens[..4]), &places, &mut changes);
            if !late {
                blocks.find(&places.learn((&tokens, 0), &ends, SIZE), &mut changes);
            }
            blocks.apply(&stored(&names[1..], Some(0), &tokens[4..]), &places, &mut changes);
            let blocks_gone = names[drop_from..].iter().rev().copied().collect();
            let gone = Event::Removed { blocks: blocks_gone };
            blocks.apply(&gone, &places, &mut changes);
            if late {
                blocks.find(&places.learn((&tokens, 0), &ends, SIZE), &mut changes);
            }
            let mut held = std::collections::BTreeSet::new();
            for change in changes {
                match change {
                    Change::Holds(hash) | Change::Has(hash) => held.insert(hash),
                    Change::Lost(hash) => held.remove(&hash),
                    Change::LostAll => { held.clear(); true }
                };
            }
            let expected: std::collections::BTreeSet<u64> = (1..=drop_from as u64).collect();
            proptest::prop_assert_eq!(held, expected);
        }
    }
}
