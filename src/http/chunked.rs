//! The chunked transfer coding (RFC 9112 section 7.1), decoded as it comes.

use std::ops::Range;

use super::chars::{self, TEXT, TOKEN};

/// What the framing of one body may cost beyond its data.
#[derive(Clone, Copy, Debug)]
pub struct ChunkLimits {
    /// Chunk extensions over the whole body, in bytes.
    pub extension_bytes_max: usize,
    /// The trailer section, in bytes.
    pub trailer_bytes_max: usize,
}

/// What one step over a body's bytes found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkStep {
    /// The first `consumed` bytes of the input are used up; `data`, never empty, is the part of
    /// them that is body.
    Data { consumed: usize, data: Range<usize> },
    /// All of the input is used up and none of it was body; more is to come.
    More,
    /// The body ended with the first `consumed` bytes; what follows is the next message.
    Done { consumed: usize },
}

/// The steps of a body are the same whatever its framing.
pub use ChunkStep as BodyStep;

/// Why a chunked body is refused: its sender's fault; the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// A chunk size that is no hexadecimal number of 1 to 8 digits.
    Size,
    Extension,
    ExtensionBytes,
    /// A line of the framing that does not end with CRLF.
    LineEnd,
    /// Chunk data not followed by CRLF.
    DataEnd,
    Trailer,
    TrailerBytes,
}

impl ChunkError {
    /// The HTTP status for a request so framed.
    pub const fn status(self) -> u16 {
        match self {
            ChunkError::TrailerBytes => 431,
            _ => 400,
        }
    }

    pub const fn message(self) -> &'static str {
        match self {
            ChunkError::Size => "a chunk size is not a hexadecimal number of 1 to 8 digits",
            ChunkError::Extension => "a chunk extension is malformed",
            ChunkError::ExtensionBytes => "the chunk extensions are too long",
            ChunkError::LineEnd => "a line of the chunked framing does not end with CRLF",
            ChunkError::DataEnd => "a chunk is not followed by CRLF",
            ChunkError::Trailer => "a trailer field is malformed",
            ChunkError::TrailerBytes => "the trailer section is too long",
        }
    }
}

impl std::fmt::Display for ChunkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for ChunkError {}

/// Where the decoder stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the chunk size, after so many digits.
    Size {
        digits: u8,
    },
    /// In an extension's name, after its semicolon.
    ExtensionName {
        empty: bool,
    },
    ExtensionValue {
        empty: bool,
    },
    ExtensionQuoted,
    ExtensionEscape,
    ExtensionQuoteEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a line of the trailer section.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// An incremental decoder of one chunked body. It holds no bytes: it says which of the caller's
/// are body. Extensions and trailers are checked, counted and dropped.
#[derive(Clone, Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// Bytes left of the current chunk.
    left: u32,
    extension_bytes_left: usize,
    trailer_bytes_left: usize,
}

impl ChunkedDecoder {
    pub fn new(limits: ChunkLimits) -> ChunkedDecoder {
        ChunkedDecoder {
            state: State::Size { digits: 0 },
            left: 0,
            extension_bytes_left: limits.extension_bytes_max,
            trailer_bytes_left: limits.trailer_bytes_max,
        }
    }

    /// Whether the body's end was found.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Looks at `input`, the bytes after those that earlier steps consumed. After an error the
    /// decoder must not be used again.
    pub fn step(&mut self, input: &[u8]) -> Result<ChunkStep, ChunkError> {
        let mut at = 0;
        if self.state == (State::Size { digits: 0 })
            && let Some((size, line)) = plain_size(input)
        {
            (self.left, self.state, at) = (size, State::Data, line);
        }
        while self.state != State::Data {
            if self.state == State::Done {
                return Ok(ChunkStep::Done { consumed: at });
            }
            let Some(&byte) = input.get(at) else { return Ok(ChunkStep::More) };
            self.state = self.framing(byte)?;
            at += 1;
        }
        Ok(self.data(input, at))
    }

    /// Takes chunk data from `at` on.
    fn data(&mut self, input: &[u8], at: usize) -> ChunkStep {
        let taken = (input.len() - at).min(self.left as usize);
        if taken == 0 {
            return ChunkStep::More;
        }
        self.left -= taken as u32;
        let data = at..at + taken;
        let mut consumed = data.end;
        if self.left == 0 {
            self.state = State::DataCr;
            // The usual case: the chunk's end came with it.
            if let [b'\r', b'\n', ..] = input[consumed..] {
                self.state = State::Size { digits: 0 };
                consumed += 2;
            }
        }
        ChunkStep::Data { consumed, data }
    }

    /// The state after one byte of framing.
    fn framing(&mut self, byte: u8) -> Result<State, ChunkError> {
        match self.state {
            State::Size { digits } => self.size(byte, digits),
            State::SizeLf => line_feed(byte, self.after_size()),
            State::DataCr if byte == b'\r' => Ok(State::DataLf),
            State::DataLf if byte == b'\n' => Ok(State::Size { digits: 0 }),
            State::DataCr | State::DataLf => Err(ChunkError::DataEnd),
            State::EndLf => line_feed(byte, State::Done),
            State::TrailerLf => line_feed(byte, State::Trailer),
            State::Trailer | State::TrailerName | State::TrailerValue => self.trailer(byte),
            State::Data | State::Done => Ok(self.state),
            _ => self.extension(byte),
        }
    }

    fn size(&mut self, byte: u8, digits: u8) -> Result<State, ChunkError> {
        if let Some(digit) = (byte as char).to_digit(16) {
            if digits == 8 {
                return Err(ChunkError::Size);
            }
            self.left = self.left << 4 | digit;
            return Ok(State::Size { digits: digits + 1 });
        }
        match byte {
            _ if digits == 0 => Err(ChunkError::Size),
            b'\r' => Ok(State::SizeLf),
            b'\n' => Err(ChunkError::LineEnd),
            b';' => self.extension_byte(State::ExtensionName { empty: true }),
            _ => Err(ChunkError::Size),
        }
    }

    fn after_size(&self) -> State {
        if self.left == 0 { State::Trailer } else { State::Data }
    }

    /// `; name [= value]` with a token or a quoted string for a value, and no white space.
    fn extension(&mut self, byte: u8) -> Result<State, ChunkError> {
        let next = match (self.state, byte) {
            (
                State::ExtensionName { empty: false } | State::ExtensionValue { empty: false },
                b'\r',
            )
            | (State::ExtensionQuoteEnd, b'\r') => return Ok(State::SizeLf),
            (
                State::ExtensionName { empty: false } | State::ExtensionValue { empty: false },
                b';',
            )
            | (State::ExtensionQuoteEnd, b';') => State::ExtensionName { empty: true },
            (State::ExtensionName { empty: false }, b'=') => State::ExtensionValue { empty: true },
            (State::ExtensionName { .. }, _) if chars::is(byte, TOKEN) => {
                State::ExtensionName { empty: false }
            }
            (State::ExtensionValue { empty: true }, b'"') => State::ExtensionQuoted,
            (State::ExtensionValue { .. }, _) if chars::is(byte, TOKEN) => {
                State::ExtensionValue { empty: false }
            }
            (State::ExtensionQuoted, b'"') => State::ExtensionQuoteEnd,
            (State::ExtensionQuoted, b'\\') => State::ExtensionEscape,
            (State::ExtensionQuoted | State::ExtensionEscape, _) if chars::is(byte, TEXT) => {
                State::ExtensionQuoted
            }
            (_, b'\n') => return Err(ChunkError::LineEnd),
            _ => return Err(ChunkError::Extension),
        };
        self.extension_byte(next)
    }

    fn extension_byte(&mut self, next: State) -> Result<State, ChunkError> {
        let left = self.extension_bytes_left.checked_sub(1);
        self.extension_bytes_left = left.ok_or(ChunkError::ExtensionBytes)?;
        Ok(next)
    }

    fn trailer(&mut self, byte: u8) -> Result<State, ChunkError> {
        let next = match (self.state, byte) {
            (State::Trailer, b'\r') => return Ok(State::EndLf),
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerName, b':') => State::TrailerValue,
            (State::Trailer | State::TrailerName, _) if chars::is(byte, TOKEN) => {
                State::TrailerName
            }
            (State::TrailerValue, _) if chars::is(byte, TEXT) => State::TrailerValue,
            (_, b'\n') => return Err(ChunkError::LineEnd),
            _ => return Err(ChunkError::Trailer),
        };
        let left = self.trailer_bytes_left.checked_sub(1);
        self.trailer_bytes_left = left.ok_or(ChunkError::TrailerBytes)?;
        Ok(next)
    }
}

/// A whole size line without extensions, as nearly all are: the size, which is not zero, and the line's
/// length. Whatever else `input` begins with is looked at byte by byte.
fn plain_size(input: &[u8]) -> Option<(u32, usize)> {
    const DIGITS_MAX: usize = 8;
    let mut size = 0u32;
    for (at, byte) in input.iter().enumerate().take(DIGITS_MAX + 1) {
        match HEX[usize::from(*byte)] {
            NOT_HEX if size > 0 && matches!(input[at..], [b'\r', b'\n', ..]) => {
                return Some((size, at + 2));
            }
            NOT_HEX => return None,
            _ if at == DIGITS_MAX => return None,
            digit => size = size << 4 | u32::from(digit),
        }
    }
    None
}

const NOT_HEX: u8 = 0xff;

/// The value of each hexadecimal digit.
static HEX: [u8; 256] = {
    let mut values = [NOT_HEX; 256];
    let mut byte = 0;
    while byte < 256 {
        if let Some(value) = (byte as u8 as char).to_digit(16) {
            values[byte] = value as u8;
        }
        byte += 1;
    }
    values
};

fn line_feed(byte: u8, next: State) -> Result<State, ChunkError> {
    if byte == b'\n' { Ok(next) } else { Err(ChunkError::LineEnd) }
}
