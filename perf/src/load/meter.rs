//! Keeps what happens: histograms, counts, a timeline. Moments are nanoseconds after the start of the run.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::time::{SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;

use super::events::Came;
use super::outcome::{
    BEYOND_MIN, BUCKET_MS, Bucket, CONNECT, GAP, Outcome, SEND_ERROR, TOTAL, TTFT, encode,
    percentile,
};
use crate::Failure;

/// Values up to an hour (in nanoseconds: up to 100 seconds) are told apart; larger ones count as that.
const US_MAX: u64 = 3_600_000_000;
const NS_MAX: u64 = 100_000_000_000;
/// Nanoseconds of a bucket.
const BUCKET_NS: u64 = BUCKET_MS * 1_000_000;

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// No connection was made.
    Connect(ErrorKind),
    /// The connection broke.
    Lost(ErrorKind),
    /// The connection ended before a byte of the answer.
    Unanswered,
    /// The connection ended within the answer.
    Cut,
    /// Nothing came for too long.
    Silent,
    /// A status that is no success.
    Http(u16),
    /// What came is no HTTP answer.
    Malformed,
    /// A whole answer to a request for a stream.
    NoStream,
    /// A stream with an error in it.
    ErrorEvent,
    /// A stream that ended without saying so.
    Unterminated,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Connect(kind) => write!(f, "connect: {kind}"),
            Fault::Lost(kind) => write!(f, "lost: {kind}"),
            Fault::Unanswered => f.write_str("closed before the answer"),
            Fault::Cut => f.write_str("closed within the answer"),
            Fault::Silent => f.write_str("silent"),
            Fault::Http(status) => write!(f, "http {status}"),
            Fault::Malformed => f.write_str("malformed answer"),
            Fault::NoStream => f.write_str("not a stream"),
            Fault::ErrorEvent => f.write_str("error event"),
            Fault::Unterminated => f.write_str("stream without an end"),
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Ok,
    Failed(Fault),
    Aborted,
    Unfinished,
}

/// The record of one run.
pub struct Meter {
    /// The measurement, once it began; its end, once it ended.
    began: Option<u64>,
    ended: Option<u64>,
    pub outcome: Outcome,
    faults: BTreeMap<Fault, u64>,
    total: Histogram<u64>,
    ttft: Histogram<u64>,
    gap: Histogram<u64>,
    send_error: Histogram<u64>,
    connect: Histogram<u64>,
    bucket: Bucket,
    /// The totals of the present bucket, two digits.
    bucket_total: Histogram<u64>,
}

impl Meter {
    /// # Errors
    /// No memory for histograms.
    pub fn new() -> Result<Self, Failure> {
        let new = || Histogram::new_with_bounds(1, US_MAX, 3);
        Ok(Self {
            began: None,
            ended: None,
            outcome: Outcome::default(),
            faults: BTreeMap::new(),
            total: new()?,
            ttft: new()?,
            gap: new()?,
            send_error: Histogram::new_with_bounds(1, NS_MAX, 3)?,
            connect: new()?,
            bucket: Bucket::default(),
            bucket_total: Histogram::new_with_bounds(1, US_MAX, 2)?,
        })
    }

    /// The measurement begins.
    pub fn begin(&mut self, now: u64) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.outcome.began_unix_us = unix.as_micros() as u64;
        self.began = Some(now);
    }

    /// The measurement ends; answers may still come.
    pub fn end(&mut self, now: u64) {
        if let (Some(began), None) = (self.began, self.ended) {
            self.outcome.seconds = now.saturating_sub(began) as f64 / 1e9;
            self.ended = Some(now);
        }
    }

    /// Between begin and end.
    pub fn measures(&self) -> bool {
        self.began.is_some() && self.ended.is_none()
    }

    /// Something was measured.
    pub fn measured(&self) -> bool {
        self.began.is_some()
    }

    /// Ends buckets of the timeline that are over.
    pub fn roll(&mut self, now: u64) {
        let Some(began) = self.began else { return };
        while now >= began + self.bucket.at_ms * 1_000_000 + BUCKET_NS {
            self.close_bucket();
        }
    }

    fn close_bucket(&mut self) {
        let next = Bucket { at_ms: self.bucket.at_ms + BUCKET_MS, ..Bucket::default() };
        let mut over = std::mem::replace(&mut self.bucket, next);
        over.p50_us = percentile(&self.bucket_total, 0.5);
        over.p99_us = percentile(&self.bucket_total, 0.99);
        over.max_us = (!self.bucket_total.is_empty()).then(|| self.bucket_total.max());
        self.bucket_total.reset();
        self.outcome.timeline.push(over);
    }

    /// A request left that counts, so much later than it should have (open loop).
    pub fn sent(&mut self, counted: bool, late_ns: Option<u64>) {
        self.bucket.sent += u64::from(self.began.is_some());
        if counted {
            self.outcome.sent += 1;
            if let Some(late) = late_ns {
                self.send_error.saturating_record(late);
            }
        }
    }

    /// An arrival found no connection.
    pub fn unsent(&mut self, counted: bool) {
        if counted {
            self.outcome.unsent += 1;
            self.bucket.errors += 1;
        }
    }

    /// A connection was made.
    pub fn connected(&mut self, took_ns: u64) {
        if self.measures() {
            self.outcome.connects += 1;
            self.connect.saturating_record(took_ns / 1_000);
        }
    }

    /// Bytes left.
    pub fn wrote(&mut self, bytes: usize) {
        if self.measures() {
            self.outcome.bytes_out += bytes as u64;
        }
    }

    /// Bytes came, and events in them.
    pub fn read(&mut self, bytes: usize, came: Came) {
        if self.measures() {
            self.outcome.bytes_in += bytes as u64;
            self.outcome.reads += 1;
            self.outcome.events += came.events;
        }
        self.bucket.events += if self.began.is_some() { came.events } else { 0 };
    }

    /// The first content of a stream that counts.
    pub fn first(&mut self, since_intended_ns: u64) {
        self.ttft.saturating_record(since_intended_ns / 1_000);
    }

    /// Events came together, so long after the one before them.
    pub fn gaps(&mut self, count: u64, since_last_ns: u64) {
        if !self.measures() {
            return;
        }
        self.gap.saturating_record(since_last_ns / 1_000);
        self.gap.saturating_record_n(0, count.saturating_sub(1));
    }

    /// A request's end, and how long after its intended moment.
    pub fn fate(&mut self, counted: bool, fate: Fate, total_ns: u64) {
        let begun = u64::from(self.began.is_some());
        match fate {
            Fate::Ok => {
                self.outcome.completed += u64::from(self.measures());
                self.bucket.ok += begun;
                if begun > 0 {
                    self.bucket_total.saturating_record(total_ns / 1_000);
                }
            }
            Fate::Failed(_) => self.bucket.errors += begun,
            Fate::Aborted | Fate::Unfinished => {}
        }
        if !counted {
            return;
        }
        match fate {
            Fate::Ok => {
                self.outcome.ok += 1;
                self.total.saturating_record(total_ns / 1_000);
            }
            Fate::Failed(fault) => *self.faults.entry(fault).or_default() += 1,
            Fate::Aborted => self.outcome.aborted += 1,
            Fate::Unfinished => self.outcome.unfinished += 1,
        }
    }

    /// Failures so far.
    pub fn failed(&self) -> u64 {
        self.faults.values().sum()
    }

    /// By how much requests left late, nanoseconds: the 99th percentile, or a lower one while that would have
    /// fewer than ten samples beyond it.
    pub fn usual_send_error(&self) -> u64 {
        let count = self.send_error.len().max(1) as f64;
        let q = (1.0 - BEYOND_MIN as f64 / count).clamp(0.0, 0.99);
        self.send_error.value_at_quantile(q)
    }

    /// What came of it all.
    ///
    /// # Errors
    /// A histogram does not fit its format.
    pub fn finish(mut self, now: u64) -> Result<Outcome, Failure> {
        self.roll(now);
        if self.began.is_some_and(|began| now > began + self.bucket.at_ms * 1_000_000) {
            self.close_bucket();
        }
        let faults = self.faults.into_iter();
        self.outcome.errors = faults.map(|(fault, count)| (fault.to_string(), count)).collect();
        for (name, histogram) in [
            (TOTAL, &self.total),
            (TTFT, &self.ttft),
            (GAP, &self.gap),
            (SEND_ERROR, &self.send_error),
            (CONNECT, &self.connect),
        ] {
            if !histogram.is_empty() {
                self.outcome.hist.insert(name.to_owned(), encode(histogram)?);
            }
        }
        Ok(self.outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeline_has_every_bucket() {
        let mut meter = Meter::new().unwrap();
        meter.begin(1_000);
        for _ in 0..20 {
            meter.sent(true, Some(5));
            meter.fate(true, Fate::Ok, 3_000_000);
        }
        meter.roll(1_000 + 3 * BUCKET_NS);
        meter.fate(true, Fate::Failed(Fault::Http(503)), 1);
        meter.end(1_000 + 4 * BUCKET_NS);
        let outcome = meter.finish(1_000 + 4 * BUCKET_NS).unwrap();
        assert_eq!(outcome.timeline.len(), 4);
        let (first, last) = (&outcome.timeline[0], &outcome.timeline[3]);
        assert_eq!((first.sent, first.ok, first.p99_us), (20, 20, None));
        assert!(first.p50_us.unwrap().abs_diff(3_000) < 30, "{:?}", first.p50_us);
        assert_eq!((last.at_ms, last.errors, last.max_us), (300, 1, None));
        assert_eq!((outcome.seconds, outcome.errors["http 503"]), (0.4, 1));
    }

    #[test]
    fn the_warm_up_does_not_count() {
        let mut meter = Meter::new().unwrap();
        meter.sent(false, None);
        meter.fate(false, Fate::Ok, 5);
        meter.read(100, Came { events: 3, first: true, gaps: 2 });
        meter.begin(10);
        meter.fate(false, Fate::Ok, 5);
        meter.end(BUCKET_NS);
        let outcome = meter.finish(BUCKET_NS).unwrap();
        assert_eq!((outcome.sent, outcome.ok, outcome.completed, outcome.events), (0, 0, 1, 0));
        assert!(outcome.hist.is_empty());
    }

    #[test]
    fn events_of_one_read_are_not_apart() {
        let mut meter = Meter::new().unwrap();
        meter.gaps(4, 20_000_000);
        meter.begin(5);
        meter.gaps(4, 20_000_000);
        assert_eq!((meter.gap.len(), meter.gap.max() / 100, meter.gap.min()), (4, 200, 0));
    }
}
