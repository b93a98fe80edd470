//! The task that asks one endpoint for its metrics again and again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};

use super::reading::{Reading, read};
use crate::config::plan::{Endpoint, EndpointId};
use crate::control::client::{Ask, Client};
use crate::control::event::Event;
use crate::control::fleet::Addresses;

/// What a page of metrics may hold, bytes: a vLLM server with many models writes some 100 KB.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// An endpoint that does not answer is asked less often: so many times the usual pause.
const PAUSE_AFTER_FAILURE: u32 = 4;

/// Asks one endpoint.
pub struct Scraper {
    pub generation: u64,
    pub id: EndpointId,
    pub endpoint: Endpoint,
    pub addresses: watch::Receiver<Addresses>,
    pub places: Arc<Semaphore>,
    pub events: mpsc::Sender<Event>,
    pub every: Duration,
    pub patience: Duration,
}

impl Scraper {
    /// Runs until it is aborted, or nobody wants to know any more.
    pub async fn run(mut self) {
        let Some(path) = self.endpoint.metrics_path.clone() else { return };
        let ask = Ask { path, body: None, answer_bytes_max: PAGE_BYTES_MAX };
        let mut client = Client::new(self.endpoint.clone());
        for round in 0usize.. {
            let addresses = Arc::clone(&self.addresses.borrow_and_update());
            let reading = self.ask(&mut client, &addresses, round, &ask).await;
            let pause =
                if reading.is_some() { self.every } else { self.every * PAUSE_AFTER_FAILURE };
            let event = Event::Scraped { generation: self.generation, id: self.id, reading };
            if self.events.send(event).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn ask(
        &self,
        client: &mut Client,
        addresses: &[std::net::SocketAddr],
        round: usize,
        ask: &Ask,
    ) -> Option<Reading> {
        let _place = self.places.acquire().await.ok()?;
        let answer = client.ask(addresses, round, self.patience, ask).await.ok()?;
        let page = std::str::from_utf8(&answer.body).ok().filter(|_| answer.status == 200)?;
        read(page)
    }
}
