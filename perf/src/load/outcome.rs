//! What a load met with: one JSON object, with raw histograms, that can be added to others of its kind.
//!
//! `sent == ok + errors + aborted + unfinished`: every request of the measurement has one fate, whenever it
//! came. Events, bytes, `completed` and CPU time are what passed between the start and the end of the
//! measurement.

use std::collections::BTreeMap;
use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use crate::Failure;

/// Samples that must lie beyond a percentile before it is told.
pub const BEYOND_MIN: u64 = 10;

/// Milliseconds of a bucket of the timeline.
pub const BUCKET_MS: u64 = 100;

/// Names of histograms. All but [`SEND_ERROR`] are in microseconds.
pub const TOTAL: &str = "total";
/// From the intended moment of sending to the first event with content.
pub const TTFT: &str = "ttft";
/// From one event of a stream to the next, of those that came during the measurement, from the first with
/// content on. Events of one read are 0 apart.
pub const GAP: &str = "gap";
/// By how much a request left later than intended through the generator's own fault, nanoseconds; open loop
/// only.
pub const SEND_ERROR: &str = "send_error";
/// How long connecting took.
pub const CONNECT: &str = "connect";

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Length of the measurement; less than wished for where it was interrupted.
    pub seconds: f64,
    /// When the measurement began, microseconds since 1970.
    pub began_unix_us: u64,
    /// Requests that were to leave during the measurement and did.
    pub sent: u64,
    /// Those that were answered, whole.
    pub ok: u64,
    /// Those that were not, by why.
    pub errors: BTreeMap<String, u64>,
    /// Those that were given up on purpose.
    pub aborted: u64,
    /// Those that were neither answered nor failed when the generator stopped waiting.
    pub unfinished: u64,
    /// Arrivals that were due and not sent, because all connections were taken. Not in `sent`.
    pub unsent: u64,
    /// Good answers that came whole during the measurement, those to requests of the warm-up included.
    pub completed: u64,
    /// Events of streams, the last one (`[DONE]`) included.
    pub events: u64,
    /// Reads that brought something.
    pub reads: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Connections that were opened.
    pub connects: u64,
    /// Raw histograms by name: base64 of HdrHistogram's V2 with deflate, three digits.
    pub hist: BTreeMap<String, String>,
    /// The measurement and what followed until the last answer; buckets of [`BUCKET_MS`].
    pub timeline: Vec<Bucket>,
    /// CPU time of the generator itself; where it spins, the time of its turns that had something to do.
    pub cpu_us: u64,
    /// The generator was the limit: what was measured says nothing of the target but "at least".
    pub saturated: bool,
    /// Stopped before its time.
    pub interrupted: bool,
}

/// What happened in a tenth of a second, by when it happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Its start, since the start of the measurement.
    pub at_ms: u64,
    pub sent: u64,
    pub ok: u64,
    /// Failures, and arrivals that could not be sent.
    pub errors: u64,
    pub events: u64,
    /// Percentiles of the answers that came; `None` with too few samples beyond.
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
    pub max_us: Option<u64>,
}

impl Outcome {
    /// A histogram; `None` where there is none of that name, or it cannot be read.
    pub fn histogram(&self, name: &str) -> Option<Histogram<u64>> {
        decode(self.hist.get(name)?).ok()
    }

    /// The value (in the histogram's unit) that a share `q` of the samples does not exceed; `None` with fewer
    /// than [`BEYOND_MIN`] samples beyond it.
    pub fn percentile(&self, name: &str, q: f64) -> Option<u64> {
        percentile(&self.histogram(name)?, q)
    }

    /// All failures together.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Whether it is a measurement of a service at all.
    ///
    /// # Errors
    /// No request was answered, or fewer than failed. Those that were given up on purpose do not count, and
    /// of an interrupted run those neither that were under way.
    pub fn verdict(&self) -> Result<(), Failure> {
        let late = if self.interrupted { 0 } else { self.unfinished };
        let lost = self.failed() + late;
        let most = self.errors.iter().max_by_key(|(_, count)| **count);
        let why = most.map_or("no answer in time", |(why, _)| why.as_str());
        match (self.ok, lost) {
            (0, 0) if self.sent == 0 && !self.interrupted => {
                Err("no request left during the measurement".into())
            }
            (0, 1..) => {
                Err(format!("no request was answered: {lost} failed, most by {why:?}").into())
            }
            (ok, _) if lost > ok => {
                Err(format!("most requests failed: {lost} of {}, most by {why:?}", ok + lost)
                    .into())
            }
            _ => Ok(()),
        }
    }
}

/// The value that a share `q` of the samples does not exceed; `None` with fewer than [`BEYOND_MIN`] beyond
/// it.
pub fn percentile(histogram: &Histogram<u64>, q: f64) -> Option<u64> {
    let within = (q.clamp(0.0, 1.0) * histogram.len() as f64).ceil() as u64;
    let beyond = histogram.len().saturating_sub(within);
    (beyond >= BEYOND_MIN).then(|| histogram.value_at_quantile(q))
}

/// A histogram as text.
///
/// # Errors
/// It does not fit its format.
pub fn encode(histogram: &Histogram<u64>) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes)?;
    Ok(STANDARD.encode(bytes))
}

/// A histogram from text.
///
/// # Errors
/// It is none.
pub fn decode(text: &str) -> Result<Histogram<u64>, Failure> {
    Ok(Deserializer::new().deserialize(&mut Cursor::new(STANDARD.decode(text)?))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(values: impl IntoIterator<Item = u64>) -> Outcome {
        let mut histogram = Histogram::new(3).unwrap();
        values.into_iter().for_each(|value| histogram.record(value).unwrap());
        let hist = BTreeMap::from([(TOTAL.to_owned(), encode(&histogram).unwrap())]);
        Outcome { hist, sent: histogram.len(), ..Outcome::default() }
    }

    #[test]
    fn a_percentile_needs_ten_samples_beyond_it() {
        assert_eq!(outcome(1..=999).percentile(TOTAL, 0.99), None);
        assert_eq!(outcome(1..=1000).percentile(TOTAL, 0.99), Some(990));
        assert_eq!(outcome(1..=19).percentile(TOTAL, 0.5), None);
        assert_eq!(outcome(1..=20).percentile(TOTAL, 0.5), Some(10));
        assert_eq!(outcome(1..=20).percentile(TOTAL, 1.0), None);
        assert_eq!(outcome([]).percentile(TOTAL, 0.5), None);
        assert_eq!(outcome([]).percentile("gap", 0.5), None);
    }

    #[test]
    fn where_none_was_answered_or_most_failed_nothing_was_measured() {
        let said = |ok, failed, unfinished, aborted, interrupted| {
            let errors = BTreeMap::from([("http 503".to_owned(), failed), ("reset".to_owned(), 1)]);
            let errors = if failed > 0 { errors } else { BTreeMap::new() };
            let sent = ok + failed + unfinished + aborted;
            let outcome = Outcome {
                sent,
                ok,
                errors,
                unfinished,
                aborted,
                interrupted,
                ..Outcome::default()
            };
            outcome.verdict().err().map(|failure| failure.to_string())
        };
        let none = "no request was answered: 8 failed, most by \"http 503\"";
        assert_eq!(said(0, 7, 0, 5, false).as_deref(), Some(none));
        let late = "no request was answered: 3 failed, most by \"no answer in time\"";
        assert_eq!(said(0, 0, 3, 0, false).as_deref(), Some(late));
        let most = "most requests failed: 8 of 15, most by \"http 503\"";
        assert_eq!(said(7, 7, 0, 0, false).as_deref(), Some(most));
        assert!(said(0, 0, 0, 0, false).is_some_and(|why| why.contains("no request left")));
        for (ok, failed, unfinished, aborted, interrupted) in
            [(8, 7, 0, 0, false), (0, 0, 0, 9, false), (0, 0, 9, 0, true), (0, 0, 0, 0, true)]
        {
            assert_eq!(said(ok, failed, unfinished, aborted, interrupted), None);
        }
    }

    #[test]
    fn outcomes_survive_being_written_down() {
        let outcome = outcome([1, 70_000_000]);
        let text = serde_json::to_string(&outcome).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome);
    }

    #[test]
    fn what_is_no_histogram_is_none() {
        let mut broken = outcome([1]);
        for text in ["", "!", "AAAA", "HISTFAAA"] {
            broken.hist.insert(TOTAL.into(), text.into());
            assert_eq!(broken.histogram(TOTAL), None);
        }
    }
}
