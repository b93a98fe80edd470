//! What one shard's requests share.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::config::plan::{EndpointId, ModelId, Plan, Traits};
use crate::http::{ChunkLimits, HeadLimits};
use crate::lifecycle::hold::Receipt;
use crate::relay::choose::Order;
use crate::relay::consult::Consults;
use crate::relay::hall::Hall;
use crate::relay::pair::blocks::Abandoned;
use crate::relay::seating::Seating;
use crate::relay::shadow::Shadows;
use crate::route::candidate::{Candidate, Question, Ranking, Reason};
use crate::route::precise;
use crate::route::rank::rank;
use crate::route::router::{Router, Seat};
use crate::route::views::{Bound, EngineView, Views};
use crate::runtime::kit::Kit;
use crate::telemetry::Series;
use crate::telemetry::endpoint::Load;
use crate::upstream::backend::{Backend, Backends};
use crate::upstream::connection::AnswerLimits;

/// A shard's plan with everything whose ids belong to it. A request keeps the epoch it began with.
pub struct Epoch {
    bound: Arc<Bound>,
    views: RefCell<Arc<Views>>,
    backends: Vec<Rc<Backend>>,
    /// By model: whose turn it is.
    turns: Vec<Cell<u64>>,
    random: Cell<u64>,
    /// Memory for ranking, used again for each request.
    candidates: RefCell<(Vec<Candidate>, Ranking)>,
    seating: Seating,
    pub answer_limits: AnswerLimits,
}

/// The shard's services for requests.
pub struct Core {
    pub kit: Kit,
    pub backends: Backends,
    /// Connections to endpoints that there may be, those that rest included.
    pub upstreams_max: Cell<u64>,
    /// Where requests wait for places on endpoints.
    pub hall: Hall,
    /// Present once a plan needed one.
    router: RefCell<Option<Box<Router>>>,
    /// To and from the control plane, about engines that tell of their caches.
    precise: OnceCell<Arc<precise::Lane>>,
    /// Requests that wait for what engines hold of their prompts.
    pub consults: Consults,
    epoch: RefCell<Rc<Epoch>>,
    /// Copies of requests, under way.
    pub shadows: Rc<Shadows>,
    /// Extra attempts that may still be made, in thousandths.
    retry_milli: Cell<u64>,
    /// Blocks that nobody will fetch.
    pub abandoned: Abandoned,
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
    fn new(
        bound: Arc<Bound>,
        backends: &Backends,
        kit: &Kit,
        router: &mut Option<Box<Router>>,
    ) -> Rc<Self> {
        let plan = &bound.plan;
        if let Some(memory_mib) = Seating::prefix_table_mib(plan) {
            let listened = bound.series.peers.len() > 1;
            let fresh = || Box::new(Router::new(memory_mib, listened, kit.random()));
            router.get_or_insert_with(fresh).grow(memory_mib);
        }
        let seating = Seating::of(plan, router.as_deref_mut());
        // Shards begin their turns in different places, or they would move in step.
        let turns = plan.models.iter().map(|_| Cell::new(kit.random() >> 1)).collect();
        let answer_limits = AnswerLimits::of(&plan.limits);
        let views = RefCell::new(bound.views.clone());
        let candidates = RefCell::default();
        let backends = backends.bind(plan);
        let random = Cell::new(kit.random());
        let epoch =
            Self { views, backends, turns, random, candidates, seating, answer_limits, bound };
        epoch.tell_bounds();
        router.iter_mut().for_each(|router| epoch.tell_returns(router));
        Rc::new(epoch)
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
    fn set_views(&self, views: Arc<Views>) {
        if views.generation == self.plan().generation {
            *self.views.borrow_mut() = views;
        }
    }

    /// Tells the router of endpoints that came back since it last heard.
    fn tell_returns(&self, router: &mut Router) {
        let views = self.views.borrow();
        let slots = self.seating.slots.iter().zip(&views.endpoints);
        for (at, (slot, view)) in slots.enumerate() {
            if slot.is_some_and(|slot| router.has_returned(slot, view.returns)) {
                self.series().endpoints[at].cache_resets.inc();
            }
        }
    }

    /// Requests that wait under earlier plans go by this one's bounds: by their own they would wait for what
    /// others need not wait for.
    fn tell_bounds(&self) {
        for (endpoint, series) in self.plan().endpoints.iter().zip(&self.series().endpoints) {
            let traits = &endpoint.traits;
            series.share.requests_max.set(u64::from(traits.requests_max));
            series.share.kv_percent_max.set(u64::from(traits.kv_percent_max));
        }
    }

    /// Where models and endpoints stand in the router's tables.
    pub fn seating(&self) -> &Seating {
        &self.seating
    }

    /// Ranks a model's endpoints by a policy that looks at nothing of its request.
    pub fn take_turns(&self, id: ModelId) -> (Reason, Order) {
        let model = &self.plan().models[usize::from(id.0)];
        if let [only] = model.endpoints[..] {
            return (Reason::OnlyOne, Order::of(std::iter::once(only)));
        }
        let mut held = self.candidates.borrow_mut();
        let (candidates, ranking) = &mut *held;
        let views = self.views.borrow();
        candidates.clear();
        let blank = |id: &EndpointId| self.candidate(*id, &views, Load::default());
        candidates.extend(model.endpoints.iter().map(blank));
        let turn = &self.turns[usize::from(id.0)];
        turn.set(turn.get().wrapping_add(1));
        let random = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(random);
        let question = Question {
            input_tokens: 1,
            output_tokens: 1,
            anchor: 0,
            session: None,
            forked: false,
            others: 0.0,
            turn: turn.get() >> 1,
            random,
        };
        let reason = rank(model.policy, &question, candidates, ranking);
        (reason, Order::of(ranking.attempts().iter().map(|score| score.endpoint)))
    }

    /// A model's endpoints, as the router looks at them.
    pub fn seats(&self, id: ModelId) -> impl Iterator<Item = Seat> + '_ {
        self.seats_of(&self.plan().models[usize::from(id.0)].endpoints)
    }

    /// These endpoints, as the router looks at them.
    pub fn seats_of<'e>(&'e self, ids: &'e [EndpointId]) -> impl Iterator<Item = Seat> + 'e {
        let views = self.views.borrow();
        ids.iter().map(move |id| Seat {
            slot: self.seating.slots[usize::from(id.0)],
            candidate: self.candidate(*id, &views, self.series().load(*id)),
        })
    }

    /// Whether an endpoint is thought to be up.
    pub fn is_up(&self, id: EndpointId) -> bool {
        let views = self.views.borrow();
        views.endpoints.get(usize::from(id.0)).is_none_or(|view| view.healthy)
    }

    /// Tokens that requests under way may take of an endpoint's cache; `None`: as many as they like, or the
    /// cache's size is not known.
    pub fn kv_tokens_max(&self, id: EndpointId) -> Option<u64> {
        let traits = &self.plan().endpoints[usize::from(id.0)].traits;
        if traits.kv_percent_max == 0 {
            return None;
        }
        let percent = self.series().endpoints[usize::from(id.0)].share.kv_percent_max.get();
        if percent == 0 {
            return None;
        }
        let views = self.views.borrow();
        let engine = views.endpoints.get(usize::from(id.0)).and_then(|view| view.engine.as_ref());
        let all = kv_tokens(traits, engine)?;
        Some(u64::from(all) * percent / 100)
    }

    /// What is known of an endpoint whoever asks.
    fn candidate(&self, id: EndpointId, views: &Views, load: Load) -> Candidate {
        let endpoint = &self.plan().endpoints[usize::from(id.0)];
        let view = views.endpoints.get(usize::from(id.0));
        let engine = view.and_then(|view| view.engine.as_ref());
        Candidate {
            healthy: view.is_none_or(|view| view.healthy),
            weight: endpoint.weight,
            requests: load.requests,
            prefill_tokens: load.prefill_tokens,
            context_tokens: load.context_tokens,
            kv_use: engine.and_then(|engine| engine.kv_use),
            running: engine.and_then(|engine| engine.running),
            waiting: engine.and_then(|engine| engine.waiting),
            kv_tokens: kv_tokens(&endpoint.traits, engine),
            block_tokens: engine.and_then(|engine| engine.block_tokens),
            price: endpoint.price,
            ..Candidate::idle(id)
        }
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
        let (backends, hall) = (Backends::default(), Hall::default());
        let mut router = None;
        let epoch = RefCell::new(Epoch::new(bound, &backends, &kit, &mut router));
        let router = RefCell::new(router);
        let retry_milli = Cell::new(RETRY_SAVED_MILLI_MAX);
        let booked = Rc::new(Cell::new((0, 0)));
        let total = booked.clone();
        let book: Rc<dyn Fn(Receipt)> = Rc::new(move |receipt: Receipt| {
            let (input, output): (u64, u64) = total.get();
            // An endpoint may claim any number.
            let input = input.saturating_add(receipt.input);
            total.set((input, output.saturating_add(receipt.output)));
        });
        let (precise, shadows) = (OnceCell::new(), Rc::default());
        let abandoned = Abandoned::default();
        let consults = Consults::new(kit.random() as u32);
        Rc::new(Self {
            kit,
            backends,
            upstreams_max: Cell::new(u64::MAX),
            hall,
            router,
            precise,
            consults,
            epoch,
            shadows,
            retry_milli,
            abandoned,
            booked,
            book,
        })
    }

    /// The present epoch.
    pub fn epoch(&self) -> Rc<Epoch> {
        self.epoch.borrow().clone()
    }

    /// What the control plane says of the present plan's endpoints.
    pub fn set_views(&self, views: Arc<Views>) {
        let epoch = self.epoch();
        epoch.set_views(views);
        self.router(|router| epoch.tell_returns(router));
    }

    /// Gives new requests another plan.
    pub fn swap(&self, bound: Arc<Bound>) {
        self.hall.retire(&bound.plan);
        let router = &mut *self.router.borrow_mut();
        *self.epoch.borrow_mut() = Epoch::new(bound, &self.backends, &self.kit, router);
        // Its bounds may be wider.
        self.hall.offer();
    }

    /// Takes its lane to the control plane. Once.
    pub fn listen_to(&self, lane: Arc<precise::Lane>) {
        // A second lane would be another control plane's.
        let _ = self.precise.set(lane);
    }

    /// Its lane to the control plane, if it has one.
    pub fn precise(&self) -> Option<&Arc<precise::Lane>> {
        self.precise.get()
    }

    /// Asks the shard's router something, if there is one.
    pub fn router<T>(&self, ask: impl FnOnce(&mut Router) -> T) -> Option<T> {
        self.router.borrow_mut().as_deref_mut().map(ask)
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

/// Tokens that an endpoint's KV cache holds: as configured, or as its engine tells; `None`: not known.
fn kv_tokens(traits: &Traits, engine: Option<&EngineView>) -> Option<u32> {
    let configured = Some(traits.kv_tokens).filter(|tokens| *tokens > 0);
    configured.or_else(|| engine.and_then(|engine| engine.kv_tokens))
}
