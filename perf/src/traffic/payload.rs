//! The bytes on the wire: requests as SDKs send them, answers and events as vLLM sends them.

use std::rc::Rc;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A chat, with seven headers once the length is added.
const REQUEST_HEAD: &str = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n\
    accept: application/json\r\nuser-agent: OpenAI/Python 1.99.9\r\n\
    authorization: Bearer sk-0123456789abcdef0123456789abcdef\r\n\
    content-type: application/json\r\naccept-encoding: gzip, deflate\r\n";

/// How the text of a prompt is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Text {
    /// Words; nothing that JSON escapes.
    #[default]
    Plain,
    /// Source code: an escape in every few bytes.
    Escaped,
}

/// One request of the client `index`, whose body has exactly `body_bytes` bytes.
pub fn request(index: usize, body_bytes: usize, text: Text, stream: bool) -> Rc<[u8]> {
    let body = body(index, body_bytes, text, stream);
    let head = format!("{REQUEST_HEAD}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), &body].concat().into()
}

fn body(index: usize, bytes: usize, text: Text, stream: bool) -> Vec<u8> {
    // The user is how the upstream knows which client a stream is for.
    let front = format!(
        "{{\"model\":\"mock-model\",\"user\":\"{index:05}\",\"stream\":{stream},\"max_tokens\":256,\
         \"temperature\":0.7,\"messages\":[{{\"role\":\"system\",\"content\":\"You are terse.\"}},\
         {{\"role\":\"user\",\"content\":\""
    );
    let back = "\"}]}";
    let mut body = front.into_bytes();
    push_text(&mut body, bytes.saturating_sub(back.len()), text);
    body.extend_from_slice(back.as_bytes());
    body
}

/// Lengthens a body to `length` bytes with text as it stands inside a JSON string, no escape cut in two.
pub fn push_text(body: &mut Vec<u8>, length: usize, text: Text) {
    let unit: &[&str] = match text {
        Text::Plain => &["the ", "quick ", "brown ", "fox ", "jumps ", "over ", "lazy ", "dogs "],
        Text::Escaped => &["\\n", "\\t", "if (", "\\\"a\\\"", "\\\\", " == ", "\\u00e9", ") {"],
    };
    for piece in unit.iter().cycle() {
        if body.len() + piece.len() > length {
            break;
        }
        body.extend_from_slice(piece.as_bytes());
    }
    body.resize(length.max(body.len()), b'.');
}

/// A whole answer of about 800 bytes.
pub fn answer() -> Rc<[u8]> {
    let text = "word ".repeat(88);
    let body = format!(
        "{{\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1700000000,\
         \"model\":\"mock-model\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\
         \"content\":\"{text}\",\"refusal\":null,\"tool_calls\":[]}},\"logprobs\":null,\
         \"finish_reason\":\"stop\",\"stop_reason\":null}}],\"usage\":{{\"prompt_tokens\":240,\
         \"total_tokens\":340,\"completion_tokens\":100,\"prompt_tokens_details\":null}}}}"
    );
    let head = format!(
        "HTTP/1.1 200 OK\r\ndate: Fri, 20 Nov 2026 00:00:00 GMT\r\nserver: uvicorn\r\n\
         content-length: {}\r\ncontent-type: application/json\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat().into()
}

/// An answer without a body worth relaying, for health probes.
pub fn health() -> Rc<[u8]> {
    Rc::from(&b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..])
}

/// The head of a stream.
pub fn stream_head() -> Rc<[u8]> {
    Rc::from(
        &b"HTTP/1.1 200 OK\r\ndate: Fri, 20 Nov 2026 00:00:00 GMT\r\nserver: uvicorn\r\n\
          content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"[..],
    )
}

/// So many content events, each in a chunk of its own, as uvicorn writes them.
pub fn burst(events: u32) -> Rc<[u8]> {
    let event = "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\
        \"created\":1700000000,\"model\":\"mock-model\",\"choices\":[{\"index\":0,\"delta\":\
        {\"content\":\" word\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
    chunk.repeat(events as usize).into_bytes().into()
}
