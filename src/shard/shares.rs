//! The first share of each shard in the places of endpoints that take only so many requests at once.

use crate::config::plan::Plan;
use crate::route::admission::share::Word;
use crate::telemetry::Series;

/// Gives out what nobody has yet, in equal parts. A single shard has all there are at all times; among
/// several it is the bank that enlarges and recalls shares later.
pub fn begin(plan: &Plan, series: &[std::sync::Arc<Series>]) {
    let shards = series.len() as u32;
    for (at, endpoint) in plan.endpoints.iter().enumerate() {
        let capacity = endpoint.traits.requests_max;
        let shares = series.iter().map(|series| &series.endpoints[at].share);
        let begun = shares.clone().any(|share| Word::from_bits(share.ordered()).order > 0);
        if capacity == 0 || (begun && shards > 1) {
            continue;
        }
        for (number, share) in (0..).zip(shares) {
            let places = capacity / shards + u32::from(number < capacity % shards);
            let before = Word::from_bits(share.ordered());
            if before.places != places || before.order == 0 {
                share.order(Word { order: before.order.wrapping_add(1), places }.bits());
            }
        }
    }
}
