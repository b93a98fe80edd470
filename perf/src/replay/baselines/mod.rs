//! What others do, from their published algorithms and defaults; no code of theirs. They see the same blocks
//! as the engines, which is kinder than life: the real ones must render and tokenise prompts first, or
//! match characters.

mod bounded_hash;
mod dynamo;
mod least_loaded;
mod llmd;
mod lru;
mod round_robin;
mod sglang;

pub use bounded_hash::BoundedHash;
pub use dynamo::Dynamo;
pub use least_loaded::LeastLoaded;
pub use llmd::{Scored, Sticky};
pub use round_robin::RoundRobin;
pub use sglang::{CacheAware, Settings};

use super::chooser::Gpu;
use super::random::Random;

/// The candidate with the least cost; among equals, any.
fn cheapest(
    candidates: &[Gpu],
    random: &mut Random,
    mut cost: impl FnMut(Gpu) -> f64,
) -> Option<Gpu> {
    let (mut best, mut least, mut equals) = (None, f64::INFINITY, 0);
    for gpu in candidates {
        let cost = cost(*gpu);
        if cost < least {
            (best, least, equals) = (Some(*gpu), cost, 1);
        } else if cost == least {
            equals += 1;
            if random.next().is_multiple_of(equals) {
                best = Some(*gpu);
            }
        }
    }
    best
}

#[cfg(test)]
mod tests;
