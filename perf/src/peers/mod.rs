//! The proxies that are compared: how each is installed, found, configured and started.
//!
//! Each has a file of its own with the configuration its own documentation suggests for streamed answers:
//! access logs off, connections kept on both sides, a worker for each CPU it is given, buffers that hold the
//! largest body, health checks of the backends, retries on another backend where it has them.

mod envoy;
mod floor;
mod haproxy;
mod litellm;
mod nginx;
mod running;
mod sluice;
mod smg;

pub use running::{Running, post};

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::Failure;

/// The key that clients present; all but one peer ignore it.
pub const API_KEY: &str = "sk-sluice-perf";
/// The model that all servers serve.
pub const MODEL: &str = "mock-model";
/// The peer that is no proxy: load straight to the server.
pub const DIRECT: &str = "direct";
/// The relay that ratios are of.
pub const FLOOR: &str = "floor";
/// The relay that the ratios of Sluice on epoll are of.
pub const FLOOR_EPOLL: &str = "floor-epoll";

/// Where programs are looked for.
#[derive(Clone, Debug)]
pub struct Places {
    /// The gateway's program.
    pub sluice: PathBuf,
    /// A Python environment for the peers that come from PyPI.
    pub venv: PathBuf,
}

/// One proxy.
#[derive(Clone, Copy)]
pub struct Peer {
    pub name: &'static str,
    /// Installs it, in one line; `{venv}` is the Python environment.
    pub install: &'static str,
    pub find: fn(&Places) -> Option<PathBuf>,
    pub version: Version,
    pub plan: fn(&Wanted<'_>) -> Result<Plan, Failure>,
    /// Whether it stands before several servers; a relay of bytes does not.
    pub balances: bool,
}

/// Where a peer's version stands.
#[derive(Clone, Copy)]
pub enum Version {
    /// The program prints it when it is given these arguments.
    Says(&'static [&'static str]),
    /// It is this Python package's.
    Package(&'static str),
    None,
}

/// What a peer is configured for.
pub struct Wanted<'a> {
    pub program: &'a Path,
    pub listen: SocketAddr,
    /// The servers.
    pub upstreams: &'a [SocketAddr],
    /// Where its files go; its own.
    pub dir: &'a Path,
    /// CPUs it runs on, so many workers it has.
    pub cpus: usize,
}

/// How it is started.
#[derive(Default)]
pub struct Plan {
    /// The program and its arguments.
    pub command: Vec<String>,
    pub environment: Vec<(&'static str, String)>,
    /// What its configuration says, files and arguments, for the record.
    pub config: String,
    /// The signal by which it reads its configuration again.
    pub reload: Option<Signal>,
}

/// All of them, in the order of tables.
pub const ALL: [Peer; 12] = [
    floor::PEER,
    floor::EPOLL,
    floor::MULTISHOT,
    sluice::URING,
    sluice::EPOLL,
    nginx::PEER,
    haproxy::PEER,
    envoy::PEER,
    smg::SGLANG,
    smg::VLLM,
    litellm::PEER,
    DIRECTLY,
];

/// No proxy at all.
const DIRECTLY: Peer = Peer {
    name: DIRECT,
    install: "",
    find: |_| Some(PathBuf::new()),
    version: Version::None,
    plan: |_| Ok(Plan::default()),
    balances: false,
};

/// The peer of that name.
///
/// # Errors
/// There is none.
pub fn named(name: &str) -> Result<Peer, Failure> {
    let known = || ALL.map(|peer| peer.name).join(", ");
    let found = ALL.into_iter().find(|peer| peer.name == name);
    found.ok_or_else(|| format!("no peer is called {name}; there are {}", known()).into())
}

impl Peer {
    /// The line that installs it here.
    pub fn install_line(&self, places: &Places) -> String {
        self.install.replace("{venv}", &places.venv.display().to_string())
    }

    /// Whether it is a further floor, for a closer look only.
    pub fn is_extra(&self) -> bool {
        self.name.starts_with(FLOOR) && self.name != FLOOR
    }

    /// Its version, in a line.
    pub fn version_of(&self, program: &Path, places: &Places) -> String {
        let found = match self.version {
            Version::Says(arguments) => printed(program, arguments),
            Version::Package(name) => packaged(name, places),
            Version::None => Some(String::new()),
        };
        found.unwrap_or_else(|| "unknown".into())
    }
}

fn printed(program: &Path, arguments: &[&str]) -> Option<String> {
    let out = Command::new(program).args(arguments).output().ok()?;
    // nginx says it on standard error.
    let said = [out.stdout, out.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    let line = said.iter().flat_map(|said| said.lines()).find(|line| !line.trim().is_empty())?;
    Some(line.trim().to_owned())
}

/// Installed packages have a folder `NAME-VERSION.dist-info`.
fn packaged(name: &str, places: &Places) -> Option<String> {
    let pythons = std::fs::read_dir(places.venv.join("lib")).ok()?.flatten();
    let packages = pythons.filter_map(|it| std::fs::read_dir(it.path().join("site-packages")).ok());
    packages.flatten().flatten().find_map(|entry| {
        let file = entry.file_name().into_string().ok()?;
        let version = file.strip_prefix(name)?.strip_prefix('-')?.strip_suffix(".dist-info")?;
        Some(version.to_owned())
    })
}

/// A program of the system or of the Python environment.
fn on_path(name: &str, places: &Places) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(places.venv.join("bin")).chain(std::env::split_paths(&path));
    dirs.chain([PathBuf::from("/usr/sbin")]).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// This program's own file.
fn own(_: &Places) -> Option<PathBuf> {
    std::env::current_exe().ok()
}

/// Writes a configuration file into the peer's directory.
fn written(dir: &Path, name: &str, text: &str) -> Result<String, Failure> {
    let file = dir.join(name);
    std::fs::write(&file, text)?;
    Ok(file.display().to_string())
}

/// A program with its arguments.
fn command(program: &Path, arguments: &[&str]) -> Vec<String> {
    let program = program.display().to_string();
    std::iter::once(program).chain(arguments.iter().map(|word| (*word).to_owned())).collect()
}

/// The configuration of a peer that has arguments only.
fn said(command: &[String]) -> String {
    command[1..].join(" ")
}

/// The line that makes the Python environment and installs `$packages` there.
macro_rules! pip {
    ($packages:literal) => {
        concat!("python3 -m venv {venv} && {venv}/bin/pip install ", $packages)
    };
}
use pip;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_known() -> Result<(), Failure> {
        for peer in ALL {
            assert_eq!(named(peer.name)?.name, peer.name);
            assert_eq!(ALL.iter().filter(|other| other.name == peer.name).count(), 1);
        }
        assert!(named("apache").is_err());
        Ok(())
    }

    #[test]
    fn every_configuration_names_every_server() -> Result<(), Failure> {
        let dir = std::env::temp_dir().join(format!("sluice-perf-peers-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let upstreams = ["127.0.0.1:4001".parse()?, "127.0.0.1:4002".parse()?];
        for peer in ALL.iter().filter(|peer| peer.balances) {
            let wanted = Wanted {
                program: Path::new("/bin/true"),
                listen: "127.0.0.1:4000".parse()?,
                upstreams: &upstreams,
                dir: &dir,
                cpus: 1,
            };
            let config = (peer.plan)(&wanted)?.config;
            for port in ["4000", "4001", "4002"] {
                assert!(config.contains(port), "{} does not name {port}", peer.name);
            }
        }
        std::fs::remove_dir_all(&dir)?;
        Ok(())
    }
}
