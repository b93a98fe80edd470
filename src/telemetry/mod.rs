//! What shards count, and how it is read.
//!
//! Every number has one writer: the shard it belongs to (or, for the rows written out, the log
//! writer). Writing is a relaxed load and a relaxed store, never a read-modify-write, and nothing
//! here allocates after construction. Readers (the control thread) may see a counter one event
//! late, never a wrong one; what must be seen together goes through [`ledger::Board`].

pub mod admission;
pub mod arm;
pub mod cell;
pub mod clock;
pub mod endpoint;
pub mod explain;
pub mod histogram;
pub mod kv;
pub mod ledger;
pub mod metrics;
mod metrics_queue;
mod metrics_route;
pub mod model;
pub mod queue;
pub mod registry;
pub mod render;
pub mod route;
pub mod row;
pub mod row_json;
pub mod say;
pub mod shadow;
pub mod shard;

#[cfg(test)]
mod render_tests;

pub use arm::ArmSeries;
pub use cell::{Counter, Gauge};
pub use endpoint::{EndpointSeries, Failure};
pub use histogram::Histogram;
pub use model::ModelSeries;
pub use queue::{AccessQueue, Place, Rows, UsageQueue};
pub use registry::{Names, Registry, Series};
pub use row::{Inline, Row, Tokens};
pub use shard::{DriverInUse, ShardSeries, ShardState, Stage};
