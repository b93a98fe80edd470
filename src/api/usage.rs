//! What an answer cost in tokens and how it ended, as one vocabulary for all APIs.

/// Token counts of one answer. `None` is unknown: engines leave counts out unless told otherwise,
/// and an unknown count is never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens, those read from and written to a prefix cache included.
    pub input: Option<u64>,
    /// Generated tokens, reasoning included.
    pub output: Option<u64>,
    /// The part of `input` that a prefix cache answered.
    pub cached: Option<u64>,
    /// The part of `input` that was written to a prefix cache at a price of its own.
    pub cache_write: Option<u64>,
    /// The part of `output` that was reasoning.
    pub reasoning: Option<u64>,
}

impl Usage {
    /// True while nothing is known.
    pub fn is_unknown(&self) -> bool {
        *self == Usage::default()
    }

    /// Takes over what `later` knows; what it does not know stays. Counts in streams are
    /// cumulative, so the later number stands.
    pub fn absorb(&mut self, later: Usage) {
        self.input = later.input.or(self.input);
        self.output = later.output.or(self.output);
        self.cached = later.cached.or(self.cached);
        self.cache_write = later.cache_write.or(self.cache_write);
        self.reasoning = later.reasoning.or(self.reasoning);
    }

    /// Counts what another choice of the same prompt generated, too.
    pub fn add_output(&mut self, other: Usage) {
        let sum = |own: Option<u64>, other: Option<u64>| match (own, other) {
            (Some(own), Some(other)) => Some(own.saturating_add(other)),
            _ => own.or(other),
        };
        self.output = sum(self.output, other.output);
        self.reasoning = sum(self.reasoning, other.reasoning);
    }
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finish {
    Stop,
    Length,
    ToolCalls,
    ContentFilter,
    Other,
}

impl Finish {
    /// From a `finish_reason` of chat and text completions.
    pub fn from_openai(reason: &[u8]) -> Finish {
        match reason {
            b"stop" => Finish::Stop,
            b"length" => Finish::Length,
            b"tool_calls" | b"function_call" => Finish::ToolCalls,
            b"content_filter" => Finish::ContentFilter,
            _ => Finish::Other,
        }
    }

    /// From a `stop_reason` of Anthropic's messages.
    pub fn from_anthropic(reason: &str) -> Finish {
        match reason {
            "end_turn" | "stop_sequence" => Finish::Stop,
            "max_tokens" | "model_context_window_exceeded" => Finish::Length,
            "tool_use" => Finish::ToolCalls,
            "refusal" => Finish::ContentFilter,
            _ => Finish::Other,
        }
    }

    /// From `incomplete_details.reason` of a response.
    pub fn from_incomplete(reason: &str) -> Finish {
        match reason {
            "max_output_tokens" | "max_tokens" => Finish::Length,
            "content_filter" => Finish::ContentFilter,
            _ => Finish::Other,
        }
    }

    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::ToolCalls => "tool_calls",
            Finish::ContentFilter => "content_filter",
            Finish::Other => "other",
        }
    }
}
