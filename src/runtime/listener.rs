//! The listening socket: bound once for the whole process life, shared by a shard and its successors.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::SocketFlags;
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

/// Bytes that the kernel keeps for a client that is slow to take them. Without a bound it grows to megabytes
/// for each, and says that there is room again only when a third of them has left: a client that reads
/// steadily, but slowly, would look stuck.
const NOT_SENT_BYTES: u32 = 256 * 1024;
/// Connections the kernel may hold for us before they are accepted.
const BACKLOG: i32 = 4096;

/// Binds `count` sockets to one address, each with an accept queue of its own.
///
/// # Errors
/// `AddrInUse` also where another process shares its port (SO_REUSEPORT): a second gateway would
/// silently take a part of the traffic.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<OwnedFd>> {
    // Bound without SO_REUSEPORT first: that fails where any socket listens, sharing or not. With port 0
    // it also picks the port that the shared sockets then take.
    let probe = raw(address)?;
    probe.bind(&address.into())?;
    let address = probe.local_addr()?.as_socket().unwrap_or(address);
    drop(probe);
    (0..count).map(|_| listen(address)).collect()
}

fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = raw(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    super::socket::tune(socket.as_fd())?;
    socket.set_tcp_notsent_lowat(NOT_SENT_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn raw(address: SocketAddr) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// The address a socket of [`bind`] listens on.
///
/// # Errors
/// The kernel's.
pub fn address(fd: &OwnedFd) -> io::Result<SocketAddr> {
    let address = socket2::SockRef::from(fd).local_addr()?;
    address.as_socket().ok_or_else(|| io::Error::other("not an internet socket"))
}

/// A name that only one process of this network namespace can hold, like the port itself.
///
/// # Errors
/// `AddrInUse` when another instance holds it.
pub fn claim(address: SocketAddr) -> io::Result<OwnedFd> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
    let name = UnixAddr::from_abstract_name(format!("sluice/{address}"))?;
    Ok(UnixDatagram::bind_addr(&name)?.into())
}

/// A shard's accepting end.
pub struct Listener {
    accepting: OwnedFd,
    watch: monoio::net::TcpListener,
}

impl Listener {
    /// On the shard's thread; `fd` stays with the caller, so a restarted shard takes it up again.
    ///
    /// # Errors
    /// The kernel's, when descriptors are out.
    pub fn new(fd: &OwnedFd) -> io::Result<Self> {
        let watch = std::net::TcpListener::from(fd.try_clone()?);
        let watch = monoio::net::TcpListener::from_std(watch)?;
        Ok(Self { accepting: fd.try_clone()?, watch })
    }

    /// Waits until connections may be there.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn ready(&self) -> io::Result<()> {
        self.watch.readable(false).await
    }

    /// Stops listening: whoever waits for readiness is woken, later connections are refused.
    pub fn close(&self) {
        let _ = socket2::SockRef::from(&self.accepting).shutdown(std::net::Shutdown::Read);
    }

    /// Takes the next waiting connection, with its peer's address.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; `EMFILE` and the like.
    pub fn accept(&self) -> io::Result<(OwnedFd, SocketAddr)> {
        let (fd, peer) = rustix::net::acceptfrom_with(&self.accepting, SocketFlags::CLOEXEC)?;
        let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
        peer.map(|peer| (fd, peer)).ok_or_else(|| io::Error::other("not an internet peer"))
    }
}
