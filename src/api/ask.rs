//! What a request body asks for.

use std::ops::Range;

use super::operation::Operation;

/// The fields of a request body that Sluice reads. Spans are offsets into that body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub op: Operation,
    /// The model's name, unescaped; never empty.
    pub model: Box<str>,
    /// The model's JSON string, quotes included: what is replaced by an upstream's own name.
    pub model_span: Range<usize>,
    pub stream: bool,
    /// The bound on generated tokens, per choice; None: none given.
    pub output_tokens_max: Option<u64>,
    /// How many choices; 1 unless asked otherwise.
    pub n: u64,
    pub usage: UsageAsk,
    /// The client wants a usage in every event.
    pub continuous_usage: bool,
    pub prompt: PromptSpans,
}

/// Where the parts of the prompt stand, as JSON values; null and absent are None.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromptSpans {
    pub tools: Option<Range<usize>>,
    pub system: Option<Range<usize>>,
    pub messages: Option<Range<usize>>,
    pub input: Option<Range<usize>>,
    pub prompt: Option<Range<usize>>,
}

/// What must be done so that a stream tells its usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageAsk {
    /// Nothing: the client asked for it, or the operation always tells, or it does not stream.
    AsSent,
    /// Make these replacements in the body, in order, and withhold the usage-only event.
    Inject(UsageEdits),
}

/// One or two replacements, in the order of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageEdits {
    pub first: UsageEdit,
    pub second: Option<UsageEdit>,
}

/// A range of the body and what stands there instead; an empty range inserts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageEdit {
    pub range: Range<usize>,
    pub text: &'static str,
}
