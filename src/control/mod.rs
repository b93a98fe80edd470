//! The control plane: one thread, Tokio, everything that may wait.

pub mod health;
pub mod link;
pub mod names;
pub mod outbox;
pub mod phase;
pub mod probe;
pub mod reload;
pub mod rows;
pub mod watch;
