//! Look-up and decision of one request whose prompt has been read: 32 KB, 64 endpoints, a table of 64 MiB
//! that is 70 % full, one of ten thousand conversations, so that its entries are in no processor cache.
//!
//! Each decision is timed by itself, and the median of a run stands for the run.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use sluice::route::chain::Chain;
use sluice_bench::rig::{CONVERSATIONS, Rig, prompt};

const PROMPT_BYTES: usize = 32 * 1024;

/// Decides for the conversations from `first` on, in an order without a pattern.
fn measure(c: &mut Criterion, rig: &mut Rig, name: &str, first: u64, bytes: usize) {
    let mut number = 0;
    let mut chain = Chain::default();
    c.bench_function(name, |b| {
        b.iter_custom(|runs| {
            let mut times: Vec<Duration> = (0..runs.min(20_000))
                .map(|_| {
                    number = (number + 7_919) % CONVERSATIONS;
                    prompt(&mut chain, first + number, bytes);
                    let start = Instant::now();
                    black_box(rig.decide(black_box(&chain)));
                    start.elapsed()
                })
                .collect();
            times.sort_unstable();
            times[times.len() / 2] * u32::try_from(runs).unwrap_or(u32::MAX)
        });
    });
}

fn benches(c: &mut Criterion) {
    let mut rig = Rig::new(CONVERSATIONS, PROMPT_BYTES - 2_000, 0.7);
    println!("table: {:?}", rig.router.table().stats());
    measure(c, &mut rig, "decide growing 32 KB", 0, PROMPT_BYTES);
    measure(c, &mut rig, "decide cold 32 KB", CONVERSATIONS * 10, PROMPT_BYTES);
}

criterion_group!(all, benches);
criterion_main!(all);
