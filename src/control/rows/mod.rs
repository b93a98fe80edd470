//! Writing log rows: two threads of their own, so that a stalled disk or a reader of standard
//! output that stops reading holds up neither shards nor the control loop, and access rows not
//! usage rows.
//!
//! A thread takes rows from every shard's queue, formats them and writes them in batches. What
//! becomes of rows is settled in the queues: see [`crate::telemetry::queue`].

pub mod access;
pub mod batch;
pub mod outlet;
pub mod usage;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::config::plan::{Log, Sink};
use crate::telemetry::Rows;

use access::AccessWriter;
use outlet::Outlet;
use usage::UsageWriter;

/// How long a writer sleeps when there is nothing to write: bounds how stale the files are.
pub const NAP: Duration = Duration::from_millis(20);

/// What a writer is to do; it looks at it before every batch.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    pub sink: Option<Sink>,
    /// Counts the orders to open the file anew.
    pub reopens: u64,
    /// Leave once everything is written.
    pub finish: bool,
}

/// Orders, shared with one writer.
#[derive(Clone, Debug, Default)]
pub struct Desk(Arc<Mutex<Orders>>);

impl Desk {
    /// The present orders.
    pub fn read(&self) -> Orders {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes them.
    pub fn change(&self, act: impl FnOnce(&mut Orders)) {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A running writer.
#[derive(Debug)]
struct Writer {
    desk: Desk,
    thread: JoinHandle<()>,
}

impl Writer {
    fn order(&self, act: impl FnOnce(&mut Orders)) {
        self.desk.change(act);
        self.thread.thread().unpark();
    }
}

/// Both writers.
#[derive(Debug)]
pub struct Writers {
    access: Writer,
    usage: Writer,
}

impl Writers {
    /// Starts both threads.
    pub fn start(rows: &[Arc<Rows>], log: &Log) -> io::Result<Self> {
        let access = AccessWriter::new(rows.to_vec(), Outlet::new(outlet::open));
        let usage = UsageWriter::new(rows.to_vec(), Outlet::new(outlet::open));
        let usage_sink = log.usage.clone().map(Sink::File);
        Ok(Self {
            access: spawn("sluice-access", log.access.clone(), move |desk| access.run(desk))?,
            usage: spawn("sluice-usage", usage_sink, move |desk| usage.run(desk))?,
        })
    }

    /// Goes over to what a new plan says.
    pub fn follow(&self, log: &Log) {
        self.access.order(|orders| orders.sink = log.access.clone());
        self.usage.order(|orders| orders.sink = log.usage.clone().map(Sink::File));
    }

    /// Opens the files anew: they may have been rotated.
    pub fn reopen(&self) {
        self.access.order(|orders| orders.reopens += 1);
        self.usage.order(|orders| orders.reopens += 1);
    }

    /// Lets both write what is left, at most for `patience`; says of each whether it is done.
    pub async fn finish(self, patience: Duration) -> (bool, bool) {
        self.access.order(|orders| orders.finish = true);
        self.usage.order(|orders| orders.finish = true);
        let until = tokio::time::Instant::now() + patience;
        loop {
            let done = (self.access.thread.is_finished(), self.usage.thread.is_finished());
            if done == (true, true) || tokio::time::Instant::now() >= until {
                return done;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn spawn(
    name: &str,
    sink: Option<Sink>,
    work: impl FnOnce(Desk) + Send + 'static,
) -> io::Result<Writer> {
    let desk = Desk::default();
    desk.change(|orders| orders.sink = sink);
    let theirs = desk.clone();
    let thread = thread::Builder::new().name(name.into()).spawn(move || work(theirs))?;
    Ok(Writer { desk, thread })
}
