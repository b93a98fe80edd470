//! Who may read the admin routes.

use axum::extract::{Request, State as Extract};
use axum::http::{HeaderMap, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::Response;

use super::routes::refusal;
use super::state::Shared;
use crate::config::secret::Secret;
use crate::http::authority::is_local;

/// Passes a request on if its sender may read, else answers 400, 401 or 403.
pub async fn check(Extract(shared): Extract<Shared>, request: Request, next: Next) -> Response {
    if misaddressed(request.headers(), request.uri(), request.version()) {
        return refusal(StatusCode::BAD_REQUEST, "name one host, and the same in target and Host");
    }
    let plan = shared.with(|state| state.plan.clone());
    let token = plan.admin.as_ref().and_then(|admin| admin.token.as_ref());
    let Some(token) = token else {
        if foreign_host(request.headers(), request.uri()) {
            return refusal(StatusCode::FORBIDDEN, "use an IP address or localhost as the host");
        }
        return next.run(request).await;
    };
    if bears(request.headers(), token) {
        return next.run(request).await;
    }
    let mut response = refusal(StatusCode::UNAUTHORIZED, "a bearer token is needed");
    let challenge = header::HeaderValue::from_static("Bearer");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}

/// RFC 6750 section 2.1; the comparison tells nothing about the token.
fn bears(headers: &HeaderMap, token: &Secret) -> bool {
    let mut presented = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (presented.next(), presented.next()) else { return false };
    let Some((scheme, credential)) = value.as_bytes().split_at_checked(7) else { return false };
    scheme.eq_ignore_ascii_case(b"bearer ") && token.matches(credential)
}

/// Whether two readers of a request could take it for one to different hosts (RFC 9112 section 3.2).
fn misaddressed(headers: &HeaderMap, uri: &Uri, version: Version) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next(), uri.authority()) {
        (Some(host), None, Some(authority)) => {
            !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())
        }
        (Some(_), more, _) => more.is_some(),
        (None, _, authority) => authority.is_some() || version > Version::HTTP_10,
    }
}

/// Without a token the listener is on loopback, where any web page in a local browser could send
/// requests under a name that it makes resolve to 127.0.0.1: only addresses and `localhost` pass.
fn foreign_host(headers: &HeaderMap, uri: &Uri) -> bool {
    let header = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let Some(host) = uri.authority().map(|authority| authority.as_str()).or(header) else {
        return false;
    };
    !is_local(host.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn only_the_token_passes() {
        let token = Secret::new("s3cret");
        for (value, passes) in [
            ("Bearer s3cret", true),
            ("bearer s3cret", true),
            ("Bearer s3cre", false),
            ("Bearer s3crets", false),
            ("Bearer ", false),
            ("Basic s3cret", false),
            ("s3cret", false),
            ("", false),
        ] {
            assert_eq!(bears(&headers(header::AUTHORIZATION, value), &token), passes, "{value}");
        }
        assert!(!bears(&HeaderMap::new(), &token));
    }

    #[test]
    fn a_request_names_one_host() {
        let (path, there) = (Uri::from_static("/"), Uri::from_static("http://A:1/"));
        let host = |value: &str| headers(header::HOST, value);
        let mut two = host("a:1");
        two.append(header::HOST, "a:1".parse().unwrap());
        for (headers, uri, version, misaddressed_is) in [
            (host("a:1"), &path, Version::HTTP_11, false),
            (host("a:1"), &there, Version::HTTP_11, false),
            (host("localhost"), &there, Version::HTTP_11, true),
            (two.clone(), &path, Version::HTTP_11, true),
            (two, &there, Version::HTTP_11, true),
            (HeaderMap::new(), &path, Version::HTTP_11, true),
            (HeaderMap::new(), &path, Version::HTTP_10, false),
            (HeaderMap::new(), &there, Version::HTTP_10, true),
        ] {
            assert_eq!(misaddressed(&headers, uri, version), misaddressed_is, "{headers:?} {uri}");
        }
    }

    #[test]
    fn names_that_anybody_can_own_are_foreign() {
        let uri = Uri::from_static("/metrics");
        for (host, foreign) in [("127.0.0.1:9090", false), ("evil.example:9090", true)] {
            assert_eq!(foreign_host(&headers(header::HOST, host), &uri), foreign, "{host}");
        }
    }
}
