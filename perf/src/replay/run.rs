//! Many runs, a few at a time, kept and shown.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::json;

use super::fleet::{Setup, play};
use super::ideal::Reuse;
use super::policies::{self, Context};
use super::summary::{Summary, summarise};
use super::{Replay, Stage, baselines, capacity, real, table};
use crate::Failure;
use crate::names::{all_known, unknown};
use crate::record::machine;

/// The name of the run that has no routing to get wrong.
const POOLED: &str = "one pooled engine";

/// One run.
struct Job<'a> {
    name: String,
    stage: &'a Stage,
    /// Share of the capacity, where that was asked for.
    load: Option<f64>,
    setup: Setup,
}

impl Job<'_> {
    /// The name in tables.
    fn shown(&self, replay: &Replay) -> String {
        match replay.real.real {
            true => replay.real.name(&self.name),
            false => self.name.clone(),
        }
    }
}

/// A run's figures.
struct Done<'a> {
    stage: &'a Stage,
    load: Option<f64>,
    name: String,
    summary: Summary,
    /// Seconds that it took here.
    took: f64,
}

impl Done<'_> {
    /// The cell of the matrix that it is in.
    fn cell(&self) -> String {
        let name = &self.stage.load.trace.name;
        self.load.map_or(name.clone(), |load| format!("{name} {:.0} %", load * 100.0))
    }
}

/// Runs every policy on every stage at every load.
pub fn all(replay: &Replay, stages: &[Stage]) -> Result<(), Failure> {
    let names = names(replay)?;
    stages.iter().for_each(tell);
    let jobs = stages.iter().flat_map(|stage| jobs(replay, stage, &names)).collect();
    // In real time, runs would be in each other's way.
    let threads = if replay.real.real { 1 } else { replay.threads };
    let done = at_once(threads, jobs, |job| one(replay, job))?;
    if !replay.dry {
        keep(replay, &done)?;
    }
    show(&done);
    if replay.matrix {
        print!("\n{}", matrix(&done));
    }
    Ok(())
}

/// The policies to run.
///
/// # Errors
/// Some are not known.
pub fn names(replay: &Replay) -> Result<Vec<String>, Failure> {
    let known: Vec<&str> = policies::POLICIES.iter().map(|(name, ..)| *name).collect();
    all_known([unknown("policy", replay.policy.iter().map(String::as_str), &known)])?;
    let all = || known.iter().map(|name| (*name).to_owned()).collect();
    Ok(if replay.policy.is_empty() { all() } else { replay.policy.clone() })
}

/// Says what is played.
fn tell(stage: &Stage) {
    let (ideals, setup) = (&stage.ideals, &stage.setup);
    let share = |reuse: Reuse| reuse.share() * 100.0;
    eprintln!(
        "{}: {} requests, {} input tokens. A cache without end holds {:.2} % of them, one pooled \
         over {} GPUs of {} tokens each {:.2} %.",
        stage.load.trace.name,
        stage.load.trace.asks.len(),
        ideals.endless.input_tokens,
        share(ideals.endless),
        setup.gpus,
        setup.engine.capacity_tokens(),
        share(ideals.pooled),
    );
    if let Some(full) = stage.full {
        let rate = stage.load.trace.rate() * full;
        eprintln!("Full at {rate:.2} requests a second, {full:.3} times its own pace.");
    }
}

fn jobs<'a>(replay: &Replay, stage: &'a Stage, names: &[String]) -> Vec<Job<'a>> {
    let mut jobs = Vec::new();
    for (load, pace) in stage.paces(replay) {
        let setup = Setup { pace, ..stage.setup.clone() };
        let job = |name: &String| Job { name: name.clone(), stage, load, setup: setup.clone() };
        jobs.extend(names.iter().map(job));
        if replay.real.real {
            continue;
        }
        jobs.push(Job { name: POOLED.into(), stage, load, setup: capacity::pooled(&setup) });
    }
    jobs
}

/// Does the jobs on so many threads; what they give stands in their order.
pub fn at_once<T: Send, J: Sync>(
    threads: usize,
    jobs: Vec<J>,
    work: impl Fn(&J) -> Result<T, String> + Sync,
) -> Result<Vec<T>, Failure> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, jobs.len().max(1)) {
            scope.spawn(|| {
                while let Some((at, job)) = take(&next, &jobs) {
                    let result = work(job);
                    done.lock().unwrap_or_else(|broken| broken.into_inner()).push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|broken| broken.into_inner());
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, result)| result).collect::<Result<_, _>>()?)
}

fn take<'a, J>(next: &AtomicUsize, jobs: &'a [J]) -> Option<(usize, &'a J)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    jobs.get(at).map(|job| (at, job))
}

fn one<'a>(replay: &Replay, job: &Job<'a>) -> Result<Done<'a>, String> {
    let begun = Instant::now();
    let Job { stage, load, setup, name } = job;
    let summary = match replay.real.real {
        true => real(replay, job)?,
        false => {
            let shape = replay.ours.shape();
            let (gpus, seed, chains) = (setup.gpus, replay.seed, &stage.chains);
            let mut chooser = match name.as_str() {
                POOLED => Box::new(baselines::RoundRobin::default()),
                name => policies::chooser(name, &Context { gpus, seed, shape, chains })?,
            };
            let played = play(&stage.load, setup, &mut *chooser);
            summarise(&stage.load, &played, &stage.ideals, stage.slo)
        }
    };
    let took = begun.elapsed().as_secs_f64();
    let done = Done { stage, load: *load, name: job.shown(replay), summary, took };
    let seconds = done.summary.seconds;
    eprintln!("{}: {name}: {seconds:.0} s of the fleet's time in {took:.1} s", done.cell());
    Ok(done)
}

/// In real time, through a process.
fn real(replay: &Replay, job: &Job<'_>) -> Result<Summary, String> {
    let (load, shards) = (&job.stage.load, replay.ours.shards);
    let (played, parts) = real::play(load, &job.setup, &replay.real, &job.name, shards)
        .map_err(|failure| failure.to_string())?;
    let summary = summarise(load, &played, &job.stage.ideals, job.stage.slo);
    Ok(summary.with_parts(parts))
}

/// Writes the runs where others are.
fn keep(replay: &Replay, done: &[Done<'_>]) -> Result<(), Failure> {
    let dir = replay.out.clone().unwrap_or_else(machine::default_dir);
    fs::create_dir_all(&dir)?;
    let mut file = OpenOptions::new().create(true).append(true).open(dir.join("replay.jsonl"))?;
    let command: Vec<String> = std::env::args().skip(1).collect();
    for run in done {
        let stage = run.stage;
        let line = json!({
            "at": machine::unix_seconds(),
            "command": format!("sluice-perf {}", command.join(" ")),
            "trace": stage.load.trace.name,
            "load": run.load,
            "full_per_second": stage.full.map(|full| full * stage.load.trace.rate()),
            "policy": run.name,
            "gpus": stage.setup.gpus,
            "kv_tokens": stage.setup.engine.capacity_tokens(),
            "ideals": stage.ideals,
            "slo": stage.slo,
            "took_seconds": run.took,
            "gateways": replay.ours.gateways,
            "shards": replay.ours.shards,
            "real": replay.real.real,
            "summary": run.summary,
        });
        writeln!(file, "{line}")?;
    }
    eprintln!("kept in {}", dir.join("replay.jsonl").display());
    Ok(())
}

/// Runs of one cell stand together.
fn cells<'a, 'b>(done: &'b [Done<'a>]) -> impl Iterator<Item = &'b [Done<'a>]> {
    done.chunk_by(|one, next| one.cell() == next.cell())
}

fn show(done: &[Done<'_>]) {
    for cell in cells(done) {
        println!("\n{}\n", cell[0].cell());
        let rows: Vec<(String, Summary)> =
            cell.iter().map(|run| (run.name.clone(), run.summary.clone())).collect();
        print!("{}{}", table::table(&rows), table::by_gpu(&rows));
    }
}

/// Policies down, cells across.
fn matrix(done: &[Done<'_>]) -> String {
    let names: Vec<String> = cells(done).map(|cell| cell[0].cell()).collect();
    let columns: Vec<Vec<&Summary>> =
        cells(done).map(|cell| cell.iter().map(|run| &run.summary).collect()).collect();
    let policies = cells(done).next().unwrap_or_default().iter().map(|run| &*run.name);
    table::matrix(&names, policies, &columns)
}
