//! Places where prompts left what was known of them: several at one place at a time share a prefix, and are
//! no conversation.

use super::candidate::Nanos;

/// Places kept.
const PLACES_MAX: usize = 64;
/// Prompts that part at one place belong together if they come within this time of each other.
const TOGETHER_NANOS: Nanos = 1_000_000_000;

/// One shard's last places, by the hash of the last block that was known.
#[derive(Clone, Debug)]
pub struct Forks {
    places: [(u64, Nanos); PLACES_MAX],
    next: usize,
}

impl Default for Forks {
    fn default() -> Self {
        Self { places: [(0, 0); PLACES_MAX], next: 0 }
    }
}

impl Forks {
    /// A prompt that was known up to this block was sent on.
    pub fn left(&mut self, end: u64, now: Nanos) {
        self.places[self.next] = (end, now);
        self.next = (self.next + 1) % PLACES_MAX;
    }

    /// Whether another one was, a moment ago.
    pub fn is_one(&self, end: u64, now: Nanos) -> bool {
        let together = |when: Nanos| now.saturating_sub(when) <= TOGETHER_NANOS;
        self.places.iter().any(|(place, when)| *place == end && together(*when))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_fork_for_a_moment() {
        let mut forks = Forks::default();
        forks.left(7, 5);
        assert!(forks.is_one(7, TOGETHER_NANOS + 5) && !forks.is_one(8, 6));
        assert!(!forks.is_one(7, TOGETHER_NANOS + 6));
        (0..PLACES_MAX as u64).for_each(|at| forks.left(100 + at, 6));
        assert!(!forks.is_one(7, 6) && forks.is_one(100, 6));
    }
}
