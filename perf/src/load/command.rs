//! `sluice-perf load`: a spec from options or from a file, the run, what came of it.

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use sluice_sim::options::within;

use super::spec::{
    Arrivals, BODY_BYTES_MAX, CONNECTIONS_MAX, DURATION_MAX, PREFIXES_MAX, Prompts, RATE_MAX,
    Reader, Shape, Spec, TURNS_MAX, Target,
};
use super::{Phase, Progress, run, summary};
use crate::Failure;
use crate::target::launch;
use crate::traffic::payload::Text;

/// Seconds that anything may take, at most.
const SECONDS_MAX: f64 = DURATION_MAX.as_secs() as f64;
/// The least of what must be more than nothing: seconds, or requests a second.
const LEAST: f64 = 0.001;

/// The options that a spec says, too.
const OPTIONS: [&str; 24] = [
    "target",
    "model",
    "api_key_env",
    "headers",
    "concurrency",
    "rate",
    "poisson",
    "trace",
    "stream",
    "body",
    "text",
    "output_tokens",
    "unique",
    "shared",
    "prefixes",
    "agent",
    "turns",
    "connections",
    "warmup",
    "duration",
    "patience",
    "abort_share",
    "slow_readers",
    "seed",
];

/// Put load on anything that speaks the OpenAI API, and measure its answers.
///
/// Without a rate it is a closed loop: a new request as soon as one is answered. With a rate it is an open
/// loop: requests leave when they are due, whatever the target does, and latency counts from that moment.
#[derive(Args)]
pub struct Load {
    /// The API: `http://host:port`, with the path that `/chat/completions` hangs under if it is not `/v1`.
    #[arg(long, value_name = "URL", required_unless_present = "spec")]
    target: Option<Target>,
    /// Take everything from this file (JSON, as `--print-spec` writes it).
    #[arg(long, value_name = "FILE", conflicts_with_all = OPTIONS)]
    spec: Option<PathBuf>,
    /// Write the spec of these options to stdout, and do nothing.
    #[arg(long)]
    print_spec: bool,
    #[arg(long, default_value = "mock-model")]
    model: String,
    /// The environment variable that holds the API key.
    #[arg(long, value_name = "NAME")]
    api_key_env: Option<String>,
    /// A further header, `name: value`; repeatable.
    #[arg(long = "header", value_name = "HEADER", value_parser = header)]
    headers: Vec<(String, String)>,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    what: What,
    /// Connections at most: those of a closed loop, or 1024.
    #[arg(long, value_name = "N", value_parser = within::<usize>(1, CONNECTIONS_MAX))]
    connections: Option<usize>,
    /// Seconds of the same traffic before anything counts.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = within(0.0, SECONDS_MAX))]
    warmup: f64,
    /// Seconds that are measured.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = within(LEAST, SECONDS_MAX))]
    duration: f64,
    /// Seconds that an answer may stay silent, and that the last ones are awaited.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = within(LEAST, SECONDS_MAX))]
    patience: f64,
    /// Share of the requests to give up, each at a random moment (0 to 1).
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = within(0.0, 1.0))]
    abort_share: f64,
    /// Read each answer at so many bytes a second.
    #[arg(long, value_name = "BYTES", value_parser = within::<u32>(1, u32::MAX))]
    slow_readers: Option<u32>,
    /// Never sleep while waiting, so that the target does not pay for waking the generator.
    #[arg(long, conflicts_with = "spec")]
    spin: bool,
    #[arg(long, default_value_t = 0, value_parser = within(0, u64::MAX))]
    seed: u64,
    /// The CPU to stay on, before its other work where that is allowed.
    #[arg(long, value_name = "N", value_parser = within::<usize>(0, launch::CPU_MAX))]
    cpu: Option<usize>,
    /// Come before everything else on that CPU by the real-time scheduler (as root, with `chrt`): for
    /// machines with other work, which stands still meanwhile.
    #[arg(long, requires = "cpu")]
    realtime: bool,
    /// Print the outcome as one JSON object, with raw histograms.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct When {
    /// Closed loop: requests at once.
    #[arg(long, value_name = "N", default_value_t = 16, conflicts_with_all = ["rate", "trace"], value_parser = within::<usize>(1, CONNECTIONS_MAX))]
    concurrency: usize,
    /// Open loop: requests a second, at equal distances.
    #[arg(long, value_name = "PER_SECOND", value_parser = within(LEAST, RATE_MAX))]
    rate: Option<f64>,
    /// At random distances of the same mean instead.
    #[arg(long, requires = "rate")]
    poisson: bool,
    /// Open loop: requests at the moments in this file, seconds after the start, one in a line.
    #[arg(long, value_name = "FILE", conflicts_with = "rate")]
    trace: Option<PathBuf>,
}

#[derive(Args)]
struct What {
    /// Ask for streams.
    #[arg(long)]
    stream: bool,
    /// Bytes of a request's body; `k` and `m` multiply by 1024.
    #[arg(long, value_name = "BYTES", default_value = "1k", value_parser = bytes)]
    body: usize,
    /// What the text of a prompt is like.
    #[arg(long, value_enum, default_value = "plain")]
    text: Text,
    /// Tokens to ask for.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = within::<u32>(1, 1 << 24))]
    output_tokens: u32,
    /// Prompts that differ from the start.
    #[arg(long)]
    unique: bool,
    /// Prompts of which this share is one of a few long beginnings (`--prefixes`), the rest their own.
    #[arg(long, value_name = "SHARE", conflicts_with = "unique", value_parser = within(0.0, 1.0))]
    shared: Option<f64>,
    /// Number of those beginnings.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "shared", value_parser = within::<u32>(1, PREFIXES_MAX))]
    prefixes: u32,
    /// Conversations of agents, streamed: bodies grow from the one size to the other.
    #[arg(long, value_name = "FROM..TO", value_parser = span, conflicts_with_all = ["body", "unique", "shared"])]
    agent: Option<(usize, usize)>,
    /// Turns of such a conversation.
    #[arg(long, value_name = "N", default_value_t = 20, requires = "agent", value_parser = within::<u32>(1, TURNS_MAX))]
    turns: u32,
}

/// Runs, and prints.
///
/// # Errors
/// The options contradict each other, the target is unknown, or what was measured is no service.
pub fn command(load: &Load) -> Result<(), Failure> {
    let spec = spec(load)?;
    spec.check()?;
    let mut stdout = std::io::stdout();
    if load.print_spec {
        return Ok(writeln!(stdout, "{}", serde_json::to_string_pretty(&spec)?)?);
    }
    if let Some(cpu) = load.cpu {
        launch::pin(&[cpu])?;
        launch::prefer();
    }
    if load.realtime {
        launch::become_realtime()?;
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, interrupted.clone())?;
    }
    let mut teller = Teller::default();
    let outcome = run(&spec, |progress| {
        teller.tell(progress);
        match interrupted.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    teller.end();
    match load.json {
        true => writeln!(stdout, "{}", serde_json::to_string(&outcome)?)?,
        false => write!(stdout, "{}", summary::summary(&spec, &outcome))?,
    }
    outcome.verdict()
}

fn spec(load: &Load) -> Result<Spec, Failure> {
    if let Some(file) = &load.spec {
        let shown = file.display();
        let text = std::fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
        return serde_json::from_str(&text).map_err(|error| format!("{shown}: {error}").into());
    }
    let target = load.target.clone().ok_or("no target")?;
    let arrivals = load.when.arrivals()?;
    let connections = load.connections.unwrap_or(match arrivals {
        Arrivals::Closed { concurrency } => concurrency,
        _ => 1024,
    });
    let key = |name: &String| std::env::var(name).map_err(|error| format!("{name}: {error}"));
    let slow = |bytes_per_second| Reader::Slow { bytes_per_second };
    let time = |seconds: f64| {
        Duration::try_from_secs_f64(seconds).map_err(|error| format!("{seconds} s: {error}"))
    };
    Ok(Spec {
        model: load.model.clone(),
        api_key: load.api_key_env.as_ref().map(key).transpose()?,
        headers: load.headers.clone(),
        prompts: load.what.prompts(),
        warmup: time(load.warmup)?,
        duration: time(load.duration)?,
        patience: time(load.patience)?,
        abort_share: load.abort_share,
        readers: load.slow_readers.map_or(Reader::Fast, slow),
        spin: load.spin,
        seed: load.seed,
        ..Spec::new(target, arrivals, load.what.shape(), connections)
    })
}

impl When {
    fn arrivals(&self) -> Result<Arrivals, Failure> {
        Ok(match (self.rate, &self.trace) {
            (Some(per_second), _) if self.poisson => Arrivals::Poisson { per_second },
            (Some(per_second), _) => Arrivals::Fixed { per_second },
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| format!("{}: {error}", file.display()))?;
                let moment = |line: &str| -> Result<Duration, Failure> {
                    Ok(Duration::try_from_secs_f64(line.parse()?)?)
                };
                let moments = text.lines().map(str::trim).filter(|line| !line.is_empty());
                Arrivals::Traced { at: moments.map(moment).collect::<Result<_, _>>()? }
            }
            (None, None) => Arrivals::Closed { concurrency: self.concurrency },
        })
    }
}

impl What {
    fn shape(&self) -> Shape {
        let (body_bytes, text, output_tokens) = (self.body, self.text, self.output_tokens);
        match self.agent {
            Some((first_bytes, last_bytes)) => {
                Shape::Agent { first_bytes, last_bytes, turns: self.turns, output_tokens }
            }
            None if self.stream => Shape::Stream { body_bytes, text, output_tokens },
            None => Shape::Unary { body_bytes, text, output_tokens },
        }
    }

    fn prompts(&self) -> Prompts {
        match self.shared {
            Some(share) => Prompts::Shared { prefixes: self.prefixes, share },
            None if self.unique => Prompts::Unique,
            None => Prompts::Same,
        }
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is `name: value`")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn bytes(text: &str) -> Result<usize, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, unit) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 1 << 10),
        Some(b'm') => (&lower[..lower.len() - 1], 1 << 20),
        _ => (&lower[..], 1),
    };
    let number = digits.parse().map(|number: f64| (number * f64::from(unit)) as usize);
    number.ok().filter(|bytes| (1..=BODY_BYTES_MAX).contains(bytes)).ok_or_else(|| {
        format!("{text} is not in 1..={BODY_BYTES_MAX} bytes, such as 900, 8k or 0.5m")
    })
}

fn span(text: &str) -> Result<(usize, usize), String> {
    let (from, to) = text.split_once("..").ok_or("sizes such as 0.5m..3m")?;
    Ok((bytes(from)?, bytes(to)?))
}

/// Says on stderr how a run goes: over one line on a terminal, else at changes of phase.
#[derive(Default)]
struct Teller {
    phase: Option<Phase>,
    second: u64,
    on_line: bool,
}

impl Teller {
    fn tell(&mut self, progress: &Progress) {
        let mut stderr = std::io::stderr();
        let changed = self.phase.replace(progress.phase) != Some(progress.phase);
        let (terminal, second) = (stderr.is_terminal(), progress.elapsed.as_secs());
        if !changed && (!terminal || second == self.second) {
            return;
        }
        self.second = second;
        let name = match progress.phase {
            Phase::WarmUp => "warming up",
            Phase::Measuring => "measuring",
            Phase::Draining => "awaiting the last answers",
        };
        let line = format!(
            "{name}: {:.1} s, {} sent, {} ok, {} failed, {} unsent, {} under way on {} connections",
            progress.elapsed.as_secs_f64(),
            progress.sent,
            progress.ok,
            progress.failed,
            progress.unsent,
            progress.in_flight,
            progress.connections
        );
        // Whoever reads this may be gone; the measurement is not theirs alone.
        let _ = match terminal {
            true => write!(stderr, "\r\x1b[K{line}"),
            false => writeln!(stderr, "{line}"),
        };
        self.on_line = terminal;
    }

    fn end(&self) {
        if self.on_line {
            eprintln!();
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        load: Load,
    }

    fn parsed(words: &str) -> Spec {
        let words = ["load", "--target", "http://h:1"].into_iter().chain(words.split_whitespace());
        let spec = spec(&Cli::try_parse_from(words).unwrap().load).unwrap();
        spec.check().unwrap();
        spec
    }

    #[test]
    fn options_become_a_spec() {
        let spec = parsed("--rate 50 --poisson --stream --body 8k --shared 0.5 --header a:b");
        assert_eq!(spec.arrivals, Arrivals::Poisson { per_second: 50.0 });
        let (body_bytes, text, output_tokens) = (8192, Text::Plain, 64);
        assert_eq!(spec.request, Shape::Stream { body_bytes, text, output_tokens });
        assert_eq!(spec.prompts, Prompts::Shared { prefixes: 1, share: 0.5 });
        assert_eq!((spec.connections, spec.headers.len()), (1024, 1));
        let spec = parsed("--concurrency 3 --agent 0.5m..3m --turns 9");
        assert_eq!((spec.connections, spec.arrivals), (3, Arrivals::Closed { concurrency: 3 }));
        let (first_bytes, last_bytes) = (512 << 10, 3 << 20);
        let agent = Shape::Agent { first_bytes, last_bytes, turns: 9, output_tokens: 64 };
        assert_eq!(spec.request, agent);
    }

    #[test]
    fn contradictions_are_refused() {
        for words in ["--rate 5 --concurrency 2", "--poisson", "--body 0", "--body x", "--agent 3m"]
        {
            let words = format!("load --target http://h:1 {words}");
            assert!(Cli::try_parse_from(words.split_whitespace()).is_err(), "{words}");
        }
        for option in ["--rate 5", "--stream", "--target http://h", "--seed 1"] {
            let words = format!("load --spec file {option}");
            assert!(Cli::try_parse_from(words.split_whitespace()).is_err(), "{words}");
        }
        assert!(Cli::try_parse_from("load --spec file --cpu 1 --json".split(' ')).is_ok());
    }
}
