//! Why a request's way ended before its answer did.

use crate::api::fault::{Blame, Fault};
use crate::lifecycle::outcome::Outcome;
use crate::relay::exchange::{BodyError, Gone};

/// The way out of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The client left.
    Gone,
    /// Nothing of an answer has left yet: the client is told, with a status.
    Refuse(Fault),
    /// The answer had begun: the client is told with an error event where that is still possible.
    Break(Fault),
    /// The answer had begun, and there is no lawful place for an error event: the connection closes.
    Cut(Fault),
}

impl Stop {
    /// The outcome it makes.
    pub fn outcome(&self) -> Outcome {
        match self {
            Stop::Gone => Outcome::ClientGone,
            Stop::Refuse(fault) => refused(fault),
            Stop::Break(Fault::UpstreamTimeout) | Stop::Cut(Fault::UpstreamTimeout) => {
                Outcome::TimedOut
            }
            Stop::Break(Fault::ShuttingDown) | Stop::Cut(Fault::ShuttingDown) => Outcome::Abandoned,
            Stop::Break(_) | Stop::Cut(_) => Outcome::UpstreamBroken,
        }
    }
}

fn refused(fault: &Fault) -> Outcome {
    match fault {
        Fault::SlowHead | Fault::SlowBody | Fault::UpstreamTimeout => Outcome::TimedOut,
        Fault::RateLimited { .. } | Fault::Unavailable { .. } | Fault::Overloaded { .. } => {
            Outcome::Unavailable
        }
        Fault::UpstreamReported { .. } => Outcome::UpstreamError,
        Fault::ShuttingDown => Outcome::Abandoned,
        other if matches!(other.blame(), Blame::Client | Blame::Credential) => Outcome::Refused,
        _ => Outcome::UpstreamFailed,
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Refuse(fault)
    }
}

impl From<Gone> for Stop {
    fn from(Gone: Gone) -> Self {
        Stop::Gone
    }
}

impl From<BodyError> for Stop {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Gone => Stop::Gone,
            BodyError::Fault(fault) => Stop::Refuse(fault),
        }
    }
}
