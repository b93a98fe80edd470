//! A panic in any stage kills its own request and nothing else.

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
use crate::runtime::twin::{World, run, sleep, world};

/// Streams, whole answers and refusals on one connection.
fn asks(world: &World, name: &str) -> Vec<Ask> {
    (0..4)
        .map(|at| {
            let id = format!("{name}-{at}");
            match at {
                0 => ask::streaming(world, &id, "/v1/chat/completions", true),
                1 => ask::streaming(world, &id, "/v1/embeddings", false),
                2 => ask::unknown_model(&id),
                _ => ask::streaming(world, &id, "/v1/messages", true),
            }
        })
        .collect()
}

async fn scenario(at: Point, skip: u32) -> Vec<String> {
    let world = world();
    let book = Rc::new(Book::default());
    let habits = Habits { accidents: 0, keep_alive_max: Duration::from_secs(2) };
    server::start(&book, gateway::endpoint_address(0), habits);
    let gateway = Gateway::start(gateway::crowded(1, "", 2, 1), 1);
    inject::panic_at(at, skip);
    for number in 0..4 {
        let name = format!("c{number}");
        client::start_with(&book, &name, asks(&world, &name));
    }
    while book.clients.get() > 0 {
        sleep(Duration::from_millis(50)).await;
    }
    let mut faults = Vec::new();
    if inject::disarm() {
        faults.push("nobody came to the point".into());
    }
    faults.extend(gateway.rest().await.err());
    let series = gateway.shard.clients().core.epoch().series().shard.clone();
    if series.panics.get() != 1 {
        faults.push(format!("{} panics counted", series.panics.get()));
    }
    let rows = gateway.access.borrow().clone();
    let victims: Vec<_> = rows.iter().filter(|row| row.outcome == Outcome::Panicked).collect();
    if victims.len() != 1 {
        faults.push(format!("{} requests panicked", victims.len()));
    }
    for victim in victims {
        // Its connection ended, and with it the requests that were to follow.
        let connection = &victim.request_id.as_str()[..3];
        let mut asked = book.asked.borrow_mut();
        let same = asked.iter_mut().filter(|(id, _)| id.starts_with(connection));
        same.for_each(|(_, asked)| asked.harmed = true);
    }
    // Everybody else's requests were served, whole.
    let slack = Duration::from_secs(1);
    let excuses = Excuses { network: false, drained: false, strayed: false, slack };
    faults.extend(judge(&book, &gateway, &excuses, clock::now()));
    faults
}

#[test]
fn a_panic_in_any_stage_ends_one_request_and_leaves_nothing_out() {
    for point in Point::OF_A_REQUEST {
        for skip in 0..4 {
            let seed = u64::from(skip);
            let (faults, _) = run(seed, Faults::ROUGH, move || scenario(point, skip));
            assert!(faults.is_empty(), "{point:?}, {skip} skipped:\n{}", faults.join("\n"));
        }
    }
}
