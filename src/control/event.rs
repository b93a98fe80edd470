//! What the control loop reacts to.

use super::engine::reading::Reading;
use super::names::Answer;
use super::reload::Loaded;
use super::watch::{Reader, Snapshot};
use crate::config::plan::EndpointId;

/// Events that may wait for the loop; senders then wait too.
pub const EVENTS_MAX: usize = 256;

/// One thing that happened.
#[derive(Debug)]
pub enum Event {
    /// A probe ended. `generation` is of the plan that the id belongs to.
    Probed { generation: u64, id: EndpointId, result: Result<(), String> },
    /// An engine was asked for its metrics; `None`: it gave none.
    Scraped { generation: u64, id: EndpointId, reading: Option<Reading> },
    /// A name was asked.
    Resolved(Answer),
    /// Files were looked at; without a snapshot, in vain.
    Looked { reader: Reader, snapshot: Option<Snapshot> },
    /// The configuration was read.
    Loaded(Box<Loaded>),
    /// Read the configuration now and open the logs anew (SIGHUP).
    Reload,
    /// Drain; once more: stop; once more: leave (SIGTERM, SIGINT).
    Stop,
}
