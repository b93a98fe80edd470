//! One pass over a body: the grammar of JSON, and where the wanted members stand.
//!
//! Invariants: `at` never passes the end of the body; nesting lives in one word of bits, so that
//! depth costs no stack; nothing is accepted that the grammar of RFC 8259 does not allow.

use std::ops::Range;

use super::lanes::{Lanes, Portable};
use super::strings::{Failed, StringEnd, Window};
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
    let (text, start) = within(body, &span);
    #[cfg(target_arch = "x86_64")]
    if let Some(lanes) = super::simd::Avx2::detect() {
        return Scanner::new(lanes, text, bounds.depth_max).object(start, keys);
    }
    Scanner::new(Portable, text, bounds.depth_max).object(start, keys)
}

/// Reads the value that begins at `span.start`, and nothing after it.
pub(super) fn value_at(body: &[u8], span: Range<usize>) -> Result<Value, ScanError> {
    let (text, start) = within(body, &span);
    #[cfg(target_arch = "x86_64")]
    if let Some(lanes) = super::simd::Avx2::detect() {
        return Scanner::new(lanes, text, DEPTH_CEILING).only_value(start);
    }
    Scanner::new(Portable, text, DEPTH_CEILING).only_value(start)
}

/// [`scan_object`] without special instructions, so that tests can compare the two.
#[cfg(test)]
pub(super) fn scan_portable<const N: usize>(
    body: &[u8],
    keys: &Keys<N>,
    bounds: &Bounds,
) -> Result<Members<N>, ScanError> {
    Scanner::new(Portable, body, bounds.depth_max).object(0, keys)
}

/// The body up to the end of the span, and where the span begins in it.
fn within<'a>(body: &'a [u8], span: &Range<usize>) -> (&'a [u8], usize) {
    let text = &body[..span.end.min(body.len())];
    (text, span.start.min(text.len()))
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// The methods take the offset to read at, and give the offset after what they read.
struct Scanner<'a, L> {
    /// The body up to the end of the span under scan.
    body: &'a [u8],
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
    fn new(lanes: L, body: &'a [u8], depth_max: usize) -> Self {
        let depth_max = depth_max.min(DEPTH_CEILING);
        let nesting = Nesting { objects: 0, depth: 0, depth_max };
        Self { body, window: Window::unset(), nesting, lanes }
    }

    /// The whole text from `at`: white space, one object, white space.
    fn object<const N: usize>(
        mut self,
        at: usize,
        keys: &Keys<N>,
    ) -> Result<Members<N>, ScanError> {
        let mut members = Members { found: [const { None }; N], open: 0, close: 0, empty: false };
        match self.members(at, keys, &mut members) {
            Ok(()) => Ok(members),
            Err(Failed) => Err(self.window.fault()),
        }
    }

    /// The value that begins at `at`.
    fn only_value(mut self, at: usize) -> Result<Value, ScanError> {
        self.value(at).map_err(|Failed| self.window.fault())
    }

    fn members<const N: usize>(
        &mut self,
        at: usize,
        keys: &Keys<N>,
        members: &mut Members<N>,
    ) -> Result<(), Failed> {
        let at = self.spaces(at);
        match self.byte(at) {
            b'{' => {}
            b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                return Err(self.window.fail(ScanError::NotAnObject));
            }
            _ => return Err(self.unexpected(at, "expected an object")),
        }
        members.open = self.nest(at, true)?;
        members.close = self.spaces(members.open);
        members.empty = self.byte(members.close) == b'}';
        if !members.empty {
            members.close = self.each_member(members.close, keys, &mut members.found)?;
        }
        let end = self.spaces(members.close + 1);
        if end < self.body.len() {
            return Err(self.unexpected(end, "nothing may follow the object"));
        }
        Ok(())
    }

    /// The members of the outermost object, up to its `}`.
    fn each_member<const N: usize>(
        &mut self,
        mut at: usize,
        keys: &Keys<N>,
        found: &mut [Option<Member>; N],
    ) -> Result<usize, Failed> {
        loop {
            let (wanted, value) = self.member(at, keys)?;
            let end = self.spaces(value.span.end);
            if let Some(i) = wanted {
                if found[i].is_some() {
                    return Err(self.window.fail(ScanError::Duplicate { key: keys.names[i], at }));
                }
                found[i] = Some(Member { key_at: at, value });
            }
            match self.byte(end) {
                b',' => at = self.spaces(end + 1),
                b'}' => return Ok(end),
                _ => return Err(self.unexpected(end, "expected ',' or '}'")),
            }
        }
    }

    /// One member: which of the wanted ones it is, and its value.
    fn member<const N: usize>(
        &mut self,
        at: usize,
        keys: &Keys<N>,
    ) -> Result<(Option<usize>, Value), Failed> {
        let name = self.name(at)?;
        let text = &self.body[at + 1..name.after - 1];
        let wanted = if name.escaped {
            keys.find(unescaped(&String::from_utf8_lossy(text)).as_bytes())
        } else {
            keys.find(text)
        };
        let start = self.colon(name.after)?;
        Ok((wanted, self.value(start)?))
    }

    fn value(&mut self, start: usize) -> Result<Value, Failed> {
        let (kind, end) = match self.byte(start) {
            b'{' => (Kind::Object, self.container(start)?),
            b'[' => (Kind::Array, self.container(start)?),
            b'"' => {
                let end = self.string(start)?;
                (Kind::String { escaped: end.escaped }, end.after)
            }
            b't' => (Kind::Bool(true), self.literal(start, b"true")?),
            b'f' => (Kind::Bool(false), self.literal(start, b"false")?),
            b'n' => (Kind::Null, self.literal(start, b"null")?),
            _ => (Kind::Number, self.number(start)?),
        };
        Ok(Value { kind, span: start..end })
    }

    /// A whole array or object with all that it holds.
    fn container(&mut self, mut at: usize) -> Result<usize, Failed> {
        let outside = self.nesting.depth;
        loop {
            let (after, opened) = match self.byte(at) {
                b'"' => (self.string(at)?.after, false),
                b'{' => self.open(at, true)?,
                b'[' => self.open(at, false)?,
                b't' => (self.literal(at, b"true")?, false),
                b'f' => (self.literal(at, b"false")?, false),
                b'n' => (self.literal(at, b"null")?, false),
                _ => (self.number(at)?, false),
            };
            at = after;
            if !opened {
                at = self.leave(at, outside)?;
                if self.nesting.depth == outside {
                    return Ok(at);
                }
            }
        }
    }

    /// Passes an opening bracket.
    #[inline]
    fn nest(&mut self, at: usize, object: bool) -> Result<usize, Failed> {
        if !self.nesting.open(object) {
            return Err(self.window.fail(ScanError::TooDeep { at }));
        }
        Ok(at + 1)
    }

    /// Enters an array or object, up to its first value (true), or past it if it is empty (false).
    #[inline]
    fn open(&mut self, at: usize, object: bool) -> Result<(usize, bool), Failed> {
        let at = self.nest(at, object)?;
        let at = self.spaces(at);
        if self.byte(at) == if object { b'}' } else { b']' } {
            self.nesting.close();
            return Ok((at + 1, false));
        }
        let at = if object { self.key(at)? } else { at };
        Ok((at, true))
    }

    /// After a value: closes what closes here, up to the next value, or until no more than `outside`
    /// levels are open.
    #[inline]
    fn leave(&mut self, mut at: usize, outside: usize) -> Result<usize, Failed> {
        while self.nesting.depth > outside {
            at = self.spaces(at);
            let object = self.nesting.in_object();
            match self.byte(at) {
                b',' if object => {
                    let at = self.spaces(at + 1);
                    return self.key(at);
                }
                b',' => return Ok(self.spaces(at + 1)),
                b'}' if object => {}
                b']' if !object => {}
                _ if object => return Err(self.unexpected(at, "expected ',' or '}'")),
                _ => return Err(self.unexpected(at, "expected ',' or ']'")),
            }
            at += 1;
            self.nesting.close();
        }
        Ok(at)
    }

    /// A key and its colon, up to the value.
    #[inline(always)]
    fn key(&mut self, at: usize) -> Result<usize, Failed> {
        let name = self.name(at)?;
        self.colon(name.after)
    }

    /// The string that a member begins with.
    #[inline(always)]
    fn name(&mut self, at: usize) -> Result<StringEnd, Failed> {
        if self.byte(at) != b'"' {
            return Err(self.unexpected(at, "expected a key in quotes"));
        }
        self.string(at)
    }

    #[inline(always)]
    fn colon(&mut self, at: usize) -> Result<usize, Failed> {
        let at = self.spaces(at);
        if self.byte(at) != b':' {
            return Err(self.unexpected(at, "expected ':' after the key"));
        }
        Ok(self.spaces(at + 1))
    }

    /// A string, from its opening quote to just after its closing one.
    #[inline(always)]
    fn string(&mut self, at: usize) -> Result<StringEnd, Failed> {
        match self.window.plain_end(at + 1) {
            Some(after) => Ok(StringEnd { after, escaped: false }),
            None => self.lanes.string(self.body, &mut self.window, at + 1),
        }
    }

    #[inline]
    fn literal(&mut self, at: usize, text: &[u8]) -> Result<usize, Failed> {
        if !self.body[at..].starts_with(text) {
            return Err(self.unexpected(at, "expected a value"));
        }
        Ok(at + text.len())
    }

    fn number(&mut self, start: usize) -> Result<usize, Failed> {
        let integer = if self.byte(start) == b'-' { start + 1 } else { start };
        let mut at = match self.byte(integer) {
            b'0' => integer + 1,
            b'1'..=b'9' => self.digits(integer)?,
            _ if integer > start => return Err(self.unexpected(integer, "expected a digit")),
            _ => return Err(self.unexpected(start, "expected a value")),
        };
        let mut unusual = at - integer > INTEGER_DIGITS_SAFE;
        if self.byte(at) == b'.' {
            at = self.digits(at + 1)?;
        }
        if matches!(self.byte(at), b'e' | b'E') {
            let signed = matches!(self.byte(at + 1), b'+' | b'-');
            let exponent = at + 1 + usize::from(signed);
            at = self.digits(exponent)?;
            unusual |= at - exponent > EXPONENT_DIGITS_SAFE;
        }
        if unusual { self.check_range(start, at) } else { Ok(at) }
    }

    /// At least one digit.
    fn digits(&mut self, start: usize) -> Result<usize, Failed> {
        let mut at = start;
        while self.byte(at).is_ascii_digit() {
            at += 1;
        }
        if at == start {
            return Err(self.unexpected(at, "expected a digit"));
        }
        Ok(at)
    }

    /// Whether an unusual number is within f64 is left to the parser whose verdict ours must equal.
    #[cold]
    fn check_range(&mut self, start: usize, end: usize) -> Result<usize, Failed> {
        match serde_json::from_slice::<serde_json::Value>(&self.body[start..end]) {
            Ok(_) => Ok(end),
            Err(_) => {
                let what = "the number is out of range";
                Err(self.window.fail(ScanError::Syntax { at: start, what }))
            }
        }
    }

    /// The byte there; past the end a NUL, which no rule of the grammar accepts.
    #[inline(always)]
    fn byte(&self, at: usize) -> u8 {
        self.body.get(at).copied().unwrap_or(0)
    }

    /// Skips white space.
    #[inline(always)]
    fn spaces(&self, mut at: usize) -> usize {
        while self.byte(at) <= b' ' && is_space(self.byte(at)) {
            at += 1;
        }
        at
    }

    #[cold]
    fn unexpected(&mut self, at: usize, what: &'static str) -> Failed {
        let ended = at >= self.body.len();
        let what = if ended { "the body ends too early" } else { what };
        self.window.fail(ScanError::Syntax { at, what })
    }
}
