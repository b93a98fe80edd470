//! The task that knows which engine holds which beginnings of prompts, and tells shards what changes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::batch::extra;
use super::index::{Blocks, Places, marks};
use super::subscriber::Heard;
use super::tokens::{self, Tokenised};
use crate::route::precise::{Answer, Change, Lane, Prompt, Ticket, Told};
use crate::shard::link::Bell;
use crate::telemetry::kv::KvCounts;

/// Prompts that were sent, and are tokenised at once.
const OFFERED_MAX: usize = 4;
/// Prompts for which a request waits, and that are tokenised at once.
const ASKED_MAX: usize = 16;
/// How often shards' prompts are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// What may wait to be taken in; subscribers wait then.
const HEARD_MAX: usize = 256;

/// What the keeper is told.
#[derive(Debug)]
pub enum Input {
    /// Of the engine with this identity.
    Heard(u64, Heard),
    Tokenised(Box<Tokenised>),
    /// The engines that tell of their caches now, by generation of the plan and endpoint id.
    Engines(Vec<tokens::Engine>),
}

/// Prompts that were tokenised before their engine told of a first block, at most; the oldest go.
const EARLY_MAX: usize = 32;

/// The keeper's state.
pub struct Keeper {
    /// Shards', each with what wakes it.
    lanes: Vec<(Arc<Lane>, Bell)>,
    engines: Vec<tokens::Engine>,
    blocks: HashMap<u64, Blocks>,
    places: Places,
    /// Nothing can be said of them before the engine tells how large its blocks are.
    early: VecDeque<Box<Tokenised>>,
    changes: Vec<Change>,
    /// Under way.
    offered: usize,
    asked: usize,
    counts: Arc<KvCounts>,
    inputs: mpsc::Sender<Input>,
}

/// The way to the keeper.
pub type Door = mpsc::Sender<Input>;

/// Starts the keeper. It ends with the process.
pub fn start(lanes: Vec<(Arc<Lane>, Bell)>, counts: Arc<KvCounts>) -> Door {
    let (inputs, outputs) = mpsc::channel(HEARD_MAX);
    tokio::spawn(Keeper::new(lanes, counts, inputs.clone()).run(outputs));
    inputs
}

impl Keeper {
    /// Of no engine yet.
    fn new(lanes: Vec<(Arc<Lane>, Bell)>, counts: Arc<KvCounts>, inputs: Door) -> Self {
        Self {
            lanes,
            engines: Vec::new(),
            blocks: HashMap::new(),
            places: Places::default(),
            early: VecDeque::new(),
            changes: Vec::new(),
            offered: 0,
            asked: 0,
            counts,
            inputs,
        }
    }

    async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        loop {
            let heard = match self.engines.is_empty() {
                true => inputs.recv().await,
                false => match tokio::time::timeout(LOOK_EVERY, inputs.recv()).await {
                    Ok(heard) => heard,
                    Err(_) => {
                        self.look();
                        continue;
                    }
                },
            };
            match heard {
                Some(Input::Heard(identity, heard)) => self.hear(identity, &heard),
                Some(Input::Tokenised(tokenised)) => self.learn(tokenised),
                Some(Input::Engines(engines)) => self.adopt(engines),
                None => return,
            }
            self.look();
        }
    }

    fn adopt(&mut self, engines: Vec<tokens::Engine>) {
        let known = |identity| engines.iter().any(|one| one.identity == identity);
        self.blocks.retain(|identity, _| known(*identity));
        self.early.retain(|one| known(one.identity));
        self.engines = engines;
    }

    fn hear(&mut self, identity: u64, heard: &Heard) {
        // A subscriber that was aborted may still be heard of.
        let engine = self.engines.iter().find(|one| one.identity == identity);
        let Some(isolates) = engine.map(|one| one.isolates) else { return };
        self.blocks.entry(identity).or_default().isolates = isolates;
        self.heard(identity, heard);
    }

    fn heard(&mut self, identity: u64, heard: &Heard) {
        let blocks = self.blocks.entry(identity).or_default();
        let orphans = blocks.orphans;
        match heard {
            Heard::Events(events) => {
                for event in events {
                    blocks.apply(event, &self.places, &mut self.changes);
                }
                self.counts.events.add(events.len() as u64);
            }
            Heard::LostTrack => {
                blocks.clear();
                self.changes.push(Change::LostAll);
                self.counts.lost_track.inc();
            }
        }
        self.counts.orphans.add(blocks.orphans - orphans);
        self.tell(identity);
        for one in std::mem::take(&mut self.early) {
            self.place(one);
        }
    }

    /// Tells every shard; what finds no room is counted.
    fn tell(&mut self, identity: u64) {
        let held = self.blocks.values().map(Blocks::count).sum::<usize>();
        self.counts.blocks.set(held as u64);
        for change in self.changes.drain(..) {
            for (lane, _) in &self.lanes {
                let lost = lane.changes.push((identity, change)).is_err();
                self.counts.changes.inc();
                self.counts.changes_lost.add(u64::from(lost));
            }
        }
    }

    /// Has prompts tokenised, as many at once as may be; first those for which somebody waits.
    fn look(&mut self) {
        for at in 0..self.lanes.len() {
            while self.asked < ASKED_MAX {
                let Some(prompt) = self.lanes[at].0.questions.pop() else { break };
                self.ask(at, prompt);
            }
        }
        for at in 0..self.lanes.len() {
            while self.offered < OFFERED_MAX {
                let Some(prompt) = self.lanes[at].0.prompts.pop() else { break };
                self.ask(at, prompt);
            }
        }
    }

    fn ask(&mut self, shard: usize, prompt: Prompt) {
        let engines = self.engines.iter().filter(|one| one.generation == prompt.generation);
        let serve = |one: &&tokens::Engine| prompt.endpoints.contains(&one.endpoint_id);
        let identities = engines.clone().filter(serve).map(|one| one.identity).collect();
        let mut asked = engines.filter(|one| one.endpoint_id == prompt.endpoint);
        let Some(engine) = asked.next().cloned() else {
            // The plan is another one by now.
            return self.answer(shard, prompt.ticket, Told::default());
        };
        *self.under_way(&prompt) += 1;
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            let tokens = tokens::tokenise(&engine, &prompt).await;
            let identity = engine.identity;
            let tokenised = Tokenised { shard, identity, identities, prompt, tokens };
            // The keeper goes only with the process.
            let _ = inputs.send(Input::Tokenised(Box::new(tokenised))).await;
        });
    }

    fn under_way(&mut self, prompt: &Prompt) -> &mut usize {
        if prompt.ticket.is_some() { &mut self.asked } else { &mut self.offered }
    }

    fn learn(&mut self, mut tokenised: Box<Tokenised>) {
        *self.under_way(&tokenised.prompt) -= 1;
        let (shard, ticket) = (tokenised.shard, tokenised.prompt.ticket);
        let tokens = tokenised.tokens.as_ref().map(|tokens| tokens.len() as u32);
        let mut told = Told { tokens, everywhere: false };
        if tokens.is_none() {
            self.counts.prompts_refused.inc();
        } else {
            self.counts.prompts.inc();
            tokenised.prompt.body = Box::default();
            told.everywhere = self.place(tokenised);
        }
        self.answer(shard, ticket, told);
    }

    /// Tells who waits, if anybody does. What finds no room is not waited for long.
    fn answer(&self, shard: usize, ticket: Option<Ticket>, told: Told) {
        let (Some(ticket), Some((lane, bell))) = (ticket, self.lanes.get(shard)) else { return };
        let _ = lane.answers.push(Answer { ticket, told });
        bell();
    }

    /// Finds a prompt's places in its engines' blocks, or keeps it until the one that tokenised it has some.
    /// Whether all engines that serve it told of theirs.
    fn place(&mut self, tokenised: Box<Tokenised>) -> bool {
        let Some(tokens) = &tokenised.tokens else { return false };
        let Some(salt) = salt(&tokenised.prompt) else { return false };
        let prompt = &tokenised.prompt;
        let marks = marks(&prompt.blocks, prompt.bytes, tokens.len());
        let size = |identity: &u64| self.blocks.get(identity).map_or(0, Blocks::size);
        let mut sizes: Vec<u32> = tokenised.identities.iter().map(size).collect();
        let all = sizes.len() == prompt.endpoints.len() && !sizes.contains(&0);
        let waits = size(&tokenised.identity) == 0;
        sizes.sort_unstable();
        sizes.dedup();
        for size in sizes.into_iter().filter(|size| *size > 0) {
            let found = self.places.learn((tokens, salt), &marks, size);
            for identity in &tokenised.identities {
                let blocks = self.blocks.get(identity).filter(|blocks| blocks.size() == size);
                blocks.into_iter().for_each(|blocks| blocks.find(&found, &mut self.changes));
                self.tell(*identity);
            }
        }
        if waits {
            if self.early.len() >= EARLY_MAX {
                self.early.pop_front();
            }
            self.early.push_back(tokenised);
        }
        all
    }
}

/// What the prompt's salt makes of its first block; `None` for a salt that is no text.
fn salt(prompt: &Prompt) -> Option<u64> {
    if prompt.salt.is_empty() {
        return Some(0);
    }
    let text: String = serde_json::from_slice(&prompt.salt).ok()?;
    Some(extra(0, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::EndpointId;
    use crate::control::kv::batch::{Event, Stored};

    /// Which of the two is heard first is chance; what was stored and then removed must be known as gone.
    #[test]
    fn a_prompt_that_comes_before_its_engines_first_block_is_placed_by_it() {
        let lane = Arc::new(Lane::default());
        let silent: Bell = Arc::new(|| ());
        let mut keeper =
            Keeper::new(vec![(lane.clone(), silent)], Arc::default(), mpsc::channel(1).0);
        let blocks: Box<[(u64, u64)]> = [(1, 8), (2, 16)].into();
        let prompt = Prompt {
            generation: 1,
            endpoint: EndpointId(0),
            endpoints: [EndpointId(0)].into(),
            model: "m".into(),
            body: Box::default(),
            salt: Box::default(),
            blocks,
            bytes: 16,
            ticket: None,
        };
        let tokens: Vec<u32> = (0..8).collect();
        let stored = Stored {
            blocks: vec![10, 11],
            parent: None,
            tokens: tokens.clone(),
            block_tokens: 4,
            adapter: 0,
            extras: Vec::new(),
        };
        keeper.offered = 1;
        let (tokens, identities) = (Some(tokens), [7].into());
        keeper.learn(Box::new(Tokenised { shard: 0, identity: 7, identities, prompt, tokens }));
        keeper.heard(7, &Heard::Events(vec![Event::Stored(stored)]));
        keeper.heard(7, &Heard::Events(vec![Event::Removed { blocks: vec![11] }]));
        let changes: Vec<_> = std::iter::from_fn(|| lane.changes.pop()).collect();
        let all = [Change::Holds(1), Change::Holds(2), Change::Lost(2)];
        assert_eq!(changes, all.map(|change| (7, change)));
        assert!(keeper.early.is_empty());
    }
}
