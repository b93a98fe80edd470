//! Which endpoint answers: a pure function from a request, the plan and what is known of the endpoints to
//! ranked attempts, with the reason.

pub mod candidate;
pub mod chain;
pub mod endpoints;
pub mod rank;
pub mod table;
pub mod views;
