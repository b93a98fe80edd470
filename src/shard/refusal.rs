//! Connections that are one too many: told so, and let go without a reset that would eat the message.

use std::future::poll_fn;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;

use crate::http::wire::Wire;
use crate::http::write;
use crate::relay::core::Core;
use crate::runtime::clock;
use crate::runtime::socket::Socket;
use crate::runtime::task;
use crate::runtime::wheel::Due;
use crate::shard::connection::Clients;
use crate::shard::handles::Handle;

/// What one of them may still send, bytes.
const DRAINED_BYTES_MAX: usize = 1024 * 1024;

/// What a client gets that is one too many. It is not read from, so its request is not known.
const HEAD: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
retry-after: 1\r\nconnection: close\r\n";
const BODY: &[u8] = b"{\"error\":{\"message\":\"The gateway has too many connections.\",\
\"type\":\"server_error\",\"param\":null,\"code\":\"overloaded\"}}";

/// Tells a client of a plain connection that there are too many, and ends it.
pub fn refuse(clients: &Clients, socket: Socket, peer: SocketAddr) {
    // A fresh connection's send buffer is empty, so all of it fits.
    let _ = socket.try_send(&answer());
    socket.shutdown(Shutdown::Write);
    if clients.refused.count() < clients.room().refused
        && let Some(handle) = clients.refused.enter(socket.clone(), peer.ip(), 0)
    {
        task::spawn(linger(clients.core.clone(), socket, handle));
    }
}

fn answer() -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD.len() + BODY.len() + 72);
    out.extend_from_slice(HEAD);
    write::date(&mut out, clock::unix_seconds());
    out.extend_from_slice(b"content-length: ");
    write::number(&mut out, BODY.len() as u64);
    out.extend_from_slice(b"\r\n");
    write::end_of_head(&mut out);
    out.extend_from_slice(BODY);
    out
}

async fn linger(core: Rc<Core>, socket: Socket, _handle: Handle) {
    let deadline = core.kit.wheel.deadline(Some((socket.clone(), Shutdown::Both)));
    deadline.set(Due::Linger, clock::now(), core.epoch().plan().timeouts.linger);
    let mut wire = Wire::plain(socket, core.kit.pool.clone());
    let mut drained = 0;
    while drained < DRAINED_BYTES_MAX {
        match poll_fn(|cx| wire.poll_fill(cx)).await {
            Ok(n) if n > 0 => drained += n,
            _ => break,
        }
        wire.input().clear();
    }
    wire.abort();
}
