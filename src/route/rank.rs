//! Ranking a model's endpoints.

use crate::config::plan::{EndpointId, Policy};
use crate::route::candidate::{ATTEMPTS_MAX, Candidate, Question, Ranking, Reason, Score};
use crate::route::policy::{Field, affinity, cheapest, hash, load, predicted, turns};

/// Ranks `candidates`, whose order does not matter, into `out`, and says why the first one is the first.
/// Healthy endpoints come first; within each class the policy decides.
pub fn rank(
    policy: Policy,
    question: &Question,
    candidates: &[Candidate],
    out: &mut Ranking,
) -> Reason {
    out.begin(candidates);
    let field = Field::new(question, candidates);
    let reason = match policy {
        Policy::PredictedTtft => predicted::score(&field, out),
        Policy::PrefixAffinity => affinity::score(&field, out),
        Policy::LeastLoaded => load::least_loaded(&field, out),
        Policy::PowerOfTwo => load::power_of_two(&field, out),
        Policy::LeastKv => load::least_kv(&field, out),
        Policy::RoundRobin => turns::round_robin(&field, out),
        Policy::Random => turns::random(&field, out),
        Policy::Weighted => turns::weighted(&field, out),
        Policy::ConsistentHash => hash::score(&field, out),
        Policy::Cheapest => cheapest::score(&field, out),
    };
    out.choose();
    match candidates.len() {
        1 => Reason::OnlyOne,
        _ if !field.any_healthy => Reason::AllUnhealthy,
        _ => reason,
    }
}

impl Ranking {
    /// One blank score for each candidate, in their order.
    fn begin(&mut self, candidates: &[Candidate]) {
        self.scores.clear();
        self.scores.extend(candidates.iter().map(|candidate| Score {
            endpoint: candidate.endpoint,
            score: 0.0,
            healthy: candidate.healthy,
            tie: 0,
        }));
    }

    /// Brings the best to the front: one look at each, which mostly is no better than the best so far.
    fn choose(&mut self) {
        let first = self.scores.len().min(ATTEMPTS_MAX);
        self.scores[..first].sort_unstable_by_key(order);
        let mut worst = self.scores[..first].last().map(order);
        for at in first..self.scores.len() {
            if Some(order(&self.scores[at])) < worst {
                self.scores.swap(first - 1, at);
                self.scores[..first].sort_unstable_by_key(order);
                worst = self.scores[..first].last().map(order);
            }
        }
    }
}

/// Sorts by health, score, tie and at last the endpoint itself.
fn order(score: &Score) -> (u64, EndpointId) {
    let bits = score.score.to_bits();
    // The usual map of floats to integers of the same order.
    let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    let unhealthy = u64::from(!score.healthy) << 63;
    (unhealthy | u64::from(ordered) << 31 | u64::from(score.tie >> 1), score.endpoint)
}
