//! The traffic of a measurement: clients and upstream in one thread and one epoll, so that the load costs
//! less than what it measures and each event's way can be timed by one clock.

pub mod field;
pub mod hold;
mod load;
pub mod payload;
pub mod peer;
mod upstream;

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use crate::Failure;
use field::Field;

/// When a stream's next burst of events leaves the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// At a steady rate, the streams evenly spread over the period.
    Every(Duration),
    /// When the client has the last one: every burst is read alone, however slow the proxy is.
    Lockstep,
    /// Never: one burst, then silence.
    Once,
}

/// What the upstream answers.
#[derive(Clone, Debug)]
pub enum Answer {
    Whole(Rc<[u8]>),
    Stream {
        head: Rc<[u8]>,
        burst: Rc<[u8]>,
        /// Events in a burst, which is one write.
        events: u32,
        pace: Pace,
    },
}

impl Answer {
    /// A stream of bursts of so many events.
    pub fn stream(events: u32, pace: Pace) -> Self {
        Answer::Stream { head: payload::stream_head(), burst: payload::burst(events), events, pace }
    }
}

/// What has passed so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Whole answers that reached their client.
    pub answers: u64,
    /// Events that reached their client.
    pub events: u64,
    /// Reads by which clients got them.
    pub reads: u64,
    /// Bursts that were due and could not be sent, as the last one still stood in the way.
    pub late: u64,
    /// Connections that failed or said something unexpected.
    pub errors: u64,
}

impl Counts {
    /// What passed since `before`.
    pub fn since(self, before: Counts) -> Counts {
        Counts {
            answers: self.answers - before.answers,
            events: self.events - before.events,
            reads: self.reads - before.reads,
            late: self.late - before.late,
            errors: self.errors - before.errors,
        }
    }
}

/// Clients that an upstream without its own load can tell apart.
pub const CLIENTS_MAX: usize = 100_000;

/// Answers every request alike, until killed. So many streams are spread evenly over the time between two
/// events.
///
/// # Errors
/// The address is taken.
pub fn serve(
    listen: SocketAddr,
    events_per_second: Option<u32>,
    streams: usize,
) -> Result<(), Failure> {
    let answer = match events_per_second {
        Some(rate) => Answer::stream(1, Pace::Every(Duration::from_secs(1) / rate)),
        None => Answer::Whole(payload::answer()),
    };
    crate::record::machine::ready_process()?;
    let mut field = Field::new(TcpListener::bind(listen)?, answer)?;
    field.expect_clients(streams);
    loop {
        field.run_for(Duration::from_secs(3600))?;
    }
}
