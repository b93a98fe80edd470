//! Requests that clients send, and what each of them should come to.

use crate::runtime::twin::World;

/// What a request should come to where nothing goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// A server's answer.
    Answer,
    /// The gateway's own answer, with this status.
    Own(u16),
}

/// A request on the wire.
#[derive(Clone, Debug)]
pub struct Ask {
    pub id: String,
    pub bytes: Vec<u8>,
    pub expect: Expect,
    pub own_usage: bool,
    /// The answer has no body.
    pub bodiless: bool,
}

const KEY: &str = "authorization: Bearer sk-good\r\n";

/// Draws a lawful request.
pub fn lawful(world: &World, id: &str) -> Ask {
    match world.below(20) {
        0 => bodiless(id, "GET", "/v1/models", 200),
        1 => bodiless(id, "HEAD", "/v1/models", 200),
        2 => bodiless(id, "GET", "/v1/models/no/such", 404),
        3 => bodiless(id, "GET", "/nothing", 404),
        4 => unknown_model(id),
        5 => refused(id, r#"{"model":"m","messages":[]}"#, "", 401),
        6 => refused(id, r#"{"model":"m","mo\u0064el":"m"}"#, KEY, 400),
        _ => work(world, id),
    }
}

fn bodiless(id: &str, method: &str, path: &str, status: u16) -> Ask {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: g\r\n{KEY}x-request-id: {id}\r\n\r\n");
    Ask {
        id: id.into(),
        bytes: head.into_bytes(),
        expect: Expect::Own(status),
        own_usage: false,
        bodiless: method == "HEAD",
    }
}

fn refused(id: &str, body: &str, key: &str, status: u16) -> Ask {
    let bytes = posted("/v1/chat/completions", id, key, body.as_bytes());
    let expect = Expect::Own(status);
    Ask { id: id.into(), bytes, expect, own_usage: false, bodiless: false }
}

/// A request for a model that there is not.
pub fn unknown_model(id: &str) -> Ask {
    refused(id, r#"{"model":"unknown","messages":[]}"#, KEY, 404)
}

fn posted(path: &str, id: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nhost: g\r\nx-request-id: {id}\r\n{more}content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Draws a request for an endpoint.
pub fn work(world: &World, id: &str) -> Ask {
    let path = ["/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/embeddings"]
        [world.below(4) as usize];
    let streamed = path != "/v1/embeddings" && world.below(3) > 0;
    streaming(world, id, path, streamed)
}

/// A request for an endpoint on `path`, streamed or not.
pub fn streaming(world: &World, id: &str, path: &str, streamed: bool) -> Ask {
    let own_usage = streamed && path != "/v1/messages" && world.below(3) == 0;
    let usage = if own_usage { r#","stream_options":{"include_usage":true}"# } else { "" };
    let size = match world.below(12) {
        0 => 150_000 + world.below(250_000),
        1..4 => world.below(12_000),
        _ => world.below(300),
    };
    let filler = "x".repeat(size as usize);
    let model = ["m", "renamed"][world.below(2) as usize];
    let body = format!(
        r#"{{"model":"{model}","stream":{streamed},"user":"{id}","prompt":"{filler}"{usage}}}"#
    );
    let bytes = match world.below(6) {
        0 => chunked(world, path, id, body.as_bytes()),
        1 => posted(path, id, &format!("{KEY}expect: 100-continue\r\n"), body.as_bytes()),
        _ => posted(path, id, KEY, body.as_bytes()),
    };
    Ask { id: id.into(), bytes, expect: Expect::Answer, own_usage, bodiless: false }
}

/// A short request for `model`.
pub fn short(id: &str, model: &str) -> Ask {
    let body = format!(r#"{{"model":"{model}","user":"{id}","prompt":"x"}}"#);
    let bytes = posted("/v1/completions", id, KEY, body.as_bytes());
    Ask { id: id.into(), bytes, expect: Expect::Answer, own_usage: false, bodiless: false }
}

/// A request for model `m` that is long enough for its engines to be asked about it.
pub fn long(id: &str) -> Ask {
    let said = format!("{id} says ").repeat(1_200);
    let body = format!(
        r#"{{"model":"m","stream":true,"user":"{id}","messages":[{{"role":"user","content":"{said}"}}]}}"#
    );
    let bytes = posted("/v1/chat/completions", id, KEY, body.as_bytes());
    Ask { id: id.into(), bytes, expect: Expect::Answer, own_usage: false, bodiless: false }
}

fn chunked(world: &World, path: &str, id: &str, mut body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nhost: g\r\nx-request-id: {id}\r\n{KEY}\
         transfer-encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    while !body.is_empty() {
        let size = 1 + world.below(body.len().min(9_000) as u64) as usize;
        let extension = if world.below(4) == 0 { ";a=\"b\"" } else { "" };
        bytes.extend_from_slice(format!("{size:x}{extension}\r\n").as_bytes());
        bytes.extend_from_slice(&body[..size]);
        bytes.extend_from_slice(b"\r\n");
        body = &body[size..];
    }
    bytes.extend_from_slice(b"0\r\nx-trailer: dropped\r\n\r\n");
    bytes
}

/// Draws a request that breaks the rules; the connection ends with its refusal.
pub fn unlawful(world: &World, id: &str) -> Ask {
    let chat = "POST /v1/chat/completions HTTP/1.1\r\n";
    let (text, status) = match world.below(9) {
        0 => (format!("{chat}host: g\nx-request-id: {id}\r\n\r\n"), 400),
        1 => (format!("{chat}host: g\r\nhost: g\r\n\r\n"), 400),
        2 => (format!("{chat}host: g\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{{}}"), 400),
        3 => (
            format!(
                "{chat}host: g\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n"
            ),
            400,
        ),
        4 => (format!("{chat}host: g\r\ntransfer-encoding: gzip\r\n\r\n"), 501),
        5 => (format!("GET /{} HTTP/1.1\r\nhost: g\r\n\r\n", "a".repeat(9_000)), 414),
        6 => (format!("{chat}host: g\r\nx: {}\r\n\r\n", "a".repeat(40_000)), 431),
        7 => (
            format!("{chat}host: g\r\nx-request-id: {id}\r\n{KEY}content-length: 600000\r\n\r\n{{"),
            413,
        ),
        _ => (
            format!(
                "{chat}host: g\r\nx-request-id: {id}\r\n{KEY}transfer-encoding: chunked\r\n\r\nzz\r\n"
            ),
            400,
        ),
    };
    let bytes = text.into_bytes();
    let expect = Expect::Own(status);
    Ask { id: id.into(), bytes, expect, own_usage: false, bodiless: false }
}
