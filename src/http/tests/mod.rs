//! Tests of the codec as a whole.

mod bodies;
mod heads;
mod malformed;
mod names;
mod plain;
mod properties;
mod tls;
mod writing;

use super::*;

pub const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 16 << 10, header_count_max: 64, target_bytes_max: 4 << 10 };

/// Parses a request that must be whole and acceptable.
pub fn request(text: &str) -> RequestHead {
    let mut head = RequestHead::default();
    assert_eq!(
        parse_request(text.as_bytes(), &LIMITS, &mut head),
        Ok(Parsed::Complete),
        "{text:?}"
    );
    head
}

/// What parsing a request says.
pub fn verdict(text: &[u8]) -> Result<Parsed, Reject> {
    parse_request(text, &LIMITS, &mut RequestHead::default())
}

/// Parses a response to a request that was not HEAD, which must be whole and acceptable.
pub fn response(text: &str) -> ResponseHead {
    let mut head = ResponseHead::default();
    let parsed = parse_response(text.as_bytes(), &LIMITS, false, &mut head);
    assert_eq!(parsed, Ok(Parsed::Complete), "{text:?}");
    head
}

/// What parsing a response says.
pub fn response_verdict(text: &[u8]) -> Result<Parsed, BadResponse> {
    parse_response(text, &LIMITS, false, &mut ResponseHead::default())
}
