//! The paged KV pool: reference counts, content addresses, and an LRU list of the free blocks.
//!
//! A free block keeps its content until it is taken again, so "free" and "cached" overlap, as in
//! vLLM. Invariants: a block is on the free list exactly when nobody refers to it; a content hash
//! leads to at most one block; the list's head is the least recently released block.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Index of a block in the pool.
pub type BlockId = u32;

const NIL: BlockId = BlockId::MAX;

#[derive(Clone, Copy)]
struct Block {
    hash: Option<u64>,
    refs: u32,
    previous: BlockId,
    next: BlockId,
}

/// Content hashes are mixed already: the map may use them as they are.
#[derive(Default)]
struct Ready(u64);

impl Hasher for Ready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// All KV blocks of one engine.
pub struct BlockPool {
    blocks: Vec<Block>,
    by_hash: HashMap<u64, BlockId, BuildHasherDefault<Ready>>,
    head: BlockId,
    tail: BlockId,
    free: u32,
    evictions: u64,
}

impl BlockPool {
    /// A pool of `count` empty blocks.
    pub fn new(count: u32) -> Self {
        let empty = Block { hash: None, refs: 0, previous: NIL, next: NIL };
        let mut pool = Self {
            blocks: vec![empty; count as usize],
            by_hash: HashMap::default(),
            head: NIL,
            tail: NIL,
            free: 0,
            evictions: 0,
        };
        (0..count).for_each(|id| pool.push_free(id));
        pool
    }

    /// Blocks that nobody refers to, cached or empty.
    pub fn free(&self) -> u32 {
        self.free
    }

    /// All blocks.
    pub fn total(&self) -> u32 {
        self.blocks.len() as u32
    }

    /// Cached blocks whose content was given up for new work, since the start.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// The block that holds this content, if it is still there.
    pub fn find(&self, hash: u64) -> Option<BlockId> {
        self.by_hash.get(&hash).copied()
    }

    /// Whether nobody refers to the block.
    pub fn is_free(&self, id: BlockId) -> bool {
        self.blocks[id as usize].refs == 0
    }

    /// One more user of a cached block.
    pub fn share(&mut self, id: BlockId) {
        if self.is_free(id) {
            self.unlink_free(id);
        }
        self.blocks[id as usize].refs += 1;
    }

    /// The least recently used free block, emptied, and the content it gave up; `None` when every block is in
    /// use.
    pub fn take(&mut self) -> Option<(BlockId, Option<u64>)> {
        let id = self.head;
        if id == NIL {
            return None;
        }
        self.unlink_free(id);
        let block = &mut self.blocks[id as usize];
        block.refs = 1;
        let evicted = block.hash.take();
        if let Some(hash) = evicted {
            self.by_hash.remove(&hash);
            self.evictions += 1;
        }
        Some((id, evicted))
    }

    /// One user less; the last one puts the block at the end of the free list, content kept.
    pub fn release(&mut self, id: BlockId) {
        let block = &mut self.blocks[id as usize];
        block.refs -= 1;
        if block.refs == 0 {
            self.push_free(id);
        }
    }

    /// Makes the block findable by its content, unless another block already is; whether it is that one now.
    pub fn publish(&mut self, id: BlockId, hash: u64) -> bool {
        let fresh = self.blocks[id as usize].hash.is_none() && !self.by_hash.contains_key(&hash);
        if fresh {
            self.blocks[id as usize].hash = Some(hash);
            self.by_hash.insert(hash, id);
        }
        fresh
    }

    /// Forgets all content that is not in use by a running sequence.
    pub fn clear_cache(&mut self) {
        for block in &mut self.blocks {
            if block.refs == 0
                && let Some(hash) = block.hash.take()
            {
                self.by_hash.remove(&hash);
            }
        }
    }

    fn push_free(&mut self, id: BlockId) {
        let tail = self.tail;
        let block = &mut self.blocks[id as usize];
        block.previous = tail;
        block.next = NIL;
        match tail {
            NIL => self.head = id,
            tail => self.blocks[tail as usize].next = id,
        }
        self.tail = id;
        self.free += 1;
    }

    fn unlink_free(&mut self, id: BlockId) {
        let Block { previous, next, .. } = self.blocks[id as usize];
        match previous {
            NIL => self.head = next,
            previous => self.blocks[previous as usize].next = next,
        }
        match next {
            NIL => self.tail = previous,
            next => self.blocks[next as usize].previous = previous,
        }
        self.free -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_released_block_goes_first() {
        let mut pool = BlockPool::new(3);
        let taken: Vec<_> = (0..3).map(|_| pool.take().unwrap().0).collect();
        assert_eq!(pool.take(), None);
        for (id, hash) in taken.iter().zip([10, 11, 12]) {
            pool.publish(*id, hash);
        }
        for at in [1, 0, 2] {
            pool.release(taken[at]);
        }
        assert_eq!(pool.take(), Some((taken[1], Some(11))));
        assert_eq!((pool.find(11), pool.find(10)), (None, Some(taken[0])));
        assert_eq!(pool.evictions(), 1);
    }

    #[test]
    fn a_shared_block_leaves_the_free_list_and_comes_back_last() {
        let mut pool = BlockPool::new(2);
        let first = pool.take().unwrap().0;
        pool.publish(first, 7);
        pool.release(first);
        pool.share(first);
        pool.share(first);
        assert_eq!(pool.free(), 1);
        pool.release(first);
        assert_eq!(pool.free(), 1);
        pool.release(first);
        assert_eq!(pool.free(), 2);
        assert_ne!(pool.take().unwrap().0, first);
        assert_eq!(pool.find(7), Some(first));
    }

    #[test]
    fn content_is_published_once() {
        let mut pool = BlockPool::new(2);
        let (first, second) = (pool.take().unwrap().0, pool.take().unwrap().0);
        pool.publish(first, 7);
        pool.publish(second, 7);
        assert_eq!(pool.find(7), Some(first));
        pool.release(second);
        assert_eq!(pool.take(), Some((second, None)));
        assert_eq!(pool.find(7), Some(first));
        pool.release(first);
        pool.clear_cache();
        assert_eq!(pool.find(7), None);
    }
}
