//! The task that knows which engine holds which beginnings of prompts, and tells shards what changes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::batch::extra;
use super::index::{Blocks, Places, marks};
use super::subscriber::Heard;
use super::tokens::{self, Tokenised, Untold};
use crate::config::plan::EndpointId;
use crate::control::client::Client;
use crate::route::precise::{Answer, Change, Lane, Prompt, Told, Waiter};
use crate::shard::link::Bell;
use crate::telemetry::kv::KvCounts;

/// Prompts that were sent, and are tokenised at once.
const OFFERED_MAX: usize = 4;
/// Prompts for which a request waits, and that are tokenised at once.
const ASKED_MAX: usize = 16;
/// An engine that has not answered is not asked for so long by those who wait.
const SILENCE: Duration = Duration::from_secs(5);
/// Connections to one engine that are kept for the next questions.
const CLIENTS_MAX: usize = 4;
/// How often shards' prompts are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// What may wait to be taken in; subscribers wait then.
const HEARD_MAX: usize = 256;

/// What the keeper is told.
pub enum Input {
    /// Of the engine with this identity.
    Heard(u64, Heard),
    Tokenised(Box<Asked>),
    /// The engines that tell of their caches now, by generation of the plan and endpoint id.
    Engines(Vec<tokens::Engine>),
}

/// A prompt that an engine was asked about, and by whom.
pub struct Asked {
    client: Client,
    tokenised: Tokenised,
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
    early: VecDeque<Tokenised>,
    changes: Vec<Change>,
    /// With their connections, by engine.
    clients: HashMap<u64, Vec<Client>>,
    /// Engines that have not answered, and since when they were not asked again.
    silent: HashMap<u64, Instant>,
    /// Whose prompts are looked for first.
    first: usize,
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
            clients: HashMap::new(),
            silent: HashMap::new(),
            first: 0,
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
                Some(Input::Tokenised(asked)) => {
                    let Asked { client, tokenised } = *asked;
                    self.keep(tokenised.identity, client);
                    self.learn(tokenised);
                }
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
        // What they speak may have changed.
        self.clients.clear();
        self.silent.clear();
        if engines.is_empty() {
            self.lanes.iter().for_each(|(lane, _)| lane.clear());
        }
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
        let (orphans, size) = (blocks.orphans, blocks.size());
        match heard {
            Heard::Events(events) => {
                for event in events {
                    blocks.apply(event, &self.places, &mut self.changes);
                }
                self.counts.events.add(events.len() as u64);
            }
            Heard::LostTrack => blocks.lose_track(),
            Heard::Restarted => blocks.clear(),
        }
        if !matches!(heard, Heard::Events(_)) {
            self.changes.push(Change::LostAll);
            self.counts.lost_track.inc();
        }
        self.counts.orphans.add(blocks.orphans - orphans);
        let sized = blocks.size() != size;
        self.tell(identity);
        if sized {
            let early = std::mem::take(&mut self.early);
            let (placed, later): (VecDeque<_>, _) =
                early.into_iter().partition(|one| one.identity == identity);
            self.early = later;
            for one in placed {
                self.place(one);
            }
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

    /// Tells one shard what an engine was found to have of its prompt; whether there was room for all of it.
    fn tell_found(&mut self, shard: usize, identity: u64) -> bool {
        let Some((lane, _)) = self.lanes.get(shard) else { return false };
        let mut lost = 0;
        for change in self.changes.drain(..) {
            lost += u64::from(lane.changes.push((identity, change)).is_err());
            self.counts.changes.inc();
        }
        self.counts.changes_lost.add(lost);
        lost == 0
    }

    /// Has prompts tokenised, as many at once as may be; first those for which somebody waits. Shards take
    /// turns in being the first.
    fn look(&mut self) {
        let shards = self.lanes.len();
        self.first = (self.first + 1) % shards.max(1);
        let first = self.first;
        let order = (0..shards).map(|at| (first + at) % shards);
        for at in order.clone() {
            while self.asked < ASKED_MAX {
                let Some(prompt) = self.lanes[at].0.question() else { break };
                self.ask(at, prompt);
            }
        }
        for at in order {
            while self.offered < OFFERED_MAX {
                let Some(prompt) = self.lanes[at].0.prompts.pop() else { break };
                self.ask(at, prompt);
            }
        }
    }

    fn ask(&mut self, shard: usize, prompt: Prompt) {
        let engines = self.engines.iter().filter(|one| one.generation == prompt.generation);
        let serve = |one: &&tokens::Engine| prompt.endpoints.contains(&one.endpoint_id);
        let identities = engines.filter(serve).map(|one| one.identity).collect();
        let Some(engine) = self.who(&prompt).cloned() else {
            // The plan is another one by now, or nobody answers.
            return self.answer(shard, prompt.waiter.as_ref(), Told::default());
        };
        *self.under_way(&prompt) += 1;
        let inputs = self.inputs.clone();
        let kept = self.clients.get_mut(&engine.identity).and_then(Vec::pop);
        let mut client = kept.unwrap_or_else(|| Client::new(engine.endpoint.clone()));
        tokio::spawn(async move {
            let tokens = tokens::tokenise(&engine, &mut client, &prompt).await;
            let identity = engine.identity;
            let tokenised = Tokenised { shard, identity, identities, prompt, tokens };
            let asked = Box::new(Asked { client, tokenised });
            // The keeper goes only with the process.
            let _ = inputs.send(Input::Tokenised(asked)).await;
        });
    }

    /// Who is to tokenise it: for who waits, another one that serves its model where the first is silent.
    fn who(&self, prompt: &Prompt) -> Option<&tokens::Engine> {
        let of = |id: &EndpointId| {
            let key = (prompt.generation, *id);
            self.engines.iter().find(|one| (one.generation, one.endpoint_id) == key)
        };
        let first = of(&prompt.endpoint);
        if prompt.waiter.is_none() {
            return first;
        }
        let speaks = |one: &&tokens::Engine| {
            let silent = self.silent.get(&one.identity);
            silent.is_none_or(|since| since.elapsed() >= SILENCE)
        };
        first.into_iter().chain(prompt.endpoints.iter().filter_map(of)).find(speaks)
    }

    /// Keeps a client, with its connection, for the next question.
    fn keep(&mut self, identity: u64, client: Client) {
        if self.engines.iter().any(|one| one.identity == identity) {
            let clients = self.clients.entry(identity).or_default();
            if clients.len() < CLIENTS_MAX {
                clients.push(client);
            }
        }
    }

    fn under_way(&mut self, prompt: &Prompt) -> &mut usize {
        if prompt.waiter.is_some() { &mut self.asked } else { &mut self.offered }
    }

    fn learn(&mut self, mut tokenised: Tokenised) {
        *self.under_way(&tokenised.prompt) -= 1;
        match tokenised.tokens {
            Err(Untold::Silent) => self.silent.insert(tokenised.identity, Instant::now()),
            _ => self.silent.remove(&tokenised.identity),
        };
        let (shard, waiter) = (tokenised.shard, tokenised.prompt.waiter.take());
        let told = match &tokenised.tokens {
            Err(_) => {
                self.counts.prompts_refused.inc();
                Told::default()
            }
            Ok(tokens) => {
                self.counts.prompts.inc();
                let tokens = Some(tokens.len() as u32);
                tokenised.prompt.body = Box::default();
                Told { tokens, everywhere: self.place(tokenised) }
            }
        };
        self.answer(shard, waiter.as_ref(), told);
    }

    /// Tells who waits, if anybody does. What finds no room is not waited for long.
    fn answer(&self, shard: usize, waiter: Option<&Waiter>, told: Told) {
        let (Some(waiter), Some((lane, bell))) = (waiter, self.lanes.get(shard)) else { return };
        let _ = lane.answers.push(Answer { ticket: waiter.ticket, told });
        bell();
    }

    /// Finds a prompt's places in its engines' blocks, or keeps it until the one that tokenised it has some.
    /// Whether all that any of them holds of it is known, and was told.
    fn place(&mut self, tokenised: Tokenised) -> bool {
        let Ok(tokens) = &tokenised.tokens else { return false };
        let Some(salt) = salt(&tokenised.prompt) else { return false };
        let (prompt, identities) = (&tokenised.prompt, &tokenised.identities);
        let marks = marks(&prompt.blocks, prompt.bytes, tokens.len());
        let size = |identity: &u64| self.blocks.get(identity).map_or(0, Blocks::size);
        let whole = |identity: &u64| self.blocks.get(identity).is_some_and(Blocks::are_whole);
        let mut told = identities.len() == prompt.endpoints.len() && identities.iter().all(whole);
        let mut sizes: Vec<u32> = identities.iter().map(size).filter(|size| *size > 0).collect();
        let waits = size(&tokenised.identity) == 0;
        sizes.sort_unstable();
        sizes.dedup();
        for size in sizes {
            let found = self.places.learn((tokens, salt), &marks, size);
            for identity in identities {
                let blocks = self.blocks.get(identity).filter(|blocks| blocks.size() == size);
                blocks.into_iter().for_each(|blocks| blocks.find(&found, &mut self.changes));
                told &= self.tell_found(tokenised.shard, *identity);
            }
        }
        if waits {
            if self.early.len() >= EARLY_MAX {
                self.early.pop_front();
            }
            self.early.push_back(tokenised);
        }
        told
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
#[path = "keeper_tests.rs"]
mod tests;
