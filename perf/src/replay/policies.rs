//! Names on the command line → routing algorithms.

use sluice::config::plan::Policy;

use super::baselines::{
    BoundedHash, CacheAware, Dynamo, LeastLoaded, RoundRobin, Scored, Settings, Sticky,
};
use super::chooser::Chooser;
use super::ours::Ranked;

/// What a chooser may need to know.
#[derive(Clone, Debug)]
pub struct Context {
    pub gpus: usize,
    pub seed: u64,
}

type Make = fn(&Context) -> Box<dyn Chooser>;

/// All of them; Sluice's own first.
pub const POLICIES: &[(&str, &str, Make)] = &[
    ("sluice-round-robin", "Sluice: each in its turn", |context| {
        Box::new(Ranked::new(Policy::RoundRobin, context.gpus))
    }),
    ("sluice-least-loaded", "Sluice: fewest requests in flight", |context| {
        Box::new(Ranked::new(Policy::LeastLoaded, context.gpus))
    }),
    ("round-robin", "each in its turn", |_| Box::new(RoundRobin::default())),
    ("least-loaded", "fewest requests in flight", |context| {
        Box::new(LeastLoaded::new(context.gpus))
    }),
    (
        "bounded-hash",
        "consistent hashing of session or first 256 tokens, bounded load",
        |context| Box::new(BoundedHash::new(context.gpus)),
    ),
    ("sglang-cli", "SGLang cache_aware as its command line sets it", |context| {
        Box::new(CacheAware::new(context.gpus, Settings::CLI))
    }),
    ("sglang-library", "SGLang cache_aware as its library sets it", |context| {
        Box::new(CacheAware::new(context.gpus, Settings::LIBRARY))
    }),
    ("llm-d-scored", "llm-d: prefix 3, queue 2, KV use 2", |context| {
        Box::new(Scored::new(context.gpus, context.seed))
    }),
    ("llm-d-sticky", "llm-d: sticky until saturated", |context| {
        Box::new(Sticky::new(context.gpus, context.seed))
    }),
    ("dynamo-kv", "Dynamo: KV cost over exact events", |context| {
        Box::new(Dynamo::new(context.gpus, context.seed))
    }),
];

/// A fresh chooser of that name.
///
/// # Errors
/// There is none; the message lists those that are.
pub fn chooser(name: &str, context: &Context) -> Result<Box<dyn Chooser>, String> {
    let found = POLICIES.iter().find(|(known, ..)| *known == name);
    found.map(|(.., make)| make(context)).ok_or_else(|| {
        let known: Vec<&str> = POLICIES.iter().map(|(name, ..)| *name).collect();
        format!("no policy is called {name:?}; there are {}", known.join(", "))
    })
}
