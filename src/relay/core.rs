//! What one shard's requests share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::config::plan::{EndpointId, ModelId, Plan};
use crate::http::{ChunkLimits, HeadLimits};
use crate::lifecycle::hold::Receipt;
use crate::route::candidate::{Candidate, Question, Ranking, Reason};
use crate::route::rank::rank;
use crate::route::views::{Bound, Views};
use crate::runtime::kit::Kit;
use crate::telemetry::Series;
use crate::upstream::backend::{Backend, Backends};
use crate::upstream::connection::AnswerLimits;

/// A shard's plan with everything whose ids belong to it. A request keeps the epoch it began with.
pub struct Epoch {
    bound: Arc<Bound>,
    views: RefCell<Arc<Views>>,
    backends: Vec<Rc<Backend>>,
    /// By model: whose turn it is.
    turns: Vec<Cell<u64>>,
    /// Memory for ranking, used again for each request.
    candidates: RefCell<Vec<Candidate>>,
    pub answer_limits: AnswerLimits,
}

/// The shard's services for requests.
pub struct Core {
    pub kit: Kit,
    pub backends: Backends,
    epoch: RefCell<Rc<Epoch>>,
    /// Extra attempts that may still be made, in thousandths.
    retry_milli: Cell<u64>,
    /// Tokens booked since the shard began: (input, output).
    booked: Rc<Cell<(u64, u64)>>,
    /// Where holds book to.
    pub book: Rc<dyn Fn(Receipt)>,
}

/// Each request earns this much of an extra attempt, in thousandths: one in five may be tried again.
const RETRY_EARNED_MILLI: u64 = 200;
/// What an extra attempt costs, in thousandths.
const RETRY_COST_MILLI: u64 = 1_000;
/// Extra attempts saved up, at most, in thousandths.
const RETRY_SAVED_MILLI_MAX: u64 = 100_000;

impl Epoch {
    fn new(bound: Arc<Bound>, backends: &Backends, kit: &Kit) -> Rc<Self> {
        let plan = &bound.plan;
        // Shards begin their turns in different places, or they would move in step.
        let turns = plan.models.iter().map(|_| Cell::new(kit.random() >> 1)).collect();
        let answer_limits = AnswerLimits::of(&plan.limits);
        let views = RefCell::new(bound.views.clone());
        let candidates = RefCell::default();
        let backends = backends.bind(plan);
        Rc::new(Self { views, backends, turns, candidates, answer_limits, bound })
    }

    /// The configuration.
    pub fn plan(&self) -> &Plan {
        &self.bound.plan
    }

    /// The counters.
    pub fn series(&self) -> &Arc<Series> {
        &self.bound.series
    }

    /// The shard's connections to an endpoint.
    pub fn backend(&self, id: EndpointId) -> &Rc<Backend> {
        &self.backends[usize::from(id.0)]
    }

    /// What the control plane last said of the endpoints.
    pub fn views(&self) -> Arc<Views> {
        self.views.borrow().clone()
    }

    /// Takes newer views; those of another plan are ignored.
    pub fn set_views(&self, views: Arc<Views>) {
        if views.generation == self.plan().generation {
            *self.views.borrow_mut() = views;
        }
    }

    /// Ranks a model's endpoints for its next request.
    pub fn rank(&self, id: ModelId) -> (Reason, Vec<EndpointId>) {
        let views = self.views.borrow();
        let model = &self.plan().models[usize::from(id.0)];
        let candidate = |id: &EndpointId| {
            let endpoint = &self.plan().endpoints[usize::from(id.0)];
            let requests = self.series().in_flight(*id);
            Candidate {
                endpoint: *id,
                healthy: views.endpoints.get(usize::from(id.0)).is_none_or(|view| view.healthy),
                weight: endpoint.weight,
                requests,
                prefill_tokens: 0,
                placed_tokens: 0.0,
                context_tokens: requests,
                cached_tokens: 0,
                prefill_rate: 1.0,
                decode_seconds: 0.0,
                kv_use: None,
                running: None,
                waiting: None,
                kv_tokens: None,
                price: endpoint.price,
            }
        };
        let mut candidates = self.candidates.borrow_mut();
        candidates.clear();
        candidates.extend(model.endpoints.iter().map(candidate));
        let turn = &self.turns[usize::from(id.0)];
        turn.set(turn.get().wrapping_add(1));
        let question = Question {
            input_tokens: 1,
            output_tokens: 1,
            anchor: turn.get(),
            session: None,
            turn: turn.get() >> 1,
            random: turn.get(),
        };
        let mut ranking = Ranking::default();
        let reason = rank(model.policy, &question, &candidates, &mut ranking);
        (reason, ranking.attempts().iter().map(|score| score.endpoint).collect())
    }

    /// Limits on a client's head.
    pub fn head_limits(&self) -> HeadLimits {
        self.answer_limits.head
    }

    /// Limits on a client's chunked framing.
    pub fn chunk_limits(&self) -> ChunkLimits {
        let trailer_bytes_max = self.plan().limits.trailer_bytes_max;
        ChunkLimits { trailer_bytes_max, ..self.answer_limits.chunk }
    }
}

impl Core {
    /// For one shard.
    pub fn new(kit: Kit, bound: Arc<Bound>) -> Rc<Self> {
        let backends = Backends::default();
        let epoch = RefCell::new(Epoch::new(bound, &backends, &kit));
        let retry_milli = Cell::new(RETRY_SAVED_MILLI_MAX);
        let booked = Rc::new(Cell::new((0, 0)));
        let total = booked.clone();
        let book: Rc<dyn Fn(Receipt)> = Rc::new(move |receipt: Receipt| {
            let (input, output): (u64, u64) = total.get();
            // An endpoint may claim any number.
            let input = input.saturating_add(receipt.input);
            total.set((input, output.saturating_add(receipt.output)));
        });
        Rc::new(Self { kit, backends, epoch, retry_milli, booked, book })
    }

    /// The present epoch.
    pub fn epoch(&self) -> Rc<Epoch> {
        self.epoch.borrow().clone()
    }

    /// Gives new requests another plan.
    pub fn swap(&self, bound: Arc<Bound>) {
        *self.epoch.borrow_mut() = Epoch::new(bound, &self.backends, &self.kit);
    }

    /// Tokens booked since the shard began: (input, output).
    pub fn booked(&self) -> (u64, u64) {
        self.booked.get()
    }

    /// A first attempt was made: it earns a part of an extra one.
    pub fn earn_retry(&self) {
        let saved = self.retry_milli.get() + RETRY_EARNED_MILLI;
        self.retry_milli.set(saved.min(RETRY_SAVED_MILLI_MAX));
    }

    /// Whether an extra attempt may be made: there were not too many lately.
    pub fn may_retry(&self) -> bool {
        self.retry_milli.get() >= RETRY_COST_MILLI
    }

    /// An extra attempt is being made.
    pub fn spend_retry(&self) {
        self.retry_milli.set(self.retry_milli.get().saturating_sub(RETRY_COST_MILLI));
    }
}
