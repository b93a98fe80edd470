//! What one shard counts of a model's shadow: what became of copies, and how they compare with the requests
//! they were made of.

use std::time::Duration;

use super::cell::Counter;
use super::histogram::{Histogram, WAIT};
use super::metrics::{histogram, merged, sum};
use super::registry::Registry;
use super::render::{Text, Type};

/// What becomes of a request that was drawn to be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fate {
    Sent,
    /// Too many copies are under way.
    Crowded,
    /// Too many were made this second.
    Hurried,
    /// It would hold more bytes than copies may.
    Large,
}

impl Fate {
    /// Every fate, in the order of its discriminants.
    pub const ALL: [Fate; 4] = [Fate::Sent, Fate::Crowded, Fate::Hurried, Fate::Large];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Fate::Sent => "sent",
            Fate::Crowded => "dropped_requests",
            Fate::Hurried => "dropped_rate",
            Fate::Large => "dropped_bytes",
        }
    }
}

/// How a request or its copy came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// Answered, whole.
    Completed,
    /// Answered with a 4xx.
    Rejected,
    /// Answered with a 5xx, broken off, or not at all.
    Failed,
    /// Ended before its answer did, and not by its endpoint: the client left, or the gateway stopped.
    Left,
}

impl Verdict {
    /// Every verdict, in the order of its discriminants.
    pub const ALL: [Verdict; 4] =
        [Verdict::Completed, Verdict::Rejected, Verdict::Failed, Verdict::Left];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Completed => "completed",
            Verdict::Rejected => "rejected",
            Verdict::Failed => "failed",
            Verdict::Left => "left",
        }
    }
}

/// A request or its copy, at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    pub verdict: Verdict,
    /// A request from its first byte, a copy from its making.
    pub took: Duration,
    /// `None`: no content passed, or it was not streamed.
    pub first_token: Option<Duration>,
    /// Input, output.
    pub tokens: [Option<u64>; 2],
}

/// One shard's numbers for one shadow. Arrays of two: the request's, the copy's.
#[derive(Debug)]
#[repr(align(128))]
pub struct ShadowSeries {
    /// By [`Fate`].
    copies: [Counter; Fate::ALL.len()],
    /// By the request's [`Verdict`], then by the copy's.
    compared: [[Counter; Verdict::ALL.len()]; Verdict::ALL.len()],
    duration: [Histogram; 2],
    time_to_first_token: [Histogram; 2],
    /// Input, output.
    tokens: [[Counter; 2]; 2],
}

impl Default for ShadowSeries {
    fn default() -> Self {
        let waits = || [Histogram::new(&WAIT), Histogram::new(&WAIT)];
        Self {
            copies: Default::default(),
            compared: Default::default(),
            duration: waits(),
            time_to_first_token: waits(),
            tokens: Default::default(),
        }
    }
}

impl ShadowSeries {
    /// Counts what became of a request that was drawn.
    pub fn drawn(&self, fate: Fate) {
        self.copies[fate as usize].inc();
    }

    /// Counts a request and its copy, once both are over. Times and tokens count where both were answered:
    /// then they are those of the same requests.
    pub fn compare(&self, request: &Side, copy: &Side) {
        self.compared[request.verdict as usize][copy.verdict as usize].inc();
        if [request.verdict, copy.verdict] != [Verdict::Completed; 2] {
            return;
        }
        for (at, side) in [request, copy].into_iter().enumerate() {
            self.duration[at].record(side.took);
            for (counter, count) in self.tokens[at].iter().zip(side.tokens) {
                counter.add(count.unwrap_or(0));
            }
        }
        if let (Some(request), Some(copy)) = (request.first_token, copy.first_token) {
            self.time_to_first_token[0].record(request);
            self.time_to_first_token[1].record(copy);
        }
    }
}

/// The label values of the arrays' two places.
const SIDES: [&str; 2] = ["request", "copy"];

/// Exports every shadow.
pub fn write(text: &mut Text, registry: &Registry) {
    text.family(
        "sluice_shadow_requests_total",
        Type::Counter,
        "Requests drawn to be copied, by what became of the copy.",
    );
    for ((model, to), all) in registry.shadows() {
        for fate in Fate::ALL {
            let labels = [("model", &**model), ("copy_to", to), ("result", fate.name())];
            text.sample(&labels, sum(all, |shadow| shadow.copies[fate as usize].get()));
        }
    }
    text.family(
        "sluice_shadow_compared_total",
        Type::Counter,
        "Requests by how they and their copies came out.",
    );
    for ((model, to), all) in registry.shadows() {
        for (request, copy) in Verdict::ALL.iter().flat_map(|a| Verdict::ALL.map(|b| (*a, b))) {
            let names = [("request", request.name()), ("copy", copy.name())];
            let labels = [("model", &**model), ("copy_to", to), names[0], names[1]];
            let of = |shadow: &ShadowSeries| shadow.compared[request as usize][copy as usize].get();
            text.sample(&labels, sum(all, of));
        }
    }
    text.family(
        "sluice_shadow_tokens_total",
        Type::Counter,
        "Tokens of requests and of their copies, where both completed.",
    );
    for ((model, to), all) in registry.shadows() {
        for (at, side) in SIDES.into_iter().enumerate() {
            for (kind, name) in ["input", "output"].into_iter().enumerate() {
                let labels = [("model", &**model), ("copy_to", to), ("side", side), ("type", name)];
                text.sample(&labels, sum(all, |shadow| shadow.tokens[at][kind].get()));
            }
        }
    }
    times(text, registry);
}

fn times(text: &mut Text, registry: &Registry) {
    type Read = fn(&ShadowSeries) -> &[Histogram; 2];
    const TIMES: [(&str, &str, Read); 2] = [
        (
            "sluice_shadow_duration_seconds",
            "Requests and their copies, where both completed: beginning to end.",
            |shadow| &shadow.duration,
        ),
        (
            "sluice_shadow_time_to_first_token_seconds",
            "Requests and their copies, where both completed: beginning to first content.",
            |shadow| &shadow.time_to_first_token,
        ),
    ];
    for (family, help, of) in TIMES {
        text.family(family, Type::Histogram, help);
        for ((model, to), all) in registry.shadows() {
            for (at, side) in SIDES.into_iter().enumerate() {
                let labels = [("model", &**model), ("copy_to", to), ("side", side)];
                let shards = all.iter().map(|one| &**one);
                histogram(text, &labels, merged(shards, |shadow| &of(shadow)[at]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discriminants_are_positions() {
        assert!(Fate::ALL.iter().enumerate().all(|(at, fate)| *fate as usize == at));
        assert!(Verdict::ALL.iter().enumerate().all(|(at, verdict)| *verdict as usize == at));
    }

    #[test]
    fn times_and_tokens_are_of_pairs_that_both_completed() {
        let series = ShadowSeries::default();
        let side = |verdict, output| Side {
            verdict,
            took: Duration::from_millis(5),
            first_token: Some(Duration::from_millis(1)),
            tokens: [Some(3), output],
        };
        series.compare(&side(Verdict::Completed, Some(7)), &side(Verdict::Completed, None));
        series.compare(&side(Verdict::Completed, Some(100)), &side(Verdict::Failed, Some(100)));
        series.compare(&side(Verdict::Left, Some(100)), &side(Verdict::Completed, Some(100)));
        let tokens = series.tokens.each_ref().map(|side| side.each_ref().map(Counter::get));
        assert_eq!(tokens, [[3, 7], [3, 0]]);
        assert_eq!(series.compared[0][2].get(), 1);
        assert_eq!(series.compared[3][0].get(), 1);
    }
}
