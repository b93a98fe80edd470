//! Answers that are not streamed: relayed as they come, held back while they are small.

use std::future::poll_fn;
use std::task::Poll;

use crate::api::observe::{Flaw, judge_unary, observe_unary};
use crate::api::operation::Operation;
use crate::api::usage::Usage;
use crate::lifecycle::inject::{self, Point};
use crate::lifecycle::outcome::Outcome;
use crate::lifecycle::permit::{AnswerBytes, Permit};
use crate::relay::core::Core;
use crate::relay::exchange::Exchange;
use crate::relay::exit::Exit;
use crate::relay::opening;
use crate::relay::serve::flush_paused;
use crate::relay::state::Placed;
use crate::relay::stop::Stop;
use crate::runtime::wheel::Due;
use crate::upstream::connection::{Body, Connection};
use crate::upstream::error::AttemptError;

/// The last bytes of an answer that are kept to find its usage in, at least.
const TAIL_BYTES: usize = 64 * 1024;

/// Room for it at first.
const TAIL_BYTES_FIRST: usize = 1024;

/// An answer that comes in one piece is read in place, before it is sent, if it has no more than this: what
/// takes longer does not delay it.
const IN_PLACE_BYTES_MAX: usize = 16 * 1024;

/// A whole answer under way.
pub struct Unary {
    op: Operation,
    /// What it said of itself was noted: it was read in place.
    noted: bool,
    /// The answer's end, otherwise: all of a small one.
    tail: Vec<u8>,
    /// More came than is kept.
    cut: bool,
    /// It must be a JSON value.
    json: bool,
    done: bool,
    /// The shard's memory that it takes until it leaves; none for an answer that came in one read.
    held: Option<Permit<AnswerBytes>>,
}

impl Unary {
    pub(super) fn new(op: Operation, json: bool) -> Self {
        Self { op, noted: false, tail: Vec::new(), cut: false, json, done: false, held: None }
    }

    /// Stages what has arrived; whether that was all.
    pub(super) fn take<X: Exchange>(
        &mut self,
        connection: &mut Connection,
        exit: &mut Exit,
        x: &mut X,
    ) -> Result<bool, AttemptError> {
        if self.tail.is_empty() && self.take_in_place(connection, exit, x)? {
            return Ok(true);
        }
        let (tail, cut) = (&mut self.tail, &mut self.cut);
        tail.reserve(TAIL_BYTES_FIRST);
        let body = connection.take_body(&mut |bytes| {
            *cut |= keep_tail(tail, bytes);
            x.stage(|out| out.extend_from_slice(bytes));
        })?;
        self.done = body == Body::Done;
        Ok(self.done)
    }

    fn take_in_place<X: Exchange>(
        &mut self,
        connection: &mut Connection,
        exit: &mut Exit,
        x: &mut X,
    ) -> Result<bool, AttemptError> {
        let (op, json) = (self.op, self.json);
        let mut noted = Ok(());
        self.done = connection.take_whole(IN_PLACE_BYTES_MAX, &mut |bytes| {
            noted = note(op, json, bytes, exit);
            x.stage(|out| out.extend_from_slice(bytes));
        });
        self.noted = self.done;
        noted.map(|()| self.done)
    }

    /// All of it is here, and nothing of it has left: whether it is an answer.
    pub(super) fn judge(&mut self, exit: &mut Exit) -> Result<(), AttemptError> {
        if self.noted || !self.done || self.cut {
            return Ok(());
        }
        self.noted = true;
        note(self.op, self.json, &self.tail, exit)
    }

    /// Claims the shard's memory for what is staged; without any left, it is held no longer.
    pub(super) fn hold(&mut self, core: &Core, staged: usize) -> bool {
        let more = (staged as u64).saturating_sub(self.held.as_ref().map_or(0, Permit::amount));
        match &mut self.held {
            // A copy's answer is not kept.
            _ if more == 0 => true,
            Some(held) => held.extend(more),
            none => {
                *none = core.kit.ledgers.take::<AnswerBytes>(more);
                none.is_some()
            }
        }
    }

    /// The connection ended where the answer may. That it is whole, only the answer itself can say.
    pub(super) fn end(&mut self) -> Result<(), AttemptError> {
        let whole = match (self.json, self.cut) {
            (true, false) => serde_json::from_slice::<serde::de::IgnoredAny>(&self.tail).is_ok(),
            (true, true) => self.tail.trim_ascii_end().ends_with(b"}"),
            (false, _) => true,
        };
        self.done = whole;
        if whole { Ok(()) } else { Err(AttemptError::Truncated) }
    }
}

/// Notes what an answer says of itself. `judged`: it must be one.
fn note(op: Operation, judged: bool, answer: &[u8], exit: &mut Exit) -> Result<(), AttemptError> {
    let (usage, finish) = match judged {
        true => judge_unary(op, answer).map_err(flawed)?,
        false => observe_unary(op, answer),
    };
    exit.observed(usage, finish, 0);
    Ok(())
}

fn flawed(flaw: Flaw) -> AttemptError {
    match flaw {
        Flaw::NotJson => AttemptError::NotTheApi,
        Flaw::Error(error) => opening::reported(error),
    }
}

/// Keeps the end of what came; whether that is not all of it.
fn keep_tail(tail: &mut Vec<u8>, bytes: &[u8]) -> bool {
    tail.extend_from_slice(bytes);
    let cut = tail.len() > 2 * TAIL_BYTES;
    if cut {
        tail.drain(..tail.len() - TAIL_BYTES);
    }
    cut
}

/// Relays the rest of the answer: how it ended, and what it cost.
///
/// # Errors
/// The client left, or the endpoint broke off.
pub async fn relay<X: Exchange>(
    unary: &mut Unary,
    placed: &mut Placed,
    exit: &mut Exit,
    x: &mut X,
) -> Result<(Outcome, Usage), Stop> {
    inject::point(Point::Relaying);
    while !unary.done {
        let connection = placed.lease.connection();
        if let Err(stop) = step(unary, connection, exit, x).await {
            exit.broke_off(&stop);
            return Err(stop);
        }
    }
    placed.finish(exit.mark());
    x.stage_end();
    // It was computed, whether or not the client stays to take it.
    let noted = match unary.noted {
        true => Ok(()),
        false => note(unary.op, unary.json && !unary.cut, &unary.tail, exit),
    };
    poll_fn(|cx| x.poll_flush(cx)).await?;
    Ok(close(exit, noted.err()))
}

/// `flaw`: what was relayed is no answer, which came out too late.
fn close(exit: &mut Exit, flaw: Option<AttemptError>) -> (Outcome, Usage) {
    let status = exit.row.status;
    let error = || AttemptError::Reported { status, message: "".into() };
    let failed = flaw.or_else(|| (status >= 400).then(error));
    let Some(failed) = failed else { return (Outcome::Completed, exit.usage()) };
    exit.endpoint_failed(failed.failure());
    (Outcome::UpstreamError, exit.usage())
}

/// Sends what is staged, then reads on.
async fn step<X: Exchange>(
    unary: &mut Unary,
    connection: &mut Connection,
    exit: &mut Exit,
    x: &mut X,
) -> Result<(), Stop> {
    let stall = exit.epoch.plan().timeouts.stall;
    flush_paused(x, connection, exit.total).await?;
    unary.held = None;
    connection.until(Due::Stall, exit.woke().after(stall), exit.total);
    let more = poll_fn(|cx| {
        if let Poll::Ready(read) = connection.poll_more(cx) {
            return Poll::Ready(read.map_err(|error| Stop::Cut(error.fault())));
        }
        x.poll_gone(cx).map(|()| Err(Stop::Gone))
    })
    .await?;
    exit.woke();
    match more {
        true => unary.take(connection, exit, x).map(drop).map_err(|error| Stop::Cut(error.fault())),
        false => unary.end().map_err(|error| Stop::Cut(error.fault())),
    }
}
