//! Time as shards see it: monotonic nanoseconds, and seconds of the wall clock for dates.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// A point in time, in nanoseconds since the machine (or the twin's world) began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Instant(u64);

impl Instant {
    /// From nanoseconds since the beginning.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the beginning.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to here; zero if `earlier` is later.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This point plus `by`, saturating.
    pub fn after(self, by: Duration) -> Self {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// Now.
pub fn now() -> Instant {
    #[cfg(any(test, feature = "twin"))]
    if let Some(now) = super::twin::now() {
        return now;
    }
    real_now()
}

/// Seconds since 1970 by the system's clock; 0 if it is set before that.
pub fn unix_seconds() -> u64 {
    #[cfg(any(test, feature = "twin"))]
    if let Some(now) = super::twin::now() {
        return now.nanos() / 1_000_000_000;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn real_now() -> Instant {
    let now = clock_gettime(ClockId::Monotonic);
    Instant((now.tv_sec as u64) * 1_000_000_000 + now.tv_nsec as u64)
}

/// Waits for `duration`. For the shard's own ticks; a request's deadlines belong on the wheel.
pub async fn sleep(duration: Duration) {
    #[cfg(any(test, feature = "twin"))]
    if super::twin::active() {
        return super::twin::sleep(duration).await;
    }
    // Boxed: the timer is large and aligned to cache lines, and so would be every future that holds it.
    Box::pin(monoio::time::sleep(duration)).await;
}
