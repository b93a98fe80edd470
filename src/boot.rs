//! From a plan to a running process: locks, sockets, driver, shards, control.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use crate::config::Errors;
use crate::config::plan::{Plan, Shards};
use crate::control::{Config, Control, Origin, Pace};
pub use crate::control::{Ground, Hangup};
use crate::route::views::{Bound, Views};
use crate::runtime::bell::Bell;
use crate::runtime::driver::{self, Choice};
use crate::runtime::{host, listener};
use crate::shard::accept::Lane;
use crate::shard::link::{self, ShardLink};
use crate::shard::room::Descriptors;
use crate::shard::run::{self, Spec};
use crate::telemetry::{Registry, say};

/// Why the gateway did not start.
#[derive(Debug)]
pub enum BootError {
    /// The configuration file is not usable; every reason with its place.
    Config(Errors),
    /// Another process holds the address.
    Taken(SocketAddr),
    /// The kernel refused something, in the words of what was tried.
    System { what: String, error: io::Error },
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootError::Config(errors) => write!(f, "{errors}"),
            BootError::Taken(address) => write!(
                f,
                "{address} is taken: another gateway or server listens there. Stop it, or choose \
                 another server.listen."
            ),
            BootError::System { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for BootError {}

fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> BootError {
    let what = what.into();
    move |error| BootError::System { what, error }
}

/// Loads a file and serves it until told to stop; the exit status.
///
/// # Errors
/// Whatever keeps it from starting.
pub fn serve_file(path: &Path) -> Result<u8, BootError> {
    let ground = lay_ground(Hangup::Reload)?;
    let (plan, origin) = Origin::load(path).map_err(BootError::Config)?;
    Gateway::start(plan, Some(origin))?.run(ground)
}

/// Catches signals from here on: to be done before anything that takes its time.
///
/// # Errors
/// The kernel's.
pub fn lay_ground(hangup: Hangup) -> Result<Ground, BootError> {
    Ground::lay(hangup).map_err(system("signals"))
}

/// A gateway whose shards run and whose control plane is about to.
pub struct Gateway {
    /// Where clients connect.
    pub address: SocketAddr,
    control: Control,
    shards: Vec<std::thread::JoinHandle<()>>,
    _claim: OwnedFd,
}

impl Gateway {
    /// Takes the port, chooses the driver, starts the shards.
    ///
    /// # Errors
    /// The port is taken, or the kernel refuses what the plan insists on.
    pub fn start(plan: Plan, origin: Option<Origin>) -> Result<Self, BootError> {
        host::forbid_core_dumps();
        host::forbid_huge_pages();
        let descriptors = host::raise_descriptor_limit();
        let cpus = host::usable_cpus();
        let count = match plan.runtime.shards {
            Shards::Auto => cpus.len(),
            Shards::Count(count) => usize::from(count),
        };
        let (claim, listeners) = listen(plan.server.listen, count)?;
        let address = listener::address(&listeners[0]).map_err(system("listener"))?;
        let choice = driver::choose(plan.runtime.driver, count, plan.runtime.ring_entries)
            .map_err(system("driver"))?;
        let descriptors = Descriptors { max: descriptors, shards: count };
        say_start(&plan, &choice, address, descriptors);
        let plan = Arc::new(plan);
        let mut registry = Registry::new(count, plan.log.queue_rows_max);
        let bounds = link::bind(&mut registry, &plan, &Arc::new(Views::unprobed(&plan)));
        let bells = bells(count).map_err(system("doorbell"))?;
        let links: Vec<ShardLink> = bells.iter().map(link_of).collect();
        let lanes: Vec<Lane> = bells.iter().map(|bell| Lane::new(bell.clone(), count)).collect();
        let precise = lanes.iter().map(|lane| lane.precise.clone()).collect();
        let pace = Pace::default();
        let config = Config { origin, plan: plan.clone(), registry, links, precise, pace };
        let links = config.links.clone();
        let admin = plan.admin.as_ref().map_or(String::new(), |admin| admin.listen.to_string());
        let refused = system(format!("cannot listen on {admin} (admin.listen)"));
        let control = Control::new(config).map_err(refused)?;
        let bank = (count > 1).then(|| control.bank_bell());
        let pinned = plan.runtime.pin.then_some(&cpus[..]);
        let listeners = listeners.into_iter().zip(bounds).collect();
        let shards = spawn(listeners, &links, lanes, descriptors, &choice, pinned, bank)?;
        Ok(Self { address, control, shards, _claim: claim })
    }

    /// Where the admin listener is.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.control.admin_address()
    }

    /// Runs the control plane on this thread until the process should end; the exit status.
    ///
    /// # Errors
    /// The kernel's, before anything has begun.
    pub fn run(self, ground: Ground) -> Result<u8, BootError> {
        let exit = self.control.run(ground).map_err(system("control plane"))?;
        for shard in self.shards.into_iter().filter(std::thread::JoinHandle::is_finished) {
            let _ = shard.join();
        }
        say::flush(std::time::Duration::from_secs(1));
        Ok(exit.code())
    }
}

fn listen(address: SocketAddr, count: usize) -> Result<(OwnedFd, Vec<OwnedFd>), BootError> {
    let refused = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => BootError::Taken(address),
        _ => BootError::System { what: format!("cannot listen on {address}"), error },
    };
    let listeners = listener::bind(address, count).map_err(refused)?;
    let bound = listener::address(&listeners[0]).map_err(refused)?;
    Ok((listener::claim(bound).map_err(refused)?, listeners))
}

fn say_start(plan: &Plan, choice: &Choice, address: SocketAddr, descriptors: Descriptors) {
    let (driver, why) = (choice.kind.name(), &choice.why);
    say::info(
        "listening",
        &[
            ("address", &address),
            ("shards", &descriptors.shards),
            ("driver", &driver),
            ("ring_entries", &choice.entries),
            ("why", why),
            ("descriptors_max", &descriptors.max),
            ("plan", &plan.generation),
        ],
    );
    let (wanted, fit) = (plan.limits.connections_per_shard_max, descriptors.room(plan).clients);
    if fit < wanted {
        say::info(
            "fewer client connections fit into the limit of open files (ulimit -n)",
            &[("connections_per_shard_max", &wanted), ("in_force", &fit)],
        );
    }
}

fn bells(count: usize) -> io::Result<Vec<Bell>> {
    (0..count).map(|_| Bell::new()).collect()
}

fn link_of(bell: &Bell) -> ShardLink {
    let bell = bell.clone();
    ShardLink::new(Arc::new(move || bell.ring()))
}

fn spawn(
    listeners: Vec<(OwnedFd, Arc<Bound>)>,
    links: &[ShardLink],
    lanes: Vec<Lane>,
    descriptors: Descriptors,
    choice: &Choice,
    cpus: Option<&[core_affinity::CoreId]>,
    bank: Option<link::Bell>,
) -> Result<Vec<std::thread::JoinHandle<()>>, BootError> {
    let specs = listeners.into_iter().enumerate().map(|(index, (listener, bound))| Spec {
        index,
        cpu: cpus.map(|cpus| cpus[index % cpus.len()]),
        listener,
        commands: links[index].queue.clone(),
        bell: lanes[index].bell.clone(),
        lanes: lanes.clone(),
        bound,
        choice: choice.clone(),
        descriptors,
        bank: bank.clone(),
    });
    specs.map(|spec| run::spawn(spec).map_err(system("shard thread"))).collect()
}
