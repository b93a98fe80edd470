//! The floor by multishot receives: one operation brings all that ever comes on a connection, into buffers
//! that the kernel takes from a ring it shares. The gateway's runtime has none of that, so another one runs
//! it.

use std::io;
use std::net::SocketAddr;
use std::num::NonZero;

use compio_driver::{DriverType, ProactorBuilder};
use compio_io::{AsyncReadMulti, AsyncWrite, AsyncWriteExt};
use compio_net::{TcpListener, TcpStream};
use compio_runtime::{Runtime, spawn};
use futures_util::{StreamExt, pin_mut};

use super::{BUFFER_BYTES, RING_ENTRIES};
use crate::Failure;

/// Buffers that all connections share.
const BUFFERS: NonZero<u16> = NonZero::new(1024).expect("not zero");

/// Relays until killed, on this thread alone.
///
/// # Errors
/// The kernel's, when the ring cannot be built or the address is taken.
pub fn run(listen: SocketAddr, upstream: SocketAddr) -> Result<(), Failure> {
    let mut ring = ProactorBuilder::new();
    ring.driver_type(DriverType::IoUring).capacity(RING_ENTRIES);
    ring.coop_taskrun(true).taskrun_flag(true);
    ring.buffer_pool_size(BUFFERS).buffer_pool_buffer_len(BUFFER_BYTES);
    Runtime::builder().with_proactor(ring).build()?.block_on(accept(listen, upstream))
}

async fn accept(listen: SocketAddr, upstream: SocketAddr) -> Result<(), Failure> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (client, _) = listener.accept().await?;
        spawn(relay(client, upstream)).detach();
    }
}

async fn relay(client: TcpStream, upstream: SocketAddr) {
    let Ok(upstream) = TcpStream::connect(upstream).await else { return };
    if client.set_nodelay(true).and(upstream.set_nodelay(true)).is_err() {
        return;
    }
    let (client_in, client_out) = client.into_split();
    let (upstream_in, upstream_out) = upstream.into_split();
    spawn(copy(client_in, upstream_out)).detach();
    copy(upstream_in, client_out).await;
}

/// Copies until either end fails, then ends the direction.
async fn copy(mut from: TcpStream, mut to: TcpStream) {
    while shot(&mut from, &mut to).await.is_ok_and(|more| more) {}
    let _ = to.shutdown().await;
}

/// One receive, up to its end; whether another one is to follow, as the kernel had no buffer left.
async fn shot(from: &mut TcpStream, to: &mut TcpStream) -> io::Result<bool> {
    let received = from.read_multi(0);
    pin_mut!(received);
    while let Some(read) = received.next().await {
        match read {
            Ok(bytes) if bytes.is_empty() => return Ok(false),
            Ok(bytes) => to.write_all(bytes).await.0?,
            Err(error) if is_out_of_buffers(&error) => return Ok(true),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn is_out_of_buffers(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}
