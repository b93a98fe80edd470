//! `sluice-sim`: one simulated GPU server in the foreground.

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sluice_sim::api::Dialect;
use sluice_sim::engine::{EngineConfig, prefill_cost};
use sluice_sim::fault::{BadFault, Faults};
use sluice_sim::server::{DefaultFault, KvEvents, PairConfig, Role, Scope, ServerConfig, serve};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// A simulated GPU inference server that speaks vLLM's APIs, or llama.cpp's, and misbehaves on command.
#[derive(Parser, Debug)]
#[command(version, about)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// Whose server it is taken for.
    #[arg(long, value_enum, default_value_t = Server::Vllm)]
    engine: Server,
    /// Model name to serve; may be repeated.
    #[arg(long = "model", default_value = "mock-model")]
    models: Vec<String>,
    /// Decides the text: servers with one seed say the same.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Prompt tokens that the engine reads in a second.
    #[arg(long, default_value_t = 20_000.0)]
    prefill_tokens_per_second: f64,
    /// Milliseconds that a decode step takes before any sequence's share.
    #[arg(long, default_value_t = 20.0)]
    decode_ms: f64,
    /// Milliseconds that each decoding sequence adds to a step.
    #[arg(long, default_value_t = 0.05)]
    decode_ms_per_sequence: f64,
    /// Sequences in a batch; more wait.
    #[arg(long, default_value_t = 256)]
    max_num_seqs: u32,
    /// Tokens in a step; longer prompts are read in chunks.
    #[arg(long, default_value_t = 8_192)]
    max_num_batched_tokens: u32,
    /// Blocks of the KV cache.
    #[arg(long, default_value_t = 65_536)]
    kv_blocks: u32,
    /// Tokens in a block; without it 16, of llama.cpp 1.
    #[arg(long)]
    block_size: Option<u32>,
    /// Longest prompt and output together, in tokens.
    #[arg(long, default_value_t = 1 << 20)]
    max_model_len: u32,
    /// Draft tokens per step (speculative decoding).
    #[arg(long, default_value_t = 0)]
    draft_tokens: u32,
    /// Chance in a thousand that a draft token is accepted.
    #[arg(long, default_value_t = 700)]
    draft_acceptance_permille: u32,
    /// Output tokens where the request sets no limit.
    #[arg(long, default_value_t = 64)]
    output_tokens: u32,
    /// Output length at which the model stops by itself; without it, it talks up to the limit.
    #[arg(long)]
    eos_tokens: Option<u32>,
    /// Seconds that an idle connection stays open.
    #[arg(long, default_value_t = 5.0)]
    keep_alive_s: f64,
    /// Pace tokens as the engine model says (the default).
    #[arg(long, conflicts_with = "instant")]
    realtime: bool,
    /// No pacing: every answer at once, as fast as the socket takes it.
    #[arg(long)]
    instant: bool,
    /// Half of its requests that the server does, as SGLang's servers in pairs do.
    #[arg(long, value_enum, default_value_t = Half::Whole)]
    role: Half,
    /// Seconds for which a prompt's blocks are kept for another server.
    #[arg(long, default_value_t = 480.0)]
    lease_s: f64,
    /// Seconds for which one server of a pair waits for the other.
    #[arg(long, default_value_t = 300.0)]
    pair_patience_s: f64,
    /// Publish KV events (ZMQ) at this address, such as "tcp://127.0.0.1:5557"; with "connect:" before it,
    /// connect there.
    #[arg(long, value_name = "ADDRESS")]
    kv_events: Option<String>,
    /// Repeat missed KV events at this address.
    #[arg(long, value_name = "ADDRESS", requires = "kv_events")]
    kv_events_replay: Option<String>,
    /// First frame of each message.
    #[arg(long, default_value = "")]
    kv_events_topic: String,
    /// Fault for all requests for tokens, such as "429:2" or "rst:400".
    #[arg(long, default_value = "")]
    fault: String,
    /// Share of requests that the fault strikes.
    #[arg(long, default_value_t = 1.0)]
    fault_probability: f64,
}

/// See [`Dialect`].
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Server {
    Vllm,
    LlamaCpp,
}

/// See [`Role`].
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Half {
    Whole,
    Prefill,
    Decode,
}

impl Arguments {
    fn config(&self) -> Result<ServerConfig, BadFault> {
        Ok(ServerConfig {
            dialect: self.dialect(),
            engine: self.engine(),
            models: self.models.clone(),
            seed: self.seed,
            keep_alive: Duration::from_secs_f64(self.keep_alive_s.clamp(0.0, 1e9)),
            instant: self.instant,
            context_tokens_max: self.max_model_len,
            output_tokens_default: self.output_tokens,
            eos_tokens: self.eos_tokens,
            fault: self.default_fault()?,
            pair: self.pair(),
            kv_events: self.kv_events.clone().map(|publish| KvEvents {
                publish,
                replay: self.kv_events_replay.clone(),
                topic: self.kv_events_topic.clone(),
            }),
            ..ServerConfig::default()
        })
    }

    fn dialect(&self) -> Dialect {
        match self.engine {
            Server::Vllm => Dialect::Vllm,
            Server::LlamaCpp => Dialect::LlamaCpp,
        }
    }

    fn pair(&self) -> PairConfig {
        let seconds = |s: f64| Duration::from_secs_f64(s.clamp(0.0, 1e9));
        let role = match self.role {
            Half::Whole => Role::Whole,
            Half::Prefill => Role::Prefill,
            Half::Decode => Role::Decode,
        };
        let (lease, patience) = (seconds(self.lease_s), seconds(self.pair_patience_s));
        PairConfig { role, lease, patience }
    }

    fn engine(&self) -> EngineConfig {
        // llama.cpp compares prompts token by token.
        let block_size = match self.engine {
            Server::Vllm => self.block_size.unwrap_or(16),
            Server::LlamaCpp => self.block_size.unwrap_or(1),
        };
        let nanoseconds = |ms: f64| (ms.max(0.0) * 1e6) as u64;
        EngineConfig {
            block_size: block_size.max(1),
            kv_blocks: self.kv_blocks.max(1),
            max_num_seqs: self.max_num_seqs.max(1),
            max_num_batched_tokens: self.max_num_batched_tokens.max(1),
            step_base: nanoseconds(self.decode_ms),
            step_per_sequence: nanoseconds(self.decode_ms_per_sequence),
            step_per_prefill_token: prefill_cost(self.prefill_tokens_per_second),
            prefix_caching: true,
            draft_tokens: self.draft_tokens,
            draft_acceptance_permille: self.draft_acceptance_permille,
        }
    }

    fn default_fault(&self) -> Result<Option<DefaultFault>, BadFault> {
        let faults = Faults::parse(&self.fault)?;
        Ok((faults != Faults::default()).then(|| DefaultFault {
            text: self.fault.clone(),
            faults,
            probability: self.fault_probability,
            times: None,
            scope: Scope::Inference,
        }))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.config() {
        Ok(config) => match run(arguments.listen, config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("cannot serve on {}: {error}", arguments.listen)),
        },
        Err(bad) => fail(&bad.to_string()),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("sluice-sim: {message}");
    ExitCode::FAILURE
}

/// Serves until SIGINT or SIGTERM.
fn run(listen: SocketAddr, config: ServerConfig) -> io::Result<()> {
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let mut stdout = io::stdout();
        writeln!(stdout, "listening on {}", listener.local_addr()?)?;
        stdout.flush()?;
        tokio::select! {
            result = serve(listener, config) => result,
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    })
}

/// Thousands of streams need as many descriptors: up to the hard limit we may help ourselves.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Refused, it stays as it was, and accepting waits where descriptors run out.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
