//! The compiled configuration: what shards and the control plane read.
//!
//! Owns nothing that changes: a [`Plan`] is built once, shared as `Arc<Plan>`, and replaced whole. A
//! request keeps the plan it began with. Indices ([`EndpointId`], [`ModelId`], [`KeyId`]) are positions
//! in this plan's vectors and mean nothing in another plan; what must survive a reload (connection
//! pools, learned keep-alive times) is found again by [`Endpoint::identity`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::isolation::Isolation;
use super::keys::Digests;
use super::secret::Secret;
pub use super::served::{Alias, Arm, MODELS_MAX, Pair, PairProtocol, Shadow, Split, Stick};

/// MiB of a prefix table, at most.
pub const PREFIX_TABLE_MIB_MAX: usize = 16 << 10;

/// Position of an endpoint in [`Plan::endpoints`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub u16);

/// Position of a model in [`Plan::models`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelId(pub u16);

/// Position of a client key in [`Plan::keys`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub u16);

/// Position of a split in [`Plan::splits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitId(pub u16);

/// Position of an arm among those of all splits, one split after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArmId(pub u16);

/// Position of a shadow in [`Plan::shadows`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShadowId(pub u16);

/// Position of a name in [`Plan::other_names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherNameId(pub u16);

/// Every name that clients may ask for: models, splits and aliases share them.
pub type ModelIndex = HashMap<Box<str>, Named, ahash::RandomState>;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    pub target: Target,
    /// `None`: it is the model's own.
    pub other: Option<OtherNameId>,
}

/// Who serves a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Model(ModelId),
    Split(SplitId),
}

/// One validated configuration file.
#[derive(Debug)]
pub struct Plan {
    /// Counts accepted configurations from 1; shown in logs and metrics.
    pub generation: u64,
    pub server: Server,
    pub admin: Option<Admin>,
    pub runtime: Runtime,
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub log: Log,
    pub routing: Routing,
    pub endpoints: Vec<Endpoint>,
    pub models: Vec<Model>,
    pub shadows: Vec<Shadow>,
    pub splits: Vec<Split>,
    pub aliases: Vec<Alias>,
    /// Names that clients may ask for and that are no model's own, for rows.
    pub other_names: Vec<Box<str>>,
    /// Every name that clients may ask for.
    pub model_index: ModelIndex,
    /// Empty: access is open (and was said to be, or the listener is on loopback).
    pub keys: Vec<ClientKey>,
    /// Some requests must share no engine's cache with other tenants'.
    pub isolates: bool,
    /// For [`Plan::authenticate`].
    pub digests: Digests,
    /// The files besides the configuration itself that this plan was made from (certificates, CA
    /// bundles, secrets), also those that could not be read: all are watched for change.
    pub files: Vec<PathBuf>,
}

impl Plan {
    /// The name of a model or split; empty for an id of another plan.
    pub fn name_of(&self, target: Target) -> &str {
        let name = match target {
            Target::Model(id) => self.models.get(usize::from(id.0)).map(|model| &model.name),
            Target::Split(id) => self.splits.get(usize::from(id.0)).map(|split| &split.name),
        };
        name.map_or("", |name| name)
    }
}

/// `[server]`: the client side.
#[derive(Debug)]
pub struct Server {
    pub listen: SocketAddr,
    /// Without keys: whoever reaches the port may use it, web pages included.
    pub open_access: bool,
    /// Compiled from the certificate and key files; `None` is plain TCP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The files behind `tls`, watched for change (symlink swaps included).
    pub tls_files: Option<(PathBuf, PathBuf)>,
}

/// `[admin]`: health, metrics, debug. Loopback, or a token.
#[derive(Debug, Clone)]
pub struct Admin {
    pub listen: SocketAddr,
    pub token: Option<Secret>,
}

/// Which kernel interface shards use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring where a real ring can be built for every shard, else epoll for all.
    Auto,
    Uring,
    Epoll,
}

/// How many shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// One for each CPU the process may use (cpuset and cgroup quota).
    Auto,
    Count(u16),
}

/// `[runtime]`.
#[derive(Debug, Clone)]
pub struct Runtime {
    pub shards: Shards,
    pub driver: Driver,
    /// Submission queue entries wanted per ring; halved down to 256 where the kernel refuses.
    pub ring_entries: u32,
    /// Epoch length: plan swaps, ledger assertions, bulk mailboxes, deadline granularity.
    pub tick: Duration,
    /// Pin shard k to the k-th usable CPU.
    pub pin: bool,
}

/// `[limits]`: every bound has its unit in its name.
#[derive(Debug, Clone)]
pub struct Limits {
    pub head_bytes_max: usize,
    pub header_count_max: usize,
    pub target_bytes_max: usize,
    pub body_bytes_max: usize,
    /// On average, after the first `body` of time; 0: none.
    pub body_bytes_per_second_min: usize,
    /// All extensions of one body together.
    pub chunk_extension_bytes_max: usize,
    pub trailer_bytes_max: usize,
    pub json_depth_max: usize,
    /// Request bodies held at once by one shard, all requests together.
    pub body_bytes_per_shard_max: usize,
    pub connections_per_shard_max: usize,
    /// 0 = off.
    pub connections_per_address_max: usize,
    /// Unary answers up to this size are held whole before the first byte leaves.
    pub answer_hold_bytes_max: usize,
    /// Bytes of answers held by one shard, all together; without room an answer leaves as it comes.
    pub answer_hold_bytes_per_shard_max: usize,
    /// A stream event up to this size leaves whole.
    pub event_whole_bytes_max: usize,
    /// Early (pipelined) client bytes kept while an answer is under way.
    pub pipeline_bytes_max: usize,
    /// Copies under way at once, of one shard.
    pub shadow_requests_per_shard_max: usize,
    /// Copies that one shard may begin in a second.
    pub shadow_requests_per_second_max: usize,
    /// Heads and bodies of copies held at once by one shard.
    pub shadow_bytes_per_shard_max: usize,
}

/// `[timeouts]`.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// From the first byte of a head to its blank line.
    pub head: Duration,
    /// Longest silence inside a request body.
    pub body: Duration,
    /// Keep-alive connection without a request.
    pub idle: Duration,
    /// Longest time a write to the client may make no progress.
    pub write_stall: Duration,
    /// TLS handshake, either side.
    pub handshake: Duration,
    pub connect: Duration,
    /// Until the first event of a streamed answer.
    pub first_byte_streamed: Duration,
    /// Until the head of an answer that is not streamed (there it is the whole generation).
    pub first_byte_unary: Duration,
    /// Longest gap between two reads of an answer's body.
    pub stall: Duration,
    /// A request's whole life.
    pub total: Duration,
    /// Idle upstream connections are closed after this (or sooner, where the server says so).
    pub upstream_idle: Duration,
    /// After SIGTERM: how long streams may take to finish.
    pub drain: Duration,
    /// Lingering close: how long a refused client may take to read its error.
    pub linger: Duration,
}

/// Where rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    Stdout,
    File(PathBuf),
}

/// `[log]`.
#[derive(Debug, Clone)]
pub struct Log {
    /// Access rows (JSON lines). Dropped and counted when the writer cannot keep up. `None` = off.
    pub access: Option<Sink>,
    /// Usage rows (JSON lines), one for each admitted request; their place is reserved at admission
    /// and they are never dropped. `None` = off.
    pub usage: Option<PathBuf>,
    /// Rows that may wait in each shard's queue, per kind.
    pub queue_rows_max: usize,
}

/// `[routing]`.
#[derive(Debug, Clone)]
pub struct Routing {
    /// Memory of each shard's prefix table, MiB. Taken when a policy first needs it.
    pub prefix_table_mib: usize,
    /// A header that names a client's session, lower-case, before those that known agents send.
    pub session_header: Option<Box<str>>,
    /// How long a session that is not heard of keeps its place.
    pub session_ttl: Duration,
    /// A header that names the tenant, lower-case; without it, the key is.
    pub tenant_header: Option<Box<str>>,
    /// A header in which a request asks for another class than its key has, lower-case.
    pub priority_header: Option<Box<str>>,
    /// What salts of isolated tenants are made with.
    pub isolation: Option<Isolation>,
    /// Between two looks at an engine's metrics.
    pub engine_metrics: Duration,
    /// Decisions that can be asked for afterwards, by request id; 0: none.
    pub explained_requests_max: usize,
}

/// How urgent a request is, the most urgent first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    High,
    #[default]
    Normal,
    Low,
}

impl Class {
    /// Every class, in the order of its discriminants.
    pub const ALL: [Class; 3] = [Class::High, Class::Normal, Class::Low];

    /// The name in files, headers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Class::High => "high",
            Class::Normal => "normal",
            Class::Low => "low",
        }
    }

    /// The class of that name, in any case.
    pub fn of(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|class| name.eq_ignore_ascii_case(class.name().as_bytes()))
    }
}

/// Where a model's requests wait while its endpoints have as many as they may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    pub requests_per_shard_max: usize,
    /// Of their bodies.
    pub bytes_per_shard_max: u64,
    /// How long one may wait.
    pub patience: Duration,
}

/// What an engine speaks and how it misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Vllm,
    Sglang,
    TrtLlm,
    LlamaCpp,
    OpenAi,
    Anthropic,
    /// Any server that speaks the client's own API.
    Generic,
}

/// How endpoints are addressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// A literal address: no resolution needed.
    Address(SocketAddr),
    /// A name the control plane resolves.
    Name { host: Box<str>, port: u16 },
}

/// TLS towards an endpoint.
#[derive(Clone, Debug)]
pub struct EndpointTls {
    pub config: Arc<rustls::ClientConfig>,
    pub server_name: rustls::pki_types::ServerName<'static>,
}

/// One `[[endpoints]]` table.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub name: Box<str>,
    pub engine: Engine,
    pub authority: Authority,
    pub tls: Option<EndpointTls>,
    /// The `Host` header's value.
    pub host_header: Box<str>,
    /// Path prefix without a trailing slash and without a trailing `/v1` ("" for none): the request's
    /// path (`/v1/...`) is appended to it.
    pub path_prefix: Box<str>,
    pub api_key: Option<Secret>,
    /// Static extra headers, names lower-case, values proven free of CR, LF and NUL.
    pub headers: Vec<(Box<str>, Secret)>,
    /// Connections each shard may hold to it.
    pub connections_per_shard_max: usize,
    /// Retry once, invisibly, when a reused connection dies before a response byte.
    pub retry_stale: bool,
    /// Whole path probed by the control plane, prefix included, e.g. `/health`; `None` = a TCP connect.
    pub health_path: Option<Box<str>>,
    /// Whole path of the engine's metrics, prefix included; `None` = it has none.
    pub metrics_path: Option<Box<str>>,
    /// Its share under `weighted`, and its size where requests are counted.
    pub weight: u32,
    /// What its work costs, in a unit of the operator's choice; 0 is unknown.
    pub price: f32,
    /// Equal for two plans' endpoints exactly if their pooled connections are interchangeable
    /// (address, TLS and name alike).
    pub identity: u64,
    pub traits: Traits,
    /// Where its engine tells of its cache; `None`: it does not.
    pub kv_events: Option<KvEvents>,
}

impl Endpoint {
    /// What its cache depends on: where it is. Names and credentials may change.
    pub fn cache_identity(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64_with_seed(self.path_prefix.as_bytes(), self.identity)
    }
}

/// Where an engine publishes KV events (ZMQ).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEvents {
    /// The engine connects to us at `address`; else we connect to it.
    pub bind: bool,
    pub address: Box<str>,
    /// Where missed messages can be asked for.
    pub replay: Option<Box<str>>,
    /// The topic that messages begin with.
    pub topic: Box<str>,
}

/// What an endpoint can take and what it is worth.
#[derive(Clone, Debug)]
pub struct Traits {
    /// Prompt and output of one request together, tokens; 0 is unknown.
    pub context_tokens_max: u32,
    /// Requests in flight, all shards together; 0 is no bound.
    pub requests_max: u32,
    /// Where an SGLang server that prefills is met.
    pub bootstrap_port: u16,
    /// Tokens that its KV cache holds; 0 is unknown.
    pub kv_tokens: u32,
    /// How much of it requests under way may take by estimate, percent; 0 is no bound.
    pub kv_percent_max: u32,
    pub capabilities: Capabilities,
    /// Adapters (LoRA) that it has loaded, by name.
    pub adapters: Vec<Box<str>>,
    /// Region, SKU, quantization and role, each empty if not given.
    pub labels: [Box<str>; 4],
}

/// A set of things that not every server can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u8);

impl Capabilities {
    pub const NONE: Self = Self(0);
    /// Calling tools.
    pub const TOOLS: Self = Self(1);
    /// Images in the prompt.
    pub const VISION: Self = Self(2);
    /// Output bound to a JSON schema.
    pub const JSON_SCHEMA: Self = Self(4);
    pub const ALL: Self = Self(7);
    /// Keeping the caches of chat completions apart by a salt, and those of completions and responses: by
    /// engine.
    pub const SALTED_CHAT: Self = Self(8);
    pub const SALTED_TEXT: Self = Self(16);

    /// Both sets together.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// How a model picks among its endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The least predicted time to first token, sticky until saturated.
    #[default]
    PredictedTtft,
    /// Most of the prompt in its cache.
    PrefixAffinity,
    /// Fewest tokens in flight.
    LeastLoaded,
    /// Fewer tokens in flight, of two drawn endpoints.
    PowerOfTwo,
    /// Least of its KV cache in use.
    LeastKv,
    RoundRobin,
    Random,
    /// By turns, in proportion to the weights.
    Weighted,
    /// By a header's value, or the session, or how the conversation began.
    ConsistentHash,
    /// Least price while the wait is bearable.
    Cheapest,
}

/// One `[[models]]` table.
#[derive(Clone, Debug)]
pub struct Model {
    pub name: Box<str>,
    pub endpoints: Vec<EndpointId>,
    pub policy: Policy,
    /// The header whose value `consistent-hash` goes by, lower-case; `None`: the session.
    pub hash_header: Option<Box<str>>,
    /// The name sent upstream instead of the client's.
    pub upstream_model: Option<Box<str>>,
    /// The adapter (LoRA) that its name stands for.
    pub adapter: Option<Box<str>>,
    pub queue: Queue,
    /// Its `[[pairs]]` table: `endpoints` decode what others have computed.
    pub pair: Option<Box<Pair>>,
    /// Where copies of its requests go.
    pub shadow: Option<ShadowId>,
    /// Its tenants' prompts share no engine's cache.
    pub isolate: bool,
}

impl Model {
    /// Whether requests for it may go to this endpoint.
    pub fn uses(&self, id: EndpointId) -> bool {
        let pair = self.pair.iter().flat_map(|pair| pair.prefill.iter().chain(&pair.whole));
        self.endpoints.iter().chain(pair).any(|known| *known == id)
    }
}

/// One `[[keys]]` table.
#[derive(Clone, Debug)]
pub struct ClientKey {
    pub name: Box<str>,
    pub secret: Secret,
    /// The most urgent class that its requests may have, and the one that they have unless they ask for less.
    pub priority: Class,
    /// Its clients may see why their requests went where they went; it tells of others' load, too.
    pub explain: bool,
    /// Its prompts share no engine's cache with other tenants'.
    pub isolate: bool,
}
