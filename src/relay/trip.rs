//! A request's way through the router: from what it asks to what became of it.
//!
//! Invariants: what an endpoint has to do because of a request is counted in a [`Claim`], and taken back by
//! its drop, whatever happens; a prompt's memory goes back to the router; a policy that looks at nothing
//! has no trip, and pays for none of it.

use std::rc::Rc;
use std::time::Duration;

use crate::config::plan::{EndpointId, Policy};
use crate::lifecycle::permit::{KvTokens, Permit, PrefillTokens, Resource};
use crate::relay::core::{Core, Epoch};
use crate::relay::pair::room;
use crate::relay::pair::way::Way;
use crate::relay::places;
use crate::route::chain::Chain;
use crate::route::eligible::Needs;
use crate::route::router::{Decision, Flight, Foresight, Inquiry, Pick, Report, Whose};
use crate::runtime::clock::Instant;
use crate::telemetry::cell::Gauge;
use crate::telemetry::endpoint::EndpointSeries;
use crate::telemetry::row::Foreseen;

/// A request between its decision and its end.
pub struct Trip {
    core: Rc<Core>,
    epoch: Rc<Epoch>,
    pub decision: Decision,
    /// What its servers must be able to do and to hold.
    pub needs: Needs,
    /// Whether two servers share it, where that had to be known to choose one.
    pub way: Option<Box<Way>>,
    whose: Whose,
    chain: Chain,
    streamed: bool,
    leg: Option<Leg>,
    /// The next attempt gets its prompt computed from another server.
    pub carried: bool,
}

/// One attempt.
struct Leg {
    flight: Flight,
    began: Instant,
    /// Until its first content.
    prefill: Option<Claim<PrefillTokens>>,
    context: Option<Claim<KvTokens>>,
}

/// Tokens that an endpoint has to do with because of one request.
pub struct Claim<R: Tokens> {
    epoch: Rc<Epoch>,
    endpoint: EndpointId,
    permit: Permit<R>,
}

/// What a claim counts, and where other shards read it.
pub trait Tokens: Resource {
    fn gauge(series: &EndpointSeries) -> &Gauge;
}

impl Tokens for PrefillTokens {
    fn gauge(series: &EndpointSeries) -> &Gauge {
        &series.prefill_tokens
    }
}

impl Tokens for KvTokens {
    fn gauge(series: &EndpointSeries) -> &Gauge {
        &series.context_tokens
    }
}

impl<R: Tokens> Claim<R> {
    /// `None` where the ledger's limit would be passed.
    pub fn take(core: &Core, epoch: &Rc<Epoch>, endpoint: EndpointId, tokens: u64) -> Option<Self> {
        let permit = core.kit.ledgers.take::<R>(tokens)?;
        R::gauge(&epoch.series().endpoints[usize::from(endpoint.0)]).add(tokens);
        Some(Self { epoch: epoch.clone(), endpoint, permit })
    }
}

impl<R: Tokens> Drop for Claim<R> {
    fn drop(&mut self) {
        let series = &self.epoch.series().endpoints[usize::from(self.endpoint.0)];
        R::gauge(series).sub(self.permit.amount());
    }
}

impl Trip {
    /// A request that was decided upon.
    pub fn new(
        core: &Rc<Core>,
        epoch: &Rc<Epoch>,
        (decision, needs): (Decision, Needs),
        whose: Whose,
        chain: Chain,
        streamed: bool,
    ) -> Self {
        let (core, epoch) = (core.clone(), epoch.clone());
        Self {
            core,
            epoch,
            decision,
            needs,
            way: None,
            whose,
            chain,
            streamed,
            leg: None,
            carried: false,
        }
    }

    /// An attempt begins; the one before it has failed. What is expected of it.
    pub fn attempt(&mut self, endpoint: EndpointId, now: Instant) -> Option<Foreseen> {
        self.fail();
        let mut pick = *self.decision.pick(endpoint)?;
        if self.carried || !self.whose.computes {
            pick = pick.carried();
        }
        let flight = self
            .core
            .router(|router| router.dispatched(now.nanos(), &self.chain, &pick, &self.whose));
        let flight = flight.map(|mut flight| {
            flight.carried = self.carried;
            flight
        });
        let context = self.kv_tokens();
        self.leg = flight.map(|flight| Leg {
            flight,
            began: now,
            prefill: Claim::take(&self.core, &self.epoch, endpoint, self.prefill_tokens(&pick)),
            context: Claim::take(&self.core, &self.epoch, endpoint, context),
        });
        Some(Foreseen {
            input_tokens: self.decision.estimate.input_tokens,
            output_tokens: self.decision.estimate.output_tokens,
            cached_tokens: pick.cached_tokens,
            first_token_micros: (pick.ttft_seconds * 1e6) as u64,
            gpu_micros: (pick.gpu_millis * 1e3) as u64,
        })
    }

    /// What it takes of a cache, as estimated.
    pub fn kv_tokens(&self) -> u64 {
        if self.whose.computes { self.decision.estimate.kv_tokens() } else { 0 }
    }

    /// How long its first endpoint should be busy with it.
    pub fn lasts(&self) -> Duration {
        let first = self.decision.picks().next();
        let prefill = first.map_or(0.0, |pick| f64::from(pick.own_seconds));
        let share = first.map_or(1.0, |pick| f64::from(pick.prefill_share));
        Duration::try_from_secs_f64(prefill / share).unwrap_or_default()
    }

    /// Where a server goes that prefills for this request, among `ids`: a trip of its own.
    pub fn prefill(&self, ids: &[EndpointId], now: Instant) -> Option<Box<Trip>> {
        // The session is with the one that answers.
        let whose = Whose { session: None, ..self.whose };
        let mut trip = self.among(ids, now, Policy::PredictedTtft, whose)?;
        trip.streamed = true;
        Some(trip)
    }

    /// The same request's trip among other endpoints.
    pub fn instead(&self, ids: &[EndpointId], now: Instant) -> Option<Box<Trip>> {
        self.among(ids, now, Policy::PredictedTtft, self.whose)
    }

    /// Those of them with room, or all that can take it where none has.
    fn among(
        &self,
        ids: &[EndpointId],
        now: Instant,
        policy: Policy,
        whose: Whose,
    ) -> Option<Box<Trip>> {
        let Self { core, epoch, chain, streamed, .. } = self;
        let able: Vec<_> = room::able(epoch, ids, &self.needs).copied().collect();
        let kv_tokens = self.kv_tokens();
        let free = |id: &EndpointId| places::takes(epoch, *id, kv_tokens);
        let free: Vec<_> = able.iter().copied().filter(free).collect();
        let ids = if free.is_empty() { &able } else { &free };
        let columns = epoch.seating().columns(ids);
        let inquiry = Inquiry {
            policy,
            whose,
            columns: &columns,
            chain,
            output_tokens_max: Some(u64::from(self.decision.estimate.output_tokens)),
            session_ttl: epoch.plan().routing.session_ttl.as_nanos() as u64,
            known: false,
        };
        let decision = core.router(|router| {
            let estimate = router.estimate(now.nanos(), &inquiry);
            router.decide(now.nanos(), &inquiry, &estimate, epoch.seats_of(ids))
        });
        let (decision, chain) = (decision.flatten()?, chain.clone());
        Some(Box::new(Self::new(core, epoch, (decision, self.needs), whose, chain, *streamed)))
    }

    /// Its prompt.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// What its endpoint goes on keeping when the attempt is over.
    pub fn keep_context(&mut self) -> Option<Claim<KvTokens>> {
        self.leg.as_mut()?.context.take()
    }

    /// An answer that is not streamed does not say when its prompt was done, so it claims as much for all
    /// of its time as it has to compute on average.
    fn prefill_tokens(&self, pick: &Pick) -> u64 {
        match self.streamed {
            true => u64::from(pick.prefill_tokens),
            false => (pick.prefill_tokens as f32 * pick.prefill_share) as u64,
        }
    }

    /// Content came. If it is the first, how far its predicted time was off.
    pub fn content(&mut self, now: Instant) -> Option<Duration> {
        let leg = self.leg.as_mut()?;
        leg.prefill.take()?;
        self.core.router(|router| router.first_content(now.nanos(), &mut leg.flight));
        if leg.flight.carried {
            // How long the other server takes was not predicted here.
            return None;
        }
        let took = now.since(leg.began).as_secs_f32();
        let off = (took - leg.flight.pick.ttft_seconds).abs();
        Duration::try_from_secs_f32(off).ok()
    }

    /// The answer is whole: what the engine said of it, and when its last content came.
    pub fn settled(&mut self, last_content: Option<Instant>, report: &Report) {
        let Some(leg) = self.leg.take() else { return };
        let last = last_content.map_or(0, Instant::nanos);
        let settled = |router: &mut crate::route::router::Router| {
            router.settled(last, &self.chain, &leg.flight, report)
        };
        if let Some(foresight) = self.core.router(settled).flatten() {
            let at = usize::from(leg.flight.pick.endpoint.0);
            count(&self.epoch.series().endpoints[at], &foresight);
        }
        drop(leg);
        self.offer();
    }

    /// Tokens that its endpoint has room for again may be what others wait for.
    fn offer(&self) {
        if self.epoch.seating().kv_bounded {
            self.core.hall.offer();
        }
    }

    /// The attempt under way has come to nothing, or its answer broke off.
    pub fn fail(&mut self) {
        if let Some(leg) = self.leg.take() {
            self.core.router(|router| router.failed(&self.chain, &leg.flight));
            drop(leg);
            self.offer();
        }
    }
}

impl Drop for Trip {
    fn drop(&mut self) {
        self.fail();
        let chain = std::mem::take(&mut self.chain);
        self.core.router(|router| router.put_chain(chain));
    }
}

fn count(series: &EndpointSeries, seen: &Foresight) {
    let Foresight { expected_tokens, got_tokens, lost } = *seen;
    series.cached_expected.add(expected_tokens);
    series.cached_got.add(got_tokens);
    series.cached_error.add(expected_tokens.abs_diff(got_tokens));
    series.cache_resets.add(u64::from(lost));
}
