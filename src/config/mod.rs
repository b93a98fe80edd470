//! The file → a validated, immutable [`plan::Plan`].

pub mod plan;
pub mod secret;
