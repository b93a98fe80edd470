//! Cutting a byte stream into events, incrementally.
//!
//! A line ends with LF, CRLF or CR; a blank line ends an event. So a blank line more than needed is an
//! event of its own, without fields. A CR at the end of a chunk is taken at once (nobody knows when the
//! next byte comes); an LF that then begins the next chunk belongs to that line end, and if the CR had
//! ended an event, the LF goes out as an [`Piece::Event`] of one byte, without fields.

use memchr::memchr2;

/// The largest event, in bytes, that is kept together: one cap for every stream.
pub const EVENT_WHOLE_BYTES_MAX: usize = 64 * 1024;

/// What the splitter's buffer may keep allocated between events, in bytes.
const KEPT_BYTES_MAX: usize = 4 * 1024;

/// What the stream consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// One complete event, its blank line included.
    Event(&'a [u8]),
    /// A piece of an event that is larger than the cap.
    Part {
        /// The piece; never empty.
        bytes: &'a [u8],
        /// Whether the event ends with it.
        last: bool,
    },
}

/// Finds the ends of events. Holds the beginning of an event until its end has come, or until it
/// outgrows the cap.
#[derive(Debug)]
pub struct Splitter {
    held: Vec<u8>,
    cap: usize,
    /// The current line has no bytes so far.
    line_blank: bool,
    /// The last byte fed was a CR that ended a line.
    after_cr: bool,
    /// The current event has outgrown the cap and is passed on as it comes.
    oversized: bool,
}

impl Splitter {
    /// A splitter at the start of a stream that keeps together events of up to `cap` bytes.
    pub const fn new(cap: usize) -> Self {
        Self { held: Vec::new(), cap, line_blank: true, after_cr: false, oversized: false }
    }

    /// Takes the next bytes of the stream, cut anywhere, and gives `sink` what they complete.
    #[inline]
    pub fn feed(&mut self, chunk: &[u8], sink: &mut impl FnMut(Piece<'_>)) {
        let mut start = 0;
        let mut at = self.finish_crlf(chunk, sink, &mut start);
        while let Some(end) = self.line(chunk, at) {
            let blank = end.blank;
            at = end.after;
            if blank {
                self.complete(&chunk[start..at], sink);
                start = at;
            }
        }
        self.hold(&chunk[start..], sink);
    }

    /// While no part of an event is held and no LF may be outstanding: the most bytes an event may have that
    /// is passed by without being fed. It must end in an LF.
    #[inline]
    pub fn between_events(&self) -> Option<usize> {
        let between = self.held.is_empty() && self.line_blank && !self.after_cr && !self.oversized;
        between.then_some(self.cap)
    }

    /// The beginning of an event that has not ended, unless it was already passed on in part.
    pub fn rest(&self) -> &[u8] {
        &self.held
    }

    /// Whether the stream stands inside an event that was already passed on in part.
    pub fn inside_oversized(&self) -> bool {
        self.oversized
    }

    /// Takes the beginning of an event that never ended; the splitter is then as new.
    pub fn take_rest(&mut self) -> Vec<u8> {
        let rest = std::mem::take(&mut self.held);
        *self = Self::new(self.cap);
        rest
    }

    /// Takes an LF that belongs to a CR of the chunk before; gives the offset to go on at.
    #[inline]
    fn finish_crlf(
        &mut self,
        chunk: &[u8],
        sink: &mut impl FnMut(Piece<'_>),
        start: &mut usize,
    ) -> usize {
        if !self.after_cr || chunk.is_empty() {
            return 0;
        }
        self.after_cr = false;
        if chunk[0] != b'\n' {
            return 0;
        }
        if self.held.is_empty() && !self.oversized {
            sink(Piece::Event(&chunk[..1]));
            *start = 1;
        }
        1
    }

    /// The end of the line that goes on at `at`, if it is in this chunk.
    #[inline]
    fn line(&mut self, chunk: &[u8], at: usize) -> Option<LineEnd> {
        let rest = &chunk[at..];
        // Most lines but the first are blank: look before searching.
        let len = match rest.first()? {
            b'\n' | b'\r' => 0,
            _ => match memchr2(b'\n', b'\r', rest) {
                Some(len) => len,
                None => {
                    self.line_blank = false;
                    return None;
                }
            },
        };
        let blank = len == 0 && self.line_blank;
        self.line_blank = true;
        let mut after = at + len + 1;
        if rest[len] == b'\r' {
            match chunk.get(after) {
                Some(b'\n') => after += 1,
                Some(_) => {}
                None => self.after_cr = true,
            }
        }
        Some(LineEnd { after, blank })
    }

    /// An event ends with `tail`.
    #[inline]
    fn complete(&mut self, tail: &[u8], sink: &mut impl FnMut(Piece<'_>)) {
        if self.oversized {
            self.oversized = false;
            sink(Piece::Part { bytes: tail, last: true });
        } else if self.held.len() + tail.len() > self.cap {
            self.pass_held(sink);
            sink(Piece::Part { bytes: tail, last: true });
        } else if self.held.is_empty() {
            sink(Piece::Event(tail));
        } else {
            self.held.extend_from_slice(tail);
            sink(Piece::Event(&self.held));
            self.clear_held();
        }
    }

    /// An event goes on with `tail` and has not ended.
    #[inline]
    fn hold(&mut self, tail: &[u8], sink: &mut impl FnMut(Piece<'_>)) {
        if tail.is_empty() {
            return;
        }
        if !self.oversized && self.held.len() + tail.len() <= self.cap {
            self.held.extend_from_slice(tail);
            return;
        }
        self.oversized = true;
        self.pass_held(sink);
        sink(Piece::Part { bytes: tail, last: false });
    }

    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.held.capacity()
    }

    fn pass_held(&mut self, sink: &mut impl FnMut(Piece<'_>)) {
        if !self.held.is_empty() {
            sink(Piece::Part { bytes: &self.held, last: false });
            self.clear_held();
        }
    }

    /// One large event must not cost its size for as long as the stream lasts.
    fn clear_held(&mut self) {
        self.held.clear();
        if self.held.capacity() > KEPT_BYTES_MAX {
            self.held = Vec::new();
        }
    }
}

struct LineEnd {
    after: usize,
    blank: bool,
}
