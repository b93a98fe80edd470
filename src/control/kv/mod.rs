//! Engines' KV events: which blocks each of them holds, by its own word.
//!
//! [`subscriber`] listens to one engine, [`batch`] decodes what it says, [`keeper`] knows all of them and
//! tells shards; [`tokens`] asks engines how prompts are tokenised, and [`index`] brings both together.

pub mod batch;
pub mod index;
pub mod keeper;
mod sequence;
pub mod subscriber;
pub mod tokens;
