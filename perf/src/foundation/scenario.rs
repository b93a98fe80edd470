//! The scenarios of the foundation's figures.

use std::rc::Rc;
use std::time::Duration;

use crate::traffic::payload::{self, Text};
use crate::traffic::{Answer, Pace};

/// One kind of traffic.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// What it shows, in a sentence.
    pub shows: &'static str,
    /// Connections, each with one request at a time.
    pub clients: usize,
    /// Bytes of each request's body.
    pub body_bytes: usize,
    pub text: Text,
    pub kind: Kind,
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole answer of 800 bytes; the next request follows at once.
    Unary,
    /// Bursts of so many events, so many a second on each stream.
    Paced { events: u32, bursts_per_second: u32 },
    /// Bursts of so many events, each as soon as the last has come.
    Lockstep { events: u32 },
}

const fn unary(
    name: &'static str,
    clients: usize,
    body_bytes: usize,
    text: Text,
    shows: &'static str,
) -> Scenario {
    Scenario { name, shows, clients, body_bytes, text, kind: Kind::Unary }
}

const fn stream(name: &'static str, clients: usize, kind: Kind, shows: &'static str) -> Scenario {
    Scenario { name, shows, clients, body_bytes: 1024, text: Text::Plain, kind }
}

/// Measured in CPU time.
pub const TIMED: [Scenario; 11] = [
    unary("unary-1k-c16", 16, 1024, Text::Plain, "what a small request costs"),
    unary("unary-1k-c32", 32, 1024, Text::Plain, "the same with more of them at once"),
    stream(
        "paced-64x250",
        64,
        Kind::Paced { events: 1, bursts_per_second: 250 },
        "16,000 events a second, each read alone: what a token costs on a busy shard",
    ),
    stream(
        "paced-200x20",
        200,
        Kind::Paced { events: 1, bursts_per_second: 20 },
        "200 conversations at reading speed: what a token costs on a quiet shard",
    ),
    stream(
        "bulk-64x125x8",
        64,
        Kind::Paced { events: 8, bursts_per_second: 125 },
        "eight events in each read: what an event costs when a read is shared",
    ),
    unary("unary-8k-plain", 16, 8 << 10, Text::Plain, "a body of 8 KB"),
    unary(
        "unary-8k-escaped",
        16,
        8 << 10,
        Text::Escaped,
        "8 KB of source code, an escape every few bytes",
    ),
    unary("unary-64k-plain", 16, 64 << 10, Text::Plain, "a body of 64 KB"),
    unary("unary-64k-escaped", 16, 64 << 10, Text::Escaped, "64 KB of source code"),
    unary("unary-1m-plain", 4, 1 << 20, Text::Plain, "a body of 1 MB"),
    unary("unary-1m-escaped", 4, 1 << 20, Text::Escaped, "1 MB of source code"),
];

/// Counted in instructions.
pub const COUNTED: [Scenario; 3] = [
    unary("unary-1k-c16", 16, 1024, Text::Plain, "instructions of a small request"),
    stream(
        "event-alone",
        8,
        Kind::Lockstep { events: 1 },
        "instructions of an event that is read alone",
    ),
    stream(
        "event-in-8",
        8,
        Kind::Lockstep { events: 8 },
        "instructions of an event in a read of eight",
    ),
];

impl Scenario {
    /// Whether answers are streams.
    pub fn streams(&self) -> bool {
        self.kind != Kind::Unary
    }

    /// Whether each event should be read alone.
    pub fn reads_each_event(&self) -> bool {
        matches!(self.kind, Kind::Paced { events: 1, .. } | Kind::Lockstep { events: 1 })
    }

    /// What is counted.
    pub fn unit(&self) -> &'static str {
        if self.streams() { "event" } else { "request" }
    }

    /// The clients' requests.
    pub fn requests(&self) -> Vec<Rc<[u8]>> {
        let request = |index| payload::request(index, self.body_bytes, self.text, self.streams());
        (0..self.clients).map(request).collect()
    }

    /// The upstream's answer.
    pub fn answer(&self) -> Answer {
        match self.kind {
            Kind::Unary => Answer::Whole(payload::answer()),
            Kind::Paced { events, bursts_per_second } => {
                Answer::stream(events, Pace::Every(Duration::from_secs(1) / bursts_per_second))
            }
            Kind::Lockstep { events } => Answer::stream(events, Pace::Lockstep),
        }
    }
}
