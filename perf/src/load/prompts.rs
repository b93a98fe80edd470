//! The requests: bytes that all of them share, and a number between them that makes each its own. Nothing is
//! copied to send one, however large it is.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::TcpStream;
use std::rc::Rc;

use fastrand::Rng;
use serde_json::Value;

use super::spec::{Prompts, Shape, Spec};
use crate::traffic::payload::{Text, push_text};
use crate::traffic::peer::Message;

/// Digits of the number.
const ID_BYTES: usize = 16;

/// One request: the head and the body's beginning, its number, text, and the body's end.
#[derive(Clone)]
pub struct Request {
    front: Rc<[u8]>,
    id: [u8; ID_BYTES],
    text: Rc<[u8]>,
    /// How much of the text belongs to it.
    text_bytes: usize,
    back: &'static str,
}

/// A conversation between two of its turns.
pub struct Conversation {
    id: [u8; ID_BYTES],
    turn: usize,
}

/// Makes requests.
pub struct Maker {
    kind: Kind,
    text: Rc<[u8]>,
    random: Rng,
}

enum Kind {
    /// The beginnings to choose from, and whether numbers differ.
    Alike { fronts: Vec<Rc<[u8]>>, same: bool, back: &'static str },
    /// Beginnings and lengths of the text, by turn; conversations that wait for their next one.
    Turns { turns: Vec<(Rc<[u8]>, usize)>, waiting: VecDeque<Conversation> },
}

impl Message for Request {
    fn bytes(&self) -> usize {
        self.front.len() + ID_BYTES + self.text_bytes + self.back.len()
    }

    fn write(&self, mut from: usize, to: &mut TcpStream) -> io::Result<usize> {
        let text = &self.text[..self.text_bytes];
        let mut slices = [IoSlice::new(&[]); 4];
        let mut count = 0;
        for part in [&self.front[..], &self.id, text, self.back.as_bytes()] {
            if from < part.len() {
                slices[count] = IoSlice::new(&part[from..]);
                count += 1;
            }
            from = from.saturating_sub(part.len());
        }
        to.write_vectored(&slices[..count])
    }
}

impl Maker {
    /// Prepares the requests of a load.
    pub fn new(spec: &Spec) -> Self {
        let random = Rng::with_seed(spec.seed ^ 0x5EED_0F1D);
        match spec.request {
            Shape::Unary { body_bytes, text, output_tokens } => {
                Self::alike(spec, body_bytes, text, output_tokens, random)
            }
            Shape::Stream { body_bytes, text, output_tokens } => {
                Self::alike(spec, body_bytes, text, output_tokens, random)
            }
            Shape::Agent { first_bytes, last_bytes, turns, output_tokens } => {
                Self::turns(spec, (first_bytes, last_bytes), turns, output_tokens, random)
            }
        }
    }

    fn alike(spec: &Spec, body_bytes: usize, text: Text, tokens: u32, random: Rng) -> Self {
        let back = "\"}]}";
        let opened = opening(spec, tokens);
        let (prefixes, share) = match spec.prompts {
            Prompts::Shared { prefixes, share } => (prefixes, share),
            Prompts::Same | Prompts::Unique => (1, 0.0),
        };
        let shared = matches!(spec.prompts, Prompts::Shared { .. });
        let joint = if shared { "\"},{\"role\":\"user\",\"content\":\"" } else { "" };
        let behind =
            if shared { " " } else { " You are terse.\"},{\"role\":\"user\",\"content\":\"" };
        let frame = opened.len() + joint.len() + ID_BYTES + behind.len() + back.len();
        let room = body_bytes.saturating_sub(frame);
        let prefix_bytes = (room as f64 * share) as usize;
        let mut common = behind.as_bytes().to_vec();
        push_text(&mut common, behind.len() + room - prefix_bytes, text);
        let begun = |number: u32| {
            let mut body = opened.clone().into_bytes();
            if shared {
                let length = (body.len() + prefix_bytes).max(body.len() + ID_BYTES);
                body.extend_from_slice(&digits(
                    u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15),
                ));
                push_text(&mut body, length, text);
                body.extend_from_slice(joint.as_bytes());
            }
            front(spec, &body, ID_BYTES + common.len() + back.len())
        };
        let fronts = (1..=prefixes).map(begun).collect();
        let same = spec.prompts == Prompts::Same;
        Self { kind: Kind::Alike { fronts, same, back }, text: common.into(), random }
    }

    fn turns(spec: &Spec, bytes: (usize, usize), turns: u32, tokens: u32, random: Rng) -> Self {
        let opened = opening(spec, tokens);
        let mut text = b" You are an agent.\"}".to_vec();
        let step = (bytes.1 - bytes.0) / (turns as usize - 1).max(1);
        let frame = opened.len() + ID_BYTES + END.len();
        let each = |turn: usize| {
            let length = (bytes.0 + step * turn).saturating_sub(frame);
            if turn > 0 {
                let answer = text.len() + step / 8;
                push_message(&mut text, "assistant", answer);
            }
            push_message(&mut text, "user", length);
            let behind = ID_BYTES + text.len() + END.len();
            (front(spec, opened.as_bytes(), behind), text.len())
        };
        let turns = (0..turns as usize).map(each).collect();
        Self { kind: Kind::Turns { turns, waiting: VecDeque::new() }, text: text.into(), random }
    }

    /// The next request, and the conversation that it is a turn of.
    pub fn next(&mut self) -> (Request, Option<Conversation>) {
        let text = self.text.clone();
        match &mut self.kind {
            Kind::Alike { fronts, same, back } => {
                let front = &fronts[self.random.usize(..fronts.len())];
                let id = digits(if *same { 0 } else { self.random.u64(..) });
                let text_bytes = text.len();
                (Request { front: front.clone(), id, text, text_bytes, back }, None)
            }
            Kind::Turns { turns, waiting } => {
                let begin = || Conversation { id: digits(self.random.u64(..)), turn: 0 };
                let now = waiting.pop_front().unwrap_or_else(begin);
                let (front, text_bytes) = turns[now.turn].clone();
                (Request { front, id: now.id, text, text_bytes, back: END }, Some(now))
            }
        }
    }

    /// A turn is over: its conversation waits for the next one, unless it was the last.
    pub fn give_back(&mut self, conversation: Option<Conversation>) {
        if let (Kind::Turns { turns, waiting }, Some(mut now)) = (&mut self.kind, conversation) {
            now.turn += 1;
            if now.turn < turns.len() {
                waiting.push_back(now);
            }
        }
    }
}

/// The end of a conversation's body.
const END: &str = "]}";

fn push_message(text: &mut Vec<u8>, role: &str, length: usize) {
    text.extend_from_slice(format!(",{{\"role\":\"{role}\",\"content\":\"").as_bytes());
    push_text(text, length.saturating_sub(2), Text::Escaped);
    text.extend_from_slice(b"\"}");
}

/// A body up to the first message's text.
fn opening(spec: &Spec, tokens: u32) -> String {
    let model = Value::from(spec.model.as_str());
    let stream = spec.request.streams();
    format!(
        "{{\"model\":{model},\"stream\":{stream},\"max_tokens\":{tokens},\"temperature\":0.7,\
         \"messages\":[{{\"role\":\"system\",\"content\":\""
    )
}

/// The head, and the body's beginning, behind which so many bytes follow.
fn front(spec: &Spec, body: &[u8], behind: usize) -> Rc<[u8]> {
    let (path, authority) = (spec.target.path(), &spec.target.authority);
    let accept = if spec.request.streams() { "text/event-stream" } else { "application/json" };
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nhost: {authority}\r\naccept: {accept}\r\n\
         user-agent: sluice-perf/{}\r\ncontent-type: application/json\r\n\
         accept-encoding: identity\r\ncontent-length: {}\r\n",
        env!("CARGO_PKG_VERSION"),
        body.len() + behind
    );
    if let Some(key) = &spec.api_key {
        head += &format!("authorization: Bearer {key}\r\n");
    }
    for (name, value) in &spec.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    [head.as_bytes(), body].concat().into()
}

fn digits(number: u64) -> [u8; ID_BYTES] {
    std::array::from_fn(|at| b"0123456789abcdef"[(number >> (60 - 4 * at)) as usize & 15])
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;
    use crate::load::spec::Arrivals;
    use crate::traffic::peer::head;

    fn maker(request: Shape, prompts: Prompts) -> Maker {
        let target = "http://127.0.0.1:1/v1".parse().unwrap();
        let arrivals = Arrivals::Closed { concurrency: 1 };
        Maker::new(&Spec { prompts, ..Spec::new(target, arrivals, request, 1) })
    }

    fn bytes(request: &Request) -> Vec<u8> {
        let text = &request.text[..request.text_bytes];
        [&request.front, &request.id[..], text, request.back.as_bytes()].concat()
    }

    /// The body, which must be JSON and as long as the head says.
    fn body(request: &Request) -> Vec<u8> {
        let bytes = bytes(request);
        assert_eq!(bytes.len(), request.bytes());
        let (end, length) = head(&bytes).unwrap();
        assert_eq!(bytes.len() - end, length as usize);
        let body = bytes[end..].to_vec();
        let parsed: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(parsed["model"], "mock-model");
        body
    }

    fn common(a: &[u8], b: &[u8]) -> usize {
        a.iter().zip(b).take_while(|(a, b)| a == b).count()
    }

    #[test]
    fn bodies_have_their_size() {
        for prompts in [Prompts::Same, Prompts::Unique, Prompts::Shared { prefixes: 3, share: 0.5 }]
        {
            for text in [Text::Plain, Text::Escaped] {
                for body_bytes in [1024, 8192, 8193, 3 << 20] {
                    let shape = Shape::Stream { body_bytes, text, output_tokens: 8 };
                    assert_eq!(body(&maker(shape, prompts).next().0).len(), body_bytes);
                }
            }
        }
    }

    #[test]
    fn prompts_differ_as_they_should() {
        let shape = Shape::Unary { body_bytes: 4096, text: Text::Escaped, output_tokens: 8 };
        let pair = |prompts| {
            let mut maker = maker(shape, prompts);
            (body(&maker.next().0), body(&maker.next().0))
        };
        let (a, b) = pair(Prompts::Same);
        assert_eq!(a, b);
        let (a, b) = pair(Prompts::Unique);
        assert!(common(&a, &b) < 200);
        let (a, b) = pair(Prompts::Shared { prefixes: 1, share: 0.8 });
        assert!((3_200..3_700).contains(&common(&a, &b)), "{}", common(&a, &b));
    }

    #[test]
    fn conversations_grow_and_begin_anew() {
        let (first_bytes, last_bytes, turns) = (20_000, 100_000, 5);
        let shape = Shape::Agent { first_bytes, last_bytes, turns, output_tokens: 8 };
        let mut maker = maker(shape, Prompts::Same);
        let mut before: Vec<u8> = Vec::new();
        for turn in 0..5 {
            let (request, conversation) = maker.next();
            let now = body(&request);
            let wanted = 20_000 + turn * 20_000;
            assert!(now.len().abs_diff(wanted) < 16, "turn {turn}: {}", now.len());
            assert!(before.is_empty() || common(&before, &now) == before.len() - END.len());
            before = now;
            maker.give_back(conversation);
        }
        let (request, _) = maker.next();
        let anew = body(&request);
        assert!(anew.len() < 20_016 && common(&before, &anew) < 200);
    }

    #[test]
    fn a_request_leaves_whole_from_wherever_it_stopped() {
        let shape = Shape::Unary { body_bytes: 400, text: Text::Plain, output_tokens: 8 };
        let request = maker(shape, Prompts::Unique).next().0;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let whole = bytes(&request);
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        for from in 0..whole.len() {
            assert_eq!(request.write(from, &mut stream).unwrap(), whole.len() - from);
            let mut came = vec![0; whole.len() - from];
            other.read_exact(&mut came).unwrap();
            assert_eq!(came, whole[from..], "from {from}");
        }
    }
}
