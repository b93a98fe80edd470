//! The control loop: one event at a time, in one place.

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::bank::{Bank, Doorbell, Rings};
use super::event::Event;
use super::fleet::Fleet;
use super::kv::keeper;
use super::outbox::Outbox;
use super::phase::Phase;
use super::pulse::Pulse;
use super::reload::{self, Decision, Loaded};
use super::rows::Writers;
use super::signals::Signals;
use super::watch::{Reader, Settling, Snapshot};
use super::{Config, Exit, Pace};
use crate::admin::{self, Shared};
use crate::config::{self, Plan};
use crate::route::views::Views;
use crate::shard::link;
use crate::telemetry::say;

/// The loop's own tick: how late a refused command is sent again, or the end of a drain seen.
const TICK: Duration = Duration::from_millis(20);

/// Everything the loop owns.
pub struct Conductor {
    path: Option<PathBuf>,
    plan: Arc<Plan>,
    pace: Pace,
    phase: Phase,
    shared: Shared,
    fleet: Fleet,
    bank: Bank,
    outboxes: Vec<Outbox>,
    writers: Writers,
    pulse: Pulse,
    files: Files,
    rings: Rings,
    events: mpsc::Sender<Event>,
    /// Engines said something new: shards hear of it with the next tick, of all of them together.
    views_changed: bool,
    /// Engines were looked at since the last tick.
    engines_read: bool,
}

/// The watch over the configuration's files.
struct Files {
    settling: Settling,
    /// `None` while a look is under way.
    reader: Option<Reader>,
    next_look: Instant,
    loading: bool,
    /// A reload was asked for during a load.
    again: bool,
    /// Why the last file was refused, and when to try it again.
    refused: Option<(String, Instant)>,
}

impl Conductor {
    /// Starts everything that runs beside the loop. Needs a Tokio runtime.
    pub fn new(
        config: Config,
        admin: Option<TcpListener>,
        doorbell: Doorbell,
        events: mpsc::Sender<Event>,
    ) -> io::Result<Self> {
        let Config { origin, plan, registry, links, precise, pace } = config;
        let (path, snapshot) = origin.map(|one| (one.path, one.snapshot)).unzip();
        let writers = Writers::start(&registry.rows, &plan.log)?;
        let mut bank = Bank::default();
        bank.adopt(&plan, &registry);
        let bells = links.iter().map(|link| Arc::clone(&link.ring));
        let lanes = precise.into_iter().zip(bells).collect();
        let kv = keeper::start(lanes, Arc::clone(&registry.kv));
        let shared = Shared::new(Arc::clone(&plan), registry);
        if let Some(socket) = admin {
            let listener = admin::listener::Listener::new(socket)?;
            let app = admin::routes::router(shared.clone());
            tokio::spawn(async move { axum::serve(listener, app).await });
        }
        Ok(Self {
            rings: doorbell.listen()?,
            bank,
            files: Files::new(snapshot.unwrap_or_default()),
            fleet: Fleet::new(Arc::clone(&plan), events.clone(), kv, pace),
            pulse: Pulse::new(links.len(), Instant::now()),
            outboxes: links.into_iter().map(Outbox::new).collect(),
            phase: Phase::Serving,
            path,
            plan,
            pace,
            shared,
            writers,
            events,
            views_changed: false,
            engines_read: false,
        })
    }

    /// Runs until the process should end.
    pub async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut orders: mpsc::Receiver<Event>,
        mut signals: Signals,
    ) -> Exit {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        say::info("control plane runs", &[("generation", &self.plan.generation)]);
        self.publish_views();
        while self.phase != Phase::Over {
            tokio::select! {
                Some(event) = events.recv() => self.react(event),
                Some(order) = orders.recv() => self.react(order),
                event = signals.next() => self.react(event),
                () = self.rings.rung() => self.balance(),
                _ = tick.tick() => self.tick(),
            }
        }
        self.end().await
    }

    fn react(&mut self, event: Event) {
        match event {
            Event::Probed { generation, id, result } => {
                if self.fleet.probed(generation, id, &result) {
                    self.publish_views();
                }
            }
            Event::Scraped { generation, id, reading } => {
                self.views_changed |= self.fleet.scraped(generation, id, reading);
                self.engines_read = true;
            }
            Event::Resolved(answer) => {
                if self.fleet.resolved(answer) {
                    self.publish_views();
                }
            }
            Event::Looked { reader, snapshot } => self.looked(reader, snapshot),
            Event::Loaded(loaded) => self.loaded(*loaded),
            Event::Reload => {
                self.writers.reopen();
                self.reload();
            }
            Event::Stop => self.stop(),
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let states: Vec<_> = self.shared.with(|state| {
            let shards = &state.registry.shards;
            for (outbox, shard) in self.outboxes.iter_mut().zip(shards.iter()) {
                outbox.restarted(shard.restarts.get());
                outbox.flush();
            }
            let explained_max = state.plan.routing.explained_requests_max;
            state.explained.gather(&state.registry.explained, explained_max);
            state.stuck = self.pulse.feel(shards.iter().map(|shard| shard.ticks.get()), now);
            shards.iter().map(|shard| shard.state()).collect()
        });
        self.enter(self.phase.at(now, &states));
        self.balance();
        if std::mem::take(&mut self.engines_read) {
            self.shared.with(|state| state.engines = self.fleet.engines());
        }
        if std::mem::take(&mut self.views_changed) {
            self.publish_views();
        }
        if self.phase.serving() {
            self.fleet.ask_names();
            self.look(now);
        }
    }

    /// Gives shards other shares where they want them.
    fn balance(&mut self) {
        if self.bank.is_idle() {
            return;
        }
        let told = self.bank.balance(self.outboxes.len());
        let told = self.outboxes.iter().zip(told).filter(|(_, told)| *told);
        told.for_each(|(outbox, _)| outbox.ring());
    }

    /// Tells shards and the admin listener what is known about endpoints.
    fn publish_views(&mut self) {
        let views: Arc<Views> = self.fleet.views();
        self.shared.with(|state| state.endpoints = self.fleet.states());
        self.outboxes.iter_mut().for_each(|outbox| outbox.views(Arc::clone(&views)));
    }

    fn stop(&mut self) {
        self.enter(self.phase.ordered_to_stop(Instant::now(), self.plan.timeouts.drain));
    }

    /// Moves to a phase and does what belongs to its beginning.
    fn enter(&mut self, next: Phase) {
        if std::mem::replace(&mut self.phase, next) == next {
            return;
        }
        match next {
            Phase::Draining { .. } => {
                let seconds = self.plan.timeouts.drain.as_secs();
                say::info("draining", &[("at_most_seconds", &seconds)]);
                self.shared.with(|state| state.draining = true);
                self.outboxes.iter_mut().for_each(Outbox::drain);
            }
            Phase::Stopping { .. } => self.outboxes.iter_mut().for_each(Outbox::stop),
            Phase::Serving | Phase::Over => {}
        }
    }

    /// Writes what is left and says how it went.
    async fn end(self) -> Exit {
        let settled = self.shared.with(|state| admin::lifecycle::settled(&state.registry));
        let (access, usage) = self.writers.finish(self.pace.rows_patience).await;
        if !access {
            say::warn("the last access rows are not written", &[]);
        }
        if settled && usage {
            say::info("stopped", &[]);
            return Exit::Clean;
        }
        let facts: [say::Pair<'_>; 2] =
            [("ledgers_at_zero", &settled), ("usage_rows_written", &usage)];
        say::error("stopped with something left", &facts);
        Exit::Unclean
    }
}

/// Reloading.
impl Conductor {
    /// Starts a look at the files, if it is time and none is under way.
    fn look(&mut self, now: Instant) {
        let Some(path) = &self.path else { return };
        if self.files.loading {
            return;
        }
        if self.files.refused.as_ref().is_some_and(|(_, again)| now >= *again) {
            self.reload();
            return;
        }
        if now < self.files.next_look {
            return;
        }
        let Some(mut reader) = self.files.reader.take() else { return };
        self.files.next_look = now + self.pace.look_every;
        let paths = reload::watched(path, &self.plan);
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || {
            let snapshot = reader.look(&paths);
            let _ = events.blocking_send(Event::Looked { reader, snapshot });
        });
    }

    fn looked(&mut self, reader: Reader, snapshot: Option<Snapshot>) {
        self.files.reader = Some(reader);
        // A look that began before a load says nothing about the files after it.
        let Some(snapshot) = snapshot.filter(|_| !self.files.loading) else { return };
        if self.files.settling.observe(snapshot) {
            self.reload();
        }
    }

    /// Starts to read the configuration.
    fn reload(&mut self) {
        let Some(path) = self.path.clone().filter(|_| self.phase.serving()) else { return };
        if std::mem::replace(&mut self.files.loading, true) {
            self.files.again = true;
            return;
        }
        let files = reload::watched(&path, &self.plan);
        let generation = self.plan.generation + 1;
        let events = self.events.clone();
        tokio::spawn(async move {
            let loaded = reload::load_aside(path, files, generation).await;
            let _ = events.send(Event::Loaded(Box::new(loaded))).await;
        });
    }

    fn loaded(&mut self, loaded: Loaded) {
        self.files.loading = false;
        self.files.settling = Settling::new(loaded.snapshot);
        if !self.phase.serving() {
            return;
        }
        let old = Arc::clone(&self.plan);
        match reload::decide(loaded.plan, |new| config::restart_needed(&old, new)) {
            Decision::Publish(plan) => self.publish(Arc::from(plan)),
            Decision::Invalid(errors) => {
                let lines = errors.to_string();
                if self.files.refuse(lines.clone(), Instant::now() + self.pace.retry_refused) {
                    self.shared.with(|state| state.reloads.invalid += 1);
                    let kept = old.generation;
                    for line in lines.lines() {
                        say::error("configuration refused", &[("kept", &kept), ("why", &line)]);
                    }
                }
            }
            Decision::NeedsRestart(changes) => {
                self.files.refused = None;
                self.shared.with(|state| state.reloads.restart_needed += 1);
                let (kept, changes) = (old.generation, changes.join(", "));
                say::error(
                    "configuration refused: it needs a restart",
                    &[("kept", &kept), ("changes", &changes)],
                );
            }
        }
        if std::mem::take(&mut self.files.again) {
            self.reload();
        }
    }

    /// Puts a plan in force everywhere.
    fn publish(&mut self, plan: Arc<Plan>) {
        self.files.refused = None;
        self.plan = Arc::clone(&plan);
        self.fleet.adopt(Arc::clone(&plan));
        self.writers.follow(&plan.log);
        let views = self.fleet.views();
        let bound = self.shared.with(|state| {
            state.plan = Arc::clone(&plan);
            state.endpoints = self.fleet.states();
            state.engines = self.fleet.engines();
            state.reloads.accepted += 1;
            let bound = link::bind(&mut state.registry, &plan, &views);
            self.bank.adopt(&plan, &state.registry);
            bound
        });
        for (outbox, bound) in self.outboxes.iter_mut().zip(bound) {
            outbox.plan(bound);
        }
        let (models, endpoints) = (plan.models.len(), plan.endpoints.len());
        say::info(
            "configuration accepted",
            &[("generation", &plan.generation), ("models", &models), ("endpoints", &endpoints)],
        );
    }
}

impl Files {
    /// Begins with what the first plan was made from.
    fn new(snapshot: Snapshot) -> Self {
        Self {
            settling: Settling::new(snapshot),
            reader: Some(Reader::default()),
            next_look: Instant::now(),
            loading: false,
            again: false,
            refused: None,
        }
    }

    /// Notes a refusal; true if it is news.
    fn refuse(&mut self, why: String, again: Instant) -> bool {
        let news = self.refused.as_ref().is_none_or(|(last, _)| *last != why);
        self.refused = Some((why, again));
        news
    }
}
