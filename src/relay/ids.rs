//! Identifiers of a request: echoed where the client's are sound, made where they are not.

use crate::http::{Known, RequestHead};
use crate::runtime::kit::Kit;

/// Longest request id taken over from a client, bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// Length of a version 00 `traceparent` (W3C Trace Context section 3.2).
const TRACEPARENT_BYTES: usize = 55;

/// Text of a fixed capacity, in place.
#[derive(Clone, Copy)]
pub struct Id {
    length: u8,
    bytes: [u8; REQUEST_ID_BYTES_MAX],
}

impl Id {
    fn new(text: &[u8]) -> Self {
        let length = text.len().min(REQUEST_ID_BYTES_MAX);
        let mut bytes = [0; REQUEST_ID_BYTES_MAX];
        bytes[..length].copy_from_slice(&text[..length]);
        Self { length: length as u8, bytes }
    }

    /// The text's bytes: ASCII without control characters.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

/// The client's `x-request-id` (or `request-id`), if it is 1 to 128 letters, digits, `-`, `_`, `.` or `:`;
/// a new one otherwise.
pub fn request_id(head: &RequestHead, bytes: &[u8], kit: &Kit) -> Id {
    let given =
        head.value(bytes, Known::XRequestId).or_else(|| head.value(bytes, Known::RequestId));
    match given.filter(|id| sound_id(id)) {
        Some(id) => Id::new(id),
        None => fresh(b"req_", 24, kit),
    }
}

fn sound_id(id: &[u8]) -> bool {
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte))
}

/// The client's `traceparent`, if it is sound (then the second value is true), or a new, unsampled one.
pub fn traceparent(head: &RequestHead, bytes: &[u8], kit: &Kit) -> (Id, bool) {
    match head.value(bytes, Known::Traceparent).filter(|value| sound_trace(value)) {
        Some(value) => (Id::new(value), true),
        None => {
            let mut id = fresh(b"00-", 52, kit);
            id.bytes[35] = b'-';
            id.bytes[52..55].copy_from_slice(b"-00");
            (id, false)
        }
    }
}

fn sound_trace(value: &[u8]) -> bool {
    let hex = |range: std::ops::Range<usize>| {
        value[range].iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    value.len() == TRACEPARENT_BYTES
        && value.starts_with(b"00-")
        && (value[35], value[52]) == (b'-', b'-')
        && hex(3..35)
        && hex(36..52)
        && hex(53..55)
        && value[3..35].iter().any(|byte| *byte != b'0')
        && value[36..52].iter().any(|byte| *byte != b'0')
}

/// The 16 bytes of a trace id out of its `traceparent`.
pub fn trace_id(traceparent: &Id) -> [u8; 16] {
    let text = traceparent.as_str().as_bytes();
    let nibble = |at: usize| (text[at] as char).to_digit(16).unwrap_or(0) as u8;
    let mut id = [0; 16];
    if text.len() == TRACEPARENT_BYTES {
        for (i, byte) in id.iter_mut().enumerate() {
            *byte = nibble(3 + 2 * i) << 4 | nibble(4 + 2 * i);
        }
    }
    id
}

/// The sixteen hexadecimal digits of a word.
fn hex16(word: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(word.to_be_bytes()) {
        *pair = PAIRS[usize::from(byte)];
    }
    digits
}

/// The two hexadecimal digits of each byte.
static PAIRS: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
};

/// `prefix` and so many hexadecimal digits. They are made by sixteen: what is too much stands behind the
/// end.
fn fresh(prefix: &[u8], digits: usize, kit: &Kit) -> Id {
    let mut bytes = [0; REQUEST_ID_BYTES_MAX];
    bytes[..prefix.len()].copy_from_slice(prefix);
    for at in (prefix.len()..prefix.len() + digits).step_by(16) {
        bytes[at..at + 16].copy_from_slice(&hex16(kit.random()));
    }
    Id { length: (prefix.len() + digits) as u8, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_traceparents_are_sound_and_differ() {
        let kit = Kit::new(std::time::Duration::from_millis(10), 7);
        let head = RequestHead::default();
        let (first, given) = traceparent(&head, b"", &kit);
        let (second, _) = traceparent(&head, b"", &kit);
        assert!(!given && sound_trace(first.as_str().as_bytes()));
        assert_ne!(first.as_str(), second.as_str());
        assert_ne!(trace_id(&first), [0; 16]);
    }

    #[test]
    fn hexadecimal_digits_are_the_usual_ones() {
        for word in [0, u64::MAX, 0x0123_4567_89ab_cdef, 0xdead_beef_0000_9af9] {
            assert_eq!(hex16(word).as_slice(), format!("{word:016x}").as_bytes());
        }
    }

    #[test]
    fn only_plain_ids_are_taken_over() {
        assert!(sound_id(b"abc-1.2_3:4"));
        for bad in [&b""[..], b"a b", b"a\"b", &[b'x'; 129], "é".as_bytes()] {
            assert!(!sound_id(bad), "{bad:?}");
        }
    }
}
