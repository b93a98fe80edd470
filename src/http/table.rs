//! Which header fields pass through the gateway, in both directions: one explicit table.
//!
//! What is not in it passes: unknown `x-` fields, `openai-*`, other `anthropic-*`, `x-ratelimit-*`
//! and `anthropic-ratelimit-*`. A field that a Connection field names never passes.

use super::head::Field;
use super::known::Known;

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Copied to the other side.
    Forward,
    /// Read or replaced by Sluice, which writes its own where one is needed.
    Ours,
    /// Goes no further.
    Drop,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub known: Known,
    /// From the client to the endpoint.
    pub request: Fate,
    /// From the endpoint to the client.
    pub response: Fate,
    pub why: &'static str,
}

const fn row(known: Known, request: Fate, response: Fate, why: &'static str) -> Row {
    Row { known, request, response, why }
}

/// The table, a row for each [`Known`] in the order of its discriminants.
#[rustfmt::skip]
pub const TABLE: [Row; Known::ALL.len()] = {
    use Fate::{Drop, Forward, Ours};
    [
        row(Known::Host, Ours, Drop, "names the endpoint upstream"),
        row(Known::ContentLength, Ours, Ours, "framing is ours"),
        row(Known::TransferEncoding, Ours, Ours, "framing is ours"),
        row(Known::Connection, Ours, Ours, "hop-by-hop"),
        row(Known::KeepAlive, Drop, Drop, "hop-by-hop"),
        row(Known::ProxyConnection, Drop, Drop, "hop-by-hop"),
        row(Known::Te, Drop, Drop, "hop-by-hop; no trailers are forwarded"),
        row(Known::Trailer, Drop, Drop, "no trailers are forwarded"),
        row(Known::Upgrade, Drop, Drop, "hop-by-hop"),
        row(Known::Http2Settings, Drop, Drop, "hop-by-hop"),
        row(Known::Expect, Ours, Drop, "answered by Sluice"),
        row(Known::Authorization, Ours, Drop, "client's credential; the endpoint's own is written"),
        row(Known::XApiKey, Ours, Drop, "client's credential; the endpoint's own is written"),
        row(Known::ApiKey, Ours, Drop, "client's credential"),
        row(Known::XGoogApiKey, Drop, Drop, "client's credential"),
        row(Known::ProxyAuthorization, Drop, Drop, "client's credential, hop-by-hop"),
        row(Known::ProxyAuthenticate, Drop, Drop, "hop-by-hop"),
        row(Known::WwwAuthenticate, Forward, Drop, "asks for a credential that is ours"),
        row(Known::Cookie, Drop, Drop, "clients share endpoint connections"),
        row(Known::SetCookie, Drop, Drop, "clients share endpoint connections"),
        row(Known::ContentType, Forward, Forward, "describes the body, which is relayed"),
        row(Known::ContentEncoding, Drop, Forward, "compressed requests are refused"),
        row(Known::Accept, Forward, Forward, "asks for a body, which is relayed"),
        row(Known::AcceptEncoding, Ours, Drop, "identity upstream: Sluice reads what it relays"),
        row(Known::XRequestId, Ours, Ours, "validated, echoed or made"),
        row(Known::RequestId, Ours, Ours, "validated, echoed or made"),
        row(Known::Traceparent, Ours, Ours, "passed or made"),
        row(Known::Tracestate, Ours, Ours, "goes with traceparent"),
        row(Known::AnthropicVersion, Forward, Forward, "part of the API"),
        row(Known::AnthropicBeta, Forward, Forward, "part of the API"),
        row(Known::RetryAfter, Forward, Forward, "part of the API"),
        row(Known::RetryAfterMs, Forward, Forward, "part of the API"),
        row(Known::Forwarded, Drop, Drop, "a client's word on where it is"),
        row(Known::Origin, Forward, Forward, "unread, but on a loopback listener without keys"),
        row(Known::XRealIp, Drop, Drop, "a client's word on where it is"),
        row(Known::AltSvc, Forward, Drop, "would lead clients past Sluice"),
        row(Known::StrictTransportSecurity, Forward, Drop, "speaks for another host"),
        row(Known::XForwarded, Drop, Drop, "a client's word on where it is"),
        row(Known::Other, Forward, Forward, "unknown fields pass"),
    ]
};

const _: () = {
    let mut at = 0;
    while at < TABLE.len() {
        assert!(TABLE[at].known as usize == at, "the rows stand in the order of the names");
        at += 1;
    }
};

/// What becomes of a client's field on its way to an endpoint.
pub const fn request_fate(field: &Field) -> Fate {
    match TABLE[field.known as usize].request {
        Fate::Forward if field.hop => Fate::Drop,
        fate => fate,
    }
}

/// What becomes of an endpoint's field on its way to a client.
pub const fn response_fate(field: &Field) -> Fate {
    match TABLE[field.known as usize].response {
        Fate::Forward if field.hop => Fate::Drop,
        fate => fate,
    }
}
