//! The load generator: sends what a [`spec::Spec`] says to anything that speaks OpenAI's API, and says in an
//! [`outcome::Outcome`] what came of it.

pub mod outcome;
pub mod spec;
