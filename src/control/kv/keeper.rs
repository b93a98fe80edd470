//! The task that knows which engine holds which beginnings of prompts, and tells shards what changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::batch::extra;
use super::index::{Blocks, Mark, Places};
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

/// The keeper's state.
pub struct Keeper {
    lanes: Vec<Arc<Lane>>,
    engines: Vec<tokens::Engine>,
    blocks: HashMap<u64, Blocks>,
    places: Places,
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
    let keeper = Keeper {
        lanes,
        engines: Vec::new(),
        blocks: HashMap::new(),
        places: Places::default(),
        changes: Vec::new(),
        questions: 0,
        counts,
        inputs: inputs.clone(),
    };
    tokio::spawn(keeper.run(outputs));
    inputs
}

impl Keeper {
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
                Some(Input::Tokenised(tokenised)) => self.learn(&tokenised),
                Some(Input::Engines(engines)) => self.adopt(engines),
                None => return,
            }
            self.look();
        }
    }

    fn adopt(&mut self, engines: Vec<tokens::Engine>) {
        self.blocks.retain(|identity, _| engines.iter().any(|one| one.identity == *identity));
        self.engines = engines;
    }

    fn hear(&mut self, identity: u64, heard: &Heard) {
        // A subscriber that was aborted may still be heard of.
        let engine = self.engines.iter().find(|one| one.identity == identity);
        let Some(isolates) = engine.map(|one| one.isolates) else { return };
        let blocks = self.blocks.entry(identity).or_default();
        blocks.isolates = isolates;
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
    }

    /// Tells every shard; what finds no room is counted.
    fn tell(&mut self, identity: u64) {
        let held = self.blocks.values().map(Blocks::len).sum::<usize>();
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

    fn learn(&mut self, tokenised: &Tokenised) {
        self.questions -= 1;
        let Some(tokens) = &tokenised.tokens else {
            self.counts.prompts_refused.inc();
            return;
        };
        self.counts.prompts.inc();
        let marks = marks(&tokenised.prompt, tokens.len());
        let Some(salt) = salt(&tokenised.prompt) else { return };
        let Some(blocks) = self.blocks.get(&tokenised.identity) else { return };
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

/// Where the blocks of a prompt's chain end in tokens: in proportion to bytes, rather later than too early.
fn marks(prompt: &Prompt, tokens: usize) -> Vec<Mark> {
    let per_byte = tokens as f64 / prompt.bytes.max(1) as f64;
    let mark = |(hash, bytes): &(u64, u64)| Mark {
        hash: *hash,
        tokens: (*bytes as f64 * per_byte).ceil() as u32,
    };
    prompt.blocks.iter().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::EndpointId;

    #[test]
    fn ends_are_in_proportion() {
        let blocks: Box<[(u64, u64)]> = [(1, 512), (2, 1_024), (3, 1_536)].into();
        let (body, salt, endpoint) = (Box::default(), Box::default(), EndpointId(0));
        let prompt = Prompt { generation: 1, endpoint, body, salt, blocks, bytes: 2_000 };
        let ends: Vec<u32> = marks(&prompt, 500).iter().map(|mark| mark.tokens).collect();
        assert_eq!(ends, [128, 256, 384]);
    }
}
