//! A shard's thread: from its pinning to its last ledger.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;

use crate::config::plan::Limits;
use crate::lifecycle::kind::Kind;
use crate::relay::core::Core;
use crate::route::views::Bound;
use crate::runtime::bell::{Bell, Listening};
use crate::runtime::clock::{self, Instant};
use crate::runtime::driver::{self, Choice};
use crate::runtime::kit::Kit;
use crate::runtime::listener::Listener;
use crate::runtime::task::{self, Panicked};
use crate::shard::accept::{self, Lane};
use crate::shard::connection::Clients;
use crate::shard::gossip;
use crate::shard::link::{self, Command};
use crate::shard::room::Descriptors;
use crate::shard::tick::Ticker;
use crate::telemetry::shard::{DriverInUse, ShardState};

/// Pause before a shard that died is started again.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// How long a life that ended waits for its operations to end, too.
const CLOSING_PAUSE: Duration = Duration::from_millis(20);
/// Lives of one shard: what has failed so often will fail again.
const LIVES_MAX: u32 = 1_000;
/// How long connections that must go may take to tell their clients.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// How long connections that were ended may take to notice.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// What a shard is made of.
pub struct Spec {
    pub index: usize,
    pub cpu: Option<core_affinity::CoreId>,
    pub listener: OwnedFd,
    pub commands: Arc<ArrayQueue<Command>>,
    pub bell: Bell,
    /// All shards', by index.
    pub lanes: Vec<Lane>,
    pub bound: Arc<Bound>,
    pub choice: Choice,
    /// What the process may have open.
    pub descriptors: Descriptors,
    /// Wakes the bank, where there are shares to be shared out.
    pub bank: Option<link::Bell>,
}

/// Starts the shard's thread.
///
/// # Errors
/// The kernel's, when there are no more threads to be had.
pub fn spawn(spec: Spec) -> io::Result<JoinHandle<()>> {
    let name = format!("sluice-shard-{}", spec.index);
    std::thread::Builder::new().name(name).spawn(move || supervise(&spec))
}

/// Runs the shard, again if it dies: connections are lost then, the listening socket is not.
fn supervise(spec: &Spec) {
    if let Some(cpu) = spec.cpu {
        core_affinity::set_for_current(cpu);
    }
    let life = Life {
        bound: RefCell::new(spec.bound.clone()),
        listener: RefCell::new(spec.listener.try_clone().ok()),
        phase: Cell::new(Phase::Serving),
    };
    for _ in 0..LIVES_MAX {
        let live = || driver::block_on(&spec.choice, || live(spec, &life)).flatten();
        let ran = catch_unwind(AssertUnwindSafe(live)).unwrap_or(Ok(Err(Panicked)));
        let series = life.bound.borrow().series.shard.clone();
        match ran {
            Ok(Ok(())) => return series.set_state(ShardState::Drained),
            Err(error) => {
                crate::telemetry::say::error("a shard cannot start", &[("error", &error)])
            }
            Ok(Err(Panicked)) => {
                series.panics.inc();
                series.restarts.inc();
                crate::telemetry::say::error(
                    "a shard died and is restarted",
                    &[("shard", &spec.index)],
                );
            }
        }
        series.set_state(ShardState::Starting);
        series.connections_open.set(0);
        std::thread::sleep(RESTART_PAUSE);
    }
    life.bound.borrow().series.shard.set_state(ShardState::Dead);
    crate::telemetry::say::error(
        "a shard died too often and stays down",
        &[("shard", &spec.index)],
    );
}

/// What outlives a shard's death.
pub(super) struct Life {
    pub(super) bound: RefCell<Arc<Bound>>,
    /// `None` once the shard no longer accepts.
    pub(super) listener: RefCell<Option<OwnedFd>>,
    pub(super) phase: Cell<Phase>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) enum Phase {
    Serving,
    Draining,
    Stopping,
}

/// One life of the shard. Whatever its end, nothing of it is left: its connections are closed.
async fn live(spec: &Spec, life: &Life) -> io::Result<Result<(), Panicked>> {
    let ran = task::caught(main(spec, life)).await;
    task::drop_all();
    // The kernel gives back what was under way.
    clock::sleep(CLOSING_PAUSE).await;
    match ran {
        Ok(result) => result.map(Ok),
        Err(Panicked) => Ok(Err(Panicked)),
    }
}

async fn main(spec: &Spec, life: &Life) -> io::Result<()> {
    let bound = life.bound.borrow().clone();
    let core = Core::new(kit(spec, &bound), bound.clone());
    if let Some(bank) = &spec.bank {
        let bank = bank.clone();
        core.hall.set_bank(Box::new(move || bank()));
    }
    let draining = life.phase.get() > Phase::Serving;
    let clients = Rc::new(Clients::new(core, spec.descriptors, draining));
    if clients.draining.get() {
        clients.handles.give_notice();
    }
    let lanes: Rc<[Lane]> = spec.lanes.iter().cloned().collect();
    clients.core.listen_to(spec.lanes[spec.index].precise.clone());
    let bell = spec.bell.listen()?;
    let inbox = Rc::new(Inbox::new(clients, lanes));
    announce(spec, &bound);
    inbox.listen(life);
    epochs(&inbox, life, answer_bell(&bell, &inbox, spec, life)).await;
    Ok(())
}

/// One epoch after the other, until a drain or a stop is over. What rings in between is answered by
/// `answering`.
pub(super) async fn epochs(inbox: &Inbox, life: &Life, answering: impl Future<Output = ()>) {
    let ticker = Ticker::new(inbox.clients.core.clone(), inbox.lanes.clone());
    let tick = life.bound.borrow().plan.runtime.tick;
    let mut answering = std::pin::pin!(answering);
    loop {
        race(clock::sleep(tick), answering.as_mut()).await;
        inbox.swap_plan(life);
        ticker.tick();
        assert!(!task::died(), "a task of the shard's own died");
        if life.phase.get() > Phase::Serving && inbox.finished(life) {
            break;
        }
    }
    inbox.settle().await;
    ticker.publish();
}

fn kit(spec: &Spec, bound: &Bound) -> Kit {
    let mut seed = [0; 8];
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed);
    let kit = Kit::new(bound.plan.runtime.tick, u64::from_ne_bytes(seed) ^ spec.index as u64);
    limit(&kit, &bound.plan.limits);
    kit
}

/// What the ledgers let out at once.
pub(super) fn limit(kit: &Kit, limits: &Limits) {
    for (kind, most) in [
        (Kind::BodyBytes, limits.body_bytes_per_shard_max),
        (Kind::AnswerBytes, limits.answer_hold_bytes_per_shard_max),
        (Kind::ShadowCopy, limits.shadow_requests_per_shard_max),
        (Kind::ShadowBytes, limits.shadow_bytes_per_shard_max),
    ] {
        kit.ledgers.set_limit(kind, most as u64);
    }
}

fn announce(spec: &Spec, bound: &Bound) {
    let driver = match spec.choice.kind {
        driver::Kind::Uring => DriverInUse::Uring,
        driver::Kind::Epoll => DriverInUse::Epoll,
    };
    bound.series.shard.set_driver(driver, spec.choice.entries);
    bound.series.shard.plan_generation.set(bound.plan.generation);
}

/// Answers the doorbell for ever.
async fn answer_bell(bell: &Listening, inbox: &Inbox, spec: &Spec, life: &Life) {
    loop {
        bell.rung().await;
        while let Some((fd, peer)) = spec.lanes[spec.index].fresh.pop() {
            accept::take(&inbox.clients, fd, peer);
        }
        while let Some(command) = spec.commands.pop() {
            inbox.obey(command, life);
        }
        gossip::hear_engines(&inbox.clients.core, &spec.lanes[spec.index].precise);
        // It may have been the bank.
        inbox.clients.core.hall.tick(&inbox.clients.core.epoch());
    }
}

/// Polls both; over when the first is.
async fn race(
    first: impl Future<Output = ()>,
    mut second: std::pin::Pin<&mut impl Future<Output = ()>>,
) {
    let mut first = std::pin::pin!(first);
    std::future::poll_fn(|cx| {
        let _ = second.as_mut().poll(cx);
        first.as_mut().poll(cx)
    })
    .await;
}

/// What the control plane's commands act on.
pub(super) struct Inbox {
    pub(super) clients: Rc<Clients>,
    pub(super) lanes: Rc<[Lane]>,
    pub(super) listener: RefCell<Option<Rc<Listener>>>,
    /// Waits for the end of the epoch.
    pub(super) plan: RefCell<Option<Arc<Bound>>>,
    /// After a stop: when the connections that are still there are ended.
    pub(super) ending: Cell<Instant>,
}

impl Inbox {
    pub(super) fn new(clients: Rc<Clients>, lanes: Rc<[Lane]>) -> Self {
        let (listener, plan) = (RefCell::default(), RefCell::default());
        Self { clients, lanes, listener, plan, ending: Cell::default() }
    }

    fn listen(&self, life: &Life) {
        let series = life.bound.borrow().series.shard.clone();
        let Some(listener) = life.listener.borrow().as_ref().and_then(|fd| Listener::new(fd).ok())
        else {
            return series.set_state(ShardState::Draining);
        };
        let listener = Rc::new(listener);
        *self.listener.borrow_mut() = Some(listener.clone());
        let (clients, lanes) = (self.clients.clone(), self.lanes.clone());
        task::spawn(async move {
            // Ends with the shard's drain; the listener is shut down then, and this wait with it.
            let draining = clients.clone();
            let mut accepting = std::pin::pin!(accept::accept_all(clients, listener, lanes));
            std::future::poll_fn(|cx| match draining.draining.get() {
                true => std::task::Poll::Ready(()),
                false => accepting.as_mut().poll(cx),
            })
            .await;
        });
        series.set_state(ShardState::Serving);
    }

    pub(super) fn obey(&self, command: Command, life: &Life) {
        match command {
            Command::Plan(bound) => *self.plan.borrow_mut() = Some(bound),
            Command::Views(views) => self.clients.core.set_views(views),
            Command::Drain => self.drain(life, Phase::Draining),
            Command::Stop => {
                self.drain(life, Phase::Stopping);
                self.ending.set(clock::now().after(LAST_WORDS));
                self.clients.handles.dismiss_all();
            }
        }
    }

    /// Epoch boundary: new requests get the new plan, the others keep theirs.
    fn swap_plan(&self, life: &Life) {
        let Some(bound) = self.plan.borrow_mut().take() else { return };
        limit(&self.clients.core.kit, &bound.plan.limits);
        self.clients.core.swap(bound.clone());
        self.clients.follow(&bound.plan);
        *life.bound.borrow_mut() = bound;
    }

    /// Accepts the backlog, and nothing after it.
    fn drain(&self, life: &Life, phase: Phase) {
        life.phase.set(phase);
        life.bound.borrow().series.shard.set_state(ShardState::Draining);
        if let Some(listener) = self.listener.borrow_mut().take() {
            accept::backlog(&self.clients, &listener);
            listener.close();
        }
        *life.listener.borrow_mut() = None;
        self.clients.draining.set(true);
        self.clients.core.shadows.close();
        self.clients.handles.give_notice();
    }

    fn finished(&self, life: &Life) -> bool {
        let late = life.phase.get() == Phase::Stopping && clock::now() >= self.ending.get();
        late || self.clients.handles.count() == 0
    }

    /// Ends every connection, and waits until all they held has been given back.
    async fn settle(&self) {
        let core = &self.clients.core;
        let until = clock::now().after(STOP_PATIENCE);
        loop {
            core.backends.close_idle();
            core.abandoned.clear();
            // A read that was armed holds its buffer until the kernel has given it back.
            if core.kit.ledgers.outstanding().is_empty() || clock::now() >= until {
                return;
            }
            core.kit.wheel.advance();
            self.clients.handles.end_all();
            self.clients.refused.end_all();
            clock::sleep(Duration::from_millis(5)).await;
        }
    }
}
