//! One shard's router: what it knows of caches, costs and rates, and the choice made from it.
//!
//! Pure: time is a parameter, and what endpoints have to do now is told with each request. A request goes
//! through [`Router::estimate`] and [`Router::decide`], then [`Router::dispatched`] for each attempt, then
//! [`Router::first_content`] and [`Router::settled`], or [`Router::failed`].
//!
//! Invariants: nothing here allocates once the largest model and the longest prompt have been seen; what is
//! said of an endpoint that left the configuration is ignored; an endpoint is expected to have a prompt from
//! its dispatch on, so that a burst of like prompts stays together.

mod column;
mod doubt;
mod feedback;
mod news;
mod ruler;
mod service;
mod slots;

#[cfg(test)]
mod tests;

use super::candidate::{ATTEMPTS_MAX, Candidate, Nanos, Question, Ranking, Reason, Score};
use super::chain::{CHAIN_BLOCKS_MAX, Chain};
use super::cost::{InputRatio, OutputTokens, gpu_milliseconds};
use super::endpoints::{Depths, ENDPOINTS_MAX, EndpointSet};
use super::forks::Forks;
use super::learn::{Learned, Prior};
use super::others::Others;
use super::policy::wait;
use super::rank::rank;
use super::session::{Sessions, Visit};
use super::size::{Content, Size};
use super::table::{self, PrefixTable};
use crate::config::plan::{EndpointId, MODELS_MAX, Policy};
use column::Column;
pub use feedback::{Flight, Foresight, Whose};
pub use news::News;
use news::Outbox;
use ruler::Ruler;
pub use slots::Slot;
use slots::Slots;

/// Chains kept for the next requests.
const CHAINS_MAX: usize = 256;
/// Clients whose answers' lengths are remembered, per shard.
const ANSWERS_MAX: usize = 16_384;
/// How often the middle of what was learned is taken anew, for endpoints of which nothing is known.
const PRIOR_NANOS: Nanos = 100_000_000;

/// What a request asks of its router.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry<'a> {
    pub policy: Policy,
    pub whose: Whose,
    /// The columns of the model's endpoints.
    pub columns: &'a EndpointSet,
    /// Empty for a policy that does not look at prompts.
    pub chain: &'a Chain,
    /// The client's bound on the answer, for all choices together.
    pub output_tokens_max: Option<u64>,
    pub session_ttl: Nanos,
    /// Whatever any endpoint holds of the prompt is known: its engines were asked.
    pub known: bool,
}

/// What a request will cost wherever it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    pub input_tokens: u32,
    pub output_tokens: u32,
}

impl Estimate {
    /// What it takes of a cache: prompt and answer.
    pub fn kv_tokens(&self) -> u64 {
        u64::from(self.input_tokens) + u64::from(self.output_tokens)
    }
}

/// An endpoint that may be chosen. Of the candidate, the router fills in what it has learned.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    pub slot: Option<Slot>,
    pub candidate: Candidate,
}

/// One endpoint of a decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pick {
    pub endpoint: EndpointId,
    pub slot: Option<Slot>,
    /// Leading blocks of the prompt that it is expected to have.
    pub blocks: usize,
    pub cached_tokens: u32,
    /// Tokens of the prompt that it must compute.
    pub prefill_tokens: u32,
    /// Tokens of others that it must compute before, as far as is known.
    pub tokens_ahead: u64,
    /// Predicted time to the first token.
    pub ttft_seconds: f32,
    /// The part of it in which this prompt is computed.
    pub own_seconds: f32,
    /// The part of it that stands for what predictions fell short of lately.
    pub lag_seconds: f32,
    /// Predicted use of its GPU.
    pub gpu_millis: f32,
    /// The part of its time there that is spent on its prompt, 0 to 1.
    pub prefill_share: f32,
}

impl Pick {
    /// The same where another server computes the prompt.
    pub fn carried(self) -> Self {
        Self {
            prefill_tokens: 1,
            ttft_seconds: self.ttft_seconds - self.own_seconds,
            own_seconds: 0.0,
            gpu_millis: self.gpu_millis - 1e3 * self.own_seconds,
            ..self
        }
    }
}

/// Which endpoints to try, and why the first is the first.
#[derive(Clone, Copy, Debug)]
pub struct Decision {
    pub reason: Reason,
    pub estimate: Estimate,
    picks: [Option<Pick>; ATTEMPTS_MAX],
}

impl Decision {
    /// The endpoints, in the order in which to try them.
    pub fn picks(&self) -> impl Iterator<Item = &Pick> {
        self.picks.iter().flatten()
    }

    /// Tokens of the prompt that the first endpoint must compute.
    pub fn uncached_tokens(&self) -> u32 {
        self.picks[0].map_or(u32::MAX, |pick| pick.prefill_tokens)
    }

    /// What was expected of this endpoint.
    pub fn pick(&self, endpoint: EndpointId) -> Option<&Pick> {
        self.picks().find(|pick| pick.endpoint == endpoint)
    }
}

/// What an engine said of an answer that is over. `None` is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub input_tokens: Option<u64>,
    pub cached_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
}

/// Where an adopted plan's endpoints and models stand in the tables, by their ids.
#[derive(Clone, Debug, Default)]
pub struct Places {
    pub endpoints: Vec<Option<Slot>>,
    pub models: Vec<Option<Slot>>,
}

/// One shard's router.
pub struct Router {
    table: PrefixTable,
    memory_mib: usize,
    depths: Depths,
    /// Of the last look-up; the last block that any endpoint holds, too.
    ruler: Ruler,
    known_end: Option<u64>,
    forks: Forks,
    endpoints: Slots,
    /// By the index of an endpoint's slot.
    columns: Vec<Column>,
    models: Slots,
    /// By the index of a model's slot.
    lines: Vec<Line>,
    answers: OutputTokens,
    sessions: Sessions,
    outbox: Outbox,
    /// What one insertion changed, on its way to the outbox.
    fresh: table::News,
    prior: (Nanos, Prior),
    candidates: Vec<Candidate>,
    slots: Vec<Option<Slot>>,
    ranking: Ranking,
    chains: Vec<Chain>,
    random: u64,
    evictions_told: u64,
}

/// What is known of one model.
#[derive(Clone, Debug, Default)]
struct Line {
    ratio: InputRatio,
    turn: u64,
    others: Others,
}

impl Router {
    /// A router with a table of `memory_mib`. `listened`: there are other shards to tell. `seed` must differ
    /// between shards.
    pub fn new(memory_mib: usize, listened: bool, seed: u64) -> Self {
        Self {
            table: PrefixTable::new(memory_mib),
            memory_mib,
            depths: Depths::default(),
            ruler: Ruler::default(),
            known_end: None,
            forks: Forks::default(),
            endpoints: Slots::new(ENDPOINTS_MAX),
            columns: Vec::new(),
            models: Slots::new(MODELS_MAX),
            lines: Vec::new(),
            answers: OutputTokens::new(ANSWERS_MAX),
            sessions: Sessions::default(),
            outbox: Outbox::new(listened),
            fresh: table::News::new(CHAIN_BLOCKS_MAX),
            prior: (0, Prior::default()),
            candidates: Vec::new(),
            slots: Vec::new(),
            ranking: Ranking::default(),
            chains: Vec::with_capacity(CHAINS_MAX),
            random: seed,
            evictions_told: 0,
        }
    }

    /// Gives the prefix table so much memory, unless it has that. A larger one begins empty.
    pub fn grow(&mut self, memory_mib: usize) {
        if memory_mib > self.memory_mib {
            (self.table, self.memory_mib) = (PrefixTable::new(memory_mib), memory_mib);
        }
    }

    /// Takes over a plan: `endpoints` by what their caches depend on ([`identity`]), `models` by the hash of
    /// their names. What was learned of those that stay is kept.
    pub fn adopt(&mut self, endpoints: &[u64], models: &[u64]) -> Places {
        let Self { table, columns, .. } = self;
        let endpoints = self.endpoints.adopt(endpoints, |freed| {
            table.clear(freed.index);
            columns[usize::from(freed.index)] = Column::new();
        });
        let Self { lines, .. } = self;
        let models = self.models.adopt(models, |freed| {
            lines[usize::from(freed.index)] = Line::default();
        });
        // Shards begin their turns in different places, or they would move in step.
        let first = self.random() >> 1;
        grow(&mut self.columns, &endpoints, Column::new);
        grow(&mut self.lines, &models, || Line { turn: first, ..Line::default() });
        self.candidates.reserve(endpoints.len());
        self.slots.reserve(endpoints.len());
        Places { endpoints, models }
    }

    /// An empty chain, with memory if there is any.
    pub fn chain(&mut self) -> Chain {
        self.chains.pop().unwrap_or_default()
    }

    /// Gives it back. The next prompt may not be looked at, and has no chain then.
    pub fn put_chain(&mut self, mut chain: Chain) {
        if self.chains.len() < CHAINS_MAX {
            chain.clear();
            self.chains.push(chain);
        }
    }

    /// Looks the prompt up and says what it will cost. [`Router::decide`] goes by this look-up.
    pub fn estimate(&mut self, now: Nanos, inquiry: &Inquiry<'_>) -> Estimate {
        self.table.depths(inquiry.chain.hashes(), inquiry.columns, &mut self.depths);
        self.recall(now, inquiry);
        self.measure(&inquiry.whose, inquiry.chain);
        let ruler = self.ruler;
        let limit = inquiry.output_tokens_max.map(|max| u32::try_from(max).unwrap_or(u32::MAX));
        let output_tokens =
            self.answers.expected(inquiry.whose.client, inquiry.whose.model.key(), limit);
        Estimate { input_tokens: ruler.tokens(inquiry.whose.prompt.bytes), output_tokens }
    }

    /// Tokens of the prompt that the endpoint which has most of it must compute, by the last look-up.
    pub fn uncached_tokens(&self, inquiry: &Inquiry<'_>, estimate: &Estimate) -> u32 {
        let depth = self.depths.warm().iter().map(|column| self.depths.get(column)).max();
        let cached = depth
            .filter(|depth| *depth > 0)
            .map_or(0, |depth| self.ruler.tokens(inquiry.chain.bytes_at(depth)));
        estimate.input_tokens.saturating_sub(cached).max(1)
    }

    /// A session's last prompt may have left the table, or never been in this shard's.
    fn recall(&mut self, now: Nanos, inquiry: &Inquiry<'_>) {
        let Some(visit) = self.visit(now, inquiry) else { return };
        let Some(slot) = self.endpoints.of(visit.endpoint) else { return };
        let blocks = visit.blocks as usize;
        let continued = inquiry.chain.hashes().get(blocks.wrapping_sub(1)) == Some(&visit.end);
        let column = &self.columns[usize::from(slot.index)];
        // Where the engine tells what it loses, what the table lacks is lost.
        let told = column.tells && inquiry.chain.is_tellable();
        let kept = column.horizon.reaches(visit.generation) && !told;
        if continued
            && kept
            && inquiry.columns.contains(slot.index)
            && self.depths.get(slot.index) < blocks
        {
            self.depths.set(slot.index, blocks);
        }
    }

    fn visit(&self, now: Nanos, inquiry: &Inquiry<'_>) -> Option<Visit> {
        self.sessions.find(inquiry.whose.session?, now, inquiry.session_ttl)
    }

    fn measure(&mut self, whose: &Whose, chain: &Chain) {
        let depth = self.depths.warm().iter().map(|column| self.depths.get(column)).max();
        let ratio = self.ratio(whose);
        self.ruler = Ruler::new(&self.table, chain, depth.unwrap_or(0), ratio);
        let last = depth.and_then(|depth| depth.checked_sub(1));
        self.known_end = last.and_then(|last| chain.hashes().get(last).copied());
    }

    /// How this prompt's bytes become tokens.
    fn ratio(&self, whose: &Whose) -> InputRatio {
        match whose.prompt {
            Size { bytes, content: Content::Ids(tokens) | Content::Counted(tokens) } => {
                InputRatio::of(bytes, tokens)
            }
            _ => self.line(whose.model).map_or_else(InputRatio::default, |line| line.ratio),
        }
    }

    fn line(&self, model: Slot) -> Option<&Line> {
        self.models.is_current(model).then(|| self.lines.get(usize::from(model.index)))?
    }

    /// Chooses among `seats`; `None` if there are none. What speaks for and against each of them can be read
    /// until the next decision ([`Router::candidates`], [`Router::scores`]).
    pub fn decide(
        &mut self,
        now: Nanos,
        inquiry: &Inquiry<'_>,
        estimate: &Estimate,
        seats: impl Iterator<Item = Seat>,
    ) -> Option<Decision> {
        self.learn_prior(now);
        self.seat(now, inquiry, seats);
        let question = self.question(now, inquiry, estimate);
        let reason = rank(inquiry.policy, &question, &self.candidates, &mut self.ranking);
        let mut decision = Decision { reason, estimate: *estimate, picks: [None; ATTEMPTS_MAX] };
        for (place, score) in decision.picks.iter_mut().zip(self.ranking.attempts()) {
            let of = |candidate: &Candidate| candidate.endpoint == score.endpoint;
            let at = self.candidates.iter().position(of)?;
            *place = Some(self.pick(&question, at));
        }
        decision.picks[0].is_some().then_some(decision)
    }

    fn learn_prior(&mut self, now: Nanos) {
        if now.saturating_sub(self.prior.0) >= PRIOR_NANOS || self.prior.0 == 0 {
            let learned = self.columns.iter().map(|column| &column.learned);
            self.prior = (now.max(1), Prior::of(learned));
        }
    }

    /// Fills in what is known of each seat.
    fn seat(&mut self, now: Nanos, inquiry: &Inquiry<'_>, seats: impl Iterator<Item = Seat>) {
        let ruler = self.ruler;
        let Self { candidates, slots, columns, depths, endpoints, prior: (_, prior), .. } = self;
        candidates.clear();
        slots.clear();
        for Seat { slot, mut candidate } in seats {
            let column = slot.and_then(|slot| columns.get_mut(usize::from(slot.index)));
            let column =
                column.map(|column| column.seen(candidate.kv_tokens, candidate.block_tokens));
            let identity = slot.and_then(|slot| endpoints.identity(slot));
            candidate.identity = identity.unwrap_or(candidate.identity);
            let learned = column.map(|column| &column.learned);
            let depth = slot.map_or(0, |slot| depths.get(slot.index));
            candidate.cached_tokens = match depth {
                0 => 0,
                depth => ruler.tokens(inquiry.chain.bytes_at(depth)),
            };
            let rate = learned.and_then(Learned::prefill_rate);
            candidate.prefill_rate = prior.rate(rate);
            let decode = learned.and_then(Learned::decode_seconds);
            candidate.decode_seconds = decode.unwrap_or(prior.decode_seconds);
            candidate.lag_seconds = learned.map_or(0.0, |learned| learned.lag_seconds(now));
            candidates.push(candidate);
            slots.push(slot);
        }
    }

    fn question(&mut self, now: Nanos, inquiry: &Inquiry<'_>, estimate: &Estimate) -> Question {
        let random = self.random();
        let line = self.lines.get_mut(usize::from(inquiry.whose.model.index));
        let candidates = &self.candidates;
        let (turn, others) = line.map_or((0, 0.0), |line| {
            line.turn = line.turn.wrapping_add(1);
            line.others.see(now, candidates);
            (line.turn, line.others.share())
        });
        Question {
            input_tokens: estimate.input_tokens,
            output_tokens: estimate.output_tokens,
            anchor: inquiry.whose.session.unwrap_or_else(|| inquiry.chain.anchor()),
            session: inquiry.whose.session,
            forked: self.forked(now),
            // Who was asked has nothing that is not known.
            others: if inquiry.known { 0.0 } else { others },
            turn,
            random,
        }
    }

    /// Whether the prompt of the last look-up leaves what is known where another one just did.
    fn forked(&self, now: Nanos) -> bool {
        self.known_end.is_some_and(|end| self.forks.is_one(end, now))
    }

    fn pick(&self, question: &Question, at: usize) -> Pick {
        let (candidate, slot) = (&self.candidates[at], self.slots[at]);
        let cached_tokens = candidate.cached_tokens.min(question.input_tokens);
        let wait = wait(question, candidate);
        let decode = question.output_tokens as f32 * candidate.decode_seconds;
        Pick {
            endpoint: candidate.endpoint,
            slot,
            blocks: slot.map_or(0, |slot| self.depths.get(slot.index)),
            cached_tokens,
            prefill_tokens: (question.input_tokens - cached_tokens).max(1),
            tokens_ahead: candidate.prefill_tokens,
            ttft_seconds: wait.seconds(),
            own_seconds: wait.own,
            lag_seconds: wait.lag,
            gpu_millis: gpu_milliseconds(question, candidate),
            prefill_share: wait.own / (wait.own + decode).max(f32::MIN_POSITIVE),
        }
    }

    /// The last decision's candidates, with all that was known of them.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// The last decision's scores, the picks first.
    pub fn scores(&self) -> &[Score] {
        self.ranking.scores()
    }

    /// The prefix table, for its numbers.
    pub fn table(&self) -> &PrefixTable {
        &self.table
    }

    /// News that found no room, since the last call.
    pub fn take_news_lost(&mut self) -> u64 {
        self.outbox.take_lost()
    }

    /// Blocks of the table that made room since the last call.
    pub fn take_evictions(&mut self) -> u64 {
        let all = self.table.stats().evictions;
        // Less than before: the table is another one.
        all.saturating_sub(std::mem::replace(&mut self.evictions_told, all))
    }

    /// splitmix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn grow<T>(rows: &mut Vec<T>, slots: &[Option<Slot>], fresh: impl Fn() -> T) {
    let last = slots.iter().flatten().map(|slot| usize::from(slot.index) + 1).max();
    if let Some(count) = last.filter(|count| *count > rows.len()) {
        rows.resize_with(count, fresh);
    }
}
