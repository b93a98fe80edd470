//! Usage rows: what cannot be written is kept, and its place stays taken, until it can.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::batch::Batch;
use super::outlet::{Outlet, passing};
use super::{Desk, NAP, Orders};
use crate::config::plan::Sink;
use crate::telemetry::{Rows, row_json};

/// Pauses between tries grow from here to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Writes every shard's usage rows.
pub struct UsageWriter<O> {
    rows: Vec<Arc<Rows>>,
    batch: Batch,
    /// Bytes of the batch that are written.
    done: usize,
    outlet: Outlet<O>,
    pause: Duration,
}

impl<O: FnMut(&Sink) -> io::Result<Box<dyn Write + Send>>> UsageWriter<O> {
    /// A writer that has not begun.
    pub fn new(rows: Vec<Arc<Rows>>, outlet: Outlet<O>) -> Self {
        Self { rows, batch: Batch::default(), done: 0, outlet, pause: PAUSE_MIN }
    }

    /// Writes until it is told to finish and nothing is left.
    pub fn run(mut self, desk: Desk) {
        loop {
            let orders = desk.read();
            self.follow(&orders);
            if self.batch.is_done() {
                self.refill();
            }
            if self.batch.is_done() {
                if orders.finish {
                    return;
                }
                thread::park_timeout(NAP);
            } else {
                self.write();
            }
        }
    }

    /// A plan without a usage log leaves the old file in use: rows promised under the old plan may
    /// still come.
    fn follow(&mut self, orders: &Orders) {
        if orders.sink.is_none() && self.outlet.has_sink() {
            return;
        }
        if self.outlet.follow(orders) {
            // A row half-written to the old file stands whole in the new one.
            self.done = self.batch.boundary();
        }
    }

    fn refill(&mut self) {
        self.done = 0;
        self.batch.fill(self.rows.len(), |shard| self.rows[shard].usage.take(), row_json::usage);
    }

    /// One try at the rest of the batch.
    fn write(&mut self) {
        match self.outlet.write(&self.batch.bytes[self.done..]) {
            Ok(n) => {
                self.done += n;
                self.pause = PAUSE_MIN;
                self.batch.settle(self.done, |shard| self.rows[shard].usage.settle(1));
            }
            Err(e) => {
                // A full disk leaves the file as good as it was: go on where the row broke off.
                if !passing(&e) && e.kind() != io::ErrorKind::StorageFull {
                    self.outlet.close();
                    self.done = self.batch.boundary();
                }
                thread::park_timeout(self.pause);
                self.pause = (self.pause * 2).min(PAUSE_MAX);
            }
        }
    }
}
