//! Reading a request body: the few fields that Sluice acts on, and proof that the rest is JSON.
//!
//! Invariants: what is read here is read once and by one reader, so a key that stands twice or has
//! an unexpected type is refused rather than guessed at; `null` counts as absent, as it does for
//! OpenAI's and vLLM's readers; values that only the backend can judge are left to it.

use std::ops::Range;

use super::fault::Fault;
use super::operation::Operation;
pub use super::usage_ask::UsageAsk;
use super::usage_ask::usage_ask;
use crate::json::{
    Bounds, Keys, Kind, Members, ScanError, Value, scan_object, string_value, u64_value,
};

/// Longest model name that is read.
pub const MODEL_BYTES_MAX: usize = 1024;

/// The fields of a request body that Sluice reads. Spans are offsets into that body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub op: Operation,
    /// The model's name, unescaped; never empty.
    pub model: Box<str>,
    /// The model's JSON string, quotes included: what is replaced by an upstream's own name.
    pub model_span: Range<usize>,
    pub stream: bool,
    /// The bound on generated tokens, per choice; None: none given. 0 where nothing is generated.
    pub output_tokens_max: Option<u64>,
    /// How many choices; 1 unless asked otherwise.
    pub n: u64,
    pub usage: UsageAsk,
    /// The client gets a usage in every event of its stream.
    pub continuous_usage: bool,
    pub prompt: PromptSpans,
    /// `cache_salt`, as JSON, whatever it is: engines keep prompts with different salts apart.
    pub salt: Option<Range<usize>>,
}

/// Where the parts of the prompt stand, as JSON values; null and absent are None.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromptSpans {
    pub tools: Option<Range<usize>>,
    /// `system`, and `instructions` of a response.
    pub system: Option<Range<usize>>,
    pub messages: Option<Range<usize>>,
    pub input: Option<Range<usize>>,
    pub prompt: Option<Range<usize>>,
}

const KEYS: Keys<14> = Keys::new([
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    "tools",
    "system",
    "instructions",
    "messages",
    "input",
    "prompt",
    "cache_salt",
]);
const MODEL: usize = 0;
const STREAM: usize = 1;
const STREAM_OPTIONS: usize = 2;
const MAX_TOKENS: Field = Field { at: 3, name: "max_tokens" };
const MAX_COMPLETION_TOKENS: Field = Field { at: 4, name: "max_completion_tokens" };
const MAX_OUTPUT_TOKENS: Field = Field { at: 5, name: "max_output_tokens" };
const N: Field = Field { at: 6, name: "n" };
const TOOLS: usize = 7;
const SYSTEM: usize = 8;
const INSTRUCTIONS: usize = 9;
const MESSAGES: usize = 10;
const INPUT: usize = 11;
const PROMPT: usize = 12;
const CACHE_SALT: usize = 13;

#[derive(Clone, Copy)]
struct Field {
    at: usize,
    name: &'static str,
}

/// A scanned body.
struct Body<'a> {
    bytes: &'a [u8],
    members: Members<14>,
}

/// Reads the body of a request for `op`. The faults are all 400s that name the field.
pub fn read_ask(op: Operation, body: &[u8], bounds: &Bounds) -> Result<Box<Ask>, Fault> {
    let body = Body { bytes: body, members: scan_object(body, &KEYS, bounds)? };
    let (model, model_span) = body.model()?;
    let stream = op.streams() && body.stream()?;
    let options = body.members.get(STREAM_OPTIONS);
    let (usage, continuous_usage) = match op {
        Operation::Chat | Operation::Completions => {
            usage_ask(body.bytes, body.members.open, stream, options, bounds)?
        }
        _ => (UsageAsk::AsSent, false),
    };
    Ok(Box::new(Ask {
        op,
        model,
        model_span,
        stream,
        output_tokens_max: body.output_tokens_max(op)?,
        n: body.choices(op)?,
        usage,
        continuous_usage,
        prompt: body.prompt(),
        salt: body.members.get(CACHE_SALT).map(|value| value.span.clone()),
    }))
}

impl From<ScanError> for Fault {
    fn from(error: ScanError) -> Fault {
        match error {
            ScanError::Duplicate { key, .. } => Fault::DuplicateField(key),
            other => Fault::MalformedBody(other.to_string()),
        }
    }
}

impl Body<'_> {
    /// A member that is there and not null.
    fn present(&self, at: usize) -> Option<&Value> {
        self.members.get(at).filter(|value| value.kind != Kind::Null)
    }

    fn span(&self, at: usize) -> Option<Range<usize>> {
        self.present(at).map(|value| value.span.clone())
    }

    fn model(&self) -> Result<(Box<str>, Range<usize>), Fault> {
        let value = self.present(MODEL).ok_or(Fault::MissingField("model"))?;
        let wrong = |expected| Err(Fault::InvalidField { field: "model", expected });
        if !matches!(value.kind, Kind::String { .. }) {
            return wrong("a string");
        }
        let model = string_value(self.bytes, value);
        match model.len() {
            0 => wrong("a string that is not empty"),
            1..=MODEL_BYTES_MAX => Ok((model.into(), value.span.clone())),
            _ => wrong("a string of at most 1024 bytes"),
        }
    }

    fn stream(&self) -> Result<bool, Fault> {
        match self.present(STREAM).map(|value| value.kind) {
            None => Ok(false),
            Some(Kind::Bool(stream)) => Ok(stream),
            Some(_) => Err(Fault::InvalidField { field: "stream", expected: "a boolean" }),
        }
    }

    /// The larger of the bounds that the operation knows.
    fn output_tokens_max(&self, op: Operation) -> Result<Option<u64>, Fault> {
        if !op.generates() {
            return Ok(Some(0));
        }
        let fields: &[Field] = match op {
            Operation::Chat => &[MAX_TOKENS, MAX_COMPLETION_TOKENS],
            Operation::Completions | Operation::Messages => &[MAX_TOKENS],
            Operation::Responses => &[MAX_OUTPUT_TOKENS],
            _ => &[],
        };
        let mut most = None;
        for field in fields {
            most = most.max(self.bound(*field)?);
        }
        Ok(most)
    }

    /// A bound that is an integer. Negative ones are left to the backend: llama.cpp takes -1 for no
    /// bound, others refuse it.
    fn bound(&self, field: Field) -> Result<Option<u64>, Fault> {
        let Some(value) = self.present(field.at) else { return Ok(None) };
        let text = self.bytes.get(value.span.clone()).unwrap_or_default();
        let digits = text.strip_prefix(b"-").unwrap_or(text);
        if value.kind != Kind::Number || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Fault::InvalidField { field: field.name, expected: "an integer" });
        }
        // What does not fit is more than anyone can generate.
        let positive = digits.len() == text.len();
        Ok(positive.then(|| u64_value(self.bytes, value).unwrap_or(u64::MAX)))
    }

    fn choices(&self, op: Operation) -> Result<u64, Fault> {
        if !matches!(op, Operation::Chat | Operation::Completions) {
            return Ok(1);
        }
        let Some(value) = self.present(N.at) else { return Ok(1) };
        u64_value(self.bytes, value)
            .filter(|n| *n > 0)
            .ok_or(Fault::InvalidField { field: N.name, expected: "a positive integer" })
    }

    fn prompt(&self) -> PromptSpans {
        PromptSpans {
            tools: self.span(TOOLS),
            system: self.span(SYSTEM).or_else(|| self.span(INSTRUCTIONS)),
            messages: self.span(MESSAGES),
            input: self.span(INPUT),
            prompt: self.span(PROMPT),
        }
    }
}
