//! The same load in real time over sockets: simulated GPU servers, a real gateway before them, and a client
//! that sends each request when it is due.
//!
//! The servers' answers are their own, not what the next turn repeats, so a conversation's answers are
//! computed again with its next turn: hit rates are a little lower than in virtual time.

mod client;
mod schedule;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Mutex, mpsc};

use clap::Args;
use sluice_sim::server::{Running, ServerConfig, spawn_thread};

use super::chains::MODEL;
use super::fleet::{Effort, Load, Played, Setup};
use super::policies::OURS;
use super::summary::Part;
use crate::Failure;
use crate::target::child::Child;
use crate::target::{free_address, free_beside};
use schedule::Schedule;

/// Requests under way at the same time, at most; each has a thread.
const CLIENTS: usize = 768;
const CLIENT_STACK_BYTES: usize = 256 << 10;

/// Real time.
#[derive(Args)]
pub struct RealArguments {
    /// Play in real time over sockets, through real processes.
    #[arg(long)]
    pub real: bool,
    /// In real time, the gateway to start in place of Sluice: a command in which {port} stands for its
    /// port, and the word {urls} for the servers' URLs. It must serve the model "m".
    #[arg(long, value_name = "COMMAND", requires = "real")]
    gateway_command: Option<String>,
    /// In real time, Sluice's program [default: beside this one].
    #[arg(long, value_name = "FILE")]
    sluice: Option<PathBuf>,
}

impl RealArguments {
    /// What stands before the fleet, for the table.
    pub fn name(&self, policy: &str) -> String {
        let program = self.gateway_command.as_deref().and_then(|text| text.split(' ').next());
        program.map_or_else(|| format!("{policy} (real)"), |name| format!("{name} (real)"))
    }
}

/// Plays `load` through a real gateway.
///
/// # Errors
/// A server or the gateway does not start.
pub fn play(
    load: &Load,
    setup: &Setup,
    arguments: &RealArguments,
    policy: &str,
    shards: usize,
) -> Result<(Played, Vec<Part>), Failure> {
    let servers = servers(setup)?;
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.addr).collect();
    let address = free_address()?;
    let command = match &arguments.gateway_command {
        Some(text) => template(text, address, &addresses),
        None => sluice(arguments, address, &addresses, policy, shards)?,
    };
    let log = std::env::temp_dir().join(format!("sluice-perf-{}-gateway.log", address.port()));
    let mut gateway = Child::spawn_on(&command, &[], &log)?;
    gateway.wait_until_listening(address)?;
    client::wait_until_ready(address)?;
    let played = send(load, setup, address);
    let parts = addresses.iter().map(|server| part(*server)).collect();
    drop(gateway);
    std::fs::remove_file(log)?;
    Ok((played, parts))
}

fn servers(setup: &Setup) -> Result<Vec<Running>, Failure> {
    let config = ServerConfig {
        engine: setup.engine.clone(),
        models: vec![MODEL.to_owned()],
        keep_alive: std::time::Duration::from_secs(60),
        ..ServerConfig::default()
    };
    let start = |_| Ok(spawn_thread(([127, 0, 0, 1], 0).into(), config.clone())?);
    (0..setup.gpus).map(start).collect()
}

fn template(text: &str, address: SocketAddr, servers: &[SocketAddr]) -> Vec<String> {
    let mut words = Vec::new();
    for word in text.split_whitespace() {
        match word {
            "{urls}" => words.extend(servers.iter().map(|server| format!("http://{server}"))),
            word => words.push(word.replace("{port}", &address.port().to_string())),
        }
    }
    words
}

/// Sluice with one model on all servers.
fn sluice(
    arguments: &RealArguments,
    address: SocketAddr,
    servers: &[SocketAddr],
    policy: &str,
    shards: usize,
) -> Result<Vec<String>, Failure> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join("sluice"));
    let program = arguments.sluice.clone().or_else(beside).ok_or("no program of Sluice")?;
    let policy = policy.strip_prefix(OURS).ok_or("in real time, policies are Sluice's own")?;
    let admin = free_beside(address)?;
    let mut text = format!(
        "[server]\nlisten = \"{address}\"\n[admin]\nlisten = \"{admin}\"\n[runtime]\n\
         shards = {shards}\n[log]\naccess = \"off\"\n[limits]\nconnections_per_shard_max = 4096\n"
    );
    for (at, server) in servers.iter().enumerate() {
        text += &format!(
            "[[endpoints]]\nname = \"gpu-{at}\"\nurl = \"http://{server}\"\nengine = \"vllm\"\n\
             connections_per_shard_max = 4096\n"
        );
    }
    let names: Vec<String> = (0..servers.len()).map(|at| format!("\"gpu-{at}\"")).collect();
    let endpoints = names.join(", ");
    text += &format!("[[models]]\nname = \"{MODEL}\"\nendpoints = [{endpoints}]\n");
    text += &format!("policy = \"{policy}\"\n");
    let file = std::env::temp_dir().join(format!("sluice-perf-{}.toml", address.port()));
    std::fs::write(&file, text)?;
    let words =
        [program.to_string_lossy(), "serve".into(), "--config".into(), file.to_string_lossy()];
    Ok(words.into_iter().map(|word| word.into_owned()).collect())
}

/// Sends all requests and waits for their ends.
fn send(load: &Load, setup: &Setup, address: SocketAddr) -> Played {
    let schedule = Schedule::new(load, setup.pace);
    let (due, dues) = mpsc::channel();
    let dues = Mutex::new(dues);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS.min(load.trace.asks.len()) {
            let client = std::thread::Builder::new().stack_size(CLIENT_STACK_BYTES);
            // With fewer threads the rest of the requests waits longer, and their delay shows.
            let _ = client.spawn_scoped(scope, || client::run(load, &schedule, &dues, address));
        }
        while let Some(next) = schedule.next() {
            if due.send(next).is_err() {
                break;
            }
        }
        drop(due);
    });
    let (courses, gaps_us, ended) = schedule.take();
    Played { courses, gaps_us, efforts: vec![Effort::default()], queued: (0.0, 0.0), ended }
}

/// What one server says that it did.
fn part(server: SocketAddr) -> Part {
    let page = metrics(server).unwrap_or_default();
    let number = |name: &str| {
        let lines = page.lines().filter(|line| line.starts_with(name));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum::<f64>() as u64
    };
    let input_tokens = number("vllm:prompt_tokens_total");
    let cached_tokens = number("vllm:prompt_tokens_cached_total");
    let computed = input_tokens.saturating_sub(cached_tokens);
    Part {
        requests: number("vllm:request_success_total"),
        input_tokens,
        cached_tokens,
        computed_tokens: computed + number("vllm:generation_tokens_total"),
        busy: 0.0,
    }
}

fn metrics(server: SocketAddr) -> std::io::Result<String> {
    let mut socket = TcpStream::connect(server)?;
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: gpu\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    socket.read_to_string(&mut page)?;
    Ok(page)
}
