//! Faults in the words of each API: bodies of error answers and the events that end a stream.

use serde::Serialize;

use super::family::Family;
use super::fault::Fault;
use super::operation::Operation;

/// OpenAI's error object.
#[derive(Serialize)]
struct OpenAiError<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'static str>,
    code: Option<&'static str>,
}

#[derive(Serialize)]
struct OpenAiBody<'a> {
    error: OpenAiError<'a>,
}

/// The `error` event of a responses stream. The specification has the members flat; OpenAI's own
/// servers send them under `error`, which is what the SDKs turn into an exception. Both are given.
#[derive(Serialize)]
struct ResponsesEvent<'a> {
    r#type: &'static str,
    code: &'static str,
    message: &'a str,
    param: Option<&'static str>,
    sequence_number: u64,
    error: OpenAiError<'a>,
}

#[derive(Serialize)]
struct AnthropicError<'a> {
    r#type: &'static str,
    message: &'a str,
}

#[derive(Serialize)]
struct AnthropicBody<'a> {
    r#type: &'static str,
    error: AnthropicError<'a>,
    request_id: &'a str,
}

/// The JSON body of an error answer in the API's shape.
pub fn error_body(family: Family, fault: &Fault, request_id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write_body(&mut out, family, fault, request_id);
    out
}

/// The event that tells a client of `op` that its stream ends here, blank line included. `sequence`
/// is the event's number in the stream; only responses streams show it.
pub fn error_event(op: Operation, fault: &Fault, request_id: &str, sequence: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(320);
    match op {
        Operation::Messages | Operation::CountTokens => {
            out.extend_from_slice(b"event: error\ndata: ");
            write_body(&mut out, Family::Anthropic, fault, request_id);
        }
        Operation::Responses => {
            out.extend_from_slice(b"event: error\ndata: ");
            write_responses(&mut out, fault, sequence);
        }
        _ => {
            out.extend_from_slice(b"data: ");
            write_body(&mut out, Family::OpenAi, fault, request_id);
        }
    }
    out.extend_from_slice(b"\n\n");
    out
}

fn write_body(out: &mut Vec<u8>, family: Family, fault: &Fault, request_id: &str) {
    let message = fault.message();
    match family {
        Family::OpenAi => write_json(out, &OpenAiBody { error: openai_error(fault, &message) }),
        Family::Anthropic => {
            let error = AnthropicError { r#type: anthropic_type(fault), message: &message };
            write_json(out, &AnthropicBody { r#type: "error", error, request_id });
        }
    }
}

fn write_responses(out: &mut Vec<u8>, fault: &Fault, sequence: u64) {
    let message = fault.message();
    let error = openai_error(fault, &message);
    let event = ResponsesEvent {
        r#type: "error",
        code: error.code.unwrap_or(error.r#type),
        message: &message,
        param: error.param,
        sequence_number: sequence,
        error,
    };
    write_json(out, &event);
}

fn openai_error<'a>(fault: &Fault, message: &'a str) -> OpenAiError<'a> {
    OpenAiError { message, r#type: openai_type(fault), param: fault.param(), code: fault.code() }
}

/// The `type` of an OpenAI error: their API has a class for every status class and one for limits.
pub fn openai_type(fault: &Fault) -> &'static str {
    match fault.status() {
        403 => "permission_error",
        429 => "rate_limit_error",
        505 => "invalid_request_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

/// The `type` of an Anthropic error (their API reference, "Errors").
pub fn anthropic_type(fault: &Fault) -> &'static str {
    match fault.status() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        505 => "invalid_request_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

fn write_json(out: &mut Vec<u8>, value: &impl Serialize) {
    // Strings, numbers and nulls into memory: neither the data nor the writer can fail.
    serde_json::to_writer(out, value).expect("an error body is plain data");
}
