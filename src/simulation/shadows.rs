//! Copies of requests beside the requests: whatever becomes of copies and of those who answer them, requests
//! come to what they should, and nothing stays out.

use std::rc::Rc;
use std::time::Duration;

use super::ask::Ask;
use super::book::Book;
use super::check::{Excuses, judge};
use super::gateway::{self, Gateway};
use super::server::{self, Habits};
use super::{ask, client};
use crate::lifecycle::inject::{self, Point};
use crate::lifecycle::outcome::Outcome;
use crate::runtime::clock;
use crate::runtime::twin::faults::Faults;
use crate::runtime::twin::{run, sleep, world};
use crate::shard::link::Command;

/// Streams and whole answers, entered in the copies' book, too.
fn asks(copies: &Book, name: &str) -> Vec<Ask> {
    let paths = ["/v1/chat/completions", "/v1/embeddings", "/v1/messages"];
    let asks = paths.into_iter().enumerate().map(|(at, path)| {
        let ask = ask::streaming(&world(), &format!("{name}-{at}"), path, at != 1);
        client::enter(copies, &ask, false);
        ask
    });
    asks.collect()
}

/// What happens in a run.
#[derive(Clone, Copy, Default)]
struct Events {
    /// Of those who answer copies, in a million.
    accidents: u32,
    /// Where, and how often it is passed before.
    panic: Option<(Point, u32)>,
    drain: Option<Duration>,
}

/// One endpoint for requests, one for copies.
async fn scenario(events: Events) -> (Vec<String>, usize) {
    let Events { accidents, panic, drain } = events;
    let (book, copies) = (Rc::new(Book::default()), Rc::new(Book::default()));
    let keep_alive_max = Duration::from_secs(2);
    server::start(&book, gateway::endpoint_address(0), Habits { accidents: 0, keep_alive_max });
    server::start(&copies, gateway::endpoint_address(1), Habits { accidents, keep_alive_max });
    let gateway = Gateway::start(gateway::shadowed(1, 0, 1), 1);
    if let Some((point, skip)) = panic {
        inject::panic_at(point, skip);
    }
    for number in 0..4 {
        let name = format!("c{number}");
        client::start_with(&book, &name, asks(&copies, &name));
    }
    if let Some(after) = drain {
        sleep(after).await;
        gateway.shard.tell(Command::Drain);
    }
    // Copies that are still under way end with the drain.
    while book.clients.get() > 0 {
        sleep(Duration::from_millis(50)).await;
    }
    let mut faults = Vec::new();
    faults.extend(gateway.rest().await.err());
    let panics = gateway.shard.clients().core.epoch().series().shard.panics.get();
    let armed = panic.is_some() && !inject::disarm();
    if panics != u64::from(armed) {
        faults.push(format!("{panics} panics counted"));
    }
    for row in gateway.access.borrow().iter().filter(|row| row.outcome == Outcome::Panicked) {
        // It was a request's own: the connection ended, and with it those that were to follow.
        let connection = &row.request_id.as_str()[..3];
        let mut asked = book.asked.borrow_mut();
        let same = asked.iter_mut().filter(|(id, _)| id.starts_with(connection));
        same.for_each(|(_, asked)| asked.harmed = true);
    }
    let running = copies.attempts.borrow().iter().filter(|copy| copy.over.is_none()).count();
    if running > 0 {
        faults.push(format!("{running} copies still answered"));
    }
    let slack = Duration::from_secs(1);
    let excuses =
        Excuses { network: false, drained: drain.is_some(), strayed: book.strayed.get(), slack };
    faults.extend(judge(&book, &gateway, &excuses, clock::now()));
    let seen = copies.attempts.borrow().len();
    (faults, seen)
}

#[test]
fn requests_come_to_what_they_should_whatever_their_copies_meet() {
    let mut seen = 0;
    for seed in 0..40 {
        let accidents = [0, 400_000, 1_000_000][seed as usize % 3];
        let events = Events { accidents, ..Events::default() };
        let ((faults, copies), _) = run(seed, Faults::ROUGH, move || scenario(events));
        assert!(faults.is_empty(), "seed {seed}:\n{}", faults.join("\n"));
        seen += copies;
    }
    // Each request has a copy, but for those of the last moment before a drain.
    assert!(seen > 40 * 12 / 2, "only {seen} copies were made");
}

#[test]
fn a_drain_ends_copies_wherever_they_are() {
    for step in 0..150 {
        let drain = Some(Duration::from_millis(2 * step));
        let events = Events { accidents: 400_000, drain, ..Events::default() };
        let ((faults, _), _) = run(step, Faults::ROUGH, move || scenario(events));
        assert!(faults.is_empty(), "after {drain:?}:\n{}", faults.join("\n"));
    }
}

#[test]
fn a_panic_in_a_copy_is_the_copys_alone() {
    for point in Point::OF_A_REQUEST {
        for skip in 0..8 {
            let events = Events { panic: Some((point, skip)), ..Events::default() };
            let ((faults, _), _) = run(u64::from(skip), Faults::ROUGH, move || scenario(events));
            assert!(faults.is_empty(), "{point:?}, {skip} skipped:\n{}", faults.join("\n"));
        }
    }
}
