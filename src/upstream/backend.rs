//! One endpoint as one shard holds it: idle connections, counts, what was learned of its habits.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::connection::Connection;
use crate::config::plan::Plan;
use crate::runtime::clock::Instant;

/// How long before a server's own keep-alive end a connection to it is no longer used.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// An endpoint's connections in this shard. Survives reloads as long as its identity does.
pub struct Backend {
    idle: RefCell<Vec<Idle>>,
    /// Connections that exist, idle or not.
    open: Cell<usize>,
    /// Which of several addresses comes next.
    turn: Cell<usize>,
    /// The keep-alive time the server told us, if it did.
    keep_alive: Cell<Option<Duration>>,
    retired: Cell<bool>,
}

struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

/// All endpoints of a shard, by identity; in an order of its own, so that a simulated run repeats.
#[derive(Default)]
pub struct Backends {
    by_identity: RefCell<BTreeMap<u64, Rc<Backend>>>,
}

impl Backends {
    /// The plan's endpoints in its order; connections to what is no longer in it are closed as they
    /// become idle.
    pub fn bind(&self, plan: &Plan) -> Vec<Rc<Backend>> {
        let mut known = self.by_identity.borrow_mut();
        let bound: Vec<_> = plan
            .endpoints
            .iter()
            .map(|endpoint| known.entry(endpoint.identity).or_insert_with(Backend::new).clone())
            .collect();
        known.retain(|identity, backend| {
            let kept = plan.endpoints.iter().any(|endpoint| endpoint.identity == *identity);
            if !kept {
                backend.retire();
            }
            kept
        });
        bound
    }

    /// Closes what has idled too long; called now and then by the tick.
    pub fn sweep(&self, now: Instant, idle_max: Duration) {
        for backend in self.by_identity.borrow().values() {
            backend.sweep(now, idle_max);
        }
    }

    /// Closes every idle connection.
    pub fn close_idle(&self) {
        for backend in self.by_identity.borrow().values() {
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
        let limit = self.idle_limit(idle_max);
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

    /// Learns that the server closed a connection that had idled this long.
    fn learn(&self, lived: Duration) {
        let limit = lived.max(KEEP_ALIVE_MARGIN);
        if self.keep_alive.get().is_none_or(|known| limit < known) {
            self.keep_alive.set(Some(limit));
        }
    }

    fn idle_limit(&self, configured: Duration) -> Duration {
        match self.keep_alive.get() {
            Some(told) => {
                let margin = KEEP_ALIVE_MARGIN.min(told / 4);
                configured.min(told.saturating_sub(margin))
            }
            None => configured,
        }
    }

    fn sweep(&self, now: Instant, idle_max: Duration) {
        let limit = self.idle_limit(idle_max);
        let mut closed_after = None;
        self.idle.borrow_mut().retain_mut(|idle| {
            let lived = now.since(idle.since);
            let silent = idle.connection.idles();
            if !silent {
                closed_after = Some(lived);
            }
            silent && lived <= limit
        });
        if let Some(lived) = closed_after {
            self.learn(lived);
        }
    }

    /// The next address to try.
    pub fn next_address(&self, addresses: &[SocketAddr]) -> Option<SocketAddr> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        addresses.get(turn.checked_rem(addresses.len())?).copied()
    }

    pub(super) fn opened(&self) {
        self.open.set(self.open.get() + 1);
    }

    pub(super) fn closed(&self) {
        self.open.set(self.open.get() - 1);
    }
}
