//! HTTP.

pub mod tls;
pub mod wire;
