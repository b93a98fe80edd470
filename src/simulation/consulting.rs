//! Requests that wait for what engines hold of their prompts: whoever answers, or does not, and whoever
//! leaves, each goes on or is out at once, and nobody's place is kept.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::book::Book;
use super::check::{Excuses, judge};
use super::gateway::{self, Gateway};
use super::server::{self, Habits};
use super::{ask, client, drops};
use crate::lifecycle::inject::{self, Point};
use crate::lifecycle::outcome::Outcome;
use crate::relay::core::Core;
use crate::route::precise::{Answer, Lane, Told};
use crate::route::views::{EngineView, Views};
use crate::runtime::twin::faults::Faults;
use crate::runtime::twin::{net, run, sleep, world};
use crate::runtime::{clock, task};
use crate::shard::gossip;
use crate::shard::link::Command;
use crate::telemetry::row::Row;

/// Two servers whose engines tell of their caches, and are busy for others.
async fn world_of(book: &Rc<Book>, seed: u64) -> Rc<Gateway> {
    for at in 0..2 {
        let habits = Habits { accidents: 0, keep_alive_max: Duration::from_secs(2) };
        server::start(book, gateway::endpoint_address(at), habits);
    }
    let plan = gateway::telling(2, 1);
    let mut views = Views::unprobed(&plan);
    let busy = || EngineView { running: Some(60_000), waiting: Some(0), ..EngineView::default() };
    views.endpoints.iter_mut().for_each(|view| view.engine = Some(busy()));
    let gateway = Gateway::start(plan, seed);
    gateway.shard.tell(Command::Views(Arc::new(views)));
    let core = gateway.shard.clients().core.clone();
    task::spawn(answer(core));
    // That others are there shows in a decision.
    client::start_with(book, "first", vec![ask::short("first-0", "m")]);
    while book.clients.get() > 0 {
        sleep(Duration::from_millis(10)).await;
    }
    gateway
}

/// What the control plane does: answers, soon, late or never.
async fn answer(core: Rc<Core>) {
    let lane = Arc::new(Lane::default());
    core.listen_to(lane.clone());
    loop {
        sleep(world().between(Duration::from_millis(1), Duration::from_millis(60))).await;
        while let Some(prompt) = lane.question() {
            let (ticket, told) = (prompt.waiter.expect("a question").ticket, told());
            if world().below(4) > 0 {
                lane.answers.push(Answer { ticket, told }).expect("there is room");
            }
        }
        gossip::hear_engines(&core, &lane);
    }
}

fn told() -> Told {
    let counted = world().below(3) > 0;
    Told { tokens: counted.then_some(3_000), everywhere: counted && world().below(2) > 0 }
}

/// Clients that come and go; one request may panic beside its answer.
async fn many(seed: u64, panics: Option<u32>) -> (usize, Vec<String>) {
    let book = Rc::new(Book::default());
    let gateway = world_of(&book, seed).await;
    if let Some(skip) = panics {
        inject::panic_at(Point::Consulted, skip);
    }
    for number in 0..8 {
        let name = format!("c{number}");
        let asks = (0..3).map(|at| ask::long(&format!("{name}-{at}"))).collect();
        client::start_with(&book, &name, asks);
    }
    while book.clients.get() > 0 {
        sleep(Duration::from_millis(50)).await;
    }
    let mut faults: Vec<String> = gateway.rest().await.err().into_iter().collect();
    let rows = gateway.access.borrow().clone();
    let consulted = rows.iter().filter(|row| row.consulted_micros.is_some()).count();
    let panicked = rows.iter().filter(|row| row.outcome == Outcome::Panicked);
    let victims: Vec<String> = panicked.map(|row| row.request_id.as_str()[..3].into()).collect();
    if victims.len() != usize::from(panics.is_some()) || inject::disarm() {
        faults.push(format!("{victims:?} panicked"));
    }
    for (id, asked) in book.asked.borrow_mut().iter_mut() {
        asked.harmed |= victims.iter().any(|victim| id.starts_with(victim));
    }
    let slack = Duration::from_secs(1);
    let excuses = Excuses { network: false, drained: false, strayed: false, slack };
    faults.extend(judge(&book, &gateway, &excuses, clock::now()));
    (consulted, faults)
}

#[test]
fn whatever_engines_say_requests_go_on() {
    for seed in 0..24 {
        let ((consulted, faults), _) = run(seed, Faults::ROUGH, move || many(seed, None));
        assert!(faults.is_empty(), "seed {seed}:\n{}", faults.join("\n"));
        assert!(consulted > 12, "seed {seed}: {consulted} of 24 asked");
    }
}

#[test]
fn a_panic_beside_a_question_ends_one_request() {
    for seed in 0..6 {
        let panicking = move || many(seed, Some(seed as u32));
        let ((_, faults), _) = run(seed, Faults::ROUGH, panicking);
        assert!(faults.is_empty(), "seed {seed}:\n{}", faults.join("\n"));
    }
}

/// Whether the request was at its end, whether it was dropped beside its question, and what is wrong.
async fn dropped(seed: u64, polls: usize) -> (bool, bool, Vec<String>) {
    let book = Rc::new(Book::default());
    let gateway = world_of(&book, seed).await;
    let listener = net::listen(drops::address());
    let ask = ask::long("r");
    client::enter(&book, &ask, false);
    drops::send(ask);
    let ended = drops::serve_once(gateway.clone(), listener, polls).await.expect("a lawful head");
    sleep(Duration::from_millis(100)).await;
    let mut faults: Vec<String> = gateway.rest().await.err().into_iter().collect();
    faults.extend(gateway.imbalances());
    let unheard = |row: &Row| row.request_id.as_str() == "r" && row.consulted_micros.is_none();
    let asked = gateway.shard.clients().core.consults.begun() > 0;
    let beside = asked && gateway.access.borrow().iter().any(unheard);
    (ended, beside, faults)
}

#[test]
fn a_request_can_be_dropped_while_its_engines_are_asked() {
    for seed in 0..6 {
        let mut at_its_question = 0;
        let end = (0..5_000).find(|polls| {
            let polls = *polls;
            let one = move || dropped(seed, polls);
            let ((ended, beside, faults), _) = run(seed, Faults::ROUGH, one);
            assert!(faults.is_empty(), "seed {seed}, {polls} polls:\n{}", faults.join("\n"));
            at_its_question += usize::from(beside);
            ended
        });
        assert!(end.is_some(), "seed {seed}: the request never ended");
        assert!(at_its_question > 0, "seed {seed}: it was never dropped there");
    }
}
