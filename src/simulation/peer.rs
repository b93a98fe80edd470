//! The other end of one of the gateway's connections: a client's, or a server's.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::lifecycle::kind::Kind;
use crate::lifecycle::ledger::Ledgers;
use crate::runtime::buf::Pool;
use crate::runtime::twin::{net, sleep};

/// How the gateway ended its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

/// The gateway is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left;

/// A connection with its read kept armed. Drop closes it.
pub struct Peer {
    pub socket: net::Socket,
    reading: Option<net::Reading>,
    /// What came and was not used.
    pub got: Vec<u8>,
    pub end: Option<End>,
    /// Bytes per read, at most.
    pub appetite: usize,
    pool: Pool,
}

impl Peer {
    pub fn new(socket: net::Socket) -> Self {
        // Without a ledger of its own: what is counted here is the gateway's.
        let ledgers = Ledgers::new();
        ledgers.set_limit(Kind::StreamBuffer, 0);
        let pool = Pool::new(ledgers);
        Self { socket, reading: None, got: Vec::new(), end: None, appetite: 64 * 1024, pool }
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

    /// Ready when bytes came or the other side ended.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.end.is_some() {
            return Poll::Ready(());
        }
        let reading = self.reading.get_or_insert_with(|| {
            let mut buf = self.pool.take(self.appetite);
            buf.limit(self.appetite);
            self.socket.clone().read(buf)
        });
        let (result, buf) = std::task::ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        self.got.extend_from_slice(buf.filled());
        match result {
            Ok(0) => self.end = Some(End::Fin),
            Ok(_) => {}
            Err(_) => self.end = Some(End::Reset),
        }
        Poll::Ready(())
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
        let mut left = bytes;
        let mut draining = None;
        poll_fn(|cx| {
            while self.end.is_none() && self.poll_fill(cx).is_ready() {}
            if heed && self.end.is_some() {
                return Poll::Ready(Err(Left));
            }
            while !left.is_empty() {
                match self.socket.try_send(left) {
                    Ok(sent) => left = &left[sent..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        let wait = draining.insert(Box::pin(self.socket.clone().drained()));
                        let _ = std::task::ready!(wait.as_mut().poll(cx));
                    }
                    Err(_) => return Poll::Ready(Err(Left)),
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
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
