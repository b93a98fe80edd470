//! Endpoints as one shard knows them: connections, the request on the wire, the answer's head.
//!
//! Owns the per-shard connection pools. A connection goes back to its pool only from a clean end; whatever
//! else happens to it, it is shut down at once, so that the engine stops generating. Nothing above this
//! module sees a provider credential.

pub mod backend;
pub mod connection;
pub mod error;
pub mod lease;
pub mod request;
