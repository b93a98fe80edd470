//! Micro-benchmarks of pure code; this part has what they share.

pub mod rig;
