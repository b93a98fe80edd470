//! Requests that wait for a place: who leaves is out at once, who is dropped leaves nothing behind, and
//! there are never more at work than there are places.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::ask;
use super::book::Book;
use super::client;
use super::drops;
use super::gateway::{self, Gateway};
use super::peer::Peer;
use super::server::{self, Habits};
use crate::lifecycle::kind::Kind;
use crate::lifecycle::outcome::Outcome;
use crate::runtime::task;
use crate::runtime::twin::faults::Faults;
use crate::runtime::twin::{net, run, sleep, world};

/// More than a word takes to get around.
const MOMENT: Duration = Duration::from_millis(30);
/// Longer than a request waits in line.
const PATIENCE: Duration = Duration::from_millis(2_200);

/// A server that reads and never answers; how many connections brought it something.
fn silent(address: SocketAddr) -> Rc<Cell<usize>> {
    let (listener, asked) = (net::listen(address), Rc::new(Cell::new(0)));
    let count = asked.clone();
    task::spawn(async move {
        while let Some((socket, _)) = listener.accept().await {
            let count = count.clone();
            task::spawn(async move {
                let mut peer = Peer::new(socket);
                peer.fill().await;
                count.set(count.get() + usize::from(!peer.got.is_empty()));
                while peer.end.is_none() {
                    peer.fill().await;
                }
            });
        }
    });
    asked
}

async fn ask(name: &str) -> Peer {
    let ask = ask::streaming(&world(), name, "/v1/chat/completions", true);
    let mut peer = Peer::connect(gateway::listen_address()).await.expect("it listens");
    peer.send(&ask.bytes, false).await.expect("it reads");
    sleep(MOMENT * 4).await;
    peer
}

/// Requests that hold a place, that wait, and that the server saw.
fn at(gateway: &Gateway, seen: &Cell<usize>) -> [usize; 3] {
    let ledgers = &gateway.shard.clients().core.kit.ledgers;
    let out = |kind| ledgers.read(kind).outstanding as usize;
    [out(Kind::EndpointPlace), out(Kind::QueuePlace), seen.get()]
}

async fn comings_and_goings() -> Vec<String> {
    let seen = silent(gateway::endpoint_address(0));
    let gateway = Gateway::start(gateway::crowded(1, "", 1, 1), 1);
    let (a, b, c) = (ask("a").await, ask("b").await, ask("c").await);
    let mut found = vec![at(&gateway, &seen)];
    drop(b);
    sleep(MOMENT).await;
    found.push(at(&gateway, &seen));
    // Whoever has the place leaves: the next one has it.
    drop(a);
    sleep(MOMENT * 3).await;
    found.push(at(&gateway, &seen));
    let mut d = ask("d").await;
    found.push(at(&gateway, &seen));
    sleep(PATIENCE).await;
    d.fill().await;
    found.push(at(&gateway, &seen));
    let told = String::from_utf8_lossy(&d.got).to_lowercase();
    let mut faults = Vec::new();
    if !told.starts_with("http/1.1 503") || !told.contains("retry-after: ") {
        faults.push(told);
    }
    drop((c, d));
    let expected = [[1, 2, 1], [1, 1, 1], [1, 0, 2], [1, 1, 2], [1, 0, 2]];
    if found != expected {
        faults.push(format!("{found:?}, not {expected:?}"));
    }
    faults.extend(gateway.rest().await.err());
    faults.extend(gateway.imbalances());
    faults
}

#[test]
fn who_leaves_gives_its_place_to_the_next_one_at_once() {
    for seed in 0..20 {
        let (faults, _) = run(seed, Faults::NONE, comings_and_goings);
        assert!(faults.is_empty(), "seed {seed}: {}", faults.join("\n"));
    }
}

/// How often somebody in line was looked at: while nothing is free, and when a place is.
async fn looks() -> (Vec<usize>, Vec<String>) {
    let seen = silent(gateway::endpoint_address(0));
    let gateway = Gateway::start(gateway::crowded(1, "", 1, 1), 1);
    let first = ask("first").await;
    let looks = || gateway.shard.clients().core.hall.looks();
    let before = looks();
    let mut others = Vec::new();
    for name in ["b", "c", "d", "e", "f"] {
        others.push(ask(name).await);
    }
    let mut found = vec![at(&gateway, &seen)[1], looks() - before];
    // Who leaves leaves nothing free.
    drop(others.pop());
    sleep(MOMENT).await;
    found.extend([at(&gateway, &seen)[1], looks() - before]);
    drop(first);
    sleep(MOMENT * 3).await;
    found.extend([at(&gateway, &seen)[1], looks() - before]);
    drop(others);
    let mut faults: Vec<String> = gateway.rest().await.err().into_iter().collect();
    faults.extend(gateway.imbalances());
    (found, faults)
}

#[test]
fn nobody_in_line_is_looked_at_while_nothing_is_free() {
    let ((found, faults), _) = run(1, Faults::NONE, looks);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(found, [5, 0, 4, 0, 3, 1]);
}

/// One model's requests, each sent behind the one before it, and one of another model that waits for the
/// same place: how many go before it.
async fn crossing(seed: u64) -> (usize, Vec<String>) {
    let book = Rc::new(Book::default());
    let habits = Habits { accidents: 0, keep_alive_max: Duration::from_secs(1) };
    server::start(&book, gateway::endpoint_address(0), habits);
    let gateway = Gateway::start(gateway::crowded(1, "", 1, 1), seed);
    let many: Vec<_> = (0..6).map(|at| ask::short(&format!("many-{at}"), "m")).collect();
    let one = ask::short("one", "renamed");
    many.iter().chain([&one]).for_each(|ask| client::enter(&book, ask, false));
    let mut crowd = Peer::connect(gateway::listen_address()).await.expect("it listens");
    let mut other = Peer::connect(gateway::listen_address()).await.expect("it listens");
    let bytes: Vec<u8> = many.iter().flat_map(|ask| ask.bytes.clone()).collect();
    crowd.send_only(&bytes).await.expect("it reads");
    while book.attempts.borrow().is_empty() {
        sleep(Duration::from_micros(50)).await;
    }
    other.send_only(&one.bytes).await.expect("it reads");
    let ended = |peer: &Peer| peer.end.is_some();
    while book.attempts.borrow().len() < 7 && !(ended(&crowd) && ended(&other)) {
        crowd.fill_within(MOMENT).await;
        other.fill_within(MOMENT).await;
    }
    sleep(MOMENT * 10).await;
    drop((crowd, other));
    let mut faults: Vec<String> = gateway.rest().await.err().into_iter().collect();
    faults.extend(gateway.imbalances());
    let attempts = book.attempts.borrow();
    let at = attempts.iter().position(|attempt| attempt.id == "one");
    (at.unwrap_or(usize::MAX), faults)
}

#[test]
fn newcomers_of_one_model_do_not_overtake_who_waits_for_another() {
    for seed in 0..20 {
        let ((before, faults), _) = run(seed, Faults::NONE, move || crossing(seed));
        assert!(faults.is_empty(), "seed {seed}: {}", faults.join("\n"));
        assert!(before <= 2, "seed {seed}: {before} went before it");
    }
}

/// One request behind others for the only place, dropped after so many polls.
async fn dropped(seed: u64, polls: usize) -> (bool, Vec<String>) {
    let book = Rc::new(Book::default());
    let habits = Habits { accidents: 0, keep_alive_max: Duration::from_secs(1) };
    server::start(&book, gateway::endpoint_address(0), habits);
    let gateway = Gateway::start(gateway::crowded(1, "", 1, 1), seed);
    let listener = net::listen(drops::address());
    for name in ["before-0", "before-1"] {
        let ask = ask::streaming(&world(), name, "/v1/messages", true);
        client::start_with(&book, name, vec![ask]);
        sleep(MOMENT).await;
    }
    let ask = ask::streaming(&world(), "r", "/v1/messages", true);
    client::enter(&book, &ask, false);
    drops::send(ask);
    let finished = drops::serve_once(gateway.clone(), listener, polls).await;
    let finished = finished.expect("a lawful head");
    // Those before and after it get their answers.
    let after = ask::streaming(&world(), "after", "/v1/messages", true);
    client::start_with(&book, "after", vec![after]);
    while book.clients.get() > 0 {
        sleep(MOMENT).await;
    }
    let mut faults: Vec<String> = gateway.rest().await.err().into_iter().collect();
    faults.extend(gateway.imbalances());
    for row in gateway.access.borrow().iter() {
        let own = row.request_id.as_str() == "r";
        let right = match own {
            true => finished == (row.outcome != Outcome::Abandoned),
            false => matches!(row.outcome, Outcome::Completed | Outcome::Unavailable),
        };
        if !right {
            faults.push(format!("{}: {:?}", row.request_id.as_str(), row.outcome));
        }
    }
    (finished, faults)
}

#[test]
fn a_request_in_line_can_be_dropped_at_every_await() {
    for seed in 0..6 {
        let mut ended = false;
        for polls in 0..5_000 {
            let ((finished, faults), _) = run(seed, Faults::ROUGH, move || dropped(seed, polls));
            assert!(faults.is_empty(), "seed {seed}, {polls} polls: {}", faults.join("\n"));
            ended = finished;
            if ended {
                break;
            }
        }
        assert!(ended, "seed {seed}: the request never ended");
    }
}

/// Many at a few places: the most that servers had at once, and those that were served.
async fn crowd(seed: u64) -> (usize, usize, Vec<String>) {
    let book = Rc::new(Book::default());
    let habits = Habits { accidents: 0, keep_alive_max: Duration::from_secs(1) };
    (0..2).for_each(|at| server::start(&book, gateway::endpoint_address(at), habits));
    let gateway = Gateway::start(gateway::crowded(2, "", 1, 1), seed);
    for number in 0..6 {
        let name = format!("c{number}");
        let ask =
            |at| ask::streaming(&world(), &format!("{name}-{at}"), "/v1/messages", at % 2 == 0);
        client::start_with(&book, &name, (0..3).map(ask).collect());
    }
    while book.clients.get() > 0 {
        sleep(MOMENT).await;
    }
    let mut faults: Vec<String> = gateway.rest().await.err().into_iter().collect();
    faults.extend(gateway.imbalances());
    let attempts = book.attempts.borrow();
    let at_once = |began| {
        // A server knows of its answer's end a little after the gateway.
        let running = attempts.iter().filter(|attempt| {
            let over = attempt.over.expect("all is over");
            attempt.began <= began && over.since(began) > Duration::from_millis(5)
        });
        running.count()
    };
    let most = attempts.iter().map(|attempt| at_once(attempt.began)).max();
    let rows = gateway.access.borrow();
    let served = rows.iter().filter(|row| row.outcome == Outcome::Completed).count();
    (most.unwrap_or(0), served, faults)
}

#[test]
fn there_are_never_more_at_work_than_places() {
    let mut all = 0;
    for seed in 0..20 {
        let ((most, served, faults), _) = run(seed, Faults::ROUGH, move || crowd(seed));
        assert!(faults.is_empty(), "seed {seed}: {}", faults.join("\n"));
        assert!(most <= 2, "seed {seed}: {most} at once");
        all += served;
    }
    assert!(all > 100, "{all} served");
}
