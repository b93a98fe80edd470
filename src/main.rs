//! The command line: wires the planes together, nothing else.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sluice::{boot, config, quickstart};

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
    /// Start two simulated GPU servers on loopback and a gateway in front of them.
    Quickstart,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Quickstart) {
        Command::Serve { config } => finish(boot::serve_file(&config)),
        Command::Check { config } => check(&config),
        Command::Quickstart => finish(quickstart::run()),
    }
}

fn finish(ended: Result<u8, boot::BootError>) -> ExitCode {
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn check(path: &std::path::Path) -> ExitCode {
    match config::load(path, 1) {
        Ok(plan) => {
            println!("{}", config::describe(&plan));
            ExitCode::SUCCESS
        }
        Err(errors) => {
            eprintln!("{errors}");
            ExitCode::FAILURE
        }
    }
}
