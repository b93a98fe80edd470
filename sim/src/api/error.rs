//! Errors as the client sees them, in vLLM's shape or, for the messages API, Anthropic's.

use super::json::Quoted;

/// Whose conventions an answer follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    OpenAi,
    Anthropic,
    /// llama.cpp's own, in every API.
    LlamaCpp,
}

/// An answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// vLLM's `type`.
    pub kind: &'static str,
    /// For people.
    pub message: String,
    /// The field to blame.
    pub param: Option<&'static str>,
}

impl ApiError {
    /// 400: the request is wrong.
    pub fn bad_request(message: impl Into<String>, param: Option<&'static str>) -> Self {
        Self { status: 400, kind: "BadRequestError", message: message.into(), param }
    }

    /// 404: no such model.
    pub fn unknown_model(model: &str) -> Self {
        let message = format!("The model `{model}` does not exist.");
        Self { status: 404, kind: "NotFoundError", message, param: Some("model") }
    }

    /// Any other status, with the reason phrase as its kind.
    pub fn plain(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), param: None }
    }

    /// What a worker says whose GPU is out of memory.
    pub fn out_of_memory() -> Self {
        let message = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity \
                       of 79.19 GiB of which 1.21 GiB is free.";
        Self::plain(500, "InternalServerError", message)
    }

    /// What a front end says whose engine process died under it.
    pub fn engine_dead() -> Self {
        let message =
            "EngineCore encountered an issue. See stack trace (above) for the root cause.";
        Self::plain(500, "InternalServerError", message)
    }

    /// The response body.
    pub fn body(&self, family: Family) -> String {
        match family {
            Family::OpenAi => self.open_ai(),
            Family::LlamaCpp => self.llama(),
            Family::Anthropic => format!(
                r#"{{"type":"error","error":{{"type":"{}","message":{}}}}}"#,
                self.anthropic_type(),
                Quoted(&self.message)
            ),
        }
    }

    /// The event that tells of it inside a stream.
    pub fn event(&self, family: Family) -> String {
        match family {
            Family::OpenAi | Family::LlamaCpp => format!("data: {}\n\n", self.body(family)),
            Family::Anthropic => format!("event: error\ndata: {}\n\n", self.body(family)),
        }
    }

    fn open_ai(&self) -> String {
        let param = self.param.map_or("null".to_string(), |param| format!("\"{param}\""));
        format!(
            r#"{{"error": {{"message": {}, "type": "{}", "param": {param}, "code": {}}}}}"#,
            Quoted(&self.message),
            self.kind,
            self.status
        )
    }

    fn llama(&self) -> String {
        let kind = match self.status {
            400 => "invalid_request_error",
            401 => "authentication_error",
            404 => "not_found_error",
            501 => "not_supported_error",
            503 => "unavailable_error",
            _ => "server_error",
        };
        format!(
            r#"{{"error":{{"code":{},"message":{},"type":"{kind}"}}}}"#,
            self.status,
            Quoted(&self.message)
        )
    }

    fn anthropic_type(&self) -> &'static str {
        match self.status {
            400 => "invalid_request_error",
            401 => "authentication_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            529 => "overloaded_error",
            _ => "api_error",
        }
    }
}
