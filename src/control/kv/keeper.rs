//! The task that knows which engine holds which beginnings of prompts, and tells shards what changes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::batch::extra;
use super::index::{Blocks, Places, marks};
use super::subscriber::Heard;
use super::tokens::{self, Tokenised};
use crate::route::precise::{Change, Lane, Prompt};
use crate::telemetry::kv::KvCounts;

/// Questions to tokenisers under way at once.
const QUESTIONS_MAX: usize = 4;
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
    lanes: Vec<Arc<Lane>>,
    engines: Vec<tokens::Engine>,
    blocks: HashMap<u64, Blocks>,
    places: Places,
    /// Nothing can be said of them before the engine tells how large its blocks are.
    early: VecDeque<Box<Tokenised>>,
    changes: Vec<Change>,
    questions: usize,
    counts: Arc<KvCounts>,
    inputs: mpsc::Sender<Input>,
}

/// The way to the keeper.
pub type Door = mpsc::Sender<Input>;

/// Starts the keeper. It ends with the process.
pub fn start(lanes: Vec<Arc<Lane>>, counts: Arc<KvCounts>) -> Door {
    let (inputs, outputs) = mpsc::channel(HEARD_MAX);
    tokio::spawn(Keeper::new(lanes, counts, inputs.clone()).run(outputs));
    inputs
}

impl Keeper {
    /// Of no engine yet.
    fn new(lanes: Vec<Arc<Lane>>, counts: Arc<KvCounts>, inputs: Door) -> Self {
        Self {
            lanes,
            engines: Vec::new(),
            blocks: HashMap::new(),
            places: Places::default(),
            early: VecDeque::new(),
            changes: Vec::new(),
            questions: 0,
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
        std::mem::take(&mut self.early).into_iter().for_each(|one| self.place(one));
    }

    /// Tells every shard; what finds no room is counted.
    fn tell(&mut self, identity: u64) {
        let held = self.blocks.values().map(Blocks::count).sum::<usize>();
        self.counts.blocks.set(held as u64);
        for change in self.changes.drain(..) {
            for lane in &self.lanes {
                let lost = lane.changes.push((identity, change)).is_err();
                self.counts.changes.inc();
                self.counts.changes_lost.add(u64::from(lost));
            }
        }
    }

    /// Has prompts tokenised, as many at once as may be.
    fn look(&mut self) {
        for at in 0..self.lanes.len() {
            while self.questions < QUESTIONS_MAX {
                let Some(prompt) = self.lanes[at].prompts.pop() else { break };
                self.ask(prompt);
            }
        }
    }

    fn ask(&mut self, prompt: Prompt) {
        let of = |one: &&tokens::Engine| {
            (one.generation, one.endpoint_id) == (prompt.generation, prompt.endpoint)
        };
        let Some(engine) = self.engines.iter().find(of).cloned() else { return };
        self.questions += 1;
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            let tokenised = tokens::tokenise(engine, prompt).await;
            // The keeper goes only with the process.
            let _ = inputs.send(Input::Tokenised(Box::new(tokenised))).await;
        });
    }

    fn learn(&mut self, mut tokenised: Box<Tokenised>) {
        self.questions -= 1;
        if tokenised.tokens.is_none() {
            self.counts.prompts_refused.inc();
            return;
        }
        self.counts.prompts.inc();
        tokenised.prompt.body = Box::default();
        self.place(tokenised);
    }

    /// Finds a prompt's places in its engine's blocks, or keeps it until there are some.
    fn place(&mut self, tokenised: Box<Tokenised>) {
        let Some(tokens) = &tokenised.tokens else { return };
        let blocks = self.blocks.get(&tokenised.identity).filter(|blocks| blocks.are_sized());
        let Some(blocks) = blocks else {
            if self.early.len() >= EARLY_MAX {
                self.early.pop_front();
            }
            self.early.push_back(tokenised);
            return;
        };
        let prompt = &tokenised.prompt;
        let marks = marks(&prompt.blocks, prompt.bytes, tokens.len());
        let Some(salt) = salt(prompt) else { return };
        self.places.learn((tokens, salt), &marks, blocks, &mut self.changes);
        self.tell(tokenised.identity);
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
        let mut keeper = Keeper::new(vec![lane.clone()], Arc::default(), mpsc::channel(1).0);
        let blocks: Box<[(u64, u64)]> = [(1, 8), (2, 16)].into();
        let prompt = Prompt {
            generation: 1,
            endpoint: EndpointId(0),
            model: "m".into(),
            body: Box::default(),
            salt: Box::default(),
            blocks,
            bytes: 16,
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
        keeper.questions = 1;
        keeper.learn(Box::new(Tokenised { identity: 7, prompt, tokens: Some(tokens) }));
        keeper.heard(7, &Heard::Events(vec![Event::Stored(stored)]));
        keeper.heard(7, &Heard::Events(vec![Event::Removed { blocks: vec![11] }]));
        let changes: Vec<_> = std::iter::from_fn(|| lane.changes.pop()).collect();
        let all = [Change::Holds(1), Change::Holds(2), Change::Lost(2)];
        assert_eq!(changes, all.map(|change| (7, change)));
        assert!(keeper.early.is_empty());
    }
}
