//! llhttp's own test messages against the codec.
//!
//! `tests/corpus/http/cases.jsonl` holds 251 raw messages with llhttp's verdicts. Sluice is
//! stricter by design, so where it disagrees the case is listed in `disagreements.txt` beside it
//! with Sluice's verdict and the reason; a listed case that agrees after all fails the test too.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use sluice::http::{
    BodyDecoder, BodyStep, ChunkLimits, Framing, HeadLimits, Parsed, Reject, RequestHead,
    ResponseHead, parse_request, parse_response,
};

const HEADS: HeadLimits =
    HeadLimits { head_bytes_max: 16 << 10, header_count_max: 64, target_bytes_max: 4 << 10 };
const CHUNKS: ChunkLimits = ChunkLimits { extension_bytes_max: 1024, trailer_bytes_max: 1024 };

/// Heads of the corpus refused for want of a Host field, which HTTP/1.1 demands; they are judged
/// with one added, or the corpus would test nothing else.
const HEADS_WITHOUT_HOST: usize = 73;

/// Heads refused for a fragment in the target; they are judged without.
const TARGETS_WITH_FRAGMENT: usize = 11;

#[derive(serde::Deserialize)]
struct Case {
    title: String,
    #[serde(rename = "type")]
    kind: String,
    meta: Meta,
    input_b64: String,
    verdict: String,
}

#[derive(serde::Deserialize)]
struct Meta {
    #[serde(rename = "skipBody", default)]
    skip_body: bool,
}

/// What the codec says of a connection's bytes: accepted, or why not.
type Verdict = Result<(), &'static str>;

#[test]
fn verdicts_of_llhttp() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let cases = fs::read_to_string(directory.join("corpus/http/cases.jsonl")).unwrap();
    let listed = fs::read_to_string(directory.join("corpus/http/disagreements.txt")).unwrap();
    let mut listed = read_disagreements(&listed);
    let mut faults = Vec::new();
    let mut mended = [0, 0];
    let mut count = 0;
    for (line, text) in (1..).zip(cases.lines()) {
        count += 1;
        let case: Case = serde_json::from_str(text).unwrap();
        let (verdict, mended_here) = judge(&case);
        (0..2).for_each(|at| mended[at] += mended_here[at]);
        let agrees = verdict.is_ok() == (case.verdict == "accept");
        let ours = verdict.err().unwrap_or("accepted");
        match listed.remove(&line) {
            None if agrees => {}
            Some(entry) if !agrees && entry == ours => {}
            _ => faults.push(format!("{line} | {ours} | {} ({})", case.title, case.kind)),
        }
    }
    assert_eq!(count, 251);
    assert!(faults.is_empty(), "{} wrong:\n{}", faults.len(), faults.join("\n"));
    assert!(listed.is_empty(), "listed, but no such case: {listed:?}");
    assert_eq!(mended, [HEADS_WITHOUT_HOST, TARGETS_WITH_FRAGMENT]);
}

/// Lines of `case line | Sluice's verdict | reason`.
fn read_disagreements(text: &str) -> BTreeMap<usize, String> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let parts: Vec<&str> = line.splitn(3, " | ").collect();
            assert!(parts.len() == 3 && !parts[2].is_empty(), "no reason: {line}");
            (parts[0].parse().unwrap(), parts[1].to_owned())
        })
        .collect()
}

/// The verdict, with the numbers of heads mended to get it: Host added, fragment dropped.
fn judge(case: &Case) -> (Verdict, [usize; 2]) {
    let input = base64::engine::general_purpose::STANDARD.decode(&case.input_b64).unwrap();
    let mut connection = Connection {
        input: &input,
        skip_body: case.meta.skip_body,
        mended_hosts: 0,
        mended_targets: 0,
    };
    let verdict = if case.kind.starts_with("request") {
        connection.requests()
    } else {
        connection.responses()
    };
    (verdict, [connection.mended_hosts, connection.mended_targets])
}

/// Puts a Host field behind the request line: that of its target, if the target names one.
fn add_host(text: &mut Vec<u8>) -> usize {
    let line_end = 2 + text[2..].windows(2).position(|two| two == b"\r\n").unwrap() + 2;
    let line = String::from_utf8_lossy(&text[..line_end]).into_owned();
    let named = line.split_once("://").and_then(|(_, rest)| rest.split(['/', '?', ' ']).next());
    let field = format!("Host: {}\r\n", named.unwrap_or("h"));
    text.splice(line_end..line_end, field.into_bytes());
    1
}

/// Turns a fragment in the request line into a part of the target.
fn drop_fragment(text: &mut [u8]) -> bool {
    let line = text.split_mut(|&byte| byte == b'\r').next().unwrap();
    match line.iter().position(|&byte| byte == b'#') {
        Some(at) => {
            line[at] = b'-';
            true
        }
        None => false,
    }
}

/// The bytes of one side of a connection, read message by message.
struct Connection<'a> {
    input: &'a [u8],
    skip_body: bool,
    mended_hosts: usize,
    mended_targets: usize,
}

impl Connection<'_> {
    fn requests(&mut self) -> Verdict {
        let mut head = RequestHead::default();
        while !self.input.is_empty() {
            if self.request_head(&mut head).map_err(Reject::message)? == Parsed::Partial {
                return Ok(());
            }
            let whole = self.body(head.framing)?;
            if !whole || !head.keep_alive {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Parses a head and steps over it; one that lacks a Host field or has a fragment in its
    /// target, and is refused for that, is mended first.
    fn request_head(&mut self, head: &mut RequestHead) -> Result<Parsed, Reject> {
        let mut text = self.input.to_vec();
        loop {
            match parse_request(&text, &HEADS, head) {
                Err(Reject::MissingHost) => self.mended_hosts += add_host(&mut text),
                Err(Reject::Target) if drop_fragment(&mut text) => self.mended_targets += 1,
                parsed => {
                    let added = text.len() - self.input.len();
                    self.input = &self.input[head.bytes.saturating_sub(added)..];
                    return parsed;
                }
            }
        }
    }

    fn responses(&mut self) -> Verdict {
        let mut head = ResponseHead::default();
        while !self.input.is_empty() {
            let parsed = parse_response(self.input, &HEADS, self.skip_body, &mut head);
            if parsed.map_err(|bad| bad.message())? == Parsed::Partial {
                return Ok(());
            }
            self.input = &self.input[head.bytes..];
            let whole = self.body(head.framing)?;
            if !whole || !head.keep_alive {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Steps over a body; whether its end was there.
    fn body(&mut self, framing: Framing) -> Result<bool, &'static str> {
        if self.skip_body {
            return Ok(true);
        }
        let mut body = BodyDecoder::new(framing, CHUNKS);
        loop {
            match body.step(self.input).map_err(|error| error.message())? {
                BodyStep::Data { consumed, .. } => self.input = &self.input[consumed..],
                BodyStep::More => return Ok(false),
                BodyStep::Done { consumed } => {
                    self.input = &self.input[consumed..];
                    return Ok(true);
                }
            }
        }
    }
}
