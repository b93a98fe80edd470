//! The search for a peer's knee: the highest rate at which nothing fails and the p99 stays near that of no
//! proxy at all, at the same rate and in the same round.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::measure::{Set, Stage, drive};
use super::row::Knee;
use super::scenario::Scenario;
use super::servers;
use crate::Failure;
use crate::load::outcome::{Outcome, TOTAL};
use crate::target::tree::Meter;

/// What a peer may add to the p99, microseconds.
const ADDED_MAX_US: u64 = 2_000;
/// Rates are 2^(step / 8) a second: 9 % apart.
const STEPS_PER_DOUBLING: u32 = 8;
/// 512 a second.
const FIRST: u32 = 72;
/// 4 a second.
const LEAST: u32 = 16;
/// 131,072 a second.
const MOST: u32 = 136;
/// Samples that tell a p99, and the longest time to gather them.
const SAMPLES: f64 = 1_100.0;
const PROBE_SECONDS_MAX: f64 = 4.0;
/// Whoever is silent for longer fails.
const PATIENCE: Duration = Duration::from_secs(1);
/// Without a proxy, a p99 beyond this means that load or servers are at their limit, microseconds.
const DIRECT_MAX_US: u64 = 5_000;

/// Share of their CPU from which on load and servers are near their limit.
const FULL: f64 = 0.85;

/// Why there is no search where even the first rate is out of reach without a proxy.
const TOO_BUSY: &str = "the machine is too busy for a knee: even without a proxy, 512 requests a second \
    take over 5 ms (--realtime comes before its other work)";

/// Percentiles in the order in which they are preferred: with few samples only lower ones can be told.
const SHARES: [f64; 4] = [0.99, 0.95, 0.9, 0.5];
type Quantiles = [Option<u64>; SHARES.len()];

/// What the same rates give without a proxy, by step; `None` where load or servers do not reach them.
#[derive(Default)]
pub struct Baseline(BTreeMap<u32, Option<Quantiles>>);

/// How a rate went.
enum Went {
    Well(Outcome),
    Badly,
    /// Load or servers do not reach it.
    OutOfReach,
}

/// Shares of a CPU.
struct Used {
    peer: f64,
    load_and_servers: f64,
}

impl Used {
    /// Whether load and servers, which share a CPU, were nearer to their limit than the peer to its own.
    fn others_first(&self) -> bool {
        self.load_and_servers > FULL && self.load_and_servers > self.peer
    }
}

/// What the latency is held against.
enum Limit {
    Direct,
    /// Twice what the peer itself takes at the least rate.
    Own(Quantiles),
}

fn rate(step: u32) -> f64 {
    2f64.powf(f64::from(step) / f64::from(STEPS_PER_DOUBLING))
}

/// Searches; the outcome is that of the highest rate that went well.
///
/// # Errors
/// The peer answers nothing even at the least rate.
pub fn search(
    stage: &Stage,
    scenario: &Scenario,
    set: &Set,
    known: &mut Baseline,
) -> Result<(Knee, Outcome), Failure> {
    let mut hunt =
        Hunt { stage, scenario, set, known, limit: Limit::Direct, doubted: BTreeSet::new() };
    if let Some(found) = hunt.descend()? {
        return hunt.climb(found);
    }
    // It never adds so little: where does its own latency double?
    let (alone, _) = hunt.load(set.peer.address, LEAST)?;
    if alone.ok == 0 {
        return Err("it answers nothing even at 4 requests a second".into());
    }
    hunt.limit = Limit::Own(quantiles(&alone));
    hunt.climb((LEAST, alone))
}

struct Hunt<'a> {
    stage: &'a Stage,
    scenario: &'a Scenario,
    set: &'a Set,
    known: &'a mut Baseline,
    limit: Limit,
    /// Rates that were found out of reach and tried again in this search.
    doubted: BTreeSet<u32>,
}

impl Hunt<'_> {
    /// The first rate, from the usual one downwards, that goes well.
    fn descend(&mut self) -> Result<Option<(u32, Outcome)>, Failure> {
        let mut step = FIRST;
        while step >= LEAST {
            match self.attempt(step)? {
                Went::Well(outcome) => return Ok(Some((step, outcome))),
                Went::OutOfReach if self.direct(step)?.is_none() => return Err(TOO_BUSY.into()),
                Went::OutOfReach | Went::Badly => step -= 2 * STEPS_PER_DOUBLING,
            }
        }
        Ok(None)
    }

    /// From a rate that goes well to the highest: by doubling, then by halving the distance.
    fn climb(&mut self, mut best: (u32, Outcome)) -> Result<(Knee, Outcome), Failure> {
        let (mut stride, mut ceiling, mut at_least) = (STEPS_PER_DOUBLING, MOST, false);
        while stride > 0 && best.0 < ceiling {
            let step = (best.0 + stride).min(MOST);
            if step >= ceiling {
                stride /= 2;
                continue;
            }
            match self.try_twice(step)? {
                Went::Well(outcome) => best = (step, outcome),
                went => {
                    at_least = matches!(went, Went::OutOfReach);
                    (ceiling, stride) = (step, stride / 2);
                }
            }
        }
        let within_limit = matches!(self.limit, Limit::Direct);
        Ok((Knee { per_second: rate(best.0), within_limit, at_least }, best.1))
    }

    /// A rate that does not go well gets a second chance: the machine may have had other things to do.
    fn try_twice(&mut self, step: u32) -> Result<Went, Failure> {
        match self.attempt(step)? {
            Went::Well(outcome) => Ok(Went::Well(outcome)),
            Went::Badly | Went::OutOfReach => self.attempt(step),
        }
    }

    fn attempt(&mut self, step: u32) -> Result<Went, Failure> {
        let Some(direct) = self.direct(step)? else { return Ok(Went::OutOfReach) };
        let (outcome, used) = self.load(self.set.peer.address, step)?;
        let took = quantiles(&outcome);
        let fits = match &self.limit {
            Limit::Direct => within(&took, &direct, |us| us + ADDED_MAX_US),
            Limit::Own(alone) => within(&took, alone, |us| 2 * us + ADDED_MAX_US),
        };
        Ok(match lost(&outcome) == 0 && fits {
            true => Went::Well(outcome),
            false if used.others_first() => Went::OutOfReach,
            false => Went::Badly,
        })
    }

    /// What the rate gives without a proxy. That it is out of reach is believed the second time only.
    fn direct(&mut self, step: u32) -> Result<Option<Quantiles>, Failure> {
        if let Some(Some(known)) = self.known.0.get(&step) {
            return Ok(Some(*known));
        }
        if self
            .known
            .0
            .get(&step)
            .is_some_and(|known| known.is_none() && !self.doubted.insert(step))
        {
            return Ok(None);
        }
        let server = *self.set.servers.addresses.first().ok_or("no server")?;
        let (outcome, used) = self.load(server, step)?;
        let took = quantiles(&outcome);
        let slow = took.iter().flatten().next().is_none_or(|us| *us > DIRECT_MAX_US);
        // A generator that is late with time to spare had to wait for other work: both sides of the
        // comparison have that in them.
        let full = outcome.saturated && used.load_and_servers > FULL;
        let reached = !slow && lost(&outcome) == 0 && !full;
        let told = reached.then_some(took);
        self.known.0.insert(step, told);
        Ok(told)
    }

    /// Puts the load of a rate on an address; what came of it, and who used how much of its CPU.
    fn load(&self, at: SocketAddr, step: u32) -> Result<(Outcome, Used), Failure> {
        let per_second = rate(step);
        let mut spec = self.stage.spec(self.scenario, at, Some(per_second))?;
        let seconds = (SAMPLES / per_second).clamp(self.scenario.load.seconds, PROBE_SECONDS_MAX);
        (spec.duration, spec.patience) = (Duration::from_secs_f64(seconds), PATIENCE);
        let (mut meter, servers) = (Meter::default(), self.set.servers.pids());
        let mut read = || {
            self.set.peer.keeper().into_iter().for_each(|keeper| meter.search(keeper));
            (meter.read_us(), servers::Running::cpu_nanos(&servers) / 1_000)
        };
        let (began, before) = (Instant::now(), read());
        let outcome = drive(&spec)?;
        let (after, took_us) = (read(), began.elapsed().as_micros() as f64);
        let share = |us: u64| us as f64 / took_us;
        // The generator counts its own CPU time in the measurement only; before it, it works as much.
        let own = outcome.cpu_us as f64 / (outcome.seconds * 1e6);
        let peer = share(after.0.saturating_sub(before.0));
        let used = Used { peer, load_and_servers: share(after.1 - before.1) + own };
        Ok((outcome, used))
    }
}

/// Requests that were not answered rightly, or could not be sent.
fn lost(outcome: &Outcome) -> u64 {
    outcome.failed() + outcome.unfinished + outcome.unsent
}

fn quantiles(outcome: &Outcome) -> Quantiles {
    SHARES.map(|share| outcome.percentile(TOTAL, share))
}

/// Whether the highest percentile that both can tell is within the limit.
fn within(took: &Quantiles, other: &Quantiles, limit: fn(u64) -> u64) -> bool {
    let mut pairs = took.iter().zip(other).filter_map(|(took, other)| Some(((*took)?, (*other)?)));
    pairs.next().is_some_and(|(took, other)| took <= limit(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_percentile_that_both_tell_decides() {
        let limit = |us| us + 10;
        assert!(within(&[None, Some(20), Some(99), None], &[Some(1), Some(15), None, None], limit));
        assert!(!within(&[Some(26), Some(1), None, None], &[Some(15), Some(1), None, None], limit));
        assert!(!within(&[None; 4], &[Some(1); 4], limit));
    }

    #[test]
    fn rates_double_every_eight_steps() {
        assert_eq!((rate(FIRST), rate(LEAST), rate(MOST)), (512.0, 4.0, 131_072.0));
    }
}
