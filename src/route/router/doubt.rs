//! Whether more of a prompt may be cached than is known here.

use super::{Inquiry, Router};
use crate::config::plan::Policy;
use crate::route::candidate::Nanos;
use crate::route::size::{Content, Size};

/// Tokens to be computed for which it pays to ask: fewer take about as long as the answer.
const TOKENS_MIN: u32 = 1_024;
/// A prompt of which less than this part must be computed is known.
const KNOWN_PARTS: u32 = 5;

impl Router {
    /// Tokens of a prompt that must be computed wherever it goes, as far as is known, where other gateways
    /// may have sent its beginning to somebody whose engine tells of it. The look-up is not the decision's.
    pub fn doubtful_tokens(&mut self, now: Nanos, inquiry: &Inquiry<'_>) -> Option<u32> {
        let others = self.line(inquiry.whose.model)?.others.are_sure();
        let by_cache = matches!(inquiry.policy, Policy::PredictedTtft | Policy::PrefixAffinity);
        if !others || !by_cache || !inquiry.chain.is_tellable() {
            return None;
        }
        let Size { bytes, content } = inquiry.whose.prompt;
        // What media come to no tokeniser knows, and most prompts are short.
        let least = self.ratio(&inquiry.whose).tokens(bytes, None);
        if !matches!(content, Content::Text | Content::Ids(_)) || least < TOKENS_MIN {
            return None;
        }
        let estimate = self.estimate(now, inquiry);
        let tokens = self.uncached_tokens(inquiry, &estimate);
        Some(tokens).filter(|_| tokens >= TOKENS_MIN.max(estimate.input_tokens / KNOWN_PARTS))
    }
}
