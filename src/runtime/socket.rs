//! One TCP connection, kernel or twin.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use monoio::io::{AsyncReadRent, OwnedReadHalf};
use rustix::net::{RecvFlags, SendFlags};
use socket2::{SockRef, TcpKeepalive};

use super::buf::Buf;
use super::driver::{self, Kind};
use super::sys::{self, SharedStream};
#[cfg(any(test, feature = "twin"))]
use super::twin;

/// TCP keepalive: idle time before the first probe.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// TCP keepalive: time between probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// A connection. Clones are the same connection; it closes with the last clone and the last operation.
#[derive(Clone)]
pub struct Socket(Io);

#[derive(Clone)]
enum Io {
    Kernel(SharedStream),
    #[cfg(any(test, feature = "twin"))]
    Twin(twin::net::Socket),
}

/// A read under way. It owns the buffer until it is done; dropped early, the bytes it would have read
/// are lost, so that is done only to connections that are given up.
pub struct Reading(Pin<Box<dyn Future<Output = (io::Result<usize>, Buf)>>>);

/// A wait for room in the send buffer.
pub struct Draining(Pin<Box<dyn Future<Output = io::Result<()>>>>);

/// What a connection that should be silent says when looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    Silent,
    Readable,
    Closed,
}

impl Socket {
    /// Takes over an accepted connection.
    ///
    /// # Errors
    /// The kernel's, when the descriptor cannot be registered.
    pub fn from_accepted(fd: OwnedFd) -> io::Result<Self> {
        let stream = std::net::TcpStream::from(fd);
        stream.set_nonblocking(driver::current() == Kind::Epoll)?;
        let stream = monoio::net::TcpStream::from_std(stream)?;
        Ok(Self(Io::Kernel(SharedStream::new(stream))))
    }

    /// Connects. The one operation that may be dropped half way.
    ///
    /// # Errors
    /// The kernel's: refused, unreachable, out of descriptors.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        #[cfg(any(test, feature = "twin"))]
        if twin::active() {
            return twin::net::connect(address).await.map(|s| Self(Io::Twin(s)));
        }
        let stream = monoio::net::TcpStream::connect_addr(address).await?;
        let shared = SharedStream::new(stream);
        tune(shared.fd())?;
        Ok(Self(Io::Kernel(shared)))
    }

    /// A twin's end.
    #[cfg(any(test, feature = "twin"))]
    pub fn from_twin(socket: twin::net::Socket) -> Self {
        Self(Io::Twin(socket))
    }

    /// Starts a read that appends to `buf`, which must have room.
    pub fn read(&self, mut buf: Buf) -> Reading {
        if buf.room() == 0 {
            buf.compact();
        }
        assert!(buf.room() > 0, "a read without room would look like an end of file");
        match &self.0 {
            Io::Kernel(shared) => {
                let cell = shared.cell();
                Reading(Box::pin(async move { OwnedReadHalf(cell).read(buf).await }))
            }
            #[cfg(any(test, feature = "twin"))]
            Io::Twin(socket) => Reading(Box::pin(socket.clone().read(buf))),
        }
    }

    /// Sends what fits now.
    ///
    /// # Errors
    /// `WouldBlock` when nothing fits; else the connection is broken.
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Io::Kernel(shared) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                Ok(rustix::net::send(shared.fd(), bytes, flags)?)
            }
            #[cfg(any(test, feature = "twin"))]
            Io::Twin(socket) => socket.try_send(bytes),
        }
    }

    /// Sends what fits now of several pieces, in order.
    ///
    /// # Errors
    /// As [`Socket::try_send`].
    pub fn try_send_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.0 {
            Io::Kernel(shared) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                let mut control = rustix::net::SendAncillaryBuffer::default();
                Ok(rustix::net::sendmsg(shared.fd(), pieces, &mut control, flags)?)
            }
            #[cfg(any(test, feature = "twin"))]
            Io::Twin(socket) => match pieces.iter().find(|piece| !piece.is_empty()) {
                Some(piece) => socket.try_send(piece),
                None => Ok(0),
            },
        }
    }

    /// Starts a wait for room in the send buffer.
    pub fn drained(&self) -> Draining {
        match &self.0 {
            Io::Kernel(shared) => Draining(Box::pin(shared.clone().writable())),
            #[cfg(any(test, feature = "twin"))]
            Io::Twin(socket) => Draining(Box::pin(socket.clone().drained())),
        }
    }

    /// Ends one or both directions at once; operations under way complete by themselves.
    pub fn shutdown(&self, how: Shutdown) {
        match &self.0 {
            Io::Kernel(shared) => {
                let _ = SockRef::from(&shared.fd()).shutdown(how);
            }
            #[cfg(any(test, feature = "twin"))]
            Io::Twin(socket) => socket.shutdown(how),
        }
    }

    /// Looks at a connection without taking anything from it.
    pub fn pulse(&self) -> Pulse {
        match &self.0 {
            Io::Kernel(shared) => {
                let mut byte = [0u8; 1];
                let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
                match rustix::net::recv(shared.fd(), &mut byte, flags) {
                    Ok((0, _)) => Pulse::Closed,
                    Ok(_) => Pulse::Readable,
                    Err(rustix::io::Errno::AGAIN) => Pulse::Silent,
                    Err(_) => Pulse::Closed,
                }
            }
            #[cfg(any(test, feature = "twin"))]
            Io::Twin(socket) => socket.pulse(),
        }
    }

    /// Whether the peer is still connected both ways, as far as the kernel knows: for a client whose early
    /// bytes fill their bound, so that nobody reads and a close cannot be read either.
    pub fn established(&self) -> bool {
        match &self.0 {
            Io::Kernel(shared) => sys::tcp_established(shared.fd()),
            #[cfg(any(test, feature = "twin"))]
            Io::Twin(socket) => socket.established(),
        }
    }
}

impl Future for Reading {
    type Output = (io::Result<usize>, Buf);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl Future for Draining {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

/// No Nagle, and keepalive probes, on a connection of either side. Accepted ones inherit both.
pub(super) fn tune(fd: BorrowedFd<'_>) -> io::Result<()> {
    let socket = SockRef::from(&fd);
    socket.set_tcp_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)
}
