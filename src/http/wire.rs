//! The I/O shell: a socket, plain or under TLS, as bytes in and bytes out.
//!
//! One read is armed at a time and is kept until it completes. Bytes land in [`Wire::input`]; they can be
//! looked at only while no read is armed. Writes take borrowed bytes and say how many they took.
//! Whoever owns a wire drives it with `poll_fill` and `poll_writable`; nothing here waits by itself.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::tls::Tls;
use crate::runtime::buf::{Buf, LARGE_BYTES, MEDIUM_BYTES, Pool, SMALL_BYTES, TINY_BYTES};
use crate::runtime::socket::{Draining, Pulse, Reader, Socket};

/// One side of the gateway's two connections.
pub struct Wire {
    socket: Socket,
    pool: Pool,
    reader: Reader,
    draining: Option<Draining>,
    /// Plain bytes that were read and not consumed; without memory while a plain read is armed.
    input: Buf,
    tls: Option<Box<Tls>>,
    ended: bool,
    last_read_filled: bool,
    /// Capacity of the next plain read that finds no buffer in its place, bytes.
    expected_bytes: usize,
}

impl Wire {
    /// Plain TCP.
    pub fn plain(socket: Socket, pool: Pool) -> Self {
        Self::new(socket, pool, None)
    }

    /// Under TLS; the handshake happens as bytes flow.
    pub fn secured(socket: Socket, pool: Pool, tls: Tls) -> Self {
        Self::new(socket, pool, Some(Box::new(tls)))
    }

    fn new(socket: Socket, pool: Pool, tls: Option<Box<Tls>>) -> Self {
        Self {
            reader: socket.reader(),
            socket,
            pool,
            draining: None,
            input: Buf::empty(),
            tls,
            ended: false,
            last_read_filled: false,
            expected_bytes: SMALL_BYTES,
        }
    }

    /// The connection itself, for deadlines and shutdowns.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// What was read and not consumed.
    ///
    /// # Panics
    /// While a plain read is armed: its bytes are the kernel's.
    pub fn input(&mut self) -> &mut Buf {
        assert!(!self.input_is_the_kernels(), "input is the kernel's");
        &mut self.input
    }

    /// Whether the input bytes are in an armed read and cannot be looked at.
    pub fn input_is_the_kernels(&self) -> bool {
        self.tls.is_none() && self.reader.armed()
    }

    /// Whether reads land beside the input, so that it can be looked at while one is armed.
    pub fn reads_apart(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether the last plain read used all the room it had: more is waiting.
    pub fn last_read_filled(&self) -> bool {
        self.last_read_filled
    }

    /// Whether a read is under way.
    pub fn armed(&self) -> bool {
        self.reader.armed()
    }

    /// Whether the peer ended its side.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Takes the unconsumed bytes out, with their buffer. What arrives next goes to a new one.
    pub fn take_input(&mut self) -> Buf {
        std::mem::replace(self.input(), Buf::empty())
    }

    /// Puts bytes (back) as what was read.
    pub fn set_input(&mut self, buf: Buf) {
        *self.input() = buf;
    }

    /// Gives an empty input buffer back to the pool.
    pub fn release_input(&mut self) {
        if !self.reader.armed() && self.input.is_empty() {
            self.input = Buf::empty();
        }
    }

    /// Says how much the next message will have: memory that waits costs, and so does reading twice.
    pub fn expect(&mut self, bytes: usize) {
        self.expected_bytes = bytes.clamp(TINY_BYTES, MEDIUM_BYTES);
    }

    /// Makes sure that the next read has room for `bytes`, moving to a larger buffer if it must.
    pub fn make_room(&mut self, bytes: usize) {
        let input = self.input();
        if input.room() >= bytes {
            return;
        }
        input.compact();
        if input.room() < bytes {
            let mut larger = self.pool.take(self.input.len() + bytes);
            larger.append(self.input.filled());
            self.input = larger;
        }
    }

    /// Reads until bytes arrive (their number) or the peer ends (0).
    ///
    /// # Errors
    /// The connection's, or TLS's.
    #[inline]
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.tls.is_none() && self.reader.waits_for(cx.waker()) {
            return Poll::Pending;
        }
        self.fill(cx)
    }

    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.tls.is_some() {
            return self.poll_fill_tls(cx);
        }
        if !self.reader.armed() {
            let mut buf = std::mem::replace(&mut self.input, Buf::empty());
            if buf.capacity() == 0 {
                buf = self.pool.take(self.expected_bytes);
            }
            self.reader.arm(buf);
        }
        let (result, buf) = std::task::ready!(self.reader.poll(cx));
        self.last_read_filled = buf.room() == 0;
        self.input = buf;
        self.ended |= matches!(result, Ok(0) | Err(_));
        Poll::Ready(result)
    }

    fn poll_fill_tls(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            let Some(tls) = self.tls.as_mut() else { return Poll::Pending };
            match tls.read_plain(&mut self.input, &self.pool)? {
                Some(0) => {
                    self.ended = true;
                    return Poll::Ready(Ok(0));
                }
                Some(n) => return Poll::Ready(Ok(n)),
                None => std::task::ready!(self.poll_records(cx))?,
            }
        }
    }

    /// Takes in one raw read's worth of TLS records, after sending what TLS wants to send.
    fn poll_records(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)?;
        let Some(tls) = self.tls.as_mut() else { return Poll::Ready(Ok(())) };
        if !self.reader.armed() {
            self.reader.arm(tls.raw(&self.pool));
        }
        let (result, raw) = std::task::ready!(self.reader.poll(cx));
        let fed = tls.feed(raw, result);
        // Handshake records, alerts and key updates leave at once.
        let flushed = self.poll_flush(cx);
        Poll::Ready(fed.and(flushed))
    }

    /// Sends the records that wait, as far as they fit. Where they do not, room wakes the task: what a read
    /// brought about (a handshake's flight, an answer to a key update) must leave without another read.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while let Some(tls) = self.tls.as_mut() {
            if tls.flush(&self.socket)? {
                break;
            }
            match self.poll_room(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Ready when the socket has room.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let draining = self.draining.get_or_insert_with(|| self.socket.drained());
        let ready = std::task::ready!(Pin::new(draining).poll(cx));
        self.draining = None;
        Poll::Ready(ready)
    }

    /// Ready when the TLS handshake is over (at once, for plain connections).
    ///
    /// # Errors
    /// The connection's, or the handshake's: an unknown issuer, a wrong name, no common version.
    pub fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.as_ref().is_some_and(|tls| !tls.established()) {
            std::task::ready!(self.poll_records(cx))?;
            if self.tls.as_ref().is_some_and(|tls| tls.ended_early()) {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what fits now; 0 = nothing does, wait with [`Wire::poll_writable`].
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.tls.as_mut() {
            Some(tls) => tls.send(bytes, &self.socket),
            None => nothing_if_full(self.socket.try_send(bytes)),
        }
    }

    /// As [`Wire::send`], for several pieces in order.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.tls.is_none() {
            return nothing_if_full(self.socket.try_send_vectored(pieces));
        }
        let mut sent = 0;
        for piece in pieces {
            let n = self.send(piece)?;
            sent += n;
            if n < piece.len() {
                break;
            }
        }
        Ok(sent)
    }

    /// Whether every byte that was taken has left for the kernel.
    pub fn flushed(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.flushed())
    }

    /// Ready when more can be sent (and, under TLS, what was taken has left).
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            std::task::ready!(self.poll_room(cx))?;
            let Some(tls) = self.tls.as_mut() else { return Poll::Ready(Ok(())) };
            if tls.flush(&self.socket)? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Says that nothing more will be sent (with close_notify under TLS) and shuts the write side.
    pub fn finish(&mut self) {
        if let Some(tls) = self.tls.as_mut() {
            tls.close(&self.socket);
        }
        self.socket.shutdown(Shutdown::Write);
    }

    /// Gives the connection up, both ways, at once.
    pub fn abort(&mut self) {
        self.socket.shutdown(Shutdown::Both);
    }

    /// Arms a read on a connection that will idle, so that its end is noticed; whether it is silent.
    pub fn idle(&mut self) -> bool {
        // The read gets a small buffer, whatever the last answer needed.
        self.release_input();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.input.is_empty() && self.poll_fill(&mut cx).is_pending()
    }

    /// For a connection that idles with a read armed: whether it is still silent. A completed read (bytes
    /// nobody asked for, or the end) means that it must not be used again.
    pub fn idles(&mut self) -> bool {
        if self.ended || !self.input.is_empty() {
            return false;
        }
        match self.reader.armed() {
            true => {
                let mut cx = Context::from_waker(std::task::Waker::noop());
                let silent = self.reader.quiet() || self.poll_fill(&mut cx).is_pending();
                // Half a record is something, too; what it says would be taken for the next answer.
                silent && !self.tls.as_ref().is_some_and(|tls| tls.inside_a_record())
            }
            false => self.socket.pulse() == Pulse::Silent,
        }
    }

    /// Uses larger buffers from now on, after a read that filled a small one.
    pub fn widen(&mut self) {
        if !self.reader.armed() && self.tls.is_none() && self.input.capacity() < LARGE_BYTES {
            self.make_room(LARGE_BYTES / 2 + 1);
        }
    }
}

fn nothing_if_full(sent: io::Result<usize>) -> io::Result<usize> {
    match sent {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
