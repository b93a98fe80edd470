//! An answer being written in HTTP/1.1: staged bytes and their framing.

use crate::http::{Fate, ResponseHead, response_fate, write};
use crate::relay::exchange::{Extent, FieldPair};
use crate::runtime::clock;

/// Staging memory kept between answers, bytes; a larger buffer is given back.
const KEPT_BYTES_MAX: usize = 4 * 1024;
/// Staging memory kept within an answer, bytes: a bulk read's worth and its framing.
const BULK_BYTES_MAX: usize = 256 * 1024;
/// The line before a chunk, until its size is known.
const CHUNK_LINE_BLANK: [u8; write::CHUNK_LINE_BYTES] = [b'0'; write::CHUNK_LINE_BYTES];

/// What is staged and how far it has been sent.
#[derive(Default)]
pub struct Reply {
    out: Vec<u8>,
    sent: usize,
    /// Bytes of this answer that left.
    sent_total: u64,
    framing: Framing,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Framing {
    /// No head is staged.
    #[default]
    None,
    Length,
    Chunked,
    UntilClose,
    /// No body may follow.
    Empty,
}

/// What the connection's state adds to a head.
#[derive(Clone, Copy)]
pub struct Terms {
    pub http10: bool,
    pub closes: bool,
}

impl Reply {
    /// Starts over for the next answer.
    pub fn reset(&mut self) {
        debug_assert!(self.out.is_empty(), "an answer ended with bytes staged");
        self.out.shrink_to(KEPT_BYTES_MAX);
        *self = Reply { out: std::mem::take(&mut self.out), ..Reply::default() };
    }

    /// Takes back everything; only while nothing has left.
    pub fn unstage(&mut self) {
        assert!(self.sent_total == 0, "part of the answer has left");
        self.out.clear();
        self.framing = Framing::None;
    }

    /// Stages a head of our own.
    pub fn head(&mut self, status: u16, fields: &[FieldPair<'_>], extent: Extent, terms: Terms) {
        write::status_line(&mut self.out, status);
        write::date(&mut self.out, clock::unix_seconds());
        self.end_head(status, fields, extent, terms);
    }

    /// Stages an endpoint's head.
    pub fn upstream_head(
        &mut self,
        head: &ResponseHead,
        bytes: &[u8],
        fields: &[FieldPair<'_>],
        extent: Extent,
        terms: Terms,
    ) {
        write::status_line(&mut self.out, head.status);
        for field in head.fields.iter().filter(|field| response_fate(field) == Fate::Forward) {
            write::parsed_field(&mut self.out, bytes, field);
        }
        self.end_head(head.status, fields, extent, terms);
    }

    fn end_head(&mut self, status: u16, fields: &[FieldPair<'_>], extent: Extent, terms: Terms) {
        let out = &mut self.out;
        for (name, value) in fields {
            debug_assert!(!value.iter().any(|byte| *byte < b' '), "{name} has a control character");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        self.framing = framing(status, extent, terms);
        match (self.framing, extent) {
            (Framing::Length, Extent::Length(length)) => {
                out.extend_from_slice(b"content-length: ");
                write::number(out, length);
                out.extend_from_slice(b"\r\n");
            }
            (Framing::Chunked, _) => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            _ => {}
        }
        if terms.closes || self.framing == Framing::UntilClose {
            out.extend_from_slice(b"connection: close\r\n");
        } else if terms.http10 {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        write::end_of_head(out);
    }

    /// Whether the end of this answer is the end of its connection.
    pub fn ends_with_connection(&self) -> bool {
        self.framing == Framing::UntilClose
    }

    /// Stages what `fill` appends, as one frame.
    pub fn body(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        if self.framing != Framing::Chunked {
            return fill(&mut self.out);
        }
        let line = self.out.len();
        self.out.extend_from_slice(&CHUNK_LINE_BLANK);
        let data = self.out.len();
        fill(&mut self.out);
        let size = u32::try_from(self.out.len() - data).unwrap_or(u32::MAX);
        if size == 0 {
            self.out.truncate(line);
            return;
        }
        self.out[line..data].copy_from_slice(&write::chunk_line(size));
        self.out.extend_from_slice(write::CHUNK_END);
    }

    /// Stages the end of the body.
    pub fn end(&mut self) {
        if self.framing == Framing::Chunked {
            self.out.extend_from_slice(write::LAST_CHUNK);
        }
    }

    /// What is staged and has not left.
    pub fn pending(&self) -> &[u8] {
        &self.out[self.sent..]
    }

    /// So many bytes more have left.
    pub fn advance(&mut self, bytes: usize) {
        self.sent += bytes;
        self.sent_total += bytes as u64;
        if self.sent == self.out.len() {
            self.sent = 0;
            self.out.clear();
            if self.out.capacity() > BULK_BYTES_MAX {
                self.out.shrink_to(KEPT_BYTES_MAX);
            }
        }
    }

    /// Bytes of this answer that left.
    pub fn sent_total(&self) -> u64 {
        self.sent_total
    }
}

fn framing(status: u16, extent: Extent, terms: Terms) -> Framing {
    match extent {
        _ if status == 204 || status == 304 => Framing::Empty,
        Extent::None => Framing::Empty,
        Extent::Length(_) => Framing::Length,
        Extent::Open if terms.http10 => Framing::UntilClose,
        Extent::Open => Framing::Chunked,
    }
}
