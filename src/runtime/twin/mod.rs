//! The in-memory twin of the I/O: one thread, one seed, no kernel.
//!
//! Owns a world: its clock, its tasks, its wires. Everything that could be different from one run to the
//! next is drawn from one generator, so a seed is a whole run: which ready task goes first, how long a
//! byte travels, how little a read returns, when a completion shows, which connection breaks. Time stands
//! still while anything can run and jumps to the next event when nothing can.
//!
//! Invariants: bytes of one direction of one connection arrive in order and once; what one socket sees is
//! not ordered against another; two runs of one seed give the same [`Report::trace`].

mod executor;
pub mod faults;
pub mod net;
mod pipe;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::clock::Instant;
use executor::Executor;
use faults::Faults;

pub use executor::{Sleep, sleep, spawn};

/// Virtual time after which a world is taken to hang.
const LIFE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Polls after which a world is taken to spin.
const POLLS_MAX: u64 = 50_000_000;

/// Everything there is.
pub struct World {
    seed: u64,
    now: Cell<u64>,
    random: Cell<u64>,
    trace: Cell<u64>,
    jumped: Cell<u64>,
    faults: Cell<Faults>,
    executor: Executor,
    listeners: RefCell<BTreeMap<SocketAddr, Weak<net::Hub>>>,
    /// For identities of links and for ports.
    next: Cell<u64>,
}

/// What a run left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// A digest of every choice made and every byte delivered, in order.
    pub trace: u64,
    /// Virtual nanoseconds.
    pub ended: Instant,
    pub polls: u64,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// Whether this thread is inside a world.
pub fn active() -> bool {
    CURRENT.with_borrow(Option::is_some)
}

/// The world's time, inside one.
pub fn now() -> Option<Instant> {
    CURRENT.with_borrow(|world| world.as_ref().map(|world| Instant::from_nanos(world.now.get())))
}

/// The world of this thread.
///
/// # Panics
/// Outside one.
pub fn world() -> Rc<World> {
    CURRENT.with_borrow(Clone::clone).expect("inside a world")
}

/// Runs `main` in a world of its own; what is left when it ends is dropped. A panic anywhere comes out
/// after the seed was printed.
pub fn run<F>(seed: u64, faults: Faults, main: impl FnOnce() -> F) -> (F::Output, Report)
where
    F: Future + 'static,
    F::Output: 'static,
{
    let world = Rc::new(World::new(seed, faults));
    let before = CURRENT.replace(Some(world.clone()));
    assert!(before.is_none(), "a world inside a world");
    let _end = End(world.clone());
    let output = Rc::new(RefCell::new(None));
    let result = output.clone();
    let main = main();
    spawn(async move { *result.borrow_mut() = Some(main.await) });
    while output.borrow().is_none() {
        world.step();
    }
    let report = Report {
        trace: world.trace.get(),
        ended: Instant::from_nanos(world.now.get()),
        polls: world.executor.polls(),
    };
    let output = output.borrow_mut().take().expect("the loop ended with an output");
    (output, report)
}

/// Ends a world while it is still current: what its tasks drop asks for the time.
struct End(Rc<World>);

impl Drop for End {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} failed; replay it with SLUICE_SEED={}", self.0.seed, self.0.seed);
        }
        self.0.executor.drop_all();
        CURRENT.take();
    }
}

impl World {
    fn new(seed: u64, faults: Faults) -> Self {
        Self {
            seed,
            // Not zero: zero is a special case that only tests would ever see.
            now: Cell::new(1_000_000_000),
            random: Cell::new(seed ^ 0x5bd1_e995_5bd1_e995),
            trace: Cell::new(seed),
            jumped: Cell::new(0),
            faults: Cell::new(faults),
            executor: Executor::default(),
            listeners: RefCell::default(),
            next: Cell::new(1),
        }
    }

    /// One poll, or one jump to the next event.
    fn step(&self) {
        assert!(self.executor.polls() < POLLS_MAX, "the world spins");
        assert!(self.now.get() < LIFE_MAX.as_nanos() as u64, "the world hangs");
        self.executor.fire_due(self.now.get());
        if self.executor.poll_one(self) {
            self.now.set(self.now.get() + self.below(20_000));
            return;
        }
        let next = self.executor.next_event();
        let next = next.expect("nothing can run and nothing will happen: a lost wake-up");
        self.now.set(next.max(self.now.get()) + self.jump());
        self.note(self.now.get());
    }

    /// Sometimes the machine was away for a while.
    fn jump(&self) -> u64 {
        let faults = self.faults();
        if !self.chance(faults.clock_jump) {
            return 0;
        }
        let jump = self.between(Duration::from_millis(5), faults.clock_jump_max).as_nanos() as u64;
        self.jumped.set(self.jumped.get() + jump);
        jump
    }

    /// How much time was jumped over so far.
    pub fn jumped(&self) -> Duration {
        Duration::from_nanos(self.jumped.get())
    }

    /// What may go wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.faults.set(faults);
    }

    /// What may go wrong now.
    pub fn faults(&self) -> Faults {
        self.faults.get()
    }

    /// The next number of the generator (splitmix64).
    pub fn draw(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        mixed(state)
    }

    /// Evenly from `0..bound`; 0 for a bound of 0.
    pub fn below(&self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }

    /// Evenly from `low..=high`.
    pub fn range(&self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// Evenly between two durations.
    pub fn between(&self, low: Duration, high: Duration) -> Duration {
        Duration::from_nanos(self.range(low.as_nanos() as u64, high.as_nanos() as u64))
    }

    /// True so many times in a million.
    pub fn chance(&self, per_million: u32) -> bool {
        per_million > 0 && self.below(1_000_000) < u64::from(per_million)
    }

    /// Mixes `what` into the trace.
    fn note(&self, what: u64) {
        self.trace.set(mixed(self.trace.get().rotate_left(5) ^ what));
    }

    fn note_bytes(&self, bytes: &[u8]) {
        self.note(xxhash_rust::xxh3::xxh3_64(bytes));
    }

    fn identity(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    /// Does `what` after `delay`.
    fn later(&self, delay: Duration, what: impl FnOnce() + 'static) {
        let at = self.now.get() + delay.as_nanos() as u64;
        self.executor.at(at, self.draw(), Box::new(what));
    }
}

fn mixed(state: u64) -> u64 {
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
