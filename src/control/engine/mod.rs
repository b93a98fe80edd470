//! What engines say of themselves, read by asking them again and again.
//!
//! [`reading`] knows the names of every engine's metrics; [`scrape`] asks; [`watched`] judges.

mod iteration;
pub mod reading;
mod sample;
pub mod scrape;
pub mod watched;
