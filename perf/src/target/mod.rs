//! What is measured: the floor or the gateway, as a child process pinned to its own CPU.

pub mod child;
pub mod keep;
pub mod launch;
pub mod process;
pub mod sluice;
pub mod tree;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use child::Child;
use clap::ValueEnum;

use crate::Failure;

/// The kernel interface of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Driver {
    Uring,
    Epoll,
}

impl Driver {
    /// Its name on command lines, in configurations and in records.
    pub const fn name(self) -> &'static str {
        match self {
            Driver::Uring => "uring",
            Driver::Epoll => "epoll",
        }
    }
}

/// A proxy that can be put between clients and the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Floor,
    Sluice,
}

impl Target {
    /// Its name in records and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Target::Floor => "floor",
            Target::Sluice => "sluice",
        }
    }
}

/// How targets are started.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The gateway's program.
    pub sluice: PathBuf,
    /// Where configurations, certificates and profiles go.
    pub scratch: PathBuf,
    /// Where callgrind's profiles are kept.
    pub profiles: Option<PathBuf>,
    /// The CPU of the proxies.
    pub proxy_cpu: usize,
    /// The CPU of the load and the upstream.
    pub load_cpu: usize,
    /// Whether proxies come before everything else on their CPU, by the real-time scheduler.
    pub realtime: bool,
    /// Whether the load never sleeps.
    pub spin: bool,
}

/// How one target is started.
#[derive(Clone, Debug)]
pub struct Start {
    pub target: Target,
    pub driver: Driver,
    pub upstream: SocketAddr,
    /// Whether clients speak TLS to it; the floor relays what they say.
    pub tls: bool,
    /// Run under callgrind, which writes its counts to files of this name.
    pub profile: Option<PathBuf>,
}

/// A target that accepts connections.
pub struct Running {
    pub address: SocketAddr,
    pub child: Child,
}

/// Starts a target and waits until it accepts.
///
/// # Errors
/// It did not start, or not in time.
pub fn start(bench: &Bench, wanted: &Start) -> Result<Running, Failure> {
    let address = free_address()?;
    let program = match wanted.target {
        Target::Floor => floor_command(wanted, address)?,
        Target::Sluice => sluice::command(bench, wanted, address)?,
    };
    let program = under_valgrind(program, wanted.profile.as_ref());
    let program = if bench.realtime { launch::realtime(program) } else { program };
    let log = bench.scratch.join(format!("{}-{}.log", wanted.target.name(), wanted.driver.name()));
    let mut child = Child::spawn(&program, bench.proxy_cpu, &log)?;
    child.wait_until_listening(address)?;
    Ok(Running { address, child })
}

fn floor_command(wanted: &Start, address: SocketAddr) -> Result<Vec<String>, Failure> {
    let own = std::env::current_exe()?.to_string_lossy().into_owned();
    let (listen, upstream) = (address.to_string(), wanted.upstream.to_string());
    let driver = wanted.driver.name().to_owned();
    let words = ["floor", "--listen", &listen, "--upstream", &upstream, "--driver", &driver];
    Ok(std::iter::once(own).chain(words.map(str::to_owned)).collect())
}

fn under_valgrind(program: Vec<String>, profile: Option<&PathBuf>) -> Vec<String> {
    let Some(profile) = profile else { return program };
    let file = format!("--callgrind-out-file={}", profile.display());
    let words = ["valgrind", "--tool=callgrind", "--separate-threads=yes", "--quiet", &file];
    words.map(str::to_owned).into_iter().chain(program).collect()
}

/// A loopback address whose port nobody holds just now.
///
/// # Errors
/// The kernel's.
pub fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// The same, and not this one, on which nobody listens yet.
///
/// # Errors
/// The kernel's.
pub fn free_beside(address: SocketAddr) -> Result<SocketAddr, Failure> {
    loop {
        let found = free_address()?;
        if found != address {
            return Ok(found);
        }
    }
}
