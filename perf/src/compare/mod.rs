//! Sluice beside other proxies, round by round: `sluice-perf compare`.

mod brief;
mod figure;
mod knee;
pub mod measure;
pub mod row;
mod sampler;
pub mod scenario;
pub mod servers;
mod table;
mod told;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use brief::{Brief, print as print_brief};
use clap::Args;
use measure::{Entrant, Stage};
pub use row::ROWS;
use row::{Book, Knee, Row};
use scenario::{Goal, Scenario, Who};
use sluice_sim::options::within;

use crate::names::{all_known, unknown};
use crate::peers::{self, DIRECT, FLOOR, FLOOR_EPOLL, Peer, Places};
use crate::target::launch;
use crate::{Failure, foundation, record};

/// Compare Sluice with other proxies on this machine.
#[derive(Args)]
#[command(after_help = after_help())]
pub struct Compare {
    /// Names of scenarios, or TOML files.
    #[arg(long, value_delimiter = ',', required_unless_present_any = ["quick", "list"])]
    scenario: Vec<String>,
    /// Who takes part; everyone who is installed without it.
    #[arg(long, value_delimiter = ',')]
    peer: Vec<String>,
    /// Rounds; the order of the peers changes from one to the next.
    #[arg(long, default_value_t = 5, value_parser = within::<u32>(1, 10_000))]
    rounds: u32,
    /// Three scenarios, three rounds, one floor.
    #[arg(long)]
    quick: bool,
    /// Say what there is and what is installed, and measure nothing.
    #[arg(long)]
    list: bool,
    /// Where the rounds are kept; `perf/runs/<date>-<machine>` without it.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The Python environment with the peers that come from PyPI; `peers-venv` in the target directory
    /// without it.
    #[arg(long, value_name = "DIR")]
    venv: Option<PathBuf>,
    /// The gateway's program; without it, the one beside this program.
    #[arg(long, value_name = "FILE")]
    sluice: Option<PathBuf>,
    /// The CPU of the peers.
    #[arg(long, default_value_t = 0, value_parser = within::<usize>(0, launch::CPU_MAX))]
    proxy_cpu: usize,
    /// The CPU of load and servers.
    #[arg(long, default_value_t = 1, value_parser = within::<usize>(0, launch::CPU_MAX))]
    load_cpu: usize,
    /// Count user instructions too, of the floor and of Sluice, by callgrind (needs valgrind).
    #[arg(long)]
    instructions: bool,
    /// Put everything that measures or is measured before everything else on its CPUs by the real-time
    /// scheduler (as root, with `chrt`): for machines with other work, which stands still meanwhile.
    #[arg(long)]
    realtime: bool,
    /// Makes every measurement, and its warm-up, so many times as long.
    #[arg(long, default_value_t = 1.0, value_parser = within(0.01, 1_000.0))]
    stretch: f64,
}

/// Rounds of `--quick`.
const QUICK_ROUNDS: u32 = 3;

fn after_help() -> String {
    let scenarios: Vec<&str> = scenario::names().collect();
    let peers = peers::ALL.map(|peer| peer.name);
    format!("Scenarios: {}\nPeers: {}", scenarios.join(", "), peers.join(", "))
}

/// Compares, keeps every round, prints the table.
///
/// # Errors
/// Nothing can be measured; the rounds that were finished are kept.
pub fn run(wanted: &Compare) -> Result<(), Failure> {
    let places = places(wanted)?;
    if wanted.list {
        return list(&places);
    }
    known(wanted)?;
    let scenarios = scenarios(wanted)?;
    let installed = installed(wanted, &places)?;
    let out = wanted.out.clone().unwrap_or_else(record::machine::default_dir);
    let book = Book::open(&out, &places.sluice)?;
    let stage = stage(wanted)?;
    introduce(&book, &stage, &installed, &places)?;
    record::machine::ready_process()?;
    // After the machine was described: from here on it looks as if it had one CPU.
    launch::pin(&[wanted.load_cpu])?;
    launch::prefer();
    if wanted.realtime {
        // What is started from here on inherits it.
        launch::become_realtime()?;
    }
    let mut contest = Contest { wanted, stage, installed, book, knees: BTreeMap::new() };
    for scenario in &scenarios {
        contest.scenario(scenario)?;
    }
    if let Err(error) = std::fs::remove_dir_all(&contest.stage.scratch) {
        eprintln!("sluice-perf: {} stays behind: {error}", contest.stage.scratch.display());
    }
    if wanted.instructions {
        return foundation::count(&places.sluice, &out, (wanted.proxy_cpu, wanted.load_cpu));
    }
    record::summary::print(&out)
}

/// The tables of a directory of rounds.
///
/// # Errors
/// There are none.
pub fn tables(dir: &Path) -> Result<String, Failure> {
    Ok(table::markdown(&row::read(dir)?))
}

fn places(wanted: &Compare) -> Result<Places, Failure> {
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(Path::parent).ok_or("this program has no directory")?;
    Ok(Places {
        sluice: wanted.sluice.clone().unwrap_or_else(|| own.with_file_name("sluice")),
        venv: wanted.venv.clone().unwrap_or_else(|| target.join("peers-venv")),
    })
}

fn list(places: &Places) -> Result<(), Failure> {
    for peer in peers::ALL {
        match (peer.find)(places) {
            Some(program) => println!("{:16} {}", peer.name, peer.version_of(&program, places)),
            None => println!("{:16} not installed: {}", peer.name, peer.install_line(places)),
        }
    }
    println!();
    for name in scenario::names() {
        println!("{name:16} {}", scenario::named(name)?.shows);
    }
    Ok(())
}

/// Whether there is everything that was asked for by name.
fn known(wanted: &Compare) -> Result<(), Failure> {
    let names: Vec<&str> = scenario::names().collect();
    let asked = wanted.scenario.iter().map(String::as_str).filter(|name| !scenario::is_file(name));
    let peers = wanted.peer.iter().map(String::as_str);
    all_known([
        unknown("scenario", asked, &names),
        unknown("peer", peers, &peers::ALL.map(|peer| peer.name)),
    ])
}

fn scenarios(wanted: &Compare) -> Result<Vec<Scenario>, Failure> {
    let quick = scenario::QUICK.map(str::to_owned);
    let names: &[String] = if wanted.scenario.is_empty() { &quick } else { &wanted.scenario };
    names.iter().map(|name| scenario::named(name)).collect()
}

/// The wanted peers that are here; of the others it says how they are installed.
fn installed(wanted: &Compare, places: &Places) -> Result<Vec<(Peer, PathBuf)>, Failure> {
    let wanted: Vec<Peer> = match wanted.peer.is_empty() {
        true => peers::ALL.into_iter().filter(|peer| !(wanted.quick && peer.is_extra())).collect(),
        false => wanted.peer.iter().map(|name| peers::named(name)).collect::<Result<_, _>>()?,
    };
    let mut found = Vec::new();
    for peer in wanted {
        match (peer.find)(places) {
            Some(program) => found.push((peer, program)),
            None => eprintln!(
                "{} is not installed and left out; this installs it: {}",
                peer.name,
                peer.install_line(places)
            ),
        }
    }
    if found.is_empty() { Err("none of the wanted peers is installed".into()) } else { Ok(found) }
}

fn stage(wanted: &Compare) -> Result<Stage, Failure> {
    let sim = std::env::current_exe()?.with_file_name("sluice-sim");
    if !sim.exists() {
        return Err(format!(
            "no simulated server at {}: cargo build --release -p sluice-sim",
            sim.display()
        )
        .into());
    }
    let scratch = std::env::temp_dir().join(format!("sluice-perf-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let place = servers::Place { sim, cpu: wanted.load_cpu, dir: scratch.clone() };
    let cpus = record::machine::cpus().saturating_sub(wanted.proxy_cpu).max(1);
    Ok(Stage { place, proxy_cpu: wanted.proxy_cpu, scratch, cpus, stretch: wanted.stretch })
}

/// Notes versions and configurations; the addresses in them are examples.
fn introduce(
    book: &Book,
    stage: &Stage,
    installed: &[(Peer, PathBuf)],
    places: &Places,
) -> Result<(), Failure> {
    let upstreams = ["127.0.0.1:9001".parse()?, "127.0.0.1:9002".parse()?];
    for (peer, program) in installed {
        let dir = stage.scratch.join(peer.name);
        std::fs::create_dir_all(&dir)?;
        let wanted = peers::Wanted {
            program,
            listen: "127.0.0.1:8080".parse()?,
            upstreams: &upstreams,
            dir: &dir,
            cpus: 1,
        };
        let plan = (peer.plan)(&wanted)?;
        let version = peer.version_of(program, places);
        book.meet(peer.name, &version, &plan.config, &peer.install_line(places))?;
    }
    Ok(())
}

/// A comparison under way.
struct Contest<'a> {
    wanted: &'a Compare,
    stage: Stage,
    installed: Vec<(Peer, PathBuf)>,
    book: Book,
    /// Every knee that was found, by entrant.
    knees: BTreeMap<String, Vec<Knee>>,
}

impl Contest<'_> {
    fn rounds(&self) -> u32 {
        if self.wanted.quick { self.wanted.rounds.min(QUICK_ROUNDS) } else { self.wanted.rounds }
    }

    /// All rounds of a scenario. A peer that fails is named and left out of that round.
    fn scenario(&mut self, scenario: &Scenario) -> Result<(), Failure> {
        eprintln!("\n{}: {}", scenario.name, scenario.shows);
        for round in 0..self.rounds() {
            eprintln!(" round {} of {}", round + 1, self.rounds());
            let mut entrants = self.entrants(scenario);
            order(&mut entrants, round);
            let mut known = knee::Baseline::default();
            let mut rows = Vec::new();
            for entrant in &mut entrants {
                match self.measure(scenario, entrant, &mut known) {
                    Ok(measured) => rows.extend(measured),
                    Err(failure) => eprintln!("  {:18} not measured: {failure}", entrant.name),
                }
            }
            for row in &mut rows {
                row.round = round;
                row.command = self.command(scenario, &row.peer);
                row.machine_ref = self.book.machine_ref;
            }
            relate(&mut rows);
            self.book.keep(&rows)?;
        }
        Ok(())
    }

    fn entrants(&self, scenario: &Scenario) -> Vec<Entrant> {
        let takes_part = |peer: &Peer| match (scenario.goal, scenario.peers) {
            (Goal::Shards, _) => peer.name.starts_with("sluice@"),
            _ if scenario.knee_share().is_some() => peer.name != DIRECT,
            (_, Who::Balancing) => peer.balances || peer.name == DIRECT,
            (_, Who::All) => true,
        };
        let here = self.installed.iter().filter(|(peer, _)| takes_part(peer));
        let entrants = here.flat_map(|(peer, program)| {
            let workers = if scenario.goal == Goal::Shards { self.stage.cpus } else { 1 };
            (1..=workers).map(move |workers| Entrant {
                name: match scenario.goal {
                    Goal::Shards => format!("{} x{workers}", peer.name),
                    _ => peer.name.to_owned(),
                },
                peer: *peer,
                program: program.clone(),
                workers,
                rate: None,
            })
        });
        entrants.collect()
    }

    /// Measures an entrant; where the rate is its own, no proxy at that rate too.
    fn measure(
        &mut self,
        scenario: &Scenario,
        entrant: &mut Entrant,
        known: &mut knee::Baseline,
    ) -> Result<Vec<Row>, Failure> {
        if scenario.goal == Goal::Knee {
            let row = self.stage.knee(scenario, entrant, known)?;
            self.learn(entrant, row.knee);
            return Ok(vec![told(row)]);
        }
        let Some(share) = scenario.knee_share() else {
            return Ok(vec![told(self.stage.measure(scenario, entrant)?)]);
        };
        let knee = self.knee_of(entrant, known)?;
        entrant.rate = Some(knee.per_second * share);
        let row = self.stage.measure(scenario, entrant)?;
        let direct = Entrant {
            name: format!("{DIRECT}@{}", entrant.name),
            peer: peers::named(DIRECT)?,
            program: PathBuf::new(),
            workers: 1,
            rate: entrant.rate,
        };
        let without = self.stage.measure(scenario, &direct)?;
        let row = Row { knee: Some(knee), direct: Some(direct.name), ..row };
        Ok(vec![told(row), without])
    }

    /// The peer's knee: the middle one of those that were found, or one that is looked for now.
    fn knee_of(&mut self, entrant: &Entrant, known: &mut knee::Baseline) -> Result<Knee, Failure> {
        if !self.knees.contains_key(&entrant.name) {
            let row = self.stage.knee(&scenario::named("knee")?, entrant, known)?;
            eprintln!("  {}", table::line(&row));
            self.learn(entrant, row.knee);
        }
        let mut found = self.knees.get(&entrant.name).cloned().unwrap_or_default();
        found.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
        found.get(found.len() / 2).copied().ok_or_else(|| "it has no knee".into())
    }

    fn learn(&mut self, entrant: &Entrant, knee: Option<Knee>) {
        self.knees.entry(entrant.name.clone()).or_default().extend(knee);
    }

    fn command(&self, scenario: &Scenario, peer: &str) -> String {
        let peer = peer.split(' ').next().unwrap_or(peer);
        let mut with = vec![DIRECT, FLOOR, peer];
        with.dedup();
        let mut said = format!(
            "sluice-perf compare --scenario {} --peer {} --rounds {}",
            scenario.name,
            with.join(","),
            self.rounds()
        );
        if self.wanted.stretch != 1.0 {
            said += &format!(" --stretch {}", self.wanted.stretch);
        }
        if self.wanted.realtime {
            said += " --realtime";
        }
        said
    }
}

/// Says on the way what was measured.
fn told(row: Row) -> Row {
    eprintln!("  {}", table::line(&row));
    row
}

/// Who comes first changes from round to round, and so does the direction.
fn order(entrants: &mut [Entrant], round: u32) {
    if let Some(by) = (round as usize / 2).checked_rem(entrants.len()) {
        entrants.rotate_left(by);
    }
    if !round.is_multiple_of(2) {
        entrants.reverse();
    }
}

/// Lays the rows of one round beside those without a proxy and beside the floor's: of the same driver, where
/// that is Sluice's other one.
fn relate(rows: &mut [Row]) {
    let each = |name: &str| rows.iter().find(|row| row.peer == name).and_then(Row::each_us);
    let direct = rows.iter().any(|row| row.peer == DIRECT).then(|| DIRECT.to_owned());
    let (floor, floor_epoll) = (each(FLOOR), each(FLOOR_EPOLL));
    for row in rows.iter_mut().filter(|row| row.proxy.is_some()) {
        row.direct = row.direct.take().or_else(|| direct.clone());
        let epoll = row.peer.starts_with("sluice@epoll") || row.peer == FLOOR_EPOLL;
        let below = if epoll { floor_epoll.or(floor) } else { floor };
        let ratio = row.each_us().zip(below).map(|(own, floor)| own / floor);
        if let Some(proxy) = &mut row.proxy {
            proxy.floor_ratio = ratio.filter(|ratio| ratio.is_finite());
        }
    }
}
