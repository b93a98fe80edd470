//! The only module that names monoio: driver choice, pinning, sockets, clock, deadlines, tasks.
//!
//! Everything above speaks of [`socket::Socket`], [`clock::now`], [`task::spawn`] and
//! [`wheel::Deadline`]; in tests the same calls reach the in-memory twin, which is deterministic.
//!
//! The shape of the I/O: reads are completions into owned buffers (io_uring's strength, and one system
//! call less than a readiness wait); writes are tried at once from borrowed bytes and wait for
//! readiness only where the kernel's buffer is full (a small write through the ring costs the same system
//! call and some two thousand instructions more). A read that is armed is never dropped on a connection
//! that is kept: deadlines call `shutdown`, and the pending read completes by itself.

pub mod bell;
pub mod buf;
pub mod clock;
pub mod driver;
pub mod host;
pub mod kit;
pub mod listener;
mod nudge;
pub mod socket;
pub mod sys;
pub mod task;
#[cfg(any(test, feature = "twin"))]
pub mod twin;
pub mod wheel;
