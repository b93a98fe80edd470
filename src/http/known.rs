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
    Origin = "origin",
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
    #[inline(always)]
    pub fn recognise(name: &[u8]) -> Known {
        let [first, .., last] = name else { return Known::Other };
        let known = PLACES[place(name.len(), *first, *last)];
        if same(name, known.name().as_bytes()) { known } else { by_prefix(name) }
    }
}

/// Every known name in a place of its own, so that one comparison tells which a name is.
static PLACES: [Known; PLACE_COUNT] = {
    let mut places = [Known::Other; PLACE_COUNT];
    let mut at = 0;
    while !matches!(Known::ALL[at], Known::XForwarded) {
        let name = Known::ALL[at].name().as_bytes();
        let place = place(name.len(), name[0], name[name.len() - 1]);
        assert!(matches!(places[place], Known::Other), "two names in one place: other factors");
        places[place] = Known::ALL[at];
        at += 1;
    }
    places
};

const PLACE_COUNT: usize = 128;

/// The factors were found by trying.
#[inline(always)]
const fn place(len: usize, first: u8, last: u8) -> usize {
    let letters = (first | 0x20) as usize * 7 + (last | 0x20) as usize * 13;
    letters.wrapping_add(len) % PLACE_COUNT
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
#[inline]
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

#[inline(always)]
fn same_word(name: &[u8; 8], lower: &[u8; 8]) -> bool {
    u64::from_ne_bytes(*name) | 0x2020_2020_2020_2020 == u64::from_ne_bytes(*lower)
}

fn same_bytes(name: &[u8], lower: &[u8]) -> bool {
    name.iter().zip(lower).all(|(a, b)| a | 0x20 == *b)
}
