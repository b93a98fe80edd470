//! The life of a request, from its head to its one outcome.
//!
//! [`serve::serve`] is the whole of it, a line or two for each stage. Stages are plain functions that
//! return verdicts; each resource they take is a value with one owner, given back by its drop. The client's
//! side is an [`exchange::Exchange`], so that another HTTP version is another implementation of it.
//!
//! Invariants: nothing of an answer reaches the client before the commit point; after it there is no
//! other attempt; the client's departure is polled beside every wait.

pub mod answer;
pub mod arm;
pub mod asking;
pub mod choose;
pub mod claims;
pub mod consult;
pub mod core;
pub mod exchange;
pub mod exit;
pub mod explain;
pub mod hall;
pub mod ids;
pub mod inbound;
pub mod isolate;
pub mod local;
pub mod opening;
pub mod pair;
pub mod place;
pub mod places;
pub mod queue;
pub mod reach;
pub mod seating;
pub mod serve;
pub mod session;
pub mod shadow;
pub mod state;
pub mod stop;
pub mod stream;
pub mod trip;
pub mod unary;
