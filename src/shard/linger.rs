//! Lingering close: an answer that ends the connection must not be eaten by a reset.

use std::future::poll_fn;
use std::time::Duration;

use crate::shard::http1::Http1;

/// What a client may still send while its connection is being closed, bytes: twice what a body may have by
/// default, for clients that look for an answer only after they have sent everything.
const DRAINED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Shuts the write side, reads on within bounds until the client ends too, and only then lets go.
pub async fn close(mut client: Http1, patience: Duration) {
    if client.is_gone() {
        client.wire.abort();
        return;
    }
    if client.must_reset() {
        client.wire.socket().reset_at_close();
        return;
    }
    client.wire.finish();
    client.linger_until(patience);
    let mut drained = 0;
    while drained < DRAINED_BYTES_MAX {
        if !client.wire.input_is_the_kernels() {
            client.wire.input().clear();
        }
        if client.wire.last_read_filled() {
            client.wire.widen();
        }
        match poll_fn(|cx| client.wire.poll_fill(cx)).await {
            Ok(n) if n > 0 => drained += n,
            _ => break,
        }
    }
    client.wire.abort();
}
