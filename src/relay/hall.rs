//! Where requests wait for a place: one line for each model, in one shard.
//!
//! Whoever gives a place back offers it: in each line the next one that could take it gets the turn, and
//! takes its place when it wakes. A line has one turn at a time, and who comes while others wait gets in
//! line, so nobody is overtaken.
//!
//! Invariants: whoever is dropped is out of its line at once, and its turn is passed on; with nobody waiting
//! an offer is one comparison.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::config::plan::{EndpointId, ModelId, Plan};
use crate::relay::choose::Want;
use crate::relay::core::Epoch;
use crate::relay::pair::room::{self, Pool};
use crate::relay::places::{self, Work};
use crate::route::admission::drain::Drain;
use crate::route::admission::fair::{Bounds, Entry, FairQueue, Full, Id};
use crate::runtime::clock;

/// Each place given back weighs so much in the average time for which places are taken.
const PACE_GAIN: f64 = 1.0 / 32.0;

/// Wakes the bank.
pub type BankBell = Box<dyn Fn()>;

/// A shard's lines.
#[derive(Default)]
pub struct Hall {
    /// By the hash of the model's name: lines outlive a plan.
    lines: RefCell<BTreeMap<u64, Line>>,
    waiting: Cell<usize>,
    /// Which line is offered a place first.
    first: Cell<u64>,
    bank: OnceCell<BankBell>,
}

/// One model's line.
struct Line {
    queue: FairQueue<Waiter>,
    turn: Option<Id>,
    drain: Drain,
    /// Time for which places were taken, and tokens for which they were: decaying sums.
    pace: (f64, f64),
    /// Some endpoint takes only so many tokens at once.
    kv_bounded: bool,
}

/// One request in a line.
pub struct Waiter {
    pub word: Rc<Word>,
    pub epoch: Rc<Epoch>,
    pub model: ModelId,
    pub want: Want,
}

/// What a waiting request is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    #[default]
    Wait,
    Turn,
    Displaced,
}

/// Where it is told.
#[derive(Default)]
pub struct Word {
    verdict: Cell<Verdict>,
    waker: RefCell<Option<Waker>>,
}

impl Word {
    /// What it is told now; wakes the task of `cx` when that changes.
    pub fn heard(&self, cx: &Context<'_>) -> Verdict {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.verdict.get()
    }

    fn say(&self, verdict: Verdict) {
        self.verdict.set(verdict);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Waiter {
    /// Whether some endpoint could take it now.
    fn fits(&self) -> bool {
        self.could_go(self.want.kv_tokens)
    }

    /// Whether nothing but its size keeps it: those behind it must not take what it waits for.
    fn is_too_large(&self) -> bool {
        !self.fits() && self.could_go(0)
    }

    fn could_go(&self, kv_tokens: u64) -> bool {
        let plan = self.epoch.plan();
        let model = &plan.models[usize::from(self.model.0)];
        let Want { needs, pool, .. } = &self.want;
        let all = pool.of(model).iter().map(|id| {
            let traits = &plan.endpoints[usize::from(id.0)].traits;
            (traits, !places::takes(&self.epoch, *id, kv_tokens))
        });
        let alone = *pool == Pool::Whole;
        needs.gate(all).is_ok() && (alone || room::suffices(&self.epoch, model, needs, kv_tokens))
    }
}

impl Line {
    fn new(bounds: Bounds) -> Self {
        let (queue, drain) = (FairQueue::new(bounds), Drain::default());
        Self { queue, turn: None, drain, pace: (0.0, 0.0), kv_bounded: false }
    }
}

impl Line {
    /// Whose turn it is, if anybody's: who would be next and is only too large is waited for by those who
    /// want the same servers.
    fn next(&self) -> Option<Id> {
        let first = || self.queue.get(self.queue.next(|_| true)?);
        let large = self.kv_bounded.then(first).flatten().filter(|first| first.is_too_large());
        let held = large.map(|large| large.want.pool);
        self.queue.next(|waiter| held != Some(waiter.want.pool) && waiter.fits())
    }
}

/// When so many should have found a place, by how long places are kept and how many are, in this shard.
fn guess(epoch: &Epoch, model: ModelId, want: &Want, drain: &Drain, requests: usize) -> Duration {
    let model = &epoch.plan().models[usize::from(model.0)];
    let series = |id: &EndpointId| &epoch.series().endpoints[usize::from(id.0)];
    let in_flight: u64 = want.pool.of(model).iter().map(|id| series(id).in_flight.get()).sum();
    let requests = u32::try_from(requests).unwrap_or(u32::MAX);
    let all = drain.keeping(want.lasts).saturating_mul(requests);
    all / u32::try_from(in_flight).unwrap_or(u32::MAX).max(1)
}

fn key(epoch: &Epoch, model: ModelId) -> u64 {
    xxh3_64(epoch.plan().models[usize::from(model.0)].name.as_bytes())
}

impl Hall {
    /// How the bank is woken; without it there is none, and shares stay as they are.
    pub fn set_bank(&self, bell: BankBell) {
        let _ = self.bank.set(bell);
    }

    /// Asks the bank to look.
    pub fn ring_bank(&self) {
        if let Some(ring) = self.bank.get() {
            ring();
        }
    }

    /// Whether a newcomer must get in line: others wait for the same servers.
    pub fn is_waited_for(&self, epoch: &Epoch, model: ModelId, pool: Pool) -> bool {
        let waits = || {
            let lines = self.lines.borrow();
            lines
                .get(&key(epoch, model))
                .is_some_and(|line| line.queue.any(|one| one.want.pool == pool))
        };
        self.waiting.get() > 0 && waits()
    }

    /// Gets in line.
    ///
    /// # Errors
    /// There is no room, with the seconds after which there may be.
    pub fn enter(&self, entry: Entry, waiter: Waiter, bounds: Bounds) -> Result<Id, (Full, u32)> {
        let now = clock::now().nanos();
        let mut lines = self.lines.borrow_mut();
        let line = lines.entry(key(&waiter.epoch, waiter.model));
        let line = line.or_insert_with(|| Line::new(bounds));
        let requests = line.queue.len() + 1;
        let guess = guess(&waiter.epoch, waiter.model, &waiter.want, &line.drain, requests);
        line.queue.set_bounds(bounds);
        line.kv_bounded = waiter.epoch.seating().kv_bounded;
        let tokens = line.queue.tokens_before(entry.class) + u64::from(entry.tokens);
        let pushed = line.queue.push(entry, waiter);
        let pushed = pushed.map_err(|full| (full, line.drain.retry_after_s(now, tokens, guess)))?;
        line.drain.begin(now);
        for (id, waiter) in &pushed.displaced {
            line.turn = line.turn.filter(|turn| turn != id);
            waiter.word.say(Verdict::Displaced);
        }
        self.waiting.set(self.waiting.get() + 1 - pushed.displaced.len());
        Ok(pushed.id)
    }

    /// Leaves the line to be served, at so many tokens.
    pub fn serve(&self, epoch: &Epoch, work: &Work, id: Id) {
        let weight = places::weight(epoch, work.model, work.tenant);
        self.leave(epoch, work.model, id, |line| {
            line.drain.served(clock::now().nanos(), work.tokens);
            line.queue.serve(id, work.tokens, weight).is_some()
        });
    }

    /// Leaves the line for good, if it still stands there.
    pub fn remove(&self, epoch: &Epoch, model: ModelId, id: Id) {
        self.leave(epoch, model, id, |line| line.queue.remove(id).is_some());
    }

    fn leave(&self, epoch: &Epoch, model: ModelId, id: Id, how: impl FnOnce(&mut Line) -> bool) {
        let mut lines = self.lines.borrow_mut();
        let Some(line) = lines.get_mut(&key(epoch, model)) else { return };
        if how(line) {
            self.waiting.set(self.waiting.get().saturating_sub(1));
        }
        line.turn = line.turn.filter(|turn| *turn != id);
        if line.queue.is_empty() {
            line.drain.end(clock::now().nanos());
        }
    }

    /// Gives the turn back: what was free is taken, or not what it wants by now.
    pub fn pass(&self, epoch: &Epoch, model: ModelId, id: Id, want: &Want) {
        let mut lines = self.lines.borrow_mut();
        let Some(line) = lines.get_mut(&key(epoch, model)) else { return };
        line.turn = line.turn.filter(|turn| *turn != id);
        if let Some(waiter) = line.queue.get_mut(id) {
            waiter.want = *want;
            waiter.word.verdict.set(Verdict::Wait);
        }
    }

    /// The seconds after which a request of `class` that is sent away should come again.
    pub fn retry_after_s(&self, epoch: &Epoch, model: ModelId, class: usize, want: &Want) -> u32 {
        let lines = self.lines.borrow();
        let line = lines.get(&key(epoch, model));
        let (drain, tokens, requests) = line.map_or((Drain::default(), 0, 0), |line| {
            (line.drain, line.queue.tokens_before(class), line.queue.len())
        });
        let guess = guess(epoch, model, want, &drain, requests.max(1));
        drain.retry_after_s(clock::now().nanos(), tokens, guess)
    }

    /// Gives the turn to the next one in each line for whom there is a place.
    pub fn offer(&self) {
        if self.waiting.get() == 0 {
            return;
        }
        let mut called: Vec<Rc<Word>> = Vec::new();
        let mut lines = self.lines.borrow_mut();
        let first = self.first.get();
        // Of lines that wait for the same endpoints each is called first in its turn.
        let (before, after): (Vec<_>, Vec<_>) =
            lines.iter_mut().partition(|(key, _)| **key < first);
        for (key, line) in after.into_iter().chain(before) {
            if line.turn.is_some() {
                continue;
            }
            line.turn = line.next();
            let waiter = line.turn.and_then(|id| line.queue.get(id));
            if let Some(waiter) = waiter {
                if called.is_empty() {
                    self.first.set(key.wrapping_add(1));
                }
                called.push(waiter.word.clone());
            }
        }
        drop(lines);
        called.iter().for_each(|word| word.say(Verdict::Turn));
    }

    /// A place was taken for so long.
    pub fn place_was_taken(&self, epoch: &Epoch, work: &Work, time: Duration) {
        let mut lines = self.lines.borrow_mut();
        let Some(line) = lines.get_mut(&key(epoch, work.model)) else { return };
        line.drain.kept(time);
        if epoch.series().peers.len() < 2 {
            return;
        }
        let (nanos, tokens) = &mut line.pace;
        *nanos += PACE_GAIN * (time.as_nanos() as f64 - *nanos);
        *tokens += PACE_GAIN * (f64::from(work.tokens) - *tokens);
        let pace = (*nanos / tokens.max(1e-9)).ceil() as u64;
        epoch.series().models[usize::from(work.model.0)].place_nanos.set(pace);
    }

    /// Once an epoch: does what the bank ordered, and tells it who waits.
    pub fn tick(&self, epoch: &Epoch) {
        for id in &epoch.seating().limited {
            places::look(self, &epoch.series().endpoints[usize::from(id.0)].share);
        }
        if epoch.series().peers.len() > 1 && !epoch.seating().limited.is_empty() {
            self.tell_tenants(epoch);
        }
        self.offer();
    }

    fn tell_tenants(&self, epoch: &Epoch) {
        let lines = self.lines.borrow();
        for (id, series) in (0..).map(ModelId).zip(&epoch.series().models) {
            if !epoch.seating().model(id).limited {
                continue;
            }
            let milli = lines.get(&key(epoch, id)).map_or(0, |line| {
                let weight = |tenant| places::weight(epoch, id, tenant);
                (line.queue.tenants().map(weight).sum::<f64>() * 1e3) as u64
            });
            series.tenants_milli.set(milli);
        }
    }

    /// Forgets lines of models that are gone, once nobody stands in them.
    pub fn retire(&self, plan: &Plan) {
        let known: Vec<u64> =
            plan.models.iter().map(|model| xxh3_64(model.name.as_bytes())).collect();
        let kept = |key: &u64, line: &Line| known.contains(key) || !line.queue.is_empty();
        self.lines.borrow_mut().retain(|key, line| kept(key, line));
    }
}
