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
}

impl Reading {
    /// What is out at this moment.
    pub fn outstanding(self) -> u64 {
        self.issued - self.returned
    }
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
        Reading { issued: row.issued.get(), returned: row.returned.get() }
    }

    /// Asserts the invariant for every kind.
    ///
    /// # Panics
    /// When more came back than went out: a bug that must not be served over.
    pub fn assert_balanced(&self) {
        for kind in Kind::ALL {
            let now = self.read(kind);
            assert!(now.returned <= now.issued, "ledger {}: {now:?}", kind.name());
        }
    }

    /// The kinds of which something is still out, with the amount.
    pub fn outstanding(&self) -> Vec<(Kind, u64)> {
        Kind::ALL
            .into_iter()
            .map(|kind| (kind, self.read(kind).outstanding()))
            .filter(|(_, out)| *out > 0)
            .collect()
    }

    pub(super) fn issue(&self, kind: Kind, n: u64) -> bool {
        let row = self.row(kind);
        let issued = row.issued.get() + n;
        if issued - row.returned.get() > row.limit.get() {
            return false;
        }
        row.issued.set(issued);
        true
    }

    pub(super) fn give(&self, kind: Kind, n: u64) {
        let row = self.row(kind);
        let returned = row.returned.get() + n;
        assert!(returned <= row.issued.get(), "ledger {}: returned twice", kind.name());
        row.returned.set(returned);
    }

    fn row(&self, kind: Kind) -> &Row {
        &self.rows[kind as usize]
    }
}
