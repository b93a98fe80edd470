//! A server that speaks like vLLM and follows its scripts.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::book::{Book, Running};
use super::peer::{Left, Peer};
use super::reply::find;
use super::script::{self, Order, Script, Step};
use crate::runtime::clock::{self, Instant};
use crate::runtime::task;
use crate::runtime::twin::{World, net, world};

/// By then the gateway must know of bytes that it did not ask for. Before that it cannot: they may be on
/// their way while a request goes the other way.
const STRAY_TOLD: Duration = Duration::from_millis(20);

/// How a server is run.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Answers with an accident, in a million.
    pub accidents: u32,
    /// Idle connections are closed after at most this.
    pub keep_alive_max: Duration,
}

/// How long a connection may be without its first request. No server closes one that has just been made: a
/// gateway with one endpoint could give no answer then.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);

/// Listens for as long as the world lasts.
pub fn start(book: &Rc<Book>, address: SocketAddr, habits: Habits) {
    let listener = net::listen(address);
    let book = book.clone();
    task::spawn(async move {
        while let Some((socket, _)) = listener.accept().await {
            task::spawn(connection(book.clone(), Peer::new(socket), habits));
        }
    });
}

async fn connection(book: Rc<Book>, peer: Peer, habits: Habits) {
    let secured = match book.secure.get() {
        Some(secure) => peer.secured(secure.accepted()).await,
        None => Some(peer),
    };
    let Some(mut peer) = secured else { return };
    serve(&book, &mut peer, habits).await;
    peer.close().await;
}

async fn serve(book: &Rc<Book>, peer: &mut Peer, habits: Habits) {
    let mut stray: Option<Instant> = None;
    let mut fresh = true;
    loop {
        let world = world();
        let idle = world.between(Duration::from_millis(20), habits.keep_alive_max);
        let idle = if std::mem::take(&mut fresh) { idle.max(FIRST_PATIENCE) } else { idle };
        let Some(request) = read_request(peer, idle).await else { return };
        let (number, attempt) = book.begin(&request.id);
        book.with_attempt(number, |attempt| attempt.after_stray = stray.is_some());
        if stray.is_some_and(|at| clock::now().since(at) > STRAY_TOLD) && !peer.socket.harmed() {
            book.fault(format!("{}: on a connection that had something else to say", request.id));
        }
        let running = Running { book: book.clone(), number };
        if stray.is_some() {
            // Out of step: every later answer would be another request's.
            return;
        }
        let own_usage = book.with_asked(&request.id, |asked| asked.own_usage);
        let order = request.order(attempt, own_usage);
        let script = script::draw(&world, &order, habits.accidents);
        book.with_attempt(number, |attempt| {
            attempt.status = script.status;
            attempt.visible.clone_from(&script.visible);
            attempt.ends.clone_from(&script.ends);
            attempt.sound = script.sound;
            attempt.open_ended = script.open_ended;
        });
        let followed = follow(peer, &world, &script).await;
        book.with_attempt(number, |attempt| {
            attempt.sent_whole = followed.is_ok();
            attempt.harmed = peer.socket.harmed();
        });
        drop(running);
        stray = script.stray.then(clock::now);
        book.strayed.set(book.strayed.get() || script.stray);
        if followed.is_err() || !script.reusable {
            return;
        }
    }
}

async fn follow(peer: &mut Peer, world: &World, script: &Script) -> Result<(), Left> {
    let mut pending: Vec<u8> = Vec::new();
    for step in &script.steps {
        match step {
            // Several steps sometimes leave together.
            Step::Send(bytes) => {
                pending.extend_from_slice(bytes);
                if world.below(3) == 0 {
                    continue;
                }
            }
            Step::Pause(_) | Step::Reset | Step::Close => {}
        }
        peer.send(&std::mem::take(&mut pending), true).await?;
        match step {
            Step::Pause(time) => peer.pause(*time).await?,
            Step::Reset => {
                peer.socket.reset();
                return Err(Left);
            }
            Step::Close => return Ok(()),
            Step::Send(_) => {}
        }
    }
    peer.send(&pending, true).await
}

/// One request as it came.
struct Request {
    id: String,
    path: String,
    streamed: bool,
}

impl Request {
    fn order(&self, attempt: usize, own_usage: bool) -> Order<'_> {
        Order { id: &self.id, attempt, path: &self.path, streamed: self.streamed, own_usage }
    }
}

async fn read_request(peer: &mut Peer, idle: Duration) -> Option<Request> {
    loop {
        if let Some(request) = take_request(&mut peer.got) {
            return Some(request);
        }
        if peer.end.is_some() {
            return None;
        }
        if peer.got.is_empty() {
            peer.fill_within(idle).await.then_some(())?;
        } else {
            peer.fill().await;
        }
    }
}

/// Takes a request off the front of `got`, and holds the gateway to what it must send.
fn take_request(got: &mut Vec<u8>) -> Option<Request> {
    let head_end = find(got, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&got[..head_end]).expect("a head is text").to_owned();
    let field = |name: &str| {
        head.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let length: usize = field("content-length").expect("a length").parse().expect("a number");
    if got.len() < head_end + length {
        return None;
    }
    let body = std::str::from_utf8(&got[head_end..head_end + length]).expect("a body is text");
    let id = field("x-request-id").expect("an id").to_owned();
    let path = head.split(' ').nth(1).expect("a path").to_owned();
    assert!(head.starts_with("POST ") && field("transfer-encoding").is_none(), "{head}");
    assert!(field("authorization").is_none(), "the client's key went on: {head}");
    assert!(body.contains(&format!("\"user\":\"{id}\"")), "head and body of two requests: {id}");
    let known = ["up", "m", "shadow"].map(|name| format!("\"model\":\"{name}\""));
    assert!(known.iter().any(|known| body.contains(known)), "{body}");
    let streamed = body.contains("\"stream\":true");
    let usage = streamed && path != "/v1/messages";
    assert_eq!(body.contains("\"include_usage\":true"), usage, "{body}");
    serde_json::from_str::<serde_json::Value>(body).expect("a body is JSON");
    got.drain(..head_end + length);
    assert!(got.is_empty(), "more than one request at a time");
    Some(Request { id, path, streamed })
}
