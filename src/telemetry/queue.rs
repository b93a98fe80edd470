//! Rows on their way from a shard to the log writer.
//!
//! Access rows may be lost, never unnoticed: offered = written + dropped once the queue is empty.
//! Usage rows may not be lost: a place is bought before the request is admitted and stays taken
//! until the row is written. Invariant: reserved − cancelled − written ≤ capacity, so a push always
//! fits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;

use super::cell::Counter;
use super::row::Row;

/// A shard's two queues.
#[derive(Debug)]
pub struct Rows {
    pub access: AccessQueue,
    pub usage: Arc<UsageQueue>,
}

impl Rows {
    /// Queues of `rows_max` rows each.
    pub fn new(rows_max: usize) -> Self {
        Self { access: AccessQueue::new(rows_max), usage: Arc::new(UsageQueue::new(rows_max)) }
    }
}

/// Access rows: one producer (the shard), one consumer (the access writer).
#[derive(Debug)]
pub struct AccessQueue {
    rows: ArrayQueue<Row>,
    offered: Counter,
    full: Counter,
    written: Counter,
    failed: Counter,
}

impl AccessQueue {
    /// A queue of `rows_max` rows (at least one).
    pub fn new(rows_max: usize) -> Self {
        Self {
            rows: ArrayQueue::new(rows_max.max(1)),
            offered: Counter::default(),
            full: Counter::default(),
            written: Counter::default(),
            failed: Counter::default(),
        }
    }

    /// Shard side: hands a row over, or counts it as dropped.
    pub fn offer(&self, row: Row) {
        self.offered.inc();
        if self.rows.push(row).is_err() {
            self.full.inc();
        }
    }

    /// Writer side: the oldest row.
    pub fn take(&self) -> Option<Row> {
        self.rows.pop()
    }

    /// Writer side: says what became of rows taken.
    pub fn settle(&self, written: u64, failed: u64) {
        self.written.add(written);
        self.failed.add(failed);
    }

    /// Rows offered since the start.
    pub fn offered(&self) -> u64 {
        self.offered.get()
    }

    /// Rows written since the start.
    pub fn written(&self) -> u64 {
        self.written.get()
    }

    /// Rows lost since the start: queue full, or the file refused them.
    pub fn dropped(&self) -> u64 {
        self.full.get().wrapping_add(self.failed.get())
    }

    /// Rows waiting now.
    pub fn waiting(&self) -> usize {
        self.rows.len()
    }
}

/// Usage rows: one producer (the shard), one consumer (the usage writer).
#[derive(Debug)]
pub struct UsageQueue {
    rows: ArrayQueue<Row>,
    reserved: Counter,
    cancelled: Counter,
    /// Written by the writer only; its release makes the freed place visible after the pop.
    written: AtomicU64,
    /// Rows that found no room though their place was bought: always zero.
    faults: Counter,
}

impl UsageQueue {
    /// A queue of `rows_max` places (at least one).
    pub fn new(rows_max: usize) -> Self {
        Self {
            rows: ArrayQueue::new(rows_max.max(1)),
            reserved: Counter::default(),
            cancelled: Counter::default(),
            written: AtomicU64::new(0),
            faults: Counter::default(),
        }
    }

    /// Shard side: buys a place, or `None` when all are taken (the request must then be refused).
    pub fn reserve(self: &Arc<Self>) -> Option<Place> {
        if self.taken() >= self.capacity() {
            return None;
        }
        self.reserved.inc();
        Some(Place { queue: Arc::clone(self), filled: false })
    }

    /// Places taken now: promised, waiting, or not yet written out.
    pub fn taken(&self) -> u64 {
        let given_back = self.cancelled.get().wrapping_add(self.written());
        self.reserved.get().wrapping_sub(given_back)
    }

    /// Places there are.
    pub fn capacity(&self) -> u64 {
        self.rows.capacity() as u64
    }

    /// Writer side: the oldest row. Its place stays taken until [`UsageQueue::settle`].
    pub fn take(&self) -> Option<Row> {
        self.rows.pop()
    }

    /// Writer side: `rows` rows have reached the file; their places are free again.
    pub fn settle(&self, rows: u64) {
        let written = self.written.load(Ordering::Relaxed);
        self.written.store(written.wrapping_add(rows), Ordering::Release);
    }

    /// Rows written since the start.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Rows that found no room though their place was bought: a bug if it is not zero.
    pub fn faults(&self) -> u64 {
        self.faults.get()
    }

    fn put(&self, row: Row) {
        if self.rows.push(row).is_err() {
            debug_assert!(false, "a usage row without a place");
            self.faults.inc();
        }
    }
}

/// A bought place in a usage queue. Filling it sends the row; dropping it unfilled gives it back,
/// so only a request that cost nothing may do that.
#[derive(Debug)]
#[must_use = "an unused place is given back at once"]
pub struct Place {
    queue: Arc<UsageQueue>,
    filled: bool,
}

impl Place {
    /// Sends the request's one usage row.
    pub fn fill(mut self, row: Row) {
        self.filled = true;
        self.queue.put(row);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.filled {
            self.queue.cancelled.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::registry::Names;

    fn row() -> Row {
        Row::new(Arc::new(Names::default()), 0)
    }

    #[test]
    fn a_full_access_queue_counts_what_it_drops() {
        let queue = AccessQueue::new(2);
        (0..5).for_each(|_| queue.offer(row()));
        let taken = std::iter::from_fn(|| queue.take()).count() as u64;
        queue.settle(taken - 1, 1);
        assert_eq!((queue.offered(), queue.written(), queue.dropped()), (5, 1, 4));
    }

    #[test]
    fn usage_places_never_exceed_the_queue() {
        let queue = Arc::new(UsageQueue::new(2));
        let first = queue.reserve().unwrap();
        let second = queue.reserve().unwrap();
        assert!(queue.reserve().is_none());
        drop(first);
        let third = queue.reserve().unwrap();
        second.fill(row());
        third.fill(row());
        assert!(queue.take().is_some());
        assert!(queue.reserve().is_none(), "taken but not yet written");
        queue.settle(1);
        assert!(queue.reserve().is_some());
        assert_eq!(queue.faults(), 0);
    }
}
