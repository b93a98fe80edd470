//! Header fields of either direction: from httparse's slices to spans, and what they say about
//! the body's length and the connection.

use super::head::{Field, Framing, Version};
use super::known::{Known, same};
use super::reject::Malformed;
use super::span::Span;

/// Options that a Connection field may list.
const CONNECTION_OPTIONS_MAX: usize = 32;

/// Fields that say where the message or the connection ends.
const STEERING: u64 =
    Known::ContentLength.bit() | Known::TransferEncoding.bit() | Known::Connection.bit();

/// What the fields say together.
#[derive(Default)]
pub(super) struct Digest {
    /// Names present, by [`Known::bit`].
    pub seen: u64,
    pub content_length: Option<u64>,
    /// Whether the body is chunked, or why the Transfer-Encoding is refused.
    coding: Option<Result<(), Malformed>>,
    pub close: bool,
    pub keep_alive: bool,
    /// The Connection field names other fields.
    names_fields: bool,
    connection_options: usize,
}

/// Turns the fields of a complete head into spans of `buf` and digests them. `once` are the names,
/// by [`Known::bit`], that must not stand twice.
pub(super) fn collect(
    buf: &[u8],
    headers: &[httparse::Header<'_>],
    once: u64,
    fields: &mut Vec<Field>,
) -> Result<Digest, Malformed> {
    let mut digest = Digest::default();
    fields.reserve(headers.len());
    for header in headers {
        let field = field(buf, header);
        // Each line ends where the next name starts, and httparse takes a bare LF for an end.
        if !buf[..field.name.start as usize].ends_with(b"\r\n") {
            return Err(Malformed::BareLf);
        }
        if digest.seen & once & field.known.bit() != 0 {
            return Err(Malformed::DoubledField);
        }
        digest.add(field.known, header.value)?;
        fields.push(field);
    }
    digest.mark_named(buf, fields);
    Ok(digest)
}

fn field(buf: &[u8], header: &httparse::Header<'_>) -> Field {
    Field {
        name: Span::within(buf, header.name.as_bytes()),
        value: Span::within(buf, header.value),
        known: Known::recognise(header.name.as_bytes()),
        hop: false,
    }
}

impl Digest {
    /// Takes in one more field.
    #[inline(always)]
    pub(super) fn add(&mut self, known: Known, value: &[u8]) -> Result<(), Malformed> {
        match STEERING & known.bit() {
            0 => {
                self.seen |= known.bit();
                Ok(())
            }
            _ => self.steered(known, value),
        }
    }

    /// Marks the fields that the Connection fields name: they go no further.
    pub(super) fn mark_named(&self, buf: &[u8], fields: &mut [Field]) {
        if self.names_fields {
            mark_named(buf, fields);
        }
    }

    fn steered(&mut self, known: Known, value: &[u8]) -> Result<(), Malformed> {
        let doubled = self.seen & known.bit() != 0;
        self.seen |= known.bit();
        match known {
            Known::ContentLength if doubled => Err(Malformed::DoubledContentLength),
            Known::ContentLength => {
                self.content_length = Some(content_length(value)?);
                Ok(())
            }
            Known::TransferEncoding if doubled => Err(Malformed::TransferEncoding),
            Known::TransferEncoding => {
                self.coding = Some(transfer_encoding(value));
                Ok(())
            }
            Known::Connection => self.connection(value),
            _ => Ok(()),
        }
    }

    fn connection(&mut self, value: &[u8]) -> Result<(), Malformed> {
        if same(value, b"keep-alive") {
            self.keep_alive = true;
            return Ok(());
        }
        for option in options(value) {
            match option {
                b"" => continue,
                _ if same(option, b"close") => self.close = true,
                _ if same(option, b"keep-alive") => self.keep_alive = true,
                _ => self.names_fields = true,
            }
            self.connection_options += 1;
            if self.connection_options > CONNECTION_OPTIONS_MAX {
                return Err(Malformed::ConnectionOptions);
            }
        }
        Ok(())
    }

    /// How the body is delimited if there is one: `None` when the fields do not say.
    pub fn framing(&self, version: Version) -> Result<Option<Framing>, Malformed> {
        match (self.coding, self.content_length) {
            (Some(_), Some(_)) => Err(Malformed::LengthAndCoding),
            (Some(_), None) if version == Version::Http10 => Err(Malformed::CodingInHttp10),
            (Some(coding), None) => coding.map(|()| Some(Framing::Chunked)),
            (None, Some(length)) => Ok(Some(Framing::Length(length))),
            (None, None) => Ok(None),
        }
    }

    /// Whether the connection outlives the message (RFC 9112 section 9.3).
    pub fn persistent(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

/// Digits only, and few enough of them to fit: no sign, no list, no space.
fn content_length(value: &[u8]) -> Result<u64, Malformed> {
    if value.is_empty() || value.len() > 19 {
        return Err(Malformed::ContentLength);
    }
    value.iter().try_fold(0u64, |sum, byte| match byte.wrapping_sub(b'0') {
        // Nineteen digits cannot overflow.
        digit @ 0..=9 => Ok(sum.wrapping_mul(10).wrapping_add(u64::from(digit))),
        _ => Err(Malformed::ContentLength),
    })
}

fn transfer_encoding(value: &[u8]) -> Result<(), Malformed> {
    if same(value, b"chunked") {
        return Ok(());
    }
    let mut codings = options(value).rev();
    let last = codings.next().unwrap_or_default();
    let sound = |coding: &[u8]| !coding.is_empty() && !same(coding, b"chunked");
    if last.is_empty() || !codings.all(sound) {
        return Err(Malformed::TransferEncoding);
    }
    Err(Malformed::UnknownCoding)
}

/// The elements of a comma-separated list, trimmed.
fn options(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim)
}

pub(super) fn trim(text: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(first) = text.iter().position(|byte| !blank(byte)) else { return b"" };
    let last = text.iter().rposition(|byte| !blank(byte)).unwrap_or(first);
    &text[first..=last]
}

/// Marks the fields that the Connection fields name. At most `CONNECTION_OPTIONS_MAX` times
/// `HEADER_COUNT_CAP` comparisons.
fn mark_named(buf: &[u8], fields: &mut [Field]) {
    for at in 0..fields.len() {
        if fields[at].known != Known::Connection {
            continue;
        }
        for option in options(fields[at].value.of(buf)) {
            let named =
                fields.iter_mut().filter(|field| field.name.of(buf).eq_ignore_ascii_case(option));
            named.for_each(|field| field.hop = true);
        }
    }
}
