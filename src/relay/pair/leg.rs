//! The leg of a request that goes to a server which prefills: sent, answered, and over before the client sees
//! anything of it.
//!
//! Invariants: dropping it shuts its connection down; it counts against its endpoint like any attempt.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use crate::api::Ask;
use crate::api::observe::{Observer, observe_unary};
use crate::api::operation::Operation;
use crate::api::usage::Usage;
use crate::config::plan::EndpointId;
use crate::dialect::pair::HANDOFF_BYTES_MAX;
use crate::http::Known;
use crate::json::Edits;
use crate::lifecycle::permit::KvTokens;
use crate::relay::core::{Core, Epoch};
use crate::relay::exit::Exit;
use crate::relay::ids::Id;
use crate::relay::inbound::Inbound;
use crate::relay::opening::{Content, content_kind};
use crate::relay::places::Place;
use crate::relay::reach;
use crate::relay::trip::{Claim, Trip};
use crate::route::router::Report;
use crate::runtime::clock::{self, Instant};
use crate::runtime::task;
use crate::runtime::wheel::Due;
use crate::sse::{Piece, Splitter};
use crate::upstream::connection::{Body, Connection};
use crate::upstream::error::AttemptError;
use crate::upstream::lease::Lease;
use crate::upstream::request::{self, Outbound};

/// Bytes of an answer, at most: one token, and the place of the prompt's blocks.
const ANSWER_BYTES_MAX: usize = HANDOFF_BYTES_MAX + 256 * 1024;
/// How long a server may take to end an answer of which nobody needs more.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What the leg is to do, borrowed from its request.
pub struct Errand<'a> {
    pub inbound: &'a Inbound,
    pub ask: &'a Ask,
    pub edits: &'a Edits,
    pub request_id: Id,
    pub traceparent: Id,
    pub trace_given: bool,
    /// When it has taken too long.
    pub until: Instant,
}

impl<'a> Errand<'a> {
    /// For the request of `exit`.
    pub fn of(
        exit: &Exit,
        inbound: &'a Inbound,
        ask: &'a Ask,
        edits: &'a Edits,
        until: Instant,
    ) -> Self {
        let Exit { request_id, traceparent, trace_given, .. } = *exit;
        Self { inbound, ask, edits, request_id, traceparent, trace_given, until }
    }
}

/// The leg under way.
pub struct Leg {
    core: Rc<Core>,
    epoch: Rc<Epoch>,
    lease: Lease,
    trip: Option<Box<Trip>>,
    _place: Option<Box<Place>>,
    /// All of the request has left.
    sent: bool,
    /// Its answer's head came.
    headed: bool,
    answer: Answer,
}

/// What came of the answer's body.
enum Answer {
    Whole(Vec<u8>),
    Events { splitter: Splitter, observer: Box<Observer> },
}

impl Leg {
    /// A leg to `endpoint`. `streamed`: its answer will be a stream of this operation. `None` if the shard is
    /// at a limit.
    pub fn begin(
        core: &Rc<Core>,
        epoch: &Rc<Epoch>,
        endpoint: EndpointId,
        (mut trip, place): (Option<Box<Trip>>, Option<Box<Place>>),
        streamed: Option<Operation>,
    ) -> Option<Self> {
        let lease = Lease::take(&core.kit, epoch.series(), endpoint)?;
        if let Some(trip) = &mut trip {
            trip.attempt(endpoint, clock::now());
        }
        let event_bytes_max = epoch.plan().limits.event_whole_bytes_max;
        let answer = match streamed {
            None => Answer::Whole(Vec::new()),
            Some(op) => Answer::Events {
                splitter: Splitter::new(event_bytes_max),
                observer: Box::new(Observer::new(op)),
            },
        };
        let (core, epoch) = (core.clone(), epoch.clone());
        let (sent, headed) = (false, false);
        Some(Self { core, epoch, lease, trip, _place: place, sent, headed, answer })
    }

    /// Where it goes.
    pub fn endpoint(&self) -> EndpointId {
        self.lease.endpoint
    }

    /// It failed: its trip may go on elsewhere.
    pub fn give_up(mut self) -> Option<Box<Trip>> {
        self.trip.take()
    }

    /// Goes all the way.
    pub async fn run(&mut self, errand: &Errand<'_>) -> Result<(), AttemptError> {
        let done = self.once(errand, true).await;
        let endpoint = &self.epoch.plan().endpoints[usize::from(self.lease.endpoint.0)];
        match done {
            Err(AttemptError::Stale) if endpoint.retry_stale => {
                let series = &self.epoch.series().endpoints[usize::from(self.lease.endpoint.0)];
                series.failed(AttemptError::Stale.failure());
                self.lease.attempted();
                self.once(errand, false).await
            }
            done => done,
        }
    }

    async fn once(&mut self, errand: &Errand<'_>, reuse: bool) -> Result<(), AttemptError> {
        let at = self.lease.endpoint;
        let pooled = reuse.then(|| reach::pooled(&self.epoch, at, clock::now())).flatten();
        let connection = match pooled {
            Some(connection) => connection,
            None => reach::fresh(&self.core, &self.epoch, at).await?,
        };
        self.lease.hold(connection);
        self.lease.connection().until(Due::FirstByte, errand.until, errand.until);
        self.send(errand).await?;
        self.finish().await
    }

    async fn send(&mut self, errand: &Errand<'_>) -> Result<(), AttemptError> {
        let Errand { inbound, ask, edits, .. } = errand;
        let endpoint = &self.epoch.plan().endpoints[usize::from(self.lease.endpoint.0)];
        let outbound = Outbound {
            head: &inbound.head,
            bytes: inbound.bytes(),
            path: ask.op.path(),
            family: ask.op.family(),
            content_length: edits.len_after(inbound.body().len()),
            request_id: errand.request_id.as_bytes(),
            traceparent: errand.traceparent.as_bytes(),
            tracestate: inbound.value(Known::Tracestate).filter(|_| errand.trace_given),
        };
        let mut head = self.core.kit.scratch();
        request::write_head(&mut head, endpoint, &outbound);
        let limits = &self.epoch.answer_limits;
        let connection = self.lease.connection();
        let sent = connection.send_at_once(&mut head, edits, inbound.body());
        let sent = connection.send(sent, &head, edits, inbound.body(), limits).await;
        self.core.kit.put_scratch(head);
        self.sent = sent.is_ok();
        sent
    }

    /// Reads the answer to its end. May be dropped and called again.
    async fn finish(&mut self) -> Result<(), AttemptError> {
        let limits = &self.epoch.answer_limits;
        let connection = self.lease.connection();
        if !self.headed {
            poll_fn(|cx| connection.poll_head(limits, cx)).await?;
            self.answer.begins(connection)?;
            connection.begin_body(limits);
            self.headed = true;
        }
        loop {
            let mut taken = Ok(());
            let body = connection.take_body(&mut |bytes| {
                if taken.is_ok() {
                    taken = self.answer.take(bytes);
                }
            })?;
            taken?;
            if body == Body::Done || !poll_fn(|cx| connection.poll_more(cx)).await? {
                return Ok(());
            }
        }
    }

    /// Its answer is whole. What it said, and what its server goes on keeping.
    pub fn close(mut self) -> (Vec<u8>, Option<Claim<KvTokens>>) {
        let now = clock::now();
        self.lease.finish(now);
        let usage = self.answer.usage();
        let mut kept = None;
        if let Some(mut trip) = self.trip.take() {
            kept = trip.keep_context();
            trip.content(now);
            let Usage { input, output, cached, .. } = usage;
            let report =
                Report { input_tokens: input, cached_tokens: cached, output_tokens: output };
            trip.settled(Some(now), &report);
        }
        let answer = match self.answer {
            Answer::Whole(answer) => answer,
            Answer::Events { .. } => Vec::new(),
        };
        (answer, kept)
    }

    /// The other server has answered: what is left of this one's answer says nothing any more. It is read, so
    /// that the connection can be used again; a server that is not done yet is left.
    pub fn let_go(mut self) {
        if !self.sent {
            return;
        }
        task::spawn(async move {
            let until = clock::now().after(LAST_WORD);
            self.lease.connection().until(Due::Stall, until, until);
            if self.finish().await.is_ok() {
                self.close();
            }
        });
    }
}

impl Answer {
    /// An error is none, nor is a page in HTML.
    fn begins(&self, connection: &mut Connection) -> Result<(), AttemptError> {
        let status = connection.head.status;
        if !(200..300).contains(&status) {
            return Err(AttemptError::Reported { status, message: "".into() });
        }
        match (self, content_kind(connection)) {
            (_, Content::Other) | (Answer::Whole(_), Content::Events) => {
                Err(AttemptError::NotTheApi)
            }
            _ => Ok(()),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), AttemptError> {
        match self {
            Answer::Whole(answer) if answer.len() + bytes.len() > ANSWER_BYTES_MAX => {
                Err(AttemptError::NotTheApi)
            }
            Answer::Whole(answer) => {
                answer.extend_from_slice(bytes);
                Ok(())
            }
            Answer::Events { splitter, observer } => {
                let mut error = None;
                splitter.feed(bytes, &mut |piece| {
                    let seen = match piece {
                        Piece::Event(event) => observer.event(event),
                        Piece::Part { bytes, last } => observer.part(bytes, last),
                    };
                    error = error.take().or(seen.error);
                });
                error.map_or(Ok(()), |error| {
                    let status = error.status.unwrap_or(502);
                    Err(AttemptError::Reported { status, message: "".into() })
                })
            }
        }
    }

    fn usage(&self) -> Usage {
        match self {
            // Chat's and completions' answers tell it alike.
            Answer::Whole(answer) => observe_unary(Operation::Chat, answer).0,
            Answer::Events { observer, .. } => observer.usage(),
        }
    }
}
