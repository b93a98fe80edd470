//! The policies: each scores every candidate, and [`super::rank::rank`] puts them in order.
//!
//! Invariants: a score depends on the candidate, the question and sums over the healthy candidates, never
//! on the candidates' order; an endpoint that is busier never scores better for it.

pub mod affinity;
pub mod cheapest;
pub mod hash;
pub mod load;
pub mod predicted;
pub mod turns;
mod wait;

#[cfg(test)]
mod tests;

pub use wait::{Wait, wait};

use crate::route::candidate::{Candidate, Question};

/// One request's candidates, as policies look at them.
pub struct Field<'a> {
    pub question: &'a Question,
    pub candidates: &'a [Candidate],
    pub any_healthy: bool,
}

impl<'a> Field<'a> {
    pub fn new(question: &'a Question, candidates: &'a [Candidate]) -> Self {
        let any_healthy = candidates.iter().any(|candidate| candidate.healthy);
        Self { question, candidates, any_healthy }
    }

    /// Whether the candidate counts in sums and minima: a dead endpoint without load must not make the
    /// others look overloaded.
    pub fn counts(&self, candidate: &Candidate) -> bool {
        candidate.healthy || !self.any_healthy
    }

    /// The candidates that count.
    pub fn counted(&self) -> impl Iterator<Item = &'a Candidate> {
        self.candidates.iter().filter(|candidate| self.counts(candidate))
    }
}

/// The smallest of `values`; infinite without any.
fn least(values: impl Iterator<Item = f32>) -> f32 {
    values.fold(f32::INFINITY, f32::min)
}

/// Rendezvous: each key has an order of endpoints of its own, which all shards and nodes with the same
/// configuration agree on.
fn rendezvous(key: u64, candidate: &Candidate) -> u32 {
    (mix(key ^ mix(candidate.identity)) >> 32) as u32
}

/// Spreads the bits of a number over the whole word.
fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
