//! What a server does with one request: an answer in steps, with an accident perhaps.

use std::time::Duration;

use crate::runtime::twin::World;

/// One thing a server does.
#[derive(Clone, Debug)]
pub enum Step {
    Send(Vec<u8>),
    Pause(Duration),
    /// Sends a reset.
    Reset,
    /// Closes in good order.
    Close,
}

/// An answer as it is planned.
#[derive(Clone, Debug)]
pub struct Script {
    pub status: u16,
    pub steps: Vec<Step>,
    /// What of the body the client is to see.
    pub visible: Vec<u8>,
    pub ends: Vec<usize>,
    pub sound: bool,
    /// The connection may carry another request afterwards.
    pub reusable: bool,
    /// A whole answer whose end is the connection's: nobody can tell it from its beginning.
    pub open_ended: bool,
    /// It says more than it may, in the end.
    pub stray: bool,
}

/// The body of an answer that nobody asked for.
const STRAY: &[u8] = b"stray";

/// What is asked of a server.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    pub id: &'a str,
    /// Which attempt of this request this is.
    pub attempt: usize,
    pub path: &'a str,
    pub streamed: bool,
    /// The client, too, asked for the usage.
    pub own_usage: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    Close,
}

/// Draws an answer. `accidents` in a million answers have one.
pub fn draw(world: &World, order: &Order<'_>, accidents: u32) -> Script {
    if world.chance(accidents) {
        return accident(world, order);
    }
    let mut body = Body::draw(world, order);
    body.paced(world);
    let framing = framing(world);
    let mut script = body.framed(world, framing, 200);
    if world.below(8) == 0 {
        script.steps.insert(0, Step::Send(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".to_vec()));
    }
    script
}

fn framing(world: &World) -> Framing {
    [Framing::Chunked, Framing::Chunked, Framing::Length, Framing::Close][world.below(4) as usize]
}

/// The pieces of a body, with the time before each.
struct Body {
    kind: &'static str,
    pieces: Vec<(Duration, Vec<u8>)>,
    /// The client is not to see this one.
    withheld: Option<usize>,
}

impl Body {
    fn draw(world: &World, order: &Order<'_>) -> Body {
        if !order.streamed {
            return Body::unary(world, order);
        }
        let mut body = Body { kind: "text/event-stream", pieces: Vec::new(), withheld: None };
        let count = 1 + world.below(12);
        let end = ["\n\n", "\r\n\r\n"][usize::from(world.below(5) == 0)];
        for at in 0..count {
            if world.below(10) == 0 {
                body.push(format!(": comment{end}"));
            }
            body.push(event(world, order, at, end));
        }
        match order.path {
            "/v1/messages" => {
                body.push(format!(
                    "event: message_delta{0}data: {{\"type\":\"message_delta\",\"delta\":\
                     {{\"stop_reason\":\"end_turn\"}},\"usage\":{{\"output_tokens\":{count}}}}}{end}",
                    &end[..end.len() / 2]
                ));
                body.push(format!(
                    "event: message_stop{0}data: {{\"type\":\"message_stop\"}}{end}",
                    &end[..end.len() / 2]
                ));
            }
            _ => body.finish_openai(order, count, end),
        }
        body
    }

    fn finish_openai(&mut self, order: &Order<'_>, count: u64, end: &str) {
        let id = order.id;
        self.push(format!(
            "data: {{\"id\":\"{id}\",\"choices\":[{{\"index\":0,\"delta\":{{}},\"text\":\"\",\
             \"finish_reason\":\"stop\"}}]}}{end}"
        ));
        if !order.own_usage {
            self.withheld = Some(self.pieces.len());
        }
        self.push(format!(
            "data: {{\"id\":\"{id}\",\"choices\":[],\"usage\":{{\"prompt_tokens\":7,\
             \"completion_tokens\":{count},\"total_tokens\":{}}}}}{end}",
            count + 7
        ));
        self.push(format!("data: [DONE]{end}"));
    }

    fn unary(world: &World, order: &Order<'_>) -> Body {
        let size = if world.below(5) == 0 { world.below(60_000) } else { world.below(500) };
        let filler = "y".repeat(size as usize);
        let text = format!(
            "{{\"id\":\"{}\",\"attempt\":{},\"object\":\"list\",\
             \"kv_transfer_params\":{{\"do_remote_prefill\":true}},\"choices\":[{{\"index\":0,\
             \"text\":\"{filler}\",\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":7,\
             \"completion_tokens\":3,\"total_tokens\":10}}}}",
            order.id, order.attempt
        );
        let cut = world.below(text.len() as u64) as usize;
        let pieces = vec![
            (Duration::ZERO, text.as_bytes()[..cut].to_vec()),
            (Duration::ZERO, text.as_bytes()[cut..].to_vec()),
        ];
        Body { kind: "application/json", pieces, withheld: None }
    }

    fn push(&mut self, text: String) {
        self.pieces.push((Duration::ZERO, text.into_bytes()));
    }

    fn paced(&mut self, world: &World) {
        let first = world.between(Duration::ZERO, Duration::from_millis(400));
        let slowest = Duration::from_millis([2, 30, 250][world.below(3) as usize]);
        for (at, (pause, _)) in self.pieces.iter_mut().enumerate() {
            *pause = match at {
                0 => first,
                _ if world.below(3) == 0 => Duration::ZERO,
                _ => world.between(Duration::ZERO, slowest),
            };
        }
    }

    fn visible(&self) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), vec![0]);
        for (at, (_, piece)) in self.pieces.iter().enumerate() {
            if self.withheld != Some(at) {
                bytes.extend_from_slice(piece);
                ends.push(bytes.len());
            }
        }
        (bytes, ends)
    }

    fn framed(&self, world: &World, framing: Framing, status: u16) -> Script {
        let (visible, ends) = self.visible();
        let length: usize = self.pieces.iter().map(|(_, piece)| piece.len()).sum();
        let close = framing == Framing::Close || world.below(12) == 0;
        let mut head = format!("HTTP/1.1 {status} Answer\r\ncontent-type: {}\r\n", self.kind);
        match framing {
            Framing::Length => head.push_str(&format!("content-length: {length}\r\n")),
            Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n"),
            Framing::Close => {}
        }
        match (close, world.below(6)) {
            (true, _) => head.push_str("connection: close\r\n"),
            (false, 0) => head.push_str("keep-alive: timeout=1\r\n"),
            _ => {}
        }
        head.push_str("\r\n");
        let mut steps = vec![Step::Send(head.into_bytes())];
        for (pause, piece) in &self.pieces {
            if !pause.is_zero() {
                steps.push(Step::Pause(*pause));
            }
            steps.push(Step::Send(frame(piece, framing)));
        }
        if framing == Framing::Chunked {
            steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
        }
        if close {
            steps.push(Step::Close);
        }
        let open_ended = framing == Framing::Close && self.kind != "text/event-stream";
        let (sound, stray, reusable) = (true, false, !close);
        Script { status, steps, visible, ends, sound, reusable, open_ended, stray }
    }
}

fn frame(piece: &[u8], framing: Framing) -> Vec<u8> {
    if framing != Framing::Chunked || piece.is_empty() {
        return piece.to_vec();
    }
    let mut framed = format!("{:X}\r\n", piece.len()).into_bytes();
    framed.extend_from_slice(piece);
    framed.extend_from_slice(b"\r\n");
    framed
}

fn event(world: &World, order: &Order<'_>, at: u64, end: &str) -> String {
    let filler = match world.below(25) {
        0 => "z".repeat(64 * 1024 + world.below(60_000) as usize),
        _ => "z".repeat(world.below(200) as usize),
    };
    let text = format!("{}/{}/{at}/{filler}", order.id, order.attempt);
    match order.path {
        "/v1/messages" => format!(
            "event: content_block_delta{0}data: {{\"type\":\"content_block_delta\",\"index\":0,\
             \"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}{end}",
            &end[..end.len() / 2]
        ),
        _ => format!(
            "data: {{\"id\":\"{}\",\"choices\":[{{\"index\":0,\"text\":\"{text}\",\
             \"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}{end}",
            order.id
        ),
    }
}

/// Draws an answer that goes wrong.
fn accident(world: &World, order: &Order<'_>) -> Script {
    match world.below(11) {
        0 => only(vec![Step::Reset]),
        1 => only(vec![Step::Close]),
        2 => only(vec![Step::Pause(Duration::from_secs(60))]),
        3 => only(vec![Step::Send(b"HTTP/1.1 200 OK\ncontent-length: 0\r\n\r\n".to_vec())]),
        4 => status(world, order),
        5 => error_behind_200(world, order),
        6 => page(world),
        7 => unfinished(world, order),
        8 => extra(world, order),
        _ => cut(world, order),
    }
}

fn only(steps: Vec<Step>) -> Script {
    let (visible, ends) = (Vec::new(), vec![0]);
    let (sound, reusable, open_ended, stray) = (false, false, false, false);
    Script { status: 0, steps, visible, ends, sound, reusable, open_ended, stray }
}

fn status(world: &World, order: &Order<'_>) -> Script {
    let code = [400, 404, 429, 429, 500, 503, 503][world.below(7) as usize];
    let text = format!("{{\"error\":{{\"message\":\"{}/{}\"}}}}", order.id, order.attempt);
    let pieces = vec![(Duration::ZERO, text.into_bytes())];
    let body = Body { kind: "application/json", pieces, withheld: None };
    Script { sound: false, ..body.framed(world, framing(world), code) }
}

fn error_behind_200(world: &World, order: &Order<'_>) -> Script {
    let mut body = Body::draw(world, &Order { streamed: true, ..*order });
    let error = "data: {\"error\":{\"message\":\"CUDA out of memory\",\"code\":500}}\n\n";
    let at = if world.below(2) == 0 { 0 } else { world.below(body.pieces.len() as u64) as usize };
    // Nothing is withheld from an answer that was not to be streamed.
    body.withheld = body.withheld.filter(|withheld| *withheld < at && order.streamed);
    body.pieces.truncate(at);
    body.push(error.into());
    Script { sound: false, ..body.framed(world, framing(world), 200) }
}

fn page(world: &World) -> Script {
    let pieces = vec![(Duration::ZERO, b"<html>".to_vec())];
    let body = Body { kind: "text/html", pieces, withheld: None };
    Script { sound: false, ..body.framed(world, Framing::Length, 200) }
}

/// Ends by its framing, without the API's own end.
fn unfinished(world: &World, order: &Order<'_>) -> Script {
    let mut body = Body::draw(world, order);
    if order.streamed {
        let keep = 1 + world.below(body.pieces.len() as u64 - 1) as usize;
        body.pieces.truncate(keep);
        body.withheld = body.withheld.filter(|withheld| *withheld < keep);
    }
    Script { sound: false, ..body.framed(world, framing(world), 200) }
}

/// Says more than it may, on a connection that stays open.
fn extra(world: &World, order: &Order<'_>) -> Script {
    let body = Body::draw(world, order);
    let mut script = body.framed(world, Framing::Chunked, 200);
    script.steps.retain(|step| !matches!(step, Step::Close));
    if world.below(2) == 0 {
        script.steps.push(Step::Pause(world.between(Duration::ZERO, Duration::from_millis(50))));
    }
    let stray = [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", STRAY].concat();
    script.steps.push(Step::Send(stray));
    Script { sound: false, stray: true, ..script }
}

/// Stops, breaks or turns to nonsense at some byte.
fn cut(world: &World, order: &Order<'_>) -> Script {
    let mut body = Body::draw(world, order);
    body.paced(world);
    let framing = framing(world);
    let mut script = body.framed(world, framing, 200);
    let at = world.below(script.steps.len() as u64) as usize;
    script.steps.truncate(at + 1);
    let end = match world.below(4) {
        0 => Step::Reset,
        1 => Step::Close,
        // Anywhere else it would be a part of the body.
        2 if framing == Framing::Chunked => Step::Send(b"zz\r\n\r\nnonsense".to_vec()),
        _ => Step::Pause(Duration::from_secs(60)),
    };
    if let (Some(Step::Send(bytes)), false) =
        (script.steps.last_mut(), matches!(end, Step::Send(_)))
    {
        bytes.truncate(world.below(bytes.len() as u64) as usize);
    }
    script.steps.push(end);
    script.steps.push(Step::Close);
    Script { sound: false, reusable: false, ..script }
}
