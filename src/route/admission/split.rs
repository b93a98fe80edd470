//! How an endpoint's places should be split between shards.
//!
//! While there is enough, every shard has what it asks for and an equal part of the rest. Where there is
//! not, places go by pull: how many tenants wait in a shard (each counted in the parts in which it is
//! spread over shards), times how long a place is taken there for a token. So tenants get equal shares in
//! tokens, wherever their connections happen to be.
//!
//! Invariant: the parts never exceed the capacity, and are all of it if anybody wants it.

/// What one shard wants of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Claim {
    pub used: u32,
    /// Requests that wait for a place there.
    pub waiting: u32,
    /// Its weight against the others' where there is not enough.
    pub pull: f64,
}

impl Claim {
    fn demand(&self) -> u32 {
        self.used.saturating_add(self.waiting)
    }
}

/// Fractions of places that a shard was owed, or had too much, when whole ones were given out.
pub type Owed = f64;

/// Splits `capacity`; `owed` is kept from one split to the next. The parts are written into `parts`, which
/// holds what each shard was last given.
pub fn split(capacity: u32, claims: &[Claim], owed: &mut [Owed], parts: &mut [u32]) {
    let total: u64 = claims.iter().map(|claim| u64::from(claim.demand())).sum();
    let given: u64 = parts.iter().map(|part| u64::from(*part)).sum();
    let sated = claims.iter().zip(&*parts).all(|(claim, part)| claim.demand() <= *part);
    if sated && given == u64::from(capacity) {
        return;
    }
    let ideal = match total <= u64::from(capacity) {
        true => spread(capacity, claims),
        false => weigh(capacity, claims),
    };
    round(capacity, &ideal, owed, parts);
}

/// There is enough: to each what it asks for, and an equal part of the rest.
fn spread(capacity: u32, claims: &[Claim]) -> Vec<f64> {
    let total: f64 = claims.iter().map(|claim| f64::from(claim.demand())).sum();
    let rest = (f64::from(capacity) - total) / claims.len().max(1) as f64;
    claims.iter().map(|claim| f64::from(claim.demand()) + rest).collect()
}

/// There is not: by pull, but to nobody more than it asks for.
fn weigh(capacity: u32, claims: &[Claim]) -> Vec<f64> {
    let pull = |claim: &Claim| match claim.pull.is_finite() && claim.pull > 0.0 {
        true => claim.pull,
        // Who has work and no weight yet must not starve for it.
        false => 1e-6,
    };
    let mut ideal: Vec<f64> = vec![0.0; claims.len()];
    let mut open: Vec<usize> = (0..claims.len()).filter(|at| claims[*at].demand() > 0).collect();
    let mut rest = f64::from(capacity);
    loop {
        let weight: f64 = open.iter().map(|at| pull(&claims[*at])).sum();
        let part = |at: usize| rest * pull(&claims[at]) / weight;
        let sated = |at: &usize| f64::from(claims[*at].demand()) <= part(*at);
        let (full, hungry): (Vec<usize>, Vec<usize>) = open.iter().copied().partition(sated);
        if full.is_empty() || hungry.is_empty() {
            open.iter().for_each(|at| ideal[*at] = part(*at));
            return ideal;
        }
        for at in full {
            ideal[at] = f64::from(claims[at].demand());
            rest -= ideal[at];
        }
        open = hungry;
    }
}

/// Whole places: what is left over goes to whom most is owed, and the debt is remembered.
fn round(capacity: u32, ideal: &[f64], owed: &mut [Owed], parts: &mut [u32]) {
    let mut left = capacity;
    for (part, ideal) in parts.iter_mut().zip(ideal) {
        *part = (ideal.max(0.0) as u32).min(left);
        left -= *part;
    }
    let due = |at: usize, parts: &[u32], owed: &[Owed]| match ideal[at] > 0.0 {
        true => ideal[at] - f64::from(parts[at]) + owed[at],
        false => f64::NEG_INFINITY,
    };
    while left > 0 && !ideal.is_empty() {
        let most =
            (0..ideal.len()).max_by(|a, b| due(*a, parts, owed).total_cmp(&due(*b, parts, owed)));
        parts[most.unwrap_or(0)] += 1;
        left -= 1;
    }
    for ((owed, ideal), part) in owed.iter_mut().zip(ideal).zip(&*parts) {
        *owed = (*owed + ideal - f64::from(*part)).clamp(-1.0, 1.0);
    }
}
