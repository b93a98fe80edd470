//! What goes wrong in a replayed fleet, and when.

use std::str::FromStr;

use sluice_sim::engine::Time;

use super::chooser::Gpu;

/// What happens to a GPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Every step takes so many times as long.
    Slow(f64),
    /// It is gone, and comes back with an empty cache.
    Dead,
    /// It goes on with an empty cache, as after a restart that no probe saw.
    Emptied,
}

/// A moment of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    Seconds(f64),
    /// Of the time between the first and the last planned arrival.
    Share(f64),
}

impl Moment {
    fn time(self, span: Time) -> Time {
        match self {
            Self::Seconds(seconds) => (seconds * 1e9) as Time,
            Self::Share(share) => (share * span as f64) as Time,
        }
    }
}

/// One fault of one GPU: `3:slow=3@30-60` (seconds), `3:dead@40%-60%` (of the run) or `3:emptied@50%`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    pub gpu: Gpu,
    pub kind: Kind,
    from: Moment,
    until: Moment,
}

impl Fault {
    /// When it begins and ends in a run whose arrivals span `span`.
    pub fn times(&self, span: Time) -> (Time, Time) {
        (self.from.time(span), self.until.time(span))
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?}: expected GPU:slow=FACTOR@FROM-UNTIL, GPU:dead@FROM-UNTIL or GPU:emptied@AT"
            )
        };
        let (gpu, rest) = text.split_once(':').ok_or_else(wrong)?;
        let (kind, times) = rest.split_once('@').ok_or_else(wrong)?;
        let kind = match kind.split_once('=') {
            Some(("slow", factor)) => factor.parse().ok().filter(|f| *f >= 1.0).map(Kind::Slow),
            None if kind == "dead" => Some(Kind::Dead),
            None if kind == "emptied" => Some(Kind::Emptied),
            _ => None,
        };
        let kind = kind.ok_or_else(wrong)?;
        let (from, until) = match kind {
            Kind::Emptied => (times, times),
            _ => times.split_once('-').ok_or_else(wrong)?,
        };
        Ok(Self {
            gpu: gpu.parse().map_err(|_| wrong())?,
            kind,
            from: moment(from).ok_or_else(wrong)?,
            until: moment(until).ok_or_else(wrong)?,
        })
    }
}

fn moment(text: &str) -> Option<Moment> {
    let number = |text: &str| text.parse().ok().filter(|number: &f64| *number >= 0.0);
    match text.strip_suffix('%') {
        Some(share) => number(share).map(|share| Moment::Share(share / 100.0)),
        None => number(text).map(Moment::Seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_written_as_they_are_said() {
        let fault: Fault = "3:slow=2.5@30-60".parse().unwrap();
        assert_eq!((fault.gpu, fault.kind), (3, Kind::Slow(2.5)));
        assert_eq!(fault.times(0), (30_000_000_000, 60_000_000_000));
        let fault: Fault = "0:dead@25%-50%".parse().unwrap();
        assert_eq!((fault.kind, fault.times(8)), (Kind::Dead, (2, 4)));
        let fault: Fault = "1:emptied@50%".parse().unwrap();
        assert_eq!((fault.kind, fault.times(8)), (Kind::Emptied, (4, 4)));
        for bad in [
            "",
            "1:emptied@1-2",
            "1:slow@1-2",
            "x:dead@1-2",
            "1:dead@2",
            "1:dead@-1-2",
            "1:slow=0@1-2",
        ] {
            assert!(bad.parse::<Fault>().is_err(), "{bad}");
        }
    }
}
