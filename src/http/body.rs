//! Reading a body, whatever its framing.

use super::chunked::{BodyStep, ChunkError, ChunkLimits, ChunkedDecoder};
use super::head::Framing;

/// An incremental reader of one body. Call [`BodyDecoder::step`] with the bytes that earlier steps
/// left, until it says `More` (read on) or `Done`; a body that is empty is done at once.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// So many bytes are left.
    Length(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
}

/// The connection ended before the body did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

impl BodyDecoder {
    pub fn new(framing: Framing, limits: ChunkLimits) -> BodyDecoder {
        let kind = match framing {
            Framing::None => Kind::Length(0),
            Framing::Length(bytes) => Kind::Length(bytes),
            Framing::Chunked => Kind::Chunked(ChunkedDecoder::new(limits)),
            Framing::UntilClose => Kind::UntilClose,
        };
        BodyDecoder { kind }
    }

    /// Looks at `input`, which may be empty. Bytes after the body's end are left alone.
    #[inline]
    pub fn step(&mut self, input: &[u8]) -> Result<BodyStep, ChunkError> {
        match &mut self.kind {
            Kind::Chunked(decoder) => decoder.step(input),
            Kind::Length(0) => Ok(BodyStep::Done { consumed: 0 }),
            Kind::Length(left) => {
                let taken = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                Ok(all(taken))
            }
            Kind::UntilClose => Ok(all(input.len())),
        }
    }

    /// How much of the body is left, if all of it stands at the front of `input` and its framing says so.
    pub fn whole(&self, input: &[u8]) -> Option<usize> {
        match self.kind {
            Kind::Length(left) => usize::try_from(left).ok().filter(|left| *left <= input.len()),
            Kind::Chunked(_) | Kind::UntilClose => None,
        }
    }

    /// Whether the body is whole. Never true of a body that ends with its connection.
    #[inline]
    pub fn is_done(&self) -> bool {
        match &self.kind {
            Kind::Length(left) => *left == 0,
            Kind::Chunked(decoder) => decoder.is_done(),
            Kind::UntilClose => false,
        }
    }

    /// The connection ended: is the body whole?
    pub fn end_of_input(&self) -> Result<(), Truncated> {
        match self.kind {
            Kind::UntilClose => Ok(()),
            _ if self.is_done() => Ok(()),
            _ => Err(Truncated),
        }
    }
}

fn all(bytes: usize) -> BodyStep {
    match bytes {
        0 => BodyStep::More,
        _ => BodyStep::Data { consumed: bytes, data: 0..bytes },
    }
}
