//! Who is served next where requests wait for a place, how long that takes, and how places are shared out
//! between shards.
//!
//! Pure: time is a parameter. [`fair`] is the order in which one shard serves, [`drain`] tells how long a
//! queue takes to empty, [`share`] is the protocol by which a shard holds a share of an endpoint's places,
//! and [`split`] says how large each share should be.

pub mod drain;
pub mod fair;
pub mod share;
pub mod split;

#[cfg(test)]
mod tests;
