//! The whole control plane in process: a real file, real sockets, a made-up shard.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Config, Control, Exit, Ground, Hangup, Origin, Pace, Remote, names};
use crate::route::views::{Bound, Views};
use crate::shard::link::{self, Command, ShardLink};
use crate::telemetry::ledger::{Entry, KINDS};
use crate::telemetry::{Inline, Registry, Row, Series, ShardState};

fn quick() -> Pace {
    Pace {
        look_every: Duration::from_millis(20),
        retry_refused: Duration::from_millis(100),
        probe_every: Duration::from_millis(20),
        probe_patience: Duration::from_millis(500),
        scrape_patience: Duration::from_millis(500),
        names: names::Pace {
            refresh: Duration::from_millis(200),
            retry: Duration::from_millis(50),
        },
        rows_patience: Duration::from_secs(1),
    }
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < until, "never came: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Answers every connection with one status.
struct Backend {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    asked: Arc<Mutex<String>>,
}

impl Backend {
    fn start(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (status, asked) = (Arc::new(AtomicU16::new(200)), Arc::default());
        let backend = Self { address, status: Arc::clone(&status), asked: Arc::clone(&asked) };
        thread::spawn(move || {
            for stream in socket.incoming() {
                let answer = format!("HTTP/1.1 {} X\r\n\r\n", status.load(Ordering::Relaxed));
                let stream = stream.unwrap();
                // A probe that gives up is no concern of ours.
                let _ = match &tls {
                    None => serve(stream, &answer, &asked),
                    Some(tls) => {
                        let session = rustls::ServerConnection::new(Arc::clone(tls)).unwrap();
                        serve(rustls::StreamOwned::new(session, stream), &answer, &asked)
                    }
                };
            }
        });
        backend
    }
}

fn serve(
    mut stream: impl Read + Write,
    answer: &str,
    asked: &Mutex<String>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        head.push(byte[0]);
    }
    *asked.lock().unwrap() = String::from_utf8(head).unwrap();
    stream.write_all(answer.as_bytes())?;
    stream.flush()
}

/// What a shard would do with its commands, as far as the control plane can tell.
#[derive(Default)]
struct ShardLog {
    plans: Mutex<Vec<Arc<Bound>>>,
    views: Mutex<Option<Arc<Views>>>,
    drains: AtomicU64,
    stops: AtomicU64,
    /// Go to `Drained` when told to drain; else only when told to stop.
    drains_at_once: AtomicBool,
    /// What is outstanding in the end.
    leaked: AtomicU64,
}

fn run_shard(link: ShardLink, series: Arc<Series>, log: Arc<ShardLog>) {
    series.shard.set_state(ShardState::Serving);
    let drained = || {
        let outstanding = log.leaked.load(Ordering::Relaxed);
        series
            .shard
            .ledgers
            .publish(&[Entry { issued: outstanding, returned: 0, outstanding }; KINDS]);
        series.shard.set_state(ShardState::Drained);
    };
    loop {
        series.shard.ticks.inc();
        match link.queue.pop() {
            None => thread::sleep(Duration::from_millis(1)),
            Some(Command::Plan(bound)) => log.plans.lock().unwrap().push(bound),
            Some(Command::Views(views)) => *log.views.lock().unwrap() = Some(views),
            Some(Command::Drain) => {
                log.drains.fetch_add(1, Ordering::Relaxed);
                series.shard.set_state(ShardState::Draining);
                if log.drains_at_once.load(Ordering::Relaxed) {
                    drained();
                }
            }
            Some(Command::Stop) => {
                log.stops.fetch_add(1, Ordering::Relaxed);
                drained();
                return;
            }
        }
    }
}

struct Gateway {
    folder: PathBuf,
    admin: SocketAddr,
    remote: Remote,
    log: Arc<ShardLog>,
    series: Arc<Series>,
    thread: JoinHandle<Exit>,
}

impl Gateway {
    fn start(name: &str, text: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("sluice-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("sluice.toml");
        std::fs::write(&path, text).unwrap();
        let (plan, origin) = Origin::load(&path).unwrap();
        let plan = Arc::new(plan);
        let mut registry = Registry::new(1, plan.log.queue_rows_max);
        let bound = link::bind(&mut registry, &plan, &Arc::new(Views::unprobed(&plan)));
        let (link, log) = (ShardLink::new(Arc::new(|| {})), Arc::new(ShardLog::default()));
        log.drains_at_once.store(true, Ordering::Relaxed);
        let series = Arc::clone(&bound[0].series);
        {
            let (link, series, log) = (link.clone(), Arc::clone(&series), Arc::clone(&log));
            thread::spawn(move || run_shard(link, series, log));
        }
        let links = vec![link];
        let precise = Vec::new();
        let config = Config { origin: Some(origin), plan, registry, links, precise, pace: quick() };
        let control = Control::new(config).unwrap();
        let (admin, remote) = (control.admin_address().unwrap(), control.remote());
        let ground = Ground::lay(Hangup::Reload).unwrap();
        let thread = thread::spawn(move || control.run(ground).unwrap());
        Self { folder, admin, remote, log, series, thread }
    }

    fn get(&self, target: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    fn ready(&self) -> u16 {
        self.get("/readyz").0
    }

    fn metric(&self, sample: &str) -> Option<String> {
        let (_, text) = self.get("/metrics");
        let found = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        found.map(str::to_owned)
    }

    fn has(&self, sample: &str, value: &str) -> bool {
        self.metric(sample).as_deref() == Some(value)
    }

    fn write(&self, text: &str) {
        // In one step: a busy machine may show an empty file for as long as a change takes to come to rest.
        let fresh = self.folder.join("sluice.toml.fresh");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, self.folder.join("sluice.toml")).unwrap();
    }

    fn stop(self) -> Exit {
        self.remote.stop();
        let exit = self.thread.join().unwrap();
        std::fs::remove_dir_all(&self.folder).unwrap();
        exit
    }
}

fn text(url: &str, rest: &str) -> String {
    format!(
        r#"
        [server]
        listen = "127.0.0.1:8080"
        [admin]
        listen = "127.0.0.1:0"
        [[endpoints]]
        name = "gpu-0"
        url = "{url}"
        engine = "vllm"
        metrics_path = ""
        [[models]]
        name = "m"
        endpoints = ["gpu-0"]
        {rest}
        "#
    )
}

#[test]
fn health_follows_the_endpoint_and_shards_hear_of_it() {
    let backend = Backend::start(None);
    let gateway = Gateway::start("health", &text(&format!("http://{}", backend.address), ""));
    let healthy = |wanted| {
        let views = gateway.log.views.lock().unwrap();
        views.as_ref().is_some_and(|views| views.endpoints[0].healthy == wanted)
    };
    wait_until("ready", || gateway.ready() == 200);
    assert!(backend.asked.lock().unwrap().starts_with("GET /health HTTP/1.1\r\n"));
    backend.status.store(500, Ordering::Relaxed);
    wait_until("not ready", || gateway.ready() == 503 && healthy(false));
    let (_, body) = gateway.get("/readyz?model=m");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["models"]["m"]["endpoints"]["gpu-0"], "down");
    backend.status.store(204, Ordering::Relaxed);
    wait_until("ready again", || gateway.ready() == 200 && healthy(true));
    assert_eq!(gateway.stop(), Exit::Clean);
}

#[test]
fn names_are_resolved_and_tls_endpoints_probed() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let backend = Backend::start(Some(Arc::new(tls)));
    let ca = std::env::temp_dir().join(format!("sluice-ca-{}.pem", std::process::id()));
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let port = backend.address.port();
    let config = text(&format!("https://localhost:{port}"), "")
        .replace("engine = ", &format!("ca_file = \"{}\"\nengine = ", ca.display()));
    let gateway = Gateway::start("tls", &config);
    wait_until("ready", || gateway.ready() == 200);
    let views = gateway.log.views.lock().unwrap().clone().unwrap();
    assert!(views.endpoints[0].addresses.contains(&backend.address));
    assert_eq!(gateway.stop(), Exit::Clean);
    std::fs::remove_file(ca).unwrap();
}

#[test]
fn a_name_without_an_address_is_unresolved() {
    let gateway = Gateway::start("unresolved", &text("http://no.such.host.invalid:1", ""));
    wait_until("unresolved", || {
        gateway.has("sluice_endpoint_state{endpoint=\"gpu-0\",state=\"unresolved\"}", "1")
    });
    assert_eq!((gateway.ready(), gateway.get("/healthz").0), (503, 200));
    assert_eq!(gateway.stop(), Exit::Clean);
}

#[test]
fn good_files_are_taken_bad_ones_refused() {
    let backend = Backend::start(None);
    let url = format!("http://{}", backend.address);
    let gateway = Gateway::start("reload", &text(&url, ""));
    let generation = || gateway.metric("sluice_config_generation").unwrap();
    let reloads = |result: &str| {
        gateway.metric(&format!("sluice_config_reloads_total{{result=\"{result}\"}}")).unwrap()
    };
    wait_until("ready", || gateway.ready() == 200);

    let second = "[[models]]\nname = \"n\"\nendpoints = [\"gpu-0\"]";
    gateway.write(&text(&url, second));
    wait_until("the new model", || gateway.get("/readyz?model=n").0 == 200);
    wait_until("the shard hears", || gateway.log.plans.lock().unwrap().len() == 1);
    let bound = Arc::clone(&gateway.log.plans.lock().unwrap()[0]);
    assert_eq!((bound.plan.generation, bound.views.generation), (2, 2));
    assert!(bound.views.endpoints[0].healthy, "what is known outlives the reload");
    assert_eq!(bound.series.models.len(), 2);
    let kept = &gateway.series.models[0];
    assert!(bound.series.models.iter().any(|series| Arc::ptr_eq(series, kept)));

    gateway.write("[server]\nlisten = 5");
    wait_until("refused", || reloads("invalid") == "1");
    thread::sleep(Duration::from_millis(300));
    assert_eq!((reloads("invalid"), generation()), ("1".into(), "2".into()), "said once");

    gateway.write(&text(&url, second).replace("127.0.0.1:8080", "127.0.0.1:8081"));
    wait_until("needs a restart", || reloads("restart_needed") == "1");
    assert_eq!((gateway.ready(), generation()), (200, "2".into()));

    gateway.write(&text(&url, ""));
    wait_until("taken again", || generation() == "3");
    gateway.remote.reload();
    wait_until("taken on demand", || generation() == "4");
    assert_eq!(gateway.get("/readyz?model=n").0, 404);
    assert_eq!(gateway.stop(), Exit::Clean);
}

#[test]
fn a_missing_file_is_taken_when_it_comes() {
    let backend = Backend::start(None);
    let url = format!("http://{}", backend.address);
    let gateway = Gateway::start("missing", &text(&url, ""));
    let key = "[[keys]]\nname = \"k\"\nsecret = \"file:key\"";
    gateway.write(&text(&url, key));
    let refused = "sluice_config_reloads_total{result=\"invalid\"}";
    wait_until("refused", || gateway.has(refused, "1"));
    std::fs::write(gateway.folder.join("key"), "s3cret").unwrap();
    wait_until("taken", || gateway.has("sluice_config_generation", "2"));
    std::fs::write(gateway.folder.join("key"), "other").unwrap();
    wait_until("the secret is watched", || gateway.has("sluice_config_generation", "3"));
    assert_eq!(gateway.stop(), Exit::Clean);
}

#[test]
fn a_drain_that_leaves_something_is_not_clean() {
    let gateway = Gateway::start("leak", &text("http://127.0.0.1:1", ""));
    gateway.log.leaked.store(1, Ordering::Relaxed);
    assert_eq!(gateway.stop(), Exit::Unclean);
}

#[test]
fn draining_is_seen_and_a_second_order_stops() {
    let backend = Backend::start(None);
    let gateway = Gateway::start("drain", &text(&format!("http://{}", backend.address), ""));
    wait_until("ready", || gateway.ready() == 200);
    gateway.log.drains_at_once.store(false, Ordering::Relaxed);
    gateway.remote.stop();
    wait_until("told to drain", || gateway.log.drains.load(Ordering::Relaxed) == 1);
    let (status, body) = gateway.get("/readyz");
    assert_eq!(status, 503);
    assert!(body.contains("\"not_draining\":false"));
    thread::sleep(Duration::from_millis(100));
    assert_eq!(gateway.log.stops.load(Ordering::Relaxed), 0, "streams may finish");
    let log = Arc::clone(&gateway.log);
    assert_eq!(gateway.stop(), Exit::Clean);
    assert_eq!(log.stops.load(Ordering::Relaxed), 1);
}

#[test]
fn the_drain_deadline_stops() {
    let rest = "[timeouts]\ndrain_seconds = 1";
    let gateway = Gateway::start("deadline", &text("http://127.0.0.1:1", rest));
    gateway.log.drains_at_once.store(false, Ordering::Relaxed);
    let began = Instant::now();
    let log = Arc::clone(&gateway.log);
    assert_eq!(gateway.stop(), Exit::Clean);
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(log.stops.load(Ordering::Relaxed), 1);
}

#[test]
fn the_last_rows_are_written() {
    let access = std::env::temp_dir().join(format!("sluice-last-{}", std::process::id()));
    let rest = format!("[log]\naccess = \"file:{}\"", access.display());
    let gateway = Gateway::start("last-rows", &text("http://127.0.0.1:1", &rest));
    let mut row = Row::new(Arc::clone(&gateway.series.names), 0);
    row.request_id = Inline::new("the-last");
    gateway.series.rows.access.offer(row);
    assert_eq!(gateway.stop(), Exit::Clean);
    let written = std::fs::read_to_string(&access).unwrap();
    assert!(
        written.contains("\"request_id\":\"the-last\"") && written.contains("\"generation\":1")
    );
    std::fs::remove_file(access).unwrap();
}

#[test]
fn a_stalled_access_log_stops_nobody() {
    let folder = std::env::temp_dir().join(format!("sluice-stall-rows-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (pipe, usage) = (folder.join("pipe"), folder.join("usage"));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let rest = format!(
        "[log]\naccess = \"file:{}\"\nusage = \"file:{}\"\nqueue_rows_max = 64",
        pipe.display(),
        usage.display()
    );
    let gateway = Gateway::start("stall", &text("http://127.0.0.1:1", &rest));
    let rows = &gateway.series.rows;
    let row = || Row::new(Arc::clone(&gateway.series.names), 0);
    wait_until("dropped rows", || {
        rows.access.offer(row());
        rows.access.dropped() > 0
    });
    rows.usage.reserve().unwrap().fill(row());
    wait_until("the usage row", || rows.usage.taken() == 0);
    assert_eq!(gateway.get("/healthz").0, 200);
    assert!(gateway.metric("sluice_access_rows_total{result=\"dropped\"}").unwrap() != "0");
    assert_eq!(gateway.stop(), Exit::Clean);
    std::fs::remove_dir_all(folder).unwrap();
}
