//! The rounds put in order: scenarios, in each its peers, of each its rounds with their latencies read.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use hdrhistogram::Histogram;

use super::latency;
use crate::compare::row::{Bound, Row};
use crate::load::outcome::{GAP, TOTAL, TTFT};
use crate::peers::DIRECT;

/// One scenario.
pub struct Scenario<'a> {
    pub name: &'a str,
    /// Baselines first, then Sluice, then the others by name.
    pub peers: Vec<Contender<'a>>,
    /// Whether answers were streams.
    pub streams: bool,
}

/// One peer in a scenario.
pub struct Contender<'a> {
    pub name: &'a str,
    /// By round.
    pub samples: BTreeMap<u32, Sample<'a>>,
}

/// One peer in one round.
pub struct Sample<'a> {
    pub round: &'a Row,
    pub latency: Rc<Latency>,
    /// The same round without a proxy.
    pub direct: Option<Rc<Latency>>,
}

/// Histograms of one round, microseconds.
#[derive(Default)]
pub struct Latency {
    pub total: Option<Histogram<u64>>,
    pub ttft: Option<Histogram<u64>>,
    pub gap: Option<Histogram<u64>>,
}

impl Latency {
    fn of(round: &Row) -> Self {
        let read = |name| round.outcome.histogram(name).filter(|histogram| !histogram.is_empty());
        Self { total: read(TOTAL), ttft: read(TTFT), gap: read(GAP) }
    }

    /// What the client waits for: the first event of a stream, else the whole answer.
    pub fn wait(&self) -> Option<&Histogram<u64>> {
        self.ttft.as_ref().or(self.total.as_ref())
    }
}

/// Names of the scenarios, in the order in which they were measured.
pub fn scenarios(rounds: &[Row]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for round in rounds {
        if !names.contains(&round.scenario.as_str()) {
            names.push(&round.scenario);
        }
    }
    names
}

impl<'a> Scenario<'a> {
    /// Reads one scenario. A round that was measured again replaces the earlier one.
    pub fn read(name: &'a str, rounds: &'a [Row]) -> Self {
        let mut last: BTreeMap<(&str, u32), &Row> = BTreeMap::new();
        for round in rounds.iter().filter(|round| round.scenario == name) {
            last.insert((&round.peer, round.round), round);
        }
        let latencies: BTreeMap<(&str, u32), Rc<Latency>> =
            last.iter().map(|(key, round)| (*key, Rc::new(Latency::of(round)))).collect();
        let free = last.iter().filter(|(_, round)| round.bound.is_none());
        let unbound: BTreeSet<(&str, u32)> = free.map(|(key, _)| *key).collect();
        let mut peers: BTreeMap<(u8, &str), Contender<'a>> = BTreeMap::new();
        for (key, round) in last {
            let (name, number) = key;
            let latency = latencies[&key].clone();
            // What was at its limit without a proxy is no measure of what the proxy adds.
            let direct = round.direct.as_deref().filter(|direct| *direct != name);
            let direct = direct.filter(|direct| unbound.contains(&(*direct, number)));
            let direct = direct.and_then(|direct| latencies.get(&(direct, number)).cloned());
            let contender = peers.entry((rank(name), name));
            let contender =
                contender.or_insert_with(|| Contender { name, samples: BTreeMap::new() });
            contender.samples.insert(number, Sample { round, latency, direct });
        }
        let streams = rounds.iter().any(|round| round.scenario == name && round.outcome.events > 0);
        Self { name, peers: peers.into_values().collect(), streams }
    }

    /// The peer that others are held against: Sluice on io_uring, else whichever Sluice is there.
    pub fn sluice(&self) -> Option<&Contender<'a>> {
        let named = |name: &str| self.peers.iter().find(|peer| peer.name == name);
        named("sluice@uring").or_else(|| self.peers.iter().find(|peer| peer.is_sluice()))
    }

    /// All rounds of all peers.
    pub fn samples(&self) -> impl Iterator<Item = &Sample<'a>> {
        self.peers.iter().flat_map(|peer| peer.samples.values())
    }
}

impl Contender<'_> {
    /// One of Sluice's own rows.
    pub fn is_sluice(&self) -> bool {
        self.name.starts_with("sluice")
    }

    /// Not a rival: what the kernel, the driver or nothing at all costs.
    pub fn is_baseline(&self) -> bool {
        rank(self.name) == 0
    }

    /// Whether the load or the servers were at their limit first, in any round.
    pub fn bound(&self) -> Option<Bound> {
        self.samples.values().find_map(|sample| sample.round.bound)
    }

    /// All rounds' waits in one histogram, beside those of the same rounds without a proxy.
    pub fn waits(&self) -> (Option<Histogram<u64>>, Option<Histogram<u64>>) {
        let own = self.samples.values().filter_map(|sample| sample.latency.wait().cloned());
        let direct = self.samples.values();
        let direct = direct.filter_map(|sample| sample.direct.as_ref()?.wait().cloned());
        (latency::merge(own), latency::merge(direct))
    }

    /// All rounds' gaps in one histogram.
    pub fn gaps(&self) -> Option<Histogram<u64>> {
        latency::merge(self.samples.values().filter_map(|sample| sample.latency.gap.clone()))
    }
}

fn rank(peer: &str) -> u8 {
    match peer {
        DIRECT => 0,
        peer if peer.starts_with("floor") => 0,
        peer if peer.starts_with("sluice") => 1,
        _ => 2,
    }
}
