//! A request as it came: its head, and its body once it was read.

use std::net::SocketAddr;
use std::ops::Range;

use crate::http::{Known, RequestHead};
use crate::lifecycle::permit::{BodyBytes, Permit};
use crate::runtime::buf::Buf;
use crate::runtime::clock::Instant;

/// Owned by the connection, lent to the request, used again for the next one.
pub struct Inbound {
    pub head: RequestHead,
    /// The head's bytes, and the body's where it came along in the same buffer.
    buf: Buf,
    body: Body,
    pub peer: SocketAddr,
    /// When the request's first byte came.
    pub began: Instant,
}

enum Body {
    None,
    /// In `buf`, behind the head.
    Inline(Range<usize>),
    Own(Owned),
}

/// The buffer and its claim on the shard's memory for bodies leave together.
struct Owned {
    bytes: Buf,
    /// `None`: a copy's, which has a claim of its own.
    _claim: Option<Permit<BodyBytes>>,
}

impl Inbound {
    /// For one connection.
    pub fn new(peer: SocketAddr) -> Self {
        let began = Instant::default();
        Self { head: RequestHead::default(), buf: Buf::empty(), body: Body::None, peer, began }
    }

    /// Takes the buffer whose front is the parsed head.
    pub fn begin(&mut self, buf: Buf, began: Instant) {
        self.buf = buf;
        self.began = began;
        self.body = Body::None;
    }

    /// Forgets the head: what came was not one.
    pub fn forget(&mut self, now: Instant) {
        self.head = RequestHead::default();
        self.release();
        self.began = now;
    }

    /// What the head's spans point into.
    pub fn bytes(&self) -> &[u8] {
        self.buf.filled()
    }

    /// The buffer, while the body is being read.
    pub fn buf(&mut self) -> &mut Buf {
        &mut self.buf
    }

    /// The body came along with the head.
    pub fn set_inline_body(&mut self, range: Range<usize>) {
        self.body = Body::Inline(range);
    }

    /// The body has a buffer of its own.
    pub fn set_body(&mut self, bytes: Buf, claim: Permit<BodyBytes>) {
        self.body = Body::Own(Owned { bytes, _claim: Some(claim) });
    }

    /// The body; empty until it was read.
    pub fn body(&self) -> &[u8] {
        match &self.body {
            Body::None => &[],
            Body::Inline(range) => &self.buf.filled()[range.clone()],
            Body::Own(owned) => owned.bytes.filled(),
        }
    }

    /// Whether the body had to be waited for.
    pub fn came_in_pieces(&self) -> bool {
        matches!(self.body, Body::Own(_))
    }

    /// The value of the first field of this name.
    pub fn value(&self, known: Known) -> Option<&[u8]> {
        self.head.value(self.buf.filled(), known)
    }

    /// Bytes of memory behind head and body.
    pub fn held_bytes(&self) -> usize {
        let body = match &self.body {
            Body::Own(owned) => owned.bytes.capacity(),
            Body::None | Body::Inline(_) => 0,
        };
        self.buf.capacity() + body
    }

    /// Takes head and body out, for a copy that begins at `now`: no other attempt will be made. Their claim
    /// on the shard's memory for bodies ends.
    pub fn take(&mut self, now: Instant) -> Self {
        let buf = std::mem::replace(&mut self.buf, Buf::empty());
        let body = match std::mem::replace(&mut self.body, Body::None) {
            Body::Own(Owned { bytes, .. }) => Body::Own(Owned { bytes, _claim: None }),
            body => body,
        };
        Self { head: std::mem::take(&mut self.head), buf, body, peer: self.peer, began: now }
    }

    /// Gives head and body back: no other attempt will be made.
    pub fn release(&mut self) {
        self.buf = Buf::empty();
        self.body = Body::None;
    }
}
