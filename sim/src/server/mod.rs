//! The HTTP shell: the engine in real time behind a socket, on one thread.
//!
//! One task paces the engine and writes every new token straight to its client's socket; one task
//! per connection reads requests and watches for the client leaving, at which its sequences are
//! aborted at once.

mod config;
mod conn;
mod control;
mod core;
mod counts;
mod head;
mod live;
mod llama;
mod metrics;
mod out;
mod pairs;
mod publisher;
mod request;
mod thread;

pub use config::{DefaultFault, KvEvents, Scope, ServerConfig};
pub use counts::{ABORTS_MAX, Abort, Counts};
pub use pairs::{PairConfig, PairCounts, Role};
pub use thread::{Running, spawn_thread};

use crate::api::Limits;
use crate::engine::{Output, Time};
use crate::text::mix;
use conn::Connection;
use core::Core;
use pairs::Pairs;
use publisher::{Order, Publisher};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::LocalSet;

/// A server's state, shared by its tasks.
struct Shared {
    config: ServerConfig,
    limits: Limits,
    core: RefCell<Core>,
    pairs: RefCell<Pairs>,
    /// Somebody came or went who may be waited for.
    met: Notify,
    port: u16,
    /// Work was submitted to an engine that may be idle.
    work: Notify,
    started: Instant,
    ids: Cell<u64>,
    /// To the publisher of KV events, if there is one.
    orders: Option<mpsc::UnboundedSender<Order>>,
}

impl Shared {
    fn new(config: ServerConfig, port: u16, orders: Option<mpsc::UnboundedSender<Order>>) -> Self {
        let core = RefCell::new(Core::new(&config));
        let limits = config.limits();
        let (work, started, ids) = (Notify::new(), Instant::now(), Cell::new(0));
        let (pairs, met) = (RefCell::default(), Notify::new());
        Self { config, limits, core, pairs, met, port, work, started, ids, orders }
    }

    /// The engine's time.
    fn now(&self) -> Time {
        Time::try_from(self.started.elapsed().as_nanos()).unwrap_or(Time::MAX)
    }

    /// Hands what the engine told of its cache to the publisher, if there is one.
    fn publish(&self) {
        let Some(orders) = &self.orders else { return };
        let told = self.core.borrow_mut().engine.told();
        if !told.is_empty() {
            // The publisher goes only with the server.
            let _ = orders.send(Order::Tell(told));
        }
    }

    /// A fresh answer's id: 16 hexadecimal digits, different on every server and in every run.
    fn next_id(&self) -> String {
        self.ids.set(self.ids.get() + 1);
        let start = head::unix_now().as_nanos() as u64;
        format!("{:016x}", mix(mix(self.limits.seed, start), self.ids.get()))
    }
}

/// Serves for ever, or until accepting fails for good.
///
/// The future is not `Send`: run it with `block_on` on a current-thread runtime (timers and I/O
/// enabled), or within a `LocalSet`. Dropping it closes every connection.
pub async fn serve(listener: TcpListener, config: ServerConfig) -> io::Result<()> {
    let tasks = LocalSet::new();
    let port = listener.local_addr()?.port();
    let mut orders = None;
    if let Some(events) = &config.kv_events {
        let (sender, receiver) = mpsc::unbounded_channel();
        let publisher = Publisher::open(events, config.engine.block_size).await?;
        tasks.spawn_local(publisher.run(receiver));
        orders = Some(sender);
    }
    tasks.run_until(accept(listener, Rc::new(Shared::new(config, port, orders)))).await
}

async fn accept(listener: TcpListener, shared: Rc<Shared>) -> io::Result<()> {
    tokio::task::spawn_local(pace(shared.clone()));
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                let connection = Connection::new(shared.clone(), socket);
                tokio::task::spawn_local(connection.run());
            }
            Err(error) if is_passing(&error) => tokio::time::sleep(ACCEPT_PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}

/// How long to wait when no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Errors of one connection, or of a moment, not of the listener.
fn is_passing(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound)
}

/// Runs the engine: sleeps up to each step's end, and hands out what it gave.
async fn pace(shared: Rc<Shared>) {
    let mut outputs: Vec<Output> = Vec::new();
    loop {
        let next = shared.core.borrow().engine.next_wakeup();
        match next {
            None => shared.work.notified().await,
            Some(at) if at > shared.now() => {
                let deadline = shared.started + Duration::from_nanos(at);
                tokio::time::sleep_until(deadline.into()).await;
            }
            // Behind, or without pacing: let the connections have their turn.
            Some(_) => tokio::task::yield_now().await,
        }
        turn(&shared, &mut outputs);
    }
}

/// Runs the steps that are over by now, but no more than a connection can wait for.
fn turn(shared: &Shared, outputs: &mut Vec<Output>) {
    let mut core = shared.core.borrow_mut();
    let (now, mut handed) = (shared.now(), 0);
    while handed < OUTPUTS_PER_TURN && core.engine.advance_step(now, outputs) {
        core.deliver(outputs);
        handed += outputs.len().max(1);
        outputs.clear();
    }
    drop(core);
    shared.publish();
}

/// Outputs written before connections have their turn; a step is never split.
const OUTPUTS_PER_TURN: usize = 64;
