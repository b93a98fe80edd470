//! What becomes of a request, as the router hears of it.

use super::{News, Pick, Report, Router, Slot};
use crate::route::candidate::Nanos;
use crate::route::chain::Chain;
use crate::route::cost::{OUTPUT_TOKENS_MAX, is_credible};
use crate::route::learn::{FirstContent, StepEnd};
use crate::route::precise::{self, Change};
use crate::route::session::Visit;
use crate::route::size::{Content, Size};
use crate::route::table::Fresh;

/// Whom a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose {
    pub model: Slot,
    /// A hash of its key; 0 without one.
    pub client: u64,
    pub session: Option<u64>,
    pub prompt: Size,
    /// The model computes its prompt. Of one that is only counted no cache has anything, and nothing is
    /// learned.
    pub computes: bool,
}

/// Tokens of an engine's block where nothing tells: those of hybrid models have 500 to 2,100.
const BLOCK_TOKENS_UNKNOWN: u32 = 2_304;

/// A request that was dispatched: what is needed to learn from its end.
#[derive(Clone, Copy, Debug)]
pub struct Flight {
    pub pick: Pick,
    pub whose: Whose,
    dispatched: Nanos,
    /// What its cache was expected to have was there a moment before.
    fresh: bool,
    /// How old, in generations, the last block was that it was expected to have.
    age: Option<u8>,
    first_content: Option<Nanos>,
    /// Its prompt is computed elsewhere: how long that takes says nothing of this endpoint.
    pub carried: bool,
    step: Option<StepEnd>,
}

/// Tokens of the prompt that the engine had to compute: as it told, or as was expected.
fn computed_tokens(flight: &Flight, report: &Report) -> u32 {
    let told = report.input_tokens.zip(report.cached_tokens);
    let told = told.map(|(input, cached)| input.saturating_sub(cached).max(1));
    told.map_or(flight.pick.prefill_tokens, |tokens| u32::try_from(tokens).unwrap_or(u32::MAX))
}

/// How well a cache was foreseen, of an answer whose engine told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foresight {
    pub expected_tokens: u64,
    pub got_tokens: u64,
    /// The cache had been lost: what was known of it is forgotten.
    pub lost: bool,
}

impl Router {
    /// The request is being sent to `pick`, which is expected to have its prompt from now on.
    pub fn dispatched(&mut self, now: Nanos, chain: &Chain, pick: &Pick, whose: &Whose) -> Flight {
        let hashes = chain.hashes();
        let (mut fresh, mut age) = (false, None);
        if let Some((slot, identity)) = self.current(pick.slot).filter(|_| whose.computes) {
            let column = &mut self.columns[usize::from(slot.index)];
            let end = pick.blocks.checked_sub(1).and_then(|last| hashes.get(last));
            fresh = end.is_some_and(|end| column.is_recent(*end));
            end.into_iter().for_each(|end| self.forks.left(*end, now));
            age = end.and_then(|end| self.table.age(*end, slot.index));
            self.computes(slot, pick.prefill_tokens);
            self.outbox.computes(identity, pick.prefill_tokens);
            self.table.insert(hashes, slot.index, &mut self.fresh);
            self.fresh.drain().for_each(|fresh| self.outbox.block(identity, fresh.hash));
            if let (Some(session), Some(end)) = (whose.session, hashes.last()) {
                let generation = self.columns[usize::from(slot.index)].horizon.generation();
                let blocks = hashes.len() as u32;
                let visit = Visit { endpoint: identity, end: *end, blocks, generation };
                self.sessions.visited(session, now, visit);
            }
        }
        Flight {
            pick: *pick,
            whose: *whose,
            dispatched: now,
            fresh,
            age,
            first_content: None,
            carried: false,
            step: None,
        }
    }

    /// Its first content came: it has been computed.
    pub fn first_content(&mut self, now: Nanos, flight: &mut Flight) {
        if flight.first_content.is_some() {
            return;
        }
        flight.first_content = Some(now);
        if flight.carried || !flight.whose.computes {
            return;
        }
        if let Some((slot, _)) = self.current(flight.pick.slot) {
            let learned = &mut self.columns[usize::from(slot.index)].learned;
            flight.step = Some(learned.first_content(&FirstContent {
                dispatched: flight.dispatched,
                now,
                ahead_tokens: flight.pick.tokens_ahead,
                predicted_seconds: flight.pick.ttft_seconds - flight.pick.lag_seconds,
            }));
        }
    }

    /// Its answer is whole: what the engine said of it, and when its last content came.
    pub fn settled(
        &mut self,
        last_content: Nanos,
        chain: &Chain,
        flight: &Flight,
        report: &Report,
    ) -> Option<Foresight> {
        if !flight.whose.computes {
            return None;
        }
        let report = &credible(&flight.whose, report);
        self.learn_tokens(chain, &flight.whose, report);
        let (slot, identity) = self.current(flight.pick.slot)?;
        let column = &mut self.columns[usize::from(slot.index)];
        if let (Some(first), Some(output)) = (flight.first_content, report.output_tokens) {
            let after_first = u32::try_from(output).unwrap_or(u32::MAX).saturating_sub(1);
            column.learned.decoded(after_first, last_content.saturating_sub(first));
        }
        let block_tokens = column.block_tokens;
        let foresight = foresight(flight, report, block_tokens).filter(|_| !flight.carried);
        let output = report.output_tokens.map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX));
        if let Some(step) = flight.step {
            column.learned.computed(step, computed_tokens(flight, report));
        }
        // Where the engine tells what it loses, nothing is learned from what is missing.
        let told = column.tells && chain.is_tellable();
        let telling = |seen: &Foresight| !seen.lost && !told && !seen.is_vain(block_tokens);
        if let Some(seen) = foresight.filter(telling) {
            let Foresight { expected_tokens, got_tokens, .. } = seen;
            column.horizon.learn(flight.age, expected_tokens, got_tokens, block_tokens);
        }
        self.computes(slot, output);
        self.outbox.computes(identity, output);
        if foresight.is_some_and(|seen| seen.lost) {
            self.returned(slot);
            // This prompt it has, of course: it has just computed it.
            self.table.insert(chain.hashes(), slot.index, &mut self.fresh);
            self.fresh.drain().for_each(drop);
        }
        if let Some(end) = chain.hashes().last() {
            self.columns[usize::from(slot.index)].answered(*end);
        }
        foresight
    }

    /// Its cache makes room for so many tokens; what is older than its horizon by that is believed no more.
    pub(super) fn computes(&mut self, slot: Slot, tokens: u32) {
        let column = &mut self.columns[usize::from(slot.index)];
        for _ in 0..column.horizon.computes(tokens) {
            self.table.pass(slot.index);
        }
    }

    /// The engine's own counts make the next estimates better.
    fn learn_tokens(&mut self, chain: &Chain, whose: &Whose, report: &Report) {
        let tokens = |count: Option<u64>| count.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        if !self.models.is_current(whose.model) {
            return;
        }
        if let Some(output) = tokens(report.output_tokens) {
            self.answers.learn(whose.client, whose.model.key(), output);
        }
        let Some(input) = tokens(report.input_tokens) else { return };
        if matches!(whose.prompt.content, Content::Text | Content::Counted(_)) {
            let ratio = &mut self.lines[usize::from(whose.model.index)].ratio;
            ratio.learn(whose.prompt.bytes, input);
        }
        let ratio = self.ratio(whose);
        let Some(end) = chain.hashes().last() else { return };
        let tail = chain.bytes().saturating_sub(chain.bytes_at(chain.hashes().len()));
        let at_end = if tail > 0 { input.saturating_sub(ratio.tokens(tail, None)) } else { input };
        self.table.remember_tokens(*end, at_end);
        self.outbox.tokens(*end, at_end);
    }

    /// It ended before its prompt was computed: what the endpoint was expected to have because of it, it
    /// may not have.
    pub fn failed(&mut self, chain: &Chain, flight: &Flight) {
        let current = self.current(flight.pick.slot);
        let computed = flight.first_content.is_some() || !flight.whose.computes;
        if let Some((slot, _)) = current.filter(|_| !computed) {
            self.table.trim(chain.hashes(), flight.pick.blocks, slot.index);
        }
    }

    /// The endpoint has come back so many times after it was away. If that is news, what was known of its
    /// cache is forgotten.
    pub fn has_returned(&mut self, slot: Slot, times: u32) -> bool {
        if !self.endpoints.is_current(slot) {
            return false;
        }
        let before = self.columns[usize::from(slot.index)].returns.replace(times);
        let news = before.is_some_and(|before| before != times);
        if news {
            self.returned(slot);
        }
        news
    }

    /// The endpoint was restarted: its cache is empty.
    pub fn returned(&mut self, slot: Slot) {
        if self.endpoints.is_current(slot) {
            self.table.clear(slot.index);
            self.columns[usize::from(slot.index)].forget();
        }
    }

    /// The slot and its endpoint's identity, if it is still that endpoint's.
    fn current(&self, slot: Option<Slot>) -> Option<(Slot, u64)> {
        let slot = slot?;
        Some((slot, self.endpoints.identity(slot)?))
    }

    /// A tick is over: what other shards should know since the last one. The table is tidied up, too.
    pub fn drain_news(&mut self) -> impl Iterator<Item = News> + '_ {
        self.table.sweep_a_part();
        self.outbox.drain()
    }

    /// What an engine's own word changes; of an endpoint that is not configured any more, nothing.
    pub fn correct(&mut self, (identity, change): precise::News) {
        let Some(Slot { index, .. }) = self.endpoints.of(identity) else { return };
        let column = &mut self.columns[usize::from(index)];
        column.tells = true;
        let aged_by_cache = column.horizon.is_of_the_cache();
        match change {
            Change::Holds(hash) => self.table.learn(Fresh { hash, endpoint: index }),
            Change::Has(hash) => self.table.find(Fresh { hash, endpoint: index }),
            // It was asked for again meanwhile, and is about to be there again: of what it has computed
            // since, an eighth of its cache, nothing else is lost.
            Change::Lost(hash) if aged_by_cache && self.table.age(hash, index) == Some(0) => {}
            Change::Lost(hash) => self.table.trim(&[hash], 0, index),
            Change::LostAll => self.table.clear(index),
        }
    }

    /// News from another shard.
    pub fn learn_news(&mut self, news: &News) {
        match (self.endpoints.of(news.endpoint), news.hashes()) {
            (Some(slot), hashes) => {
                let endpoint = slot.index;
                hashes.iter().for_each(|hash| self.table.learn(Fresh { hash: *hash, endpoint }));
                self.computes(slot, news.tokens);
            }
            (None, [end]) if news.tokens > 0 => self.table.remember_tokens(*end, news.tokens),
            _ => {}
        }
    }
}

impl Foresight {
    /// Nothing was found, and nothing could be: engines keep whole blocks, of `block_tokens` where that is
    /// known, and what was expected may be less than one. The estimate may be wrong by half.
    fn is_vain(&self, block_tokens: Option<u32>) -> bool {
        let least = block_tokens.map_or(BLOCK_TOKENS_UNKNOWN, |tokens| tokens.saturating_mul(2));
        self.got_tokens == 0 && self.expected_tokens < u64::from(least)
    }
}

/// Expected and got, where the engine told. A prompt that was answered there a moment ago and is not in its
/// cache any more says that the whole cache was lost.
fn foresight(flight: &Flight, report: &Report, block_tokens: Option<u32>) -> Option<Foresight> {
    let got_tokens = report.cached_tokens?;
    let expected_tokens = u64::from(flight.pick.cached_tokens);
    let lost = flight.fresh && got_tokens == 0 && flight.pick.blocks > 0;
    let seen = Foresight { expected_tokens, got_tokens, lost };
    Some(Foresight { lost: lost && !seen.is_vain(block_tokens), ..seen })
}

/// What an engine said of an answer, without what cannot be: one absurd count would stand for every prompt
/// that begins alike.
fn credible(whose: &Whose, report: &Report) -> Report {
    let absurd = report.input_tokens.is_some_and(|tokens| !is_credible(&whose.prompt, tokens));
    let said = |tokens: Option<u64>| tokens.filter(|_| !absurd);
    Report {
        input_tokens: said(report.input_tokens),
        cached_tokens: said(report.cached_tokens),
        output_tokens: report.output_tokens.filter(|tokens| *tokens <= OUTPUT_TOKENS_MAX),
    }
}
