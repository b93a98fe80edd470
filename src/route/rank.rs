//! Ranking a model's endpoints.

use crate::config::plan::{EndpointId, Model, Policy};

/// Endpoints tried for one request, at most.
pub const ATTEMPTS_MAX: usize = 4;

/// What a policy may know of one endpoint of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    pub endpoint: EndpointId,
    /// False once health probes failed.
    pub healthy: bool,
    /// Attempts that hold it now, all shards together.
    pub in_flight: u64,
}

/// Why the first of the ranked endpoints is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    OnlyOne,
    RoundRobin,
    LeastLoaded,
    /// Every endpoint is marked down; the policy's choice among them all is better than none.
    AllUnhealthy,
}

impl Reason {
    /// The name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::OnlyOne => "only_one",
            Reason::RoundRobin => "round_robin",
            Reason::LeastLoaded => "least_loaded",
            Reason::AllUnhealthy => "all_unhealthy",
        }
    }
}

/// Endpoints in the order in which to try them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranked {
    attempts: [EndpointId; ATTEMPTS_MAX],
    count: usize,
    pub reason: Reason,
}

impl Ranked {
    /// The order.
    pub fn attempts(&self) -> &[EndpointId] {
        &self.attempts[..self.count]
    }
}

/// Ranks `views` (the model's endpoints, in its order). `turn` is the shard's counter for this model.
/// Healthy endpoints come first; within each class the policy decides.
pub fn rank(model: &Model, views: &[View], turn: u64) -> Ranked {
    let mut ranked = Ranked {
        attempts: [EndpointId(0); ATTEMPTS_MAX],
        count: views.len().min(ATTEMPTS_MAX),
        reason: reason(model, views),
    };
    let count = views.len() as u64;
    for slot in 0..ranked.count {
        let taken = &ranked.attempts[..slot];
        let best = (0..count)
            .map(|step| &views[((turn + step) % count) as usize])
            .filter(|view| !taken.contains(&view.endpoint))
            .min_by_key(|view| (!view.healthy, load(model.policy, view)));
        let Some(best) = best else { break };
        ranked.attempts[slot] = best.endpoint;
    }
    ranked
}

/// What makes one endpoint better than another; ties go to whose turn it is.
fn load(policy: Policy, view: &View) -> u64 {
    match policy {
        Policy::RoundRobin => 0,
        Policy::LeastLoaded => view.in_flight,
    }
}

fn reason(model: &Model, views: &[View]) -> Reason {
    if !views.iter().any(|view| view.healthy) {
        return Reason::AllUnhealthy;
    }
    match (views.len(), model.policy) {
        (1, _) => Reason::OnlyOne,
        (_, Policy::RoundRobin) => Reason::RoundRobin,
        (_, Policy::LeastLoaded) => Reason::LeastLoaded,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn model(policy: Policy, count: u16) -> Model {
        let endpoints = (0..count).map(EndpointId).collect();
        Model { name: "m".into(), endpoints, policy, upstream_model: None }
    }

    fn view(endpoint: u16, healthy: bool, in_flight: u64) -> View {
        View { endpoint: EndpointId(endpoint), healthy, in_flight }
    }

    #[test]
    fn round_robin_takes_turns() {
        let model = model(Policy::RoundRobin, 3);
        let views = [view(0, true, 9), view(1, true, 0), view(2, true, 5)];
        let firsts: Vec<_> =
            (0..6).map(|turn| rank(&model, &views, turn).attempts()[0].0).collect();
        assert_eq!(firsts, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn least_loaded_breaks_ties_by_turn() {
        let model = model(Policy::LeastLoaded, 3);
        let views = [view(0, true, 1), view(1, true, 1), view(2, true, 5)];
        assert_eq!(rank(&model, &views, 0).attempts()[0].0, 0);
        assert_eq!(rank(&model, &views, 1).attempts()[0].0, 1);
        assert_eq!(
            rank(&model, &views, 2).attempts(),
            [EndpointId(0), EndpointId(1), EndpointId(2)]
        );
    }

    proptest! {
        #[test]
        fn ranks_each_endpoint_once_and_the_healthy_first(
            views in proptest::collection::vec((any::<bool>(), 0..9u64), 1..12),
            turn in any::<u32>(),
            loaded in any::<bool>(),
        ) {
            let policy = if loaded { Policy::LeastLoaded } else { Policy::RoundRobin };
            let views: Vec<_> = (0u16..).zip(&views).map(|(i, (h, n))| view(i, *h, *n)).collect();
            let ranked = rank(&model(policy, views.len() as u16), &views, u64::from(turn));
            let order = ranked.attempts();
            prop_assert_eq!(order.len(), views.len().min(ATTEMPTS_MAX));
            let healthy: Vec<bool> =
                order.iter().map(|id| views[usize::from(id.0)].healthy).collect();
            prop_assert!(healthy.is_sorted_by(|a, b| a >= b));
            let mut once = order.to_vec();
            once.sort();
            once.dedup();
            prop_assert_eq!(once.len(), order.len());
        }
    }
}
