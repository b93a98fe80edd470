//! The lease on an upstream stream and the GPU slot behind it.

use std::rc::Rc;

use super::backend::Backend;
use super::connection::Connection;
use crate::config::plan::EndpointId;
use crate::lifecycle::permit::{ModelSlot, Permit, UpstreamStream};
use crate::runtime::clock::Instant;
use crate::telemetry::Series;
use std::sync::Arc;

/// A request's claim on an endpoint. Dropping it shuts the connection down at once, which is how an engine
/// learns that it must stop; a shutdown cannot fail for lack of room, so no queue stands behind it.
/// [`Lease::finish`] is the only way back to the pool.
#[must_use = "dropping a lease aborts the upstream"]
pub struct Lease {
    pub endpoint: EndpointId,
    series: Arc<Series>,
    /// Until the claim has ended.
    claim: Option<Claim>,
}

/// What is claimed.
struct Claim {
    connection: Option<Box<Connection>>,
    _stream: Permit<UpstreamStream>,
    _slot: Permit<ModelSlot>,
}

impl Lease {
    /// Takes the claim. `connection` comes later: the slot is counted while connecting, too.
    pub fn take(
        kit: &crate::runtime::kit::Kit,
        series: &Arc<Series>,
        endpoint: EndpointId,
    ) -> Option<Lease> {
        let stream = kit.ledgers.take::<UpstreamStream>(1)?;
        let slot = kit.ledgers.take::<ModelSlot>(1)?;
        let counts = &series.endpoints[usize::from(endpoint.0)];
        counts.in_flight.add(1);
        counts.attempts.inc();
        let series = series.clone();
        let claim = Claim { connection: None, _stream: stream, _slot: slot };
        Some(Lease { endpoint, series, claim: Some(claim) })
    }

    /// Puts the connection in place, closing one that was there.
    pub fn hold(&mut self, connection: Box<Connection>) {
        if let Some(claim) = &mut self.claim {
            claim.connection = Some(connection);
        }
    }

    /// The connection.
    ///
    /// # Panics
    /// Before [`Lease::hold`] and after [`Lease::finish`].
    pub fn connection(&mut self) -> &mut Connection {
        let connection = self.claim.as_mut().and_then(|claim| claim.connection.as_mut());
        connection.expect("a lease is used while its connection is there")
    }

    /// Ends the claim cleanly, once the answer has come: the connection goes back to its pool, if it may
    /// carry another request. A client that still has to take the answer's end keeps no endpoint busy.
    pub fn finish(&mut self, now: Instant) {
        let Some(mut connection) = self.end().and_then(|claim| claim.connection) else { return };
        if connection.reusable() && connection.rest() {
            let backend: Rc<Backend> = connection.backend().clone();
            let keep_alive_s = connection.head.keep_alive_timeout_s;
            backend.put_back(connection, keep_alive_s, now);
        }
    }

    fn end(&mut self) -> Option<Claim> {
        let claim = self.claim.take()?;
        self.series.endpoints[usize::from(self.endpoint.0)].in_flight.sub(1);
        Some(claim)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The connection's own drop shuts it down.
        drop(self.end());
    }
}
