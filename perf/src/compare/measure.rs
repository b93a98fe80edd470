//! One measurement: servers and peer are started, the load runs, everything is looked at, all is stopped.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::row::{Bound, Knee, Moments, Proxy, Row, Struck};
use super::sampler::{Sample, Sampler, Watched, growth};
use super::scenario::{Fault, FaultKind, Scenario, When};
use super::servers::{self, Place};
use super::{knee, told};
use crate::Failure;
use crate::load::outcome::Outcome;
use crate::load::spec::{Arrivals, Shape, Spec, Target};
use crate::peers::{self, API_KEY, DIRECT, Peer};
use crate::target::tree::{self, Holds};

/// Calm before the readings of an idle peer.
const CALM: Duration = Duration::from_millis(300);
/// How long what the load left behind may be tidied up.
const AFTER: Duration = Duration::from_millis(700);
/// Share of its CPUs from which on a peer counts as busy.
const BUSY: f64 = 0.9;
/// Between two reloads.
const RELOAD_PERIOD: Duration = Duration::from_secs(1);

/// Where measurements are made.
pub struct Stage {
    pub place: Place,
    /// The peers' CPU, and with more workers those after it.
    pub proxy_cpu: usize,
    pub scratch: PathBuf,
    /// CPUs from the peers' one on.
    pub cpus: usize,
    /// Seconds of each measurement and its warm-up are multiplied with this.
    pub stretch: f64,
}

/// A peer that is there, for one scenario.
pub struct Entrant {
    /// With its number of workers where that varies.
    pub name: String,
    pub peer: Peer,
    pub program: PathBuf,
    pub workers: usize,
    /// Requests a second, where the scenario's rate depends on the peer.
    pub rate: Option<f64>,
}

impl Entrant {
    /// Whether it is no proxy.
    pub fn is_direct(&self) -> bool {
        self.peer.name == DIRECT
    }
}

/// A peer and its servers, ready for load.
pub struct Set {
    pub servers: servers::Running,
    pub peer: peers::Running,
}

impl Stage {
    /// Starts servers and peer.
    ///
    /// # Errors
    /// One of them does not start.
    pub fn set(&self, scenario: &Scenario, entrant: &Entrant) -> Result<Set, Failure> {
        let servers = servers::Running::start(&scenario.servers, &self.place)?;
        let cpus: Vec<usize> = (self.proxy_cpu..self.proxy_cpu + entrant.workers).collect();
        let dir = self.scratch.join(entrant.peer.name);
        let upstreams = &servers.addresses;
        let streams = scenario.load.request.streams();
        let (peer, program) = (&entrant.peer, &entrant.program);
        let peer = peers::Running::start(peer, program, upstreams, &dir, &cpus, streams)?;
        Ok(Set { servers, peer })
    }

    fn watched(&self, set: &Set) -> Watched {
        Watched {
            keeper: set.peer.keeper(),
            servers: set.servers.pids(),
            cpus: [self.proxy_cpu, self.place.cpu],
        }
    }

    /// The load of a scenario against an address.
    ///
    /// # Errors
    /// The rate is not known.
    pub fn spec(
        &self,
        scenario: &Scenario,
        at: std::net::SocketAddr,
        rate: Option<f64>,
    ) -> Result<Spec, Failure> {
        let load = &scenario.load;
        let arrivals = match (&load.arrivals, rate) {
            (When::Given(arrivals), _) => arrivals.clone(),
            (When::Share { .. }, Some(per_second)) => Arrivals::Poisson { per_second },
            (When::Share { .. }, None) => return Err("the peer's knee is not known".into()),
        };
        let target: Target = format!("http://{at}").parse()?;
        let stretched = |seconds: f64| Duration::from_secs_f64(seconds * self.stretch);
        Ok(Spec {
            api_key: Some(API_KEY.into()),
            prompts: load.prompts,
            warmup: stretched(load.warmup_seconds),
            duration: stretched(load.seconds),
            patience: Duration::from_secs_f64(load.patience_seconds),
            abort_share: load.abort_share,
            readers: load.readers,
            ..Spec::new(target, arrivals, load.request, load.connections)
        })
    }

    /// Measures one peer in one scenario.
    ///
    /// # Errors
    /// Something does not start.
    pub fn measure(&self, scenario: &Scenario, entrant: &Entrant) -> Result<Row, Failure> {
        let mut set = self.set(scenario, entrant)?;
        let keeper = set.peer.keeper();
        let holds = || keeper.map_or_else(Holds::default, tree::holds);
        if keeper.is_some() {
            std::thread::sleep(CALM);
        }
        let mut moments = Moments { idle: holds(), ..Moments::default() };
        let spec = self.spec(scenario, set.peer.address, entrant.rate)?;
        let lasts = spec.warmup + spec.duration;
        let sampler = Sampler::start(self.watched(&set));
        let began = Instant::now();
        let load = std::thread::spawn(move || drive(&spec).map_err(|failure| failure.to_string()));
        let mut notes = Vec::new();
        let fault = self.fault(scenario, &mut set, began, &mut notes)?;
        sleep_until(began + lasts.mul_f64(0.9));
        moments.loaded = holds();
        let outcome = load.join().map_err(|_| "the load generator panicked")??;
        let samples = sampler.stop();
        if keeper.is_some() {
            std::thread::sleep(AFTER);
        }
        moments.after = holds();
        let mut row = self.row(scenario, entrant, outcome, &samples, moments);
        row.fault = fault;
        row.notes = notes;
        let aborted = (row.outcome.aborted > 0).then_some(row.outcome.aborted);
        row.notes.extend(aborted.map(|count| format!("clients left: {count}")));
        row.notes.extend(told::of_servers(scenario, &set.servers.addresses));
        Ok(row)
    }

    /// The search for the highest rate that goes well, as a row: its outcome is that rate's.
    ///
    /// # Errors
    /// Something does not start.
    pub fn knee(
        &self,
        scenario: &Scenario,
        entrant: &Entrant,
        known: &mut knee::Baseline,
    ) -> Result<Row, Failure> {
        let set = self.set(scenario, entrant)?;
        let keeper = set.peer.keeper();
        let idle = keeper.map_or_else(Holds::default, tree::holds);
        let sampler = Sampler::start(self.watched(&set));
        let (found, outcome) = knee::search(self, scenario, &set, known)?;
        let samples = sampler.stop();
        let after = keeper.map_or_else(Holds::default, tree::holds);
        let moments = Moments { idle, loaded: after, after };
        let mut row = self.row(scenario, entrant, outcome, &samples, moments);
        row.bound = found.at_least.then_some(Bound::Load);
        row.knee = Some(found);
        Ok(row)
    }

    /// Does to servers or peer what the scenario says, while the load runs.
    fn fault(
        &self,
        scenario: &Scenario,
        set: &mut Set,
        began: Instant,
        notes: &mut Vec<String>,
    ) -> Result<Option<Struck>, Failure> {
        let Some(fault) = &scenario.fault else { return Ok(None) };
        let start = began + Duration::from_secs_f64(scenario.load.warmup_seconds * self.stretch);
        let moment = |seconds: f64| Duration::from_secs_f64(seconds * self.stretch);
        sleep_until(start + moment(fault.at_seconds));
        let at_ms = start.elapsed().as_millis() as u64;
        set.servers.strike(fault)?;
        let until = fault.until_seconds.map(|seconds| start + moment(seconds));
        if fault.kind == FaultKind::Reload && set.peer.keeper().is_some() {
            notes.push(reloads(&set.peer, fault, until)?);
        }
        let mut until_ms = None;
        if let Some(until) = until {
            sleep_until(until);
            set.servers.heal(fault)?;
            until_ms = Some(start.elapsed().as_millis() as u64);
        }
        Ok(Some(Struck { kind: fault.kind.name().to_owned(), at_ms, until_ms }))
    }

    fn row(
        &self,
        scenario: &Scenario,
        entrant: &Entrant,
        outcome: Outcome,
        samples: &[Sample],
        holds: Moments,
    ) -> Row {
        let from_us = outcome.began_unix_us;
        let to_us = from_us + (outcome.seconds * 1e6) as u64;
        let cpu_us = growth(samples, from_us, to_us, |sample| sample.peer_us);
        let servers_cpu_us = growth(samples, from_us, to_us, |sample| sample.servers_us);
        // Of a conversation with megabytes in each turn, the request is what costs.
        let by_event = matches!(scenario.load.request, Shape::Stream { .. });
        let each = |count: u64| (count > 0).then(|| cpu_us / count as f64);
        let began_us = samples.first().map_or(0, |first| first.at_us);
        let time = |sample: &Sample| ((sample.at_us - began_us) / 1_000, sample.rss_kib);
        let proxy = Proxy {
            cpu_us,
            cpus: entrant.workers,
            cpu_us_per_request: each(outcome.completed),
            cpu_us_per_event: each(outcome.events).filter(|_| by_event),
            floor_ratio: None,
            holds,
            rss_timeline: samples.iter().map(time).collect(),
        };
        let all_us = outcome.seconds * 1e6;
        let others = |at: fn(&Sample) -> u64, ours_us: f64| {
            let busy_us = growth(samples, from_us, to_us, at);
            ((busy_us - ours_us) / all_us).clamp(0.0, 1.0)
        };
        let others = [
            others(|sample| sample.busy_us[0], cpu_us / entrant.workers as f64),
            others(|sample| sample.busy_us[1], servers_cpu_us + outcome.cpu_us as f64),
        ];
        let busy = cpu_us / (outcome.seconds * 1e6 * entrant.workers as f64);
        let bound = bound(scenario, &outcome, busy, servers_cpu_us);
        Row {
            scenario: scenario.name.clone(),
            peer: entrant.name.clone(),
            at: crate::record::machine::unix_seconds(),
            proxy: (!entrant.is_direct()).then_some(proxy),
            bound,
            open: scenario.open(),
            servers_cpu_us,
            others,
            knee: entrant.rate.zip(scenario.knee_share()).map(|(rate, share)| Knee {
                per_second: rate / share,
                within_limit: true,
                at_least: false,
            }),
            outcome,
            ..Row::default()
        }
    }
}

/// Who was at its limit before the peer was: load and servers share a CPU.
fn bound(scenario: &Scenario, outcome: &Outcome, busy: f64, servers_us: f64) -> Option<Bound> {
    let (load_us, all_us) = (outcome.cpu_us as f64, outcome.seconds * 1e6);
    let limit = if scenario.is_flat_out() { 0.9 } else { 0.97 };
    let full = load_us + servers_us > limit * all_us;
    match () {
        () if busy >= BUSY => None,
        () if full && servers_us > load_us => Some(Bound::Server),
        () if full || outcome.saturated => Some(Bound::Load),
        () => None,
    }
}

fn reloads(
    peer: &peers::Running,
    fault: &Fault,
    until: Option<Instant>,
) -> Result<String, Failure> {
    let (mut count, until) = (0, until.unwrap_or_else(Instant::now));
    while Instant::now() < until {
        if !peer.reload()? {
            return Ok(format!("{}: it cannot, so nothing was done", fault.kind.name()));
        }
        count += 1;
        std::thread::sleep(RELOAD_PERIOD);
    }
    Ok(format!("{count} reloads"))
}

/// Runs the load to its end.
///
/// # Errors
/// The load generator's.
pub fn drive(spec: &Spec) -> Result<Outcome, Failure> {
    crate::load::run(spec, |_| ControlFlow::Continue(()))
}

fn sleep_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
}
