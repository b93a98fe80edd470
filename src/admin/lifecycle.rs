//! `/debug/lifecycle`: every shard's ledgers, and their sums.

use std::collections::BTreeMap;

use serde::Serialize;

use super::state::State;
use crate::lifecycle::kind::Kind;
use crate::telemetry::ledger::{Entry, KINDS};
use crate::telemetry::{Registry, Rows, ShardState};

/// The answer's body.
#[derive(Debug, Serialize)]
pub struct Lifecycle {
    /// Every kind of every shard: issued = returned + outstanding, and never was otherwise.
    pub balanced: bool,
    /// Nothing is outstanding.
    pub clear: bool,
    pub generation: u64,
    pub shards: Vec<ShardLedgers>,
    pub sum: BTreeMap<&'static str, Numbers>,
}

/// One shard's part.
#[derive(Debug, Serialize)]
pub struct ShardLedgers {
    pub shard: usize,
    pub state: &'static str,
    /// Of the plan that new requests get.
    pub generation: u64,
    /// Epochs whose ledgers did not balance.
    pub faults: u64,
    /// Absent if the shard was writing all the while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kinds: Option<BTreeMap<&'static str, Numbers>>,
    pub rows: RowNumbers,
}

/// One kind's numbers.
#[derive(Debug, Serialize)]
pub struct Numbers {
    pub issued: u64,
    pub returned: u64,
    pub outstanding: u64,
    pub balanced: bool,
}

/// A shard's log rows.
#[derive(Debug, Serialize)]
pub struct RowNumbers {
    pub access_offered: u64,
    pub access_written: u64,
    pub access_dropped: u64,
    pub usage_written: u64,
    pub usage_places_taken: u64,
    pub usage_places: u64,
}

impl From<&Rows> for RowNumbers {
    fn from(rows: &Rows) -> Self {
        Self {
            access_offered: rows.access.offered(),
            access_written: rows.access.written(),
            access_dropped: rows.access.dropped(),
            usage_written: rows.usage.written(),
            usage_places_taken: rows.usage.taken(),
            usage_places: rows.usage.capacity(),
        }
    }
}

impl From<&Entry> for Numbers {
    fn from(entry: &Entry) -> Self {
        let Entry { issued, returned, outstanding } = *entry;
        Self { issued, returned, outstanding, balanced: entry.balanced() }
    }
}

/// All shards' ledgers as last published.
pub fn report(state: &State) -> Lifecycle {
    let registry = &state.registry;
    let boards: Vec<_> = registry.shards.iter().map(|shard| shard.ledgers.read()).collect();
    let mut sum = [Entry::default(); KINDS];
    for board in boards.iter().flatten() {
        for (total, entry) in sum.iter_mut().zip(board) {
            *total = total.plus(entry);
        }
    }
    let shard = |(index, board): (usize, &Option<[Entry; KINDS]>)| ShardLedgers {
        shard: index,
        state: registry.shards[index].state().name(),
        generation: registry.shards[index].plan_generation.get(),
        faults: registry.shards[index].ledger_faults.get(),
        kinds: board.as_ref().map(by_kind),
        rows: RowNumbers::from(&*registry.rows[index]),
    };
    Lifecycle {
        balanced: balanced(registry),
        clear: boards.iter().all(|board| board.as_ref().is_some_and(clear)),
        generation: state.plan.generation,
        shards: boards.iter().enumerate().map(shard).collect(),
        sum: by_kind(&sum),
    }
}

fn by_kind(entries: &[Entry; KINDS]) -> BTreeMap<&'static str, Numbers> {
    Kind::ALL.iter().zip(entries).map(|(kind, entry)| (kind.name(), entry.into())).collect()
}

fn clear(entries: &[Entry; KINDS]) -> bool {
    entries.iter().all(|entry| entry.outstanding == 0)
}

fn balanced(registry: &Registry) -> bool {
    registry.shards.iter().all(|shard| {
        let board = shard.ledgers.read();
        shard.ledger_faults.get() == 0
            && board.is_some_and(|entries| entries.iter().all(Entry::balanced))
    })
}

/// Whether every shard drained and gave everything back.
pub fn settled(registry: &Registry) -> bool {
    let settled = |shard: &crate::telemetry::ShardSeries| {
        shard.state() == ShardState::Drained && shard.ledgers.read().as_ref().is_some_and(clear)
    };
    balanced(registry) && registry.shards.iter().all(|shard| settled(shard))
}
