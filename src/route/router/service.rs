//! How long a request keeps an endpoint busy: what those who find no room are told of when there may be some.

use std::time::Duration;

use super::{Estimate, Inquiry, Router, Seat};
use crate::route::candidate::{Candidate, Nanos};

impl Router {
    /// For how long such a request keeps one of `seats`, in the mean: its prompt and its answer at the paces
    /// that were learned. Goes by the last look-up.
    pub fn lasts(
        &mut self,
        now: Nanos,
        inquiry: &Inquiry<'_>,
        estimate: &Estimate,
        seats: impl Iterator<Item = Seat>,
    ) -> Duration {
        self.learn_prior(now);
        self.seat(now, inquiry, seats);
        let seconds = self.candidates.iter().map(|one| seconds(one, estimate));
        let mean = seconds.sum::<f64>() / self.candidates.len().max(1) as f64;
        Duration::try_from_secs_f64(mean).unwrap_or_default()
    }
}

fn seconds(candidate: &Candidate, estimate: &Estimate) -> f64 {
    let uncached = estimate.input_tokens.saturating_sub(candidate.cached_tokens);
    let prefill = f64::from(uncached) / f64::from(candidate.prefill_rate.max(1.0));
    prefill + f64::from(estimate.output_tokens) * f64::from(candidate.decode_seconds.max(0.0))
}
