//! One endpoint as one shard holds it: idle connections, counts, what was learned of its habits.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::connection::Connection;
use crate::config::plan::{Endpoint, Plan};
use crate::runtime::clock::Instant;

/// How long before a server's own keep-alive end a connection to it is no longer used.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// An endpoint's connections in this shard. Survives reloads as long as its identity and its name do.
pub struct Backend {
    idle: RefCell<Vec<Idle>>,
    /// Connections that exist, idle or not.
    open: Cell<usize>,
    /// Which of several addresses comes next.
    turn: Cell<usize>,
    /// The keep-alive time the server told us, if it did.
    keep_alive: Cell<Option<Duration>>,
    /// The idle time after which it was last seen to close connections, and when that was.
    learned: Cell<Option<(Duration, Instant)>>,
    retired: Cell<bool>,
}

/// How long what was learned is believed.
const LEARNED_FOR: Duration = Duration::from_secs(300);

struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

/// All endpoints of a shard; in an order of its own, so that a simulated run repeats.
#[derive(Default)]
pub struct Backends {
    known: RefCell<BTreeMap<Key, Rc<Backend>>>,
}

/// Identity and name: endpoints that share an address have a cap and a pool each.
type Key = (u64, Box<str>);

fn key(endpoint: &Endpoint) -> Key {
    (endpoint.identity, endpoint.name.clone())
}

impl Backends {
    /// The plan's endpoints in its order; connections to what is no longer in it are closed as they
    /// become idle.
    pub fn bind(&self, plan: &Plan) -> Vec<Rc<Backend>> {
        let mut known = self.known.borrow_mut();
        let keys: Vec<_> = plan.endpoints.iter().map(key).collect();
        let bound: Vec<_> = keys
            .iter()
            .map(|key| known.entry(key.clone()).or_insert_with(Backend::new).clone())
            .collect();
        let keys: BTreeSet<_> = keys.into_iter().collect();
        known.retain(|key, backend| {
            let kept = keys.contains(key);
            if !kept {
                backend.retire();
            }
            kept
        });
        bound
    }

    /// Closes what has idled too long; called now and then by the tick.
    pub fn sweep(&self, now: Instant, idle_max: Duration) {
        for backend in self.known.borrow().values() {
            backend.sweep(now, idle_max);
        }
    }

    /// Closes every idle connection.
    pub fn close_idle(&self) {
        for backend in self.known.borrow().values() {
            backend.idle.borrow_mut().clear();
        }
    }
}

impl Backend {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            idle: RefCell::default(),
            open: Cell::new(0),
            turn: Cell::new(0),
            keep_alive: Cell::new(None),
            learned: Cell::new(None),
            retired: Cell::new(false),
        })
    }

    fn retire(&self) {
        self.retired.set(true);
        self.idle.borrow_mut().clear();
    }

    /// Connections that exist.
    pub fn open(&self) -> usize {
        self.open.get()
    }

    /// Connections that wait for work.
    pub fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    /// The most recently used idle connection that is still good.
    pub fn checkout(&self, now: Instant, idle_max: Duration) -> Option<Box<Connection>> {
        let limit = self.idle_limit(idle_max, now);
        loop {
            let mut idle = self.idle.borrow_mut().pop()?;
            if now.since(idle.since) <= limit && idle.connection.idles() {
                return Some(idle.connection);
            }
        }
    }

    /// Takes back a connection whose answer ended cleanly.
    pub fn put_back(&self, connection: Box<Connection>, keep_alive_s: Option<u32>, now: Instant) {
        if let Some(seconds) = keep_alive_s {
            self.keep_alive.set(Some(Duration::from_secs(u64::from(seconds))));
        }
        if !self.retired.get() {
            self.idle.borrow_mut().push(Idle { connection, since: now });
        }
    }

    /// Learns from connections that the server closed, by how long they had idled. A server that stops
    /// closes them all, whatever their age: only ages that agree say something of its habits.
    fn learn(&self, shortest: Duration, longest: Duration, now: Instant) {
        if longest >= KEEP_ALIVE_MARGIN && shortest >= longest / 2 {
            self.learned.set(Some((longest, now)));
        }
    }

    fn idle_limit(&self, configured: Duration, now: Instant) -> Duration {
        let learned = self.learned.get().filter(|(_, at)| now.since(*at) < LEARNED_FOR);
        let habits = [self.keep_alive.get(), learned.map(|(idle, _)| idle)];
        habits.into_iter().flatten().fold(configured, |limit, told| {
            let margin = KEEP_ALIVE_MARGIN.min(told / 4);
            limit.min(told.saturating_sub(margin))
        })
    }

    fn sweep(&self, now: Instant, idle_max: Duration) {
        let limit = self.idle_limit(idle_max, now);
        let mut closed: Option<(Duration, Duration)> = None;
        self.idle.borrow_mut().retain_mut(|idle| {
            let lived = now.since(idle.since);
            let silent = idle.connection.idles();
            if !silent {
                let (shortest, longest) = closed.unwrap_or((lived, lived));
                closed = Some((shortest.min(lived), longest.max(lived)));
            }
            silent && lived <= limit
        });
        if let Some((shortest, longest)) = closed {
            self.learn(shortest, longest, now);
        }
    }

    /// The next address to try.
    pub fn next_address(&self, addresses: &[SocketAddr]) -> Option<SocketAddr> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        addresses.get(turn.checked_rem(addresses.len())?).copied()
    }

    /// Counts a connection, from before it is made until the count is dropped.
    pub(super) fn count(self: &Rc<Self>) -> Counted {
        self.open.set(self.open.get() + 1);
        Counted(self.clone())
    }
}

/// One connection in its backend's count.
pub(super) struct Counted(Rc<Backend>);

impl Counted {
    pub(super) fn backend(&self) -> &Rc<Backend> {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}
