//! The runs: one seed each.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::book::Book;
use super::check::{Excuses, judge};
use super::gateway::{self, Gateway};
use super::secure::Secure;
use super::server::Habits;
use super::{client, server};
use crate::runtime::clock;
use crate::runtime::twin::faults::Faults;
use crate::runtime::twin::{Report, World, run, sleep, world};
use crate::shard::link::Command;

/// How long the usual run may take.
const BUDGET: Duration = Duration::from_secs(15);
/// Seeds that are run whatever the time.
const SEEDS_MIN: u64 = 12;

/// Runs seeds from `first` until the time is used up, or the number that the environment asks for.
fn sweep(first: u64, simulate: impl Fn(u64) -> Report) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("SLUICE_SEED") {
        simulate(seed);
        return;
    }
    let began = Instant::now();
    let asked = number("SLUICE_SEEDS");
    let mut polls = 0;
    for at in 0.. {
        let enough = match asked {
            Some(count) => at >= count,
            None => at >= SEEDS_MIN && began.elapsed() > BUDGET,
        };
        if enough {
            println!("{at} seeds, {polls} polls in {:?}", began.elapsed());
            return;
        }
        polls += simulate(first + at).polls;
    }
}

fn simulate(seed: u64) -> Report {
    simulated(seed, false)
}

/// All connections are under TLS.
fn simulate_secure(seed: u64) -> Report {
    simulated(seed, true)
}

/// One world: what may go wrong in it is drawn, too.
fn simulated(seed: u64, secure: bool) -> Report {
    let (faults, report) = run(seed, Faults::ROUGH, move || whole(seed, secure));
    assert!(
        faults.is_empty(),
        "seed {seed}: replay with SLUICE_SEED={seed}\n{}",
        faults.join("\n")
    );
    report
}

async fn whole(seed: u64, secure: bool) -> Vec<String> {
    let world = world();
    let network = world.below(3) == 0;
    world.set_faults([Faults::NONE, Faults::ROUGH, Faults::ROUGH][world.below(3) as usize]);
    if network {
        world.set_faults(Faults::BROKEN);
    }
    let accidents = [0, 100_000, 400_000][world.below(3) as usize];
    let keep_alive_max = world.between(Duration::from_millis(30), Duration::from_secs(3));
    let book = Rc::new(Book::default());
    if secure {
        let _ = book.secure.set(Secure::new());
    }
    let count = 1 + world.below(3) as usize;
    for at in 0..count {
        let habits = Habits { accidents, keep_alive_max };
        server::start(&book, gateway::endpoint_address(at), habits);
    }
    let tight = "answer_hold_bytes_max = 4096\nanswer_hold_bytes_per_shard_max = 4096\n\
                 pipeline_bytes_max = 1024";
    let more = ["", tight];
    let more = more[world.below(2) as usize];
    let plan = gateway::crowded(count, more, places(&world), 1);
    let gateway = Gateway::start(book.secured(plan), seed);
    for number in 0..2 + world.below(7) as usize {
        client::start(&book, number, 1 + world.below(3));
    }
    let drained = live(&book, &gateway, count, more).await;
    let calm = Faults { broken: 0, stalled: 0, ..world.faults() };
    world.set_faults(calm);
    if let Err(fault) = gateway.rest().await {
        return vec![fault];
    }
    let slack = Duration::from_millis(150) + world.jumped();
    let slack = slack + if network { Faults::BROKEN.stall_max } else { Duration::ZERO };
    let excuses = Excuses { network, drained, strayed: book.strayed.get(), slack };
    judge(&book, &gateway, &excuses, clock::now())
}

/// How many requests an endpoint takes at once: any number, or a few.
fn places(world: &World) -> u64 {
    [0, 0, 1, 2][world.below(4) as usize]
}

/// Waits for the clients, with a reload or a drain in between; whether there was a drain.
async fn live(book: &Book, gateway: &Gateway, endpoints: usize, more: &str) -> bool {
    let world = world();
    let mut drained = false;
    let mut stop_at = None;
    let drain_at = match world.below(6) {
        0 => Some(clock::now().after(world.between(Duration::ZERO, Duration::from_secs(5)))),
        _ => None,
    };
    while book.clients.get() > 0 {
        sleep(Duration::from_millis(50)).await;
        gateway.collect();
        if world.below(40) == 0 {
            let kept = 1 + world.below(endpoints as u64) as usize;
            let places = places(&world);
            gateway.reload(|generation| {
                book.secured(gateway::crowded(kept, more, places, generation))
            });
        }
        if drain_at.is_some_and(|at| clock::now() >= at) && !drained {
            drained = true;
            gateway.shard.tell(Command::Drain);
            let patience = world.between(Duration::ZERO, Duration::from_secs(5));
            stop_at = (world.below(2) == 0).then(|| clock::now().after(patience));
        }
        if stop_at.take_if(|at| clock::now() >= *at).is_some() {
            gateway.shard.tell(Command::Stop);
        }
    }
    drained
}

#[test]
fn many_seeds() {
    sweep(1, simulate);
}

#[test]
fn many_seeds_under_tls() {
    sweep(1, simulate_secure);
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [3, 17, 40, 41] {
        let first = simulate(seed);
        assert_eq!(first, simulate(seed), "seed {seed}");
        // Records are other bytes each time, of the same lengths at the same moments.
        let (first, again) = (simulate_secure(seed), simulate_secure(seed));
        let what = |report: &Report| (report.ended, report.polls);
        assert_eq!(what(&first), what(&again), "seed {seed}, under TLS");
    }
}
