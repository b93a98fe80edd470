//! The shard's epoch: deadlines, ledgers, pools, and what other threads may read.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::lifecycle::inject::{self, Point};
use crate::lifecycle::kind::Kind;
use crate::relay::core::Core;
use crate::runtime::clock::{self, Instant};
use crate::shard::accept::Lane;
use crate::shard::gossip;
use crate::telemetry::ledger::Entry;

/// How often pools are swept for connections that idled too long or ended.
const SWEEP: Duration = Duration::from_millis(250);

/// What a tick remembers.
pub struct Ticker {
    core: Rc<Core>,
    lanes: Rc<[Lane]>,
    swept: Cell<Instant>,
}

impl Ticker {
    /// For one shard, among those that `lanes` lead to.
    pub fn new(core: Rc<Core>, lanes: Rc<[Lane]>) -> Self {
        Self { core, lanes, swept: Cell::new(clock::now()) }
    }

    /// One epoch.
    pub fn tick(&self) {
        let core = &self.core;
        core.kit.wheel.advance();
        inject::point(Point::Tick);
        if let Some((kind, now)) = core.kit.ledgers.unbalanced() {
            core.epoch().series().shard.ledger_faults.inc();
            panic!("ledger {} is out of balance: {now:?}", kind.name());
        }
        gossip::exchange(core, &self.lanes);
        core.hall.tick(&core.epoch());
        let now = clock::now();
        if now.since(self.swept.get()) >= SWEEP {
            self.swept.set(now);
            self.sweep(now);
        }
        self.publish();
    }

    fn sweep(&self, now: Instant) {
        let epoch = self.core.epoch();
        self.core.abandoned.sweep(now);
        self.core.backends.sweep(now, epoch.plan().timeouts.upstream_idle);
        for (at, series) in epoch.series().endpoints.iter().enumerate() {
            let backend = epoch.backend(crate::config::plan::EndpointId(at as u16));
            series.pool_open.set(backend.open() as u64);
            series.pool_idle.set(backend.idle() as u64);
        }
        let busy = clock_gettime(ClockId::ThreadCPUTime);
        let micros = busy.tv_sec as u64 * 1_000_000 + busy.tv_nsec as u64 / 1_000;
        let counter = &epoch.series().shard.busy_micros;
        counter.add(micros.saturating_sub(counter.get()));
    }

    /// Lets other threads read the ledgers.
    pub fn publish(&self) {
        let epoch = self.core.epoch();
        let series = &epoch.series().shard;
        let entries = Kind::ALL.map(|kind| {
            let read = self.core.kit.ledgers.read(kind);
            Entry { issued: read.issued, returned: read.returned, outstanding: read.outstanding }
        });
        series.ledgers.publish(&entries);
        let held = self.core.kit.ledgers.read(Kind::BodyBytes).outstanding;
        series.body_bytes_held.set(held);
        series.plan_generation.set(epoch.plan().generation);
        series.ticks.inc();
    }
}
