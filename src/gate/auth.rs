//! Client credentials.

use crate::api::fault::Fault;
use crate::config::plan::{KeyId, Plan};
use crate::http::{Field, Known, RequestHead, authority};

/// The key a request presents, as `Authorization: Bearer` or as `x-api-key`. `Ok(None)` where the
/// configuration has no keys and everybody may ask.
///
/// # Errors
/// No key, or none that is known: the presented key is never part of the error. Or a web page asks, where
/// being on this machine is all that gives access.
pub fn identify(plan: &Plan, head: &RequestHead, bytes: &[u8]) -> Result<Option<KeyId>, Fault> {
    if plan.keys.is_empty() {
        return match plan.server.open_access || is_of_this_machine(head, bytes) {
            true => Ok(None),
            false => Err(Fault::ForeignPage),
        };
    }
    let presented = presented(head, bytes).ok_or(Fault::MissingKey)?;
    plan.authenticate(presented).map(Some).ok_or(Fault::BadKey)
}

/// Whether neither the name that the client used nor the page that sent it there can be somebody else's.
/// Without keys the listener is on loopback, which every page in a local browser can reach.
fn is_of_this_machine(head: &RequestHead, bytes: &[u8]) -> bool {
    let origins = || head.fields.iter().filter(|field| field.known == Known::Origin);
    let local = |origin: &Field| authority::is_local_origin(origin.value.of(bytes));
    head.value(bytes, Known::Host).is_none_or(authority::is_local)
        && (!head.has(Known::Origin) || origins().all(local))
}

fn presented<'b>(head: &RequestHead, bytes: &'b [u8]) -> Option<&'b [u8]> {
    let bearer = head.value(bytes, Known::Authorization).and_then(bearer);
    bearer.or_else(|| head.value(bytes, Known::XApiKey))
}

/// The token of a `Bearer` credential (RFC 6750 section 2.1; the scheme's case does not matter).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::bearer;

    #[test]
    fn bearer_is_recognised_in_any_case_and_nothing_else_is() {
        assert_eq!(bearer(b"Bearer abc"), Some(b"abc".as_slice()));
        assert_eq!(bearer(b"bearer  abc "), Some(b"abc".as_slice()));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b"Bear"), None);
    }
}
