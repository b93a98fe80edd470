//! The endpoints of the present plan: where they are and whether they live.
//!
//! Every endpoint has a task that probes it; names are asked in the background. What is known about
//! an endpoint outlives a reload as long as its address, name and TLS stay the same.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::AbortHandle;

use super::Pace;
use super::engine::reading::Reading;
use super::engine::scrape::Scraper;
use super::engine::watched::Watched;
use super::event::Event;
use super::health::{self, Health};
use super::kv;
use super::kv::keeper::{Door, Input};
use super::kv::subscriber::Subscriber;
use super::kv::tokens::Engine;
use super::names::{self, Answer, Names};
use super::probe::probe;
use crate::admin::EndpointState;
use crate::admin::state::EngineState;
use crate::config::Plan;
use crate::config::plan::{Endpoint, EndpointId, KvEvents};
use crate::route::views::{EndpointView, Views};
use crate::telemetry::say;

/// Probes under way at once.
const PROBES_MAX: usize = 256;
/// What an engine said holds for so many pauses between two looks at it.
const SCRAPES_UNTIL_STALE: u32 = 8;

pub(super) type Addresses = Arc<[SocketAddr]>;

/// All endpoints of one plan.
#[derive(Debug)]
pub struct Fleet {
    plan: Arc<Plan>,
    /// By [`EndpointId`].
    endpoints: Vec<Tracked>,
    names: Names,
    places: Arc<Semaphore>,
    events: mpsc::Sender<Event>,
    /// To the keeper of what engines tell of their caches.
    kv: Door,
    /// One for each engine that tells.
    listening: Vec<Listening>,
    pace: Pace,
}

#[derive(Debug)]
struct Tracked {
    identity: u64,
    health: Health,
    engine: Watched,
    addresses: watch::Sender<Addresses>,
    tasks: [AbortHandle; 2],
}

/// A subscription to what an engine tells of its cache.
#[derive(Debug)]
struct Listening {
    identity: u64,
    source: KvEvents,
    task: AbortHandle,
}

impl Listening {
    fn is_to(&self, engine: &Engine) -> bool {
        let same = engine.endpoint.kv_events.as_ref() == Some(&self.source);
        self.identity == engine.identity && same && !self.task.is_finished()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Fleet {
    /// Begins to probe and to resolve. Needs a Tokio runtime.
    pub fn new(plan: Arc<Plan>, events: mpsc::Sender<Event>, kv: Door, pace: Pace) -> Self {
        let mut fleet = Self {
            plan: Arc::clone(&plan),
            endpoints: Vec::new(),
            names: Names::new(pace.names),
            places: Arc::new(Semaphore::new(PROBES_MAX)),
            events,
            kv,
            listening: Vec::new(),
            pace,
        };
        fleet.adopt(plan);
        fleet
    }

    /// Goes over to a new plan.
    pub fn adopt(&mut self, plan: Arc<Plan>) {
        self.names.adopt(&plan, Instant::now());
        let known: HashMap<u64, (Health, Watched)> = self
            .endpoints
            .iter()
            .map(|one| (one.identity, (one.health, one.engine.clone())))
            .collect();
        self.endpoints = (0..)
            .zip(&plan.endpoints)
            .map(|(id, endpoint)| {
                let known = known.get(&endpoint.identity).cloned().unwrap_or_default();
                self.track(&plan, EndpointId(id), endpoint, known)
            })
            .collect();
        self.plan = plan;
        self.listen();
        self.ask_names();
    }

    /// Listens to the engines that tell of their caches. Whom it listens to already is not interrupted: what
    /// is told meanwhile would be lost.
    fn listen(&mut self) {
        let engines =
            kv::tokens::engines(&self.plan, |at| self.endpoints[at].addresses.subscribe());
        // Those that go leave their addresses before others come to them.
        self.listening.retain(|known| engines.iter().any(|engine| known.is_to(engine)));
        let (door, listening) = (self.kv.clone(), &mut self.listening);
        for engine in &engines {
            let (name, identity) = (engine.endpoint.name.clone(), engine.identity);
            let Some(source) = engine.endpoint.kv_events.clone() else { continue };
            if listening.iter().any(|known| known.is_to(engine)) {
                continue;
            }
            let subscriber = Subscriber::new(name, source.clone(), identity, door.clone());
            let task = tokio::spawn(subscriber.run()).abort_handle();
            listening.push(Listening { identity, source, task });
        }
        tokio::spawn(async move {
            // The keeper goes only with the process.
            let _ = door.send(Input::Engines(engines)).await;
        });
    }

    fn track(
        &self,
        plan: &Plan,
        id: EndpointId,
        endpoint: &Endpoint,
        (health, engine): (Health, Watched),
    ) -> Tracked {
        let (addresses, watched) = watch::channel(self.names.addresses(&endpoint.authority));
        let scraper = Scraper {
            generation: plan.generation,
            id,
            endpoint: endpoint.clone(),
            addresses: watched.clone(),
            places: Arc::clone(&self.places),
            events: self.events.clone(),
            every: plan.routing.engine_metrics,
            patience: self.pace.scrape_patience,
        };
        let prober = Prober {
            generation: plan.generation,
            id,
            endpoint: endpoint.clone(),
            addresses: watched,
            places: Arc::clone(&self.places),
            events: self.events.clone(),
            pace: self.pace,
        };
        let probing = tokio::spawn(prober.run()).abort_handle();
        let scraping = tokio::spawn(scraper.run()).abort_handle();
        let tasks = [probing, scraping];
        Tracked { identity: endpoint.identity, health, engine, addresses, tasks }
    }

    /// Asks the names that are due.
    pub fn ask_names(&mut self) {
        for name in self.names.due(Instant::now()) {
            let events = self.events.clone();
            tokio::spawn(async move {
                let (host, port) = (&*name.0, name.1);
                let result = tokio::net::lookup_host((host, port)).await;
                let result = result.map(Iterator::collect).map_err(|e| e.to_string());
                // Nobody listens any more only when the process ends.
                let _ = events.send(Event::Resolved(Answer { name, result })).await;
            });
        }
    }

    /// Takes a name's answer in; true if shards must hear of it.
    pub fn resolved(&mut self, answer: Answer) -> bool {
        let name = answer.name.0.clone();
        let why = answer.result.as_ref().err().cloned().unwrap_or_else(|| "no addresses".into());
        match self.names.answered(answer, Instant::now()) {
            names::Change::None => return false,
            names::Change::BeganToFail => {
                say::warn("name does not resolve", &[("name", &name), ("why", &why)]);
                return false;
            }
            names::Change::Moved => {}
        }
        for (tracked, endpoint) in self.endpoints.iter().zip(&self.plan.endpoints) {
            let now = self.names.addresses(&endpoint.authority);
            tracked.addresses.send_if_modified(|held| {
                let moved = *held != now;
                *held = now;
                moved
            });
        }
        true
    }

    /// Takes a probe's result in; true if shards or the admin listener must hear of it.
    pub fn probed(&mut self, generation: u64, id: EndpointId, result: &Result<(), String>) -> bool {
        let at = usize::from(id.0);
        let of_this_plan = generation == self.plan.generation;
        let Some(tracked) = self.endpoints.get_mut(at).filter(|_| of_this_plan) else {
            return false;
        };
        let change = tracked.health.observe(result.is_ok());
        let name = &self.plan.endpoints[at].name;
        match (change, result) {
            (health::Change::None, _) => return false,
            (health::Change::WentDown, Err(why)) => {
                say::warn("endpoint is down", &[("endpoint", name), ("why", why)]);
            }
            _ => say::info("endpoint is up", &[("endpoint", name)]),
        }
        true
    }

    /// Takes a look at an engine in; true if shards must hear of it.
    pub fn scraped(&mut self, generation: u64, id: EndpointId, reading: Option<Reading>) -> bool {
        let stale_after = self.plan.routing.engine_metrics * SCRAPES_UNTIL_STALE;
        let of_this_plan = generation == self.plan.generation;
        let tracked = self.endpoints.get_mut(usize::from(id.0)).filter(|_| of_this_plan);
        tracked.is_some_and(|one| {
            let probed = (one.health.usable(), one.health.returns());
            one.engine.observe(reading, probed, Instant::now(), stale_after)
        })
    }

    /// What the admin listener shows of engines, by [`EndpointId`].
    pub fn engines(&self) -> Vec<Option<EngineState>> {
        self.endpoints.iter().map(|one| one.engine.state()).collect()
    }

    /// What shards get.
    pub fn views(&self) -> Arc<Views> {
        let view = |tracked: &Tracked| EndpointView {
            addresses: tracked.addresses.borrow().to_vec(),
            healthy: tracked.health.usable(),
            returns: tracked.health.returns().wrapping_add(tracked.engine.restarts()),
            engine: tracked.engine.view().cloned(),
        };
        let endpoints = self.endpoints.iter().map(view).collect();
        Arc::new(Views { generation: self.plan.generation, endpoints })
    }

    /// What the admin listener shows, by [`EndpointId`].
    pub fn states(&self) -> Vec<EndpointState> {
        let state = |one: &Tracked| one.health.state(!one.addresses.borrow().is_empty());
        self.endpoints.iter().map(state).collect()
    }
}

/// The task that asks one endpoint again and again.
struct Prober {
    generation: u64,
    id: EndpointId,
    endpoint: Endpoint,
    addresses: watch::Receiver<Addresses>,
    places: Arc<Semaphore>,
    events: mpsc::Sender<Event>,
    pace: Pace,
}

impl Prober {
    /// Runs until it is aborted, or nobody wants to know any more. New addresses are probed at
    /// once.
    async fn run(mut self) {
        for round in 0usize.. {
            let addresses = Arc::clone(&self.addresses.borrow_and_update());
            if !addresses.is_empty() && !self.ask(&addresses, round).await {
                return;
            }
            let pause = match addresses.is_empty() {
                true => self.addresses.changed().await.map_err(drop),
                false => {
                    let changed = self.addresses.changed();
                    let waited = tokio::time::timeout(self.pace.probe_every, changed).await;
                    waited.unwrap_or(Ok(())).map_err(drop)
                }
            };
            if pause.is_err() {
                return;
            }
        }
    }

    /// One probe, reported; false if nobody listens.
    async fn ask(&self, addresses: &[SocketAddr], round: usize) -> bool {
        let Ok(_place) = self.places.acquire().await else { return false };
        let result = probe(&self.endpoint, addresses, round, self.pace.probe_patience).await;
        let event = Event::Probed { generation: self.generation, id: self.id, result };
        self.events.send(event).await.is_ok()
    }
}
