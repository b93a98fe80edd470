//! Tenants against each other, in virtual time: places, queues and shares together.

use crate::route::admission::fair::{Bounds, Entry, FairQueue};
use crate::route::admission::split::{Claim, split};

/// A tenant: how many requests it always wants to have under way, their size, and at which shards.
#[derive(Clone)]
struct Tenant {
    wants: usize,
    tokens: u32,
    /// Of each eight requests, so many are sent to the first shard.
    at_first: usize,
}

/// One request under way: its tenant, its tokens and when it ends.
struct Running {
    tenant: usize,
    tokens: u32,
    ends: u64,
}

struct Shard {
    queue: FairQueue<usize>,
    running: Vec<Running>,
    part: u32,
    /// Place-time taken by tokens, for the bank.
    place_time: f64,
    tokens: f64,
}

struct World {
    tenants: Vec<Tenant>,
    shards: Vec<Shard>,
    served: Vec<u64>,
    sent: Vec<usize>,
    owed: Vec<f64>,
    now: u64,
}

const CAPACITY: u32 = 12;

impl World {
    fn new(tenants: &[Tenant], shards: usize) -> Self {
        let bounds = Bounds { requests_max: 200, bytes_max: 1 << 30 };
        let shard = || Shard {
            queue: FairQueue::new(bounds),
            running: Vec::new(),
            part: CAPACITY / shards as u32,
            place_time: 0.0,
            tokens: 0.0,
        };
        World {
            tenants: tenants.to_vec(),
            shards: (0..shards).map(|_| shard()).collect(),
            served: vec![0; tenants.len()],
            sent: vec![0; tenants.len()],
            owed: vec![0.0; shards],
            now: 0,
        }
    }

    /// Tokens of a tenant at one shard, waiting or under way.
    fn stake(&self, tenant: usize, shard: usize) -> f64 {
        let shard = &self.shards[shard];
        let running = shard.running.iter().filter(|one| one.tenant == tenant);
        let running: f64 = running.map(|one| f64::from(one.tokens)).sum();
        running + f64::from(self.tenants[tenant].tokens) * self.waiting(tenant, shard) as f64
    }

    fn waiting(&self, tenant: usize, shard: &Shard) -> usize {
        let mut count = 0;
        let _ = shard.queue.next(|one| {
            count += usize::from(*one == tenant);
            false
        });
        count
    }

    /// The part of a tenant that is at one shard.
    fn weight(&self, tenant: usize, shard: usize) -> f64 {
        let all: f64 = (0..self.shards.len()).map(|at| self.stake(tenant, at)).sum();
        if all > 0.0 { self.stake(tenant, shard) / all } else { 0.0 }
    }

    fn under_way(&self, tenant: usize) -> usize {
        let running =
            |shard: &Shard| shard.running.iter().filter(|one| one.tenant == tenant).count();
        self.shards.iter().map(|shard| running(shard) + self.waiting(tenant, shard)).sum()
    }

    fn send(&mut self) {
        for at in 0..self.tenants.len() {
            while self.under_way(at) < self.tenants[at].wants {
                let number = self.sent[at] % 8;
                self.sent[at] += 1;
                let first = number < self.tenants[at].at_first;
                let shard = if first { 0 } else { self.shards.len() - 1 };
                let tokens = self.tenants[at].tokens;
                let entry = Entry { tenant: at as u64, class: 1, tokens, bytes: 1 };
                if self.shards[shard].queue.push(entry, at).is_err() {
                    break;
                }
            }
        }
    }

    fn rebalance(&mut self) {
        let claims: Vec<Claim> = (0..self.shards.len())
            .map(|at| {
                let shard = &self.shards[at];
                let tenants = (0..self.tenants.len()).filter(|t| self.waiting(*t, shard) > 0);
                let weight: f64 = tenants.map(|tenant| self.weight(tenant, at)).sum();
                let pace = if shard.tokens > 0.0 { shard.place_time / shard.tokens } else { 1.0 };
                let (used, waiting) = (shard.running.len() as u32, shard.queue.len() as u32);
                Claim { used, waiting, pull: weight * pace }
            })
            .collect();
        let mut parts: Vec<u32> = self.shards.iter().map(|shard| shard.part).collect();
        split(CAPACITY, &claims, &mut self.owed, &mut parts);
        self.shards.iter_mut().zip(parts).for_each(|(shard, part)| shard.part = part);
    }

    fn serve(&mut self) {
        let now = self.now;
        for at in 0..self.shards.len() {
            self.shards[at].running.retain(|one| one.ends > now);
            loop {
                let all: usize = self.shards.iter().map(|shard| shard.running.len()).sum();
                let shard = &self.shards[at];
                if shard.running.len() as u32 >= shard.part || all as u32 >= CAPACITY {
                    break;
                }
                let Some(id) = shard.queue.next(|_| true) else { break };
                let tenant = *shard.queue.get(id).expect("it waits");
                let weight = self.weight(tenant, at);
                let tokens = self.tenants[tenant].tokens;
                // A part of the time is everybody's, as that of an answer is.
                let takes = 20 + u64::from(tokens) / 50;
                let shard = &mut self.shards[at];
                shard.queue.serve(id, tokens, weight);
                shard.running.push(Running { tenant, tokens, ends: now + takes });
                shard.place_time += takes as f64;
                shard.tokens += f64::from(tokens);
                self.served[tenant] += u64::from(tokens);
            }
        }
    }

    /// Jain's index over the tokens that tenants were served.
    fn run(mut self, steps: u64) -> f64 {
        for _ in 0..steps {
            self.now += 1;
            self.send();
            if self.now.is_multiple_of(4) {
                self.rebalance();
            }
            self.serve();
        }
        let served: Vec<f64> = self.served.iter().map(|tokens| *tokens as f64).collect();
        let sum: f64 = served.iter().sum();
        let squares: f64 = served.iter().map(|one| one * one).sum();
        sum * sum / (served.len() as f64 * squares)
    }
}

fn tenant(wants: usize, tokens: u32, at_first: usize) -> Tenant {
    Tenant { wants, tokens, at_first }
}

/// One tenant asks for ten times as much as the others.
#[test]
fn on_one_shard_tenants_get_equal_tokens() {
    let mut tenants = vec![tenant(8, 1_000, 8); 5];
    tenants[0].wants = 80;
    let jain = World::new(&tenants, 1).run(20_000);
    assert!(jain >= 0.99, "{jain}");
    // Large and small requests, too.
    let mixed = [tenant(80, 300, 8), tenant(8, 4_000, 8), tenant(16, 1_000, 8), tenant(30, 200, 8)];
    let jain = World::new(&mixed, 1).run(40_000);
    assert!(jain >= 0.95, "{jain}");
}

#[test]
fn over_shards_tenants_get_equal_tokens_wherever_they_are() {
    // The greedy one alone on the first shard, the others together on the second.
    let mut apart = vec![tenant(8, 1_000, 0); 5];
    apart[0] = tenant(80, 1_000, 8);
    let jain = World::new(&apart, 2).run(20_000);
    assert!(jain >= 0.95, "apart: {jain}");
    // The greedy one everywhere.
    let mut spread = vec![tenant(12, 1_000, 0); 5];
    spread[0] = tenant(100, 1_000, 4);
    let jain = World::new(&spread, 2).run(20_000);
    assert!(jain >= 0.95, "spread: {jain}");
    // Everybody everywhere, with requests of different sizes.
    let mixed =
        [tenant(100, 300, 4), tenant(10, 3_000, 2), tenant(20, 1_000, 6), tenant(40, 300, 4)];
    let jain = World::new(&mixed, 2).run(40_000);
    assert!(jain >= 0.95, "mixed: {jain}");
}
