//! Every error a client can get from Sluice itself, with its status, its blame and whether asking
//! again can help. The bodies are written in [`super::error_body`].
//!
//! A message names fields and limits of the request, never an address, a credential or an endpoint.

use std::borrow::Cow;
use std::fmt;

use super::operation::Unroutable;
use crate::http::Reject;

/// Names taken from a request are quoted up to this many bytes.
const QUOTE_BYTES_MAX: usize = 200;

/// Who is to blame for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    Client,
    Credential,
    Quota,
    Backend,
    Network,
    Gateway,
}

/// Whether the same request may succeed when sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    Never,
    /// At once, or after the client's own backoff.
    Soon,
    /// After this many seconds (`Retry-After`).
    AfterS(u32),
}

/// An error a client sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request breaks HTTP's syntax; the text says how.
    HttpSyntax(&'static str),
    /// The body is not one JSON object within the bounds; the text says what and where.
    MalformedBody(String),
    MissingField(&'static str),
    /// A field has the wrong type or an impossible value; `expected` completes "… must be".
    InvalidField {
        field: &'static str,
        expected: &'static str,
    },
    DuplicateField(&'static str),
    MissingKey,
    BadKey,
    /// There are no keys, and a web page of elsewhere asks.
    ForeignPage,
    UnknownModel(Box<str>),
    /// The prompt, or the prompt and the answer asked for, are longer than any server of the model takes.
    ContextTooLong {
        /// As estimated.
        tokens: u64,
        tokens_max: u64,
    },
    /// No server of the model can do this.
    Unsupported(&'static str),
    NotFound,
    MethodNotAllowed {
        allow: &'static str,
    },
    SlowHead,
    SlowBody,
    BodyTooLarge {
        bytes_max: u64,
    },
    TargetTooLong,
    /// The request body is compressed.
    ContentEncoding,
    /// The request body is not declared as JSON.
    ContentType,
    Expectation,
    RateLimited {
        retry_after_s: u32,
    },
    HeadTooLarge,
    /// A bug in Sluice.
    Internal,
    /// A feature of HTTP that Sluice does not have; the text names it.
    NotImplemented(&'static str),
    HttpVersion,
    /// No usable answer came from any endpoint that was tried.
    UpstreamFailed,
    /// The endpoint died, or left the protocol, after the answer had begun.
    UpstreamBroken,
    /// The endpoint reported an error where an answer should begin; its own status and words.
    UpstreamReported {
        status: u16,
        message: Box<str>,
    },
    UpstreamTimeout,
    /// No endpoint of the model is usable now.
    Unavailable {
        retry_after_s: Option<u32>,
    },
    /// Every endpoint of the model has as many requests as it may have.
    Saturated {
        retry_after_s: u32,
    },
    /// Sluice itself is at its limit.
    Overloaded {
        retry_after_s: u32,
    },
    /// Sluice is stopping and the time to finish has run out.
    ShuttingDown,
}

impl Fault {
    /// The status of the answer, when the answer has not begun.
    pub fn status(&self) -> u16 {
        match self {
            Fault::HttpSyntax(_)
            | Fault::MalformedBody(_)
            | Fault::MissingField(_)
            | Fault::InvalidField { .. }
            | Fault::DuplicateField(_)
            | Fault::ContextTooLong { .. }
            | Fault::Unsupported(_) => 400,
            Fault::MissingKey | Fault::BadKey => 401,
            Fault::ForeignPage => 403,
            Fault::UnknownModel(_) | Fault::NotFound => 404,
            Fault::MethodNotAllowed { .. } => 405,
            Fault::SlowHead | Fault::SlowBody => 408,
            Fault::BodyTooLarge { .. } => 413,
            Fault::TargetTooLong => 414,
            Fault::ContentEncoding | Fault::ContentType => 415,
            Fault::Expectation => 417,
            Fault::RateLimited { .. } => 429,
            Fault::HeadTooLarge => 431,
            Fault::Internal => 500,
            Fault::NotImplemented(_) => 501,
            Fault::UpstreamFailed | Fault::UpstreamBroken => 502,
            // A credential that an endpoint refuses is not the client's.
            Fault::UpstreamReported { status, .. } if is_about_our_credential(*status) => 502,
            Fault::UpstreamReported { status, .. } => *status,
            Fault::Unavailable { .. }
            | Fault::Saturated { .. }
            | Fault::Overloaded { .. }
            | Fault::ShuttingDown => 503,
            Fault::UpstreamTimeout => 504,
            Fault::HttpVersion => 505,
        }
    }

    /// The member of the request body at fault, as the API's `param`.
    pub fn param(&self) -> Option<&'static str> {
        match self {
            Fault::MissingField(field)
            | Fault::InvalidField { field, .. }
            | Fault::DuplicateField(field) => Some(field),
            Fault::UnknownModel(_) | Fault::Unsupported(_) => Some("model"),
            _ => None,
        }
    }

    /// The machine-readable `code` of an OpenAI error.
    pub fn code(&self) -> Option<&'static str> {
        Some(match self {
            Fault::MalformedBody(_) => "invalid_json",
            Fault::MissingField(_) => "missing_required_parameter",
            Fault::InvalidField { .. } => "invalid_value",
            Fault::DuplicateField(_) => "duplicate_parameter",
            Fault::BadKey => "invalid_api_key",
            Fault::ForeignPage => "foreign_host",
            Fault::UnknownModel(_) => "model_not_found",
            Fault::ContextTooLong { .. } => "context_length_exceeded",
            Fault::Unsupported(_) => "unsupported_by_model",
            Fault::NotFound => "unknown_url",
            Fault::MethodNotAllowed { .. } => "method_not_allowed",
            Fault::SlowHead | Fault::SlowBody => "request_timeout",
            Fault::BodyTooLarge { .. } => "request_too_large",
            Fault::ContentEncoding | Fault::ContentType => "unsupported_media_type",
            Fault::RateLimited { .. } => "rate_limit_exceeded",
            Fault::Internal => "internal_error",
            Fault::UpstreamFailed | Fault::UpstreamBroken => "upstream_error",
            Fault::UpstreamTimeout => "upstream_timeout",
            Fault::Unavailable { .. } => "service_unavailable",
            Fault::Saturated { .. } => "saturated",
            Fault::Overloaded { .. } => "overloaded",
            Fault::ShuttingDown => "shutting_down",
            _ => return None,
        })
    }

    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            Fault::MissingKey | Fault::BadKey | Fault::ForeignPage => Blame::Credential,
            Fault::RateLimited { .. } => Blame::Quota,
            Fault::UpstreamFailed | Fault::UpstreamBroken | Fault::UpstreamTimeout => {
                Blame::Backend
            }
            Fault::UpstreamReported { status, .. } => blame_of_status(*status),
            Fault::Unavailable { .. } | Fault::Saturated { .. } => Blame::Backend,
            Fault::Internal | Fault::Overloaded { .. } | Fault::ShuttingDown => Blame::Gateway,
            Fault::SlowHead | Fault::SlowBody => Blame::Network,
            _ => Blame::Client,
        }
    }

    /// Whether asking again can help.
    pub fn retry(&self) -> Retry {
        match self {
            Fault::RateLimited { retry_after_s }
            | Fault::Saturated { retry_after_s }
            | Fault::Overloaded { retry_after_s } => Retry::AfterS(*retry_after_s),
            Fault::Unavailable { retry_after_s: Some(seconds) } => Retry::AfterS(*seconds),
            Fault::Unavailable { .. } | Fault::ShuttingDown | Fault::Internal => Retry::Soon,
            Fault::UpstreamFailed | Fault::UpstreamBroken | Fault::UpstreamTimeout => Retry::Soon,
            Fault::SlowHead | Fault::SlowBody => Retry::Soon,
            Fault::UpstreamReported { status, .. } if *status == 429 || *status >= 500 => {
                Retry::Soon
            }
            _ => Retry::Never,
        }
    }

    /// The sentence for people.
    pub fn message(&self) -> Cow<'static, str> {
        match self {
            Fault::HttpSyntax(reason) => format!("Malformed HTTP request: {reason}.").into(),
            Fault::MalformedBody(what) => {
                format!("The request body cannot be read: {what}.").into()
            }
            Fault::MissingField(field) => format!("Missing required parameter: '{field}'.").into(),
            Fault::InvalidField { field, expected } => {
                format!("Invalid value for '{field}': it must be {expected}.").into()
            }
            Fault::DuplicateField(field) => {
                format!("Parameter '{field}' is given more than once.").into()
            }
            Fault::UnknownModel(model) => {
                let model = quoted(model);
                format!("The model '{model}' does not exist or you do not have access to it.")
                    .into()
            }
            // In words that agents know: they shorten the conversation then.
            Fault::ContextTooLong { tokens, tokens_max } => format!(
                "This model's maximum context length is {tokens_max} tokens; prompt is too long: \
                 about {tokens} tokens with the answer asked for > {tokens_max} maximum."
            )
            .into(),
            Fault::Unsupported(what) => format!("No server of this model supports {what}.").into(),
            Fault::MethodNotAllowed { allow } => {
                format!("This path does not answer that method; it allows {allow}.").into()
            }
            Fault::BodyTooLarge { bytes_max } => {
                format!("The request body is larger than the limit of {bytes_max} bytes.").into()
            }
            Fault::NotImplemented(what) => format!("Not supported: {what}.").into(),
            Fault::UpstreamReported { message, .. } => message.to_string().into(),
            other => other.fixed_message().into(),
        }
    }

    fn fixed_message(&self) -> &'static str {
        match self {
            Fault::MissingKey => {
                "No API key given. Send it as 'Authorization: Bearer KEY' or as 'x-api-key: KEY'."
            }
            Fault::BadKey => "The API key is not valid.",
            Fault::ForeignPage => {
                "Without API keys the gateway answers only under an IP address or localhost."
            }
            Fault::NotFound => "There is nothing at this path.",
            Fault::SlowHead => "The request head did not arrive in time.",
            Fault::SlowBody => "The request body did not arrive in time.",
            Fault::TargetTooLong => "The request target is too long.",
            Fault::ContentEncoding => {
                "Compressed request bodies are not accepted; send it without Content-Encoding."
            }
            Fault::ContentType => {
                "The request body must be sent as 'Content-Type: application/json'."
            }
            Fault::Expectation => "Only 'Expect: 100-continue' can be met.",
            Fault::RateLimited { .. } => "Rate limit reached; try again later.",
            Fault::HeadTooLarge => "The request head is too large.",
            Fault::HttpVersion => "Only HTTP/1.0 and HTTP/1.1 are spoken here.",
            Fault::UpstreamFailed => "The model server did not give a usable answer.",
            Fault::UpstreamBroken => "The model server stopped before its answer was complete.",
            Fault::UpstreamTimeout => "The model server did not answer in time.",
            Fault::Unavailable { .. } => "No server for this model is available now.",
            Fault::Saturated { .. } => {
                "Every server of this model is at its limit; try again later."
            }
            Fault::Overloaded { .. } => "The gateway is at its limit; try again later.",
            Fault::ShuttingDown => "The gateway is shutting down.",
            _ => "An internal error happened; the request was not completed.",
        }
    }
}

impl From<Reject> for Fault {
    fn from(reject: Reject) -> Fault {
        match reject.status() {
            414 => Fault::TargetTooLong,
            417 => Fault::Expectation,
            431 => Fault::HeadTooLarge,
            501 => Fault::NotImplemented(reject.message()),
            505 => Fault::HttpVersion,
            _ => Fault::HttpSyntax(reject.message()),
        }
    }
}

impl From<Unroutable> for Fault {
    fn from(unroutable: Unroutable) -> Fault {
        match unroutable {
            Unroutable::NotFound => Fault::NotFound,
            Unroutable::MethodNotAllowed { allow } => Fault::MethodNotAllowed { allow },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

impl std::error::Error for Fault {}

/// Who is to blame for an answer with this status from a backend.
pub fn blame_of_status(status: u16) -> Blame {
    match status {
        _ if is_about_our_credential(status) => Blame::Credential,
        429 => Blame::Quota,
        400..=499 => Blame::Client,
        _ => Blame::Backend,
    }
}

/// Statuses with which a backend refuses the gateway's own credential: nothing that its client could mend.
pub fn is_about_our_credential(status: u16) -> bool {
    matches!(status, 401 | 403 | 407)
}

/// A name out of a request, cut to a length fit for an error message.
fn quoted(name: &str) -> Cow<'_, str> {
    match name.char_indices().find(|(at, c)| at + c.len_utf8() > QUOTE_BYTES_MAX) {
        Some((at, _)) => format!("{}…", &name[..at]).into(),
        None => name.into(),
    }
}
