//! What the trials come to: which settings are better beyond the noise, and the table that shows it.

use std::collections::BTreeMap;

use super::trial::Trial;
use crate::report::spread::{Spread, Standing};
use crate::report::unit;

/// The setting that all others are held against.
pub const AS_IT_IS: &str = "as it is";

/// How a setting does beside the configuration as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Less CPU time or a lower p99 than ever without it, in every round, and the other not worse.
    Better,
    /// The reverse.
    Worse,
    /// One is better and the other worse.
    Trade,
    Noise,
}

impl Verdict {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Trade => "one better, one worse: kept as it is",
            Self::Noise => "noise: kept as it is",
        }
    }
}

/// The trials of one setting by round.
type Rounds<'a> = BTreeMap<u32, &'a Trial>;

fn of<'a>(trials: &'a [Trial], setting: &str) -> Rounds<'a> {
    let own = trials.iter().filter(|trial| trial.setting == setting);
    own.map(|trial| (trial.round, trial)).collect()
}

/// Judges a setting by the rounds that it and the configuration as it is were both in.
pub fn judge(trials: &[Trial], setting: &str) -> Verdict {
    let (base, own) = (of(trials, AS_IT_IS), of(trials, setting));
    let pairs = |value: fn(&Trial) -> Option<f64>| -> Vec<(f64, f64)> {
        let both = own.iter().filter_map(|(round, trial)| Some((*trial, *base.get(round)?)));
        both.filter_map(|(own, base)| Some((value(own)?, value(base)?))).collect()
    };
    let cpu = standing(&pairs(|trial| Some(trial.cpu_us_each)));
    let p99 = standing(&pairs(Trial::p99_us));
    let any = |standing| cpu == Some(standing) || p99 == Some(standing);
    match (any(Standing::Less), any(Standing::More)) {
        (true, true) => Verdict::Trade,
        (true, false) => Verdict::Better,
        (false, true) => Verdict::Worse,
        (false, false) => Verdict::Noise,
    }
}

/// More or less only where every round says so and the ranges do not even touch: settings are many, and a few
/// rounds agree by chance.
fn standing(pairs: &[(f64, f64)]) -> Option<Standing> {
    let own = Spread::of(pairs.iter().map(|pair| pair.0))?;
    let base = Spread::of(pairs.iter().map(|pair| pair.1))?;
    let apart = own.max < base.min || own.min > base.max;
    Standing::of(pairs).map(|standing| if apart { standing } else { Standing::Noise })
}

/// The table of all settings, in the order in which they were first tried.
pub fn table(trials: &[Trial], failed: &BTreeMap<String, String>, unit: &str) -> String {
    let mut settings: Vec<&str> = Vec::new();
    for trial in trials {
        if !settings.contains(&trial.setting.as_str()) {
            settings.push(&trial.setting);
        }
    }
    let mut out =
        format!("| setting | CPU per {unit} | p99 | rounds | verdict |\n|---|---|---|---|---|\n");
    for setting in settings {
        let rounds = of(trials, setting);
        let spread = |value: fn(&Trial) -> Option<f64>| {
            let spread = Spread::of(rounds.values().filter_map(|trial| value(trial)));
            spread.map_or("-".into(), |spread| spread.show(unit::micros))
        };
        let verdict = match setting {
            AS_IT_IS => "-",
            setting if failed.contains_key(setting) => "failed",
            setting => judge(trials, setting).word(),
        };
        let (cpu, p99) = (spread(|trial| Some(trial.cpu_us_each)), spread(Trial::p99_us));
        out += &format!("| {setting} | {cpu} | {p99} | {} | {verdict} |\n", rounds.len());
    }
    for (setting, why) in failed {
        out += &format!("\n{setting} failed: {why}\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::outcome::{Outcome, TOTAL, encode};
    use hdrhistogram::Histogram;

    fn trial(setting: &str, round: u32, cpu_us_each: f64, p99_us: u64) -> Trial {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        histogram.record_n(p99_us, 2_000).unwrap();
        let hist = BTreeMap::from([(TOTAL.to_owned(), encode(&histogram).unwrap())]);
        Trial {
            scenario: "s".into(),
            setting: setting.into(),
            round,
            confirms: false,
            at: 0,
            cpu_us_each,
            outcome: Outcome { hist, ..Outcome::default() },
        }
    }

    fn judged(own: &[(f64, u64)]) -> Verdict {
        let base = [(10.0, 100), (11.0, 110), (10.5, 105)];
        let mut trials = Vec::new();
        for (round, (base, own)) in (0..).zip(base.iter().zip(own)) {
            trials.push(trial(AS_IT_IS, round, base.0, base.1));
            trials.push(trial("pin = false", round, own.0, own.1));
        }
        judge(&trials, "pin = false")
    }

    #[test]
    fn only_what_every_round_says_counts() {
        assert_eq!(judged(&[(9.0, 101), (9.9, 100), (9.5, 110)]), Verdict::Better);
        assert_eq!(judged(&[(9.0, 101), (12.0, 100), (9.5, 110)]), Verdict::Noise);
        assert_eq!(judged(&[(9.5, 101), (10.1, 100), (9.9, 110)]), Verdict::Noise, "ranges touch");
        assert_eq!(judged(&[(9.0, 200), (9.9, 200), (9.5, 200)]), Verdict::Trade);
        assert_eq!(judged(&[(10.0, 200), (11.0, 200), (10.5, 200)]), Verdict::Worse);
        assert_eq!(judged(&[(1.0, 1)]), Verdict::Noise, "one round is none");
    }

    #[test]
    fn the_table_shows_all_and_says_what_failed() {
        let trials = [trial(AS_IT_IS, 0, 10.0, 100), trial("pin = false", 0, 9.0, 90)];
        let failed = BTreeMap::from([("shards = 9".to_owned(), "too many".to_owned())]);
        let table = table(&trials, &failed, "request");
        assert!(table.contains("| as it is | 10.0 µs | 100 µs | 1 | - |"), "{table}");
        assert!(table.contains("| pin = false | 9.00 µs | 90.0 µs | 1 | noise"), "{table}");
        assert!(table.contains("shards = 9 failed: too many"), "{table}");
    }
}
