//! `replay`: traces and workloads over a simulated fleet, through Sluice's own routing code and through
//! others' algorithms, in virtual time.

mod agents;
mod baselines;
mod body;
mod capacity;
mod chains;
mod chooser;
mod fault;
mod fleet;
mod hashes;
mod ideal;
mod ours;
mod policies;
mod precise;
mod prompts;
mod random;
mod real;
mod run;
mod summary;
mod table;
mod trace;

use std::path::PathBuf;

use clap::Args;
use sluice_sim::engine::{EngineConfig, prefill_cost};
use sluice_sim::options::within;

use crate::Failure;
use fault::Fault;
use fleet::{Load, Setup};
use ours::Shape;
use sluice::route::chain::Chain;
use summary::{Ideals, Slo};
use trace::Trace;

/// Loads of the matrix, as shares of the capacity.
const MATRIX_LOADS: [f64; 2] = [0.7, 0.95];

/// Play a trace over a fleet of simulated GPUs in virtual time and compare routing policies.
#[derive(Args)]
pub struct Replay {
    /// A trace: Mooncake or Sluice's own (JSON lines), Azure LLM 2023 (CSV); packed by gzip or not.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["workload", "policies"])]
    trace: Option<PathBuf>,
    /// A workload made here in place of a trace: agents.
    #[arg(long, conflicts_with = "trace")]
    workload: Option<Workload>,
    /// Requests of the trace to play, at most.
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true,
        value_parser = within::<usize>(1, usize::MAX))]
    requests: usize,
    /// Sessions of the agents' workload.
    #[arg(long, default_value_t = 1_000, value_parser = within::<u32>(1, 1_000_000))]
    sessions: u32,
    /// The trace and the agents, each at 70 % and 95 % of the capacity, in one table of cells.
    #[arg(long, requires = "trace")]
    matrix: bool,
    /// Policies, by comma (`--policies` lists them); all, if not given.
    #[arg(long, value_delimiter = ',')]
    policy: Vec<String>,
    /// List the policies.
    #[arg(long)]
    policies: bool,
    #[command(flatten)]
    fleet: FleetArguments,
    #[command(flatten)]
    ours: OursArguments,
    #[command(flatten)]
    real: real::RealArguments,
    /// Share of the rate at which the fleet with one pooled cache and perfect balance is full.
    #[arg(long, value_delimiter = ',', default_value = "0.7", value_parser = within(0.001, 100.0))]
    load: Vec<f64>,
    /// The trace's own speed times this, in place of `--load`.
    #[arg(long, conflicts_with = "load", value_parser = within(1e-6, 1e6))]
    pace: Option<f64>,
    /// Objective for the first token, milliseconds.
    #[arg(long, default_value_t = 2_000.0, value_parser = within(0.001, 1e9))]
    slo_ttft_ms: f64,
    /// Objective for the mean time between a request's tokens, milliseconds.
    #[arg(long, default_value_t = 200.0, value_parser = within(0.001, 1e9))]
    slo_itl_ms: f64,
    /// Decides everything that is drawn.
    #[arg(long, default_value_t = 1, value_parser = within(0, u64::MAX))]
    seed: u64,
    /// Runs at the same time.
    #[arg(long, default_value_t = 2, value_parser = within::<usize>(1, 1_024))]
    threads: usize,
    /// Where the runs are kept [default: perf/runs/DATE-MACHINE].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Keep nothing.
    #[arg(long, conflicts_with = "out")]
    dry: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Workload {
    Agents,
}

/// What stands before the fleet, for Sluice's own policies.
#[derive(Args)]
struct OursArguments {
    /// Gateways that know nothing of each other.
    #[arg(long, default_value_t = 1, value_parser = within::<usize>(1, 1_024))]
    gateways: usize,
    /// Shards of each gateway.
    #[arg(long, default_value_t = 1, value_parser = within::<usize>(1, 1_024))]
    shards: usize,
    /// Share of the news between shards that is lost.
    #[arg(long, default_value_t = 0.01, value_parser = within(0.0, 1.0))]
    loss: f64,
    /// Memory of each shard's prefix table, MiB.
    #[arg(long, default_value_t = 16, value_parser = within::<usize>(1, 65_536))]
    table_mib: usize,
    /// No request says what session it belongs to.
    #[arg(long)]
    without_sessions: bool,
}

impl OursArguments {
    fn shape(&self) -> Shape {
        Shape {
            gateways: self.gateways,
            shards: self.shards,
            loss: self.loss,
            table_mib: self.table_mib,
        }
    }
}

#[derive(Args)]
struct FleetArguments {
    #[arg(long, default_value_t = 8, value_parser = within::<usize>(1, 4_096))]
    gpus: usize,
    /// KV of the whole fleet, as a share of the blocks that the trace ever fills.
    #[arg(long, default_value_t = 1.0 / 3.0, value_parser = within(1e-6, 1_000.0))]
    kv_share: f64,
    /// KV blocks of each GPU, in place of `--kv-share`.
    #[arg(long, conflicts_with = "kv_share", value_parser = within::<u32>(1, 1 << 24))]
    kv_blocks: Option<u32>,
    /// Tokens of a KV block.
    #[arg(long, default_value_t = 64, value_parser = within::<u32>(1, 65_536))]
    block_tokens: u32,
    /// Prompt tokens that a GPU reads in a second, beside its steps' own cost.
    #[arg(long, default_value_t = 20_000.0, value_parser = within(1.0, 1e9))]
    prefill_tokens_per_second: f64,
    /// Tokens of one step.
    #[arg(long, default_value_t = 8_192, value_parser = within::<u32>(1, 1 << 24))]
    max_num_batched_tokens: u32,
    /// Fault: 3:slow=3@30-60 (seconds), 3:dead@40%-60% (of the run) or 3:emptied@50%. May be repeated.
    #[arg(long)]
    fault: Vec<Fault>,
}

impl FleetArguments {
    /// # Errors
    /// Faults of GPUs that it has not.
    fn check(&self) -> Result<(), Failure> {
        let odd = self.fault.iter().map(|fault| fault.gpu).filter(|gpu| *gpu >= self.gpus);
        let odd: Vec<String> = odd.map(|gpu| gpu.to_string()).collect();
        match odd.is_empty() {
            true => Ok(()),
            false => {
                let (odd, last) = (odd.join(" or "), self.gpus - 1);
                Err(format!("--fault: there is no GPU {odd}; there are 0 to {last}").into())
            }
        }
    }

    fn setup(&self, working_set: usize) -> Setup {
        let share = working_set as f64 * self.kv_share / self.gpus as f64;
        let engine = EngineConfig {
            block_size: self.block_tokens,
            kv_blocks: self.kv_blocks.unwrap_or(share.ceil() as u32).max(1),
            max_num_batched_tokens: self.max_num_batched_tokens,
            step_per_prefill_token: prefill_cost(self.prefill_tokens_per_second),
            ..EngineConfig::default()
        };
        Setup { gpus: self.gpus, engine, pace: 1.0, faults: self.fault.clone() }
    }
}

/// Runs the command.
///
/// # Errors
/// The trace's, an unknown policy, the disk's.
pub fn run(replay: &Replay) -> Result<(), Failure> {
    if replay.policies {
        policies::POLICIES.iter().for_each(|(name, what, _)| println!("{name:24} {what}"));
        return Ok(());
    }
    run::names(replay)?;
    replay.fleet.check()?;
    let agents = || agents::agents(replay.sessions, replay.seed);
    let mut traces = Vec::new();
    if let Some(path) = &replay.trace {
        traces.push(Trace::read(path, replay.requests)?);
    }
    if replay.matrix || traces.is_empty() {
        traces.push(agents());
    }
    if replay.ours.without_sessions {
        traces.iter_mut().flat_map(|trace| &mut trace.asks).for_each(|ask| ask.session = None);
    }
    let stages = run::at_once(replay.threads, traces, |trace| Stage::new(replay, trace))?;
    run::all(replay, &stages)
}

/// A trace, ready for a fleet, and what could be had of it.
struct Stage {
    load: Load,
    setup: Setup,
    /// The pace at which the fleet would be full, if that was measured.
    full: Option<f64>,
    ideals: Ideals,
    slo: Slo,
    /// What Sluice hashes of each request; empty if none of its policies is asked for.
    chains: Vec<Chain>,
}

impl Stage {
    fn new(replay: &Replay, trace: &Trace) -> Result<Self, String> {
        let fleet = &replay.fleet;
        let prepared = prompts::prepare(trace, fleet.block_tokens);
        let setup = fleet.setup(ideal::working_set(&prepared));
        let blocks = setup.engine.kv_blocks.saturating_mul(fleet.gpus as u32);
        let pooled = ideal::pooled(&prepared, blocks, fleet.block_tokens);
        let ideals = Ideals { endless: ideal::plain(trace), pooled };
        let slo = Slo { ttft_ms: replay.slo_ttft_ms, itl_ms: replay.slo_itl_ms };
        let load = Load { trace: trace.clone(), prepared, block_tokens: fleet.block_tokens };
        let full = replay.pace.is_none().then(|| capacity::full_pace(&load, &setup));
        let ours = replay.policy.iter().any(|name| name.starts_with(policies::OURS));
        let chains = match ours || replay.policy.is_empty() {
            true => chains::chains(trace)?,
            false => Vec::new(),
        };
        Ok(Self { load, setup, full, ideals, slo, chains })
    }

    /// The paces to run at, each with its share of the capacity.
    fn paces(&self, replay: &Replay) -> Vec<(Option<f64>, f64)> {
        let loads: &[f64] = if replay.matrix { &MATRIX_LOADS } else { &replay.load };
        match (self.full, replay.pace) {
            (Some(full), _) => loads.iter().map(|load| (Some(*load), load * full)).collect(),
            (None, pace) => vec![(None, pace.unwrap_or(1.0))],
        }
    }
}
