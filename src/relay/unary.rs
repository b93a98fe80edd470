//! Answers that are not streamed: relayed as they come, held back while they are small.

use std::future::poll_fn;
use std::task::Poll;

use crate::api::observe::observe_unary;
use crate::lifecycle::inject::{self, Point};
use crate::lifecycle::outcome::Outcome;
use crate::relay::exchange::Exchange;
use crate::relay::exit::Exit;
use crate::relay::state::Placed;
use crate::relay::stop::Stop;
use crate::runtime::clock;
use crate::runtime::wheel::Due;
use crate::upstream::connection::{Body, Connection};
use crate::upstream::error::AttemptError;

/// The last bytes of an answer that are kept to find its usage in, at least.
const TAIL_BYTES: usize = 64 * 1024;

/// A whole answer under way.
pub struct Unary {
    /// The answer's end: all of a small one.
    tail: Vec<u8>,
    done: bool,
}

impl Unary {
    pub(super) fn new() -> Self {
        Self { tail: Vec::new(), done: false }
    }

    /// Stages what has arrived; whether that was all.
    pub(super) fn take<X: Exchange>(
        &mut self,
        connection: &mut Connection,
        x: &mut X,
    ) -> Result<bool, AttemptError> {
        let tail = &mut self.tail;
        let body = connection.take_body(&mut |bytes| {
            keep_tail(tail, bytes);
            x.stage(|out| out.extend_from_slice(bytes));
        })?;
        self.done = body == Body::Done;
        Ok(self.done)
    }

    /// The connection ended where the answer may.
    pub(super) fn end(&mut self) {
        self.done = true;
    }
}

fn keep_tail(tail: &mut Vec<u8>, bytes: &[u8]) {
    tail.extend_from_slice(bytes);
    if tail.len() > 2 * TAIL_BYTES {
        tail.drain(..tail.len() - TAIL_BYTES);
    }
}

/// Relays the rest of the answer and settles the request.
///
/// # Errors
/// The client left, or the endpoint broke off.
pub async fn relay<X: Exchange>(
    mut unary: Unary,
    mut placed: Placed,
    exit: &mut Exit,
    x: &mut X,
) -> Result<Outcome, Stop> {
    inject::point(Point::Relaying);
    let began = clock::now();
    while !unary.done {
        let connection = placed.lease.connection();
        step(&mut unary, connection, exit, x).await?;
    }
    x.stage_end();
    poll_fn(|cx| x.poll_flush(cx)).await?;
    exit.waited(began, clock::now());
    Ok(settle(unary, placed, exit))
}

fn settle(unary: Unary, placed: Placed, exit: &mut Exit) -> Outcome {
    let (usage, finish) = observe_unary(placed.admitted.ask.op, &unary.tail);
    exit.observed(usage, finish, 0);
    let status = exit.row.status;
    placed.settle(usage);
    if status < 400 { Outcome::Completed } else { Outcome::UpstreamError }
}

/// Sends what is staged, then reads on.
async fn step<X: Exchange>(
    unary: &mut Unary,
    connection: &mut Connection,
    exit: &mut Exit,
    x: &mut X,
) -> Result<(), Stop> {
    let timeouts = &exit.epoch.plan().timeouts;
    let total = exit.began().after(timeouts.total);
    connection.until(Due::Stall, clock::now().after(timeouts.stall), total);
    let more = poll_fn(|cx| {
        if x.staged() > 0
            && let Err(gone) = std::task::ready!(x.poll_flush(cx))
        {
            return Poll::Ready(Err(Stop::from(gone)));
        }
        if let Poll::Ready(read) = connection.poll_more(cx) {
            return Poll::Ready(read.map_err(|error| Stop::Cut(error.fault())));
        }
        x.poll_gone(cx).map(|()| Err(Stop::Gone))
    })
    .await?;
    match more {
        true => unary.take(connection, x).map(drop).map_err(|error| Stop::Cut(error.fault())),
        false => {
            unary.end();
            Ok(())
        }
    }
}
