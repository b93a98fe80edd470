//! From ranked endpoints to the commit point: attempts, one after the other, until one has an answer that
//! may be shown.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::api::fault::Fault;
use crate::config::plan::{Endpoint, EndpointId};
use crate::http::Known;
use crate::json::Edits;
use crate::lifecycle::inject::{self, Point};
use crate::lifecycle::permit::Retry;
use crate::relay::core::Core;
use crate::relay::exchange::{Exchange, Gone};
use crate::relay::exit::Exit;
use crate::relay::inbound::Inbound;
use crate::relay::isolate;
use crate::relay::opening;
use crate::relay::pair;
use crate::relay::places::Place;
use crate::relay::queue::{self, Seated};
use crate::relay::reach;
use crate::relay::state::Admitted;
use crate::relay::stop::Stop;
use crate::relay::stream::Stream;
use crate::relay::unary::Unary;
use crate::runtime::wheel::Due;
use crate::telemetry::shard::Stage;
use crate::upstream::connection::{Connection, Sent};
use crate::upstream::error::AttemptError;
use crate::upstream::lease::Lease;
use crate::upstream::request::{self, Outbound};

/// An answer whose beginning is staged.
pub enum Opening {
    Stream(Box<Stream>),
    Unary(Unary),
}

/// An attempt without an answer.
pub enum Failed {
    Gone,
    Attempt(AttemptError),
    /// It was dropped, because the server that was to compute its prompt failed.
    Partner(AttemptError),
}

impl From<Gone> for Failed {
    fn from(Gone: Gone) -> Self {
        Failed::Gone
    }
}

impl From<AttemptError> for Failed {
    fn from(error: AttemptError) -> Self {
        Failed::Attempt(error)
    }
}

/// Tries the ranked endpoints until an answer has begun, and commits to it.
///
/// # Errors
/// The client left, or no endpoint gave an answer that may be shown.
pub async fn place<X: Exchange>(
    core: &Rc<Core>,
    exit: &mut Exit,
    inbound: &Inbound,
    x: &mut X,
    admitted: &Admitted,
    seated: &mut Seated,
) -> Result<((Lease, Option<Box<Place>>), Opening), Stop> {
    if !exit.is_copy() {
        core.earn_retry();
    }
    inject::point(Point::Admitted);
    let edits = edits(exit, admitted)?;
    let mut failed = AttemptError::NoAddress;
    let mut retry = None;
    seated.leave_unless_first();
    let (mut order, mut tried, mut full) = (seated.order, 0, false);
    while let Some(endpoint) = order.endpoints().get(tried).copied() {
        tried += 1;
        if !isolate::allows(exit, endpoint) {
            continue;
        }
        let place = seated.place_at(core, exit, endpoint);
        full = place.is_err();
        let Ok(place) = place else { continue };
        let mut share = pair::share(core, exit, admitted, endpoint, &edits)?;
        let split = share.is_some();
        // That a pair failed is no reason to try many: the first one is not the budget's affair.
        let exempt = split && tried == 1;
        // The last attempt's answer is relayed even if it is an error.
        let last = tried == order.endpoints().len() || !(exempt || core.may_retry());
        let mut attempt = Attempt { core, exit, inbound, admitted, endpoint, edits: &edits };
        let begun = match &mut share {
            None => attempt.run(x, last).await,
            // Boxed, so that requests of one server hold no room for it.
            Some(share) => Box::pin(pair::beside(attempt, share, x, last)).await,
        };
        match begun {
            Ok((lease, opening)) => {
                inject::point(Point::Opened);
                pair::opened(exit, share);
                return Ok(((lease, place), opening));
            }
            Err(Failed::Gone) => return Err(Stop::Gone),
            Err(Failed::Attempt(error)) => {
                exit.epoch.series().endpoints[usize::from(endpoint.0)].failed(error.failure());
                failed = error;
            }
            Err(Failed::Partner(error)) => failed = error,
        }
        x.unstage();
        exit.row.status = 0;
        pair::failed(exit, &failed);
        // Where an endpoint opted out, a request that it may have read is not sent again to anybody.
        let once = !exit.epoch.plan().endpoints[usize::from(endpoint.0)].retry_stale;
        let maybe_read = matches!(failed, AttemptError::Stale | AttemptError::Closed);
        // What one of two servers says may be the other one's doing.
        let elsewhere = failed.elsewhere_helps() || split && failed != AttemptError::TotalTimeout;
        if last || !elsewhere || (once && maybe_read) {
            break;
        }
        if split {
            order = pair::rank_rest(core, exit, admitted, order, tried);
        }
        if !exempt {
            core.spend_retry();
            retry = core.kit.ledgers.take::<Retry>(1).or(retry);
        }
    }
    drop(retry);
    // Who could have done all of it in the place of two has no room: that passes.
    if full && (exit.row.attempts == 0 || exit.pair.is_some()) {
        return Err(Stop::Refuse(queue::no_place(core, exit, inbound, admitted)));
    }
    Err(Stop::Refuse(failed.fault()))
}

/// What Sluice must change in the body.
fn edits(exit: &Exit, admitted: &Admitted) -> Result<Edits, Fault> {
    let mut edits = named(exit, admitted)?;
    admitted.ask.usage.splice(&mut edits).map_err(|_| Fault::Internal)?;
    Ok(edits)
}

/// The model's name as its endpoints know it, and whose cache its prompt may share.
pub fn named(exit: &Exit, admitted: &Admitted) -> Result<Edits, Fault> {
    let mut edits = Edits::new();
    let model = &exit.epoch.plan().models[usize::from(admitted.model.0)];
    // Its endpoints know a model neither by an alias, nor by a split's name, nor by that whose shadow it is.
    let renamed = exit.row.asked.is_some() || exit.is_copy();
    if let Some(name) = model.upstream_model.as_ref().or(renamed.then_some(&model.name)) {
        let json = serde_json::Value::from(name.as_ref()).to_string().into_bytes();
        let replaced = edits.replace(admitted.ask.model_span.clone(), json);
        replaced.map_err(|_| Fault::Internal)?;
    }
    isolate::splice(exit, &admitted.ask, &mut edits).map_err(|_| Fault::Internal)?;
    Ok(edits)
}

/// How long an answer may take to begin: until the first event of a stream, or until the head of a whole
/// answer (there it is the whole generation).
pub fn patience(exit: &Exit, admitted: &Admitted) -> Duration {
    let timeouts = &exit.epoch.plan().timeouts;
    match admitted.ask.stream {
        true => timeouts.first_byte_streamed,
        false => timeouts.first_byte_unary,
    }
}

/// One endpoint's turn.
pub struct Attempt<'a> {
    pub core: &'a Rc<Core>,
    pub exit: &'a mut Exit,
    pub inbound: &'a Inbound,
    pub admitted: &'a Admitted,
    pub endpoint: EndpointId,
    pub edits: &'a Edits,
}

impl Attempt<'_> {
    /// A pooled connection first, and a fresh one if that had died under the request.
    pub async fn run<X: Exchange>(
        &mut self,
        x: &mut X,
        last: bool,
    ) -> Result<(Lease, Opening), Failed> {
        let epoch = self.exit.epoch.clone();
        let endpoint = &epoch.plan().endpoints[usize::from(self.endpoint.0)];
        let counts = &epoch.series().endpoints[usize::from(self.endpoint.0)];
        let mut reuse = true;
        loop {
            self.exit.attempt(self.endpoint);
            let seat = self.exit.pair.as_mut().and_then(|pair| pair.seat(self.endpoint));
            let take = || Lease::take(&self.core.kit, epoch.series(), self.endpoint);
            let lease = seat.or_else(take);
            let mut lease = lease.ok_or(AttemptError::AtCapacity)?;
            match self.once(endpoint, x, &mut lease, reuse, last).await {
                Ok(opening) => return Ok((lease, opening)),
                Err(Failed::Attempt(AttemptError::Stale)) if reuse && endpoint.retry_stale => {
                    counts.failed(AttemptError::Stale.failure());
                    reuse = false;
                }
                Err(failed) => return Err(failed),
            }
        }
    }

    async fn once<X: Exchange>(
        &mut self,
        endpoint: &Endpoint,
        x: &mut X,
        lease: &mut Lease,
        reuse: bool,
        last: bool,
    ) -> Result<Opening, Failed> {
        inject::point(Point::Leased);
        let connection = self.connection(x, reuse).await?;
        lease.hold(connection);
        let connection = lease.connection();
        self.set_deadline(connection);
        inject::point(Point::Connected);
        self.send(endpoint, x, connection).await?;
        inject::point(Point::Sent);
        self.exit.worked(Stage::Place);
        let limits = &self.exit.epoch.answer_limits;
        let read = poll_fn(|cx| match connection.poll_head(limits, cx) {
            Poll::Ready(read) => Poll::Ready(read.map_err(Failed::Attempt)),
            Poll::Pending => x.poll_gone(cx).map(|()| Err(Failed::Gone)),
        })
        .await;
        let waited = self.exit.waited(Stage::FirstByte);
        read?;
        let series = self.exit.epoch.series();
        series.endpoints[usize::from(self.endpoint.0)].head_wait.record(waited);
        opening::open(self.core, self.exit, x, connection, &self.admitted.ask, last).await
    }

    /// A pooled connection, or a fresh one.
    async fn connection<X: Exchange>(
        &mut self,
        x: &mut X,
        reuse: bool,
    ) -> Result<Box<Connection>, Failed> {
        let epoch = self.exit.epoch.clone();
        let now = self.exit.mark();
        if let Some(pooled) = reuse.then(|| reach::pooled(&epoch, self.endpoint, now)).flatten() {
            return Ok(pooled);
        }
        let opened = watched(x, reach::fresh(self.core, &epoch, self.endpoint)).await;
        self.exit.waited(Stage::Connect);
        Ok(opened??)
    }

    fn set_deadline(&self, connection: &Connection) {
        let joint = self.exit.pair.as_ref().and_then(|pair| pair.until(self.exit.mark()));
        let own = || self.exit.mark().after(patience(self.exit, self.admitted));
        let at = joint.unwrap_or_else(own);
        connection.until(Due::FirstByte, at, self.exit.total);
    }

    async fn send<X: Exchange>(
        &mut self,
        endpoint: &Endpoint,
        x: &mut X,
        connection: &mut Connection,
    ) -> Result<(), Failed> {
        let (ask, body) = (&self.admitted.ask, self.inbound.body());
        let state = self.inbound.value(Known::Tracestate).filter(|_| self.exit.trace_given);
        let outbound = Outbound {
            head: &self.inbound.head,
            bytes: self.inbound.bytes(),
            path: ask.op.path(),
            family: ask.op.family(),
            content_length: self.edits.len_after(body.len()),
            request_id: self.exit.request_id.as_bytes(),
            traceparent: self.exit.traceparent.as_bytes(),
            tracestate: state,
        };
        let mut head = self.core.kit.scratch();
        request::write_head(&mut head, endpoint, &outbound);
        let sent = connection.send_at_once(&mut head, self.edits, body);
        let mut rest = Ok(Ok(()));
        if sent != Sent::All {
            let limits = &self.exit.epoch.answer_limits;
            // Boxed, so that requests that leave at once hold no room for it.
            let work = Box::pin(connection.send(sent, &head, self.edits, body, limits));
            rest = watched(x, work).await;
        }
        self.core.kit.put_scratch(head);
        Ok(rest??)
    }
}

/// Waits for `work`, unless the client leaves first: then the work is dropped, and its connection with it.
pub async fn watched<X: Exchange, F: Future>(x: &mut X, work: F) -> Result<F::Output, Gone> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        x.poll_gone(cx).map(|()| Err(Gone))
    })
    .await
}
