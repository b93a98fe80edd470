//! A shard that dies of a panic outside any request, on the real drivers: its successor serves on the same
//! listening socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gateway;
use crate::config::plan::Driver;
use crate::lifecycle::inject;
use crate::route::views::{Bound, Views};
use crate::runtime::bell::Bell;
use crate::runtime::driver;
use crate::runtime::listener;
use crate::shard::accept::Lane;
use crate::shard::link::{self, Command};
use crate::shard::room::Descriptors;
use crate::shard::run::{self, Spec};
use crate::telemetry::Registry;
use crate::telemetry::shard::ShardState;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(10);

fn spec(wanted: Driver, endpoint: SocketAddr) -> Option<(Spec, SocketAddr, Arc<Bound>)> {
    let choice = driver::choose(wanted, 1, 256).ok()?;
    let listener = listener::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
    let address = listener::address(&listener).unwrap();
    let plan = Arc::new(gateway::plan_of(&[endpoint], "", 1));
    let mut registry = Registry::new(1, 64);
    let bound = link::bind(&mut registry, &plan, &Arc::new(Views::unprobed(&plan))).remove(0);
    let bell = Bell::new().unwrap();
    let commands = Arc::new(crossbeam::queue::ArrayQueue::new(8));
    let lanes = vec![Lane::new(bell.clone(), 1)];
    let spec = Spec {
        index: 0,
        cpu: None,
        listener,
        commands,
        bell,
        lanes,
        bound: bound.clone(),
        choice,
        descriptors: Descriptors::UNBOUNDED,
        bank: None,
    };
    Some((spec, address, bound))
}

/// Asks on a connection that stays open.
fn ask(address: SocketAddr) -> TcpStream {
    let began = Instant::now();
    loop {
        // While the shard is away the kernel still accepts for it.
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let ask = b"GET /v1/models HTTP/1.1\r\nhost: g\r\nauthorization: Bearer sk-good\r\n\r\n";
        let mut got = [0; 12];
        if stream.write_all(ask).and_then(|()| stream.read_exact(&mut got)).is_ok() {
            assert_eq!(&got, b"HTTP/1.1 200");
            return stream;
        }
        assert!(began.elapsed() < PATIENCE, "nobody answers");
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn dies_and_serves_on(wanted: Driver) {
    let engine = TcpListener::bind("127.0.0.1:0").unwrap();
    let Some((spec, address, bound)) = spec(wanted, engine.local_addr().unwrap()) else {
        eprintln!("{wanted:?} is not to be had here");
        return;
    };
    let (commands, bell) = (spec.commands.clone(), spec.bell.clone());
    let series = bound.series.shard.clone();
    let thread = run::spawn(spec).unwrap();
    let mut idle = ask(address);
    let mut waiting = ask(address);
    let work = "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer sk-good\r\n\
                content-length: 13\r\n\r\n{\"model\":\"m\"}";
    waiting.write_all(work.as_bytes()).unwrap();
    let (mut engine, _) = engine.accept().unwrap();
    engine.set_read_timeout(Some(PATIENCE)).unwrap();
    engine.read_exact(&mut [0; 30]).unwrap();
    inject::panic_in_tick_of(thread.thread().id());
    until("it did not die", || series.panics.get() == 1);
    let died = Instant::now();
    for connection in [&mut idle, &mut waiting, &mut engine] {
        let _ = connection.read_to_end(&mut Vec::new());
        assert!(died.elapsed() < PATIENCE / 2, "somebody was left waiting");
    }
    until("it did not come back", || series.state() == ShardState::Serving);
    drop(ask(address));
    assert!(commands.push(Command::Stop).is_ok());
    bell.ring();
    thread.join().unwrap();
    assert_eq!(series.state(), ShardState::Drained);
    assert_eq!((series.panics.get(), series.connections_open.get()), (1, 0));
}

#[test]
fn a_shard_that_died_serves_on_with_epoll() {
    dies_and_serves_on(Driver::Epoll);
}

#[test]
fn a_shard_that_died_serves_on_with_uring() {
    dies_and_serves_on(Driver::Uring);
}
