//! Whole-gateway simulation: clients that behave and clients that do not, the real shard, servers with
//! faults, all in one world of the twin, from one seed.
//!
//! `SLUICE_SEEDS=N` runs N seeds instead of as many as fit into the usual time; `SLUICE_SEED=S` replays
//! one. A failing seed is printed.

mod ask;
mod book;
mod check;
mod client;
mod consulting;
mod drops;
mod gateway;
mod leaks;
mod panics;
mod peer;
mod reply;
mod restart;
mod script;
mod secure;
mod seeds;
mod server;
mod shadows;
mod waiting;
