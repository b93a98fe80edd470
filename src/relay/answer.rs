//! Answers that Sluice itself gives: errors, and the errors of streams that broke.

use crate::api::error_body::{error_body, error_event};
use crate::api::family::Family;
use crate::api::fault::{Fault, Retry};
use crate::api::operation::Operation;
use crate::lifecycle::inject::{self, Point};
use crate::lifecycle::outcome::Outcome;
use crate::relay::exchange::{Exchange, Extent, FieldPair};
use crate::relay::exit::Exit;
use crate::relay::serve::flush;
use crate::relay::stop::Stop;

/// Tells the client why its request stopped, as far as it can still be told; returns the outcome.
pub async fn stopped<X: Exchange>(stop: Stop, exit: &mut Exit, x: &mut X) -> Outcome {
    inject::point(Point::Answering);
    let stop = if stop == Stop::Gone && x.dismissed() { farewell(x) } else { stop };
    let told = match &stop {
        Stop::Gone => return gone(exit, x),
        Stop::Refuse(fault) => refuse(fault, exit, x).await,
        Stop::Break(fault) => break_off(fault, exit, x).await,
        Stop::Cut(fault) => {
            exit.fault(fault);
            x.cut();
            return stop.outcome();
        }
    };
    match told {
        Ok(()) => stop.outcome(),
        Err(_) => gone(exit, x),
    }
}

/// What is said to a client that the gateway leaves. Before the answer began, that is an error like others.
fn farewell<X: Exchange>(x: &mut X) -> Stop {
    x.close_after();
    if x.sent_bytes() > 0 {
        return Stop::Cut(Fault::ShuttingDown);
    }
    x.unstage();
    Stop::Refuse(Fault::ShuttingDown)
}

fn gone<X: Exchange>(exit: &mut Exit, x: &X) -> Outcome {
    if x.sent_bytes() == 0 {
        exit.row.status = 0;
    }
    if x.too_slow() { Outcome::TimedOut } else { Outcome::ClientGone }
}

/// An error in the API's own shape.
async fn refuse<X: Exchange>(fault: &Fault, exit: &mut Exit, x: &mut X) -> Result<(), Stop> {
    exit.fault(fault);
    let family = exit.family;
    let body = error_body(family, fault, exit.request_id.as_str());
    stage_fault(fault, family, exit, x, body.len());
    if !exit.head_only {
        x.stage(|out| out.extend_from_slice(&body));
    }
    x.stage_end();
    flush(x).await
}

fn stage_fault<X: Exchange>(
    fault: &Fault,
    family: Family,
    exit: &mut Exit,
    x: &mut X,
    body_bytes: usize,
) {
    let seconds;
    let id = exit.request_id;
    let ids = id_pair(id.as_bytes());
    let mut fields: Vec<FieldPair<'_>> = vec![JSON];
    fields.extend_from_slice(id_fields(family, &ids));
    if let Fault::MethodNotAllowed { allow } = fault {
        fields.push(("allow", allow.as_bytes()));
    }
    if fault.status() == 401 {
        fields.push(("www-authenticate", b"Bearer"));
    }
    if let Retry::AfterS(after) = fault.retry() {
        seconds = after.to_string();
        fields.push(("retry-after", seconds.as_bytes()));
    }
    exit.row.status = fault.status();
    x.stage_head(fault.status(), &fields, Extent::Length(body_bytes as u64));
}

/// What Sluice itself answers is JSON.
pub const JSON: FieldPair<'static> = ("content-type", b"application/json");

/// The headers that may carry a request id.
pub fn id_pair(id: &[u8]) -> [FieldPair<'_>; 2] {
    [("x-request-id", id), ("request-id", id)]
}

/// Those of them that this API's clients look for.
pub fn id_fields<'p, 'i>(family: Family, pair: &'p [FieldPair<'i>; 2]) -> &'p [FieldPair<'i>] {
    match family {
        Family::OpenAi => &pair[..1],
        Family::Anthropic => &pair[..],
    }
}

/// The API's own error event, and then the end of the connection: the framing is left unfinished, so that
/// nobody takes the answer for whole.
async fn break_off<X: Exchange>(fault: &Fault, exit: &mut Exit, x: &mut X) -> Result<(), Stop> {
    exit.fault(fault);
    x.close_after();
    let op = exit.operation.unwrap_or(Operation::Chat);
    let event = error_event(op, fault, exit.request_id.as_str(), exit.events);
    x.stage(|out| out.extend_from_slice(&event));
    flush(x).await
}
