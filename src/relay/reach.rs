//! Getting a connection to an endpoint: one that rests in its pool, or a fresh one.

use crate::config::plan::EndpointId;
use crate::lifecycle::kind::Kind;
use crate::relay::core::{Core, Epoch};
use crate::runtime::clock::Instant;
use crate::upstream::connection::Connection;
use crate::upstream::error::AttemptError;

/// A connection from the endpoint's pool.
pub fn pooled(epoch: &Epoch, id: EndpointId, now: Instant) -> Option<Box<Connection>> {
    let pooled = epoch.backend(id).checkout(now, epoch.plan().timeouts.upstream_idle)?;
    epoch.series().endpoints[usize::from(id.0)].reused.inc();
    Some(pooled)
}

/// A fresh connection.
pub async fn fresh(
    core: &Core,
    epoch: &Epoch,
    id: EndpointId,
) -> Result<Box<Connection>, AttemptError> {
    let endpoint = &epoch.plan().endpoints[usize::from(id.0)];
    let backend = epoch.backend(id);
    if backend.open() >= endpoint.connections_per_shard_max {
        return Err(AttemptError::AtCapacity);
    }
    let views = epoch.views();
    let view = views.endpoints.get(usize::from(id.0));
    let addresses = view.map_or(&[][..], |view| &view.addresses);
    let address = backend.next_address(addresses).ok_or(AttemptError::NoAddress)?;
    // Those that rest at other endpoints give way.
    let open = core.kit.ledgers.read(Kind::UpstreamConnection).outstanding;
    if open >= core.upstreams_max.get() {
        core.backends.close_idle();
    }
    let (tls, timeouts) = (endpoint.tls.as_ref(), &epoch.plan().timeouts);
    let opened = Connection::open(&core.kit, backend, address, tls, timeouts).await?;
    epoch.series().endpoints[usize::from(id.0)].connects.inc();
    Ok(opened)
}
