//! Tells whether an operation got further since it was last looked at, so that looking at one that waits
//! costs a load instead of a walk into the driver.
//!
//! Invariant: the operation's own waker is always the nudge; a nudge that nobody has seen yet stays to be
//! seen, and whoever followed last is woken by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, RawWakerVTable, Wake, Waker};

use atomic_waker::AtomicWaker;

/// The follower's end: one operation, followed by one task at a time.
pub struct Nudges {
    shared: Arc<Shared>,
    /// `shared` as the operation sees it.
    waker: Waker,
    /// Who is woken by the next one; nobody yet since the last. `shared` keeps the task, so that these cannot
    /// come to mean another.
    follower: Option<Identity>,
}

/// A waker's.
type Identity = (*const (), *const RawWakerVTable);

struct Shared {
    given: AtomicBool,
    follower: AtomicWaker,
}

impl Nudges {
    /// None given yet.
    pub fn new() -> Self {
        let shared =
            Arc::new(Shared { given: AtomicBool::new(false), follower: AtomicWaker::new() });
        Self { waker: Waker::from(shared.clone()), shared, follower: None }
    }

    /// Gives one: the operation must be looked at.
    pub fn give(&self) {
        self.shared.given.store(true, Ordering::Release);
    }

    /// Whether one was given and not taken.
    #[inline]
    pub fn given(&self) -> bool {
        self.shared.given.load(Ordering::Acquire)
    }

    /// Takes the one that was given.
    pub fn take(&mut self) -> bool {
        // A load first: it costs less than an exchange, and mostly none was given.
        let given = self.given() && self.shared.given.swap(false, Ordering::AcqRel);
        if given {
            self.follower = None;
        }
        given
    }

    /// What the operation is polled with.
    pub fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    /// Has `task` woken by the next one, in the place of whoever followed before.
    pub fn follow(&mut self, task: &Waker) {
        if self.wakes(task) {
            return;
        }
        self.shared.follower.register(task);
        self.follower = Some(identity(task));
        if self.given() {
            task.wake_by_ref();
        }
    }

    /// Whether it is `task` that follows.
    #[inline]
    pub fn wakes(&self, task: &Waker) -> bool {
        self.follower == Some(identity(task))
    }
}

#[inline]
fn identity(task: &Waker) -> Identity {
    (task.data(), std::ptr::from_ref(task.vtable()))
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.given.store(true, Ordering::Release);
        self.follower.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn task() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (count.clone(), Waker::from(count))
    }

    #[test]
    fn a_nudge_is_taken_once() {
        let mut nudges = Nudges::new();
        assert!(!nudges.take());
        nudges.context().waker().wake_by_ref();
        assert!(nudges.given() && nudges.take() && !nudges.take());
    }

    #[test]
    fn the_last_follower_is_woken_once() {
        let (mut nudges, (first, one), (second, other)) = (Nudges::new(), task(), task());
        nudges.follow(&one);
        nudges.follow(&other);
        nudges.follow(&other);
        nudges.context().waker().wake_by_ref();
        assert_eq!(first.0.load(Ordering::Relaxed), 0);
        assert_eq!(second.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_nudge_before_anybody_followed_is_not_lost() {
        let (mut nudges, (count, task)) = (Nudges::new(), task());
        nudges.give();
        nudges.follow(&task);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(nudges.take());
        nudges.follow(&task);
        nudges.context().waker().wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }
}
