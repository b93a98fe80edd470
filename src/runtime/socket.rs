//! One TCP connection, kernel or twin.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use monoio::io::{AsyncReadRent, OwnedReadHalf};
use rustix::net::{RecvFlags, SendFlags};
use socket2::{SockRef, TcpKeepalive};

use super::buf::Buf;
use super::driver::{self, Kind};
use super::nudge::Nudges;
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

/// The reading side of a connection: one read at a time, in memory that is allocated once.
///
/// A read under way owns its buffer until it is done; dropped early, the bytes it would have read are
/// lost, so that is done only to connections that are given up.
pub struct Reader {
    /// Takes a buffer from the port, reads into it, puts it back, and so on.
    pump: Pin<Box<dyn Future<Output = ()>>>,
    port: Rc<Port>,
    armed: bool,
    /// Of the read under way.
    nudges: Nudges,
}

/// Between a [`Reader`] and its pump.
#[derive(Default)]
struct Port {
    wanted: Cell<Option<Buf>>,
    done: Cell<Option<(io::Result<usize>, Buf)>>,
}

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

    /// The reading side; a connection has one.
    pub fn reader(&self) -> Reader {
        let port = Rc::new(Port::default());
        let pump: Pin<Box<dyn Future<Output = ()>>> = match &self.0 {
            Io::Kernel(shared) => Box::pin(pump(OwnedReadHalf(shared.cell()), port.clone())),
            #[cfg(any(test, feature = "twin"))]
            Io::Twin(socket) => Box::pin(twin_pump(socket.clone(), port.clone())),
        };
        Reader { pump, port, armed: false, nudges: Nudges::new() }
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

    /// Makes the close a reset: the peer must not take what it has got for all there is.
    pub fn reset_at_close(&self) {
        match &self.0 {
            Io::Kernel(shared) => {
                let _ = SockRef::from(&shared.fd()).set_linger(Some(Duration::ZERO));
            }
            #[cfg(any(test, feature = "twin"))]
            Io::Twin(socket) => socket.shutdown(Shutdown::Both),
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

async fn pump(mut half: OwnedReadHalf<monoio::net::TcpStream>, port: Rc<Port>) {
    loop {
        let buf = poll_fn(|_| wanted(&port)).await;
        port.done.set(Some(half.read(buf).await));
    }
}

#[cfg(any(test, feature = "twin"))]
async fn twin_pump(socket: twin::net::Socket, port: Rc<Port>) {
    loop {
        let buf = poll_fn(|_| wanted(&port)).await;
        port.done.set(Some(socket.clone().read(buf).await));
    }
}

fn wanted(port: &Port) -> Poll<Buf> {
    port.wanted.take().map_or(Poll::Pending, Poll::Ready)
}

impl Reader {
    /// Whether a read is under way.
    pub fn armed(&self) -> bool {
        self.armed
    }

    /// Starts a read that appends to `buf`, which must have room. It is under way from the next poll on.
    ///
    /// # Panics
    /// While another is under way.
    pub fn arm(&mut self, mut buf: Buf) {
        if buf.room() == 0 {
            buf.compact();
        }
        assert!(buf.room() > 0, "a read without room would look like an end of file");
        assert!(!self.armed, "one read at a time");
        self.port.wanted.set(Some(buf));
        self.armed = true;
        self.nudges.give();
    }

    /// Whether a read is under way and nothing has come of it yet.
    #[inline]
    pub fn quiet(&self) -> bool {
        self.armed && !self.nudges.given()
    }

    /// Whether polling for `task` would change nothing.
    #[inline]
    pub fn waits_for(&self, task: &Waker) -> bool {
        self.quiet() && self.nudges.wakes(task)
    }

    /// Ready when the read that is under way is over.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(io::Result<usize>, Buf)> {
        if self.nudges.take() {
            let _ = self.pump.as_mut().poll(&mut self.nudges.context());
            if let Some(done) = self.port.done.take() {
                self.armed = false;
                return Poll::Ready(done);
            }
        }
        self.nudges.follow(cx.waker());
        Poll::Pending
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
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)
}
