//! Numbers from a seed.

use sluice_sim::text::mix;

/// A stream of numbers that its seed decides.
pub struct Random {
    seed: u64,
    drawn: u64,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { seed: mix(seed, 0xd1ce), drawn: 0 }
    }

    pub fn next(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.seed, self.drawn)
    }

    /// Evenly in [0, 1).
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Evenly in `from..=to`.
    pub fn between(&mut self, from: u32, to: u32) -> u32 {
        from + (self.next() % u64::from(to - from + 1)) as u32
    }

    /// Between two positive numbers, each ratio alike likely.
    pub fn ratio(&mut self, from: f64, to: f64) -> f64 {
        from * (to / from).powf(self.share())
    }

    /// With this median; `sigma` is the deviation of the logarithm.
    pub fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        let (one, two) = (self.share().max(1e-12), self.share());
        let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * two).cos();
        median * (sigma * normal).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..5).map(|_| random.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn numbers_keep_to_their_bounds_and_medians() {
        let mut random = Random::new(7);
        assert!((0..1_000).all(|_| (3..=9).contains(&random.between(3, 9))));
        let mut drawn: Vec<f64> = (0..10_001).map(|_| random.log_normal(2.0, 1.9)).collect();
        drawn.sort_unstable_by(f64::total_cmp);
        assert!((1.8..2.2).contains(&drawn[5_000]), "{}", drawn[5_000]);
    }
}
