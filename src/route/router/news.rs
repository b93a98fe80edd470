//! What one shard's router tells the others: which endpoint was sent which blocks.
//!
//! News may be lost: a shard that misses some sends a prompt to a colder endpoint, once.

use std::collections::VecDeque;

/// Block hashes in one piece of news: with the rest, 64 bytes.
const HASHES_MAX: usize = 6;
/// News that wait for the end of the epoch; the newest are dropped beyond it.
const WAITING_MAX: usize = 8_192;

/// Blocks that an endpoint was sent and tokens that it computes, or the length of a prompt in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// The endpoint's identity; 0 stands for none: the hash is a prompt's end, and `tokens` its length.
    /// Else `tokens` are those that the endpoint computes.
    pub(super) endpoint: u64,
    hashes: [u64; HASHES_MAX],
    count: u32,
    pub(super) tokens: u32,
}

impl News {
    /// The blocks, in the order of the prompt.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes[..self.count as usize]
    }
}

/// News that wait for the end of the epoch.
#[derive(Debug)]
pub struct Outbox {
    waiting: VecDeque<News>,
    /// Without other shards there is nobody to tell.
    listened: bool,
    lost: u64,
}

impl Outbox {
    /// For a router with (`listened`) or without listeners.
    pub fn new(listened: bool) -> Self {
        let waiting = VecDeque::with_capacity(if listened { WAITING_MAX } else { 0 });
        Self { waiting, listened, lost: 0 }
    }

    /// This block is new in an endpoint's column.
    pub fn block(&mut self, endpoint: u64, hash: u64) {
        if let Some(last) = self.waiting.back_mut()
            && last.endpoint == endpoint
            && (last.count as usize) < HASHES_MAX
        {
            last.hashes[last.count as usize] = hash;
            last.count += 1;
            return;
        }
        let mut hashes = [0; HASHES_MAX];
        hashes[0] = hash;
        self.push(News { endpoint, hashes, count: 1, tokens: 0 });
    }

    /// An endpoint computes so many tokens: what it computed before ages by that, for all shards.
    pub fn computes(&mut self, endpoint: u64, tokens: u32) {
        match self.waiting.back_mut() {
            Some(last) if last.endpoint == endpoint => {
                last.tokens = last.tokens.saturating_add(tokens);
            }
            _ => self.push(News { endpoint, hashes: [0; HASHES_MAX], count: 0, tokens }),
        }
    }

    /// The prompt that ends with this block has so many tokens.
    pub fn tokens(&mut self, end: u64, tokens: u32) {
        let mut hashes = [0; HASHES_MAX];
        hashes[0] = end;
        self.push(News { endpoint: 0, hashes, count: 1, tokens });
    }

    fn push(&mut self, news: News) {
        match (self.listened, self.waiting.len() < WAITING_MAX) {
            (true, true) => self.waiting.push_back(news),
            (true, false) => self.lost += 1,
            (false, _) => {}
        }
    }

    /// Takes out all that waits.
    pub fn drain(&mut self) -> impl Iterator<Item = News> + '_ {
        self.waiting.drain(..)
    }

    /// News that found no room, since the last call.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_go_out_in_their_order_and_nothing_without_listeners() {
        let hashes: Vec<u64> = (1..=8).collect();
        let mut outbox = Outbox::new(true);
        hashes.iter().for_each(|hash| outbox.block(7, *hash));
        let news: Vec<News> = outbox.drain().collect();
        let told: Vec<u64> = news.iter().flat_map(|one| one.hashes().to_vec()).collect();
        assert_eq!(told, hashes);
        assert!(news.iter().all(|one| one.endpoint == 7));
        assert_eq!(std::mem::size_of::<News>(), 64);
        let mut alone = Outbox::new(false);
        alone.block(7, 1);
        assert_eq!((alone.drain().count(), alone.take_lost()), (0, 0));
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut outbox = Outbox::new(true);
        for end in 0..WAITING_MAX as u64 + 3 {
            outbox.tokens(end, 1);
        }
        assert_eq!((outbox.take_lost(), outbox.take_lost()), (3, 0));
    }
}
