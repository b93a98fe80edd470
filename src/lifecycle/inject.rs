//! Faults on purpose, for tests: a panic at a stage, a permit that is not given back. In a build without
//! the twin [`point`] and [`leaks`] are empty and leave no code behind.

/// Where a request (or its shard) can be made to panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The head was parsed and nothing was taken yet.
    Begin,
    /// The turn is taken.
    Accepted,
    /// The key is known.
    Identified,
    /// The body is read.
    Body,
    /// The body is understood.
    Asked,
    /// The cost is reserved.
    Admitted,
    /// It was told what engines hold of its prompt, or was not.
    Consulted,
    /// It is about to wait for a place on an endpoint.
    Queued,
    /// It has waited, and it is its turn.
    Turn,
    /// A lease is taken, and no connection yet.
    Leased,
    /// The connection is there, and nothing was sent.
    Connected,
    /// The request was sent.
    Sent,
    /// The answer's head is read.
    Head,
    /// The answer's beginning is staged.
    Opened,
    /// Inside a streamed answer.
    Streaming,
    /// Inside a whole answer.
    Relaying,
    /// The answer is over and not yet paid for.
    Settling,
    /// An error is being told.
    Answering,
    /// In the shard's own tick.
    Tick,
}

impl Point {
    /// Every point of a request.
    pub const OF_A_REQUEST: [Point; 17] = [
        Point::Begin,
        Point::Accepted,
        Point::Identified,
        Point::Body,
        Point::Asked,
        Point::Admitted,
        Point::Queued,
        Point::Turn,
        Point::Leased,
        Point::Connected,
        Point::Sent,
        Point::Head,
        Point::Opened,
        Point::Streaming,
        Point::Relaying,
        Point::Settling,
        Point::Answering,
    ];
}

#[cfg(any(test, feature = "twin"))]
mod armed {
    use std::cell::Cell;
    use std::thread::ThreadId;

    use crossbeam::queue::SegQueue;

    use super::Point;
    use crate::lifecycle::kind::Kind;

    thread_local! {
        static PANIC: Cell<Option<(Point, u32)>> = const { Cell::new(None) };
        static LEAK: Cell<Option<Kind>> = const { Cell::new(None) };
    }

    /// Threads whose next tick panics.
    static TICK: SegQueue<ThreadId> = SegQueue::new();

    /// Panics once, when this thread comes to `at` the next time but `skip`.
    pub fn panic_at(at: Point, skip: u32) {
        PANIC.set(Some((at, skip)));
    }

    /// Whether a panic was asked for and has not happened; it will not any more.
    pub fn disarm() -> bool {
        PANIC.take().is_some()
    }

    /// The next permit of `kind` that this thread drops is not given back.
    pub fn leak_next(kind: Kind) {
        LEAK.set(Some(kind));
    }

    /// The next tick of `thread` panics.
    pub fn panic_in_tick_of(thread: ThreadId) {
        TICK.push(thread);
    }

    /// Panics if it was asked to, without the hook's noise.
    pub fn point(at: Point) {
        let now = match PANIC.get() {
            Some((armed, 0)) => armed == at,
            Some((armed, skip)) if armed == at => {
                PANIC.set(Some((armed, skip - 1)));
                false
            }
            _ => false,
        };
        if now {
            PANIC.set(None);
        }
        if now || (at == Point::Tick && tick()) {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    }

    fn tick() -> bool {
        let this = std::thread::current().id();
        (0..TICK.len()).filter_map(|_| TICK.pop()).any(|thread| {
            let mine = thread == this;
            if !mine {
                TICK.push(thread);
            }
            mine
        })
    }

    /// Whether the permit of `kind` that is dropped now is to be lost.
    pub fn leaks(kind: Kind) -> bool {
        let now = LEAK.get() == Some(kind);
        if now {
            LEAK.set(None);
        }
        now
    }
}

#[cfg(any(test, feature = "twin"))]
pub use armed::{disarm, leak_next, leaks, panic_at, panic_in_tick_of, point};

/// Nothing, in this build.
#[cfg(not(any(test, feature = "twin")))]
#[inline(always)]
pub fn point(_at: Point) {}

/// Never, in this build.
#[cfg(not(any(test, feature = "twin")))]
#[inline(always)]
pub fn leaks(_kind: super::kind::Kind) -> bool {
    false
}
