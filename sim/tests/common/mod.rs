//! A small client that sees every byte, and servers to point it at.
#![allow(dead_code, reason = "each test program uses its own part")]

pub mod shape;

use serde_json::Value;
use sluice_sim::api::Dialect;
use sluice_sim::engine::{EngineConfig, MILLISECOND, prefill_cost};
use sluice_sim::server::{Running, ServerConfig, spawn_thread};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A server whose engine takes 2 ms a step and reads 100,000 tokens a second.
pub fn paced() -> ServerConfig {
    let engine = EngineConfig {
        step_base: 2 * MILLISECOND,
        step_per_sequence: 0,
        step_per_prefill_token: prefill_cost(100_000.0),
        ..EngineConfig::default()
    };
    ServerConfig { engine, ..ServerConfig::default() }
}

/// The same with a prefill that takes seconds for a long prompt.
pub fn slow_prefill() -> ServerConfig {
    let mut config = paced();
    config.engine.step_per_prefill_token = prefill_cost(10_000.0);
    config
}

/// A server without pacing.
pub fn instant() -> ServerConfig {
    ServerConfig { instant: true, ..ServerConfig::default() }
}

/// The same, as llama.cpp's.
pub fn llama() -> ServerConfig {
    ServerConfig { dialect: Dialect::LlamaCpp, ..instant() }
}

pub fn start(config: ServerConfig) -> Running {
    spawn_thread("127.0.0.1:0".parse().unwrap(), config).unwrap()
}

/// How the connection was after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The answer's framing ended it.
    Open,
    Closed,
    Reset,
    /// Not whole when patience ended.
    Silent,
}

/// An answer, whole or not.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
    /// Bytes of head and framed body, as they came.
    pub raw: Vec<u8>,
    pub after: After,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The data of each event, in order.
    pub fn data(&self) -> Vec<&str> {
        let events = self.body.split("\n\n").filter(|event| !event.is_empty());
        events
            .map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap())
            .collect()
    }

    /// The events that are JSON.
    pub fn events(&self) -> Vec<Value> {
        self.data().iter().filter_map(|data| serde_json::from_str(data).ok()).collect()
    }
}

const READ_BYTES: usize = 64 << 10;

/// One client connection.
pub struct Client {
    pub socket: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Self {
        let socket = TcpStream::connect(addr).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, read: Vec::new() }
    }

    pub fn send(&mut self, bytes: &str) {
        self.socket.write_all(bytes.as_bytes()).unwrap();
    }

    /// Reads the next answer, for as long as `patience` lasts.
    pub fn answer(&mut self, patience: Duration) -> Answer {
        let end = Instant::now() + patience;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            if let Some(answer) = self.framed() {
                return answer;
            }
            if let Some(after) = self.fill(&mut buffer, end) {
                return self.framed().unwrap_or_else(|| self.unframed(after));
            }
        }
    }

    /// Reads what there is, up to `end`; how the connection is if there was nothing.
    fn fill(&mut self, buffer: &mut [u8], end: Instant) -> Option<After> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Some(After::Silent);
            }
            self.socket.set_read_timeout(Some(left)).unwrap();
            let count = match self.socket.read(buffer) {
                Ok(0) => return Some(After::Closed),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Some(After::Reset);
                }
                Err(_) => return Some(After::Silent),
            };
            self.read.extend_from_slice(&buffer[..count]);
            if count < buffer.len() {
                return None;
            }
        }
    }

    /// An answer whose framing says that it is whole.
    fn framed(&mut self) -> Option<Answer> {
        let head_end = find(&self.read, b"\r\n\r\n")? + 4;
        let head = String::from_utf8(self.read[..head_end].to_vec()).unwrap();
        let status = status(&head);
        let (body, used) = if (100..200).contains(&status) {
            (Vec::new(), 0)
        } else if let Some(length) = length(&head) {
            (self.read.get(head_end..head_end + length)?.to_vec(), length)
        } else if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            dechunk(&self.read[head_end..])?
        } else {
            return None;
        };
        let raw: Vec<u8> = self.read.drain(..head_end + used).collect();
        let body = String::from_utf8(body).unwrap();
        Some(Answer { status, head, body, raw, after: After::Open })
    }

    /// What came of an answer that its framing does not end.
    fn unframed(&mut self, after: After) -> Answer {
        let raw = std::mem::take(&mut self.read);
        let head_end = find(&raw, b"\r\n\r\n").map_or(raw.len(), |at| at + 4);
        let head = String::from_utf8_lossy(&raw[..head_end]).into_owned();
        let body = String::from_utf8_lossy(&raw[head_end..]).into_owned();
        Answer { status: status(&head), head, body, raw, after }
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

fn status(head: &str) -> u16 {
    head.get(9..12).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn length(head: &str) -> Option<usize> {
    let head = head.to_ascii_lowercase();
    head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
}

/// The body and the bytes it took, once its last chunk is there.
fn dechunk(mut bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (all, mut body) = (bytes.len(), Vec::new());
    loop {
        let line = find(bytes, b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
        let chunk = bytes.get(line + 2..line + 2 + size + 2)?;
        body.extend_from_slice(&chunk[..size]);
        bytes = &bytes[line + 2 + size + 2..];
        if size == 0 {
            return Some((body, all - bytes.len()));
        }
    }
}

/// The bytes of a POST.
pub fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: sim\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A chat request for `tokens` tokens.
pub fn chat(tokens: u32, rest: &str) -> String {
    format!(
        r#"{{"model":"mock-model","messages":[{{"role":"user","content":"hello there"}}],"max_tokens":{tokens}{rest}}}"#
    )
}

/// The bytes of a streamed chat request for `tokens` tokens.
pub fn stream(tokens: u32, headers: &str) -> String {
    let rest = r#","stream":true,"stream_options":{"include_usage":true}"#;
    post("/v1/chat/completions", headers, &chat(tokens, rest))
}

/// One request on a connection of its own.
pub fn ask(addr: SocketAddr, request: &str) -> Answer {
    let mut client = Client::connect(addr);
    client.send(request);
    client.answer(Duration::from_secs(3))
}

pub fn get(addr: SocketAddr, path: &str) -> Answer {
    ask(addr, &format!("GET {path} HTTP/1.1\r\nhost: sim\r\n\r\n"))
}

pub fn counts(addr: SocketAddr) -> Value {
    get(addr, "/sim/counts").json()
}

/// Waits until the counts show what `found` wants to see.
pub fn wait_for(addr: SocketAddr, found: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + Duration::from_secs(3);
    loop {
        let counts = counts(addr);
        if found(&counts) || Instant::now() > end {
            return counts;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
