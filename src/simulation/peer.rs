//! The other end of one of the gateway's connections: a client's, or a server's.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::http::tls::Tls;
use crate::http::wire::Wire;
use crate::lifecycle::kind::Kind;
use crate::lifecycle::ledger::Ledgers;
use crate::runtime::buf::Pool;
use crate::runtime::socket::Socket;
use crate::runtime::twin::faults::Faults;
use crate::runtime::twin::{net, sleep, world};

/// How the gateway ended its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

/// The gateway is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left;

/// Bytes on their way out, and the wait for room.
struct Sending<'a> {
    left: &'a [u8],
    draining: Option<Pin<Box<dyn Future<Output = io::Result<()>>>>>,
}

/// A connection with its read kept armed. Drop closes it.
pub struct Peer {
    pub socket: net::Socket,
    reading: Option<net::Reading>,
    /// What came and was not used.
    pub got: Vec<u8>,
    pub end: Option<End>,
    /// Bytes per read, at most.
    /// Under TLS, records come whole.
    pub appetite: usize,
    pool: Pool,
    wire: Option<Wire>,
}

impl Peer {
    pub fn new(socket: net::Socket) -> Self {
        // Without a ledger of its own: what is counted here is the gateway's.
        let ledgers = Ledgers::new();
        ledgers.set_limit(Kind::StreamBuffer, 0);
        let pool = Pool::new(ledgers);
        Self {
            socket,
            reading: None,
            got: Vec::new(),
            end: None,
            appetite: 64 * 1024,
            pool,
            wire: None,
        }
    }

    /// Connects, unless that takes longer than a client would wait.
    pub async fn connect(address: std::net::SocketAddr) -> Option<Self> {
        let mut connecting = pin!(net::connect(address));
        let mut patience = pin!(sleep(Duration::from_secs(3)));
        let socket = poll_fn(|cx| {
            if let Poll::Ready(connected) = connecting.as_mut().poll(cx) {
                return Poll::Ready(connected.ok());
            }
            patience.as_mut().poll(cx).map(|()| None)
        })
        .await?;
        Some(Self::new(socket))
    }

    /// Under TLS from now on; unless the other side leaves or takes too long.
    pub async fn secured(mut self, tls: Tls) -> Option<Self> {
        let socket = Socket::from_twin(self.socket.clone());
        let mut wire = Wire::secured(socket, self.pool.clone(), tls);
        let mut patience = pin!(sleep(Duration::from_secs(3)));
        let shaken = poll_fn(|cx| match wire.poll_handshake(cx) {
            Poll::Ready(shaken) => Poll::Ready(shaken.is_ok()),
            Poll::Pending => patience.as_mut().poll(cx).map(|()| false),
        });
        shaken.await.then_some(())?;
        self.wire = Some(wire);
        Some(self)
    }

    /// Ready when bytes came or the other side ended.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.end.is_some() {
            return Poll::Ready(());
        }
        let result = match self.wire.is_some() {
            true => std::task::ready!(self.poll_records(cx)),
            false => std::task::ready!(self.poll_read(cx)),
        };
        match result {
            Ok(0) => self.end = Some(End::Fin),
            Ok(_) => {}
            Err(_) => self.end = Some(End::Reset),
        }
        Poll::Ready(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let reading = self.reading.get_or_insert_with(|| {
            let mut buf = self.pool.take(self.appetite);
            buf.limit(self.appetite);
            self.socket.clone().read(buf)
        });
        let (result, buf) = std::task::ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        self.got.extend_from_slice(buf.filled());
        Poll::Ready(result)
    }

    fn poll_records(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(wire) = &mut self.wire else { return Poll::Pending };
        let result = std::task::ready!(wire.poll_fill(cx));
        let input = wire.input();
        self.got.extend_from_slice(input.filled());
        input.consume(input.len());
        Poll::Ready(result)
    }

    /// Waits for bytes or for the end.
    pub async fn fill(&mut self) {
        poll_fn(|cx| self.poll_fill(cx)).await;
    }

    /// Waits for bytes or for the end, but no longer than `patience`; `false` when that was over.
    pub async fn fill_within(&mut self, patience: Duration) -> bool {
        let mut over = pin!(sleep(patience));
        poll_fn(|cx| match self.poll_fill(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => over.as_mut().poll(cx).map(|()| false),
        })
        .await
    }

    /// Sends everything, reading on meanwhile. With `heed`, the other side's end ends it, too.
    pub async fn send(&mut self, bytes: &[u8], heed: bool) -> Result<(), Left> {
        let mut sending = Sending { left: bytes, draining: None };
        poll_fn(|cx| {
            while self.end.is_none() && self.poll_fill(cx).is_ready() {}
            match heed && self.end.is_some() {
                true => Poll::Ready(Err(Left)),
                false => self.poll_send(&mut sending, cx),
            }
        })
        .await
    }

    /// Sends everything, and reads nothing meanwhile.
    pub async fn send_only(&mut self, bytes: &[u8]) -> Result<(), Left> {
        let mut sending = Sending { left: bytes, draining: None };
        poll_fn(|cx| self.poll_send(&mut sending, cx)).await
    }

    fn poll_send(
        &mut self,
        sending: &mut Sending<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Left>> {
        loop {
            let flushed = self.wire.as_ref().is_none_or(Wire::flushed);
            if sending.left.is_empty() && flushed {
                return Poll::Ready(Ok(()));
            }
            let sent = match &mut self.wire {
                Some(wire) => wire.send(sending.left),
                None => self.socket.try_send(sending.left),
            };
            match sent {
                Ok(sent) if sent > 0 => sending.left = &sending.left[sent..],
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(Left));
                }
                _ => std::task::ready!(self.poll_room(sending, cx)),
            }
        }
    }

    /// Ready when the socket has room, or never will have.
    fn poll_room(&mut self, sending: &mut Sending<'_>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(wire) = &mut self.wire {
            return wire.poll_writable(cx).map(drop);
        }
        let wait = sending.draining.insert(Box::pin(self.socket.clone().drained()));
        wait.as_mut().poll(cx).map(drop)
    }

    /// Ends this side; the other's may go on.
    pub fn half_close(&mut self) {
        match &mut self.wire {
            Some(wire) => wire.finish(),
            None => self.socket.shutdown(Shutdown::Write),
        }
    }

    /// Ends this side, with close_notify whole under TLS.
    pub async fn close(&mut self) {
        // With nothing on its way there is room for it.
        while self.wire.is_some() && self.end.is_none() && !self.socket.all_is_read() {
            let _ = self.pause(Duration::from_millis(5)).await;
        }
        if self.wire.is_some() {
            let faults = world().faults();
            world().set_faults(Faults { would_block: 0, short_write: 0, ..faults });
            self.half_close();
            world().set_faults(faults);
        }
    }

    /// Waits, reading on; ends early when the other side does.
    pub async fn pause(&mut self, time: Duration) -> Result<(), Left> {
        let mut over = pin!(sleep(time));
        poll_fn(|cx| {
            while self.end.is_none() && self.poll_fill(cx).is_ready() {}
            match self.end {
                Some(_) => Poll::Ready(Err(Left)),
                None => over.as_mut().poll(cx).map(Ok),
            }
        })
        .await
    }
}
