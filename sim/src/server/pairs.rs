//! Both sides of a pair: a server that computes a prompt, and one that fetches its blocks and answers.
//!
//! As vLLM does it over NIXL: an answer to `do_remote_decode` says where the prompt's blocks are, and
//! they are kept for a while; a request with `do_remote_prefill` fetches them from there first. As
//! SGLang does it: both servers get a request with the same `bootstrap_room` and meet at the one that
//! prefills; whoever comes first waits for the other, and neither notices if the other died: it waits
//! until its time is up.

use super::Shared;
use super::request::Request;
use crate::api::{ApiError, Generation};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How often a server looks again for one that is not there.
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes of another server's answer.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Which half of its requests a server does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Both, or either where `kv_transfer_params` ask for it.
    #[default]
    Whole,
    /// SGLang's prefill mode: nothing without a room.
    Prefill,
    /// SGLang's decode mode: nothing without a room.
    Decode,
}

/// How a server behaves in a pair.
#[derive(Clone, Copy, Debug)]
pub struct PairConfig {
    pub role: Role,
    /// How long blocks are kept that nobody fetches.
    pub lease: Duration,
    /// How long one waits for the other.
    pub patience: Duration,
}

impl Default for PairConfig {
    fn default() -> Self {
        let (lease, patience) = (Duration::from_secs(480), Duration::from_secs(300));
        Self { role: Role::Whole, lease, patience }
    }
}

/// What `GET /sim/pairs` shows.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PairCounts {
    /// Prompts whose blocks were kept.
    pub kept: u64,
    /// Of those, fetched.
    pub fetched: u64,
    /// Of those, given up.
    pub expired: u64,
    /// Kept now.
    pub keeping: u64,
    /// Prompts fetched from others.
    pub pulled: u64,
    /// Rooms in which both met.
    pub met: u64,
    /// Requests that waited in vain.
    pub stranded: u64,
}

/// A server's share in pairs.
#[derive(Default)]
pub struct Pairs {
    kept: HashMap<u64, Kept>,
    rooms: HashMap<u64, Room>,
    pub counts: PairCounts,
    last: u64,
}

struct Kept {
    tokens: u32,
    until: Instant,
}

/// Where two requests meet.
#[derive(Clone, Copy, Default)]
struct Room {
    /// The one that prefills is there.
    open: bool,
    /// So is the one that decodes.
    joined: bool,
    /// The prompt is computed.
    done: bool,
}

#[derive(Deserialize)]
struct Asked {
    kv_transfer_params: Option<Params>,
    bootstrap_host: Option<String>,
    bootstrap_port: Option<u16>,
    bootstrap_room: Option<u64>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    min_tokens: Option<u32>,
    stream_options: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Params {
    #[serde(default)]
    do_remote_decode: bool,
    #[serde(default)]
    do_remote_prefill: bool,
    remote_block_ids: Option<Vec<u64>>,
    remote_host: Option<String>,
    remote_port: Option<u16>,
}

/// What a request is in its pair.
pub enum Part {
    /// Nothing.
    Alone,
    /// Its blocks are kept under this number.
    Keep { id: u64, place: String },
    /// Its blocks are fetched from there.
    Fetch { address: String, id: u64 },
    /// It opens this room.
    Open { room: u64 },
    /// It joins this room.
    Join { address: String, room: u64 },
}

impl Part {
    /// Reads it, and refuses what a real server would not understand.
    pub fn of(shared: &Shared, body: &[u8], run: &mut Generation) -> Result<Self, ApiError> {
        let asked: Asked = serde_json::from_slice(body)
            .map_err(|error| ApiError::bad_request(error.to_string(), None))?;
        match (&asked.kv_transfer_params, shared.config.pair.role) {
            (Some(params), Role::Whole) if params.do_remote_decode => keep(shared, &asked, run),
            (Some(params), Role::Whole) if params.do_remote_prefill => fetch(params),
            (_, Role::Whole) => Ok(Part::Alone),
            (_, Role::Prefill) => {
                let room = asked.bootstrap_room.ok_or_else(roomless)?;
                run.sequences.iter_mut().for_each(|sequence| sequence.output_tokens = 1);
                Ok(Part::Open { room })
            }
            (_, Role::Decode) => {
                let room = asked.bootstrap_room.ok_or_else(roomless)?;
                let host = asked.bootstrap_host.ok_or_else(roomless)?;
                let port = asked.bootstrap_port.ok_or_else(roomless)?;
                Ok(Part::Join { address: address(&host, port), room })
            }
        }
    }

    /// What must happen before the engine runs it.
    pub async fn before(&self, shared: &Shared, run: &Generation) -> Result<(), ApiError> {
        match self {
            Part::Alone | Part::Keep { .. } => Ok(()),
            Part::Fetch { address, id } => {
                let tokens = prompt_tokens(run);
                let path = format!("/sim/fetch/{id}/{tokens}");
                match call(address, &path).await {
                    Ok(200) => {
                        import(shared, run);
                        Ok(())
                    }
                    _ => Err(ApiError::plain(500, "InternalServerError", "KV load failed.")),
                }
            }
            Part::Open { room } => {
                shared.pairs.borrow_mut().rooms.entry(*room).or_default().open = true;
                shared.met.notify_waiters();
                until(shared, *room, |room| room.joined).await
            }
            Part::Join { address, room } => {
                let path = format!("/sim/join/{room}");
                let joined = tokio::time::timeout(shared.config.pair.patience, async {
                    // A server that is not there may still come.
                    while call(address, &path).await.ok() != Some(200) {
                        tokio::time::sleep(PAUSE).await;
                    }
                });
                joined.await.map_err(|_| stranded(shared))?;
                import(shared, run);
                Ok(())
            }
        }
    }

    /// What is put into the answer.
    pub fn place(&self) -> Option<String> {
        match self {
            Part::Keep { place, .. } => Some(place.clone()),
            _ => None,
        }
    }

    /// It is over; `whole`: its answer was.
    pub fn after(&self, shared: &Shared, whole: bool) {
        let mut pairs = shared.pairs.borrow_mut();
        match self {
            Part::Keep { id, .. } if !whole => {
                pairs.kept.remove(id);
            }
            Part::Keep { .. } => pairs.counts.kept += 1,
            Part::Open { room } if whole => {
                pairs.counts.met += 1;
                pairs.rooms.entry(*room).or_default().done = true;
            }
            Part::Open { room } => {
                pairs.rooms.remove(room);
            }
            Part::Alone | Part::Fetch { .. } | Part::Join { .. } => {}
        }
        shared.met.notify_waiters();
    }
}

impl Pairs {
    /// Gives up what was kept for too long, and counts the rest.
    pub fn sweep(&mut self, now: Instant) -> PairCounts {
        let before = self.kept.len();
        self.kept.retain(|_, kept| kept.until > now);
        self.counts.expired += (before - self.kept.len()) as u64;
        PairCounts { keeping: self.kept.len() as u64, ..self.counts }
    }
}

/// Another server's call, if that is what it is: the status to answer with.
pub async fn answer(shared: &Shared, request: &Request) -> Option<u16> {
    let mut parts = request.path.strip_prefix("/sim/")?.split('/');
    match (parts.next()?, parts.next()?.parse().ok()?, parts.next()) {
        ("fetch", id, Some(tokens)) => {
            let mut pairs = shared.pairs.borrow_mut();
            pairs.sweep(Instant::now());
            let kept = pairs.kept.remove(&id).is_some_and(|kept| tokens == kept.tokens.to_string());
            pairs.counts.fetched += u64::from(kept);
            Some(if kept { 200 } else { 404 })
        }
        ("join", room, None) => Some(join(shared, room).await),
        _ => None,
    }
}

async fn join(shared: &Shared, room: u64) -> u16 {
    shared.pairs.borrow_mut().rooms.entry(room).or_default().joined = true;
    shared.met.notify_waiters();
    let done = until(shared, room, |room| room.done).await;
    shared.pairs.borrow_mut().rooms.remove(&room);
    if done.is_ok() { 200 } else { 504 }
}

/// Waits for the other one.
async fn until(shared: &Shared, room: u64, is: fn(&Room) -> bool) -> Result<(), ApiError> {
    let waited = tokio::time::timeout(shared.config.pair.patience, async {
        loop {
            let notified = shared.met.notified();
            if shared.pairs.borrow().rooms.get(&room).is_some_and(is) {
                return;
            }
            notified.await;
        }
    });
    waited.await.map_err(|_| stranded(shared))
}

fn stranded(shared: &Shared) -> ApiError {
    shared.pairs.borrow_mut().counts.stranded += 1;
    ApiError::plain(500, "InternalServerError", "KVTransferError: timed out.")
}

fn roomless() -> ApiError {
    ApiError::bad_request("Disaggregated request received without bootstrap_room.", None)
}

fn prompt_tokens(run: &Generation) -> u32 {
    run.sequences.iter().map(|sequence| sequence.prompt.tokens).sum()
}

/// vLLM's first leg: one token, whole.
fn keep(shared: &Shared, asked: &Asked, run: &Generation) -> Result<Part, ApiError> {
    let one = asked.max_tokens == Some(1) && asked.max_completion_tokens.is_none_or(|n| n == 1);
    let options = asked.stream_options.is_some() || asked.min_tokens.unwrap_or(0) > 0;
    if !one || run.stream || options || run.sequences.len() != 1 {
        return Err(ApiError::bad_request("The first leg must give one token.", None));
    }
    let mut pairs = shared.pairs.borrow_mut();
    pairs.last += 1;
    let id = (u64::from(shared.port) << 32) | pairs.last;
    let kept =
        Kept { tokens: prompt_tokens(run), until: Instant::now() + shared.config.pair.lease };
    pairs.kept.insert(id, kept);
    // Spaces and unknown members: whoever passes it on must not read it.
    let place = format!(
        r#"{{"do_remote_prefill": true, "do_remote_decode": false, "remote_block_ids": [{id}], "remote_engine_id": "sim-{}", "remote_host": "127.0.0.1", "remote_port": {}, "tp_size": 1, "é": "\u00e9"}}"#,
        shared.port, shared.port
    );
    Ok(Part::Keep { id, place })
}

fn fetch(params: &Params) -> Result<Part, ApiError> {
    let id = params.remote_block_ids.as_ref().and_then(|ids| ids.first());
    match (id, &params.remote_host, params.remote_port) {
        (Some(id), Some(host), Some(port)) => {
            Ok(Part::Fetch { address: address(host, port), id: *id })
        }
        _ => Err(ApiError::bad_request("kv_transfer_params name no blocks.", None)),
    }
}

fn address(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// The prompt's blocks have come.
fn import(shared: &Shared, run: &Generation) {
    shared.pairs.borrow_mut().counts.pulled += 1;
    let mut core = shared.core.borrow_mut();
    run.sequences.iter().for_each(|sequence| core.engine.import(&sequence.prompt));
}

/// The status with which another server answers.
async fn call(address: &str, path: &str) -> io::Result<u16> {
    let mut socket = TcpStream::connect(address).await?;
    let request = format!("POST {path} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
    status.and_then(|digits| digits.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
