//! The command line: wires the planes together, nothing else.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sluice::{boot, config, foretell, quickstart};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An inference gateway: one binary between applications and the machines that run language models.
#[derive(Parser)]
#[command(name = "sluice", version, about)]
struct Cli {
    /// Without one: quickstart.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve what the configuration file says.
    Serve {
        /// The configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Validate a configuration file and print what it compiles to.
    Check {
        /// The configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Say where a request would go, and why: over idle endpoints, without asking any of them.
    Route {
        /// The configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The request's body (JSON).
        #[arg(long, value_name = "FILE")]
        request: PathBuf,
        /// The path it would be sent to.
        #[arg(long, default_value = "/v1/chat/completions")]
        path: String,
        /// The name of the client's key; must be given where there are [[keys]].
        #[arg(long, value_name = "NAME")]
        key: Option<String>,
        /// What the client's session header says.
        #[arg(long, value_name = "ID")]
        session: Option<String>,
        /// A request that was sent before, and where to; in the order in which they are given.
        #[arg(long, value_name = "ENDPOINT=FILE", value_parser = sent_before)]
        warm: Vec<(String, PathBuf)>,
    },
    /// Start two simulated GPU servers on loopback and a gateway in front of them.
    Quickstart,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Quickstart) {
        Command::Serve { config } => finish(boot::serve_file(&config)),
        Command::Check { config } => check(&config),
        Command::Route { config, request, path, key, session, warm } => {
            route(&foretell::Question { config, request, path, key, session, warm })
        }
        Command::Quickstart => finish(quickstart::run(print)),
    }
}

fn sent_before(text: &str) -> Result<(String, PathBuf), String> {
    let (endpoint, file) = text.split_once('=').ok_or("write ENDPOINT=FILE")?;
    Ok((endpoint.to_owned(), file.into()))
}

fn route(question: &foretell::Question) -> ExitCode {
    let told = foretell::foretell(question)
        .and_then(|told| serde_json::to_string_pretty(&told).map_err(|error| error.to_string()));
    match told {
        Ok(told) => say(&told),
        Err(why) => fail(&why),
    }
}

/// On standard output. Who reads only the beginning of it, as `head` does, has had what it wanted.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

fn say(text: &str) -> ExitCode {
    match print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("standard output: {error}")),
    }
}

/// On standard error; where that cannot be written either, there is the exit status.
fn fail(why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{why}");
    ExitCode::FAILURE
}

fn finish(ended: Result<u8, boot::BootError>) -> ExitCode {
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error.to_string()),
    }
}

fn check(path: &std::path::Path) -> ExitCode {
    match config::load(path, 1) {
        Ok(plan) => say(&config::describe(&plan)),
        Err(errors) => fail(&errors.to_string()),
    }
}
