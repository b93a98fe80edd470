//! The beginning of an answer: judged, staged, and for a stream held until its first event.

use std::future::poll_fn;
use std::task::Poll;

use crate::api::ask::Ask;
use crate::api::fault::is_about_our_credential;
use crate::api::observe::EventError;
use crate::http::{Framing, Known};
use crate::lifecycle::inject::{self, Point};
use crate::relay::answer::{id_fields, id_pair};
use crate::relay::core::Core;
use crate::relay::exchange::{Exchange, Extent, Gone};
use crate::relay::exit::Exit;
use crate::relay::place::{Failed, Opening};
use crate::relay::serve::is_json;
use crate::relay::stream::Stream;
use crate::relay::unary::Unary;
use crate::runtime::wheel::Due;
use crate::upstream::connection::Connection;
use crate::upstream::error::{AttemptError, worth_another_endpoint};

/// Stages the answer whose head `connection` has read, up to the commit point: a stream's first complete
/// event, or as much of a whole answer as is held.
pub async fn open<X: Exchange>(
    core: &Core,
    exit: &mut Exit,
    x: &mut X,
    connection: &mut Connection,
    ask: &Ask,
    last: bool,
) -> Result<Opening, Failed> {
    inject::point(Point::Head);
    let status = connection.head.status;
    if is_about_our_credential(status) {
        return Err(AttemptError::Reported { status, message: CREDENTIAL_REFUSED.into() }.into());
    }
    if worth_another_endpoint(status) && !last {
        return Err(AttemptError::Reported { status, message: "".into() }.into());
    }
    let kind = content_kind(connection);
    if status >= 400 && kind == Content::Other {
        return Err(AttemptError::Reported { status, message: NOT_IN_SHAPE.into() }.into());
    }
    if status < 400 && (status >= 300 || kind == Content::Other || is_encoded(connection)) {
        return Err(AttemptError::NotTheApi.into());
    }
    let streams = ask.stream && status < 300 && kind == Content::Events;
    stage_head(exit, x, connection, streams);
    let limits = exit.epoch.answer_limits;
    connection.begin_body(&limits);
    if streams {
        return first_event(exit, x, connection, ask).await;
    }
    let json = status < 300 && kind == Content::Json;
    whole(core, exit, x, connection, Unary::new(ask.op, json)).await
}

/// In the place of what a provider says about our key, which may quote it.
const CREDENTIAL_REFUSED: &str = "The model server refused the gateway's own credential.";

/// In the place of an error page that is not in the API's shape.
const NOT_IN_SHAPE: &str = "The model server answered with an error.";

/// An error behind a 200, before anything was shown.
pub(super) fn reported(error: EventError) -> AttemptError {
    let status = error.status.unwrap_or(502);
    let message = match is_about_our_credential(status) {
        true => CREDENTIAL_REFUSED.into(),
        false => error.message,
    };
    AttemptError::Reported { status, message }
}

/// Sluice asked for an answer as it is: an encoded one could not be metered.
fn is_encoded(connection: &mut Connection) -> bool {
    let (head, bytes) = connection.head_bytes();
    let coding = head.value(bytes, Known::ContentEncoding);
    coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}

/// What an answer's head says its body is.
#[derive(PartialEq)]
pub(super) enum Content {
    Events,
    Json,
    Other,
}

pub(super) fn content_kind(connection: &mut Connection) -> Content {
    let (head, bytes) = connection.head_bytes();
    match head.value(bytes, Known::ContentType) {
        Some(value) if is_event_stream(value) => Content::Events,
        Some(value) if is_json(value) => Content::Json,
        // Servers that leave the type out are believed; a page in HTML is not.
        None => Content::Json,
        Some(_) => Content::Other,
    }
}

fn is_event_stream(value: &[u8]) -> bool {
    let name = b"text/event-stream";
    value.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

fn stage_head<X: Exchange>(exit: &mut Exit, x: &mut X, connection: &mut Connection, streams: bool) {
    let family = exit.family;
    let id = exit.request_id;
    let (head, bytes) = connection.head_bytes();
    exit.row.status = head.status;
    let extent = match head.framing {
        Framing::None => Extent::None,
        Framing::Length(length) if !streams => Extent::Length(length),
        _ => Extent::Open,
    };
    let pair = id_pair(id.as_bytes());
    let ids = id_fields(family, &pair);
    match exit.explanation() {
        None => x.stage_upstream_head(head, bytes, ids, extent),
        Some(why) => {
            let fields = [ids, &[("x-sluice-route", &why[..])]].concat();
            x.stage_upstream_head(head, bytes, &fields, extent);
        }
    }
}

/// Reads up to the first complete event (or 64 KiB of one), within the first byte's deadline.
async fn first_event<X: Exchange>(
    exit: &mut Exit,
    x: &mut X,
    connection: &mut Connection,
    ask: &Ask,
) -> Result<Opening, Failed> {
    let event_bytes_max = exit.epoch.plan().limits.event_whole_bytes_max;
    let mut stream = Box::new(Stream::new(ask, event_bytes_max));
    loop {
        let step = stream.take(connection, x)?;
        if let Some(error) = stream.take_error() {
            return Err(reported(*error).into());
        }
        // All of a body, and not of an answer: nothing has left, so it can still be an error.
        if stream.ended() && !stream.complete() {
            return Err(AttemptError::Truncated.into());
        }
        // Comments are held, too, but not without bound.
        if step.events > 0 || x.staged() > event_bytes_max {
            break;
        }
        let more = more(x, connection).await;
        exit.woke();
        more?.then_some(()).ok_or(AttemptError::Truncated)?;
    }
    let now = exit.mark();
    stream.note(exit, now);
    Ok(Opening::Stream(stream))
}

/// Reads a whole answer as far as it is held back: up to its own bound, while the shard has memory for it.
async fn whole<X: Exchange>(
    core: &Core,
    exit: &mut Exit,
    x: &mut X,
    connection: &mut Connection,
    mut unary: Unary,
) -> Result<Opening, Failed> {
    let hold = exit.epoch.plan().limits.answer_hold_bytes_max;
    let stall = exit.epoch.plan().timeouts.stall;
    while !unary.take(connection, exit, x)? && x.staged() < hold && unary.hold(core, x.staged()) {
        connection.until(Due::Stall, exit.mark().after(stall), exit.total);
        let more = more(x, connection).await;
        exit.woke();
        if !more? {
            unary.end()?;
            break;
        }
    }
    unary.judge(exit)?;
    Ok(Opening::Unary(unary))
}

/// Waits for more of the answer.
async fn more<X: Exchange>(x: &mut X, connection: &mut Connection) -> Result<bool, Failed> {
    poll_fn(|cx| {
        if let Poll::Ready(read) = connection.poll_more(cx) {
            return Poll::Ready(read.map_err(Failed::Attempt));
        }
        x.poll_gone(cx).map(|()| Err(Failed::from(Gone)))
    })
    .await
}
