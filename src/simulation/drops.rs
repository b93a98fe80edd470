//! The request future, dropped at every place where it can wait: nothing stays out, there is one outcome,
//! and what was admitted was not free.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::book::Book;
use super::gateway::{self, Gateway};
use super::peer::Peer;
use super::server::{self, Habits};
use super::{ask, client};
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

async fn one(seed: u64, polls: usize) -> Dropped {
    let book = Rc::new(Book::default());
    let accidents = if seed.is_multiple_of(2) { 0 } else { 700_000 };
    let habits = Habits { accidents, keep_alive_max: Duration::from_secs(1) };
    server::start(&book, gateway::endpoint_address(1), habits);
    server::start(&book, gateway::endpoint_address(2), habits);
    // Nobody listens at the first endpoint.
    let gateway = Gateway::start(gateway::plan(3, "", 1), seed);
    let listener = net::listen(address());
    let world = world();
    let path = ["/v1/chat/completions", "/v1/messages"][world.below(2) as usize];
    let ask = ask::streaming(&world, "r", path, world.below(4) > 0);
    let length = ask.bytes.len();
    client::enter(&book, &ask, false);
    task::spawn(async move {
        let mut peer = Peer::connect(address()).await.expect("it listens");
        let _ = peer.send(&ask.bytes, false).await;
        while peer.end.is_none() {
            peer.fill().await;
        }
    });
    let finished = serve_once(gateway.clone(), listener, polls).await.expect("a lawful head");
    sleep(Duration::from_millis(100)).await;
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
    Dropped { finished, faults }
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
    for seed in 0..12 {
        let mut ended = false;
        for polls in 0..5_000 {
            let (dropped, _) = run(seed, Faults::ROUGH, move || one(seed, polls));
            let faults = dropped.faults.join("\n");
            assert!(faults.is_empty(), "seed {seed}, dropped after {polls} polls:\n{faults}");
            ended = dropped.finished;
            if ended {
                break;
            }
        }
        assert!(ended, "seed {seed}: the request never ended");
    }
}
