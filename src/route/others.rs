//! Which part of the endpoints' requests others send: gateways that this one has no contact with.
//!
//! Engines say how many requests they have; ours are known. Both are averaged before they are compared,
//! since an engine's word is as old as its last scrape.

use super::candidate::{Candidate, Nanos};

/// Each decision weighs this much against all earlier ones together.
const GAIN: f32 = 1.0 / 256.0;
/// A share below this is taken for the noise of scrapes…
const SHARE_MIN: f32 = 0.1;
/// …and so are fewer requests than this at each endpoint: of a client that asks one thing after the other, an
/// engine's last word may know the request that is over.
const REQUESTS_MIN: f32 = 1.0;
/// An engine's word is hardly older, where engines are read once a second or more often.
const STRETCH: Nanos = 1_500_000_000;

/// Requests at one model's endpoints, in the mean over the last decisions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Others {
    ours: f32,
    all: f32,
    /// The most that we had of late: an engine's last word may be of a moment when we had that.
    most: f32,
    /// The most of this stretch of time and of the one before, and when it began.
    peaks: [u64; 2],
    since: Nanos,
    /// Endpoints whose engines tell.
    tell: f32,
}

impl Others {
    /// Looks at a decision's candidates; those whose engines do not tell count for nothing.
    pub fn see(&mut self, now: Nanos, candidates: &[Candidate]) {
        let (mut ours, mut all, mut tell) = (0, 0, 0_u16);
        for candidate in candidates {
            if let (Some(running), Some(waiting)) = (candidate.running, candidate.waiting) {
                ours += candidate.requests;
                all += u64::from(running) + u64::from(waiting);
                tell += 1;
            }
        }
        let most = self.peak(now, ours);
        self.most += GAIN * (most as f32 - self.most);
        self.ours += GAIN * (ours as f32 - self.ours);
        self.all += GAIN * (all as f32 - self.all);
        self.tell = f32::from(tell);
    }

    /// The most that we had at any decision of late.
    fn peak(&mut self, now: Nanos, ours: u64) -> u64 {
        if now.saturating_sub(self.since) >= STRETCH {
            let gone = now.saturating_sub(self.since) >= 2 * STRETCH;
            self.peaks = [0, if gone { 0 } else { self.peaks[0] }];
            self.since = now;
        }
        self.peaks[0] = self.peaks[0].max(ours);
        self.peaks[0].max(self.peaks[1])
    }

    /// Whether there are others, whatever moments engines speak of.
    pub fn are_sure(&self) -> bool {
        self.all - self.most > self.noise()
    }

    /// 0 to 1.
    pub fn share(&self) -> f32 {
        let others = self.all - self.ours;
        if others > self.noise() { others / self.all } else { 0.0 }
    }

    /// Not so where engines do not tell, or have hardly anything to do.
    fn noise(&self) -> f32 {
        (SHARE_MIN * self.all).max(REQUESTS_MIN * self.tell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::EndpointId;

    /// What is learned where we have `ours` requests at each endpoint, and engines say `all`.
    fn share(ours: u64, all: Option<u32>) -> f32 {
        let idle = Candidate::idle(EndpointId(0));
        let one = Candidate { requests: ours, running: all, waiting: all.map(|_| 0), ..idle };
        let mut others = Others::default();
        (0..2_000).for_each(|_| others.see(0, &[one; 4]));
        (others.share() * 100.0).round() / 100.0
    }

    #[test]
    fn what_engines_have_beside_ours_is_others() {
        assert_eq!(share(5, Some(10)), 0.5);
        assert_eq!(share(0, Some(3)), 1.0);
        // The last of these is one client, seen half a second late.
        for none in [
            share(5, Some(5)),
            share(9, Some(5)),
            share(0, Some(0)),
            share(19, Some(20)),
            share(0, Some(1)),
        ] {
            assert_eq!(none, 0.0);
        }
        assert_eq!(share(5, None), 0.0);
    }

    /// Requests that begin and end together: the engine's word is of the burst before.
    #[test]
    fn a_burst_of_ours_is_not_surely_others() {
        let mut others = Others::default();
        for at in 0..4_000_u64 {
            let idle = Candidate::idle(EndpointId(0));
            let (requests, running) = (at % 40, Some(40));
            let one = Candidate { requests, running, waiting: Some(0), ..idle };
            others.see(at / 40 * 1_200_000_000, &[one]);
        }
        assert!(others.share() > 0.0 && !others.are_sure());
        let idle = Candidate::idle(EndpointId(0));
        let one = Candidate { requests: 20, running: Some(60), waiting: Some(0), ..idle };
        (0..2_000).for_each(|at| others.see(at * 10_000_000, &[one]));
        assert!(others.are_sure());
    }
}
