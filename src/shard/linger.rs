//! Lingering close: an answer that ends the connection must not be eaten by a reset.

use std::future::poll_fn;

use crate::config::plan::Timeouts;
use crate::runtime::clock;
use crate::runtime::wheel::Due;
use crate::shard::http1::Http1;

/// What a client may still send while its connection is being closed, bytes.
const DRAINED_BYTES_MAX: usize = 256 * 1024;

/// Shuts the write side, reads on within bounds until the client ends too, and only then lets go.
pub async fn close(mut client: Http1, timeouts: &Timeouts) {
    if client.is_gone() {
        client.wire.abort();
        return;
    }
    client.wire.finish();
    client.deadline.set(Due::Linger, clock::now(), timeouts.linger);
    let mut drained = 0;
    while drained < DRAINED_BYTES_MAX {
        if !client.wire.input_is_the_kernels() {
            client.wire.input().clear();
        }
        match poll_fn(|cx| client.wire.poll_fill(cx)).await {
            Ok(n) if n > 0 => drained += n,
            _ => break,
        }
    }
    client.wire.abort();
}
