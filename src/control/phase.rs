//! From serving to gone: pure.

use std::time::{Duration, Instant};

use crate::telemetry::ShardState;

/// How long shards may take to drop everything.
pub const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Serving,
    /// Shards finish what they have.
    Draining {
        until: Instant,
    },
    /// Shards drop what they have.
    Stopping {
        until: Instant,
    },
    Over,
}

impl Phase {
    /// After an order to stop: drain, and at the second order stop, and at the third leave.
    pub fn ordered_to_stop(self, now: Instant, drain: Duration) -> Phase {
        match self {
            Phase::Serving => Phase::Draining { until: now + drain },
            Phase::Draining { .. } => Phase::Stopping { until: now + STOP_PATIENCE },
            Phase::Stopping { .. } | Phase::Over => Phase::Over,
        }
    }

    /// As time passes and shards finish. A dead shard will not get any further.
    pub fn at(self, now: Instant, shards: &[ShardState]) -> Phase {
        let done = shards.iter().all(|s| matches!(s, ShardState::Drained | ShardState::Dead));
        match self {
            Phase::Draining { until } if done || now >= until => {
                Phase::Stopping { until: now + STOP_PATIENCE }
            }
            Phase::Stopping { until } if done || now >= until => Phase::Over,
            other => other,
        }
    }

    /// Whether new traffic is welcome.
    pub fn serving(self) -> bool {
        self == Phase::Serving
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ShardState::{Dead, Drained, Draining, Serving};

    #[test]
    fn the_table() {
        let now = Instant::now();
        let (past, future) = (now - Duration::from_secs(1), now + Duration::from_secs(1));
        let stopping = Phase::Stopping { until: now + STOP_PATIENCE };
        let draining = |until| Phase::Draining { until };
        for (phase, shards, next) in [
            (Phase::Serving, &[Serving][..], Phase::Serving),
            (Phase::Serving, &[Dead], Phase::Serving),
            (draining(future), &[Drained, Draining], draining(future)),
            (draining(future), &[Serving], draining(future)),
            (draining(future), &[Drained, Dead], stopping),
            (draining(past), &[Draining], stopping),
            (Phase::Stopping { until: future }, &[Drained, Drained], Phase::Over),
            (Phase::Stopping { until: past }, &[Draining], Phase::Over),
            (Phase::Stopping { until: future }, &[Draining], Phase::Stopping { until: future }),
            (Phase::Over, &[Draining], Phase::Over),
        ] {
            assert_eq!(phase.at(now, shards), next, "{phase:?} {shards:?}");
        }
    }

    #[test]
    fn a_second_order_stops_now() {
        let now = Instant::now();
        let first = Phase::Serving.ordered_to_stop(now, Duration::from_secs(30));
        assert_eq!(first, Phase::Draining { until: now + Duration::from_secs(30) });
        let second = first.ordered_to_stop(now, Duration::from_secs(30));
        assert_eq!(second, Phase::Stopping { until: now + STOP_PATIENCE });
        assert_eq!(second.ordered_to_stop(now, Duration::ZERO), Phase::Over);
    }
}
