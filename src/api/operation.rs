//! What a client may ask for: the closed set of operations and the paths that name them.
//!
//! A path is matched byte for byte, as sent; only the model id at the end of `/v1/models/{id}` is
//! percent-decoded, once.

use memchr::memchr;

use super::family::Family;
use crate::http::Method;

/// One operation of the API; each has one path and one method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Operation {
    Chat,
    Completions,
    Embeddings,
    Rerank,
    Responses,
    Messages,
    CountTokens,
    ListModels,
    GetModel,
}

impl Operation {
    /// Every operation, in the order of its discriminants.
    pub const ALL: [Operation; 9] = [
        Operation::Chat,
        Operation::Completions,
        Operation::Embeddings,
        Operation::Rerank,
        Operation::Responses,
        Operation::Messages,
        Operation::CountTokens,
        Operation::ListModels,
        Operation::GetModel,
    ];

    /// Whose API this is. The model lists exist in both with one path: they count as OpenAI's.
    pub const fn family(self) -> Family {
        match self {
            Operation::Messages | Operation::CountTokens => Family::Anthropic,
            _ => Family::OpenAi,
        }
    }

    /// The path without a query; for [`Operation::GetModel`] the part before the id.
    pub const fn path(self) -> &'static str {
        match self {
            Operation::Chat => "/v1/chat/completions",
            Operation::Completions => "/v1/completions",
            Operation::Embeddings => "/v1/embeddings",
            Operation::Rerank => "/v1/rerank",
            Operation::Responses => "/v1/responses",
            Operation::Messages => "/v1/messages",
            Operation::CountTokens => "/v1/messages/count_tokens",
            Operation::ListModels => "/v1/models",
            Operation::GetModel => "/v1/models/",
        }
    }

    /// `gen_ai.operation.name` of the OpenTelemetry semantic conventions where they have a value
    /// (`chat`, `text_completion`, `embeddings`), a name in the same style elsewhere.
    pub const fn name(self) -> &'static str {
        match self {
            Operation::Chat | Operation::Responses | Operation::Messages => "chat",
            Operation::Completions => "text_completion",
            Operation::Embeddings => "embeddings",
            Operation::Rerank => "rerank",
            Operation::CountTokens => "count_tokens",
            Operation::ListModels => "list_models",
            Operation::GetModel => "get_model",
        }
    }

    /// Whether an answer can be a stream of events.
    pub const fn streams(self) -> bool {
        self.generates()
    }

    /// Whether an answer has tokens of its own, beside those of the prompt.
    pub const fn generates(self) -> bool {
        matches!(
            self,
            Operation::Chat | Operation::Completions | Operation::Responses | Operation::Messages
        )
    }

    /// Whether the model computes anything for it.
    pub const fn computes(self) -> bool {
        self.has_body() && !matches!(self, Operation::CountTokens)
    }

    /// Whether the request has a JSON body (and is a POST).
    pub const fn has_body(self) -> bool {
        !matches!(self, Operation::ListModels | Operation::GetModel)
    }

    /// The value of `Allow` for this path (RFC 9110 section 10.2.1).
    pub const fn allow(self) -> &'static str {
        if self.has_body() { "POST" } else { "GET, HEAD" }
    }
}

/// What a request line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub op: Operation,
    /// The id of [`Operation::GetModel`], percent-decoded; it may hold slashes.
    pub model: Option<String>,
}

/// Why a request line asks for nothing that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unroutable {
    NotFound,
    /// The path exists; `allow` is the value of the `Allow` header.
    MethodNotAllowed {
        allow: &'static str,
    },
}

/// What a method and the path of a request target ask for. A query may follow the path; HEAD goes
/// wherever GET does.
pub fn resolve(method: Method, path: &[u8]) -> Result<Resolved, Unroutable> {
    let resolved = route(path).ok_or(Unroutable::NotFound)?;
    let allowed = match method {
        Method::Post => resolved.op.has_body(),
        Method::Get | Method::Head => !resolved.op.has_body(),
        _ => false,
    };
    if allowed {
        Ok(resolved)
    } else {
        Err(Unroutable::MethodNotAllowed { allow: resolved.op.allow() })
    }
}

/// The operation a path names, whatever the method; a query is not part of the path.
fn route(path: &[u8]) -> Option<Resolved> {
    let path = memchr(b'?', path).map_or(path, |query| &path[..query]);
    if let Some(id) = path.strip_prefix(Operation::GetModel.path().as_bytes()) {
        return Some(Resolved { op: Operation::GetModel, model: Some(decode_id(id)?) });
    }
    let op = Operation::ALL.into_iter().find(|op| op.path().as_bytes() == path)?;
    Some(Resolved { op, model: None })
}

/// Percent-decodes a model id (RFC 3986 section 2.1). None: empty, a bad escape, or not UTF-8.
fn decode_id(raw: &[u8]) -> Option<String> {
    let mut id = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let [high, low, after @ ..] = tail else { return None };
            id.push(hex(*high)? << 4 | hex(*low)?);
            rest = after;
        } else {
            id.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(id).ok().filter(|id| !id.is_empty())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
