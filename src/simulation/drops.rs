//! The request future, dropped at every place where it can wait: nothing stays out, there is one outcome,
//! and what was admitted was not free.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::ask::{self, Ask};
use super::book::Book;
use super::client;
use super::gateway::{self, Gateway};
use super::peer::Peer;
use super::server::{self, Habits};
use crate::http::wire::Wire;
use crate::lifecycle::outcome::Outcome;
use crate::relay::inbound::Inbound;
use crate::relay::serve::serve;
use crate::runtime::socket::Socket;
use crate::runtime::task;
use crate::runtime::twin::faults::Faults;
use crate::runtime::twin::{net, run, sleep, world};
use crate::shard::http1::{Http1, Next};

/// Bytes of a body that cost at least one token.
const BODY_BYTES_PER_TOKEN: u64 = 8;

/// Where the connection listens whose request is dropped.
pub fn address() -> SocketAddr {
    "127.0.0.1:8081".parse().expect("an address")
}

/// What came of one request.
struct Dropped {
    finished: bool,
    /// Two servers shared it.
    shared: bool,
    faults: Vec<String>,
}

/// Polls `future` so many times and drops it; whether it had come to its end.
async fn polled<F: Future>(future: F, polls: usize) -> bool {
    let mut future = Box::pin(future);
    let mut left = polls;
    poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            // Dropped here, at the place where it waits.
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Sends the request there, and takes whatever comes until the connection ends.
pub fn send(ask: Ask) {
    task::spawn(async move {
        let mut peer = Peer::connect(address()).await.expect("it listens");
        let _ = peer.send(&ask.bytes, false).await;
        while peer.end.is_none() {
            peer.fill().await;
        }
    });
}

/// Serves one request of the first connection, for so many polls.
pub async fn serve_once(
    gateway: Rc<Gateway>,
    listener: net::Listener,
    polls: usize,
) -> Option<bool> {
    let (socket, peer) = listener.accept().await?;
    let clients = gateway.shard.clients();
    let core = &clients.core;
    let wire = Wire::plain(Socket::from_twin(socket), core.kit.pool.clone());
    let mut http = Http1::new(wire, core.kit.clone(), Rc::default());
    let mut inbound = Inbound::new(peer);
    match http.next(&mut inbound, || core.epoch()).await {
        Next::Request => {}
        Next::End | Next::Fault(_) => return None,
    }
    Some(polled(serve(core, core.epoch(), &mut inbound, &mut http), polls).await)
}

/// Lines that pair every model's endpoints with one that prefills.
fn pairs(protocol: &str) -> String {
    let pair = |model: &str| {
        format!(
            "[[pairs]]\nmodel = \"{model}\"\nprotocol = \"{protocol}\"\nprefill = [\"p\"]\n\
             uncached_tokens_min = 0\nprefill_seconds = 2\nlease_seconds = 30\n"
        )
    };
    let url = gateway::endpoint_address(5);
    let endpoint =
        format!("[[endpoints]]\nname = \"p\"\nurl = \"http://{url}\"\nengine = \"generic\"\n");
    [endpoint, pair("m"), pair("renamed")].concat()
}

async fn one(seed: u64, polls: usize, more: &str) -> Dropped {
    let book = Rc::new(Book::default());
    let accidents = if seed.is_multiple_of(2) { 0 } else { 700_000 };
    let habits = Habits { accidents, keep_alive_max: Duration::from_secs(1) };
    server::start(&book, gateway::endpoint_address(1), habits);
    server::start(&book, gateway::endpoint_address(2), habits);
    server::start(&book, gateway::endpoint_address(5), habits);
    // Nobody listens at the first endpoint.
    let gateway = Gateway::start(gateway::plan(3, more, 1), seed);
    let listener = net::listen(address());
    let world = world();
    // Two servers share what both know.
    let other = if more.is_empty() { "/v1/messages" } else { "/v1/completions" };
    let path = ["/v1/chat/completions", other][world.below(2) as usize];
    let ask = ask::streaming(&world, "r", path, world.below(4) > 0);
    let length = ask.bytes.len();
    client::enter(&book, &ask, false);
    send(ask);
    let finished = serve_once(gateway.clone(), listener, polls).await.expect("a lawful head");
    // A leg whose partner has answered is heard out for a second.
    let patience = if more.contains("sglang") { 1_100 } else { 100 };
    sleep(Duration::from_millis(patience)).await;
    let mut faults = Vec::new();
    let running = book.attempts.borrow().iter().filter(|attempt| attempt.over.is_none()).count();
    if running > 0 {
        faults.push(format!("{running} servers still at work"));
    }
    if let Err(fault) = gateway.rest().await {
        faults.push(fault);
    }
    faults.extend(gateway.imbalances());
    faults.extend(outcome(&gateway, polls, finished));
    faults.extend(spend(&gateway, &book, length as u64));
    let shared = gateway.access.borrow().iter().any(|row| row.prefill_endpoint.is_some());
    Dropped { finished, shared, faults }
}

fn outcome(gateway: &Gateway, polls: usize, finished: bool) -> Option<String> {
    let outcomes: Vec<_> = gateway.access.borrow().iter().map(|row| row.outcome).collect();
    let right = match (polls, finished) {
        (0, _) => outcomes.is_empty(),
        (_, true) => outcomes.len() == 1 && outcomes[0] != Outcome::Abandoned,
        (_, false) => outcomes == [Outcome::Abandoned],
    };
    (!right).then(|| format!("outcomes: {outcomes:?}"))
}

fn spend(gateway: &Gateway, book: &Book, request_bytes: u64) -> Option<String> {
    let (rows, (input, _)) = (gateway.usage.borrow().len(), gateway.shard.clients().core.booked());
    // The head is no part of the body; an engine's own count stands for the floor.
    let floor = (request_bytes.saturating_sub(300) / BODY_BYTES_PER_TOKEN).min(7);
    let seen = !book.attempts.borrow().is_empty();
    let right = match rows {
        0 => input == 0 && !seen,
        _ => rows == 1 && input >= floor,
    };
    (!right).then(|| format!("{rows} usage rows, {input} input tokens booked, floor {floor}"))
}

#[test]
fn a_request_can_be_dropped_at_every_await() {
    assert_eq!(at_every_await(0..12, ""), 0);
}

#[test]
fn so_can_one_that_two_servers_share() {
    for protocol in ["nixl", "sglang"] {
        assert!(at_every_await(0..6, &pairs(protocol)) > 0, "{protocol}: nothing was shared");
    }
}

/// Of these seeds, those whose request two servers shared.
fn at_every_await(seeds: std::ops::Range<u64>, more: &str) -> usize {
    let mut shared = 0;
    for seed in seeds {
        let mut ended = false;
        for polls in 0..5_000 {
            let more = more.to_owned();
            let one = move || async move { one(seed, polls, &more).await };
            let (dropped, _) = run(seed, Faults::ROUGH, one);
            let faults = dropped.faults.join("\n");
            assert!(faults.is_empty(), "seed {seed}, dropped after {polls} polls:\n{faults}");
            ended = dropped.finished;
            if ended {
                shared += usize::from(dropped.shared);
                break;
            }
        }
        assert!(ended, "seed {seed}: the request never ended");
    }
    shared
}
