//! Tasks on the current shard, and panics kept to the task they happen in.
//!
//! A shard knows its tasks: a runtime that ends keeps alive whatever waits for its I/O, so a shard that dies
//! drops them itself, and with them their connections. No panic unwinds through the runtime.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Starts `future` on this shard.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    #[cfg(any(test, feature = "twin"))]
    if super::twin::active() {
        return super::twin::spawn(future);
    }
    let slot: Rc<Slot> = Rc::new(RefCell::new(Some(Box::pin(future))));
    let id = NEXT.replace(NEXT.get() + 1);
    TASKS.with_borrow_mut(|tasks| tasks.insert(id, slot.clone()));
    drop(monoio::spawn(Task { id, slot }));
}

/// A task's future, until its end.
type Slot = RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>;

thread_local! {
    static TASKS: RefCell<BTreeMap<u64, Rc<Slot>>> = const { RefCell::new(BTreeMap::new()) };
    static NEXT: Cell<u64> = const { Cell::new(0) };
    static DIED: Cell<bool> = const { Cell::new(false) };
}

/// What the runtime holds of a task.
struct Task {
    id: u64,
    slot: Rc<Slot>,
}

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut slot = self.slot.borrow_mut();
        let Some(future) = slot.as_mut() else { return Poll::Ready(()) };
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {}
            Err(_) => DIED.set(true),
        }
        drop_quietly(slot.take());
        TASKS.with_borrow_mut(|tasks| tasks.remove(&self.id));
        Poll::Ready(())
    }
}

fn drop_quietly(value: impl Sized) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}

/// Whether a task of this shard panicked since the last call.
pub fn died() -> bool {
    DIED.take()
}

/// Drops every task of this shard where it waits. To be called inside the runtime, which needs a moment
/// afterwards to end their operations.
pub fn drop_all() {
    let tasks = TASKS.take();
    for slot in tasks.into_values() {
        // The one that is running, if any, ends by itself.
        let future = slot.try_borrow_mut().ok().and_then(|mut slot| slot.take());
        drop_quietly(future);
    }
}

/// Runs a future to its end or to its panic. The future's values are dropped by the unwinding, so
/// every permit in it comes back.
pub struct Caught<F>(Option<Pin<Box<F>>>);

/// The task panicked; its message went to the panic hook.
#[derive(Debug, PartialEq, Eq)]
pub struct Panicked;

/// See [`Caught`].
pub fn caught<F: Future>(future: F) -> Caught<F> {
    Caught(Some(Box::pin(future)))
}

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = self.0.as_mut() else { return Poll::Ready(Err(Panicked)) };
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(_) => {
                // What is left of the future is dropped here, inside a guard of its own.
                drop_quietly(self.0.take());
                Poll::Ready(Err(Panicked))
            }
        }
    }
}
