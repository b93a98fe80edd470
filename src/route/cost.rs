//! What a request will cost, before it is sent: input tokens from bytes, output tokens from experience,
//! GPU time on each candidate.
//!
//! Invariants: fixed memory, no allocation after construction; estimates are never zero.

use crate::route::candidate::{Candidate, Question};
use crate::route::policy::wait;
use crate::route::size::{Content, Size};

/// Prompt bytes per token before anything was learned: English in JSON.
const BYTES_PER_TOKEN: f64 = 4.0;
/// Output tokens expected of a key that was never seen with a model that was never seen.
const OUTPUT_TOKENS: f32 = 256.0;
/// Each answer weighs this much against all earlier ones together.
const GAIN: f32 = 1.0 / 16.0;
/// Keys looked at in one row of the table.
const WAYS: usize = 4;

/// Bytes per token of one model's prompts, as its engines count them.
#[derive(Clone, Copy, Debug)]
pub struct InputRatio {
    bytes: f64,
    tokens: f64,
}

impl Default for InputRatio {
    fn default() -> Self {
        Self { bytes: BYTES_PER_TOKEN, tokens: 1.0 }
    }
}

/// Tokens that an engine's template may add to a prompt, at most.
const TEMPLATE_TOKENS_MAX: u64 = 4096;
/// Tokens of one answer, at most: no model's context is as long.
pub const OUTPUT_TOKENS_MAX: u64 = 1 << 24;

/// Whether a prompt of this size may have so many tokens. What media come to is less certain.
pub fn is_credible(size: &Size, tokens: u64) -> bool {
    let Size { bytes, content } = *size;
    let (few, many) = match content {
        Content::Mixed => (0, bytes.saturating_mul(64)),
        Content::Text | Content::Ids(_) | Content::Counted(_) => {
            (bytes / 64, bytes.saturating_mul(4))
        }
    };
    (few..=many.saturating_add(TEMPLATE_TOKENS_MAX)).contains(&tokens)
}

impl InputRatio {
    /// Of one prompt whose tokens were counted.
    pub fn of(bytes: u64, tokens: u32) -> Self {
        Self { bytes: bytes.max(1) as f64, tokens: f64::from(tokens) }
    }

    /// Bytes after which earlier prompts count half.
    const BYTES_HALF: f64 = 4e6;

    /// An engine counted `tokens` in a prompt of `bytes`.
    pub fn learn(&mut self, bytes: u64, tokens: u32) {
        let ratio = bytes as f64 / f64::from(tokens.max(1));
        // Outside of it the engine counted something else (a template of its own).
        if bytes == 0 || !(0.25..64.0).contains(&ratio) {
            return;
        }
        let keep = (-(bytes as f64) / Self::BYTES_HALF).exp2();
        self.bytes = self.bytes * keep + bytes as f64;
        self.tokens = self.tokens * keep + f64::from(tokens);
    }

    /// Tokens in a prompt of `bytes`, of which the first `known.0` bytes are known to be `known.1` tokens.
    pub fn tokens(&self, bytes: u64, known: Option<(u64, u32)>) -> u32 {
        let (known_bytes, known_tokens) = known.unwrap_or((0, 0));
        let rest = bytes.saturating_sub(known_bytes) as f64 * self.tokens / self.bytes;
        (rest.ceil().min(f64::from(u32::MAX)) as u32).saturating_add(known_tokens).max(1)
    }
}

/// Output tokens by client and model: a table of fixed size whose least used entries give way.
#[derive(Debug)]
pub struct OutputTokens {
    rows: Vec<[Known; WAYS]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    tag: u64,
    mean: f32,
    answers: u32,
}

impl OutputTokens {
    /// A table of at most `entries_max` keys (rounded up to a power of two).
    pub fn new(entries_max: usize) -> Self {
        let rows = entries_max.div_ceil(WAYS).next_power_of_two();
        Self { rows: vec![[Known::default(); WAYS]; rows] }
    }

    /// An answer to `client` (a hash; models have hashes of their own) had so many tokens.
    pub fn learn(&mut self, client: u64, model: u64, tokens: u32) {
        self.learn_one(mix(client, model), tokens);
        self.learn_one(mix(0, model), tokens);
    }

    fn learn_one(&mut self, tag: u64, tokens: u32) {
        let row = self.row(tag);
        let row = &mut self.rows[row];
        let at = row.iter().position(|known| known.tag == tag);
        let at = at.or_else(|| (0..WAYS).min_by_key(|at| row[*at].answers)).unwrap_or(0);
        let known = &mut row[at];
        if known.tag != tag {
            *known = Known { tag, mean: tokens as f32, answers: 0 };
        }
        known.answers = known.answers.saturating_add(1);
        known.mean += GAIN.max(1.0 / known.answers as f32) * (tokens as f32 - known.mean);
        // The others age, so that a key that has gone gives way in the end.
        row.iter_mut().filter(|other| other.tag != tag).for_each(|other| {
            other.answers = other.answers.saturating_sub(u32::from(other.answers > 64));
        });
    }

    /// Output tokens to expect, never more than the `limit` asked for.
    pub fn expected(&self, client: u64, model: u64, limit: Option<u32>) -> u32 {
        let mean = self.find(mix(client, model)).or_else(|| self.find(mix(0, model)));
        let tokens = mean.unwrap_or(OUTPUT_TOKENS).ceil().max(1.0) as u32;
        tokens.min(limit.unwrap_or(u32::MAX))
    }

    fn find(&self, tag: u64) -> Option<f32> {
        let known = self.rows[self.row(tag)].iter().find(|known| known.tag == tag);
        known.filter(|known| known.answers > 0).map(|known| known.mean)
    }

    fn row(&self, tag: u64) -> usize {
        // The lowest bit of a tag is always set.
        (tag >> 32) as usize & (self.rows.len() - 1)
    }
}

fn mix(client: u64, model: u64) -> u64 {
    let mixed = (client ^ model.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 32)) | 1
}

/// Milliseconds of the GPU that the request takes at `candidate`: its prefill whole, and of each decode
/// step the share of one sequence in the batch.
pub fn gpu_milliseconds(question: &Question, candidate: &Candidate) -> f32 {
    let prefill = wait(question, candidate).own;
    let batch = candidate.requests.max(1) as f32;
    let decode = question.output_tokens as f32 * candidate.decode_seconds.max(0.0) / batch;
    1e3 * (prefill + decode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_per_token_are_learned_and_known_tokens_are_kept() {
        let mut ratio = InputRatio::default();
        assert_eq!(ratio.tokens(0, None), 1);
        assert_eq!(ratio.tokens(4_000, None), 1_000);
        (0..20).for_each(|_| ratio.learn(300_000, 100_000));
        assert!(ratio.tokens(30_000, None).abs_diff(10_000) < 100);
        assert_eq!(ratio.tokens(30_000, Some((30_000, 12_345))), 12_345);
        // An engine that counts something else is not believed.
        ratio.learn(300_000, 3);
        assert!(ratio.tokens(30_000, None).abs_diff(10_000) < 100);
    }

    #[test]
    fn what_no_prompt_can_have_is_not_credible() {
        let text = Size { bytes: 4_000, content: Content::Text };
        let seen = Size { content: Content::Mixed, ..text };
        for (tokens, of_text, of_media) in [
            (0, false, true),
            (3, false, true),
            (1_000, true, true),
            (20_000, true, true),
            (200_000, false, true),
            (1 << 40, false, false),
        ] {
            assert_eq!(is_credible(&text, tokens), of_text, "{tokens}");
            assert_eq!(is_credible(&seen, tokens), of_media, "{tokens}");
        }
        assert!(is_credible(&Size::default(), 0), "an empty prompt");
    }

    #[test]
    fn answers_are_expected_as_they_were_and_never_beyond_the_limit() {
        let mut answers = OutputTokens::new(64);
        assert_eq!(answers.expected(1, 2, None), 256);
        (0..40).for_each(|_| answers.learn(1, 2, 1_000));
        assert_eq!(answers.expected(1, 2, None), 1_000);
        assert_eq!(answers.expected(9, 2, None), 1_000, "as others of this model");
        assert_eq!(answers.expected(1, 2, Some(50)), 50);
        assert_eq!(answers.expected(1, 2, Some(0)), 0);
        // More keys than there is room for push each other out, and no more.
        (0..10_000).for_each(|client| answers.learn(client, 2, 10));
        assert!(answers.expected(9_999, 2, None) <= 1_000);
    }
}
