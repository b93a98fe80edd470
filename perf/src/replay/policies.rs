//! Names on the command line → routing algorithms.

use sluice::config::plan::Policy;
use sluice::route::chain::Chain;

use super::baselines::{
    BoundedHash, CacheAware, Dynamo, LeastLoaded, RoundRobin, Scored, Settings, Sticky,
};
use super::chooser::Chooser;
use super::ours::{Shape, Sluice};

/// What a chooser may need to know.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    pub gpus: usize,
    pub seed: u64,
    pub shape: Shape,
    /// What Sluice hashes of each request; empty if it is not asked.
    pub chains: &'a [Chain],
}

impl<'a> Context<'a> {
    fn ours(&self, policy: Policy) -> Box<dyn Chooser + 'a> {
        Box::new(self.sluice(policy))
    }

    fn sluice(&self, policy: Policy) -> Sluice<'a> {
        Sluice::new(policy, self.gpus, &self.shape, self.seed, self.chains)
    }
}

type Make = for<'a> fn(&Context<'a>) -> Box<dyn Chooser + 'a>;

/// Names of Sluice's own policies begin so.
pub const OURS: &str = "sluice-";

/// All of them; Sluice's own first.
pub const POLICIES: &[(&str, &str, Make)] = &[
    ("sluice-predicted-ttft", "Sluice: least predicted time to the first token", |context| {
        context.ours(Policy::PredictedTtft)
    }),
    ("sluice-precise", "Sluice: the same, told by the engines' KV events", |context| {
        Box::new(context.sluice(Policy::PredictedTtft).precise())
    }),
    ("sluice-prefix-affinity", "Sluice: most of the prompt in the cache", |context| {
        context.ours(Policy::PrefixAffinity)
    }),
    ("sluice-least-loaded", "Sluice: fewest tokens in flight", |context| {
        context.ours(Policy::LeastLoaded)
    }),
    ("sluice-power-of-two", "Sluice: fewer tokens in flight, of two", |context| {
        context.ours(Policy::PowerOfTwo)
    }),
    ("sluice-least-kv", "Sluice: least of the cache in use", |context| {
        context.ours(Policy::LeastKv)
    }),
    ("sluice-consistent-hash", "Sluice: by session, or how the conversation began", |context| {
        context.ours(Policy::ConsistentHash)
    }),
    ("sluice-round-robin", "Sluice: each in its turn", |context| context.ours(Policy::RoundRobin)),
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
pub fn chooser<'a>(name: &str, context: &Context<'a>) -> Result<Box<dyn Chooser + 'a>, String> {
    let found = POLICIES.iter().find(|(known, ..)| *known == name);
    found.map(|(.., make)| make(context)).ok_or_else(|| {
        let known: Vec<&str> = POLICIES.iter().map(|(name, ..)| *name).collect();
        format!("no policy is called {name:?}; there are {}", known.join(", "))
    })
}
