//! What a control plane makes of engines' KV events, in virtual time: the same tables that serve real ones,
//! with the delays and bounds of the ways between.
//!
//! An engine's events leave it with the end of a step. Prompts are offered after their dispatch, some wait, a
//! few at a time are tokenised, and what finds no room is not. Those that other gateways may have sent
//! somewhere are tokenised before their dispatch, more at a time.

use std::collections::BTreeMap;

use sluice::control::kv::batch::{Event, Stored};
use sluice::control::kv::index::{Blocks, Places, marks};
use sluice::route::chain::Chain;
use sluice::route::precise::{Change, PROMPTS_MAX};
use sluice_sim::engine::{MILLISECOND, Time, Told};

use super::chooser::{Gpu, Question};
use super::prompts::ids;

/// From an engine to the shards: the socket, the keeper's turn, the shards' next epoch.
const DELAY: Time = 15 * MILLISECOND;
/// Back to the shard that asked, which is woken; half of the keeper's pause is before it.
const ANSWER_DELAY: Time = 5 * MILLISECOND;
/// Prompts that are tokenised at the same time, sent ones and others.
const OFFERED_MAX: usize = 4;
const ASKED_MAX: usize = 16;
/// How long that takes, for each prompt and each of its tokens.
const TOKENISE: Time = 2 * MILLISECOND;
const TOKENISE_TOKEN: Time = MILLISECOND / 1_000;

/// What is on its way.
enum Item {
    Told(Vec<Told>),
    Tokenised { ids: Vec<u32>, blocks: Vec<(u64, u64)>, bytes: u64 },
}

/// One gateway's control plane, as far as it listens to engines.
pub struct Precise {
    blocks: Vec<Blocks>,
    places: Places,
    /// By when it arrives, and in which order it was sent.
    due: BTreeMap<(Time, u64), (Gpu, Item)>,
    sent: u64,
    /// When each of those who tokenise is free again.
    offered: [Time; OFFERED_MAX],
    asked: [Time; ASKED_MAX],
    /// When questions that were put off begin.
    waiting: Vec<Time>,
    waiting_max: usize,
}

impl Precise {
    /// For so many engines and shards.
    pub fn new(gpus: usize, shards: usize) -> Self {
        Self {
            blocks: (0..gpus).map(|_| Blocks::default()).collect(),
            places: Places::default(),
            due: BTreeMap::new(),
            sent: 0,
            offered: [0; OFFERED_MAX],
            asked: [0; ASKED_MAX],
            waiting: Vec::new(),
            waiting_max: PROMPTS_MAX * shards,
        }
    }

    fn send(&mut self, at: Time, gpu: Gpu, item: Item) {
        self.sent += 1;
        self.due.insert((at, self.sent), (gpu, item));
    }

    /// An engine tells.
    pub fn told(&mut self, now: Time, gpu: Gpu, told: &[Told]) {
        self.send(now + DELAY, gpu, Item::Told(told.to_vec()));
    }

    /// A prompt was sent to an engine.
    pub fn offer(&mut self, now: Time, gpu: Gpu, asked: &Question<'_>, chain: &Chain) {
        self.waiting.retain(|begin| *begin > now);
        if self.waiting.len() >= self.waiting_max {
            return;
        }
        let (begin, done) = tokenised(&mut self.offered, now, asked);
        if begin > now {
            self.waiting.push(begin);
        }
        self.send(done + DELAY, gpu, tokens(asked, chain));
    }

    /// A prompt is to be tokenised before it is sent: when that is known, if it is within `patience`.
    pub fn ask(
        &mut self,
        now: Time,
        patience: Time,
        asked: &Question<'_>,
        chain: &Chain,
    ) -> Option<Time> {
        let (_, done) = tokenised(&mut self.asked, now, asked);
        let known = done + ANSWER_DELAY;
        self.send(known, 0, tokens(asked, chain));
        (known <= now + patience).then_some(known)
    }

    /// Whether all that engines hold is known.
    pub fn hears_all(&self) -> bool {
        self.blocks.iter().all(Blocks::are_whole)
    }

    /// What has arrived by now.
    pub fn changes(&mut self, now: Time) -> Vec<(Gpu, Change)> {
        let mut all = Vec::new();
        let later = self.due.split_off(&(now + 1, 0));
        for (gpu, item) in std::mem::replace(&mut self.due, later).into_values() {
            self.take(gpu, item, |gpu, changes| {
                all.extend(changes.drain(..).map(|change| (gpu, change)));
            });
        }
        all
    }

    fn take(&mut self, gpu: Gpu, item: Item, mut tell: impl FnMut(Gpu, &mut Vec<Change>)) {
        let (Self { blocks, places, .. }, mut changes) = (self, Vec::new());
        match item {
            Item::Told(told) => {
                let told = told.into_iter().map(event);
                told.for_each(|one| blocks[gpu].apply(&one, places, &mut changes));
                tell(gpu, &mut changes);
            }
            Item::Tokenised { ids, blocks: ends, bytes } => {
                // All engines of a fleet have blocks of one size.
                let size = blocks.iter().map(Blocks::size).max().unwrap_or(0);
                if size == 0 {
                    return;
                }
                let marks = marks(&ends, bytes, ids.len());
                // No trace has salts.
                let found = places.learn((&ids, 0), &marks, size);
                for (gpu, blocks) in blocks.iter().enumerate() {
                    blocks.find(&found, &mut changes);
                    tell(gpu, &mut changes);
                }
            }
        }
    }
}

/// When one of those who tokenise begins with a prompt, and is done with it.
fn tokenised(free: &mut [Time], now: Time, asked: &Question<'_>) -> (Time, Time) {
    let Some(first) = free.iter_mut().min() else { return (now, now) };
    let begin = now.max(*first);
    *first = begin + TOKENISE + u64::from(asked.tokens()) * TOKENISE_TOKEN;
    (begin, *first)
}

fn tokens(asked: &Question<'_>, chain: &Chain) -> Item {
    let end = |(at, hash): (usize, &u64)| (*hash, chain.bytes_at(at + 1));
    let blocks = chain.hashes().iter().enumerate().map(end).collect();
    Item::Tokenised { ids: ids(asked.ask), blocks, bytes: chain.bytes() }
}

/// As it is decoded from an engine's message.
fn event(told: Told) -> Event {
    match told {
        Told::Stored { hash, parent, tokens, .. } => Event::Stored(Stored {
            blocks: vec![hash],
            parent,
            block_tokens: tokens.len() as u32,
            tokens,
            adapter: 0,
            extras: Vec::new(),
        }),
        Told::Removed { hash } => Event::Removed { blocks: vec![hash] },
        Told::Cleared => Event::Cleared,
    }
}
