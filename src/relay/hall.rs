//! Where requests wait for a place: one line for each model, in one shard.
//!
//! Whoever gives a place back offers it: in each line the next one that could take it gets the turn, and
//! takes its place when it wakes. Until then the place is held for it ([`Claims`]). A line has one turn at a
//! time, and who comes while others wait for its model gets in line; lines of several models that wait for
//! one endpoint are called in turn. So nobody is overtaken by newcomers of its model or of any other. Not
//! held are places of servers that compute prompts for others, nor any from an attempt that failed
//! elsewhere.
//!
//! Invariants: whoever is dropped is out of its line at once, and its turn is passed on; with nobody waiting
//! an offer is one comparison, and where no endpoint of a line has room nobody in it is looked at.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::config::plan::{EndpointId, Model, ModelId, Plan, Traits};
use crate::relay::choose::Want;
use crate::relay::claims::{Claim, Claims};
use crate::relay::core::Epoch;
use crate::relay::pair::room::{self, Pool};
use crate::relay::places::{self, Work};
use crate::route::admission::drain::Drain;
use crate::route::admission::fair::{Bounds, Entry, FairQueue, Full, Id};
use crate::route::eligible::Gate;
use crate::runtime::clock;

/// Each place given back weighs so much in the average time for which places are taken.
const PACE_GAIN: f64 = 1.0 / 32.0;

/// Wakes the bank.
pub type BankBell = Box<dyn Fn()>;

/// Which line: the hash of its model's name, for lines outlive a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineKey(u64);

impl LineKey {
    /// The line of a model.
    pub fn of(epoch: &Epoch, model: ModelId) -> Self {
        Self::named(&epoch.plan().models[usize::from(model.0)].name)
    }

    fn named(name: &str) -> Self {
        Self(xxh3_64(name.as_bytes()))
    }

    #[cfg(test)]
    pub fn new(hash: u64) -> Self {
        Self(hash)
    }
}

/// A shard's lines.
#[derive(Default)]
pub struct Hall {
    lines: RefCell<BTreeMap<LineKey, Line>>,
    claims: RefCell<Claims>,
    waiting: Cell<usize>,
    /// Which line is offered a place first.
    first: Cell<LineKey>,
    bank: OnceCell<BankBell>,
}

/// One model's line.
struct Line {
    queue: FairQueue<Waiter>,
    crowds: Vec<Crowd>,
    turn: Option<Id>,
    drain: Drain,
    /// Time for which places were taken, and tokens for which they were: decaying sums.
    pace: (f64, f64),
    /// Some endpoint takes only so many tokens at once.
    kv_bounded: bool,
}

/// Those of a line who came under one plan: a few plans at most are alive at a time.
struct Crowd {
    epoch: Rc<Epoch>,
    model: ModelId,
    requests: usize,
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
    fn model(&self) -> &Model {
        &self.epoch.plan().models[usize::from(self.model.0)]
    }

    fn traits(&self, id: EndpointId) -> &Traits {
        &self.epoch.plan().endpoints[usize::from(id.0)].traits
    }

    /// Who could take it now if it had so many tokens, beside what is held for others.
    fn gate(&self, claims: &Claims, kv_tokens: u64) -> Option<Gate> {
        let (model, Want { needs, pool, .. }) = (self.model(), &self.want);
        let full = |id| !takes(claims, &self.epoch, id, kv_tokens, None);
        let all = pool.of(model).iter().map(|id| (self.traits(*id), full(*id)));
        let gate = needs.gate(all).ok()?;
        let alone = *pool == Pool::Whole;
        (alone || room::suffices(&self.epoch, model, needs, kv_tokens)).then_some(gate)
    }

    /// Whether some endpoint could take it now.
    fn fits(&self, claims: &Claims) -> bool {
        #[cfg(test)]
        claims.looks.set(claims.looks.get() + 1);
        self.gate(claims, self.want.kv_tokens).is_some()
    }

    /// Whether nothing but its size keeps it: those behind it must not take what it waits for.
    fn is_too_large(&self, claims: &Claims) -> bool {
        !self.fits(claims) && self.gate(claims, 0).is_some()
    }

    /// What is to be held for it: wherever it could go if it had so many tokens.
    fn claim(&self, claims: &Claims, kv_tokens: u64, called: bool) -> Option<Claim> {
        let gate = self.gate(claims, kv_tokens)?;
        let (model, pool) = (self.model(), self.want.pool);
        let full = |id| !takes(claims, &self.epoch, id, kv_tokens, None);
        let fit = pool.of(model).iter().filter(|id| gate.lets(self.traits(**id), full(**id)));
        let columns = fit.map(|id| self.epoch.seating().column(*id)).collect();
        Some(Claim { columns, kv_tokens: self.want.kv_tokens, called })
    }
}

/// Whether an endpoint takes so many tokens now beside what is held for those who come before `line`.
fn takes(
    claims: &Claims,
    epoch: &Epoch,
    id: EndpointId,
    kv_tokens: u64,
    line: Option<LineKey>,
) -> bool {
    let held = claims.at(epoch.seating().column(id), line);
    places::takes_beside(epoch, id, kv_tokens, held)
}

impl Crowd {
    /// Whether anybody at all could be let in.
    fn has_room(&self, claims: &Claims) -> bool {
        let model = &self.epoch.plan().models[usize::from(self.model.0)];
        let mut pools = [Pool::Own, Pool::Whole].into_iter().flat_map(|pool| pool.of(model));
        pools.any(|id| takes(claims, &self.epoch, *id, 0, None))
    }
}

impl Line {
    fn new(bounds: Bounds) -> Self {
        Self {
            queue: FairQueue::new(bounds),
            crowds: Vec::new(),
            turn: None,
            drain: Drain::default(),
            pace: (0.0, 0.0),
            kv_bounded: false,
        }
    }

    fn came(&mut self, epoch: &Rc<Epoch>, model: ModelId) {
        match self.crowds.iter_mut().find(|crowd| Rc::ptr_eq(&crowd.epoch, epoch)) {
            Some(crowd) => crowd.requests += 1,
            None => self.crowds.push(Crowd { epoch: epoch.clone(), model, requests: 1 }),
        }
    }

    fn left(&mut self, waiter: &Waiter) {
        let of = |crowd: &Crowd| Rc::ptr_eq(&crowd.epoch, &waiter.epoch);
        if let Some(at) = self.crowds.iter().position(of) {
            self.crowds[at].requests -= 1;
            if self.crowds[at].requests == 0 {
                self.crowds.swap_remove(at);
            }
        }
    }

    /// Gives the turn to whoever is next, if there is a place for it, nobody has it, and the line may be
    /// called. Who would be next and is only too large is waited for.
    fn call(&mut self, key: LineKey, claims: &mut Claims, may: bool) -> Option<Rc<Word>> {
        if self.turn.is_some() || !self.crowds.iter().any(|crowd| crowd.has_room(claims)) {
            return None;
        }
        if let Some(claim) = self.too_large(claims) {
            claims.hold(key, claim);
            return None;
        }
        self.turn = may.then(|| self.queue.next(|waiter| waiter.fits(claims)))?;
        let waiter = self.queue.get(self.turn?)?;
        let claim = waiter.claim(claims, waiter.want.kv_tokens, true);
        claim.into_iter().for_each(|claim| claims.hold(key, claim));
        Some(waiter.word.clone())
    }

    /// What whoever would be next waits for, if nothing but its size keeps it.
    fn too_large(&self, claims: &Claims) -> Option<Claim> {
        if !self.kv_bounded {
            return None;
        }
        let first = self.queue.get(self.queue.next(|_| true)?)?;
        first.is_too_large(claims).then(|| first.claim(claims, 0, false))?
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
            let line = lines.get(&LineKey::of(epoch, model));
            line.is_some_and(|line| line.queue.any(|one| one.want.pool == pool))
        };
        self.waiting.get() > 0 && waits()
    }

    /// Whether an endpoint takes a request of so many tokens now, beside what is held for others; `called`:
    /// its line, if it has the turn there.
    pub fn takes(
        &self,
        epoch: &Epoch,
        id: EndpointId,
        kv_tokens: u64,
        called: Option<LineKey>,
    ) -> bool {
        takes(&self.claims.borrow(), epoch, id, kv_tokens, called)
    }

    /// Gets in line.
    ///
    /// # Errors
    /// There is no room, with the seconds after which there may be.
    pub fn enter(&self, entry: Entry, waiter: Waiter, bounds: Bounds) -> Result<Id, (Full, u32)> {
        let now = clock::now().nanos();
        let mut lines = self.lines.borrow_mut();
        let (epoch, model) = (waiter.epoch.clone(), waiter.model);
        let key = LineKey::of(&epoch, model);
        let line = lines.entry(key).or_insert_with(|| Line::new(bounds));
        let requests = line.queue.len() + 1;
        let guess = guess(&epoch, model, &waiter.want, &line.drain, requests);
        line.queue.set_bounds(bounds);
        line.kv_bounded = waiter.epoch.seating().kv_bounded;
        let tokens = line.queue.tokens_before(entry.class) + u64::from(entry.tokens);
        let pushed = line.queue.push(entry, waiter);
        let pushed = pushed.map_err(|full| (full, line.drain.retry_after_s(now, tokens, guess)))?;
        line.drain.begin(now);
        line.came(&epoch, model);
        for (id, waiter) in &pushed.displaced {
            line.left(waiter);
            self.end_turn(key, line, *id);
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
            line.queue.serve(id, work.tokens, weight).map(|(_, waiter)| waiter)
        });
    }

    /// Leaves the line for good, if it still stands there.
    pub fn remove(&self, epoch: &Epoch, model: ModelId, id: Id) {
        self.leave(epoch, model, id, |line| line.queue.remove(id).map(|(_, waiter)| waiter));
    }

    fn leave(
        &self,
        epoch: &Epoch,
        model: ModelId,
        id: Id,
        how: impl FnOnce(&mut Line) -> Option<Waiter>,
    ) {
        let (mut lines, key) = (self.lines.borrow_mut(), LineKey::of(epoch, model));
        let Some(line) = lines.get_mut(&key) else { return };
        if let Some(waiter) = how(line) {
            line.left(&waiter);
            self.waiting.set(self.waiting.get().saturating_sub(1));
        }
        self.end_turn(key, line, id);
        if line.queue.is_empty() {
            // It may have been waited for.
            self.claims.borrow_mut().release(key);
            line.drain.end(clock::now().nanos());
        }
    }

    /// Whoever has the turn has it no more, if it is this one.
    fn end_turn(&self, key: LineKey, line: &mut Line, id: Id) {
        if line.turn.take_if(|turn| *turn == id).is_some() {
            self.claims.borrow_mut().release(key);
        }
    }

    /// Gives the turn back: what was free is taken, or too little for what it wants by now.
    pub fn pass(&self, epoch: &Epoch, model: ModelId, id: Id, want: &Want) {
        let (mut lines, key) = (self.lines.borrow_mut(), LineKey::of(epoch, model));
        let Some(line) = lines.get_mut(&key) else { return };
        self.end_turn(key, line, id);
        if let Some(waiter) = line.queue.get_mut(id) {
            waiter.want = *want;
            waiter.word.verdict.set(Verdict::Wait);
        }
        drop(lines);
        // Other lines may want less; this one has its next chance when something changes.
        self.offer_except(Some(key));
    }

    /// The seconds after which a request of `class` that is sent away should come again.
    pub fn retry_after_s(&self, epoch: &Epoch, model: ModelId, class: usize, want: &Want) -> u32 {
        let lines = self.lines.borrow();
        let line = lines.get(&LineKey::of(epoch, model));
        let (drain, tokens, requests) = line.map_or((Drain::default(), 0, 0), |line| {
            (line.drain, line.queue.tokens_before(class), line.queue.len())
        });
        let guess = guess(epoch, model, want, &drain, requests.max(1));
        drain.retry_after_s(clock::now().nanos(), tokens, guess)
    }

    /// Gives the turn to the next one in each line for whom there is a place.
    pub fn offer(&self) {
        self.offer_except(None);
    }

    fn offer_except(&self, passed: Option<LineKey>) {
        if self.waiting.get() == 0 {
            return;
        }
        let mut called: Vec<Rc<Word>> = Vec::new();
        let (mut lines, mut claims) = (self.lines.borrow_mut(), self.claims.borrow_mut());
        claims.ask_anew();
        let first = self.first.get();
        // Of lines that wait for the same endpoints each is called first in its turn.
        for part in [(Included(first), Unbounded), (Unbounded, Excluded(first))] {
            for (key, line) in lines.range_mut(part) {
                let may = Some(*key) != passed;
                let Some(word) = line.call(*key, &mut claims, may) else { continue };
                if called.is_empty() {
                    self.first.set(LineKey(key.0.wrapping_add(1)));
                }
                called.push(word);
            }
        }
        drop((lines, claims));
        called.iter().for_each(|word| word.say(Verdict::Turn));
    }

    /// How often it was asked whether somebody fits.
    #[cfg(test)]
    pub fn looks(&self) -> usize {
        self.claims.borrow().looks.get()
    }

    /// A place was taken for so long.
    pub fn place_was_taken(&self, epoch: &Epoch, work: &Work, time: Duration) {
        let mut lines = self.lines.borrow_mut();
        let Some(line) = lines.get_mut(&LineKey::of(epoch, work.model)) else { return };
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
            let milli = lines.get(&LineKey::of(epoch, id)).map_or(0, |line| {
                let weight = |tenant| places::weight(epoch, id, tenant);
                (line.queue.tenants().map(weight).sum::<f64>() * 1e3) as u64
            });
            series.tenants_milli.set(milli);
        }
    }

    /// Forgets lines of models that are gone, once nobody stands in them.
    pub fn retire(&self, plan: &Plan) {
        let known: BTreeSet<LineKey> =
            plan.models.iter().map(|model| LineKey::named(&model.name)).collect();
        let kept = |key: &LineKey, line: &Line| known.contains(key) || !line.queue.is_empty();
        self.lines.borrow_mut().retain(|key, line| kept(key, line));
    }
}
