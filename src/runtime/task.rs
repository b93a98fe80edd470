//! Tasks on the current shard, and panics kept to the task they happen in.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Starts `future` on this shard.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    #[cfg(any(test, feature = "twin"))]
    if super::twin::active() {
        return super::twin::spawn(future);
    }
    drop(monoio::spawn(future));
}

/// Lets every other ready task run first.
///
/// A self-wake would not do: monoio 0.2.4 puts a task that wakes itself at the front of the queue.
pub async fn yield_now() {
    #[cfg(any(test, feature = "twin"))]
    if super::twin::active() {
        return super::twin::yield_now().await;
    }
    monoio::spawn(async {}).await;
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
                let rest = self.0.take();
                let _ = catch_unwind(AssertUnwindSafe(|| drop(rest)));
                Poll::Ready(Err(Panicked))
            }
        }
    }
}
