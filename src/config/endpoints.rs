//! `[[endpoints]]`: the machines and providers that answer.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustls::pki_types::ServerName;
use xxhash_rust::xxh3::Xxh3;

use super::plan::{Authority, Endpoint, EndpointId, EndpointTls, Engine};
use super::reader::{At, Section};
use super::secret::Secret;
use super::url::{self, Target};
use super::{ability, headers, kv_events, names, reference, tls, traits};

/// Each endpoint costs a set of time series and pools in every shard.
const ENDPOINTS_MAX: usize = 4096;

const ENGINES: [(&str, Engine); 7] = [
    ("vllm", Engine::Vllm),
    ("sglang", Engine::Sglang),
    ("tensorrt-llm", Engine::TrtLlm),
    ("llama-cpp", Engine::LlamaCpp),
    ("openai", Engine::OpenAi),
    ("anthropic", Engine::Anthropic),
    ("generic", Engine::Generic),
];

/// What `[[models]]` may refer to. A name whose endpoint is faulty has no id: naming it is no mistake.
#[derive(Debug, Default)]
pub struct Known {
    pub list: Vec<Endpoint>,
    pub by_name: HashMap<String, Option<EndpointId>>,
    /// Some table's name cannot be read: it may be any.
    pub unread: bool,
}

impl Known {
    /// Of a file, before its endpoints are read.
    fn new(root: &Section<'_>) -> Self {
        let names = root.glance("endpoints", "name");
        let unread = names.is_empty() || names.contains(&None);
        let by_name = names.into_iter().flatten().map(|name| (name.to_owned(), None)).collect();
        Self { list: Vec::new(), by_name, unread }
    }

    pub fn get(&self, id: EndpointId) -> Option<&Endpoint> {
        self.list.get(usize::from(id.0))
    }
}

/// Reads every `[[endpoints]]` table. `listening`: Sluice's own addresses, which no endpoint may have.
pub fn read(root: &Section<'_>, listening: Vec<SocketAddr>) -> Known {
    let mut known = Known::new(root);
    let (mut seen, mut bound) = (HashSet::new(), HashMap::new());
    for (name, endpoint) in root.tables("endpoints", |s| read_endpoint(s, &listening)) {
        let Some(name) = name else { continue };
        let id = u16::try_from(known.list.len()).unwrap_or(u16::MAX);
        let id = endpoint.is_some().then_some(EndpointId(id));
        known.by_name.insert(name.value.to_owned(), id);
        if !seen.insert(name.value) {
            let what = format!("two endpoints are named {:?}", name.value);
            root.fault(name.at, what, "give each endpoint a name of its own");
        }
        let events = endpoint.as_ref().and_then(|one| one.kv_events.as_ref());
        if let Some(events) = events.filter(|events| events.bind)
            && let Some(other) = bound.insert(events.address.clone(), name.value)
            && other != name.value
        {
            let what = format!("{other:?} and {:?} bind the same `kv_events` address", name.value);
            root.fault(name.at, what, "give each an address of its own");
        }
        known.list.extend(endpoint);
    }
    if known.list.len() > ENDPOINTS_MAX {
        let at = root.given("endpoints").unwrap_or_default();
        root.fault(at, "too many [[endpoints]]", format!("keep at most {ENDPOINTS_MAX}"));
    }
    if root.is_empty("endpoints") {
        let at = root.given("endpoints").unwrap_or_default();
        let fix = "add [[endpoints]] with a name, a url and an engine";
        root.fault(at, "there are no endpoints", fix);
    }
    known
}

fn read_endpoint<'a>(
    s: &Section<'a>,
    listening: &[SocketAddr],
) -> (Option<At<&'a str>>, Option<Endpoint>) {
    let name = names::name(s, "name", "gpu-0");
    let target = read_url(s, listening);
    let engine = s.required("engine", "vllm").and_then(|word| s.pick("engine", word, &ENGINES));
    let api_key = s.text("api_key", "");
    let has_api_key = api_key.is_some();
    let api_key = api_key.and_then(|text| reference::secret(s.reader, "api_key", text));
    let headers = headers::read(s, has_api_key);
    let connections_per_shard_max = s.size("connections_per_shard_max", 1024, 1..=65_535);
    let retry_stale = s.switch("retry_stale", true);
    let weight = s.whole("weight", 1, 1..=1_000) as u32;
    let price = s.whole("price", 0, 0..=1_000_000) as f32;
    let health = s.text("health_path", "");
    let metrics = s.text("metrics_path", "");
    let kv_events = kv_events::read(s);
    let (tls, ca) = read_tls(s, target.as_ref());
    let health = own_path(s, "health_path", engine, health);
    let metrics = own_path(s, "metrics_path", engine, metrics);
    let traits = traits::read(s, engine);
    if let Some(engine) = engine {
        ability::check(s, engine, metrics.is_some(), &traits);
    }
    let built = (|| {
        let (name, target, engine) = (name?, target?, engine?);
        let below = |path: &str| format!("{}{path}", target.path_prefix).into();
        let (health_path, metrics_path) = (health.map(below), metrics.map(below));
        Some(Endpoint {
            name: name.value.into(),
            engine,
            identity: identity(&target, tls.as_ref(), &ca),
            authority: target.authority,
            tls,
            host_header: target.host_header.into(),
            health_path,
            kv_events,
            metrics_path,
            path_prefix: target.path_prefix.into(),
            api_key,
            headers,
            connections_per_shard_max,
            retry_stale,
            weight,
            price,
            traits,
        })
    })();
    (name, built)
}

fn read_url(s: &Section<'_>, listening: &[SocketAddr]) -> Option<Target> {
    let text = s.required("url", "http://127.0.0.1:8000")?;
    match url::parse(text.value) {
        Ok(target) => {
            let to = addresses(&target.authority);
            if let Some(to) = to.iter().find(|to| listening.iter().any(|own| reaches(**to, *own))) {
                let what = format!("`url` is Sluice's own address {to}");
                s.fault(text.at, what, "name the server behind it: requests would go in circles");
            }
            Some(target)
        }
        Err((what, fix)) => {
            // The URL is not quoted: it may hold a password.
            s.fault(text.at, format!("`url` {what}"), fix);
            None
        }
    }
}

/// Where an endpoint is, as far as the file says it.
fn addresses(authority: &Authority) -> Vec<SocketAddr> {
    match authority {
        Authority::Address(address) => vec![*address],
        Authority::Name { host, port } if host.eq_ignore_ascii_case("localhost") => {
            let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            loopback.map(|ip: IpAddr| SocketAddr::new(ip, *port)).into()
        }
        Authority::Name { .. } => Vec::new(),
    }
}

/// Whether a connection to `to` arrives at the listener `own` of this machine.
fn reaches(to: SocketAddr, own: SocketAddr) -> bool {
    let (ip, own_ip) = (to.ip().to_canonical(), own.ip().to_canonical());
    let any = own_ip.is_unspecified() && (ip.is_loopback() || ip.is_unspecified());
    to.port() == own.port() && (ip == own_ip || any)
}

/// What pooled connections must share to be interchangeable.
fn identity(target: &Target, tls: Option<&EndpointTls>, ca: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    // Each part goes with its length, so that no two lists of parts are the same bytes.
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    match &target.authority {
        Authority::Address(address) => part(format!("ip {address}").as_bytes()),
        Authority::Name { host, port } => part(format!("name {host}:{port}").as_bytes()),
    }
    if let Some(tls) = tls {
        part(tls.server_name.to_str().as_bytes());
        part(ca);
    }
    hash.digest()
}

/// TLS towards the endpoint, and the CA bundle's bytes (empty: the system's roots).
fn read_tls(s: &Section<'_>, target: Option<&Target>) -> (Option<EndpointTls>, Vec<u8>) {
    let (ca_file, server_name) = (s.text("ca_file", ""), s.text("server_name", ""));
    let Some(target) = target else {
        // Whether it has a meaning is not known; whether it can be read is.
        let _ = ca_file.map(|path| tls::read_ca(s, path));
        return (None, Vec::new());
    };
    if !target.https {
        for (key, given) in [("ca_file", ca_file), ("server_name", server_name)] {
            if let Some(text) = given {
                let what = format!("`{key}` has no meaning for an http:// endpoint");
                s.fault(text.at, what, "write https:// in `url`, or remove it");
            }
        }
        return (None, Vec::new());
    }
    let server_name = verified_name(s, server_name, target);
    let (config, ca) = match ca_file {
        Some(path) => match tls::read_ca(s, path) {
            Some((config, pem)) => (Some(config), pem),
            None => (None, Vec::new()),
        },
        None => (system_roots(s), Vec::new()),
    };
    let tls = config.zip(server_name);
    (tls.map(|(config, server_name)| EndpointTls { config, server_name }), ca)
}

fn system_roots(s: &Section<'_>) -> Option<std::sync::Arc<rustls::ClientConfig>> {
    tls::client_of_system()
        .map_err(|(what, fix)| {
            s.fault(s.given("url").unwrap_or(s.at), format!("`url` {what}"), fix)
        })
        .ok()
}

/// The name that the endpoint's certificate must be for.
fn verified_name(
    s: &Section<'_>,
    given: Option<At<&str>>,
    target: &Target,
) -> Option<ServerName<'static>> {
    let name = given.map_or(target.tls_name.as_str(), |text| text.value);
    let parsed = ServerName::try_from(name.to_owned()).ok();
    if parsed.is_none() {
        let (key, at) = match given {
            Some(text) => ("server_name", text.at),
            None => ("url", s.given("url").unwrap_or(s.at)),
        };
        let what = format!("`{key}` names a host that no certificate can be for");
        s.fault(at, what, "write a host name or an IP address");
    }
    parsed
}

/// A path that Sluice itself asks for, below the url's: as given, or the one that the engine is known for. ""
/// asks for none.
fn own_path<'a>(
    s: &Section<'_>,
    key: &str,
    engine: Option<Engine>,
    given: Option<At<&'a str>>,
) -> Option<&'a str> {
    let path = match (given, engine) {
        (Some(text), _) => text.value,
        (None, Some(Engine::Vllm | Engine::Sglang | Engine::TrtLlm | Engine::LlamaCpp)) => {
            match key {
                "health_path" => "/health",
                _ => "/metrics",
            }
        }
        (None, _) => "",
    };
    if path.is_empty() {
        return None;
    }
    if let Some(text) = given {
        let slash = path.starts_with('/').then_some(());
        let slash = slash.ok_or(("does not begin with a slash", "write e.g. \"/health\""));
        if let Err((what, fix)) = slash.and_then(|()| url::check_path(path)) {
            s.fault(text.at, format!("`{key}` {what}"), fix);
        }
    }
    Some(path)
}

/// How an engine is called in the file.
pub fn engine_name(engine: Engine) -> &'static str {
    ENGINES.iter().find(|(_, known)| *known == engine).map_or("generic", |(name, _)| name)
}

/// The endpoint's key, if its source is known, for people to read.
pub fn source_of(secret: &Secret) -> &str {
    if secret.source().is_empty() { "in the file" } else { secret.source() }
}
