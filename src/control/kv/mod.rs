//! Engines' KV events: which blocks each of them holds, by its own word.

pub mod batch;
pub mod index;
mod sequence;
pub mod subscriber;
