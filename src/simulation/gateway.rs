//! The gateway under test: the real shard, and in the control plane's place a few lines.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, Plan};
use crate::lifecycle::kind::Kind;
use crate::lifecycle::outcome::Outcome;
use crate::route::views::{Bound, Views};
use crate::runtime::clock;
use crate::shard::link::{self, Command};
use crate::shard::twin::Shard;
use crate::telemetry::Registry;
use crate::telemetry::row::Row;

/// How long what is left may take to end after a drain, in virtual time.
const REST_MAX: Duration = Duration::from_secs(60);
/// A request's whole time, as [`plan`] has it.
pub const TOTAL: Duration = Duration::from_secs(25);
/// Rows that may wait between two collections.
const ROWS_MAX: usize = 4096;

pub fn listen_address() -> SocketAddr {
    "127.0.0.1:8080".parse().expect("an address")
}

pub fn endpoint_address(index: usize) -> SocketAddr {
    SocketAddr::new([10, 200, 0, index as u8 + 1].into(), 8000)
}

/// A configuration with short deadlines and `endpoints` endpoints, with `more` lines for `[limits]`.
pub fn plan(endpoints: usize, more: &str, generation: u64) -> Plan {
    let addresses: Vec<_> = (0..endpoints).map(endpoint_address).collect();
    plan_of(&addresses, more, generation)
}

/// As [`crowded`]; copies of all requests go to one more endpoint.
pub fn shadowed(endpoints: usize, requests_max: u64, generation: u64) -> Plan {
    let addresses: Vec<_> = (0..endpoints).map(endpoint_address).collect();
    let shadow = format!(
        "[[endpoints]]\nname = \"copies\"\nurl = \"http://{}\"\nengine = \"vllm\"\n\
         [[models]]\nname = \"shadow\"\nendpoints = [\"copies\"]\n\
         [[shadows]]\nmodel = \"m\"\ncopy_to = \"shadow\"\n\
         [[shadows]]\nmodel = \"renamed\"\ncopy_to = \"shadow\"\n",
        endpoint_address(endpoints)
    );
    compiled(&(text_of(&addresses, "", &each(requests_max)) + &shadow), generation)
}

/// As [`plan`], with these endpoints.
pub fn plan_of(endpoints: &[SocketAddr], more: &str, generation: u64) -> Plan {
    compiled(&text_of(endpoints, more, ""), generation)
}

/// As [`plan`], with endpoints that take `requests_max` requests at once (0 is any number).
pub fn crowded(endpoints: usize, more: &str, requests_max: u64, generation: u64) -> Plan {
    let addresses: Vec<_> = (0..endpoints).map(endpoint_address).collect();
    compiled(&text_of(&addresses, more, &each(requests_max)), generation)
}

/// As [`plan`], with engines that tell of their caches.
pub fn telling(endpoints: usize, generation: u64) -> Plan {
    let addresses: Vec<_> = (0..endpoints).map(endpoint_address).collect();
    compiled(&text_of(&addresses, "", "kv_events = \"tcp://127.0.0.1:5557\"\n"), generation)
}

fn each(requests_max: u64) -> String {
    format!("requests_max = {requests_max}\n")
}

/// Requests that may wait for a place, per model.
pub const WAITING_MAX: usize = 6;

fn text_of(endpoints: &[SocketAddr], more: &str, each: &str) -> String {
    let queue = format!("queue_requests_per_shard_max = {WAITING_MAX}\nqueue_seconds = 2\n");
    let mut text = format!(
        "[server]\nlisten = \"{}\"\n\
         [timeouts]\nhead_seconds = 2\nbody_seconds = 2\nidle_seconds = 6\n\
         write_stall_seconds = 3\nconnect_seconds = 1\nfirst_byte_streamed_seconds = 4\n\
         first_byte_unary_seconds = 5\nstall_seconds = 3\ntotal_seconds = {}\n\
         upstream_idle_seconds = 4\nlinger_seconds = 1\n\
         [limits]\nbody_bytes_max = 524288\nbody_bytes_per_shard_max = 1048576\n{more}\n\
         [log]\nusage = \"file:/dev/null\"\nqueue_rows_max = {ROWS_MAX}\n\
         [[keys]]\nname = \"k\"\nsecret = \"env:GOOD\"\n",
        listen_address(),
        TOTAL.as_secs()
    );
    let mut names = String::new();
    for (index, address) in endpoints.iter().enumerate() {
        // Generic ones may be halves of a pair by whatever protocol.
        text.push_str(&format!(
            "[[endpoints]]\nname = \"e{index}\"\nurl = \"http://{address}\"\n\
             engine = \"generic\"\n{each}"
        ));
        names.push_str(&format!("\"e{index}\","));
    }
    text.push_str(&format!(
        "[[models]]\nname = \"m\"\nendpoints = [{names}]\n{queue}\
         [[models]]\nname = \"renamed\"\nendpoints = [{names}]\npolicy = \"least-loaded\"\n\
         upstream_model = \"up\"\n{queue}"
    ));
    text
}

fn compiled(text: &str, generation: u64) -> Plan {
    let env = |name: &str| (name == "GOOD").then(|| "sk-good".to_owned());
    config::parse(text, "plan", Path::new("/"), &env, generation)
        .unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

/// A gateway and what it wrote.
pub struct Gateway {
    pub shard: Rc<Shard>,
    registry: RefCell<Registry>,
    bound: RefCell<Arc<Bound>>,
    generation: Cell<u64>,
    pub access: RefCell<Vec<Row>>,
    pub usage: RefCell<Vec<Row>>,
}

impl Gateway {
    /// Starts it inside the world.
    pub fn start(plan: Plan, seed: u64) -> Rc<Gateway> {
        let mut registry = Registry::new(1, ROWS_MAX);
        let generation = Cell::new(plan.generation);
        let bound = bind(&mut registry, plan);
        let shard = Shard::start(bound.clone(), seed, listen_address());
        Rc::new(Gateway {
            shard,
            registry: RefCell::new(registry),
            bound: RefCell::new(bound),
            generation,
            access: RefCell::default(),
            usage: RefCell::default(),
        })
    }

    /// Publishes another plan.
    pub fn reload(&self, make: impl FnOnce(u64) -> Plan) {
        let generation = self.generation.get() + 1;
        self.generation.set(generation);
        let bound = bind(&mut self.registry.borrow_mut(), make(generation));
        *self.bound.borrow_mut() = bound.clone();
        self.shard.tell(Command::Plan(bound));
    }

    /// Takes the rows that were written.
    pub fn collect(&self) {
        let rows = self.bound.borrow().series.rows.clone();
        let (mut access, mut usage) = (self.access.borrow_mut(), self.usage.borrow_mut());
        let before = (access.len(), usage.len());
        access.extend(std::iter::from_fn(|| rows.access.take()));
        usage.extend(std::iter::from_fn(|| rows.usage.take()));
        rows.access.settle((access.len() - before.0) as u64, 0);
        rows.usage.settle((usage.len() - before.1) as u64);
    }

    /// Drains it and waits until nothing is left.
    pub async fn rest(&self) -> Result<(), String> {
        self.shard.tell(Command::Drain);
        let until = clock::now().after(REST_MAX);
        while !self.shard.is_over() {
            if clock::now() >= until {
                return Err(format!(
                    "not at rest: {} connections, {:?}",
                    self.shard.clients().handles.count(),
                    self.outstanding()
                ));
            }
            clock::sleep(Duration::from_millis(10)).await;
        }
        // Cancelled reads and closed connections give back what they hold a moment later.
        clock::sleep(Duration::from_millis(20)).await;
        self.collect();
        Ok(())
    }

    /// What is out, by ledger.
    pub fn outstanding(&self) -> Vec<(Kind, u64)> {
        self.shard.clients().core.kit.ledgers.outstanding()
    }

    /// Every sum that must be nothing, or must agree, once it is at rest.
    pub fn imbalances(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut expect = |what: String, right: bool| {
            if !right {
                found.push(what);
            }
        };
        let ledgers = self.outstanding();
        expect(format!("ledgers out: {ledgers:?}"), ledgers.is_empty());
        let bound = self.bound.borrow();
        let series = &bound.series;
        let shard = &series.shard;
        let gauges = [shard.connections_open.get(), shard.streams_open.get()];
        expect(format!("connections, streams open: {gauges:?}"), gauges == [0, 0]);
        let registry = self.registry.borrow();
        for (name, all) in registry.endpoints() {
            let out = all[0].in_flight.get();
            expect(format!("attempts in flight at {name}: {out}"), out == 0);
            let places = [all[0].share.used.get(), all[0].share.wanted.get()];
            expect(format!("places taken, wanted at {name}: {places:?}"), places == [0, 0]);
            let tokens = [all[0].prefill_tokens.get(), all[0].context_tokens.get()];
            expect(format!("tokens in flight at {name}: {tokens:?}"), tokens == [0, 0]);
        }
        for (name, all) in registry.models() {
            let out = all[0].in_flight.get();
            expect(format!("requests in flight for {name}: {out}"), out == 0);
        }
        let core = &self.shard.clients().core;
        let asking = core.consults.waiting();
        expect(format!("requests that wait for engines' words: {asking}"), asking == 0);
        let epoch = core.epoch();
        for at in 0..epoch.plan().endpoints.len() {
            let open = epoch.backend(crate::config::plan::EndpointId(at as u16)).open();
            expect(format!("open connections to e{at}: {open}"), open == 0);
        }
        let rows = &series.rows;
        expect("access rows dropped".into(), rows.access.dropped() == 0);
        expect(format!("usage places taken: {}", rows.usage.taken()), rows.usage.taken() == 0);
        expect("usage rows without a place".into(), rows.usage.faults() == 0);
        let (counted, written) = (self.counted(), self.access.borrow().len() as u64);
        expect(format!("{counted} outcomes, {written} rows"), counted == written);
        found
    }

    /// Requests by the counters.
    fn counted(&self) -> u64 {
        let registry = self.registry.borrow();
        let unrouted = |outcome| registry.shards[0].unrouted(outcome);
        let routed =
            |outcome| registry.models().map(|(_, all)| all[0].requests(outcome)).sum::<u64>();
        Outcome::ALL.into_iter().map(|outcome| unrouted(outcome) + routed(outcome)).sum()
    }

    /// Access rows by request id.
    pub fn rows(&self) -> BTreeMap<String, Vec<Row>> {
        let mut by_id: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for row in self.access.borrow().iter() {
            by_id.entry(row.request_id.as_str().to_owned()).or_default().push(row.clone());
        }
        by_id
    }
}

fn bind(registry: &mut Registry, plan: Plan) -> Arc<Bound> {
    let plan = Arc::new(plan);
    let views = Arc::new(Views::unprobed(&plan));
    link::bind(registry, &plan, &views).remove(0)
}
