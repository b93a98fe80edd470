//! One core: its thread, its listener, its connections, its ticks.
//!
//! Owns a client connection from accept to close. Invariants: nothing here waits for another thread; other
//! threads are seen as queues with a doorbell and as atomics that one side alone writes; a panic in a
//! connection ends that connection, and a panic of the shard restarts it on the same listening socket.

pub mod accept;
pub mod body;
pub mod connection;
pub mod gossip;
pub mod handles;
pub mod http1;
pub mod linger;
pub mod link;
pub mod refusal;
pub mod reply;
pub mod room;
pub mod run;
pub mod shares;
pub mod tick;
#[cfg(any(test, feature = "twin"))]
pub mod twin;
