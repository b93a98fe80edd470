//! Whether more of a prompt may be cached than is known here.

use super::{Estimate, Inquiry, Router};
use crate::config::plan::Policy;
use crate::route::size::{Content, Size};

/// Tokens to be computed for which it pays to ask: fewer take about as long as the answer.
const TOKENS_MIN: u32 = 1_024;
/// A prompt of which less than this part must be computed is known.
const KNOWN_PARTS: u32 = 5;

impl Router {
    /// Whether other gateways may have sent the prompt's beginning to somebody whose engine tells of it.
    /// Cheap: nothing is looked up.
    pub fn may_doubt(&self, inquiry: &Inquiry<'_>) -> bool {
        let others = self.line(inquiry.whose.model).is_some_and(|line| line.others.are_sure());
        let by_cache = matches!(inquiry.policy, Policy::PredictedTtft | Policy::PrefixAffinity);
        if !others || !by_cache || !inquiry.chain.is_tellable() {
            return false;
        }
        let Size { bytes, content } = inquiry.whose.prompt;
        // What media come to no tokeniser knows, and most prompts are short.
        matches!(content, Content::Text | Content::Ids(_))
            && self.ratio(&inquiry.whose).tokens(bytes, None) >= TOKENS_MIN
    }

    /// Tokens that must be computed wherever the prompt of the last look-up goes, as far as is known, if they
    /// are enough to ask.
    pub fn doubtful_tokens(&self, inquiry: &Inquiry<'_>, estimate: &Estimate) -> Option<u32> {
        let tokens = self.uncached_tokens(inquiry, estimate);
        Some(tokens).filter(|_| tokens >= TOKENS_MIN.max(estimate.input_tokens / KNOWN_PARTS))
    }
}
