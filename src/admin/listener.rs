//! The admin socket: few connections, and none of them keeps a place that another one needs.
//!
//! Whoever waits for a request, or is in the middle of sending its head, gives way to who comes, the oldest
//! first. Each of these has a time from its beginning on, whatever trickles in: nobody can hold a place by
//! doing little.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Connections served at once.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection may have no request.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How long a request's head may take, from its first byte on.
const HEAD_MAX: Duration = Duration::from_secs(5);
/// How long an answer may take to leave.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// After a failed accept (descriptors used up, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// While each connection has an answer under way: how often it is looked whether one has left.
const FULL_PAUSE: Duration = Duration::from_millis(50);

/// A listener for [`axum::serve()`].
#[derive(Debug)]
pub struct Listener {
    inner: TcpListener,
    places: Arc<Semaphore>,
    /// In the order of their coming.
    seats: VecDeque<Weak<Seat>>,
}

/// What the listener and a connection know of each other.
#[derive(Debug, Default)]
struct Seat {
    /// An answer is under way.
    answering: AtomicBool,
    /// Another connection needs the place.
    wanted: AtomicBool,
    waker: AtomicWaker,
}

impl Listener {
    /// Takes over a bound socket. Needs a Tokio runtime.
    pub fn new(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Ok(Self { inner: TcpListener::from_std(socket)?, places, seats: VecDeque::new() })
    }

    /// A place; where there is none, the oldest connection without an answer under way gives up its own.
    async fn place(&mut self) -> OwnedSemaphorePermit {
        loop {
            if self.places.available_permits() == 0 {
                self.ask_for_one();
            }
            let place = Arc::clone(&self.places).acquire_owned();
            // The semaphore is never closed; if it were, there would be no place.
            if let Ok(Ok(place)) = tokio::time::timeout(FULL_PAUSE, place).await {
                return place;
            }
        }
    }

    fn ask_for_one(&mut self) {
        self.seats.retain(|seat| seat.strong_count() > 0);
        let mut seats = self.seats.iter().filter_map(Weak::upgrade);
        let oldest = seats.find(|seat| !seat.answering.load(Ordering::Relaxed));
        if let Some(seat) = oldest {
            seat.wanted.store(true, Ordering::Relaxed);
            seat.waker.wake();
        }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.inner.accept().await {
                Ok((stream, peer)) => {
                    let place = self.place().await;
                    let seat = Arc::new(Seat::default());
                    self.seats.retain(|seat| seat.strong_count() > 0);
                    self.seats.push_back(Arc::downgrade(&seat));
                    return (Connection::new(stream, seat, place), peer);
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A socket with its place and its patience.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    phase: Phase,
    /// The phase's end at the latest.
    patience: Pin<Box<Sleep>>,
    seat: Arc<Seat>,
    _place: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Head,
    Answer,
}

impl Connection {
    fn new(stream: TcpStream, seat: Arc<Seat>, place: OwnedSemaphorePermit) -> Self {
        let patience = Box::pin(tokio::time::sleep(IDLE_MAX));
        Self { stream, phase: Phase::Idle, patience, seat, _place: place }
    }

    fn enter(&mut self, phase: Phase) {
        if self.phase == phase {
            return;
        }
        self.phase = phase;
        self.seat.answering.store(phase == Phase::Answer, Ordering::Relaxed);
        let most = match phase {
            Phase::Idle => IDLE_MAX,
            Phase::Head => HEAD_MAX,
            Phase::Answer => ANSWER_MAX,
        };
        self.patience.as_mut().reset(Instant::now() + most);
    }

    /// Ready when the connection must go.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.seat.waker.register(cx.waker());
        if self.phase != Phase::Answer && self.seat.wanted.load(Ordering::Relaxed) {
            return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
        }
        self.patience.as_mut().poll(cx).map(|()| io::ErrorKind::TimedOut.into())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Poll::Ready(why) = this.poll_over(cx) {
            return Poll::Ready(Err(why));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        // What comes while an answer leaves is the next request's, whose time begins after it.
        if buf.filled().len() > before && this.phase == Phase::Idle {
            this.enter(Phase::Head);
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.enter(Phase::Answer);
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        match written {
            Poll::Pending => this.poll_over(cx).map(Err),
            ready => ready,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        if flushed.is_ready() && this.phase == Phase::Answer {
            this.enter(Phase::Idle);
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_phase_has_its_time_once() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(socket.local_addr().unwrap()).await.unwrap();
        let place = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let stream = socket.accept().await.unwrap().0;
        let mut connection = Connection::new(stream, Arc::default(), place);
        let mut times = Vec::new();
        for byte in *b"GET" {
            client.write_all(&[byte]).await.unwrap();
            connection.read_exact(&mut [0]).await.unwrap();
            assert_eq!(connection.phase, Phase::Head);
            times.push(connection.patience.deadline());
        }
        assert!(times.iter().all(|time| *time == times[0]));
        connection.write_all(b"HTTP").await.unwrap();
        assert!(connection.seat.answering.load(Ordering::Relaxed));
        connection.seat.wanted.store(true, Ordering::Relaxed);
        connection.flush().await.unwrap();
        assert_eq!(connection.phase, Phase::Idle);
        assert!(connection.read(&mut [0]).await.is_err(), "it gives way after its answer");
    }
}
