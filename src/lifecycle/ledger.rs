//! Conserved counts, one row per [`Kind`], owned by one shard.

use std::cell::Cell;
use std::rc::Rc;

use super::kind::Kind;
use super::permit::{Permit, Resource};

/// One kind's count. Plain integers: a shard is one thread.
#[derive(Default)]
struct Row {
    issued: Cell<u64>,
    returned: Cell<u64>,
    /// Counted on its own, so that the invariant can fail.
    outstanding: Cell<u64>,
    /// Most that may be outstanding at once, in the kind's unit.
    limit: Cell<u64>,
}

/// A shard's ledgers.
pub struct Ledgers {
    rows: [Row; Kind::ALL.len()],
}

/// What a ledger says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub issued: u64,
    pub returned: u64,
    /// What is out at this moment.
    pub outstanding: u64,
}

impl Ledgers {
    /// Ledgers without limits; see [`Ledgers::set_limit`].
    pub fn new() -> Rc<Self> {
        let rows: [Row; Kind::ALL.len()] = Default::default();
        for row in &rows {
            row.limit.set(u64::MAX);
        }
        Rc::new(Self { rows })
    }

    /// Bounds what may be outstanding of `kind` from now on; what is out stays out.
    pub fn set_limit(&self, kind: Kind, limit: u64) {
        self.row(kind).limit.set(limit);
    }

    /// Takes `n` of `R`, or `None` where the limit would be passed.
    pub fn take<R: Resource>(self: &Rc<Self>, n: u64) -> Option<Permit<R>> {
        self.issue(R::KIND, n).then(|| Permit::issued(self.clone(), n))
    }

    /// Reads one row.
    pub fn read(&self, kind: Kind) -> Reading {
        let row = self.row(kind);
        Reading {
            issued: row.issued.get(),
            returned: row.returned.get(),
            outstanding: row.outstanding.get(),
        }
    }

    /// Checks the invariant for every kind: the first that breaks it, which is a bug.
    pub fn unbalanced(&self) -> Option<(Kind, Reading)> {
        Kind::ALL
            .into_iter()
            .map(|kind| (kind, self.read(kind)))
            .find(|(_, now)| now.issued != now.returned + now.outstanding)
    }

    /// The kinds of which something is still out, with the amount.
    pub fn outstanding(&self) -> Vec<(Kind, u64)> {
        Kind::ALL
            .into_iter()
            .map(|kind| (kind, self.read(kind).outstanding))
            .filter(|(_, out)| *out > 0)
            .collect()
    }

    pub(super) fn issue(&self, kind: Kind, n: u64) -> bool {
        let row = self.row(kind);
        let outstanding = row.outstanding.get().saturating_add(n);
        if outstanding > row.limit.get() {
            return false;
        }
        let Some(issued) = row.issued.get().checked_add(n) else { return false };
        row.outstanding.set(outstanding);
        row.issued.set(issued);
        true
    }

    pub(super) fn give(&self, kind: Kind, n: u64) {
        let row = self.row(kind);
        let left = row.outstanding.get().checked_sub(n);
        row.outstanding.set(left.expect("a permit gives back what it took, once"));
        row.returned.set(row.returned.get() + n);
    }

    fn row(&self, kind: Kind) -> &Row {
        &self.rows[kind as usize]
    }
}
