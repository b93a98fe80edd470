//! Which endpoint answers: a pure function from a request, the plan and what is known of the endpoints to
//! ranked attempts, with the reason.

pub mod admission;
pub mod candidate;
pub mod chain;
pub mod cost;
pub mod eligible;
pub mod endpoints;
pub mod forks;
pub mod horizon;
pub mod learn;
pub mod others;
pub mod pair;
pub mod policy;
pub mod precise;
pub mod rank;
pub mod router;
pub mod session;
pub mod size;
pub mod split;
pub mod table;
pub mod views;
