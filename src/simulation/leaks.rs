//! A gateway that loses one permit must not look sound.

use std::rc::Rc;
use std::time::Duration;

use super::book::Book;
use super::gateway::{self, Gateway};
use super::server::{self, Habits};
use super::{ask, client};
use crate::lifecycle::inject;
use crate::lifecycle::kind::Kind;
use crate::runtime::twin::faults::Faults;
use crate::runtime::twin::{run, sleep, world};

/// Requests that between them take something of every kind.
async fn scenario(leak: Option<Kind>) -> (Vec<Kind>, Vec<(Kind, u64)>, Vec<String>) {
    let book = Rc::new(Book::default());
    // Nobody listens at the first endpoint, so that there are retries.
    let habits = Habits { accidents: 0, keep_alive_max: Duration::from_secs(1) };
    server::start(&book, gateway::endpoint_address(1), habits);
    let copies = Rc::new(Book::default());
    server::start(&copies, gateway::endpoint_address(2), habits);
    let gateway = Gateway::start(gateway::shadowed(2, 1, 1), 1);
    if let Some(kind) = leak {
        inject::leak_next(kind);
    }
    for number in 0..4 {
        let world = world();
        let name = format!("c{number}");
        let asks = (0..3)
            .map(|at| {
                let id = format!("{name}-{at}");
                let ask = ask::streaming(&world, &id, "/v1/chat/completions", at != 1);
                client::enter(&copies, &ask, false);
                ask
            })
            .collect();
        client::start_with(&book, &name, asks);
    }
    while book.clients.get() > 0 {
        sleep(Duration::from_millis(50)).await;
    }
    let rested = gateway.rest().await;
    let ledgers = &gateway.shard.clients().core.kit.ledgers;
    let used = Kind::ALL.into_iter().filter(|kind| ledgers.read(*kind).issued > 0).collect();
    let mut faults = gateway.imbalances();
    faults.extend(rested.err());
    (used, gateway.outstanding(), faults)
}

#[test]
fn without_a_leak_every_kind_is_used_and_balances() {
    let ((used, out, faults), _) = run(5, Faults::ROUGH, || scenario(None));
    assert_eq!(used, Kind::ALL);
    assert!(out.is_empty() && faults.is_empty(), "{out:?} {faults:?}");
}

#[test]
fn one_lost_permit_of_any_kind_is_found() {
    for kind in Kind::ALL {
        let ((_, out, faults), _) = run(5, Faults::ROUGH, move || scenario(Some(kind)));
        let kinds: Vec<_> = out.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [kind], "{out:?}");
        assert!(faults.iter().any(|fault| fault.contains("ledgers out")), "{faults:?}");
    }
}
