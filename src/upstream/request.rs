//! A request as an endpoint gets it: the head is ours, the body is the client's with splices.

use crate::api::family::Family;
use crate::config::plan::Endpoint;
use crate::http::{Fate, RequestHead, request_fate, write};

/// What goes into a head besides the client's own fields.
pub struct Outbound<'a> {
    pub head: &'a RequestHead,
    /// The buffer that `head`'s spans point into.
    pub bytes: &'a [u8],
    /// The path of the API, `/v1/…`.
    pub path: &'a str,
    pub family: Family,
    pub content_length: usize,
    pub request_id: &'a [u8],
    pub traceparent: &'a [u8],
    /// Passed on only together with the client's own `traceparent`.
    pub tracestate: Option<&'a [u8]>,
}

/// Writes the head of `outbound` for `endpoint`.
pub fn write_head(out: &mut Vec<u8>, endpoint: &Endpoint, outbound: &Outbound<'_>) {
    out.clear();
    out.extend_from_slice(b"POST ");
    out.extend_from_slice(endpoint.path_prefix.as_bytes());
    out.extend_from_slice(outbound.path.as_bytes());
    out.extend_from_slice(outbound.head.query.of(outbound.bytes));
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(endpoint.host_header.as_bytes());
    out.extend_from_slice(b"\r\naccept-encoding: identity\r\ncontent-length: ");
    write::number(out, outbound.content_length as u64);
    out.extend_from_slice(b"\r\n");
    for field in outbound.head.fields.iter().filter(|f| request_fate(f) == Fate::Forward) {
        if !overridden(endpoint, field.name.of(outbound.bytes)) {
            write::parsed_field(out, outbound.bytes, field);
        }
    }
    write_own(out, endpoint, outbound);
    write::end_of_head(out);
}

fn write_own(out: &mut Vec<u8>, endpoint: &Endpoint, outbound: &Outbound<'_>) {
    line(out, b"x-request-id: ", outbound.request_id);
    line(out, b"traceparent: ", outbound.traceparent);
    if let Some(state) = outbound.tracestate {
        line(out, b"tracestate: ", state);
    }
    if let Some(key) = &endpoint.api_key {
        let name: &[u8] = match outbound.family {
            Family::Anthropic => b"x-api-key: ",
            Family::OpenAi => b"authorization: Bearer ",
        };
        line(out, name, key.expose().as_bytes());
    }
    for (name, value) in &endpoint.headers {
        out.extend_from_slice(name.as_bytes());
        line(out, b": ", value.expose().as_bytes());
    }
}

/// A static header of the endpoint stands for the client's of the same name.
fn overridden(endpoint: &Endpoint, name: &[u8]) -> bool {
    endpoint.headers.iter().any(|(ours, _)| ours.as_bytes().eq_ignore_ascii_case(name))
}

/// Appends a name with its colon, and a value that the parser or the configuration proved.
fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
