//! Formatted rows that remember which shard they came from.

use crate::telemetry::Row;

/// Rows in one batch.
const ROWS_MAX: usize = 256;

/// Lines ready to be written.
#[derive(Debug, Default)]
pub struct Batch {
    pub bytes: Vec<u8>,
    /// For each row: its shard, and where it ends in `bytes`.
    rows: Vec<(usize, usize)>,
    /// Rows already settled.
    settled: usize,
}

impl Batch {
    /// Takes rows from `shards` queues in turn until there is nothing left or the batch is full.
    pub fn fill(
        &mut self,
        shards: usize,
        take: impl Fn(usize) -> Option<Row>,
        format: fn(&mut Vec<u8>, &Row),
    ) {
        self.clear();
        let mut dry = false;
        while !dry && self.rows.len() + shards <= ROWS_MAX.max(shards) {
            dry = true;
            for shard in 0..shards {
                let Some(row) = take(shard) else { continue };
                format(&mut self.bytes, &row);
                self.rows.push((shard, self.bytes.len()));
                dry = false;
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.rows.clear();
        self.settled = 0;
    }

    /// Whether every row is settled.
    pub fn is_done(&self) -> bool {
        self.settled == self.rows.len()
    }

    /// Calls `each(shard)` for every unsettled row that ends within the first `bytes` bytes.
    pub fn settle(&mut self, bytes: usize, mut each: impl FnMut(usize)) {
        while let Some((shard, _)) = self.rows.get(self.settled).filter(|(_, end)| *end <= bytes) {
            each(*shard);
            self.settled += 1;
        }
    }

    /// Where the first unsettled row begins.
    pub fn boundary(&self) -> usize {
        self.settled.checked_sub(1).map_or(0, |last| self.rows[last].1)
    }
}
