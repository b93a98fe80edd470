//! One connection to an endpoint: connect, send a request, read the answer's head and body.

use std::future::poll_fn;
use std::io::IoSlice;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Poll};

use super::backend::{Backend, Counted};
use super::error::AttemptError;
use crate::config::plan::{EndpointTls, Timeouts};
use crate::http::tls::Tls;
use crate::http::wire::Wire;
use crate::http::{
    BodyDecoder, BodyStep, ChunkLimits, Framing, HeadLimits, Parsed, ResponseHead, parse_response,
};
use crate::json::Edits;
use crate::lifecycle::permit::{Permit, UpstreamConnection};
use crate::runtime::clock::{self, Instant};
use crate::runtime::kit::Kit;
use crate::runtime::socket::Socket;
use crate::runtime::wheel::{Deadline, Due};

/// Requests up to this size leave in one piece, copied together: one system call, no gather list.
const COALESCE_BYTES_MAX: usize = 16 * 1024;
/// Pieces of a request sent at once: the head, and a body with edits in it.
const PIECES_MAX: usize = 20;
/// Trailers of an answer, which are dropped, bytes.
const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// A connection, and the answer that is under way on it.
pub struct Connection {
    wire: Wire,
    deadline: Deadline,
    /// Answers that came over it before this one.
    pub served: u64,
    pub head: ResponseHead,
    decoder: BodyDecoder,
    /// Whether any byte of the present answer has come.
    begun: bool,
    /// Part of the request was never sent: the connection cannot carry another one.
    unsent: bool,
    /// A request has left whose answer's body has not begun.
    awaits: bool,
    counted: Counted,
    _permit: Permit<UpstreamConnection>,
}

/// What reading on in an answer's body came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// More is to come.
    More,
    /// It is whole.
    Done,
}

/// How much of a request has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// All that ever will: the connection may have broken under it.
    All,
    /// So many bytes of the head, which has taken in the body.
    Part(usize),
    Nothing,
}

/// What an answer may cost.
#[derive(Clone, Copy)]
pub struct AnswerLimits {
    pub head: HeadLimits,
    pub chunk: ChunkLimits,
}

impl AnswerLimits {
    /// From the plan's limits on heads and chunk extensions.
    pub fn of(limits: &crate::config::plan::Limits) -> Self {
        Self {
            head: HeadLimits {
                head_bytes_max: limits.head_bytes_max,
                header_count_max: limits.header_count_max,
                target_bytes_max: limits.target_bytes_max,
            },
            chunk: ChunkLimits {
                extension_bytes_max: limits.chunk_extension_bytes_max,
                trailer_bytes_max: TRAILER_BYTES_MAX,
            },
        }
    }
}

impl Connection {
    /// Connects, with a handshake where `tls` says so.
    pub async fn open(
        kit: &Kit,
        backend: &Rc<Backend>,
        address: SocketAddr,
        tls: Option<&EndpointTls>,
        timeouts: &Timeouts,
    ) -> Result<Box<Connection>, AttemptError> {
        let permit = kit.ledgers.take::<UpstreamConnection>(1).ok_or(AttemptError::AtCapacity)?;
        let counted = backend.count();
        let socket = connect(kit, address, timeouts).await?;
        let deadline = kit.wheel.deadline(Some((socket.clone(), Shutdown::Both)));
        let wire = match tls {
            None => Wire::plain(socket, kit.pool.clone()),
            Some(tls) => {
                let end = Tls::client(tls.config.clone(), tls.server_name.clone())
                    .map_err(|_| AttemptError::Handshake)?;
                Wire::secured(socket, kit.pool.clone(), end)
            }
        };
        let mut connection = Box::new(Connection {
            wire,
            deadline,
            served: 0,
            head: ResponseHead::default(),
            decoder: BodyDecoder::new(Framing::None, NO_CHUNKS),
            begun: false,
            unsent: false,
            awaits: false,
            counted,
            _permit: permit,
        });
        connection.handshake(timeouts).await?;
        Ok(connection)
    }

    async fn handshake(&mut self, timeouts: &Timeouts) -> Result<(), AttemptError> {
        self.deadline.set(Due::Handshake, clock::now(), timeouts.handshake);
        let done = poll_fn(|cx| self.wire.poll_handshake(cx)).await;
        self.deadline.clear();
        done.map_err(|_| match self.deadline.fired() {
            Some(_) => AttemptError::ConnectTimeout,
            None => AttemptError::Handshake,
        })
    }

    /// Sends a head and a body with its edits, if they are small and fit now: whether they did. What did not
    /// is [`Connection::send`]'s, with the same arguments: `head` has taken in a small body.
    pub fn send_at_once(&mut self, head: &mut Vec<u8>, edits: &Edits, body: &[u8]) -> Sent {
        self.begun = false;
        self.awaits = true;
        if head.len() + edits.len_after(body.len()) > COALESCE_BYTES_MAX {
            return Sent::Nothing;
        }
        edits.pieces(body).for_each(|piece| head.extend_from_slice(piece));
        match self.wire.send(head) {
            Ok(sent) if sent < head.len() || !self.wire.flushed() => Sent::Part(sent),
            Ok(_) => Sent::All,
            Err(_) => {
                self.unsent = true;
                Sent::All
            }
        }
    }

    /// Sends what [`Connection::send_at_once`] left. An error in the middle is not yet a failure: an endpoint
    /// that answers before it has read everything (413, say) has its answer read first.
    pub async fn send(
        &mut self,
        sent: Sent,
        head: &[u8],
        edits: &Edits,
        body: &[u8],
        limits: &AnswerLimits,
    ) -> Result<(), AttemptError> {
        let sent = match sent {
            Sent::All => return Ok(()),
            Sent::Part(sent) => self.send_pieces(&[&head[sent..]], limits).await,
            Sent::Nothing => {
                let pieces: Vec<&[u8]> = std::iter::once(head).chain(edits.pieces(body)).collect();
                self.send_pieces(&pieces, limits).await
            }
        };
        self.unsent |= sent.is_err();
        match sent {
            Err(_) if self.deadline.fired().is_some() => Err(self.late()),
            _ => Ok(()),
        }
    }

    async fn send_pieces(
        &mut self,
        pieces: &[&[u8]],
        limits: &AnswerLimits,
    ) -> std::io::Result<()> {
        let (mut at, mut offset) = (0, 0);
        while at < pieces.len() {
            let mut slices = [IoSlice::new(&[]); PIECES_MAX];
            let mut count = 0;
            for (slot, piece) in slices.iter_mut().zip(&pieces[at..]) {
                let skip = if count == 0 { offset } else { 0 };
                *slot = IoSlice::new(&piece[skip..]);
                count += 1;
            }
            let mut sent = match count {
                1 => self.wire.send(&slices[0])?,
                _ => self.wire.send_vectored(&slices[..count])?,
            };
            if sent == 0 && slices[..count].iter().any(|slice| !slice.is_empty()) {
                if self.room_or_answer(limits).await? {
                    continue;
                }
                return Ok(());
            }
            while at < pieces.len() && sent >= pieces[at].len() - offset {
                sent -= pieces[at].len() - offset;
                (at, offset) = (at + 1, 0);
            }
            offset += sent;
        }
        while !self.wire.flushed() {
            if !self.room_or_answer(limits).await? {
                break;
            }
        }
        Ok(())
    }

    /// Waits until more can be sent; `false` when the endpoint answers before it has read everything.
    /// Interim answers are swallowed.
    async fn room_or_answer(&mut self, limits: &AnswerLimits) -> std::io::Result<bool> {
        loop {
            let read = poll_fn(|cx| {
                if let Poll::Ready(ready) = self.wire.poll_writable(cx) {
                    return Poll::Ready(ready.map(|()| None));
                }
                self.wire.poll_fill(cx).map_ok(Some)
            });
            let Some(read) = read.await? else { return Ok(true) };
            self.begun |= read > 0;
            if read == 0 || !matches!(self.parse_head(limits), Ok(false)) {
                self.unsent = true;
                return Ok(false);
            }
            self.make_room_for_head(limits);
        }
    }

    /// Reads the answer's head into `self.head` (interim answers are swallowed). Its bytes stay at the front
    /// of the input until [`Connection::begin_body`].
    pub fn poll_head(
        &mut self,
        limits: &AnswerLimits,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), AttemptError>> {
        loop {
            if self.begun && !self.wire.input_is_the_kernels() && self.parse_head(limits)? {
                return Poll::Ready(Ok(()));
            }
            self.make_room_for_head(limits);
            match std::task::ready!(self.wire.poll_fill(cx)) {
                Ok(n) if n > 0 => self.begun = true,
                _ => return Poll::Ready(Err(self.headless())),
            }
        }
    }

    /// Why no head came.
    fn headless(&self) -> AttemptError {
        match self.deadline.fired() {
            Some(_) => self.late(),
            None if !self.begun && self.served > 0 => AttemptError::Stale,
            None => AttemptError::Closed,
        }
    }

    fn make_room_for_head(&mut self, limits: &AnswerLimits) {
        if !self.wire.armed() && self.wire.input().capacity() > 0 && self.wire.input().room() == 0 {
            let wanted = (self.wire.input().len() * 2).min(limits.head.head_bytes_max + 1);
            self.wire.make_room(wanted);
        }
    }

    fn parse_head(&mut self, limits: &AnswerLimits) -> Result<bool, AttemptError> {
        loop {
            let input = self.wire.input();
            let parsed = parse_response(input.filled(), &limits.head, false, &mut self.head);
            match parsed.map_err(AttemptError::BadHead)? {
                Parsed::Partial => return Ok(false),
                Parsed::Complete if self.head.interim() => input.consume(self.head.bytes),
                Parsed::Complete => return Ok(true),
            }
        }
    }

    /// The bytes that `self.head`'s spans point into.
    pub fn head_bytes(&mut self) -> (&ResponseHead, &[u8]) {
        (&self.head, self.wire.input().filled())
    }

    /// Steps from the head to the body.
    pub fn begin_body(&mut self, limits: &AnswerLimits) {
        let bytes = self.head.bytes;
        self.awaits = false;
        self.wire.input().consume(bytes);
        self.decoder = BodyDecoder::new(self.head.framing, limits.chunk);
    }

    /// Hands a body of at most `bytes_max` bytes that has come in one piece to `look`, and takes it.
    pub fn take_whole(&mut self, bytes_max: usize, look: &mut impl FnMut(&[u8])) -> bool {
        if self.wire.input_is_the_kernels() {
            return false;
        }
        let input = self.wire.input();
        let Some(length) = self.decoder.whole(input.filled()).filter(|it| *it <= bytes_max) else {
            return false;
        };
        look(&input.filled()[..length]);
        input.consume(length);
        self.decoder = BodyDecoder::new(Framing::None, NO_CHUNKS);
        true
    }

    /// Hands every body byte that has arrived to `sink`.
    pub fn take_body(&mut self, sink: &mut impl FnMut(&[u8])) -> Result<Body, AttemptError> {
        if self.wire.input_is_the_kernels() {
            return Ok(Body::More);
        }
        let input = self.wire.input();
        let mut rest = input.filled();
        while !self.decoder.is_done() && !rest.is_empty() {
            let consumed = match self.decoder.step(rest).map_err(AttemptError::BadBody)? {
                BodyStep::Data { consumed, data } => {
                    sink(&rest[data]);
                    consumed
                }
                BodyStep::More => rest.len(),
                BodyStep::Done { consumed } => consumed,
            };
            rest = &rest[consumed..];
        }
        let left = rest.len();
        input.consume(input.len() - left);
        Ok(if self.decoder.is_done() { Body::Done } else { Body::More })
    }

    /// Reads on: `Ready(Ok(true))` when bytes came, `Ready(Ok(false))` when the connection ended where the
    /// framing lets a body end.
    pub fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, AttemptError>> {
        if self.wire.last_read_filled() {
            self.wire.widen();
        }
        match std::task::ready!(self.wire.poll_fill(cx)) {
            Ok(n) if n > 0 => Poll::Ready(Ok(true)),
            _ if self.deadline.fired().is_some() => Poll::Ready(Err(self.late())),
            Ok(_) if self.decoder.end_of_input().is_ok() => Poll::Ready(Ok(false)),
            _ => Poll::Ready(Err(AttemptError::Truncated)),
        }
    }

    fn late(&self) -> AttemptError {
        match self.deadline.fired() {
            Some(Due::Stall) => AttemptError::Stall,
            Some(Due::Total) => AttemptError::TotalTimeout,
            _ => AttemptError::FirstByteTimeout,
        }
    }

    /// Sets the connection's deadline: the nearer of `at` and `total`.
    pub fn until(&self, why: Due, at: Instant, total: Instant) {
        match at <= total {
            true => self.deadline.set_at(why, at),
            false => self.deadline.set_at(Due::Total, total),
        }
    }

    /// Whether the connection may carry another request once this answer is whole.
    pub fn reusable(&mut self) -> bool {
        self.head.keep_alive
            && !self.unsent
            && self.head.framing != Framing::UntilClose
            && self.decoder.is_done()
            && !self.wire.ended()
            && self.deadline.fired().is_none()
            && !self.wire.armed()
            && self.wire.input().is_empty()
    }

    /// Whether it is given up in the middle of a request or of its answer.
    fn unfinished(&self) -> bool {
        let over = self.decoder.is_done() || self.wire.ended();
        self.unsent || self.awaits || !over
    }

    /// Readies it for the pool; whether it may go there.
    pub fn rest(&mut self) -> bool {
        self.served += 1;
        self.deadline.clear();
        self.wire.idle()
    }

    /// Whether it is still silent, as an idle connection should be.
    pub fn idles(&mut self) -> bool {
        self.wire.idles()
    }

    /// Ends both directions at once: the engine notices and stops generating.
    pub fn abort(&mut self) {
        self.wire.abort();
    }

    /// The endpoint it belongs to.
    pub fn backend(&self) -> &Rc<Backend> {
        self.counted.backend()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.unfinished() {
            // Bytes of the request that wait in the kernel would still go out before an orderly end, and a
            // server that is slow to read would hear of it after them. A reset takes them back.
            self.wire.socket().reset_at_close();
        }
        // Close waits for operations under way, so end them first.
        self.wire.abort();
    }
}

const NO_CHUNKS: ChunkLimits = ChunkLimits { extension_bytes_max: 0, trailer_bytes_max: 0 };

async fn connect(
    kit: &Kit,
    address: SocketAddr,
    timeouts: &Timeouts,
) -> Result<Socket, AttemptError> {
    let deadline = kit.wheel.deadline(None);
    deadline.set(Due::Connect, clock::now(), timeouts.connect);
    let mut connecting = std::pin::pin!(Socket::connect(address));
    poll_fn(|cx| {
        if let Poll::Ready(connected) = connecting.as_mut().poll(cx) {
            return Poll::Ready(connected.map_err(|error| AttemptError::connecting(&error)));
        }
        deadline.poll_fired(cx).map(|_| Err(AttemptError::ConnectTimeout))
    })
    .await
}
