//! One question to one endpoint: do you live?
//!
//! A GET of the health path over a connection of its own, answered with 2xx; where there is no
//! health path, a connection with its TLS handshake. Only the answer's status counts.

use std::net::SocketAddr;
use std::time::Duration;

use super::client::{Ask, Client};
use crate::config::plan::Endpoint;

/// Probes addresses in turn, beginning with the `round`-th, until one answers. `patience` is for
/// all of them together. The error is the last address's.
pub async fn probe(
    endpoint: &Endpoint,
    addresses: &[SocketAddr],
    round: usize,
    patience: Duration,
) -> Result<(), String> {
    let Some(path) = &endpoint.health_path else {
        return Client::new(endpoint.clone()).reaches(addresses, round, patience).await;
    };
    let ask = Ask { path: path.clone(), body: None, answer_bytes_max: 0 };
    let answer = Client::new(endpoint.clone()).ask(addresses, round, patience, &ask).await?;
    match answer.status {
        200..=299 => Ok(()),
        status => Err(format!("status {status}")),
    }
}
