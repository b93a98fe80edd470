//! When requests are to leave: nanoseconds after the start. Every moment is computed from the start or drawn,
//! never from when the last request really left, so that lateness does not add up.

use fastrand::Rng;

use super::spec::Arrivals;

/// The moments of an open loop, in order.
pub enum Schedule {
    /// A closed loop has none.
    None,
    Fixed {
        period_ns: f64,
        index: u64,
    },
    Poisson {
        mean_ns: f64,
        at_ns: f64,
        random: Rng,
    },
    Traced(std::vec::IntoIter<u64>),
}

impl Schedule {
    /// The moments of `arrivals`; the same for the same seed.
    pub fn new(arrivals: &Arrivals, seed: u64) -> Self {
        match arrivals {
            Arrivals::Closed { .. } => Schedule::None,
            Arrivals::Fixed { per_second } => {
                Schedule::Fixed { period_ns: 1e9 / per_second, index: 0 }
            }
            Arrivals::Poisson { per_second } => {
                let random = Rng::with_seed(seed);
                Schedule::Poisson { mean_ns: 1e9 / per_second, at_ns: 0.0, random }
            }
            Arrivals::Traced { at } => {
                let nanos = |at: &std::time::Duration| at.as_nanos().min(u64::MAX.into()) as u64;
                Schedule::Traced(at.iter().map(nanos).collect::<Vec<_>>().into_iter())
            }
        }
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match self {
            Schedule::None => None,
            Schedule::Fixed { period_ns, index } => {
                *index += 1;
                Some(((*index - 1) as f64 * *period_ns) as u64)
            }
            Schedule::Poisson { mean_ns, at_ns, random } => {
                // 1 - [0, 1) is never zero, whose logarithm is infinite.
                *at_ns += -(1.0 - random.f64()).ln() * *mean_ns;
                Some(*at_ns as u64)
            }
            Schedule::Traced(moments) => moments.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_fixed_rate_does_not_drift() {
        for rate in [0.7, 3.0, 1_000.0, 333_333.0] {
            let mut schedule = Schedule::new(&Arrivals::Fixed { per_second: rate }, 0);
            let at = schedule.nth(1_000_000).unwrap_or(0) as f64;
            assert!((at - 1e6 / rate * 1e9).abs() < 2_000.0, "{rate}: {at}");
        }
    }

    #[test]
    fn poisson_arrivals_have_their_mean_and_spread() {
        let count = 200_000;
        for seed in 0..5 {
            let schedule = Schedule::new(&Arrivals::Poisson { per_second: 1_000.0 }, seed);
            let moments: Vec<f64> = schedule.take(count).map(|at| at as f64 / 1e6).collect();
            assert!(moments.is_sorted());
            let gaps: Vec<f64> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let spread =
                gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            // Five standard errors of each.
            assert!((mean - 1.0).abs() < 0.012, "mean {mean} ms");
            assert!((spread - 1.0).abs() < 0.035, "variance {spread}");
        }
    }

    #[test]
    fn seeds_decide() {
        let moments = |seed| {
            let arrivals = Arrivals::Poisson { per_second: 10.0 };
            Schedule::new(&arrivals, seed).take(10).collect::<Vec<_>>()
        };
        assert_eq!(moments(1), moments(1));
        assert_ne!(moments(1), moments(2));
    }

    #[test]
    fn a_trace_is_followed() {
        let at = vec![Duration::ZERO, Duration::from_millis(2), Duration::from_secs(3)];
        let moments: Vec<u64> = Schedule::new(&Arrivals::Traced { at }, 0).collect();
        assert_eq!(moments, [0, 2_000_000, 3_000_000_000]);
        assert_eq!(Schedule::new(&Arrivals::Closed { concurrency: 1 }, 0).next(), None);
    }
}
