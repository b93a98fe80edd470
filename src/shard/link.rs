//! What the control plane tells a shard.
//!
//! A shard's queue is bounded; the sender keeps only the latest of each kind of command that did
//! not fit and tries again, so a slow shard costs nothing and misses nothing but what is already
//! stale.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::config::plan::Plan;
use crate::route::views::{Bound, Views};
use crate::shard::shares;
use crate::telemetry::Registry;

/// Commands that may wait for one shard.
pub const COMMANDS_MAX: usize = 64;

/// What a shard is told.
#[derive(Clone, Debug)]
pub enum Command {
    /// New requests get this from the next epoch on.
    Plan(Arc<Bound>),
    /// Newer views; to be ignored unless their generation is the present plan's.
    Views(Arc<Views>),
    /// Take the backlog, stop accepting, finish; then publish ledgers and announce `Drained`.
    Drain,
    /// Drop everything that is still there; then publish ledgers and announce `Drained`.
    Stop,
}

/// Wakes a shard.
pub type Bell = Arc<dyn Fn() + Send + Sync>;

/// The way to one shard.
#[derive(Clone)]
pub struct ShardLink {
    pub queue: Arc<ArrayQueue<Command>>,
    pub ring: Bell,
}

impl ShardLink {
    /// A link with an empty queue; the shard keeps a clone of `queue`.
    pub fn new(ring: Bell) -> Self {
        Self { queue: Arc::new(ArrayQueue::new(COMMANDS_MAX)), ring }
    }

    /// Queues a command and wakes the shard; gives the command back if there is no room.
    pub fn send(&self, command: Command) -> Result<(), Command> {
        self.queue.push(command)?;
        (self.ring)();
        Ok(())
    }
}

/// Binds a plan for every shard, by shard.
pub fn bind(registry: &mut Registry, plan: &Arc<Plan>, views: &Arc<Views>) -> Vec<Arc<Bound>> {
    let bound =
        |series| Arc::new(Bound { plan: Arc::clone(plan), series, views: Arc::clone(views) });
    let series = registry.bind(plan);
    shares::begin(plan, &series);
    series.into_iter().map(bound).collect()
}
