//! One pass over a body: the grammar of JSON, and where the wanted members stand.
//!
//! Invariants: `at` never passes the end of the body; nesting lives in one word of bits, so that
//! depth costs no stack; nothing is accepted that the grammar of RFC 8259 does not allow.

use std::ops::Range;

use super::lanes::{Lanes, Portable};
use super::strings::{Failed, Window};
use super::value::unescaped;
use super::{Bounds, Keys, Kind, Member, Members, ScanError, Value};

/// The deepest nesting any bound can allow, in levels: what the word of bits holds.
pub const DEPTH_CEILING: usize = 128;

/// Numbers with no more integer digits than this, and an exponent of no more than
/// [`EXPONENT_DIGITS_SAFE`] digits, are surely within f64.
const INTEGER_DIGITS_SAFE: usize = 200;
const EXPONENT_DIGITS_SAFE: usize = 2;

/// Proves that `body` is one JSON object in UTF-8 (white space around it allowed) and tells where the
/// members named in `keys` stand. One pass, no allocation unless a top-level key is escaped.
pub fn scan_object<const N: usize>(
    body: &[u8],
    keys: &Keys<N>,
    bounds: &Bounds,
) -> Result<Members<N>, ScanError> {
    if simdutf8::basic::from_utf8(body).is_err() {
        let at = std::str::from_utf8(body).map_or_else(|error| error.valid_up_to(), str::len);
        return Err(ScanError::NotUtf8 { at });
    }
    scan_nested(body, 0..body.len(), keys, bounds)
}

/// [`scan_object`] for an object that stands at `span` within an already scanned `body`. All offsets
/// count from the start of the body; `bounds` counts from this object.
pub fn scan_nested<const N: usize>(
    body: &[u8],
    span: Range<usize>,
    keys: &Keys<N>,
    bounds: &Bounds,
) -> Result<Members<N>, ScanError> {
    #[cfg(target_arch = "x86_64")]
    if let Some(lanes) = super::simd::Avx2::detect() {
        return Scanner::new(lanes, body, span, bounds.depth_max)
            .run(|scanner| scanner.object(keys));
    }
    Scanner::new(Portable, body, span, bounds.depth_max).run(|scanner| scanner.object(keys))
}

/// Reads the value that begins at `span.start`, and nothing after it.
pub(super) fn value_at(body: &[u8], span: Range<usize>) -> Result<Value, ScanError> {
    #[cfg(target_arch = "x86_64")]
    if let Some(lanes) = super::simd::Avx2::detect() {
        return Scanner::new(lanes, body, span, DEPTH_CEILING).run(Scanner::value);
    }
    Scanner::new(Portable, body, span, DEPTH_CEILING).run(Scanner::value)
}

/// [`scan_object`] without special instructions, so that tests can compare the two.
#[cfg(test)]
pub(super) fn scan_portable<const N: usize>(
    body: &[u8],
    keys: &Keys<N>,
    bounds: &Bounds,
) -> Result<Members<N>, ScanError> {
    Scanner::new(Portable, body, 0..body.len(), bounds.depth_max)
        .run(|scanner| scanner.object(keys))
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

struct Scanner<'a, L> {
    /// The body up to the end of the span under scan.
    body: &'a [u8],
    at: usize,
    window: Window,
    nesting: Nesting,
    lanes: L,
}

/// The open brackets, innermost lowest: a set bit is an object.
struct Nesting {
    objects: u128,
    depth: usize,
    depth_max: usize,
}

impl Nesting {
    /// False if that would be too deep.
    fn open(&mut self, object: bool) -> bool {
        if self.depth >= self.depth_max {
            return false;
        }
        self.objects = (self.objects << 1) | u128::from(object);
        self.depth += 1;
        true
    }

    fn close(&mut self) {
        self.objects >>= 1;
        self.depth -= 1;
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

impl<'a, L: Lanes> Scanner<'a, L> {
    fn new(lanes: L, body: &'a [u8], span: Range<usize>, depth_max: usize) -> Self {
        let body = &body[..span.end.min(body.len())];
        let depth_max = depth_max.min(DEPTH_CEILING);
        let nesting = Nesting { objects: 0, depth: 0, depth_max };
        Self { body, at: span.start.min(body.len()), window: Window::unset(), nesting, lanes }
    }

    /// Runs one of the methods below, and gives the reason if it fails.
    fn run<T>(mut self, read: impl FnOnce(&mut Self) -> Result<T, Failed>) -> Result<T, ScanError> {
        read(&mut self).map_err(|Failed| self.window.fault())
    }

    /// The whole text: white space, one object, white space.
    fn object<const N: usize>(&mut self, keys: &Keys<N>) -> Result<Members<N>, Failed> {
        self.skip_space();
        match self.peek() {
            b'{' => {}
            b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                return Err(self.window.fail(ScanError::NotAnObject));
            }
            _ => return Err(self.unexpected("expected an object")),
        }
        self.nest(true)?;
        let open = self.at;
        self.skip_space();
        let empty = self.peek() == b'}';
        let mut found = [const { None }; N];
        if empty {
            self.at += 1;
        } else {
            self.members(keys, &mut found)?;
        }
        let close = self.at - 1;
        self.skip_space();
        if self.at < self.body.len() {
            return Err(self.unexpected("nothing may follow the object"));
        }
        Ok(Members { found, open, close, empty })
    }

    /// The members of the outermost object, up to and including its `}`.
    fn members<const N: usize>(
        &mut self,
        keys: &Keys<N>,
        found: &mut [Option<Member>; N],
    ) -> Result<(), Failed> {
        loop {
            let key_at = self.at;
            let wanted = self.key(keys)?;
            let value = self.value()?;
            if let Some(i) = wanted {
                if found[i].is_some() {
                    let key = keys.names[i];
                    return Err(self.window.fail(ScanError::Duplicate { key, at: key_at }));
                }
                found[i] = Some(Member { key_at, value });
            }
            self.skip_space();
            match self.peek() {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.unexpected("expected ',' or '}'")),
            }
            self.skip_space();
        }
    }

    /// A key, its colon and the space after it; tells which of the wanted ones it is.
    fn key<const N: usize>(&mut self, keys: &Keys<N>) -> Result<Option<usize>, Failed> {
        let start = self.at + 1;
        let escaped = self.name()?;
        let text = &self.body[start..self.at - 1];
        let wanted = if escaped {
            keys.find(unescaped(&String::from_utf8_lossy(text)).as_bytes())
        } else {
            keys.find(text)
        };
        self.colon()?;
        Ok(wanted)
    }

    /// The string that a member begins with.
    fn name(&mut self) -> Result<bool, Failed> {
        if self.peek() != b'"' {
            return Err(self.unexpected("expected a key in quotes"));
        }
        self.string()
    }

    fn colon(&mut self) -> Result<(), Failed> {
        self.skip_space();
        if self.peek() != b':' {
            return Err(self.unexpected("expected ':' after the key"));
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    /// The value that begins here.
    fn value(&mut self) -> Result<Value, Failed> {
        let start = self.at;
        let kind = match self.peek() {
            b'{' => self.container(Kind::Object)?,
            b'[' => self.container(Kind::Array)?,
            first => self.scalar(first)?,
        };
        Ok(Value { kind, span: start..self.at })
    }

    /// A whole array or object with all that it holds.
    fn container(&mut self, kind: Kind) -> Result<Kind, Failed> {
        let outside = self.nesting.depth;
        loop {
            let opened = match self.peek() {
                b'{' => self.open(true)?,
                b'[' => self.open(false)?,
                first => {
                    self.scalar(first)?;
                    false
                }
            };
            if !opened && self.leave(outside)? {
                return Ok(kind);
            }
        }
    }

    /// Passes an opening bracket.
    fn nest(&mut self, object: bool) -> Result<(), Failed> {
        if !self.nesting.open(object) {
            return Err(self.window.fail(ScanError::TooDeep { at: self.at }));
        }
        self.at += 1;
        Ok(())
    }

    /// Enters an array or object, up to its first value; false if it is empty and was closed again.
    fn open(&mut self, object: bool) -> Result<bool, Failed> {
        self.nest(object)?;
        self.skip_space();
        if self.peek() == if object { b'}' } else { b']' } {
            self.at += 1;
            self.nesting.close();
            return Ok(false);
        }
        if object {
            self.name()?;
            self.colon()?;
        }
        Ok(true)
    }

    /// After a value: closes what closes here, and stops at the next value (false), or as soon as no
    /// more than `outside` levels are open (true).
    fn leave(&mut self, outside: usize) -> Result<bool, Failed> {
        while self.nesting.depth > outside {
            self.skip_space();
            let object = self.nesting.in_object();
            match self.peek() {
                b',' => return self.next_value(object).map(|()| false),
                b'}' if object => {}
                b']' if !object => {}
                _ if object => return Err(self.unexpected("expected ',' or '}'")),
                _ => return Err(self.unexpected("expected ',' or ']'")),
            }
            self.at += 1;
            self.nesting.close();
        }
        Ok(true)
    }

    /// From a comma to the value after it.
    fn next_value(&mut self, object: bool) -> Result<(), Failed> {
        self.at += 1;
        self.skip_space();
        if object {
            self.name()?;
            self.colon()?;
        }
        Ok(())
    }

    fn scalar(&mut self, first: u8) -> Result<Kind, Failed> {
        match first {
            b'"' => self.string().map(|escaped| Kind::String { escaped }),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal(b"true", Kind::Bool(true)),
            b'f' => self.literal(b"false", Kind::Bool(false)),
            b'n' => self.literal(b"null", Kind::Null),
            _ => Err(self.unexpected("expected a value")),
        }
    }

    /// A string from its opening quote to just after its closing one; tells whether it has escapes.
    fn string(&mut self) -> Result<bool, Failed> {
        if let Some(after) = self.window.plain_end(self.at + 1) {
            self.at = after;
            return Ok(false);
        }
        let end = self.lanes.string(self.body, &mut self.window, self.at + 1)?;
        self.at = end.after;
        Ok(end.escaped)
    }

    fn literal(&mut self, text: &[u8], kind: Kind) -> Result<Kind, Failed> {
        if !self.body[self.at..].starts_with(text) {
            return Err(self.unexpected("expected a value"));
        }
        self.at += text.len();
        Ok(kind)
    }

    fn number(&mut self) -> Result<Kind, Failed> {
        let start = self.at;
        if self.peek() == b'-' {
            self.at += 1;
        }
        let mut integer_digits = 1;
        if self.peek() == b'0' {
            self.at += 1;
        } else {
            integer_digits = self.digits()?;
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        let exponent_digits = self.exponent()?;
        if integer_digits > INTEGER_DIGITS_SAFE || exponent_digits > EXPONENT_DIGITS_SAFE {
            self.check_range(start)?;
        }
        Ok(Kind::Number)
    }

    /// The exponent, if there is one: how many digits it has.
    fn exponent(&mut self) -> Result<usize, Failed> {
        if !matches!(self.peek(), b'e' | b'E') {
            return Ok(0);
        }
        self.at += 1;
        if matches!(self.peek(), b'+' | b'-') {
            self.at += 1;
        }
        self.digits()
    }

    /// At least one digit.
    fn digits(&mut self) -> Result<usize, Failed> {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.unexpected("expected a digit"));
        }
        Ok(self.at - start)
    }

    /// Whether a very long number is within f64 is left to the parser whose verdict ours must equal.
    #[cold]
    fn check_range(&mut self, start: usize) -> Result<(), Failed> {
        match serde_json::from_slice::<serde_json::Value>(&self.body[start..self.at]) {
            Ok(_) => Ok(()),
            Err(_) => {
                let what = "the number is out of range";
                Err(self.window.fail(ScanError::Syntax { at: start, what }))
            }
        }
    }

    /// The byte here; at the end a NUL, which no grammar rule accepts.
    #[inline]
    fn peek(&self) -> u8 {
        self.body.get(self.at).copied().unwrap_or(0)
    }

    #[inline]
    fn skip_space(&mut self) {
        while is_space(self.peek()) {
            self.at += 1;
        }
    }

    #[cold]
    fn unexpected(&mut self, what: &'static str) -> Failed {
        let ended = self.at >= self.body.len();
        let what = if ended { "the body ends too early" } else { what };
        self.window.fail(ScanError::Syntax { at: self.at, what })
    }
}
