//! The floor: a raw byte relay over the same driver as the gateway. It accepts, connects, and moves bytes
//! both ways through 64 KiB buffers by one-shot operations. It knows no HTTP, so one connection to the
//! upstream stands behind each client's. Beside it, the same by multishot receives ([`multishot`]).

mod multishot;

use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Splitable};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use crate::Failure;

/// Bytes of the buffer of each direction.
const BUFFER_BYTES: usize = 64 * 1024;
/// Submission entries of the ring, as the gateway's default.
const RING_ENTRIES: u32 = 4096;

/// Relay bytes and do nothing else.
#[derive(Args)]
pub struct Floor {
    /// Where clients connect.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where each connection is relayed to.
    #[arg(long, value_name = "ADDRESS")]
    upstream: SocketAddr,
    /// The kernel interface.
    #[arg(long, value_enum, default_value = "uring")]
    driver: Relay,
}

/// How bytes are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Relay {
    /// One-shot operations on io_uring, by the gateway's own runtime.
    Uring,
    /// The same runtime on epoll.
    Epoll,
    /// Multishot receives on io_uring into provided buffers, by another runtime.
    Multishot,
}

/// Relays until killed, on this thread alone.
///
/// # Errors
/// The kernel's, when the driver cannot be built or the address is taken.
pub fn run(floor: &Floor) -> Result<(), Failure> {
    match floor.driver {
        Relay::Uring => {
            let mut ring = io_uring::IoUring::builder();
            ring.setup_coop_taskrun().setup_taskrun_flag();
            let builder = RuntimeBuilder::<IoUringDriver>::new().with_entries(RING_ENTRIES);
            builder.uring_builder(ring).enable_timer().build()?.block_on(accept(floor))
        }
        Relay::Epoll => {
            RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?.block_on(accept(floor))
        }
        Relay::Multishot => multishot::run(floor.listen, floor.upstream),
    }
}

async fn accept(floor: &Floor) -> Result<(), Failure> {
    let listener = TcpListener::bind(floor.listen)?;
    loop {
        let (client, _) = listener.accept().await?;
        drop(monoio::spawn(relay(client, floor.upstream)));
    }
}

async fn relay(client: TcpStream, upstream: SocketAddr) {
    let Ok(upstream) = TcpStream::connect_addr(upstream).await else { return };
    if client.set_nodelay(true).and(upstream.set_nodelay(true)).is_err() {
        return;
    }
    let (client_in, client_out) = client.into_split();
    let (upstream_in, upstream_out) = upstream.into_split();
    drop(monoio::spawn(copy(client_in, upstream_out)));
    copy(upstream_in, client_out).await;
}

/// Copies until either end fails; dropping the write half then ends the direction.
async fn copy(mut from: impl AsyncReadRent, mut to: impl AsyncWriteRent) {
    let mut buf = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let (read, filled) = from.read(buf).await;
        if !matches!(read, Ok(n) if n > 0) {
            return;
        }
        let (written, used) = to.write_all(filled).await;
        if written.is_err() {
            return;
        }
        buf = used;
    }
}
