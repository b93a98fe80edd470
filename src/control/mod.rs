//! The control plane: one thread, Tokio, everything that may wait.

pub mod link;
