//! What one shard counts for one arm of a split, so that arms can be compared though their models have other
//! clients too.

use std::time::Duration;

use super::cell::Counter;
use super::histogram::{GAP, Histogram, WAIT};
use super::metrics::{histogram, merged, sum};
use super::registry::Registry;
use super::render::{Text, Type};
use super::row::Tokens;
use crate::lifecycle::outcome::Outcome;

/// One shard's numbers for one arm.
#[derive(Debug)]
#[repr(align(128))]
pub struct ArmSeries {
    /// By [`Outcome`], in the order of its discriminants.
    requests: [Counter; Outcome::ALL.len()],
    /// From the request's first byte to its outcome.
    duration: Histogram,
    /// From the request's first byte to the first event with content.
    time_to_first_token: Histogram,
    /// (last token − first token) / (output tokens − 1), once a request.
    time_per_output_token: Histogram,
    /// Input, output, cached.
    tokens: [Counter; 3],
}

impl Default for ArmSeries {
    fn default() -> Self {
        Self {
            requests: Default::default(),
            duration: Histogram::new(&WAIT),
            time_to_first_token: Histogram::new(&WAIT),
            time_per_output_token: Histogram::new(&GAP),
            tokens: Default::default(),
        }
    }
}

/// A request that ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    pub outcome: Outcome,
    pub took: Duration,
    /// `None`: no content passed.
    pub first_token: Option<Duration>,
    /// From its first token to its last.
    pub span: Option<Duration>,
    pub tokens: &'a Tokens,
}

impl ArmSeries {
    /// Counts it.
    pub fn ended(&self, ended: &Ended<'_>) {
        let Ended { outcome, took, first_token, span, tokens } = *ended;
        self.requests[outcome as usize].inc();
        self.duration.record(took);
        first_token.iter().for_each(|waited| self.time_to_first_token.record(*waited));
        let gaps = tokens.output.unwrap_or(0).saturating_sub(1);
        let nanos = span.and_then(|span| (span.as_nanos() as u64).checked_div(gaps));
        nanos.iter().for_each(|one| self.time_per_output_token.record(Duration::from_nanos(*one)));
        for (counter, count) in self.tokens.iter().zip([tokens.input, tokens.output, tokens.cached])
        {
            counter.add(count.unwrap_or(0));
        }
    }
}

/// Exports every arm.
pub fn write(text: &mut Text, registry: &Registry) {
    text.family(
        "sluice_arm_requests_total",
        Type::Counter,
        "Requests to a split by the arm they went to and their outcome.",
    );
    for ((split, model), all) in registry.arms() {
        for outcome in Outcome::ALL {
            let labels = [("split", &**split), ("model", model), ("outcome", outcome.name())];
            text.sample(&labels, sum(all, |arm| arm.requests[outcome as usize].get()));
        }
    }
    text.family("sluice_arm_tokens_total", Type::Counter, "Tokens of an arm; cached are input.");
    for ((split, model), all) in registry.arms() {
        for (at, kind) in ["input", "output", "cached"].into_iter().enumerate() {
            let labels = [("split", &**split), ("model", model), ("type", kind)];
            text.sample(&labels, sum(all, |arm| arm.tokens[at].get()));
        }
    }
    times(text, registry);
}

fn times(text: &mut Text, registry: &Registry) {
    type Read = fn(&ArmSeries) -> &Histogram;
    const TIMES: [(&str, &str, Read); 3] = [
        ("sluice_arm_duration_seconds", "An arm's requests, first byte to outcome.", |arm| {
            &arm.duration
        }),
        (
            "sluice_arm_time_to_first_token_seconds",
            "An arm's requests, first byte to first content.",
            |arm| &arm.time_to_first_token,
        ),
        (
            "sluice_arm_time_per_output_token_seconds",
            "Mean time per output token after the first.",
            |arm| &arm.time_per_output_token,
        ),
    ];
    for (family, help, of) in TIMES {
        text.family(family, Type::Histogram, help);
        for ((split, model), all) in registry.arms() {
            let labels = [("split", &**split), ("model", &**model)];
            histogram(text, &labels, merged(all.iter().map(|one| &**one), of));
        }
    }
}
