//! Running an attempt beside the other leg.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use crate::relay::core::Epoch;
use crate::relay::exchange::Exchange;
use crate::relay::pair::Share;
use crate::relay::pair::leg::{Errand, Leg};
use crate::relay::place::{Attempt, Failed, Opening};
use crate::runtime::clock;
use crate::runtime::wheel::Due;
use crate::upstream::error::AttemptError;
use crate::upstream::lease::Lease;

/// Runs an attempt with its share, beside the other leg if both go at once: whichever fails ends both.
pub async fn beside<X: Exchange>(
    attempt: Attempt<'_>,
    share: &mut Share,
    x: &mut X,
    last: bool,
) -> Result<(Lease, Opening), Failed> {
    let epoch = attempt.exit.epoch.clone();
    let edits = &share.edits;
    let (core, mut late) = (attempt.core, None);
    let half = attempt.exit.pair.as_ref().map(|pairing| pairing.half);
    let ask = &attempt.admitted.ask;
    let errand = Errand::of(attempt.exit, attempt.inbound, ask, edits, share.until);
    let mut other = share.beside.as_deref_mut().map(|leg| Box::pin(compute(&epoch, leg, errand)));
    let mut attempt = Attempt { edits, ..attempt };
    let mut attempt = pin!(attempt.run(x, last));
    poll_fn(|cx| {
        if let Poll::Ready(done) = attempt.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        match other.as_mut().map(|other| other.as_mut().poll(cx)) {
            Some(Poll::Ready(Err(error))) => return Poll::Ready(Err(Failed::Partner(error))),
            Some(Poll::Ready(Ok(()))) => {
                other = None;
                // Its blocks have as long again to lead to an answer.
                let deadline = late.insert(core.kit.wheel.deadline(None));
                deadline.set(Due::FirstByte, clock::now(), half.unwrap_or_default());
            }
            Some(Poll::Pending) | None => {}
        }
        match &late {
            Some(late) if late.poll_fired(cx).is_ready() => {
                Poll::Ready(Err(Failed::Attempt(AttemptError::FirstByteTimeout)))
            }
            _ => Poll::Pending,
        }
    })
    .await
}

/// The other leg; its failure is its own server's.
async fn compute(epoch: &Epoch, leg: &mut Leg, errand: Errand<'_>) -> Result<(), AttemptError> {
    let done = leg.run(&errand).await;
    if let Err(error) = &done {
        let series = &epoch.series().endpoints[usize::from(leg.endpoint().0)];
        series.failed(error.failure());
    }
    done
}
