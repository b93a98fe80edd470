//! Noticing shards that have stopped ticking: pure.

use std::time::{Duration, Instant};

/// A shard that has not ticked for so long is stuck (or dead, and not restarted).
pub const STUCK_AFTER: Duration = Duration::from_secs(10);

/// When each shard last ticked.
#[derive(Clone, Debug)]
pub struct Pulse {
    /// By shard: the number of ticks, and when it last changed.
    beats: Vec<(u64, Instant)>,
}

impl Pulse {
    /// Every shard is given the benefit of the doubt.
    pub fn new(shards: usize, now: Instant) -> Self {
        Self { beats: vec![(0, now); shards] }
    }

    /// Takes every shard's tick counter in and names those that are stuck.
    pub fn feel(&mut self, ticks: impl Iterator<Item = u64>, now: Instant) -> Vec<usize> {
        for (beat, ticks) in self.beats.iter_mut().zip(ticks) {
            if beat.0 != ticks {
                *beat = (ticks, now);
            }
        }
        let stuck = |(_, beat): &(usize, &(u64, Instant))| now - beat.1 >= STUCK_AFTER;
        self.beats.iter().enumerate().filter(stuck).map(|(shard, _)| shard).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_does_not_tick_is_stuck_until_it_does() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pulse = Pulse::new(2, start);
        for (seconds, ticks, stuck) in [
            (1, [1, 1], vec![]),
            (10, [2, 1], vec![]),
            (11, [3, 1], vec![1]),
            (12, [3, 2], vec![]),
            (22, [3, 2], vec![0, 1]),
        ] {
            assert_eq!(pulse.feel(ticks.into_iter(), at(seconds)), stuck, "{seconds}");
        }
    }
}
