//! Who holds which blocks of which prompts: chain hashes → endpoints, in a fixed amount of memory.
//!
//! Set-associative: a hash has one bucket, a cache line of four entries. An entry names up to five
//! endpoints itself; a block that more of them hold has a set of its own, from a fixed pool. What is
//! asked for least goes first, by a clock in each bucket and one over the pool. Nothing is allocated
//! after the table is made.
//!
//! Invariants:
//! - The table takes no more than the memory it was given, and all of it from the beginning.
//! - It names an endpoint for a block only if that was inserted since the endpoint was last cleared,
//!   or if two blocks share 32 bits of tag and the bucket: about once in 10^9 look-ups.
//! - An endpoint's depth is its deepest block that is present: a hole, which an eviction or a lost
//!   broadcast leaves, hides nothing.

mod bucket;
mod ends;
mod generations;
mod news;
mod wide;

#[cfg(test)]
mod tests;

use std::hint::black_box;

use bucket::{Bucket, Holders, SLOTS, Slot, WAYS, WideRef};
use ends::{END_BYTES, Ends};
use generations::{Generations, OWED_SHARES_MAX, SHARES};
pub use news::{Fresh, News};
use wide::{Place, Pool, WIDE_BYTES};

use super::chain::CHAIN_BLOCKS_MAX;
use super::endpoints::{Depths, EndpointSet};
use super::horizon::GENERATIONS;
use crate::config::plan::PREFIX_TABLE_MIB_MAX;

/// Parts of the memory: one in so many bytes is for wide sets, and for prompts' token counts.
const WIDE_SHARE: usize = 8;
const ENDS_SHARE: usize = 64;
/// Buckets that an insertion sweeps while a clear's leavings are there.
const SWEPT_BUCKETS_PER_INSERT: usize = 64;
/// A part of what is owed that a tick sweeps, one in so many: at the default of 16 MiB 800 buckets at most,
/// at 1 GiB 51,000.
const SWEPT_SHARE_PER_TICK: usize = 64;
/// Sets that the pool's clock passes in search of one to give up, at most.
const WIDE_TICKS_MAX: usize = 64;
/// No way of its bucket has the tag.
const NOWHERE: u8 = u8::MAX;

/// How full a table is, and what it gave up so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Blocks in the table.
    pub entries: usize,
    pub entries_max: usize,
    /// Blocks that have a set of their own.
    pub wide: usize,
    pub wide_max: usize,
    /// Blocks given up to make room, for either reason.
    pub evictions: u64,
}

impl TableStats {
    /// 0 to 1.
    pub fn fill(&self) -> f64 {
        self.entries as f64 / self.entries_max.max(1) as f64
    }
}

/// See the module.
#[derive(Debug)]
pub struct PrefixTable {
    buckets: Box<[Bucket]>,
    pool: Pool,
    ends: Ends,
    generations: Generations,
    /// For each block of a look-up, the way where it is.
    ways: Box<[u8; CHAIN_BLOCKS_MAX]>,
    /// The next bucket to sweep, and how many are left to be.
    sweep_at: usize,
    unswept: usize,
    /// Of those, how many must be swept before more may become stale than [`OWED_SHARES_MAX`] allows for.
    owed: usize,
    entries: usize,
    evictions: u64,
}

/// The part of a hash that picks one of `count` places: its high bits.
fn index(hash: u64, count: usize) -> usize {
    ((u128::from(hash) * count as u128) >> 64) as usize
}

/// The part of a hash that an entry keeps: its low bits.
fn tag(hash: u64) -> u32 {
    hash as u32
}

impl PrefixTable {
    /// A table of 1 MiB to [`PREFIX_TABLE_MIB_MAX`].
    pub fn new(memory_mib: usize) -> Self {
        let bytes = memory_mib.clamp(1, PREFIX_TABLE_MIB_MAX) << 20;
        let wide = bytes / WIDE_SHARE / WIDE_BYTES;
        let ends = bytes / ENDS_SHARE / END_BYTES;
        let rest = bytes - wide * WIDE_BYTES - ends * END_BYTES - Self::fixed_bytes();
        Self {
            buckets: vec![Bucket::EMPTY; rest / size_of::<Bucket>()].into_boxed_slice(),
            pool: Pool::new(wide),
            ends: Ends::new(ends),
            generations: Generations::new(),
            ways: Box::new([NOWHERE; CHAIN_BLOCKS_MAX]),
            sweep_at: 0,
            unswept: 0,
            owed: 0,
            entries: 0,
            evictions: 0,
        }
    }

    const fn fixed_bytes() -> usize {
        size_of::<Self>() + Generations::memory_bytes() + CHAIN_BLOCKS_MAX
    }

    pub fn stats(&self) -> TableStats {
        TableStats {
            entries: self.entries,
            entries_max: self.buckets.len() * WAYS,
            wide: self.pool.used(),
            wide_max: self.pool.count(),
            evictions: self.evictions,
        }
    }

    /// For each endpoint of `wanted`, how many leading blocks of the chain it holds.
    pub fn depths(&mut self, hashes: &[u64], wanted: &EndpointSet, depths: &mut Depths) {
        depths.clear();
        let hashes = &hashes[..hashes.len().min(CHAIN_BLOCKS_MAX)];
        self.locate(hashes);
        let (mut unknown, mut left) = (*wanted, wanted.len());
        for (i, hash) in hashes.iter().enumerate().rev() {
            let way = self.ways[i];
            if way == NOWHERE {
                continue;
            }
            let bucket = index(*hash, self.buckets.len());
            let place = Place { bucket, way: usize::from(way) };
            self.buckets[bucket].mark(place.way);
            if left > 0 {
                left -= self.depth_at(place, i + 1, &mut unknown, depths);
            }
        }
    }

    /// Finds the way of each hash.
    fn locate(&mut self, hashes: &[u64]) {
        self.fetch(hashes);
        for (hash, way) in hashes.iter().zip(self.ways.iter_mut()) {
            let bucket = &self.buckets[index(*hash, self.buckets.len())];
            *way = bucket.find(tag(*hash)).map_or(NOWHERE, |way| way as u8);
        }
    }

    /// Brings the buckets of these hashes into the cache. The loop does so little that all its loads are
    /// under way at once (64 of them from memory: 0.7 µs, against 2.7 where each bucket is searched
    /// as it arrives).
    fn fetch(&self, hashes: &[u64]) {
        let bucket = |hash: &u64| &self.buckets[index(*hash, self.buckets.len())];
        black_box(hashes.iter().fold(0, |sum, hash| sum ^ bucket(hash).word()));
    }

    /// Gives `depth` to those of `unknown` who hold the block at `place`; tells how many they are.
    fn depth_at(
        &mut self,
        place: Place,
        depth: usize,
        unknown: &mut EndpointSet,
        depths: &mut Depths,
    ) -> usize {
        let bucket = &self.buckets[place.bucket];
        let mut count = 0;
        match bucket.holders(place.way) {
            Holders::Few(_) => {
                for slot in bucket.slots(place.way) {
                    let endpoint = Generations::endpoint(*slot);
                    if unknown.contains(endpoint) && self.generations.holds(*slot) {
                        unknown.remove(endpoint);
                        depths.set(endpoint, depth);
                        count += 1;
                    }
                }
            }
            Holders::Wide(wide) => {
                let wide = self.refreshed(place, wide);
                for endpoint in unknown.take(self.pool.get(wide.index)).iter() {
                    depths.set(endpoint, depth);
                    count += 1;
                }
            }
        }
        count
    }

    /// The wide set of an entry, brought up to date.
    fn refreshed(&mut self, place: Place, wide: WideRef) -> WideRef {
        let clears = self.generations.clears();
        if wide.stamp == clears {
            return wide;
        }
        if let Some(set) = self.pool.get_mut(wide.index) {
            self.generations.refresh(set, wide.stamp);
        }
        let wide = WideRef { index: wide.index, stamp: clears };
        self.buckets[place.bucket].set_wide(place.way, wide);
        wide
    }

    /// Notes that `endpoint` holds these blocks. What it was not known to hold goes to `news`, too.
    pub fn insert(&mut self, hashes: &[u64], endpoint: u16, news: &mut News) {
        let Some(slot) = self.generations.slot(endpoint) else { return };
        self.fetch(hashes);
        for hash in hashes {
            if self.add(*hash, slot) {
                news.push(Fresh { hash: *hash, endpoint });
            }
        }
        self.sweep(SWEPT_BUCKETS_PER_INSERT);
    }

    /// Notes what another shard's table learned.
    pub fn learn(&mut self, fresh: Fresh) {
        if let Some(slot) = self.generations.slot(fresh.endpoint) {
            self.add(fresh.hash, slot);
        }
    }

    /// Notes what an endpoint was found to hold, though nobody here asked it for that of late: it is as good
    /// as what was said a generation ago.
    pub fn find(&mut self, found: Fresh) {
        if self.age(found.hash, found.endpoint).is_none()
            && let Some(slot) = self.generations.slot_before(found.endpoint)
        {
            self.add(found.hash, slot);
        }
    }

    /// True if that was not known, or would soon be forgotten by those who do not hear of it again.
    fn add(&mut self, hash: u64, slot: Slot) -> bool {
        let endpoint = Generations::endpoint(slot);
        let at = index(hash, self.buckets.len());
        let Some(way) = self.buckets[at].find(tag(hash)) else {
            let way = self.free_way(at);
            self.buckets[at].open(way, tag(hash), slot);
            self.entries += 1;
            return true;
        };
        let bucket = &mut self.buckets[at];
        bucket.mark(way);
        let place = Place { bucket: at, way };
        match bucket.holders(way) {
            Holders::Wide(wide) => {
                let wide = self.refreshed(place, wide);
                let Some(set) = self.pool.get_mut(wide.index) else { return false };
                let fresh = !set.contains(endpoint);
                set.insert(endpoint);
                fresh
            }
            Holders::Few(count) => {
                if let Some(before) = bucket.renew(way, slot) {
                    return self.generations.is_aged(before);
                }
                if count == SLOTS {
                    bucket.retain(way, |slot| self.generations.holds(slot));
                }
                if !bucket.push(way, slot) {
                    self.widen(place, endpoint);
                }
                true
            }
        }
    }

    /// A way of this bucket that is free, by giving up an entry if need be.
    fn free_way(&mut self, at: usize) -> usize {
        let bucket = &mut self.buckets[at];
        if let Some(way) = bucket.free_way() {
            return way;
        }
        let way = bucket.victim();
        self.evict(Place { bucket: at, way });
        way
    }

    fn evict(&mut self, place: Place) {
        self.remove(place);
        self.evictions = self.evictions.wrapping_add(1);
    }

    fn remove(&mut self, place: Place) {
        let bucket = &mut self.buckets[place.bucket];
        if let Holders::Wide(wide) = bucket.holders(place.way) {
            self.pool.release(wide.index);
        }
        bucket.close(place.way);
        self.entries -= 1;
    }

    /// Gives an entry that is full, and `endpoint` with it, a wide set.
    fn widen(&mut self, place: Place, endpoint: u16) {
        let bucket = &self.buckets[place.bucket];
        let holders = bucket.slots(place.way).iter().map(|slot| Generations::endpoint(*slot));
        let set = holders.chain([endpoint]).collect();
        if self.pool.is_full() {
            self.evict_wide();
        }
        if let Some(index) = self.pool.take(place, set) {
            let stamp = self.generations.clears();
            self.buckets[place.bucket].set_wide(place.way, WideRef { index, stamp });
        }
    }

    /// Gives up the first entry with a wide set, from the clock's hand on, that nobody asked for.
    fn evict_wide(&mut self) {
        for tick in 1..=WIDE_TICKS_MAX {
            let owner = self.pool.tick();
            let asked_for = self.buckets[owner.bucket].take_wide_reference(owner.way);
            if !asked_for || tick == WIDE_TICKS_MAX {
                self.evict(owner);
                return;
            }
        }
    }

    /// Notes that `endpoint` holds none of these blocks from the block `from` on.
    pub fn trim(&mut self, hashes: &[u64], from: usize, endpoint: u16) {
        for hash in hashes.get(from..).unwrap_or_default() {
            let at = index(*hash, self.buckets.len());
            if let Some(way) = self.buckets[at].find(tag(*hash)) {
                self.forget(Place { bucket: at, way }, Some(endpoint));
            }
        }
    }

    /// Takes out of an entry what is stale, and `endpoint`; and the entry itself, if nobody is left.
    fn forget(&mut self, place: Place, endpoint: Option<u16>) {
        let bucket = &mut self.buckets[place.bucket];
        let empty = match bucket.holders(place.way) {
            Holders::Few(_) => {
                let keep = |slot| {
                    self.generations.holds(slot) && Some(Generations::endpoint(slot)) != endpoint
                };
                bucket.retain(place.way, keep) == 0
            }
            Holders::Wide(wide) => {
                let wide = self.refreshed(place, wide);
                let set = self.pool.get_mut(wide.index);
                set.is_none_or(|set| {
                    endpoint.into_iter().for_each(|endpoint| set.remove(endpoint));
                    set.is_empty()
                })
            }
        };
        if empty {
            self.remove(place);
        }
    }

    /// Forgets all that `endpoint` holds: it was restarted, or its index is another endpoint's now. What that
    /// leaves is swept later; but where the last clear's is still there, up to a fifth of the table at once
    /// (full, at 1 GiB: 0.11 s).
    pub fn clear(&mut self, endpoint: u16) {
        self.owe(GENERATIONS);
        self.generations.clear(endpoint);
        self.unswept = self.buckets.len();
    }

    /// A generation of `endpoint` passes: what was not inserted in the last few is stale now.
    pub fn pass(&mut self, endpoint: u16) {
        self.owe(1);
        self.generations.pass(endpoint);
        self.unswept = self.buckets.len();
    }

    /// So many generations are about to pass. What cannot wait is swept now.
    fn owe(&mut self, generations: u8) {
        let share = self.buckets.len().div_ceil(SHARES);
        self.owed += share * usize::from(generations);
        self.sweep(self.owed.saturating_sub(share * OWED_SHARES_MAX));
    }

    /// A tick is over: sweeps a part of what is owed.
    pub fn sweep_a_part(&mut self) {
        self.sweep(self.owed / SWEPT_SHARE_PER_TICK);
    }

    /// How many generations ago `endpoint` was last said to hold this block; `None` if it is not, or if
    /// so many hold it that it does not age.
    pub fn age(&self, hash: u64, endpoint: u16) -> Option<u8> {
        let bucket = &self.buckets[index(hash, self.buckets.len())];
        let slots = bucket.slots(bucket.find(tag(hash))?);
        let slot = slots.iter().find(|slot| Generations::endpoint(**slot) == endpoint)?;
        Some(self.generations.age(*slot)).filter(|_| self.generations.holds(*slot))
    }

    /// Takes what is stale out of the next buckets, if there is anything left to sweep.
    fn sweep(&mut self, buckets: usize) {
        let buckets = buckets.min(self.unswept);
        for _ in 0..buckets {
            for way in self.buckets[self.sweep_at].live() {
                self.forget(Place { bucket: self.sweep_at, way }, None);
            }
            self.sweep_at = (self.sweep_at + 1) % self.buckets.len();
        }
        self.unswept -= buckets;
        self.owed = if self.unswept == 0 { 0 } else { self.owed.saturating_sub(buckets) };
    }

    /// Remembers how many tokens the engine counted for the whole prompt whose last block has this
    /// hash.
    pub fn remember_tokens(&mut self, end_hash: u64, prompt_tokens: u32) {
        self.ends.remember(end_hash, prompt_tokens);
    }

    /// What was remembered for that end, if it was not overwritten since.
    pub fn tokens_at(&self, hash: u64) -> Option<u32> {
        self.ends.recall(hash)
    }
}
