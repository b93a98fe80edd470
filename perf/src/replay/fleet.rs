//! A fleet of engines in virtual time.
//!
//! One loop takes the next moment at which anything happens, and at that moment, in this order: engines'
//! steps end, faults strike or pass, metrics are scraped, requests arrive. So a run is a function of its
//! trace, its setup and its chooser.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use sluice_sim::engine::{Engine, EngineConfig, MILLISECOND, Output, Request, SECOND, SeqId, Time};
use sluice_sim::text::voice::Voice;

use super::chooser::{Chooser, End, FleetView, Gauges, Gpu, GpuView, Question};
use super::fault::{Fault, Kind};
use super::prompts::{Prepared, ids};
use super::trace::Trace;

/// Health probes tell of a death or a return so much later.
const HEALTH_DELAY: Time = 2 * SECOND;
/// GPUs tried for one request, at most.
const ATTEMPTS_MAX: usize = 3;
/// How often queues are looked at, for the imbalance.
const SAMPLE_EVERY: Time = 100 * MILLISECOND;

/// What is simulated.
#[derive(Clone)]
pub struct Setup {
    pub gpus: usize,
    pub engine: EngineConfig,
    /// The trace's own speed times this.
    pub pace: f64,
    pub faults: Vec<Fault>,
}

/// A trace, cut into an engine's blocks.
pub struct Load {
    pub trace: Trace,
    pub prepared: Vec<Prepared>,
    pub block_tokens: u32,
}

impl Load {
    fn question(&self, index: usize) -> Question<'_> {
        let (ask, prepared) = (&self.trace.asks[index], &self.prepared[index]);
        Question { index, ask, prepared, block_tokens: self.block_tokens }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has not arrived, or is under way.
    Open,
    Served,
    /// Nobody would take it.
    Refused,
    /// Its GPU died after the first token, or too many died before.
    Failed,
}

/// One request's course.
#[derive(Clone, Debug)]
pub struct Course {
    pub fate: Fate,
    pub arrived: Time,
    /// Its chooser has seen it.
    pub met: bool,
    /// Where it was sent last.
    pub gpu: Gpu,
    pub first_token: Time,
    pub last_token: Time,
    pub output_tokens: u32,
    pub cached_tokens: u32,
    pub tried: Vec<Gpu>,
}

impl Course {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self {
            fate: Fate::Open,
            arrived: 0,
            met: false,
            gpu: 0,
            first_token: 0,
            last_token: 0,
            output_tokens: 0,
            cached_tokens: 0,
            tried: Vec::new(),
        }
    }
}

/// What a GPU did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effort {
    /// Time in steps.
    pub busy: Time,
    /// Tokens computed.
    pub tokens: u64,
}

impl Effort {
    fn add(&mut self, engine: &Engine) {
        let stats = engine.stats();
        self.busy += stats.busy;
        self.tokens += stats.step_tokens;
    }
}

/// What a run gave.
pub struct Played {
    pub courses: Vec<Course>,
    /// Between tokens of one request, microseconds, in no order.
    pub gaps_us: Vec<u32>,
    /// By GPU.
    pub efforts: Vec<Effort>,
    /// Greatest and mean number of prompt tokens without a first token, over the GPUs, summed over samples.
    pub queued: (f64, f64),
    /// When the last request ended.
    pub ended: Time,
}

/// Plays `load` through `chooser` on a fleet.
pub fn play(load: &Load, setup: &Setup, chooser: &mut dyn Chooser) -> Played {
    let mut fleet = Fleet::new(load, setup, chooser.listens());
    while let Some(now) = fleet.next_moment() {
        fleet.now = now;
        fleet.run_engines(chooser);
        fleet.run_faults(chooser);
        fleet.look(chooser);
        fleet.admit(chooser);
    }
    fleet.played()
}

/// A change that a fault brings.
#[derive(Clone, Copy)]
enum Change {
    Pace(f64),
    Die,
    Return,
    Empty,
    Seen(bool),
}

struct Fleet<'a> {
    load: &'a Load,
    setup: &'a Setup,
    now: Time,
    /// The engines tell what happens to their caches.
    listened: bool,
    engines: Vec<Option<Engine>>,
    views: Vec<GpuView>,
    /// By GPU and slot: whose sequence.
    seats: Vec<Vec<(SeqId, usize)>>,
    courses: Vec<Course>,
    /// Requests that wait for another's end, by that one.
    followers: Vec<Vec<usize>>,
    arrivals: BinaryHeap<Reverse<(Time, usize)>>,
    /// Requests that are not over.
    open: usize,
    /// Latest first.
    changes: Vec<(Time, Gpu, Change)>,
    next_scrape: Time,
    next_sample: Time,
    /// Prompt tokens without a first token, by GPU.
    queued: Vec<u64>,
    outputs: Vec<Output>,
    played: Played,
}

impl<'a> Fleet<'a> {
    fn new(load: &'a Load, setup: &'a Setup, listened: bool) -> Self {
        let count = load.trace.asks.len();
        let view = GpuView { healthy: true, gauges: Gauges::default() };
        let mut fleet = Self {
            load,
            setup,
            now: 0,
            listened,
            engines: (0..setup.gpus).map(|_| Some(engine(setup, listened))).collect(),
            views: vec![view; setup.gpus],
            seats: vec![Vec::new(); setup.gpus],
            courses: vec![Course::new(); count],
            followers: vec![Vec::new(); count],
            arrivals: BinaryHeap::new(),
            open: count,
            changes: Vec::new(),
            next_scrape: 0,
            next_sample: 0,
            queued: vec![0; setup.gpus],
            outputs: Vec::new(),
            played: Played {
                courses: Vec::new(),
                gaps_us: Vec::new(),
                efforts: vec![Effort::default(); setup.gpus],
                queued: (0.0, 0.0),
                ended: 0,
            },
        };
        fleet.plan_arrivals();
        fleet.plan_faults();
        fleet
    }

    fn plan_arrivals(&mut self) {
        for (index, ask) in self.load.trace.asks.iter().enumerate() {
            match ask.after {
                Some(before) => self.followers[before].push(index),
                None => self.arrivals.push(Reverse((ask.due(self.setup.pace), index))),
            }
        }
    }

    fn plan_faults(&mut self) {
        let span = self.load.trace.asks.last().map_or(0, |ask| ask.due(self.setup.pace));
        for fault in self.setup.faults.iter().filter(|fault| fault.gpu < self.setup.gpus) {
            let (from, until) = fault.times(span);
            let mut add = |at, change| self.changes.push((at, fault.gpu, change));
            match fault.kind {
                Kind::Slow(factor) => {
                    add(from, Change::Pace(factor));
                    add(until, Change::Pace(1.0));
                }
                Kind::Emptied => add(from, Change::Empty),
                Kind::Dead => {
                    add(from, Change::Die);
                    add(from + HEALTH_DELAY, Change::Seen(false));
                    add(until, Change::Return);
                    add(until + HEALTH_DELAY, Change::Seen(true));
                }
            }
        }
        self.changes.sort_by_key(|(at, ..)| Reverse(*at));
    }

    /// When anything happens next; `None` once all requests are over.
    fn next_moment(&self) -> Option<Time> {
        if self.open == 0 {
            return None;
        }
        let steps = self.engines.iter().flatten().filter_map(Engine::next_wakeup).min();
        let arrival = self.arrivals.peek().map(|Reverse((at, _))| *at);
        let change = self.changes.last().map(|(at, ..)| *at);
        let looks = self.next_scrape.min(self.next_sample);
        [steps, arrival, change, Some(looks)].into_iter().flatten().min().map(|at| at.max(self.now))
    }

    fn run_engines(&mut self, chooser: &mut dyn Chooser) {
        for gpu in 0..self.engines.len() {
            let Some(engine) = &mut self.engines[gpu] else { continue };
            if engine.next_wakeup().is_none_or(|at| at > self.now) {
                continue;
            }
            let mut outputs = std::mem::take(&mut self.outputs);
            engine.advance(self.now, &mut outputs);
            for output in outputs.drain(..) {
                self.token(gpu, &output, chooser);
            }
            self.outputs = outputs;
            self.tell(gpu, chooser);
        }
    }

    fn tell(&mut self, gpu: Gpu, chooser: &mut dyn Chooser) {
        let told = self.engines[gpu].as_mut().map(Engine::told).unwrap_or_default();
        if !told.is_empty() {
            chooser.told(self.now, gpu, told);
        }
    }

    fn token(&mut self, gpu: Gpu, output: &Output, chooser: &mut dyn Chooser) {
        let (_, index) = self.seats[gpu][output.seq.slot as usize];
        let asked = self.load.question(index);
        let course = &mut self.courses[index];
        if output.first == 0 {
            course.first_token = output.at;
            course.cached_tokens = output.cached;
            self.queued[gpu] -= u64::from(asked.tokens());
            chooser.first_token(output.at, &asked, gpu);
        } else {
            self.played.gaps_us.push(((output.at - course.last_token) / 1_000) as u32);
        }
        course.last_token = output.at;
        course.output_tokens = output.first + output.count;
        if output.last {
            self.vacate(gpu, output.seq);
            let end = End {
                cached_tokens: Some(self.courses[index].cached_tokens),
                output_tokens: output.first + output.count,
                whole: true,
            };
            chooser.finished(output.at, &asked, gpu, &end);
            self.close(index, Fate::Served);
        }
    }

    fn vacate(&mut self, gpu: Gpu, seq: SeqId) {
        self.seats[gpu][seq.slot as usize].1 = usize::MAX;
    }

    /// Ends a request, and lets those arrive that waited for it.
    fn close(&mut self, index: usize, fate: Fate) {
        self.courses[index].fate = fate;
        self.open -= 1;
        self.played.ended = self.now;
        for follower in std::mem::take(&mut self.followers[index]) {
            let due = self.load.trace.asks[follower].due(self.setup.pace);
            self.arrivals.push(Reverse((due.max(self.now), follower)));
        }
    }

    fn run_faults(&mut self, chooser: &mut dyn Chooser) {
        while let Some((_, gpu, change)) = self.changes.pop_if(|(at, ..)| *at <= self.now) {
            match change {
                Change::Pace(factor) => {
                    self.engines[gpu].iter_mut().for_each(|engine| engine.set_slowdown(factor));
                }
                Change::Die => self.die(gpu, chooser),
                Change::Empty => self.empty(gpu, chooser),
                Change::Return => {
                    self.engines[gpu] = Some(engine(self.setup, self.listened));
                    // Its messages are numbered from the beginning again.
                    self.empty(gpu, chooser);
                }
                Change::Seen(healthy) => self.views[gpu].healthy = healthy,
            }
        }
    }

    fn empty(&mut self, gpu: Gpu, chooser: &mut dyn Chooser) {
        self.engines[gpu].iter_mut().for_each(Engine::clear_cache);
        self.tell(gpu, chooser);
    }

    fn die(&mut self, gpu: Gpu, chooser: &mut dyn Chooser) {
        let Some(engine) = self.engines[gpu].take() else { return };
        self.played.efforts[gpu].add(&engine);
        self.queued[gpu] = 0;
        let lost = std::mem::take(&mut self.seats[gpu]);
        for (_, index) in lost.into_iter().filter(|(_, index)| *index != usize::MAX) {
            self.lost(index, gpu, chooser);
        }
    }

    /// An attempt that ended without an answer; before the first token another GPU may try.
    fn lost(&mut self, index: usize, gpu: Gpu, chooser: &mut dyn Chooser) {
        let course = &mut self.courses[index];
        let output_tokens = course.output_tokens;
        let end = End { cached_tokens: None, output_tokens, whole: false };
        chooser.finished(self.now, &self.load.question(index), gpu, &end);
        course.tried.push(gpu);
        if output_tokens > 0 || course.tried.len() == ATTEMPTS_MAX {
            self.close(index, Fate::Failed);
        } else {
            self.place(index, chooser);
        }
    }

    fn look(&mut self, chooser: &mut dyn Chooser) {
        if self.next_sample <= self.now {
            self.next_sample = self.now + SAMPLE_EVERY;
            let most = self.queued.iter().copied().max().unwrap_or(0);
            self.played.queued.0 += most as f64;
            self.played.queued.1 +=
                self.queued.iter().sum::<u64>() as f64 / self.queued.len() as f64;
        }
        if self.next_scrape <= self.now {
            self.next_scrape = self.now + chooser.scrape_every();
            for (view, engine) in self.views.iter_mut().zip(&self.engines) {
                let Some(stats) = engine.as_ref().map(Engine::stats) else { continue };
                view.gauges = Gauges {
                    running: stats.running,
                    waiting: stats.waiting,
                    kv_use: f64::from(stats.blocks_used) / f64::from(stats.blocks_total.max(1)),
                };
            }
            chooser.scraped(self.now, &view(&self.views, &self.engines, &[]));
        }
    }

    fn admit(&mut self, chooser: &mut dyn Chooser) {
        while let Some(Reverse((at, index))) = self.arrivals.peek().copied() {
            if at > self.now {
                return;
            }
            self.arrivals.pop();
            let course = &mut self.courses[index];
            if !std::mem::replace(&mut course.met, true) {
                course.arrived = self.now;
                if let Some(later) = chooser.consult(self.now, &self.load.question(index)) {
                    self.arrivals.push(Reverse((later, index)));
                    continue;
                }
            }
            self.place(index, chooser);
        }
    }

    fn place(&mut self, index: usize, chooser: &mut dyn Chooser) {
        let asked = self.load.question(index);
        let tried = &self.courses[index].tried;
        let chosen = chooser.route(self.now, &asked, &view(&self.views, &self.engines, tried));
        let Some(gpu) = chosen else { return self.close(index, Fate::Refused) };
        self.courses[index].gpu = gpu;
        chooser.dispatched(self.now, &asked, gpu);
        let Some(engine) = &mut self.engines[gpu] else { return self.lost(index, gpu, chooser) };
        let mut prompt = asked.prepared.prompt.clone();
        if self.listened {
            prompt.ids = ids(asked.ask);
        }
        let request = Request {
            prompt,
            output_tokens: asked.ask.output_tokens,
            voice: asked.ask.voice.map(Voice::new),
            stride: 1,
        };
        match engine.submit(self.now, request) {
            Ok(seq) => self.seat(gpu, seq, index),
            Err(_) => {
                let end = End { cached_tokens: None, output_tokens: 0, whole: false };
                chooser.finished(self.now, &asked, gpu, &end);
                self.close(index, Fate::Refused);
            }
        }
    }

    fn seat(&mut self, gpu: Gpu, seq: SeqId, index: usize) {
        let (seats, slot) = (&mut self.seats[gpu], seq.slot as usize);
        if slot >= seats.len() {
            seats.resize(slot + 1, (seq, usize::MAX));
        }
        seats[slot] = (seq, index);
        self.queued[gpu] += u64::from(self.load.prepared[index].prompt.tokens);
    }

    fn played(mut self) -> Played {
        for (effort, engine) in self.played.efforts.iter_mut().zip(&self.engines) {
            engine.iter().for_each(|engine| effort.add(engine));
        }
        self.played.courses = self.courses;
        self.played
    }
}

fn engine(setup: &Setup, listened: bool) -> Engine {
    let mut engine = Engine::new(setup.engine.clone());
    if listened {
        engine.tell();
    }
    engine
}

fn view<'a>(gpus: &'a [GpuView], engines: &'a [Option<Engine>], tried: &'a [Gpu]) -> FleetView<'a> {
    FleetView { gpus, tried, engines }
}

#[cfg(test)]
mod tests;
