//! `sluice-sim`: one simulated GPU server in the foreground.

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sluice_sim::api::Dialect;
use sluice_sim::engine::{EngineConfig, prefill_cost};
use sluice_sim::fault::{BadFault, Faults};
use sluice_sim::options::{read_own, within};
use sluice_sim::server::{DefaultFault, KvEvents, PairConfig, Role, Scope, ServerConfig, serve};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// A step's milliseconds at most: an hour.
const STEP_MS_MAX: f64 = 3_600_000.0;
/// Tokens of a step, a prompt or an answer at most.
const TOKENS_MAX: u32 = 1 << 24;
/// Blocks of the KV cache at most; each takes memory of its own.
const KV_BLOCKS_MAX: u32 = 1 << 24;
/// Seconds at most that anything is waited for: eleven days.
const SECONDS_MAX: f64 = 1e6;

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
    #[arg(long, default_value_t = 0, value_parser = within(0, u64::MAX))]
    seed: u64,
    /// Prompt tokens that the engine reads in a second.
    #[arg(long, default_value_t = 20_000.0, value_parser = within(1.0, 1e9))]
    prefill_tokens_per_second: f64,
    /// Milliseconds that a decode step takes before any sequence's share.
    #[arg(long, default_value_t = 20.0, value_parser = within(0.0, STEP_MS_MAX))]
    decode_ms: f64,
    /// Milliseconds that each decoding sequence adds to a step.
    #[arg(long, default_value_t = 0.05, value_parser = within(0.0, STEP_MS_MAX))]
    decode_ms_per_sequence: f64,
    /// Sequences in a batch; more wait.
    #[arg(long, default_value_t = 256, value_parser = within::<u32>(1, 1_000_000))]
    max_num_seqs: u32,
    /// Tokens in a step; longer prompts are read in chunks.
    #[arg(long, default_value_t = 8_192, value_parser = within::<u32>(1, TOKENS_MAX))]
    max_num_batched_tokens: u32,
    /// Blocks of the KV cache.
    #[arg(long, default_value_t = 65_536, value_parser = within::<u32>(1, KV_BLOCKS_MAX))]
    kv_blocks: u32,
    /// Tokens in a block; without it 16, of llama.cpp 1.
    #[arg(long, value_parser = within::<u32>(1, 65_536))]
    block_size: Option<u32>,
    /// Longest prompt and output together, in tokens.
    #[arg(long, default_value_t = 1 << 20, value_parser = within::<u32>(1, TOKENS_MAX))]
    max_model_len: u32,
    /// Draft tokens per step (speculative decoding).
    #[arg(long, default_value_t = 0, value_parser = within::<u32>(0, 1_024))]
    draft_tokens: u32,
    /// Chance in a thousand that a draft token is accepted.
    #[arg(long, default_value_t = 700, value_parser = within::<u32>(0, 1_000))]
    draft_acceptance_permille: u32,
    /// Output tokens where the request sets no limit.
    #[arg(long, default_value_t = 64, value_parser = within::<u32>(1, TOKENS_MAX))]
    output_tokens: u32,
    /// Output length at which the model stops by itself; without it, it talks up to the limit.
    #[arg(long, value_parser = within::<u32>(1, TOKENS_MAX))]
    eos_tokens: Option<u32>,
    /// Seconds that an idle connection stays open.
    #[arg(long, default_value_t = 5.0, value_parser = within(0.0, SECONDS_MAX))]
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
    #[arg(long, default_value_t = 480.0, value_parser = within(0.0, SECONDS_MAX))]
    lease_s: f64,
    /// Seconds for which one server of a pair waits for the other.
    #[arg(long, default_value_t = 300.0, value_parser = within(0.0, SECONDS_MAX))]
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
    #[arg(long, default_value_t = 1.0, value_parser = within(0.0, 1.0))]
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
            keep_alive: Duration::from_secs_f64(self.keep_alive_s),
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
        let seconds = Duration::from_secs_f64;
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
        let nanoseconds = |ms: f64| (ms * 1e6) as u64;
        EngineConfig {
            block_size,
            kv_blocks: self.kv_blocks,
            max_num_seqs: self.max_num_seqs,
            max_num_batched_tokens: self.max_num_batched_tokens,
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
    let arguments: Arguments = read_own();
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use sluice_sim::options::read;
    use std::collections::BTreeSet;

    fn refusal(option: &str, value: &str) -> Option<String> {
        let words = ["sluice-sim", option, value].map(Into::into);
        read::<Arguments>(words).err().map(|error| error.to_string())
    }

    #[test]
    fn numbers_out_of_range_are_refused_with_their_range() {
        for (option, value, range) in [
            ("--block-size", "0", "1..=65536"),
            ("--kv-blocks", "0", "1..=16777216"),
            ("--fault-probability", "7", "0..=1"),
            ("--prefill-tokens-per-second", "NaN", "1..=1000000000"),
            ("--prefill-tokens-per-second", "-5", "1..=1000000000"),
            ("--decode-ms", "-0.5", "0..=3600000"),
            ("--seed", "-1", "0..=18446744073709551615"),
        ] {
            let said = refusal(option, value).unwrap_or_default();
            let option = format!("invalid value '{value}' for '{option} ");
            assert!(said.contains(&option), "{said}");
            assert!(said.contains(&format!("{value} is not in {range}\n")), "{said}");
        }
    }

    #[test]
    fn every_number_has_a_range() {
        let command = Arguments::command();
        for option in command.get_arguments().filter(|it| it.get_action().takes_values()) {
            let texts = ["listen", "engine", "models", "role", "fault"];
            let id = option.get_id().as_str();
            if texts.contains(&id) || id.starts_with("kv_events") {
                continue;
            }
            let long = format!("--{}", option.get_long().unwrap_or_default());
            for wrong in ["NaN", "-1", "1e300", "many"] {
                let said = refusal(&long, wrong).unwrap_or_default();
                assert!(said.contains(&format!("{wrong} is not in ")), "{long} {wrong}: {said}");
            }
        }
    }

    #[test]
    fn the_readmes_table_has_every_option_and_no_other() {
        let rows = include_str!("../README.md").lines().filter(|line| line.starts_with("| `--"));
        let cells = rows.filter_map(|row| row.split('|').nth(1));
        let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
        let told: BTreeSet<&str> = names.filter_map(|name| name.split(' ').next()).collect();
        let command = Arguments::command();
        let longs = command.get_arguments().filter_map(|option| option.get_long());
        let known: BTreeSet<String> = longs.map(|long| format!("--{long}")).collect();
        assert_eq!(told, known.iter().map(String::as_str).collect());
    }
}
