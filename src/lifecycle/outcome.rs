//! The closed set of ways a request can end.

/// How a request ended. Exactly one for each request whose head was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// The answer reached the client whole.
    Completed,
    /// The client left; the upstream, if any, was aborted.
    ClientGone,
    /// Sluice refused it: the request itself is at fault (4xx).
    Refused,
    /// No capacity or no usable endpoint (429, 503).
    Unavailable,
    /// The upstream answered with an error of its own, relayed to the client.
    UpstreamError,
    /// Every attempt failed before the commit point (502).
    UpstreamFailed,
    /// The upstream died, or reported an error, after the commit point.
    UpstreamBroken,
    /// A deadline passed: 408, 504, or a cut stream.
    TimedOut,
    /// A bug in Sluice; only this request died of it.
    Panicked,
    /// Dropped without a verdict (shard restart, drain deadline).
    Abandoned,
}

impl Outcome {
    /// Every outcome, in the order of its discriminants.
    pub const ALL: [Outcome; 10] = [
        Outcome::Completed,
        Outcome::ClientGone,
        Outcome::Refused,
        Outcome::Unavailable,
        Outcome::UpstreamError,
        Outcome::UpstreamFailed,
        Outcome::UpstreamBroken,
        Outcome::TimedOut,
        Outcome::Panicked,
        Outcome::Abandoned,
    ];

    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Completed => "completed",
            Outcome::ClientGone => "client_gone",
            Outcome::Refused => "refused",
            Outcome::Unavailable => "unavailable",
            Outcome::UpstreamError => "upstream_error",
            Outcome::UpstreamFailed => "upstream_failed",
            Outcome::UpstreamBroken => "upstream_broken",
            Outcome::TimedOut => "timed_out",
            Outcome::Panicked => "panicked",
            Outcome::Abandoned => "abandoned",
        }
    }
}
