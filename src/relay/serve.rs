//! One request from its head to its outcome.

use std::future::poll_fn;
use std::rc::Rc;

use crate::api::ask::{Ask, read_ask};
use crate::api::fault::Fault;
use crate::api::operation::{Operation, Resolved, resolve};
use crate::api::usage::Usage;
use crate::gate::{auth, rights};
use crate::http::Known;
use crate::json::Bounds;
use crate::lifecycle::inject::{self, Point};
use crate::lifecycle::outcome::Outcome;
use crate::relay::answer;
use crate::relay::arm;
use crate::relay::core::{Core, Epoch};
use crate::relay::exchange::Exchange;
use crate::relay::exit::Exit;
use crate::relay::inbound::Inbound;
use crate::relay::isolate;
use crate::relay::local;
use crate::relay::pair;
use crate::relay::place::{self, Opening};
use crate::relay::queue::{self, Asked};
use crate::relay::shadow;
use crate::relay::state::{Accepted, Placed};
use crate::relay::stop::Stop;
use crate::relay::{stream, unary};
use crate::runtime::clock::{self, Instant};
use crate::runtime::wheel::Due;
use crate::telemetry::shard::Stage;
use crate::upstream::connection::Connection;

/// Serves one request, whose head was parsed, and records how it ended.
pub async fn serve<X: Exchange>(
    core: &Rc<Core>,
    epoch: Rc<Epoch>,
    inbound: &mut Inbound,
    x: &mut X,
) {
    let mut exit = Exit::begin(epoch, inbound, &core.kit);
    inject::point(Point::Begin);
    let outcome = match stages(core, &mut exit, inbound, x).await {
        Ok(outcome) => outcome,
        Err(stop) => {
            // Whatever is still told the client, the endpoint has nothing to do with it any more.
            exit.pair = None;
            exit.trip = None;
            answer::stopped(stop, &mut exit, x).await
        }
    };
    exit.row.response_bytes = x.sent_bytes();
    exit.end(outcome);
}

/// Answers a head that could not be taken for a request, and records it like one.
pub async fn refuse_head<X: Exchange>(
    core: &Rc<Core>,
    epoch: Rc<Epoch>,
    inbound: &mut Inbound,
    x: &mut X,
    fault: Fault,
) {
    inbound.forget(clock::now());
    let mut exit = Exit::begin(epoch, inbound, &core.kit);
    let outcome = answer::stopped(Stop::Refuse(fault), &mut exit, x).await;
    exit.row.response_bytes = x.sent_bytes();
    exit.end(outcome);
}

/// Every stage, in order.
async fn stages<X: Exchange>(
    core: &Rc<Core>,
    exit: &mut Exit,
    inbound: &mut Inbound,
    x: &mut X,
) -> Result<Outcome, Stop> {
    let accepted = Accepted::enter(core, exit.epoch.clone())?;
    let resolved = operation(exit, inbound)?;
    let key = auth::identify(exit.epoch.plan(), &inbound.head, inbound.bytes())?;
    exit.key(key);
    if !resolved.op.has_body() {
        return local::answer(&resolved, exit, x).await;
    }
    media_type(inbound)?;
    read_body(exit, inbound, x).await?;
    let ask = read(resolved.op, exit, inbound)?;
    if ask.stream {
        x.expect_silence();
    }
    let named = rights::model(exit.epoch.plan(), &ask.model)?;
    let served = arm::serve(exit, &core.kit, inbound, named)?;
    exit.model(served);
    if exit.epoch.seating().isolates {
        exit.salt = isolate::salt(exit, inbound, &ask, served.model)?;
    }
    let admitted = accepted.admit(core, exit, key, served.model, ask, inbound.body().len())?;
    // What waits is boxed, so that requests that do not wait are no larger for it.
    let mut seated = loop {
        match queue::ask(core, exit, inbound, &admitted)? {
            Asked::Seated(seated) => break seated,
            Asked::Line(want) => {
                break Box::pin(queue::wait(core, exit, inbound, x, &admitted, want)).await?;
            }
            Asked::Consult(consultation) => Box::pin(consultation.wait(exit, x)).await?,
        }
    };
    if pair::is_paired(exit, &admitted) {
        // Boxed, so that requests of one server hold no room for it.
        let order =
            Box::pin(pair::prepare(core, exit, inbound, x, &admitted, (seated.order, seated.work)));
        seated.order = order.await?;
    }
    let placed = place::place(core, exit, inbound, x, &admitted, &mut seated).await;
    if !matches!(placed, Err(Stop::Gone)) {
        shadow::offer(core, exit, inbound, &admitted);
    }
    let (lease, mut opening) = placed?;
    let mut placed = admitted.place(lease);
    let (outcome, usage) = relay(&mut placed, &mut opening, exit, inbound, x).await?;
    settle(placed, &usage, exit);
    Ok(outcome)
}

/// Relays the answer that has begun.
///
/// # Errors
/// The client left, or the endpoint broke off.
pub async fn relay<X: Exchange>(
    placed: &mut Placed,
    opening: &mut Opening,
    exit: &mut Exit,
    inbound: &mut Inbound,
    x: &mut X,
) -> Result<(Outcome, Usage), Stop> {
    inbound.release();
    match opening {
        Opening::Stream(stream) => {
            // A stream may last, and hold no more than it needs.
            inbound.head.forget();
            placed.lease.connection().head.forget();
            stream::relay(stream, placed, exit, x).await
        }
        Opening::Unary(unary) => unary::relay(unary, placed, exit, x).await,
    }
}

/// Pays for an answer that was relayed to its end.
pub fn settle(placed: Placed, usage: &Usage, exit: &mut Exit) {
    placed.settle(*usage, exit.mark());
    exit.settled(usage);
}

/// What the request line asks for.
fn operation(exit: &mut Exit, inbound: &Inbound) -> Result<Resolved, Fault> {
    let head = &inbound.head;
    let resolved = resolve(head.method, head.path(inbound.bytes()))?;
    exit.operation(resolved.op);
    inject::point(Point::Accepted);
    Ok(resolved)
}

/// Bodies are JSON, and not compressed.
fn media_type(inbound: &Inbound) -> Result<(), Fault> {
    inject::point(Point::Identified);
    let identity = |coding: &[u8]| coding.eq_ignore_ascii_case(b"identity") || coding.is_empty();
    if !inbound.value(Known::ContentEncoding).is_none_or(identity) {
        return Err(Fault::ContentEncoding);
    }
    match inbound.value(Known::ContentType).is_none_or(is_json) {
        true => Ok(()),
        false => Err(Fault::ContentType),
    }
}

/// `application/json` or a `+json` type, parameters aside.
pub fn is_json(value: &[u8]) -> bool {
    if value == b"application/json" {
        return true;
    }
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let suffix = essence.len().checked_sub(5).map(|at| &essence[at..]);
    essence.eq_ignore_ascii_case(b"application/json")
        || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(b"+json"))
}

async fn read_body<X: Exchange>(
    exit: &mut Exit,
    inbound: &mut Inbound,
    x: &mut X,
) -> Result<(), Stop> {
    let epoch = exit.epoch.clone();
    let read = x.read_body(inbound, &epoch).await;
    if read.is_err() || inbound.came_in_pieces() {
        exit.waited(Stage::Read);
    }
    Ok(read?)
}

fn read(op: Operation, exit: &mut Exit, inbound: &Inbound) -> Result<Box<Ask>, Fault> {
    inject::point(Point::Body);
    let bounds = Bounds { depth_max: exit.epoch.plan().limits.json_depth_max };
    let ask = read_ask(op, inbound.body(), &bounds)?;
    exit.asked(&ask, inbound.body().len());
    inject::point(Point::Asked);
    exit.worked(Stage::Scan);
    Ok(ask)
}

/// Sends what is staged before the endpoint is read on; whether the client had to be waited for. While it is
/// slow, silence there is not the endpoint's: only the request's whole time, `total`, bounds it.
pub async fn flush_paused<X: Exchange>(
    x: &mut X,
    connection: &Connection,
    total: Instant,
) -> Result<bool, Stop> {
    let mut waited = false;
    if x.staged() == 0 {
        return Ok(waited);
    }
    let flushed = poll_fn(|cx| {
        let flushed = x.poll_flush(cx);
        if flushed.is_pending() {
            waited = true;
            connection.until(Due::Total, total, total);
        }
        flushed
    });
    flushed.await?;
    Ok(waited)
}

/// Sends what is staged, unless the client leaves.
pub async fn flush<X: Exchange>(x: &mut X) -> Result<(), Stop> {
    Ok(poll_fn(|cx| x.poll_flush(cx)).await?)
}
