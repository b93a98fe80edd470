//! The header names that Sluice knows, recognised once when a head is parsed.

macro_rules! known {
    ($($variant:ident = $text:literal,)*) => {
        /// A header field by its name. Everything Sluice has no business with is `Other`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Known { $($variant,)* /** Any `x-forwarded-` field. */ XForwarded, Other }

        impl Known {
            /// Every known name, in the order of the discriminants.
            pub const ALL: &'static [Known] =
                &[$(Known::$variant,)* Known::XForwarded, Known::Other];

            /// The name in lower case; a pattern for the two that stand for many names.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Known::$variant => $text,)*
                    Known::XForwarded => "x-forwarded-*",
                    Known::Other => "*",
                }
            }
        }
    };
}

known! {
    Host = "host",
    ContentLength = "content-length",
    TransferEncoding = "transfer-encoding",
    Connection = "connection",
    KeepAlive = "keep-alive",
    ProxyConnection = "proxy-connection",
    Te = "te",
    Trailer = "trailer",
    Upgrade = "upgrade",
    Http2Settings = "http2-settings",
    Expect = "expect",
    Authorization = "authorization",
    XApiKey = "x-api-key",
    ApiKey = "api-key",
    XGoogApiKey = "x-goog-api-key",
    ProxyAuthorization = "proxy-authorization",
    ProxyAuthenticate = "proxy-authenticate",
    WwwAuthenticate = "www-authenticate",
    Cookie = "cookie",
    SetCookie = "set-cookie",
    ContentType = "content-type",
    ContentEncoding = "content-encoding",
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    XRequestId = "x-request-id",
    RequestId = "request-id",
    Traceparent = "traceparent",
    Tracestate = "tracestate",
    AnthropicVersion = "anthropic-version",
    AnthropicBeta = "anthropic-beta",
    RetryAfter = "retry-after",
    RetryAfterMs = "retry-after-ms",
    Forwarded = "forwarded",
    XRealIp = "x-real-ip",
    AltSvc = "alt-svc",
    StrictTransportSecurity = "strict-transport-security",
}

/// Sets of names are one word.
const _: () = assert!(Known::ALL.len() <= 64);

const X_FORWARDED: &[u8] = b"x-forwarded-";

impl Known {
    /// This name's bit in a set of names.
    pub const fn bit(self) -> u64 {
        1 << self as u8
    }

    /// Recognises `name`, in any case. `name` must be a token (RFC 9110 section 5.6.2), as every
    /// name out of the parser is.
    pub fn recognise(name: &[u8]) -> Known {
        let Some(first) = name.first() else { return Known::Other };
        candidates(name.len(), first | 0x20)
            .iter()
            .copied()
            .find(|known| same(name, known.name().as_bytes()))
            .unwrap_or_else(|| by_prefix(name))
    }
}

/// The names of this length that start with this letter: rarely more than one.
fn candidates(len: usize, first: u8) -> &'static [Known] {
    match (len, first) {
        (2, b't') => &[Known::Te],
        (4, b'h') => &[Known::Host],
        (6, b'a') => &[Known::Accept],
        (6, b'c') => &[Known::Cookie],
        (6, b'e') => &[Known::Expect],
        (7, b'a') => &[Known::ApiKey, Known::AltSvc],
        (7, b't') => &[Known::Trailer],
        (7, b'u') => &[Known::Upgrade],
        (9, b'f') => &[Known::Forwarded],
        (9, b'x') => &[Known::XApiKey, Known::XRealIp],
        (10, b'c') => &[Known::Connection],
        (10, b'k') => &[Known::KeepAlive],
        (10, b'r') => &[Known::RequestId],
        (10, b's') => &[Known::SetCookie],
        (10, b't') => &[Known::Tracestate],
        (11, b'r') => &[Known::RetryAfter],
        (11, b't') => &[Known::Traceparent],
        (12, b'c') => &[Known::ContentType],
        (12, b'x') => &[Known::XRequestId],
        (13, b'a') => &[Known::Authorization],
        (14, b'a') => &[Known::AnthropicBeta],
        (14, b'c') => &[Known::ContentLength],
        (14, b'h') => &[Known::Http2Settings],
        (14, b'r') => &[Known::RetryAfterMs],
        (14, b'x') => &[Known::XGoogApiKey],
        (15, b'a') => &[Known::AcceptEncoding],
        (16, b'c') => &[Known::ContentEncoding],
        (16, b'p') => &[Known::ProxyConnection],
        (16, b'w') => &[Known::WwwAuthenticate],
        (17, b'a') => &[Known::AnthropicVersion],
        (17, b't') => &[Known::TransferEncoding],
        (18, b'p') => &[Known::ProxyAuthenticate],
        (19, b'p') => &[Known::ProxyAuthorization],
        (25, b's') => &[Known::StrictTransportSecurity],
        _ => &[],
    }
}

fn by_prefix(name: &[u8]) -> Known {
    match name.get(..X_FORWARDED.len()) {
        Some(prefix) if same(prefix, X_FORWARDED) => Known::XForwarded,
        _ => Known::Other,
    }
}

/// Whether `name` is `lower` in any case, where `name` holds no control characters, as no name
/// and no value out of the parser does, and `lower` holds none of `@A-Z[\]^_`.
///
/// Setting bit 5 then maps nothing but an upper-case letter onto another character of `lower`, so
/// whole words can be folded at once; the last word may overlap the one before.
pub(super) fn same(name: &[u8], lower: &[u8]) -> bool {
    if name.len() != lower.len() {
        return false;
    }
    match (name.split_last_chunk::<8>(), lower.split_last_chunk::<8>()) {
        (Some((name_start, name_end)), Some((lower_start, lower_end))) => {
            same_word(name_end, lower_end)
                && match (name.first_chunk::<8>(), lower.first_chunk::<8>()) {
                    (Some(a), Some(b)) if name.len() <= 16 => same_word(a, b),
                    _ => same_bytes(name_start, lower_start),
                }
        }
        _ => same_bytes(name, lower),
    }
}

fn same_word(name: &[u8; 8], lower: &[u8; 8]) -> bool {
    u64::from_ne_bytes(*name) | 0x2020_2020_2020_2020 == u64::from_ne_bytes(*lower)
}

fn same_bytes(name: &[u8], lower: &[u8]) -> bool {
    name.iter().zip(lower).all(|(a, b)| a | 0x20 == *b)
}
