//! Deadlines: one coarse wheel per shard. A deadline that passes shuts the socket down, so the operation
//! that waits completes by itself and nothing is dropped half way.
//!
//! Moving a deadline later is one store: its entry stays where it is and is put forward when the wheel
//! gets there. An entry holds its timer weakly, so a descriptor that was reused cannot be shut down by
//! its predecessor's deadline.

use std::cell::{Cell, RefCell};
use std::net::Shutdown;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::clock::{self, Instant};
use super::socket::Socket;

/// Slots of the wheel; with the default tick of 10 ms one turn is 5.12 s. What is due later is looked
/// at once a turn.
const SLOTS: u64 = 512;

/// Which deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Head,
    Body,
    Idle,
    WriteStall,
    Handshake,
    Connect,
    FirstByte,
    Consult,
    Stall,
    Total,
    Linger,
}

/// A shard's wheel.
pub struct Wheel {
    tick: Duration,
    /// The last tick that was processed.
    hand: Cell<u64>,
    slots: RefCell<Vec<Slot>>,
}

/// Timers, each with the tick under which it was listed.
type Slot = Vec<(u64, Weak<Timer>)>;

struct Timer {
    /// 0 = unset. In ticks.
    due: Cell<u64>,
    /// The tick under which the live entry stands; entries under any other are stale.
    listed: Cell<u64>,
    why: Cell<Due>,
    fired: Cell<Option<Due>>,
    target: RefCell<Option<(Socket, Shutdown)>>,
    waker: RefCell<Option<Waker>>,
}

/// One connection's (or wait's) deadline: at most one is set at a time.
pub struct Deadline {
    wheel: Rc<Wheel>,
    timer: Rc<Timer>,
}

impl Wheel {
    /// A wheel of the given granularity.
    pub fn new(tick: Duration) -> Rc<Self> {
        let tick = tick.max(Duration::from_millis(1));
        let slots = RefCell::new((0..SLOTS).map(|_| Vec::new()).collect());
        let wheel = Self { tick, hand: Cell::new(0), slots };
        wheel.hand.set(wheel.ticks(clock::now()));
        Rc::new(wheel)
    }

    fn ticks(&self, at: Instant) -> u64 {
        at.nanos() / self.tick.as_nanos() as u64
    }

    /// Fires what is due. Called by the shard's tick.
    pub fn advance(&self) {
        let now = self.ticks(clock::now());
        let from = self.hand.get() + 1;
        // After a long pause one turn looks at every slot; more turns would look at them again.
        let to = now.min(from + SLOTS - 1);
        for tick in from..=to {
            self.visit(tick, now);
        }
        self.hand.set(now.max(self.hand.get()));
    }

    fn visit(&self, tick: u64, now: u64) {
        let slot = (tick % SLOTS) as usize;
        let mut entries = std::mem::take(&mut self.slots.borrow_mut()[slot]);
        entries.retain(|(listed, timer)| self.keep(*listed, timer, now));
        let slots = &mut self.slots.borrow_mut()[slot];
        // `keep` may have listed entries here again.
        entries.append(slots);
        *slots = entries;
    }

    /// Whether the entry stays in this slot.
    fn keep(&self, listed: u64, timer: &Weak<Timer>, now: u64) -> bool {
        if listed > now {
            return true;
        }
        let Some(timer) = timer.upgrade() else { return false };
        if timer.listed.get() != listed {
            return false;
        }
        match timer.due.get() {
            0 => timer.listed.set(0),
            due if due <= now => timer.fire(),
            due => self.list(&timer, due, now),
        }
        false
    }

    fn list(&self, timer: &Rc<Timer>, due: u64, now: u64) {
        let at = due.clamp(now + 1, now + SLOTS - 1);
        timer.listed.set(at);
        let slot = (at % SLOTS) as usize;
        self.slots.borrow_mut()[slot].push((at, Rc::downgrade(timer)));
    }

    /// A deadline that shuts `target` down when it passes.
    pub fn deadline(self: &Rc<Self>, target: Option<(Socket, Shutdown)>) -> Deadline {
        let timer = Rc::new(Timer {
            due: Cell::new(0),
            listed: Cell::new(0),
            why: Cell::new(Due::Total),
            fired: Cell::new(None),
            target: RefCell::new(target),
            waker: RefCell::new(None),
        });
        Deadline { wheel: self.clone(), timer }
    }
}

impl Timer {
    fn fire(&self) {
        self.due.set(0);
        self.listed.set(0);
        self.fired.set(Some(self.why.get()));
        if let Some((socket, how)) = &*self.target.borrow() {
            socket.shutdown(*how);
        }
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Deadline {
    /// Sets (or moves) the deadline to `after` from `now`.
    pub fn set(&self, why: Due, now: Instant, after: Duration) {
        self.set_at(why, now.after(after));
    }

    /// Sets (or moves) the deadline to a point in time.
    pub fn set_at(&self, why: Due, at: Instant) {
        let due = self.wheel.ticks(at) + 1;
        self.timer.why.set(why);
        self.timer.due.set(due);
        let listed = self.timer.listed.get();
        if listed == 0 || due < listed {
            self.wheel.list(&self.timer, due, self.wheel.hand.get());
        }
    }

    /// Unsets it.
    pub fn clear(&self) {
        self.timer.due.set(0);
    }

    /// Unsets it, and forgets that one passed: what it was for came in the same moment.
    pub fn renew(&self) {
        self.timer.due.set(0);
        self.timer.fired.set(None);
    }

    /// Whether one is set.
    pub fn is_set(&self) -> bool {
        self.timer.due.get() != 0
    }

    /// Which deadline passed, if one did.
    pub fn fired(&self) -> Option<Due> {
        self.timer.fired.get()
    }

    /// Changes what is shut down, and how, from now on; `None` only wakes whoever waits.
    pub fn aim(&self, target: Option<(Socket, Shutdown)>) {
        *self.timer.target.borrow_mut() = target;
    }

    /// Ready once a deadline has passed.
    pub fn poll_fired(&self, cx: &mut Context<'_>) -> Poll<Due> {
        if let Some(due) = self.fired() {
            return Poll::Ready(due);
        }
        let mut waker = self.timer.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}
