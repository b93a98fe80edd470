//! Who may ask, and for what: verdicts over a request's head and its [`crate::api::ask::Ask`].
//!
//! Pure functions; what they grant is taken as permits by the caller.

pub mod auth;
pub mod rights;
