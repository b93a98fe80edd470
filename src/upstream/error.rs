//! Why an attempt at an endpoint failed.

use rustix::io::Errno;

use crate::api::fault::{Blame, Fault, blame_of_status, is_about_our_credential};
use crate::http::{BadResponse, ChunkError};
use crate::telemetry::endpoint::Failure;

/// One failed attempt, before or after the answer began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptError {
    /// No address is known for the endpoint's name.
    NoAddress,
    /// The shard's connections to it are all in use.
    AtCapacity,
    /// Refused or unreachable.
    Connect(std::io::ErrorKind),
    ConnectTimeout,
    /// This process, or this machine, may open no more: nobody was asked.
    OutOfDescriptors,
    /// The TLS handshake failed.
    Handshake,
    /// A reused connection ended before a response byte: it may have been closed under the request.
    Stale,
    /// The connection ended before the answer's head was whole.
    Closed,
    /// No answer in time.
    FirstByteTimeout,
    /// Silence in the middle of an answer.
    Stall,
    /// The request's whole time was used up.
    TotalTimeout,
    /// The answer's head broke HTTP's rules.
    BadHead(BadResponse),
    /// The answer's framing broke HTTP's rules.
    BadBody(ChunkError),
    /// The answer is not what the API promises (an HTML page behind a 200, say).
    NotTheApi,
    /// The body ended too early.
    Truncated,
    /// An answer that the endpoint itself declared an error: its status, and its words where they came
    /// inside a stream.
    Reported {
        status: u16,
        message: Box<str>,
    },
}

impl AttemptError {
    /// Of a connection that was not made.
    pub fn connecting(error: &std::io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::MFILE | Errno::NFILE) => AttemptError::OutOfDescriptors,
            _ => AttemptError::Connect(error.kind()),
        }
    }

    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            AttemptError::AtCapacity | AttemptError::OutOfDescriptors => Blame::Gateway,
            AttemptError::NoAddress
            | AttemptError::Connect(_)
            | AttemptError::ConnectTimeout
            | AttemptError::Stale => Blame::Network,
            AttemptError::Reported { status, .. } => blame_of_status(*status),
            _ => Blame::Backend,
        }
    }

    /// Whether another endpoint may do better. Only before the commit point, of course.
    pub fn elsewhere_helps(&self) -> bool {
        match self {
            AttemptError::Reported { status, .. } => {
                worth_another_endpoint(*status) || is_about_our_credential(*status)
            }
            AttemptError::TotalTimeout
            | AttemptError::FirstByteTimeout
            | AttemptError::OutOfDescriptors => false,
            _ => true,
        }
    }

    /// The class in metrics; none where the endpoint has nothing to do with it.
    pub fn failure(&self) -> Option<Failure> {
        Some(match self {
            AttemptError::OutOfDescriptors => return None,
            AttemptError::NoAddress
            | AttemptError::AtCapacity
            | AttemptError::Connect(_)
            | AttemptError::ConnectTimeout => Failure::Connect,
            AttemptError::Handshake => Failure::Tls,
            AttemptError::Stale => Failure::Stale,
            AttemptError::Closed => Failure::Reset,
            AttemptError::FirstByteTimeout | AttemptError::TotalTimeout => Failure::Timeout,
            AttemptError::Stall => Failure::Stall,
            AttemptError::BadHead(_) | AttemptError::BadBody(_) | AttemptError::NotTheApi => {
                Failure::BadResponse
            }
            AttemptError::Truncated => Failure::Broken,
            AttemptError::Reported { status: 429, .. } => Failure::Limited,
            AttemptError::Reported { status, .. } if *status < 500 => Failure::Rejected,
            AttemptError::Reported { .. } => Failure::ServerError,
        })
    }

    /// What the client is told when this was the last attempt and nothing of an answer has left.
    pub fn fault(&self) -> Fault {
        match self {
            AttemptError::NoAddress => Fault::Unavailable { retry_after_s: None },
            AttemptError::AtCapacity => Fault::Unavailable { retry_after_s: Some(1) },
            AttemptError::OutOfDescriptors => Fault::Overloaded { retry_after_s: 1 },
            AttemptError::ConnectTimeout
            | AttemptError::FirstByteTimeout
            | AttemptError::Stall
            | AttemptError::TotalTimeout => Fault::UpstreamTimeout,
            AttemptError::Reported { status, message } => {
                Fault::UpstreamReported { status: *status, message: message.clone() }
            }
            _ => Fault::UpstreamFailed,
        }
    }
}

/// Statuses that say "not here, not now" rather than "not this request".
pub fn worth_another_endpoint(status: u16) -> bool {
    matches!(status, 429 | 500 | 502 | 503 | 504 | 529)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_asked_is_not_to_blame() {
        for (errno, own) in
            [(Errno::MFILE, true), (Errno::NFILE, true), (Errno::CONNREFUSED, false)]
        {
            let error = AttemptError::connecting(&errno.into());
            assert_eq!(error.failure().is_none(), own, "{error:?}");
            assert_eq!(error.fault().status() == 503, own, "{error:?}");
            assert_eq!(error.elsewhere_helps(), !own, "{error:?}");
        }
    }
}
