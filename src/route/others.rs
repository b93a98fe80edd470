//! Which part of the endpoints' requests others send: gateways that this one has no contact with.
//!
//! Engines say how many requests they have; ours are known. Both are averaged before they are compared,
//! since an engine's word is as old as its last scrape.

use super::candidate::Candidate;

/// Each decision weighs this much against all earlier ones together.
const GAIN: f32 = 1.0 / 256.0;
/// A share below this is taken for the noise of scrapes…
const SHARE_MIN: f32 = 0.1;
/// …and so are fewer requests than this at each endpoint: of a client that asks one thing after the other, an
/// engine's last word may know the request that is over.
const REQUESTS_MIN: f32 = 1.0;

/// Requests at one model's endpoints, in the mean over the last decisions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Others {
    ours: f32,
    all: f32,
    /// Endpoints whose engines tell.
    tell: f32,
}

impl Others {
    /// Looks at a decision's candidates; those whose engines do not tell count for nothing.
    pub fn see(&mut self, candidates: &[Candidate]) {
        let (mut ours, mut all, mut tell) = (0, 0, 0_u16);
        for candidate in candidates {
            if let (Some(running), Some(waiting)) = (candidate.running, candidate.waiting) {
                ours += candidate.requests;
                all += u64::from(running) + u64::from(waiting);
                tell += 1;
            }
        }
        self.ours += GAIN * (ours as f32 - self.ours);
        self.all += GAIN * (all as f32 - self.all);
        self.tell = f32::from(tell);
    }

    /// 0 to 1.
    pub fn share(&self) -> f32 {
        let others = self.all - self.ours;
        // Not so where engines do not tell, or have hardly anything to do.
        let noise = (SHARE_MIN * self.all).max(REQUESTS_MIN * self.tell);
        if others > noise { others / self.all } else { 0.0 }
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
        (0..2_000).for_each(|_| others.see(&[one; 4]));
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
}
