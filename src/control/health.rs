//! When probes make an endpoint up or down: pure.

use crate::admin::EndpointState;

/// Failed probes in a row that make an endpoint down.
pub const FAILURES_TO_DOWN: u8 = 2;

/// What probes of one endpoint found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// `None` until enough probes have ended.
    up: Option<bool>,
    failures: u8,
    returns: u32,
}

/// What a probe changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    None,
    CameUp,
    WentDown,
}

impl Health {
    /// Takes one probe's result in: one success is up, two failures in a row are down.
    pub fn observe(&mut self, ok: bool) -> Change {
        self.failures = if ok { 0 } else { self.failures.saturating_add(1) };
        let up = match ok {
            true => Some(true),
            false if self.failures >= FAILURES_TO_DOWN => Some(false),
            false => self.up,
        };
        let change = match (self.up == up, up) {
            (false, Some(true)) => Change::CameUp,
            (false, Some(false)) => Change::WentDown,
            _ => Change::None,
        };
        self.returns += u32::from(self.up == Some(false) && up == Some(true));
        self.up = up;
        change
    }

    /// Whether requests may go there: yes until it is known to be down.
    pub fn usable(&self) -> bool {
        self.up != Some(false)
    }

    /// How often it came up after it had been down.
    pub fn returns(&self) -> u32 {
        self.returns
    }

    /// What the admin listener shows.
    pub fn state(&self, resolved: bool) -> EndpointState {
        match (resolved, self.up) {
            (false, _) => EndpointState::Unresolved,
            (true, None) => EndpointState::Unknown,
            (true, Some(true)) => EndpointState::Up,
            (true, Some(false)) => EndpointState::Down,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_success_is_up_two_failures_are_down() {
        use Change::{CameUp, None, WentDown};
        let mut health = Health::default();
        for (ok, change, usable) in [
            (false, None, true),
            (false, WentDown, false),
            (false, None, false),
            (true, CameUp, true),
            (false, None, true),
            (true, None, true),
            (false, None, true),
            (false, WentDown, false),
        ] {
            assert_eq!((health.observe(ok), health.usable()), (change, usable));
        }
        assert_eq!(health.returns(), 1);
    }

    #[test]
    fn states() {
        let mut health = Health::default();
        assert_eq!(health.state(false), EndpointState::Unresolved);
        assert_eq!(health.state(true), EndpointState::Unknown);
        health.observe(true);
        assert_eq!(health.state(true), EndpointState::Up);
    }
}
