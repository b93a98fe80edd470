//! Access rows: what cannot be written is counted and forgotten.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::batch::Batch;
use super::outlet::{Outlet, passing};
use super::{Desk, NAP};
use crate::config::plan::Sink;
use crate::telemetry::{Rows, row_json};

/// After an error: rows pile up and are dropped by their shards meanwhile.
const PAUSE: Duration = Duration::from_millis(200);

/// Writes every shard's access rows.
pub struct AccessWriter<O> {
    rows: Vec<Arc<Rows>>,
    batch: Batch,
    outlet: Outlet<O>,
}

impl<O: FnMut(&Sink) -> io::Result<Box<dyn Write + Send>>> AccessWriter<O> {
    /// A writer that has not begun.
    pub fn new(rows: Vec<Arc<Rows>>, outlet: Outlet<O>) -> Self {
        Self { rows, batch: Batch::default(), outlet }
    }

    /// Writes until it is told to finish and nothing is left.
    pub fn run(mut self, desk: Desk) {
        loop {
            let orders = desk.read();
            self.outlet.follow(&orders);
            self.batch.fill(
                self.rows.len(),
                |shard| self.rows[shard].access.take(),
                row_json::access,
            );
            if self.batch.is_done() {
                if orders.finish {
                    return;
                }
                thread::park_timeout(NAP);
            } else if !self.outlet.has_sink() {
                // Of requests that began under a plan with an access log.
                self.batch.settle(usize::MAX, |shard| self.rows[shard].access.settle(0, 1));
            } else if self.write(&desk).is_err() {
                thread::park_timeout(PAUSE);
            }
        }
    }

    /// Writes the batch; on an error the rest of it is counted as dropped.
    fn write(&mut self, desk: &Desk) -> io::Result<()> {
        let mut done = 0;
        let mut result = Ok(());
        while done < self.batch.bytes.len() && result.is_ok() {
            match self.outlet.write(&self.batch.bytes[done..]) {
                Ok(n) => done += n,
                Err(e) if passing(&e) && !desk.read().finish => thread::park_timeout(NAP),
                Err(e) => result = Err(e),
            }
            self.batch.settle(done, |shard| self.rows[shard].access.settle(1, 0));
        }
        self.batch.settle(usize::MAX, |shard| self.rows[shard].access.settle(0, 1));
        if result.is_err() {
            // Opening it anew also ends a half-written line.
            self.outlet.close();
        }
        result
    }
}
