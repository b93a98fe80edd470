//! What each byte may be part of.

/// A character of a token (RFC 9110 section 5.6.2).
pub(super) const TOKEN: u8 = 1;
/// A byte of a field value: visible, blank or beyond ASCII (RFC 9110 section 5.5).
pub(super) const TEXT: u8 = 2;
/// A character of a request target: visible ASCII, and no fragment.
pub(super) const TARGET: u8 = 4;
/// A character of a registered name (RFC 3986 section 3.2.2).
pub(super) const HOST: u8 = 8;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        let name = byte.is_ascii_alphanumeric();
        let token = name || contains(b"!#$%&'*+-.^_`|~", byte);
        let text = matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
        let target = byte.is_ascii_graphic() && byte != b'#';
        let host = name || contains(b"-._~%!$&'()*+,;=", byte);
        classes[at] = (token as u8 * TOKEN)
            | (text as u8 * TEXT)
            | (target as u8 * TARGET)
            | (host as u8 * HOST);
        at += 1;
    }
    classes
};

const fn contains(set: &[u8], byte: u8) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}

/// Whether `byte` is of one of these classes.
pub(super) const fn is(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// Whether every byte is of one of these classes.
pub(super) const fn all(text: &[u8], class: u8) -> bool {
    let mut at = 0;
    while at < text.len() {
        if !is(text[at], class) {
            return false;
        }
        at += 1;
    }
    true
}
