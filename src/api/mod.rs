//! What clients speak: operations and their paths, the fields read from a request body, errors in
//! the shape of each API, and the observation of answers.
//!
//! Everything here is pure: bytes in, values out. Bodies and events are read, never rewritten; what
//! must change in a request is said as replacements at offsets ([`UsageAsk`]).

pub mod ask;
pub mod error_body;
pub mod family;
pub mod fault;
pub mod media;
pub mod needs;
pub mod observe;
pub mod operation;
pub mod usage;
pub mod usage_ask;

#[cfg(test)]
mod tests;

pub use ask::{Ask, PromptSpans, read_ask};
pub use error_body::{error_body, error_event};
pub use family::Family;
pub use fault::{Blame, Fault, Retry};
pub use observe::{EventError, Flaw, Observer, Seen, judge_unary, observe_unary};
pub use operation::{Operation, Resolved, Unroutable, resolve};
pub use usage::{Finish, Usage};
pub use usage_ask::{UsageAsk, UsageEdit, UsageEdits};
