//! Streamed answers: each event leaves as it comes, observed but not rewritten.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use crate::api::ask::Ask;
use crate::api::fault::Fault;
use crate::api::observe::{EventError, Observer, Seen};
use crate::api::usage::Usage;
use crate::lifecycle::inject::{self, Point};
use crate::lifecycle::outcome::Outcome;
use crate::relay::exchange::Exchange;
use crate::relay::exit::Exit;
use crate::relay::serve::{flush, flush_paused};
use crate::relay::state::Placed;
use crate::relay::stop::Stop;
use crate::runtime::clock::Instant;
use crate::runtime::wheel::Due;
use crate::sse::{Piece, Splitter, data_of};
use crate::telemetry::endpoint::Failure;
use crate::telemetry::shard::Stage;
use crate::upstream::connection::{Body, Connection};
use crate::upstream::error::AttemptError;

/// A stream under way.
pub struct Stream {
    splitter: Splitter,
    observer: Observer,
    /// Sluice asked for the usage, so the event that carries only that is not for the client.
    withhold_usage: bool,
    /// The last piece was withheld and ended with a CR: an LF that follows belongs to it.
    withheld_cr: bool,
    error: Option<Box<EventError>>,
    /// The body is whole, by its framing.
    done: bool,
    /// Content has passed since [`Stream::note`].
    content: bool,
    /// Events with content that [`Placed`] has been told of.
    metered: u64,
}

/// How long an endpoint may take from its terminal event to the end of its body's framing.
pub const LAST_WORD: Duration = Duration::from_secs(1);

/// What came out of one read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Step {
    /// Complete events that are more than a comment, or pieces of one too large to be held.
    pub events: u32,
}

impl Stream {
    pub(super) fn new(ask: &Ask, event_whole_bytes_max: usize) -> Self {
        Self {
            splitter: Splitter::new(event_whole_bytes_max),
            observer: Observer::new(ask.op),
            withhold_usage: ask.usage.withholds(),
            withheld_cr: false,
            error: None,
            done: false,
            content: false,
            metered: 0,
        }
    }

    /// Stages every complete event that has arrived.
    pub(super) fn take<X: Exchange>(
        &mut self,
        connection: &mut Connection,
        x: &mut X,
    ) -> Result<Step, AttemptError> {
        let mut step = Step::default();
        let mut result = Ok(Body::More);
        x.stage(|out| {
            result = connection.take_body(&mut |bytes| {
                let bytes = self.pass_repeated(bytes, out, &mut step);
                if !bytes.is_empty() {
                    self.pass(bytes, out, &mut step);
                }
            });
        });
        self.done = result? == Body::Done;
        if self.done {
            self.hear_rest();
        }
        Ok(step)
    }

    /// The end of the connection ends the body; that it is whole, only its terminal event says.
    fn close(&mut self) -> Result<(), AttemptError> {
        self.hear_rest();
        self.done = self.observer.terminal();
        if self.done { Ok(()) } else { Err(AttemptError::Truncated) }
    }

    /// What a body ends with may lack its blank line. That is no event, but can say that the answer is whole.
    fn hear_rest(&mut self) {
        let rest = self.splitter.rest();
        if !rest.is_empty() {
            let seen = self.observer.event(rest);
            self.error = seen.error.or(self.error.take());
        }
    }

    /// Passes on the events in front that are like the last one, which need no splitting; gives the rest.
    #[inline]
    fn pass_repeated<'b>(
        &mut self,
        mut bytes: &'b [u8],
        out: &mut Vec<u8>,
        step: &mut Step,
    ) -> &'b [u8] {
        while let Some(bytes_max) = self.splitter.between_events()
            && let Some(length) = self.observer.again(bytes, bytes_max)
        {
            out.extend_from_slice(&bytes[..length]);
            bytes = &bytes[length..];
            self.content = true;
            self.withheld_cr = false;
            step.events += 1;
        }
        bytes
    }

    /// Passes on what `bytes` complete, except for what is withheld.
    fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>, step: &mut Step) {
        let Self { splitter, observer, withhold_usage, withheld_cr, error, content, .. } = self;
        splitter.feed(bytes, &mut |piece| {
            step.events += u32::from(commits(&piece));
            let (seen, bytes) = look(observer, piece);
            *content |= seen.content;
            if seen.error.is_some() {
                *error = seen.error;
            }
            let withheld = seen.usage_only && *withhold_usage || *withheld_cr && bytes == b"\n";
            *withheld_cr = withheld && bytes.last() == Some(&b'\r');
            if !withheld {
                out.extend_from_slice(bytes);
            }
        });
    }

    /// Whether nothing more will come.
    pub(super) fn ended(&self) -> bool {
        self.done
    }

    /// Whether the events themselves say that the answer is all there, or may have.
    pub(super) fn complete(&self) -> bool {
        self.observer.may_be_whole()
    }

    /// The error the endpoint reported since the last call.
    pub(super) fn take_error(&mut self) -> Option<Box<EventError>> {
        self.error.take()
    }

    /// Whether all that an endpoint left out is the end of its body's framing: the terminal event has passed,
    /// and no part of another one.
    fn lacks_framing_alone(&self, error: &AttemptError) -> bool {
        matches!(error, AttemptError::Stall | AttemptError::Truncated)
            && self.observer.terminal()
            && self.error.is_none()
            && self.splitter.rest().is_empty()
            && !self.splitter.inside_oversized()
    }

    /// Tells the record of content that passed.
    pub(super) fn note(&mut self, exit: &mut Exit, now: Instant) {
        if std::mem::take(&mut self.content) {
            exit.content(now);
        }
    }

    fn meter(&mut self, placed: &mut Placed) {
        let events = self.observer.output_events();
        placed.admitted.observe(events - self.metered);
        self.metered = events;
    }
}

/// A comment keeps a connection open and promises nothing: it is no reason to commit. Nor is the LF of a
/// line end whose CR came before.
fn commits(piece: &Piece<'_>) -> bool {
    match piece {
        Piece::Event(b"\n") => false,
        Piece::Event(event) if event.first() == Some(&b':') => data_of(event).bytes().is_some(),
        _ => true,
    }
}

fn look<'p>(observer: &mut Observer, piece: Piece<'p>) -> (Seen, &'p [u8]) {
    match piece {
        Piece::Event(event) => (observer.event(event), event),
        Piece::Part { bytes, last } => (observer.part(bytes, last), bytes),
    }
}

/// Relays the rest of the stream: how it ended, and what it cost.
///
/// # Errors
/// The client left, or the endpoint broke off.
pub async fn relay<X: Exchange>(
    stream: &mut Stream,
    placed: &mut Placed,
    exit: &mut Exit,
    x: &mut X,
) -> Result<(Outcome, Usage), Stop> {
    let epoch = exit.epoch.clone();
    let began = exit.mark();
    let (stall, total) = (epoch.plan().timeouts.stall, exit.total);
    epoch.series().shard.streams_open.add(1);
    let _open = Open(&epoch.series().shard.streams_open);
    let mut result = Ok(());
    let mut last_word = None;
    while !stream.done && result.is_ok() {
        let connection = placed.lease.connection();
        inject::point(Point::Streaming);
        match flush_paused(x, connection, total).await {
            // The endpoint's silence is counted from here on.
            Ok(true) => {
                exit.woke();
            }
            Ok(false) => {}
            Err(stop) => {
                result = Err(stop);
                break;
            }
        }
        let now = exit.mark();
        let until = match stream.observer.terminal() {
            false => now.after(stall),
            true => *last_word.get_or_insert(now.after(LAST_WORD.min(stall))),
        };
        connection.until(Due::Stall, until, total);
        result = step(stream, connection, x).await;
        let now = exit.woke();
        stream.note(exit, now);
        stream.meter(placed);
    }
    epoch.series().shard.stage(Stage::Relay, exit.mark().since(began));
    let observer = &stream.observer;
    exit.observed(observer.usage(), observer.finish(), observer.output_events());
    exit.events = observer.events();
    match result {
        Err(Stop::Gone) if had_all(stream, x) => {
            hear_out(stream, placed.lease.connection(), exit).await;
            Ok(verdict(stream, exit))
        }
        Err(Stop::Gone) if x.dismissed() && x.sent_bytes() > 0 => {
            Err(broken(stream, Fault::ShuttingDown))
        }
        Err(stop) => {
            exit.broke_off(&stop);
            Err(stop)
        }
        Ok(()) => {
            placed.finish(exit.mark());
            end(stream, exit, x).await
        }
    }
}

/// Whether a client that left had all there was for it: many close once they have read the terminal event,
/// or the endpoint's error, and do not wait for the end of the framing.
fn had_all<X: Exchange>(stream: &Stream, x: &X) -> bool {
    (stream.observer.terminal() || stream.error.is_some()) && x.staged() == 0
}

/// Counts the stream as open while it lives.
struct Open<'a>(&'a crate::telemetry::cell::Gauge);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

/// Reads on, once what is staged has left: while the client is slow, its own upstream pauses.
async fn step<X: Exchange>(
    stream: &mut Stream,
    connection: &mut Connection,
    x: &mut X,
) -> Result<(), Stop> {
    let more = poll_fn(|cx| {
        if let Poll::Ready(read) = connection.poll_more(cx) {
            return Poll::Ready(Ok(read));
        }
        x.poll_gone(cx).map(|()| Err(Stop::Gone))
    })
    .await?;
    let taken = match more {
        Ok(true) => stream.take(connection, x).map(drop),
        Ok(false) => stream.close(),
        Err(error) => Err(error),
    };
    taken.or_else(|error| match error.fault() {
        _ if stream.lacks_framing_alone(&error) => {
            stream.done = true;
            Ok(())
        }
        Fault::UpstreamFailed => Err(broken(stream, Fault::UpstreamBroken)),
        fault => Err(broken(stream, fault)),
    })
}

/// An error event may follow whole events only.
fn broken(stream: &Stream, fault: Fault) -> Stop {
    match stream.splitter.inside_oversized() {
        true => Stop::Cut(fault),
        false => Stop::Break(fault),
    }
}

/// The client had its terminal event and left. What is missing is the body's framing: an endpoint that sends
/// it at once has ended cleanly, and its connection can be used again.
async fn hear_out(stream: &mut Stream, connection: &mut Connection, exit: &Exit) {
    connection.until(Due::Stall, exit.mark().after(LAST_WORD), exit.total);
    while !stream.done {
        if !matches!(poll_fn(|cx| connection.poll_more(cx)).await, Ok(true)) {
            return;
        }
        match connection.take_body(&mut |_| {}) {
            Ok(body) => stream.done = body == Body::Done,
            Err(_) => return,
        }
    }
}

/// The body is whole by its framing. An answer that has neither its end nor an error in it broke off.
async fn end<X: Exchange>(
    stream: &mut Stream,
    exit: &mut Exit,
    x: &mut X,
) -> Result<(Outcome, Usage), Stop> {
    if stream.error.is_none() && !stream.complete() {
        // Whole events may be among what is staged, whatever follows.
        flush(x).await?;
        let stop = broken(stream, Fault::UpstreamBroken);
        exit.broke_off(&stop);
        return Err(stop);
    }
    let rest = stream.splitter.take_rest();
    let had_all = rest.is_empty() && had_all(stream, x);
    // What came without its blank line is not an event, but these are the body's bytes.
    if !rest.is_empty() {
        x.stage(|out| out.extend_from_slice(&rest));
    }
    x.stage_end();
    let flushed = poll_fn(|cx| x.poll_flush(cx)).await;
    if !had_all {
        flushed?;
    }
    Ok(verdict(stream, exit))
}

/// The stream has ended, well or with an error that the endpoint reported.
fn verdict(stream: &Stream, exit: &Exit) -> (Outcome, Usage) {
    let outcome = match stream.error {
        None => Outcome::Completed,
        Some(_) => {
            exit.endpoint_failed(Failure::ErrorEvent);
            Outcome::UpstreamBroken
        }
    };
    (outcome, stream.observer.usage())
}
