//! Sluice's own routing, called as shards call it: each request falls to one shard of one gateway, whose
//! router decides by its own table and by the gateway's counts of what is in flight. Shards tell each other
//! news at the end of each epoch, and some of it is lost; gateways know nothing of each other.

use std::collections::HashMap;

use sluice::config::plan::{EndpointId, Policy};
use sluice::relay::consult;
use sluice::route::candidate::Candidate;
use sluice::route::chain::Chain;
use sluice::route::endpoints::EndpointSet;
use sluice::route::router::{Flight, Inquiry, Pick, Places, Report, Router, Seat, Slot, Whose};
use sluice_sim::engine::{MILLISECOND, SECOND, Time, Told};
use sluice_sim::text::mix;

use super::chooser::{Chooser, End, FleetView, Gpu, Question};
use super::precise::Precise;
use super::random::Random;

/// A shard's epoch.
const EPOCH: Time = 10 * MILLISECOND;
/// How often the control plane scrapes engines.
const SCRAPE: Time = SECOND;
/// Sessions are remembered so long.
const SESSION_TTL: Time = 3_600 * SECOND;

/// How many gateways and shards there are, and what they know.
#[derive(Clone, Debug)]
pub struct Shape {
    pub gateways: usize,
    /// Of each gateway.
    pub shards: usize,
    /// Share of the news between shards that is lost.
    pub loss: f64,
    /// Of each shard's prefix table.
    pub table_mib: usize,
}

/// What a gateway counts of one endpoint, from live requests.
#[derive(Clone, Copy, Default)]
struct InFlight {
    requests: u64,
    prefill_tokens: u64,
    context_tokens: u64,
}

struct Gateway {
    shards: Vec<Router>,
    in_flight: Vec<InFlight>,
    next_epoch: Time,
    /// What its control plane makes of KV events, if engines tell.
    precise: Option<Precise>,
}

/// A request between its decision and its end.
struct Trip {
    gateway: usize,
    shard: usize,
    whose: Whose,
    pick: Pick,
    context_tokens: u64,
    flight: Option<Flight>,
    /// Until the first content.
    prefill_tokens: u64,
    /// It was tokenised beforehand.
    counted: bool,
}

/// A request that waits for what engines hold of it.
struct Consulting {
    gateway: usize,
    shard: usize,
    /// The answer comes before its patience is over.
    told: bool,
}

pub struct Sluice<'a> {
    policy: Policy,
    gateways: Vec<Gateway>,
    /// Where endpoints and the model stand in every router's tables.
    places: Places,
    columns: EndpointSet,
    chains: &'a [Chain],
    trips: HashMap<usize, Trip>,
    consulting: HashMap<usize, Consulting>,
    healthy: Vec<bool>,
    kv_tokens: Option<u32>,
    block_tokens: Option<u32>,
    loss: f64,
    random: Random,
}

impl<'a> Sluice<'a> {
    /// For `gpus` endpoints; `chains` are those of the trace's requests.
    pub fn new(policy: Policy, gpus: usize, shape: &Shape, seed: u64, chains: &'a [Chain]) -> Self {
        let identities: Vec<u64> = (0..gpus).map(identity).collect();
        let mut places = Places::default();
        let mut gateway = |at: usize| {
            let shard = |shard: usize| {
                let seed = mix(seed, (at * 1_000 + shard) as u64);
                let mut router = Router::new(shape.table_mib, shape.shards > 1, seed);
                places = router.adopt(&identities, &[1]);
                router
            };
            let shards = (0..shape.shards).map(shard).collect();
            let in_flight = vec![InFlight::default(); gpus];
            Gateway { shards, in_flight, next_epoch: 0, precise: None }
        };
        let gateways = (0..shape.gateways).map(&mut gateway).collect();
        Self {
            policy,
            gateways,
            columns: places.endpoints.iter().flatten().map(|slot| slot.index).collect(),
            places,
            chains,
            trips: HashMap::new(),
            consulting: HashMap::new(),
            healthy: vec![true; gpus],
            kv_tokens: None,
            block_tokens: None,
            loss: shape.loss,
            random: Random::new(seed),
        }
    }

    /// The same, where engines tell what happens to their caches.
    pub fn precise(mut self) -> Self {
        let (gpus, shards) = (self.healthy.len(), self.gateways[0].shards.len());
        self.gateways.iter_mut().for_each(|one| one.precise = Some(Precise::new(gpus, shards)));
        self
    }

    /// What was told by now reaches the shards.
    fn correct(&mut self, now: Time) {
        for gateway in &mut self.gateways {
            let Some(precise) = &mut gateway.precise else { continue };
            for (gpu, change) in precise.changes(now) {
                let news = (identity(gpu), change);
                gateway.shards.iter_mut().for_each(|shard| shard.correct(news));
            }
        }
    }

    /// Where a request falls to.
    fn falls(&mut self) -> (usize, usize) {
        let gateway = (self.random.next() % self.gateways.len() as u64) as usize;
        let shard = (self.random.next() % self.gateways[gateway].shards.len() as u64) as usize;
        (gateway, shard)
    }

    fn whose(&self, asked: &Question<'_>) -> Option<Whose> {
        let model = self.places.models.first().copied().flatten()?;
        let prompt = self.chains[asked.index].size();
        let session = asked.ask.session.map(|session| mix(0x5e55, session));
        Some(Whose { model, client: 0, session, prompt, computes: true })
    }

    /// The end of an epoch: what is new goes to the other shards, or is lost.
    fn exchange(&mut self, now: Time) {
        for gateway in &mut self.gateways {
            if gateway.next_epoch > now || gateway.shards.len() < 2 {
                continue;
            }
            gateway.next_epoch = now + EPOCH;
            for from in 0..gateway.shards.len() {
                let news: Vec<_> = gateway.shards[from].drain_news().collect();
                for (to, shard) in gateway.shards.iter_mut().enumerate() {
                    for one in news.iter().filter(|_| to != from) {
                        if self.random.share() >= self.loss {
                            shard.learn_news(one);
                        }
                    }
                }
            }
        }
    }

    fn slot(&self, gpu: Gpu) -> Option<Slot> {
        self.places.endpoints.get(gpu).copied().flatten()
    }

    /// What a shard may know of an endpoint; the rest the router fills in.
    fn seat(&self, gateway: usize, gpu: Gpu, fleet: &FleetView<'_>) -> Seat {
        let (view, in_flight) = (&fleet.gpus[gpu], self.gateways[gateway].in_flight[gpu]);
        let candidate = Candidate {
            endpoint: EndpointId(gpu as u16),
            identity: gpu as u64,
            healthy: view.healthy,
            weight: 1,
            requests: in_flight.requests,
            prefill_tokens: in_flight.prefill_tokens,
            context_tokens: in_flight.context_tokens,
            cached_tokens: 0,
            prefill_rate: 0.0,
            decode_seconds: 0.0,
            lag_seconds: 0.0,
            kv_use: Some(view.gauges.kv_use as f32),
            running: Some(view.gauges.running),
            waiting: Some(view.gauges.waiting),
            kv_tokens: self.kv_tokens,
            block_tokens: self.block_tokens,
            price: 0.0,
        };
        Seat { slot: self.slot(gpu), candidate }
    }

    /// Takes back what the endpoint had to compute before this request's first token.
    fn prefilled(in_flight: &mut InFlight, trip: &mut Trip) {
        in_flight.prefill_tokens -= std::mem::take(&mut trip.prefill_tokens);
    }
}

/// What a router is asked.
fn inquiry<'a>(
    policy: Policy,
    whose: Whose,
    columns: &'a EndpointSet,
    chain: &'a Chain,
    told: bool,
) -> Inquiry<'a> {
    // The trace knows how long the answer is; a gateway does not.
    let output_tokens_max = None;
    Inquiry {
        policy,
        whose,
        columns,
        chain,
        output_tokens_max,
        session_ttl: SESSION_TTL,
        known: told,
    }
}

/// What an endpoint's cache depends on.
fn identity(gpu: Gpu) -> u64 {
    gpu as u64 + 1
}

impl Chooser for Sluice<'_> {
    fn consult(&mut self, now: Time, asked: &Question<'_>) -> Option<Time> {
        if !self.listens() {
            return None;
        }
        self.exchange(now);
        self.correct(now);
        let (gateway, shard) = self.falls();
        let (whose, chain) = (self.whose(asked)?, &self.chains[asked.index]);
        let inquiry = inquiry(self.policy, whose, &self.columns, chain, false);
        let here = &mut self.gateways[gateway];
        let router = &mut here.shards[shard];
        let estimate = router.may_doubt(&inquiry).then(|| router.estimate(now, &inquiry));
        let tokens = estimate.and_then(|one| router.doubtful_tokens(&inquiry, &one));
        let patience = consult::patience(tokens.unwrap_or(0)).as_nanos() as Time;
        let asks = here.precise.as_mut().filter(|_| tokens.is_some());
        let known = asks.map(|precise| precise.ask(now, patience, asked, chain));
        let told = known.flatten().is_some();
        self.consulting.insert(asked.index, Consulting { gateway, shard, told });
        known.map(|known| known.unwrap_or(now + patience))
    }

    fn route(&mut self, now: Time, asked: &Question<'_>, fleet: &FleetView<'_>) -> Option<Gpu> {
        self.exchange(now);
        self.correct(now);
        let consulting = self.consulting.remove(&asked.index);
        let (gateway, shard) = match &consulting {
            Some(one) => (one.gateway, one.shard),
            None => self.falls(),
        };
        let mut whose = self.whose(asked)?;
        let counted = consulting.is_some_and(|one| one.told);
        let hears_all = self.gateways[gateway].precise.as_ref().is_some_and(Precise::hears_all);
        whose.prompt = whose.prompt.counted(counted.then(|| asked.tokens()));
        let open = fleet.candidates();
        let seats: Vec<Seat> = open.iter().map(|gpu| self.seat(gateway, *gpu, fleet)).collect();
        let told = counted && hears_all;
        let chain = &self.chains[asked.index];
        let inquiry = inquiry(self.policy, whose, &self.columns, chain, told);
        let router = &mut self.gateways[gateway].shards[shard];
        let estimate = router.estimate(now, &inquiry);
        let decision = router.decide(now, &inquiry, &estimate, seats.into_iter())?;
        let pick = *decision.picks().next()?;
        let context_tokens = estimate.kv_tokens();
        let trip = Trip {
            gateway,
            shard,
            whose,
            pick,
            context_tokens,
            flight: None,
            prefill_tokens: 0,
            counted,
        };
        self.trips.insert(asked.index, trip);
        Some(usize::from(pick.endpoint.0))
    }

    fn dispatched(&mut self, now: Time, asked: &Question<'_>, gpu: Gpu) {
        let Some(trip) = self.trips.get_mut(&asked.index) else { return };
        let gateway = &mut self.gateways[trip.gateway];
        let router = &mut gateway.shards[trip.shard];
        let chain = &self.chains[asked.index];
        trip.flight = Some(router.dispatched(now, chain, &trip.pick, &trip.whose));
        trip.prefill_tokens = u64::from(trip.pick.prefill_tokens);
        if let Some(precise) = gateway.precise.as_mut().filter(|_| !trip.counted) {
            precise.offer(now, gpu, asked, chain);
        }
        let in_flight = &mut gateway.in_flight[gpu];
        in_flight.requests += 1;
        in_flight.prefill_tokens += trip.prefill_tokens;
        in_flight.context_tokens += trip.context_tokens;
    }

    fn first_token(&mut self, now: Time, asked: &Question<'_>, gpu: Gpu) {
        let Some(trip) = self.trips.get_mut(&asked.index) else { return };
        let gateway = &mut self.gateways[trip.gateway];
        Self::prefilled(&mut gateway.in_flight[gpu], trip);
        if let Some(flight) = &mut trip.flight {
            gateway.shards[trip.shard].first_content(now, flight);
        }
    }

    fn finished(&mut self, now: Time, asked: &Question<'_>, gpu: Gpu, end: &End) {
        let Some(mut trip) = self.trips.remove(&asked.index) else { return };
        let gateway = &mut self.gateways[trip.gateway];
        let in_flight = &mut gateway.in_flight[gpu];
        Self::prefilled(in_flight, &mut trip);
        in_flight.requests -= 1;
        in_flight.context_tokens -= trip.context_tokens;
        let (router, chain) = (&mut gateway.shards[trip.shard], &self.chains[asked.index]);
        let Some(flight) = &trip.flight else { return };
        if end.whole {
            let report = Report {
                input_tokens: Some(u64::from(asked.tokens())),
                cached_tokens: end.cached_tokens.map(u64::from),
                output_tokens: Some(u64::from(end.output_tokens)),
            };
            router.settled(now, chain, flight, &report);
        } else {
            router.failed(chain, flight);
        }
    }

    fn scraped(&mut self, _: Time, fleet: &FleetView<'_>) {
        self.kv_tokens = fleet.kv_tokens();
        self.block_tokens = fleet.block_tokens();
        for gpu in 0..fleet.gpus.len() {
            let returned = fleet.gpus[gpu].healthy && !self.healthy[gpu];
            self.healthy[gpu] = fleet.gpus[gpu].healthy;
            if let (true, Some(slot)) = (returned, self.slot(gpu)) {
                let shards = self.gateways.iter_mut().flat_map(|gateway| &mut gateway.shards);
                shards.for_each(|shard| shard.returned(slot));
            }
        }
    }

    fn scrape_every(&self) -> Time {
        SCRAPE
    }

    fn listens(&self) -> bool {
        self.gateways.iter().any(|gateway| gateway.precise.is_some())
    }

    fn told(&mut self, now: Time, gpu: Gpu, told: Vec<Told>) {
        for precise in self.gateways.iter_mut().filter_map(|one| one.precise.as_mut()) {
            precise.told(now, gpu, &told);
        }
    }
}
