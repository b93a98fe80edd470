//! The one record of a request's end: counters and log rows, written exactly once.

use std::rc::Rc;
use std::time::Duration;

use crate::api::ask::Ask;
use crate::api::family::Family;
use crate::api::fault::Fault;
use crate::api::operation::Operation;
use crate::api::usage::{Finish, Usage};
use crate::config::plan::{ArmId, EndpointId, KeyId};
use crate::http::{Known, Method};
use crate::lifecycle::outcome::Outcome;
use crate::relay::arm::Served;
use crate::relay::core::Epoch;
use crate::relay::explain;
use crate::relay::ids::{self, Id};
use crate::relay::inbound::Inbound;
use crate::relay::isolate::Salt;
use crate::relay::pair::Pairing;
use crate::relay::shadow::Comparison;
use crate::relay::stop::Stop;
use crate::relay::trip::Trip;
use crate::route::precise::Told;
use crate::route::router::Report;
use crate::runtime::clock::{self, Instant};
use crate::runtime::kit::Kit;
use crate::telemetry::arm::Ended;
use crate::telemetry::endpoint::Failure;
use crate::telemetry::explain::Explained;
use crate::telemetry::queue::Place;
use crate::telemetry::route::Reason;
use crate::telemetry::row::{Inline, Row, Tokens};
use crate::telemetry::shadow::{Side, Verdict};
use crate::telemetry::shard::Stage;

/// Collects what is known of a request. Its drop writes the outcome, whatever happened: set by
/// [`Exit::end`], or else that it was abandoned, or that a bug killed it.
pub struct Exit {
    pub epoch: Rc<Epoch>,
    pub row: Row,
    pub request_id: Id,
    pub traceparent: Id,
    /// The client's own `tracestate` goes on only with its own `traceparent`.
    pub trace_given: bool,
    pub operation: Option<Operation>,
    /// Whose error shapes the client expects.
    pub family: Family,
    /// The answer has no body (HEAD).
    pub head_only: bool,
    outcome: Option<Outcome>,
    began: Instant,
    /// When the present stage began: one clock reading serves all that happens between two waits.
    mark: Instant,
    /// When the request's whole time is up.
    pub total: Instant,
    /// Time spent waiting for the client or for an endpoint, nanoseconds.
    waited_nanos: u64,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
    usage_place: Option<Place>,
    /// Events of its stream so far: what an error event is numbered by.
    pub events: u64,
    /// The arm of a split that it came to.
    arm: Option<ArmId>,
    /// With its copy, or with the request that it is a copy of.
    pub comparison: Option<Rc<Comparison>>,
    /// It is a copy: it writes no rows, and counts as nobody's request.
    is_copy: bool,
    /// Its way through the router, if its model's policy looks at requests.
    pub trip: Option<Box<Trip>>,
    /// What is done for it, if two servers share it; until its answer begins.
    pub pair: Option<Box<Pairing>>,
    /// What keeps its prompt apart from other tenants', if anything must.
    pub salt: Option<Box<Salt>>,
    /// What its model's engines told of its prompt beforehand, once they were asked.
    pub told: Option<Told>,
    /// Why it goes where it goes, where somebody may ask.
    pub explained: Option<Box<Explained>>,
}

impl Exit {
    /// Begins the record.
    pub fn begin(epoch: Rc<Epoch>, inbound: &Inbound, kit: &Kit) -> Self {
        let (head, bytes) = (&inbound.head, inbound.bytes());
        let request_id = ids::request_id(head, bytes, kit);
        let (traceparent, trace_given) = ids::traceparent(head, bytes, kit);
        let series = epoch.series();
        let mut row = Row::new(series.names.clone(), series.index);
        row.client = Some(inbound.peer.ip());
        row.method = head.method.name();
        let anthropic = head.has(Known::AnthropicVersion);
        Self {
            row,
            request_id,
            traceparent,
            trace_given,
            operation: None,
            family: if anthropic { Family::Anthropic } else { Family::OpenAi },
            head_only: head.method == Method::Head,
            outcome: None,
            began: inbound.began,
            mark: inbound.began,
            total: inbound.began.after(epoch.plan().timeouts.total),
            waited_nanos: 0,
            first_token: None,
            last_token: None,
            usage_place: None,
            events: 0,
            arm: None,
            comparison: None,
            is_copy: false,
            trip: None,
            pair: None,
            salt: None,
            told: None,
            explained: None,
            epoch,
        }
    }

    /// It is a copy of the request with these identifiers.
    pub fn copy_of(&mut self, (request_id, traceparent): (Id, Id), comparison: Rc<Comparison>) {
        (self.request_id, self.traceparent) = (request_id, traceparent);
        (self.is_copy, self.comparison) = (true, Some(comparison));
    }

    /// Whether it is a copy.
    pub fn is_copy(&self) -> bool {
        self.is_copy
    }

    /// The arm of a split that it came to.
    pub fn arm(&self) -> Option<ArmId> {
        self.arm
    }

    /// When the request's first byte came.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// The operation is known.
    pub fn operation(&mut self, op: Operation) {
        self.operation = Some(op);
        if op.has_body() {
            self.family = op.family();
        }
        self.row.operation = op.name();
    }

    /// The key is known.
    pub fn key(&mut self, key: Option<KeyId>) {
        self.row.key = key;
    }

    /// The body was read.
    pub fn asked(&mut self, ask: &Ask, body_bytes: usize) {
        self.row.streamed = ask.stream;
        self.row.request_bytes = body_bytes as u64;
    }

    /// The model is known: from here on the request counts as its.
    pub fn model(&mut self, served: Served) {
        let Served { model, asked, arm } = served;
        (self.row.model, self.row.asked, self.arm) = (Some(model), asked, arm);
        self.epoch.series().models[usize::from(model.0)].in_flight.add(1);
    }

    /// The usage row's place was bought.
    pub fn usage_place(&mut self, place: Place) {
        self.usage_place = Some(place);
    }

    /// It was decided where the request goes first.
    pub fn routed(&mut self, reason: Reason) {
        self.row.route = reason.name();
        if let Some(model) = self.row.model {
            self.epoch.series().models[usize::from(model.0)].routed(reason);
        }
    }

    /// An attempt begins.
    pub fn attempt(&mut self, endpoint: EndpointId) {
        self.row.endpoint = Some(endpoint);
        self.row.attempts = self.row.attempts.saturating_add(1);
        if let Some(trip) = &mut self.trip {
            self.row.foreseen = trip.attempt(endpoint, self.mark);
        }
        if let (Some(seen), Some(model)) = (&self.row.foreseen, self.row.model) {
            self.epoch.series().models[usize::from(model.0)].gpu_micros.add(seen.gpu_micros);
        }
    }

    /// When the present stage began.
    pub fn mark(&self) -> Instant {
        self.mark
    }

    /// Ends a stage in which Sluice worked.
    pub fn worked(&mut self, stage: Stage) -> Duration {
        let now = clock::now();
        let took = now.since(std::mem::replace(&mut self.mark, now));
        if !self.is_copy {
            self.epoch.series().shard.stage(stage, took);
        }
        took
    }

    /// Ends a stage in which the client or an endpoint was waited for.
    pub fn waited(&mut self, stage: Stage) -> Duration {
        let took = self.worked(stage);
        self.waited_nanos += took.as_nanos() as u64;
        took
    }

    /// Notes the end of a wait inside a stage.
    pub fn woke(&mut self) -> Instant {
        let now = clock::now();
        self.waited_nanos += now.since(std::mem::replace(&mut self.mark, now)).as_nanos() as u64;
        now
    }

    /// Content passed at `now`.
    pub fn content(&mut self, now: Instant) {
        let last = self.last_token.replace(now);
        let off = self.trip.as_mut().and_then(|trip| trip.content(now));
        let waited = now.since(self.began);
        if last.is_none() {
            self.first_token = Some(now);
            self.row.first_token_micros = Some(waited.as_micros() as u64);
        }
        let Some(model) = self.row.model else { return };
        let series = &self.epoch.series().models[usize::from(model.0)];
        match last {
            None => series.time_to_first_token.record(waited),
            Some(last) => series.event_gap.record(now.since(last)),
        }
        if let Some(off) = off {
            series.first_token_error.record(off);
        }
    }

    /// The answer came to its end, and its endpoint is done with it.
    pub fn settled(&mut self, usage: &Usage) {
        let Some(mut trip) = self.trip.take() else { return };
        // An error says nothing of how prompts are computed.
        if self.row.status < 400 {
            let Usage { input, output, cached, .. } = *usage;
            let report =
                Report { input_tokens: input, cached_tokens: cached, output_tokens: output };
            trip.settled(self.last_token, &report);
        }
    }

    /// What the answer said of itself.
    pub fn observed(&mut self, usage: Usage, finish: Option<Finish>, output_events: u64) {
        self.row.tokens = Tokens {
            input: usage.input,
            output: usage.output,
            cached: usage.cached,
            cache_write: usage.cache_write,
            reasoning: usage.reasoning,
        };
        self.row.finish = finish.map_or("", Finish::name);
        self.row.output_events = output_events;
    }

    /// What was observed of the answer.
    pub fn usage(&self) -> Usage {
        let Tokens { input, output, cached, cache_write, reasoning } = self.row.tokens;
        Usage { input, output, cached, cache_write, reasoning }
    }

    /// The endpoint of the last attempt failed.
    pub fn endpoint_failed(&self, class: impl Into<Option<Failure>>) {
        if let Some(endpoint) = self.row.endpoint {
            self.epoch.series().endpoints[usize::from(endpoint.0)].failed(class);
        }
    }

    /// An answer that had begun broke off; counts it if that was the endpoint's doing.
    pub fn broke_off(&self, stop: &Stop) {
        match stop {
            Stop::Break(Fault::UpstreamTimeout) | Stop::Cut(Fault::UpstreamTimeout) => {
                self.endpoint_failed(Failure::Stall);
            }
            Stop::Break(Fault::ShuttingDown) | Stop::Cut(Fault::ShuttingDown) => {}
            Stop::Break(_) | Stop::Cut(_) => self.endpoint_failed(Failure::Broken),
            Stop::Gone | Stop::Refuse(_) => {}
        }
    }

    /// The client was told of a fault.
    pub fn fault(&mut self, fault: &Fault) {
        self.row.error = fault.code().unwrap_or("error");
    }

    /// The request ended so.
    pub fn end(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    /// What only the logs need.
    fn fill_row(&mut self, took: Duration) {
        self.row.duration_micros = took.as_micros() as u64;
        let own = (took.as_nanos() as u64).saturating_sub(self.waited_nanos);
        self.row.overhead_micros = own / 1_000;
        self.row.began_unix_micros = unix_micros().saturating_sub(self.row.duration_micros);
        self.row.request_id = Inline::new(self.request_id.as_str());
        self.row.trace_id = ids::trace_id(&self.traceparent);
    }

    /// The client may see why its request goes where it goes.
    pub fn explanation(&mut self) -> Option<Vec<u8>> {
        let key = self.row.key?;
        let allowed = self.epoch.plan().keys.get(usize::from(key.0)).is_some_and(|key| key.explain);
        let explained = self.explained.as_deref_mut().filter(|_| allowed)?;
        // The first of the ranked is not who answers, if it failed.
        explained.endpoint = self.row.endpoint;
        Some(explain::header(explained))
    }

    /// Keeps the decision for those who ask.
    fn keep_explained(&mut self) {
        let Some(mut explained) = self.explained.take() else { return };
        if self.epoch.plan().routing.explained_requests_max == 0 {
            return;
        }
        explained.request_id = Inline::new(self.request_id.as_str());
        explained.endpoint = self.row.endpoint;
        explained.error = self.row.error;
        explained.input_tokens_got = self.row.tokens.input;
        explained.cached_tokens_got = self.row.tokens.cached;
        self.epoch.series().explained.offer(explained);
    }

    fn unset_outcome() -> Outcome {
        if std::thread::panicking() { Outcome::Panicked } else { Outcome::Abandoned }
    }

    fn count(&self, now: Instant) {
        let series = self.epoch.series();
        let took = now.since(self.began);
        let own = (took.as_nanos() as u64).saturating_sub(self.waited_nanos);
        series.shard.overhead.record(Duration::from_nanos(own));
        let Some(model) = self.row.model else {
            series.shard.ended_unrouted(self.row.outcome);
            return;
        };
        let model = &series.models[usize::from(model.0)];
        model.in_flight.sub(1);
        model.ended(self.row.outcome, took);
        if self.row.attempts > 0 {
            model.spent(&self.row.tokens);
            model.output_events.add(self.row.output_events);
        }
        let span = self.last_token.zip(self.first_token).map(|(last, first)| last.since(first));
        if let Some(span) = span {
            model.paced(span, self.row.tokens.output.unwrap_or(self.row.output_events));
        }
        if let Some(arm) = self.arm {
            let first_token = self.first_token.map(|first| first.since(self.began));
            let (outcome, tokens) = (self.row.outcome, &self.row.tokens);
            let ended = Ended { outcome, took, first_token, span, tokens };
            series.arms[usize::from(arm.0)].ended(&ended);
        }
    }
}

/// How a request or a copy came out, by its end and the status it got.
fn verdict(outcome: Outcome, status: u16) -> Verdict {
    match outcome {
        Outcome::Completed => Verdict::Completed,
        Outcome::ClientGone | Outcome::Abandoned => Verdict::Left,
        _ if (400..500).contains(&status) => Verdict::Rejected,
        _ => Verdict::Failed,
    }
}

impl Exit {
    /// Tells the other of a request and its copy how this one ended.
    fn tell_comparison(&mut self, took: Duration) {
        let Some(comparison) = self.comparison.take() else { return };
        let side = Side {
            verdict: verdict(self.row.outcome, self.row.status),
            took,
            first_token: self.first_token.map(|first| first.since(self.began)),
            tokens: [self.row.tokens.input, self.row.tokens.output],
        };
        comparison.tell(self.is_copy, side);
    }
}

impl Drop for Exit {
    fn drop(&mut self) {
        let now = clock::now();
        let took = now.since(self.began);
        self.row.outcome = self.outcome.unwrap_or_else(Self::unset_outcome);
        self.tell_comparison(took);
        if self.is_copy {
            return;
        }
        self.count(now);
        self.keep_explained();
        let accessed = self.epoch.plan().log.access.is_some();
        if accessed || self.usage_place.is_some() {
            self.fill_row(took);
        }
        if let Some(place) = self.usage_place.take() {
            place.fill(self.row.clone());
        }
        if accessed {
            self.epoch.series().rows.access.offer(self.row.clone());
        }
    }
}

fn unix_micros() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_micros() as u64)
}
